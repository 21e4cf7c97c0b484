"""Intervals: coverage on simulated data with a known truth, clustering, pairing, and the degenerate cases."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lostlib import paths, stats, tables


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


def test_combined_is_the_mean_of_ratios_and_a_paired_difference() -> None:
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(60), 5)
    group, said, true = rng.integers(3, size=300), rng.random(300) < 0.5, rng.random(300) < 0.5
    parts = [
        (2 * (said & true)[group == k], (said.astype(int) + true)[group == k], clusters[group == k]) for k in range(3)
    ]
    mean3 = stats.combined(parts, [1 / 3] * 3)
    by_hand = np.mean([sum(top) / sum(bottom) for top, bottom, _ in parts])
    assert mean3.value == pytest.approx(by_hand)
    assert mean3.low < mean3.value < mean3.high
    # one part is a ratio; the difference of a run with itself is nothing, with no spread
    assert stats.combined(parts[:1], [1]).value == stats.ratio(*parts[0]).value
    assert stats.combined([parts[0], parts[0]], [1, -1]) == pytest.approx((0, 0, 0))
    # the paired difference of means is the one there is already
    ones = np.ones(300)
    both = stats.combined([(said, ones, clusters), (true, ones, clusters)], [1, -1])
    assert tuple(both) == pytest.approx(tuple(stats.difference(said, true, clusters)))


def test_combined_leaves_out_resamples_that_lack_a_part() -> None:
    """Two parts of two pictures each: one resample in eight shows pictures of one part only."""
    half = [([1, 0], [2, 2], [f"{part}0", f"{part}1"]) for part in "ab"]
    found = stats.combined(half, [0.5, 0.5])
    assert found.value == 0.25
    whole = stats.combined([([2, 2], [2, 2], clusters) for _, _, clusters in half], [0.5, 0.5])
    assert whole == (1, 1, 1)
    assert (found.low, found.high) == (0, 0.5)


def test_combined_draws_clusters_together() -> None:
    """An independent bootstrap written out: draw clusters, take every part's entries of them, form the ratios."""
    rng = np.random.default_rng(4)
    clusters_a, clusters_b = np.repeat(np.arange(40), 3), np.arange(40)
    a, b = rng.random(120) < 0.6, rng.random(40) < 0.4
    found = stats.combined([(a, np.ones(120), clusters_a), (b, np.ones(40), clusters_b)], [0.5, 0.5])
    draws = []
    for _ in range(3000):
        chosen = rng.integers(40, size=40)
        draws.append((np.mean([a[3 * c : 3 * c + 3].mean() for c in chosen]) + b[chosen].mean()) / 2)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=0.015)


def test_mcnemar_against_the_binomial_sum() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        before, after = rng.random(60) < 0.6, rng.random(60) < 0.5
        lost, gained = sum(before & ~after), sum(after & ~before)
        n, least = lost + gained, min(lost, gained)
        tail = sum(math.comb(int(n), k) for k in range(int(least) + 1)) / 2 ** int(n)
        found = stats.mcnemar(after, before)
        assert (found.lost, found.gained) == (lost, gained)
        assert found.p == pytest.approx(min(1, 2 * tail))
    assert stats.mcnemar([1, 0], [1, 0]) == (0, 0, 1.0)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        stats.mcnemar([1, 0], [1, 0, 1])


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        p = rng.random(8) ** 3
        rejected = np.zeros(8, dtype=bool)
        for step, index in enumerate(np.argsort(p)):  # the procedure as Holm gives it: stop at the first that stands
            if p[index] > 0.05 / (8 - step):
                break
            rejected[index] = True
        adjusted = stats.holm(p)
        assert ((adjusted <= 0.05) == rejected).all()
        assert (adjusted >= p).all()
        assert (adjusted <= 1).all()
    with_gap = stats.holm([0.01, float("nan"), 0.04])
    assert np.isnan(with_gap[1])
    assert with_gap[[0, 2]].tolist() == [0.02, 0.04]
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        stats.holm([1.5])


def test_no_difference_is_rejected_as_often_as_it_says() -> None:
    """Of tests of a true null, clustered by image, about one in twenty has a p below 0.05."""
    rng = np.random.default_rng(0)
    p = []
    for _ in range(300):
        clusters = np.repeat(np.arange(60), 4)
        common = rng.normal(size=60)[clusters]
        p.append(stats.no_difference(common + rng.normal(size=240), np.zeros(240), clusters))
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09


def test_no_difference_where_nothing_or_everything_changes() -> None:
    ones, clusters = np.ones(12), np.repeat(np.arange(6), 2)
    assert stats.no_difference(ones, ones, clusters) == 1
    assert stats.no_difference(ones, 0 * ones, clusters) == pytest.approx(2 / 2**6)
    assert stats.no_difference([1.0], [0.0]) == 1


def test_shares_are_exact() -> None:
    assert stats.share(0, 3).high == pytest.approx(1 - 0.025 ** (1 / 3))
    with pytest.raises(ValueError, match="4 of 3"):
        stats.share(4, 3)


# ---- two levels: items and draws ------------------------------------------------------------------------------------


def covered(items: int, draws: int, of_items: float, of_draws: float, rest: float, runs: int = 1500) -> float:
    """Share of simulated experiments in which the interval holds the true mean, 0."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(runs):
        values = of_items * rng.normal(size=(items, 1)) + of_draws * rng.normal(size=(1, draws))
        found = stats.crossed(values + rest * rng.normal(size=(items, draws))).estimate
        hits += found.low <= 0 <= found.high
    return hits / runs


@pytest.mark.parametrize(
    ("of_items", "of_draws", "rest"),
    [(1, 0, 1), (1, 0.05, 1), (1, 0.1, 1), (1, 0.3, 1), (0.3, 1, 0.3), (0, 0, 1)],
)
def test_two_levels_cover_at_five_draws_and_two_hundred_items(of_items, of_draws, rest):
    assert 0.93 <= covered(200, 5, of_items, of_draws, rest) <= 0.975


def test_two_draws_are_few():
    assert 0.85 <= covered(200, 2, 1, 0.3, 1) <= 0.97


def ratio_covered(draws: int, of_items: float, of_draws: float, rest: float, runs: int, pictures: int = 200,
                  each: int = 1, other: bool = False) -> float:  # fmt: skip
    """The same of a ratio of 0.5 whose denominators vary; or of its difference from another one of 0.2."""
    rng, hits = np.random.default_rng(0), 0
    clusters = np.repeat(np.arange(pictures), each)
    for _ in range(runs):
        bottom, alike = rng.gamma(4, 0.25, size=pictures)[clusters], rng.normal(size=(1, draws))
        own = of_items * rng.normal(size=(pictures, 1))[clusters] + of_draws * alike
        parts = [(0.5 * bottom[:, None] + 0.3 * (own + rest * rng.normal(size=(len(own), draws))), bottom, clusters)]
        if other:
            less = rng.gamma(4, 0.25, size=150)
            moved = 0.3 * (0.7 * of_draws * alike + rest * rng.normal(size=(150, draws)))
            parts.append((0.2 * less[:, None] + moved, less, 1000 + np.arange(150)))
        found = stats.crossed_ratio(parts, [1, -1] if other else [1]).estimate
        hits += found.low <= (0.3 if other else 0.5) <= found.high
    return hits / runs


RATIOS = [(1, 0, 1), (1, 0.1, 1), (1, 0.3, 1), (0.3, 1, 0.3)]


@pytest.mark.parametrize(("of_items", "of_draws", "rest"), RATIOS)
def test_two_levels_of_a_ratio_cover_roughly(of_items, of_draws, rest):
    assert 0.90 <= ratio_covered(5, of_items, of_draws, rest, runs=300) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"other": True}, {"pictures": 70, "each": 3}])
@pytest.mark.parametrize(("of_items", "of_draws", "rest"), RATIOS)
def test_two_levels_of_a_ratio_cover(of_items, of_draws, rest, how):
    assert 0.93 <= ratio_covered(5, of_items, of_draws, rest, runs=2000, **how) <= 0.97
    assert 0.83 <= ratio_covered(2, of_items, of_draws, rest, runs=2000, **how) <= 0.98


def test_a_ratio_over_one_kind_of_denominator_is_a_mean():
    rng = np.random.default_rng(1)
    values, clusters = rng.normal(size=(30, 4)), np.repeat(np.arange(10), 3)
    found = stats.crossed_ratio([(values, np.full(30, 2.0), clusters)])
    assert found.estimate == pytest.approx(stats.crossed(values / 2, clusters).estimate)
    twice = stats.crossed_ratio([(values, np.ones(30), clusters), (values, np.ones(30), clusters)], [1, -1])
    assert twice.estimate == (0, 0, 0)
    assert np.isnan(stats.crossed_ratio([(values, np.zeros(30), clusters)]).value)
    with pytest.raises(ValueError, match="1 ratios but 2 weights"):
        stats.crossed_ratio([(values, np.ones(30), clusters)], [1, -1])


def test_two_levels_count_what_items_alone_do_not_see():
    """Draws that move all items together: resampled over items alone, the interval of their mean is far too short."""
    rng = np.random.default_rng(1)
    hits = {"items": 0, "both": 0}
    for _ in range(200):
        values = 0.3 * rng.normal(size=(1, 5)) + 0.1 * rng.normal(size=(100, 5))
        for name, found in (("items", stats.mean(values.mean(1))), ("both", stats.crossed(values).estimate)):
            hits[name] += found.low <= 0 <= found.high
    assert hits["items"] < 50
    assert hits["both"] > 180


def test_two_levels_of_clusters():
    """Questions about one picture that are alike count once: as copies of one question a picture."""
    rng = np.random.default_rng(2)
    pictures = rng.normal(size=(30, 4))
    once = stats.crossed(pictures)
    thrice = stats.crossed(np.repeat(pictures, 3, axis=0), np.repeat(np.arange(30), 3))
    assert thrice == pytest.approx(once)
    assert stats.crossed(np.repeat(pictures, 3, axis=0)).error < once.error


def test_two_levels_where_nothing_varies_or_one_draw_was_made():
    same = stats.crossed(np.full((5, 3), 0.25))
    assert same.estimate == (0.25, 0.25, 0.25)
    assert (same.p(0.25), same.p()) == (1.0, 0.0)
    one = stats.crossed([[1.0], [2.0]])
    assert one.value == 1.5
    assert np.isnan([one.estimate.low, one.estimate.high, one.p()]).all()
    with pytest.raises(ValueError, match="shape"):
        stats.crossed([1.0, 2.0])


def test_two_levels_test_what_their_interval_covers():
    rng = np.random.default_rng(3)
    found = stats.crossed(rng.normal(size=(40, 6)) + 0.2 * rng.normal(size=(1, 6)) + 0.1)
    for end in found.estimate[1:]:
        assert found.p(end) == pytest.approx(0.05)


def test_the_book_says_how_many_items_are_enough() -> None:
    """As the shipped table has it; and the interval over fewer items is about as wide as foretold."""
    frame = tables.read(paths.RESULTS / "residual/mini-llava-1.5/mini-pope/none.s0.parquet").frame
    chosen = frame[(frame["module"] == "attn") & (frame["control"] == "none")]
    items = chosen.groupby("item", sort=False).agg(rid=("rid", "mean"), cluster=("cluster", "first"))
    whole = stats.mean(items["rid"], items["cluster"])
    assert (len(items), items["cluster"].nunique()) == (200, 34)
    few, many = (round(100 * stats.precision(whole, 200, n)) for n in (32, 200))
    text = " ".join((paths.ROOT / "book" / "real-models.md").read_text().split())
    assert f"known to within {many} % of its value" in text
    assert f"over 32 it would be to within {few} %" in text
    part = items[:100]
    found = stats.mean(part["rid"], part["cluster"])
    assert stats.precision(found, 100, 100) == pytest.approx(stats.precision(whole, 200, 100), rel=0.5)
