"""Linear probes of visual tokens: true facts give right answers, and a probe finds what is in a token and only that."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

import lostlib
from lostlib.benchmarks.mini import SCENES, STREAMS
from lostlib.experiments import probes
from lostlib.miniworld.scenes import TOKENS, generator, sample_scene

LEAST = {"mini-pope": 3, "mini-realworldqa": 2, SCENES: 1}


@pytest.mark.parametrize("name", LEAST)
def test_the_facts_of_its_own_scene_answer_every_question(name: str) -> None:
    items = lostlib.load_benchmark(name, n=120).items
    known = 0
    for item in items:
        if (question := probes.asked(item)) is None:
            continue
        index = int(item.cluster.rsplit("-", 1)[1])
        scene = sample_scene("test", generator("test", STREAMS[name], index), LEAST[name])
        values = probes.facts_of([scene])
        told = [float(values(fact)[0]) for fact in question.facts]
        assert question.answer(told) == item.answer, item.prompt
        known += 1
    assert known == len(items) - sum(item.prompt.startswith("What is") for item in items)


def test_a_probe_reads_what_a_token_carries_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    facts = {"there: red circle": (rng.random(600) < 0.3) * 1.0, "count: circles": rng.integers(0, 5, 600) * 1.0}
    told = torch.from_numpy(rng.standard_normal((600, 3, 20))).float()
    direction = torch.from_numpy(rng.standard_normal(20)).float()
    for token, fact in enumerate(facts):  # the third token knows nothing
        told[:, token] += 5 * torch.from_numpy(facts[fact]).float()[:, None] * direction
    read = probes._fit(told[:400], lambda fact: facts[fact][:400], facts)(told[400:])
    for token, (fact, values) in enumerate(facts.items()):
        correlation = [np.corrcoef(read[fact][:, k], values[400:])[0, 1] for k in range(3)]
        assert correlation[token] > 0.95
        assert max(abs(correlation[k]) for k in range(3) if k != token) < 0.4


@pytest.mark.slow
def test_rows_of_a_shipped_model() -> None:
    items = lostlib.load_benchmark("mini-pope", n=40).items
    rows = lostlib.probe_rows(lostlib.load_model("mini-llava-1.5"), items, scenes=600)
    assert list(rows.columns) == ["item", "cluster", "token", "right", "relevant"]
    assert len(rows) == 40 * (TOKENS + 1)
    assert set(rows["token"]) == {-1, *range(TOKENS)}
    there = rows[rows["item"].isin([item.uid for item in items if item.answer == "yes"])]
    assert there[there["relevant"]]["right"].mean() > 0.7  # the patch shows it
    assert 0.35 < rows[~rows["relevant"] & (rows["token"] >= 0)]["right"].mean() < 0.65  # the others hardly know


def test_sums_and_bars_alone_and_tokens_that_are_no_patches_are_refused(tmp_path) -> None:
    mini = lostlib.load_model("mini-llava-1.5")
    items = lostlib.load_benchmark("mini-mathvista", n=30).items
    unknown = [item for item in items if item.meta["task"] == "arithmetic" or item.meta["task"].startswith("bar")]
    assert len(unknown) == 20
    with pytest.raises(ValueError, match="no item asks"):
        lostlib.probe_rows(mini, unknown)
    other = lostlib.load_model(tiny.make("llava", tmp_path / "tiny"))
    with pytest.raises(ValueError, match="one visual token for each of 64"):
        lostlib.probe_rows(other, lostlib.load_benchmark("mini-pope", n=2).items, scenes=20)
