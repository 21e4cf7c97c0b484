"""The grid of measurements: its jobs are the expected ones, what is there makes none, mistakes are found before."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import yaml

from lostlib import paths, tables

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import grid  # noqa: E402  tools is no package

GAUSSIAN = "sap:keys=visual,weights=gaussian"
BLOCK = {
    "experiment": "answers",
    "models": ["mini-llava-1.5"],
    "benchmarks": ["mini-pope", "mini-mathvista"],
    "interventions": ["none", GAUSSIAN],
    "seeds": 2,
    "n": 1000,
}


@pytest.fixture
def written(tmp_path: Path):
    def write(*blocks: dict) -> Path:
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump(list(blocks)))
        return path

    return write


def asked(path: Path, folder: Path) -> list[grid.Job]:
    return grid.missing(grid.jobs(path).values(), folder)


def test_one_job_a_table_and_one_seed_where_nothing_is_random(written, tmp_path) -> None:
    residual = {"experiment": "residual", "models": ["mini-llava-1.5"], "benchmarks": ["mini-pope"], "n": 5, "seeds": 2}
    attention = residual | {"experiment": "attention"}
    found = asked(written(BLOCK, residual, attention), tmp_path)
    answers = [
        ("answers", "mini-llava-1.5", benchmark, intervention, seed, 1000)
        for benchmark in ("mini-pope", "mini-mathvista")
        for intervention, seed in (("none", 0), (GAUSSIAN, 0), (GAUSSIAN, 1))
    ]
    others = [("residual", 0), ("residual", 1), ("attention", 0)]
    expected = answers + [(name, "mini-llava-1.5", "mini-pope", "none", seed, 5) for name, seed in others]
    keys = [job.key for job in found]
    assert [(k.experiment, k.model, k.benchmark, k.intervention, k.seed, k.n) for k in keys] == expected
    assert {k.weights for k in keys} == {paths.weights_hash(paths.MODELS / "mini-llava-1.5")}


def test_a_table_that_is_there_and_serves_makes_no_job(written) -> None:
    shipped = BLOCK | {"benchmarks": ["mini-pope"]}
    assert not asked(written(shipped), paths.RESULTS)
    assert not asked(written(shipped | {"n": 7}), paths.RESULTS)
    assert len(asked(written(shipped | {"n": 1001}), paths.RESULTS)) == 3
    more = asked(written(shipped | {"seeds": 6}), paths.RESULTS)
    assert [(job.key.intervention, job.key.seed) for job in more] == [(GAUSSIAN, 5)]


def test_a_job_is_its_table_and_its_command(written, tmp_path) -> None:
    block = BLOCK | {"experiment": "residual", "interventions": ["none"], "seeds": 1, "parameters": {"rank": "erank"}}
    job = asked(written(block | {"batch_size": 4}), tmp_path)[0]
    assert job.name == "residual/mini-llava-1.5/mini-pope/none.rank=erank.s0"
    assert shlex.split(job.command("some where")) == shlex.split(
        "run residual --model mini-llava-1.5 --benchmark mini-pope --seed 0 --n 1000 --set rank=erank "
        "--device cpu --out 'some where' --keep --set batch_size=4"
    )


def test_what_a_job_needs_grows_with_its_model(written, tmp_path) -> None:
    hub = {"device": "cuda", "interventions": ["none"], "benchmarks": ["pope"]}
    sizes = ["llava-hf/llava-1.5-7b-hf", "Qwen/Qwen2.5-VL-72B-Instruct"]
    blocks = [BLOCK | {"interventions": ["none"], "benchmarks": ["mini-pope"]}, BLOCK | hub | {"models": sizes}]
    mini, small, large = (job.resources for job in asked(written(*blocks), tmp_path))
    assert (mini["gpu"], small["gpu"], large["gpu"]) == (0, 1, 3)
    assert mini["mem_mb"] < 3000 < 14_000 < small["mem_mb"] < 144_000 < large["mem_mb"]
    assert mini["runtime"] < small["runtime"] < large["runtime"]
    (shared,) = asked(written(BLOCK | hub | {"models": sizes[1:], "shares": 4}), tmp_path)
    assert shared.resources["runtime"] < large["runtime"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "answer"}, "did you mean 'answers'"),
        ({"modells": []}, "did you mean 'models'"),
        ({"models": "mini-llava-1.5"}, "models must be a list, got 'mini-llava-1.5'"),
        ({"experiment": "residual", "shares": 2}, "only answers are measured in shares"),
        ({"models": ["mini-lava-1.5"]}, "did you mean 'mini-llava-1.5'"),
        ({"benchmarks": ["mini-pop"]}, "did you mean 'mini-pope'"),
        ({"interventions": ["sap:weights=gausian"]}, "did you mean 'gaussian'"),
        ({"parameters": {"max_new_token": 3}}, "answers has no parameter"),
        ({"benchmarks": ["mini-pope", "mini-pope"]}, "asks twice for answers of mini-llava-1.5 on mini-pope"),
    ],
)
def test_mistakes_in_a_grid(change: dict, message: str, written, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        asked(written(BLOCK | change), tmp_path)


def test_a_grid_is_a_list_of_whole_blocks(written, tmp_path) -> None:
    with pytest.raises(ValueError, match="a block lacks models, n"):
        asked(written({"experiment": "answers", "benchmarks": ["mini-pope"]}), tmp_path)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(BLOCK))
    with pytest.raises(ValueError, match="must be a list of blocks"):
        asked(tmp_path / "other.yaml", tmp_path)


def test_the_shipped_grid_asks_for_tables_that_can_be_measured() -> None:
    jobs = grid.jobs(ROOT / "data/grid.yaml")
    lacking = {job.name for job in asked(ROOT / "data/grid.yaml", paths.RESULTS)}
    assert lacking < jobs.keys(), "some of them are shipped"
    assert all(not tables.is_held(jobs[name].key, paths.RESULTS) for name in lacking)
