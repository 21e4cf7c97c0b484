"""Exercises: every chapter has them, the editions hold what they should and nothing of a solution, and both run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from typer.testing import CliRunner

from lostlib.cli import app
from lostlib.report.myst import plain
from lostlib.teach.editions import write

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = {"readings"}  # a page to look at, without exercises
CHAPTERS = [path for path in sorted((ROOT / "notebooks").glob("*.py")) if path.stem not in WITHOUT]
N_ITEMS = 50
NAMES = [path.stem for path in CHAPTERS]
PAPERS = (ROOT / "book" / "references.bib").read_text()
chapters = pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", ()))


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("class")
    list(write(out))
    return out


@chapters
def test_a_chapter_has_at_least_four_whole_exercises(chapter: Path):
    cells = jupytext.read(chapter).cells
    numbers = {i: re.match(r"(?:\([\w-]+\)=\n)?### Exercise (\d+):", cell.source) for i, cell in enumerate(cells)}
    starts = [i for i, found in numbers.items() if found]
    assert len(starts) >= 4
    assert [int(numbers[i][1]) for i in starts] == [*range(1, len(starts) + 1)]
    for start, end in zip(starts, [*starts[1:], len(cells)], strict=True):
        asked = cells[start].source
        assert re.search(r"\*Objective:\* .+ · \*Minutes:\* \d+ · \*Difficulty:\* (easy|medium|hard)", asked), asked
        kinds = [tag for cell in cells[start:end] for tag in ("exercise", "check", "solution") if tag in tags(cell)]
        assert kinds[0] == "exercise"
        assert kinds.count("exercise") == 1
        assert kinds.count("check") == kinds.count("solution") >= 1
        for cell in cells[start:end]:
            if "exercise" in tags(cell):
                assert "..." in cell.source
            if "solution" in tags(cell):
                assert "hide-cell" in tags(cell), "a solution is folded"


@chapters
def test_nothing_of_a_solution_is_in_the_exercises(chapter: Path, editions: Path):
    cells = jupytext.read(chapter).cells
    given = {line.strip() for cell in cells if "solution" not in tags(cell) for line in cell.source.splitlines()}
    secret = {line.strip() for cell in cells if "solution" in tags(cell) for line in cell.source.splitlines()}
    text = (editions / "exercises" / f"{chapter.stem}.ipynb").read_text()
    lines = [line for line in secret - given if len(line) > 3]
    assert len(lines) > 5
    for line in lines:
        assert json.dumps(line, ensure_ascii=False)[1:-1] not in text
    notebook = json.loads(text)
    assert not [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")]
    assert not [cell for cell in notebook["cells"] if "solution" in cell["metadata"].get("tags", ())]
    assert notebook["metadata"].keys() == {"kernelspec"}


@pytest.mark.parametrize("kind", ["exercises", "solutions"])
@pytest.mark.parametrize("name", NAMES)
def test_editions_are_plain_notebooks(name: str, kind: str, editions: Path):
    notebook = nbformat.read(editions / kind / f"{name}.ipynb", 4)
    nbformat.validate(notebook)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = re.sub(r"```.*?```", "", prose, flags=re.DOTALL)
    assert not re.findall(r"\{[\w:]+\}`|^:::|^\([\w-]+\)=$", prose, flags=re.MULTILINE)
    assert not [key for key in re.findall(r"^@\w+\{([\w-]+),", PAPERS, flags=re.MULTILINE) if key in prose]
    assert not re.findall(r"\[[a-z-]+\](?!\()", re.sub(r"`.*?`|\$.*?\$", "", prose)), "a bare label"
    assert not re.findall(r"\]\((?!https?:)", prose), "a link to a page that a class does not have"


def test_papers_and_pages_go_by_their_names():
    said = plain(
        "{cite:t}`roy2007effective`, {cite}`kang2025see`, {ref}`deviations`, {ref}`card <model-card>`, {ref}`x`"
    )
    assert said == "Roy and Vetterli (2007), (Kang et al., 2025), “Open points and deviations”, card, x"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "state"), [("exercises", "not yet"), ("solutions", "passed")])
def test_editions_run(
    name: str, kind: str, state: str, editions: Path, tmp_path: Path, monkeypatch, recwarn, run_cells
):
    """Somewhere else, on few items: each exercise waits, and each solution passes its check."""
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(editions / kind / f"{name}.ipynb", 4)
    said = [value for tagged, value in run_cells(notebook, n_items=N_ITEMS) if tagged & {"check", "solution"}]
    assert said
    assert [one.state for one in said] == [state] * len(said), said
    assert not [one for one in recwarn if not issubclass(one.category, DeprecationWarning)]


def test_the_command_says_what_it_wrote_and_what_to_do_next(tmp_path: Path):
    done = CliRunner().invoke(app, ["students", str(tmp_path / "class")])
    assert done.exit_code == 0, done.output
    for name in NAMES:
        assert f"exercises/{name}.ipynb" in done.output
    assert "jupyter lab" in done.output.splitlines()[-1]
    again = CliRunner().invoke(app, ["students", str(tmp_path / "class")])
    assert again.exit_code == 2
    assert "--replace" in again.output
    assert CliRunner().invoke(app, ["students", str(tmp_path / "class"), "--replace"]).exit_code == 0
    assert not list(tmp_path.rglob("*.partial"))


def test_what_a_teacher_wrote_is_kept(tmp_path: Path):
    mine = tmp_path / "solutions" / f"{NAMES[0]}.ipynb"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert CliRunner().invoke(app, ["students", str(tmp_path)]).exit_code == 2
    assert mine.read_text() == "mine"
    assert not (tmp_path / "exercises").exists()


def test_without_the_chapters_the_command_says_where_they_are(tmp_path: Path):
    done = CliRunner().invoke(app, ["students", str(tmp_path / "out"), "--chapters", str(tmp_path)])
    assert done.exit_code == 2
    assert "clone" in done.output
