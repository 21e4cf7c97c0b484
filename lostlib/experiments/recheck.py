"""Measuring shipped tables again and comparing.

Rows are keyed by item, so a sample of the items is measured alone and compared with the same items' rows. Arithmetic
differs in the last digits between CPUs and torch builds, so numbers agree within a tolerance, and where greedy decoding
meets a near tie an answer may flip: a table agrees when at most one answer in fifty does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lostlib import tables
from lostlib.benchmarks import Benchmark, Choice
from lostlib.checkpoints import ModelChoice
from lostlib.experiments import measure
from lostlib.models import keyed_random

TOLERANCE = 1e-3  # of a metric, absolute or relative, whichever is larger
FLIPS = 0.02  # share of answers


class Verdict(NamedTuple):
    """Does the table agree with a new measurement, and a sentence about it."""

    agrees: bool
    text: str


def sample_of(benchmark: Benchmark, size: int | None, seed: int) -> Benchmark:
    """A random sample of a benchmark's items, in their order; all of them for None."""
    if size is None or size >= len(benchmark.items):
        return benchmark
    chosen = sorted(np.random.default_rng(seed).choice(len(benchmark.items), size, replace=False))
    return replace(benchmark, items=tuple(benchmark.items[i] for i in chosen), rows=[benchmark.rows[i] for i in chosen])


def check_table(path: Path, sample: int | None) -> Verdict:
    """Measure a table's items again, `sample` of them or all (None)."""
    shipped = tables.read(path)
    key = shipped.key
    if (weights := ModelChoice.parse(key.model).weights) != key.weights:
        return Verdict(False, f"measured with weights {key.weights}, {key.model} now has {weights}")
    items = sample_of(
        measure.load_items(key.model, Choice.parse(key.benchmark), key.n),
        sample,
        abs(keyed_random.text_key(str(path.name))),
    )
    again = measure.frame(key, items)
    held = shipped.frame
    if sample is not None:
        held = held[held["item"].isin(again["item"].unique())].reset_index(drop=True)
    return compare(held, again)


def compare(held: pd.DataFrame, again: pd.DataFrame) -> Verdict:
    """Compare rows of the same items."""
    if list(held.columns) != list(again.columns) or len(held) != len(again):
        return Verdict(False, f"{len(held)} rows of {list(held.columns)} against {len(again)} of {list(again.columns)}")
    if (held["item"].to_numpy() != again["item"].to_numpy()).any():
        return Verdict(False, f"{len(held)} rows, but of other items")
    return _answers(held, again) if "raw" in held else _numbers(held, again)


def _answers(held: pd.DataFrame, again: pd.DataFrame) -> Verdict:
    """Few answers may flip; what is made of one that did not must be what it was."""
    same = (held["raw"] == again["raw"]).to_numpy()
    for column in ("parsed", "correct"):
        was, now = (frame.loc[same, column].fillna("").astype(str) for frame in (held, again))
        if (other := was != now).any():
            example = held.loc[same, "raw"][other].iloc[0]
            return Verdict(False, f"{column} of {other.sum()} equal answers differs, for example of {example!r}")
    flips = float(1 - same.mean())
    return Verdict(flips <= FLIPS, f"{flips:.1%} of {len(held)} answers differ")


def _numbers(held: pd.DataFrame, again: pd.DataFrame) -> Verdict:
    numbers = held.select_dtypes("number").columns
    a, b = held[numbers].to_numpy(float), again[numbers].to_numpy(float)
    if (np.isnan(a) != np.isnan(b)).any():
        return Verdict(False, f"{len(held)} rows; a number is missing on one side only")
    apart = np.nanmax(np.abs(a - b) / np.maximum(1, np.abs(a)), initial=0)
    return Verdict(bool(apart <= TOLERANCE), f"{len(held)} rows, largest deviation {apart:.1e}")
