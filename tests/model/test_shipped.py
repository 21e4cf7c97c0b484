"""The shipped mini model: small, in hub format, and as good as its card says, on scenes made here and now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lostlib
from lostlib import paths
from lostlib.minimodels import exam
from lostlib.models import shipped

FLOORS = {
    "existence": 0.95, "color": 0.95, "shape": 0.95, "size": 0.95, "location": 0.95, "count": 0.90, "relation": 0.88,
    "known_arithmetic": 0.98, "arithmetic": 0.70,
}  # fmt: skip
SMALLER = FLOORS | {"known_arithmetic": 0.95}


@pytest.mark.parametrize("name", shipped())
def test_the_folder_is_small_and_complete(name: str) -> None:
    folder = paths.MODELS / name
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sum(files.values()) < 6 * 2**20
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "processor_config.json",
        "README.md",
        "exam.json",
    } <= set(files)
    assert not [file for file in files if Path(file).suffix in (".bin", ".pt", ".pkl", ".py")]


@pytest.mark.parametrize(
    ("name", "floors"),
    [
        ("mini-llava-1.5", FLOORS),
        ("mini-llava-1.5-sinks", FLOORS),
        *((f"mini-llava-1.5-xs{end}", SMALLER) for end in ("", "-s1", "-s2")),
    ],
)
def test_the_exam_reaches_the_floors(name: str, floors: dict[str, float]) -> None:
    marks = json.loads((paths.MODELS / name / "exam.json").read_text())
    assert all(marks[kind]["n"] >= 300 for kind in floors)
    assert not {kind: marks[kind] for kind, floor in floors.items() if marks[kind]["value"] < floor}


@pytest.mark.slow
def test_the_exam_can_be_taken_again() -> None:
    """Fresh scenes of another seed: no kind may fall far below what the card says."""
    marks = json.loads((paths.MODELS / "mini-llava-1.5" / "exam.json").read_text())
    model = lostlib.load_model("mini-llava-1.5")
    for kind, estimate in exam.exam(model, n=40, seed=1).items():
        assert estimate.high >= marks[kind]["low"], (kind, estimate, marks[kind])
