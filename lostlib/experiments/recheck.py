"""Measuring shipped tables again and comparing.

Rows are keyed by item, so a sample of the items is measured alone and compared with the same items' rows: every
column, exactly, but for what is named here. Arithmetic differs in the last digits between CPUs and torch builds, so
floats agree within a tolerance, and a row of yes-or-no may change sides where its number meets a threshold. Where
greedy decoding meets a near tie an answer may flip; then neither of the two has much more than half of the probability.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lostlib import tables
from lostlib.benchmarks import Benchmark, Choice
from lostlib.checkpoints import ModelChoice
from lostlib.experiments import measure
from lostlib.experiments.rows import LEFT_OUT
from lostlib.models import keyed_random

TOLERANCE = 1e-3  # of a metric, absolute or relative, whichever is larger
FLIPS = 0.02  # share of answers, or of rows of a yes-or-no column, that may differ
TIE = math.log(0.5) + 0.05  # an answer that is more probable than this won by more than a hair
OF_THE_ANSWER = ("raw", "answer", "parsed", "correct", "logprob", "answer_tokens")  # may differ where the answer does


class Verdict(NamedTuple):
    """Does the table agree with a new measurement, and a sentence about it."""

    agrees: bool
    text: str


def sample_of(benchmark: Benchmark, size: int | None, seed: int) -> Benchmark:
    """A random sample of a benchmark's items, in their order; all of them for None."""
    if size is None or size >= len(benchmark.items):
        return benchmark
    return measure.some(
        benchmark, sorted(np.random.default_rng(seed).choice(len(benchmark.items), size, replace=False))
    )


def check_table(path: Path, sample: int | None) -> Verdict:
    """Measure a table's items again, `sample` of them or all (None)."""
    shipped = tables.read(path)
    key = shipped.key
    if (weights := ModelChoice.parse(key.model).weights) != key.weights:
        return Verdict(False, f"measured with weights {key.weights}, {key.model} now has {weights}")
    choice = Choice.parse(key.benchmark)
    if (version := choice.rules.version) != key.version:
        return Verdict(False, f"of version {key.version} of {choice.name}, which now is at version {version}")
    items = sample_of(measure.load_items(key.model, choice, key.n), sample, abs(keyed_random.text_key(str(path.name))))
    again = measure.frame(key, items)
    if left_out := again.attrs[LEFT_OUT]:
        uid, why = next(iter(left_out.items()))
        return Verdict(False, f"{len(left_out)} items cannot be measured now, for example {uid}: {why}")
    held = shipped.frame
    if sample is not None:  # those of a pilot are of other items
        asked = [item.uid for item in items.items]
        held, again = (frame[frame["item"].isin(asked)].reset_index(drop=True) for frame in (held, again))
    elif unknown := set(held["item"]) - set(again["item"]):
        return Verdict(False, f"holds {len(unknown)} items beyond the first {key.n} of {key.benchmark}")
    return compare(held, again)


def compare(held: pd.DataFrame, again: pd.DataFrame) -> Verdict:
    """Compare rows of the same items."""
    if list(held.columns) != list(again.columns) or len(held) != len(again):
        return Verdict(False, f"{len(held)} rows of {list(held.columns)} against {len(again)} of {list(again.columns)}")
    if (held["item"].to_numpy() != again["item"].to_numpy()).any():
        return Verdict(False, f"{len(held)} rows, but of other items")
    flipped = _flipped(held, again)
    for name in held.columns:
        kept = ~flipped if name in OF_THE_ANSWER else np.full(len(held), True)
        if problem := _differ(name, held[name][kept], again[name][kept]):
            return Verdict(False, problem)
    if _said_in(held) is None:
        return Verdict(True, f"{len(held)} rows, largest deviation {_apart(held, again):.1e}")
    if "logprob" in held:
        certain = flipped & (np.maximum(held["logprob"].to_numpy(), again["logprob"].to_numpy()) > TIE)
        if certain.any():
            at = held.index[certain][0]
            return Verdict(
                False, f"{held['item'][at]} is answered {again['raw'][at]!r} now and not {held['raw'][at]!r}"
            )
    return Verdict(bool(flipped.mean() <= FLIPS), f"{flipped.mean():.1%} of {len(held)} answers differ")


def _said_in(rows: pd.DataFrame) -> str | None:
    """The column of what the model said; None where it was not asked."""
    return next((name for name in ("raw", "answer") if name in rows), None)


def _flipped(held: pd.DataFrame, again: pd.DataFrame) -> np.ndarray:
    """Which answers are others."""
    said = _said_in(held)
    return np.full(len(held), False) if said is None else (held[said] != again[said]).to_numpy()


def _differ(name: str, held: pd.Series, again: pd.Series) -> str:
    """What is wrong with a column; "" where it agrees."""
    if pd.api.types.is_float_dtype(held) and pd.api.types.is_float_dtype(again):
        wrong = _apart_by_row(held, again) > TOLERANCE
    else:
        wrong = held.fillna("").astype(str).to_numpy() != again.fillna("").astype(str).to_numpy()
        if pd.api.types.is_bool_dtype(held) and name != "correct" and wrong.mean() <= FLIPS:
            return ""
    if not wrong.any():
        return ""
    was, now = held[wrong].iloc[0], again[wrong].iloc[0]
    return f"{name} differs in {wrong.sum()} of {len(held)} rows, for example {was!r}, measured again {now!r}"


def _apart_by_row(held: pd.Series, again: pd.Series) -> np.ndarray:
    """Absolute or relative, whichever is smaller; infinite where only one is finite, or they are infinite otherwise."""
    a, b = held.to_numpy(float), again.to_numpy(float)
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b) / np.maximum(1, np.abs(a))
    return np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.nan_to_num(apart, nan=np.inf))


def _apart(held: pd.DataFrame, again: pd.DataFrame) -> float:
    floats = held.select_dtypes("float").columns
    return max((float(_apart_by_row(held[name], again[name]).max(initial=0)) for name in floats), default=0.0)
