"""The chapters as a researcher runs them: another family in hub format, another benchmark in the hub's layout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import datasets
import nbformat
import pytest
import tiny

ROOT = Path(__file__).resolve().parents[2]


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
@pytest.mark.parametrize(
    ("chapter", "family", "words"),
    [
        ("residual-stream", "llava_next", ("benchmark", "pope")),
        ("rq2-innovation", "qwen2_5_vl", ("benchmark", "pope:prompt=vlmevalkit")),
        ("rq3-reconfiguration", "llava_next", ("benchmark", "pope", "benchmarks", "pope:prompt=lmms", "seeds", "2")),
    ],
)
def test_a_chapter_runs_on_another_family_and_benchmark(
    chapter: str, family: str, words: tuple[str, ...], copies: Path, tmp_path: Path
) -> None:
    model = tiny.make(family, tmp_path / f"tiny-{family}")
    given = ("model", str(model), "n_items", "5", *words)
    pairs = [word for name, value in zip(given[::2], given[1::2], strict=True) for word in ("-p", name, value)]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", f"notebooks/{chapter}.ipynb", str(tmp_path / "out.ipynb"), *pairs],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "LOST_DATA": str(copies), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    made = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    assert "on pope" in "".join(output.get("text", "") for output in outputs)
