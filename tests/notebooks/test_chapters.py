"""Chapters: their code blocks run, no decimal is typed, other parameters work and wrong ones are refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from lostlib.checkpoints import PACKAGES, ModelChoice

ROOT = Path(__file__).resolve().parents[2]
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
@pytest.mark.parametrize("chapter", IDS)
def test_a_chapter_runs_from_the_shell_with_other_parameters(chapter: str, tmp_path: Path) -> None:
    words = ("-p", "model", "mini-llava-1.5", "-p", "n_items", "50", *OWN.get(chapter, ()))
    done = papermill(chapter, tmp_path / "out.ipynb", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    made = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2


FEW = [*[(path.stem, n) for path in CHAPTERS for n in (1, 3)], ("sinks", 4)]


@pytest.mark.slow
@pytest.mark.parametrize(("chapter", "n"), FEW)
def test_a_chapter_runs_with_as_few_items_as_it_takes(chapter: str, n: int, tmp_path: Path) -> None:
    """From its source. What so few items say nothing about is a dash."""
    words = ["tools/run_chapter.py", f"notebooks/{chapter}.py", str(tmp_path / "out.ipynb"), f'{{"n_items": {n}}}']
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("n_itmes", "50"), "n_items"),
        (("n_items", "0"), "at least 1"),
        (("benchmark", "minipope"), "mini-pope"),
        (("model", "mini-lava"), "mini-llava-1.5"),
        (("device", "gpu"), "auto|cpu"),
    ],
)
def test_wrong_parameters_stop_the_run(words: tuple[str, str], message: str, tmp_path: Path) -> None:
    done = papermill("rq2-innovation", tmp_path / "out.ipynb", "-p", *words)
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.slow
def test_regimes_of_another_tower_on_all_of_mathvista(tmp_path: Path) -> None:
    """Names with digits and dashes, sums and bars among the questions, and no question but *how many*."""
    words = ["benchmarks", "mini-mathvista", "towers", "mini-llava-1.5-xs-s1", "n_items", "20", "seeds", "1"]
    pairs = [word for key, value in zip(words[::2], words[1::2], strict=True) for word in ("-p", key, value)]
    done = papermill("regimes", tmp_path / "out.ipynb", *pairs)
    assert done.returncode == 0, done.stderr[-2000:]
    done = papermill("regimes", tmp_path / "out.ipynb", "-p", "benchmarks", "mini-vmcbench")
    assert "probes know the answers of mini-pope" in done.stderr


def test_a_new_seed_is_measured(tmp_path: Path) -> None:
    """Nothing shipped has this key, so the chapter must load the model and say so."""
    done = papermill("residual-stream", tmp_path / "out.ipynb", "-p", "n_items", "6", "-p", "seed", "7")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "measured now: residual" in (tmp_path / "out.ipynb").read_text()


@pytest.mark.parametrize("path", CHAPTERS, ids=IDS)
def test_a_chapter_explains_a_word_in_its_margin(path: Path) -> None:
    assert re.findall(r"^# :::\{margin\}\n# \*\*[^*]+\*\*", path.read_text(), flags=re.MULTILINE)
