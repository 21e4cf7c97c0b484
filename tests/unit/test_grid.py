"""The grid of measurements: its jobs are the expected ones, what is there makes none, mistakes are found before."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import yaml

from lostlib import paths

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
        ({"models": "mini-llava-1.5"}, "models must be a list of texts, got 'mini-llava-1.5'"),
        ({"models": []}, r"models must be a list of texts, got \[\]"),
        (
            {"benchmarks": [None]},
            r"benchmarks must be a list of texts, got \[None\]; a bare no, off or null is",
        ),
        ({"interventions": [False]}, r"interventions must be a list of texts, got \[False\]; a bare no"),
        ({"models": [["mini-llava-1.5"]]}, r"models must be a list of texts, got \[\['mini-llava-1.5'\]\]$"),
        ({"experiment": None}, "experiment must be a text, got None"),
        ({"device": 0}, "device must be a text, got 0"),
        ({"parameters": [1]}, r"parameters must be names with values, got \[1\]"),
        ({"parameters": {1: 2}}, r"parameters must be names with values, got \{1: 2\}"),
        ({"parameters": {"max_new_tokens": {"a": 1}}}, "max_new_tokens must be a text, a number or a list of them"),
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"n": -1}, "n must be a whole number of at least 1, got -1"),
        ({"n": 8.5}, "n must be a whole number of at least 1, got 8.5"),
        ({"n": True}, "n must be a whole number of at least 1, got True"),
        ({"n": "8"}, "n must be a whole number of at least 1, got '8'"),
        ({"n": 10**20}, "n must be at most 1000000000, got 1000"),
        ({"shares": 0}, "shares must be a whole number of at least 1, got 0"),
        ({"shares": 10**8}, "jobs are asked for, with seeds and shares; expected at most 100000"),
        ({"seeds": 10**9}, "4000000000 jobs are asked for"),
        ({"seeds": None}, "seeds must be a whole number of at least 1, got None"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"experiment": "residual", "shares": 2}, "only answers are measured in shares"),
        ({"models": ["mini-lava-1.5"]}, "did you mean 'mini-llava-1.5'"),
        ({"benchmarks": ["mini-pop"]}, "did you mean 'mini-pope'"),
        ({"interventions": ["sap:weights=gausian"]}, "did you mean 'gaussian'"),
        ({"parameters": {"max_new_token": 3}}, "answers has no parameter"),
        ({"benchmarks": ["mini-pope", "mini-pope"]}, "asks twice for answers of mini-llava-1.5 on mini-pope"),
    ],
)
def test_mistakes_in_a_grid(change: dict, message: str, written, tmp_path) -> None:
    good = BLOCK | {"n": 7, "interventions": ["noise_delta"]}
    with pytest.raises(ValueError, match=rf"grid\.yaml, block 2: .*{message}"):
        asked(written(good, BLOCK | change), tmp_path)


BOMB = "- &a0 [x]\n" + "".join(f"- &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(40))
MERGED = "- &a0 {x: 1}\n" + "".join(f"- &a{i + 1} {{<<: [{', '.join([f'*a{i}'] * 9)}]}}\n" for i in range(40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {experiment: answers", "line 1: this is no YAML"),
        ("- experiment: answers\n\tmodels: []", "line 2: this is no YAML"),
        ("- {models: *everyone}", "line 1: this is no YAML, found undefined alias"),
        ("- !!python/object:os.system {}", "line 1: this is no YAML, could not determine a constructor"),
        ("[" * 5000, "this is no YAML, maximum recursion"),
        ("\0", "this is no YAML"),
        ("", "must be a list of blocks, each of experiment, .*, got None"),
        (BOMB, r"must be a list of blocks, each of .*, got \[\['x'\], \[\[\.\.\.\]"),
        (MERGED, "this is no YAML, a mapping is too large"),
        ("- {experiment: answers, benchmarks: [mini-pope], n: &a [*a], models: [m]}", "n must be a whole number"),
    ],
)
def test_a_text_that_is_no_grid(text: str, message: str, tmp_path) -> None:
    """In a moment and in a line, also where a few lines stand for more than any memory holds."""
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as told:
        grid.jobs(tmp_path / "grid.yaml")
    assert len(str(told.value)) < 600
    assert "\n" not in str(told.value)


def test_a_field_that_is_a_bomb_is_told_in_a_line(tmp_path) -> None:
    lines = ["- experiment: answers", "  n: 3", "  benchmarks: [mini-pope]", "  parameters:", "    x0: &a0 [x]"]
    lines += [f"    x{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(40)]
    (tmp_path / "grid.yaml").write_text("\n".join([*lines, "  models: *a40"]))
    with pytest.raises(ValueError, match=r"block 1: models must be a list of texts, got \[\[") as told:
        grid.jobs(tmp_path / "grid.yaml")
    assert len(str(told.value)) < 600


def test_a_grid_is_a_list_of_whole_blocks(written, tmp_path) -> None:
    with pytest.raises(ValueError, match="a block lacks models, n"):
        asked(written({"experiment": "answers", "benchmarks": ["mini-pope"]}), tmp_path)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(BLOCK))
    with pytest.raises(ValueError, match="must be a list of blocks"):
        asked(tmp_path / "other.yaml", tmp_path)


def test_the_shipped_grid_asks_for_tables_that_can_be_measured() -> None:
    jobs = grid.jobs(ROOT / "data/grid.yaml")
    assert any((paths.RESULTS / job.key.path).exists() for job in jobs.values()), "some of them are shipped"
