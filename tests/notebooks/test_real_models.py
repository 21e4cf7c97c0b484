"""The chapters as a researcher runs them: another family in hub format, another benchmark in the hub's layout."""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import pytest
import tiny

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from run_chapter import read_source  # noqa: E402  tools is no package


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of local copies with all of POPE's 9,000 rows, about pictures of noise."""
    folder = tmp_path_factory.mktemp("copies")
    pictures = [tiny.picture(20 + i, 30) for i in range(5)]
    rows = [
        {
            "id": str(i), "question_id": str(i + 1), "question": f"Is there a thing {i % 6} in the image?",
            "answer": ("yes", "no")[i % 2], "image_source": f"COCO_val2014_{i // 6:012d}", "category": category,
            "image": pictures[i % 5],
        }
        for category in ("adversarial", "popular", "random") for i in range(3000)
    ]  # fmt: skip
    (folder / "pope" / "data").mkdir(parents=True)
    made = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    made.to_parquet(folder / "pope" / "data" / "test-00000-of-00001.parquet")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize(
    ("chapter", "family", "given"),
    [
        ("residual-stream", "llava_next", {"benchmark": "pope"}),
        ("rq2-innovation", "qwen2_5_vl", {"benchmark": "pope:prompt=vlmevalkit"}),
        ("rq3-reconfiguration", "llava_next", {"benchmark": "pope", "benchmarks": "pope:prompt=lmms", "seeds": 2}),
    ],
)
def test_a_chapter_runs_on_another_family_and_benchmark(
    chapter: str, family: str, given: dict, copies: Path, tmp_path: Path, monkeypatch, capsys, run_cells
) -> None:
    monkeypatch.setenv("LOST_DATA", str(copies))
    model = tiny.make(family, tmp_path / f"tiny-{family}")
    list(run_cells(read_source(ROOT / f"notebooks/{chapter}.py"), model=str(model), n_items=5, **given))
    assert "on pope" in capsys.readouterr().out
