"""The measuring rules: what Snakemake makes of a grid, here and for SLURM, and two runs at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lostlib import tables

ROOT = Path(__file__).resolve().parents[2]
GAUSSIAN = "sap:keys=visual,weights=gaussian"


def command(grid: Path, out: Path, *options: str) -> list[str]:
    given = ["--config", f"grid={grid}", f"results={out}"]
    return [sys.executable, "-m", "snakemake", "measure", "--cores", "1", *options, *given]


def write_grid(folder: Path, model: str, **changes: object) -> Path:
    block = {"experiment": "answers", "models": [model], "benchmarks": ["mini-pope"], "n": 12} | changes
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump([block]))
    return path


def dry_run(*words: str) -> str:
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def counts(told: str) -> dict[str, int]:
    return {rule: int(count) for rule, count in re.findall(r"^(table|share|measure) +(\d+)$", told, re.MULTILINE)}


@pytest.mark.slow
def test_one_job_a_share_and_one_that_gathers(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, "mini-llava-1.5", interventions=["none", GAUSSIAN], seeds=2, shares=3)
    told = dry_run(*command(grid, tmp_path / "out"))
    assert counts(told) == {"table": 3, "share": 9, "measure": 1}
    assert "answers of mini-llava-1.5 on mini-pope, sap:keys=visual,weights=gaussian, seed 1, 12 items" in told


def test_a_mistake_is_told(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, "mini-lava-1.5")
    done = subprocess.run([*command(grid, tmp_path), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert "no model 'mini-lava-1.5', here or on the hub; did you mean 'mini-llava-1.5'?" in told
    assert "grid.py" not in told, "no traceback into our own code"


@pytest.mark.slow
@pytest.mark.skipif(
    not find_spec("snakemake_executor_plugin_slurm"),
    reason="the extra `slurm` is not installed: pip install -e .[slurm]",
)
def test_the_profile_for_slurm_resolves(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, "llava-hf/llava-1.5-7b-hf", benchmarks=["pope"], device="cuda", shares=2)
    told = dry_run(*command(grid, tmp_path / "out", "--profile", "profiles/slurm"))
    assert counts(told) == {"table": 1, "share": 2, "measure": 1}


@pytest.mark.slow
def test_two_runs_at_once_leave_the_tables_of_one(tiny_folder: Path, tmp_path: Path) -> None:
    """Both have the same shares to measure, at the same time, into one folder; a third finds nothing to do."""
    grid = write_grid(tmp_path, str(tiny_folder), interventions=[GAUSSIAN], shares=2, batch_size=1)
    workplace = tmp_path / "project"  # Snakemake's own records are in the folder where it runs
    workplace.mkdir()
    for name in ("Snakefile", "measure.smk", "tools", "lostlib", "data", "notebooks", "book"):
        (workplace / name).symlink_to(ROOT / name)
    here = {"cwd": workplace, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    runs = [
        subprocess.Popen(
            command(grid, tmp_path / "both", "--nolock"),  # as `make measure` runs it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **here,
        )
        for _ in range(2)
    ]
    for run in runs:
        told = run.communicate(timeout=800)[0]
        assert run.returncode == 0, told
    words = [
        "-m",
        "lostlib.cli",
        "run",
        "answers",
        "--model",
        str(tiny_folder),
        "--n",
        "12",
        "--intervention",
        GAUSSIAN,
    ]
    words += ["--set", "batch_size=1", "--out", str(tmp_path / "alone")]
    subprocess.run([sys.executable, *words], check=True, capture_output=True, **here)
    (both,), (alone,) = (list(tables.shipped_tables(tmp_path / name)) for name in ("both", "alone"))
    assert both.relative_to(tmp_path / "both") == alone.relative_to(tmp_path / "alone")
    pd.testing.assert_frame_equal(tables.read(both).frame, tables.read(alone).frame)
    again = subprocess.run(command(grid, tmp_path / "both", "-n"), check=True, capture_output=True, **here)
    assert "lacks 0 of the tables" in again.stdout + again.stderr
