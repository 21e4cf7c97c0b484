"""Launching elsewhere: the set-up cell, the torch-free half that Binder runs, the workflows. Nothing here is opened."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from run_chapter import SETUP, read_source  # noqa: E402  tools is no package

CHAPTERS = sorted((ROOT / "notebooks").glob("*.py"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "safetensors", "datasets"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, "tools")
import matplotlib
matplotlib.use("agg")
from run_chapter import Path, read_source
for chapter in sys.argv[1:]:
    names = {"__name__": "__main__"}
    for cell in read_source(Path(chapter)).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, chapter, "exec"), names)
        if "parameters" in cell.metadata.get("tags", ()):
            names["n_items"] = 1 if Path(chapter).stem != "sinks" else names["n_items"]
    print("done", chapter)
"""


@pytest.mark.slow
def test_chapters_run_from_shipped_tables_without_torch_and_on_one_item() -> None:
    """As they are, they measure nothing either, say the committed notebooks; one chooses tables by what it finds."""
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, CHAPTERS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-3000:]
    assert done.stdout.count("done ") == len(CHAPTERS)
    assert "measured now:" not in done.stdout


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_the_first_code_cell_sets_up(chapter: Path) -> None:
    first = next(cell for cell in read_source(chapter).cells if cell.cell_type == "code")
    assert first.source == SETUP


def test_the_set_up_cell_does_nothing_here_and_leaves_no_parameter(tmp_path: Path) -> None:
    names: dict = {}
    exec(SETUP, names)
    assert {name for name in names if name[0] != "_"} == {"importlib", "subprocess", "sys"}


def test_the_set_up_cell_fetches_the_project_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(sys, "path", [])
    exec(SETUP, {})
    clone, install = commands
    assert clone[-2:] == [CONFIG["repository"]["url"], sys.path[0]]
    assert install[-1] == f"{sys.path[0]}[measure]"
    assert "measure" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_repository_has_one_address() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == CONFIG["repository"]["url"]
    assert re.findall(r"git clone (\S+)", (ROOT / "README.md").read_text()) == [CONFIG["repository"]["url"]]


@pytest.mark.parametrize("page", ["README.md", "book/teaching.md", "lostlib/cli.py"])
def test_a_class_installs_extras_that_there_are(page: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r'pip install -e "\.\[(.*?)\]"', (ROOT / page).read_text())
    assert {"measure,class"} <= set(named)
    assert {extra for names in named for extra in names.split(",")} <= extras.keys()
    assert "jupyterlab" in extras["class"][0]


def test_binder_installs_the_report_half() -> None:
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    asked = [line for line in lines if line[0] != "#"]
    assert asked == ["-c ../requirements.lock", "-e .", "papermill"]  # the package with no extra: no torch
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert not {"torch", "transformers"} & {re.split(r"[<>=\[]", need)[0] for need in needs}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_names_what_exists(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert {"name", True, "jobs"} <= workflow.keys()  # YAML 1.1 reads a bare `on` as true
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for name, job in workflow["jobs"].items():
        assert {"runs-on", "steps"} <= job.keys(), name
        assert {job.get("needs", name)} <= workflow["jobs"].keys()
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            words = step.get("run", "").split()
            asked = [words[k + 1] for k, word in enumerate(words[:-1]) if word == "make"]
            assert set(asked) <= targets
            files = [w for w in words if w.startswith((".ci/", "tools/", "tests/"))]
            files += [step.get("with", {}).get("cache-dependency-path", "Makefile")]
            assert all((ROOT / file).exists() for file in files), files


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_was_looked_at_and_may_write_nothing(path: Path) -> None:
    """Actions by commit, the version beside it for people; packages of other tools by version; rights per job."""
    text = path.read_text()
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", use) for use in uses), uses
    assert all(re.fullmatch(r"[\w-]+@\d+\.\d+\.\d+", tool) for tool in re.findall(r"npx --yes (\S+)", text))
    assert "npx" not in text.replace("npx --yes", "")


def test_the_workflows_do_what_is_promised() -> None:
    text = "\n".join(path.read_text() for path in WORKFLOWS)
    assert all(part in text for part in (".ci/run", "make publish", "make reproduce", "deploy-pages", "linkinator"))
