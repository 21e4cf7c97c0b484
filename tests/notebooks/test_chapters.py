"""Chapters: their code blocks run, no decimal is typed, other parameters work and wrong ones are refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from lostlib import report
from lostlib.checkpoints import PACKAGES, ModelChoice

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from run_chapter import read_source  # noqa: E402  tools is no package

CHAPTERS = sorted((ROOT / "notebooks").glob("*.py"))
PAGES = sorted((ROOT / "book").glob("*.md"))
IDS = [path.stem for path in CHAPTERS]


def prose(path: Path) -> str:
    """Text that people read: no code, roles, formulas, links or headers."""
    text = path.read_text()
    if path.suffix == ".py":
        text = "\n\n".join(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown")
    for noise in (r"```.*?```", r"\$\$.*?\$\$", r"\{[\w:.-]+\}`[^`]*`", r"`[^`]*`", r"\$[^$]*\$", r"(?:LLaVA|Qwen)\S+"):
        text = re.sub(noise, "", text, flags=re.DOTALL)
    return text


@pytest.mark.parametrize("path", [*CHAPTERS, *PAGES], ids=lambda path: path.stem)
def test_no_decimal_is_typed_into_prose(path: Path) -> None:
    assert re.findall(r"\S*\d\.\d\S*", prose(path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS, ids=IDS)
def test_code_blocks_in_the_prose_run(path: Path) -> None:
    cells = [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown"]
    blocks = re.findall(r"```python\n(.*?)```", "\n".join(cells), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        if lacking := [name for name in PACKAGES if name in block and not ModelChoice.parse(name).folder]:
            pytest.skip(f"{lacking[0]} was not fetched")
        exec(compile(block, path.name, "exec"), {})


def papermill(chapter: str, out: Path, *words: str) -> subprocess.CompletedProcess:
    """The command a reader types."""
    command = [sys.executable, "-m", "papermill", f"notebooks/{chapter}.ipynb", str(out), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)


OWN = {"language_model": ("-p", "benchmark", "mini-pope", "-p", "sweeps", "False")}  # texts are not in a mini's world


@pytest.mark.slow
def test_a_committed_notebook_runs_in_its_own_folder(tmp_path: Path) -> None:
    """As `jupyter execute` and `jupyter nbconvert --execute` do it, which are two fronts of nbclient."""
    command = [Path(sys.executable).with_name("jupyter"), "execute", "notebooks/residual-stream.ipynb"]
    done = subprocess.run(
        [*command, f"--output={tmp_path / 'out'}"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert all(cell.execution_count for cell in made.cells if cell.cell_type == "code" and cell.source)


@pytest.mark.slow
@pytest.mark.parametrize("chapter", IDS)
def test_a_chapter_runs_from_the_shell_with_other_parameters(chapter: str, tmp_path: Path) -> None:
    """Also with few items; what they say nothing about is a dash."""
    words = ("-p", "model", "mini-llava-1.5", "-p", "n_items", "3", *OWN.get(chapter, ()))
    done = papermill(chapter, tmp_path / "out.ipynb", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    made = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2


@pytest.mark.slow
def test_wrong_parameters_stop_a_run_from_the_shell(tmp_path: Path) -> None:
    done = papermill("rq2-innovation", tmp_path / "out.ipynb", "-p", "n_itmes", "50")
    assert done.returncode != 0
    assert "did you mean 'n_items'" in done.stderr


@pytest.mark.parametrize("path", CHAPTERS, ids=IDS)
def test_wrong_parameters_stop_a_chapter(path: Path, run_cells) -> None:
    for given, message in (
        ({"n_itmes": 50}, "n_items"),
        ({"n_items": 0}, "at least 1"),
        ({"device": "gpu"}, r"auto\|cpu"),
    ):
        with pytest.raises(report.ParameterError, match=message):
            list(run_cells(read_source(path), **given))


@pytest.mark.parametrize(
    ("given", "message"), [({"benchmark": "minipope"}, "mini-pope"), ({"model": "mini-lava"}, "mini-llava-1.5")]
)
def test_names_of_nothing_stop_a_chapter(given: dict, message: str, run_cells) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{message}'"):
        list(run_cells(read_source(ROOT / "notebooks/rq2-innovation.py"), **given))


@pytest.mark.slow
def test_regimes_of_another_tower_on_all_of_mathvista(run_cells) -> None:
    """Names with digits and dashes, sums and bars among the questions, and no question but *how many*."""
    source = read_source(ROOT / "notebooks/regimes.py")
    other = {"benchmarks": "mini-mathvista", "towers": "mini-llava-1.5-xs-s1", "n_items": 20, "seeds": 1}
    list(run_cells(source, **other))
    with pytest.raises(ValueError, match="probes know the answers of mini-pope"):
        list(run_cells(source, benchmarks="mini-vmcbench"))


@pytest.mark.slow
def test_a_chapter_that_chooses_its_tables_runs_on_one_item(run_cells) -> None:
    """The others do so in `test_launching.py`, without torch."""
    list(run_cells(read_source(ROOT / "notebooks/sinks.py"), n_items=1))


@pytest.mark.slow
def test_a_new_seed_is_measured(run_cells, capsys) -> None:
    """Nothing shipped has this key, so the chapter must load the model and say so."""
    list(run_cells(read_source(ROOT / "notebooks/residual-stream.py"), n_items=6, seed=7))
    assert "measured now: residual" in capsys.readouterr().out


@pytest.mark.parametrize("path", CHAPTERS, ids=IDS)
def test_a_chapter_explains_a_word_in_its_margin(path: Path) -> None:
    assert re.findall(r"^# :::\{margin\}\n# \*\*[^*]+\*\*", path.read_text(), flags=re.MULTILINE)
