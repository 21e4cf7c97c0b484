"""The house: who may import whom, without a circle or a long chain, and half of it without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
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


USED = """
from lostlib import benchmarks, cli, tables, teach
from typer.testing import CliRunner
tables.Key.of("answers", "mini-llava-1.5", "mini-pope", 4, "var:rho=1")
tables.Key.of("sinks", "mini-llava-1.5", "mini-pope", 4, parameters={"tau": "10%"})
benchmarks.load_benchmark("mini-pope", n=1)
assert "--replace" in CliRunner().invoke(cli.app, ["students", "--help"]).output
"""


def test_reporting_and_help_load_no_torch():
    """Whatever a function imports late: the contract's modules, a key, a benchmark and the command's help."""
    (contract,) = (
        one
        for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if one["type"] == "forbidden"
    )
    loaded = f"{set(contract['forbidden_modules'])} & sys.modules.keys()"
    script = f"import sys, {', '.join(contract['source_modules'])}\n{USED}\nassert not (found := {loaded}), found"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
