"""Seeds and counts have bounds, wherever they come in, and what is no text is told before anything is done with it."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

import lostlib
from lostlib import text
from lostlib.benchmarks import load_benchmark
from lostlib.checkpoints import ModelChoice
from lostlib.cli import app
from lostlib.report.parameters import ParameterError, check_parameters
from lostlib.tables import Key

SEEDS = [-1, 2**32, 2**63, 10**30, 1.5, True, "3", None]
COUNTS = [0, -1, 10**9 + 1, 10**20, 2.5, True, "3"]


def told(*words: str) -> str:
    done = CliRunner().invoke(app, ["run", "answers", *words])
    assert done.exit_code == 2
    return done.output


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_out_of_bounds_is_refused_everywhere(seed: object, tiny) -> None:
    for ask in (
        lambda: Key.of("answers", "mini-llava-1.5", "mini-pope", 4, "sap", seed),
        lambda: Key.of("answers", "mini-llava-1.5", "mini-pope", 4, "none", seed),
        lambda: load_benchmark("mini-pope", n=2, seed=seed),
        lambda: lostlib.intervene(tiny, "sap", seed).__enter__(),
        lambda: lostlib.residual_metrics(tiny, load_benchmark("mini-pope", n=2).items, seed=seed),
    ):
        with pytest.raises(ValueError, match="seed must be"):
            ask()


@pytest.mark.parametrize("n", COUNTS)
def test_a_count_out_of_bounds_is_refused_everywhere(n: object) -> None:
    for ask in (lambda: Key.of("answers", "mini-llava-1.5", "mini-pope", n), lambda: load_benchmark("mini-pope", n=n)):
        with pytest.raises(ValueError, match="n must be"):
            ask()


def test_the_last_seed_works_everywhere(tiny) -> None:
    seed = text.LAST_SEED
    assert Key.of("answers", "mini-llava-1.5", "mini-pope", 4, "sap", seed).seed == seed
    for name in ("mini-pope", "mini-realworldqa", "mini-mathvista", "mini-3dsrbench", "mini-mmmu"):
        assert load_benchmark(name, n=2, seed=seed).items != load_benchmark(name, n=2, seed=0).items
    items = load_benchmark("mini-pope", n=np.int64(2)).items
    with lostlib.intervene(tiny, "sap & noise_qkv", seed=seed):
        tiny.answer(items)
    assert len(lostlib.residual_metrics(tiny, items, seed=seed))


@pytest.mark.parametrize("name", ["", " ", "@main", " :dtype=float32"])
def test_no_name_is_no_model(name: str) -> None:
    with pytest.raises(ValueError, match="names no model"):
        ModelChoice.parse(name)


def test_the_command_line_says_so() -> None:
    assert "n must be at most 1000000000, got 99999999999999999999" in told("--n", "99999999999999999999")
    assert "seed must be at most 4294967295" in told("--seed", "99999999999999999999")
    assert "'' names no model" in told("--model", "")


def test_a_chapter_says_so() -> None:
    for given in ({"seed": 2**63}, {"seed": 2**32 - 1}, {"n_items": 10**20}):
        (name,) = given
        with pytest.raises(ParameterError, match=f"{name} = .* at most"):
            check_parameters({"model": "mini-llava-1.5", **given})
