"""Intervals: bootstrap over clusters of items that share an image; paired where two runs answer the same items.

scipy does the resampling. Every score here is a ratio of sums over items (accuracy, precision, recall, F1), so a
cluster enters as its two sums, and resampling clusters keeps questions about one image together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

RESAMPLES = 2000


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def cluster_sums(values: ArrayLike, clusters: ArrayLike) -> NDArray[np.float64]:
    """The sum of the values of each cluster, clusters in sorted order."""
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(index, weights=np.asarray(values, dtype=np.float64)).astype(np.float64)


def ratio(numerators: ArrayLike, denominators: ArrayLike, clusters: ArrayLike, seed: int = 0) -> Estimate:
    """sum(numerators) / sum(denominators) with a percentile bootstrap over clusters.

    When every cluster has the same ratio (all right, all wrong), resampling cannot show any uncertainty; the interval
    is then the exact binomial one with as many trials as clusters. An empty denominator gives nan.
    """
    tops, bottoms = cluster_sums(numerators, clusters), cluster_sums(denominators, clusters)
    tops, bottoms = tops[bottoms > 0], bottoms[bottoms > 0]
    if len(bottoms) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    value = float(tops.sum() / bottoms.sum())
    if np.ptp(tops / bottoms) == 0:
        if value not in (0.0, 1.0):
            return Estimate(value, value, value)
        exact = scipy_stats.binomtest(round(value * len(tops)), len(tops)).proportion_ci()
        return Estimate(value, float(exact.low), float(exact.high))
    low, high = _interval((tops, bottoms), lambda a, b, axis: a.sum(axis) / b.sum(axis), seed)
    return Estimate(value, low, high)


def mean(values: ArrayLike, clusters: ArrayLike | None = None, seed: int = 0) -> Estimate:
    """The mean over items, clustered (each item its own cluster by default). For shares and for metrics alike."""
    values = np.asarray(values, dtype=np.float64)
    own = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    if len(values) and np.ptp(values) == 0 and values[0] not in (0.0, 1.0):
        return Estimate(float(values[0]), float(values[0]), float(values[0]))
    return ratio(values, np.ones(len(values)), own, seed)


def difference(after: ArrayLike, before: ArrayLike, clusters: ArrayLike | None = None, seed: int = 0) -> Estimate:
    """mean(after - before) over the same items in the same order, with a paired bootstrap over clusters."""
    after, before = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    if after.shape != before.shape:
        raise ValueError(
            f"a paired difference needs the same items in both runs, got {after.shape} and {before.shape} values"
        )
    changes = after - before
    own = np.arange(len(changes)) if clusters is None else np.asarray(clusters)
    sums, counts = cluster_sums(changes, own), cluster_sums(np.ones(len(changes)), own)
    value = float(changes.mean())
    if np.ptp(sums / counts) == 0:
        return Estimate(value, value, value)
    low, high = _interval((sums, counts), lambda a, b, axis: a.sum(axis) / b.sum(axis), seed)
    return Estimate(value, low, high)


def _interval(data: tuple, statistic: object, seed: int) -> tuple[float, float]:
    found = scipy_stats.bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def summary(frame: pd.DataFrame, by: list[str], values: list[str] | str, seed: int = 0) -> pd.DataFrame:
    """Means with intervals of measured rows: one row a group and value.

    Rows of one item in one group (its layers, say) are averaged first; the bootstrap then resamples clusters of items.
    Columns: the `by` columns, value (the name of what is averaged), mean, low, high, items.
    """
    names = [values] if isinstance(values, str) else values
    rows = []
    for group, part in frame.groupby(by, sort=True, observed=True):
        items = part.groupby(["cluster", "item"], sort=False)[names].mean().reset_index()
        for name in names:
            held = items.dropna(subset=[name])
            estimate = mean(held[name], held["cluster"], seed)
            rows.append([*group, name, *estimate, len(held)])
    return pd.DataFrame(rows, columns=[*by, "value", "mean", "low", "high", "items"])


def contrast(frame: pd.DataFrame, value: str, after: dict[str, str], before: dict[str, str], seed: int = 0) -> Estimate:
    """Paired difference of a value between two kinds of rows of the same items, e.g. module attn against module ffn."""
    sides = []
    for wanted in (after, before):
        chosen = frame[np.logical_and.reduce([frame[column] == name for column, name in wanted.items()])]
        sides.append(chosen.groupby(["cluster", "item"])[value].mean())
    a, b = sides
    return difference(a.to_numpy(), b.reindex(a.index).to_numpy(), a.index.get_level_values("cluster"), seed)
