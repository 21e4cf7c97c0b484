"""One run at a time makes the book, what a killed run leaves ends, and parameters arrive as they were written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = """\
# %% tags=["parameters"]
who = "nobody"
wait = 0

# %%
import time
from pathlib import Path

Path(f"_build/{who.split()[0]}").touch()
time.sleep(wait)
print(who)
"""
HERE = {key: value for key, value in os.environ.items() if key not in ("LOST_RUN", "MAKEFLAGS", "PARAMETERS")}


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """This project with one small chapter of its own."""
    for name in ("Snakefile", "measure.smk", "Makefile", "tools", "lostlib", "data", "book", "_config.yml", "_toc.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/x.py").write_text(CHAPTER)
    return tmp_path


def start(workplace: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "tools/dag.py", "chapters", "--cores", "1", *words]
    environment = HERE | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=workplace, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True)


def finish(run: subprocess.Popen) -> str:
    told = run.communicate(timeout=300)[0]
    assert run.returncode == 0, told
    return told


def product(workplace: Path) -> tuple[str, dict]:
    """(the notebook's text, the parameters of its sidecar)."""
    made = workplace / "_build/run/notebooks/x.ipynb"
    return made.read_text(), json.loads(made.with_suffix(".json").read_text())["parameters"]


@pytest.mark.slow
def test_what_a_killed_run_has_started_ends_with_it(workplace: Path) -> None:
    """Only Snakemake is killed. Its chapter, left to itself, would finish after the next run and take its place."""
    killed = start(workplace, "--config", "who=orphan wait=25")
    until = time.monotonic() + 120
    while not (workplace / "_build/orphan").exists():
        assert time.monotonic() < until
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.1)
    began = time.monotonic()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    finish(start(workplace))
    notebook, parameters = product(workplace)
    assert parameters == {"who": "nobody", "wait": 0}
    time.sleep(max(0, 30 - (time.monotonic() - began)))
    assert product(workplace) == (notebook, parameters)
    assert "orphan" not in notebook
    assert not list(workplace.rglob("*.partial"))


def test_a_job_without_its_run_does_nothing(workplace: Path) -> None:
    """As one that a killed run has started, and that comes to itself when the next run is going."""
    (workplace / "_build").mkdir()
    command = [sys.executable, "tools/run_chapter.py", "notebooks/x.py", "_build/x.ipynb"]
    late = subprocess.run(command, cwd=workplace, env=HERE | {"PYTHONPATH": str(ROOT), "LOST_RUN": "1"}, **TOLD)
    assert late.returncode == 1
    assert "has ended" in late.stderr
    assert not (workplace / "_build/x.ipynb").exists()


TOLD = {"capture_output": True, "text": True, "check": False}
VALUES = ["a' || touch x; echo 'b", "o'brien", 'two "words" $HOME `touch x`', "a & touch x"]


@pytest.mark.slow
def test_a_parameter_is_a_value_whatever_is_in_it(workplace: Path) -> None:
    value = " ".join(VALUES)
    finish(start(workplace, "--config", f"who={value}", "wait=0"))
    assert product(workplace)[1] == {"who": value, "wait": 0}
    assert not (workplace / "x").exists()


@pytest.mark.parametrize("value", VALUES)
def test_make_hands_on_what_it_was_given(workplace: Path, value: str) -> None:
    """Two parameters in one text, as the README writes them."""
    given = f"who={value} wait=3".replace("$", "$$")  # make's own sign, written twice as in any makefile
    (workplace / ".venv/bin").mkdir(parents=True)
    python = workplace / ".venv/bin/python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > told\n')
    python.chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml"):
        (workplace / name).touch()
    (workplace / ".venv/.ready").touch()
    done = subprocess.run(["make", "book", f"PARAMETERS={given}"], cwd=workplace, env=HERE, **TOLD)
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(ROOT / "tools"))
    import dag

    arguments = (workplace / "told").read_text().splitlines()
    assert arguments[:4] == ["tools/dag.py", "book", "--cores", "2"]
    assert [word for a in arguments[4:] for word in dag.words(a)] == ["--config", f"who={value}", "wait=3"]
    assert not (workplace / "x").exists()
