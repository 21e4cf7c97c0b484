"""The house: who may import whom, that there is no circle, and that no chain of imports is long."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import networkx
import pytest

ROOT = Path(__file__).resolve().parents[2]


def lint(folder: Path) -> subprocess.CompletedProcess:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)


def test_the_contracts_are_kept():
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("metrics.py", "from lostlib import report"),
        ("benchmarks/pope.py", "def late():\n    from lostlib.models import load_model"),
        ("sinks/detection.py", "from lostlib.interventions import Sap"),
        ("claims/rules.py", "import torch"),
        ("text.py", "from lostlib import machine"),
    ],
)
def test_a_forbidden_import_breaks_them(tmp_path, module, line):
    shutil.copytree(ROOT / "lostlib", tmp_path / "lostlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "lostlib" / module).open("a") as source:
        source.write(f"\n{line}\n")
    found = lint(tmp_path)
    assert found.returncode == 1
    assert f"lostlib.{module.removesuffix('.py').replace('/', '.')} ->" in found.stdout


def graph() -> networkx.DiGraph:
    """Who imports whom, also inside functions; the lazy package itself and what only types need are left out."""
    read = grimp.build_graph("lostlib", exclude_type_checking_imports=True, cache_dir=None)
    pairs = [(one, other) for one in read.modules for other in read.find_modules_directly_imported_by(one)]
    return networkx.DiGraph(pair for pair in pairs if pair[1] != "lostlib")


def test_no_modules_import_one_another():
    assert [circle for circle in networkx.strongly_connected_components(graph()) if len(circle) > 1] == []


def test_no_chain_through_the_wings_is_longer_than_eight():
    wings = networkx.DiGraph()
    for one, other in graph().edges:
        pair = [".".join(name.split(".")[:2]) for name in (one, other)]
        if pair[0] != pair[1]:
            wings.add_edge(*pair)
    assert len(networkx.dag_longest_path(wings)) <= 8
