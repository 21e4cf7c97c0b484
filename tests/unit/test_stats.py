"""Intervals: coverage on simulated data with a known truth, clustering, pairing, and the degenerate cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lostlib import stats


def test_coverage_of_a_clustered_mean() -> None:
    """A 95 % interval should hold the truth in about 95 of 100 simulated benchmarks; ignoring clusters would not."""
    rng, inside, naive = np.random.default_rng(0), 0, 0
    for trial in range(100):
        level = rng.beta(4, 1, size=80)  # each image has its own difficulty; the mean is 0.8
        clusters = np.repeat(np.arange(80), 6)
        right = rng.random(480) < level[clusters]
        estimate = stats.mean(right, clusters, seed=trial)
        inside += estimate.low <= 0.8 <= estimate.high
        alone = stats.mean(right, seed=trial)
        naive += alone.low <= 0.8 <= alone.high
    assert inside >= 89
    assert naive < inside


def test_ratio_is_the_ratio_of_sums() -> None:
    tops, bottoms, clusters = [1, 0, 2, 5], [1, 1, 4, 5], ["a", "a", "b", "c"]
    estimate = stats.ratio(tops, bottoms, clusters)
    assert estimate.value == pytest.approx(8 / 11)
    assert estimate.low < estimate.value < estimate.high


def test_all_right_still_has_an_interval() -> None:
    estimate = stats.mean(np.ones(50))
    assert estimate.value == estimate.high == 1
    assert estimate.low == pytest.approx(0.025 ** (1 / 50), abs=1e-3)  # Clopper and Pearson, 1934


def test_nothing_to_divide_by() -> None:
    assert np.isnan(stats.ratio([0, 0], [0, 0], ["a", "b"]).value)


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(400) < 0.7
    after = before & (rng.random(400) < 0.95)
    paired = stats.difference(after, before)
    assert paired.high < 0
    assert paired.high - paired.low < (lambda e: e.high - e.low)(stats.mean(before))
    with pytest.raises(ValueError, match=r"\(400,\) and \(3,\)"):
        stats.difference(after, [1, 0, 1])


def test_intervals_are_reproducible() -> None:
    values = np.random.default_rng(2).random(30)
    assert stats.mean(values) == stats.mean(values)
    assert stats.mean(values, seed=1) != stats.mean(values, seed=2)


def test_summary_and_contrast_average_layers_within_items_first() -> None:
    frame = pd.DataFrame(
        [(f"i{i}", f"c{i // 2}", layer, module, i + 10 * layer + 100 * (module == "ffn"))
         for i in range(8) for layer in (0, 1) for module in ("attn", "ffn")],
        columns=["item", "cluster", "layer", "module", "x"],
    )  # fmt: skip
    rows = stats.summary(frame, ["module"], "x").set_index("module")
    assert rows.loc["attn", "mean"] == pytest.approx(3.5 + 5)
    assert rows.loc["attn", "items"] == 8
    change = stats.contrast(frame, "x", {"module": "ffn"}, {"module": "attn"})
    assert change == (100, 100, 100)
