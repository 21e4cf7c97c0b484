"""C7, reading by reading: from tables of the experiment `readings` to verdicts, and to what they come to in words.

Which reading is which is in `lostlib.readings`, the verdict is `noise_is_harmless`'s, as everywhere. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pandas as pd

from lostlib import benchmarks, stats
from lostlib.claims import rules
from lostlib.claims.verdicts import CERTAIN, HOLDS, TOLD
from lostlib.forms import Form
from lostlib.readings import FAMILY, JOIN, UNTOUCHED, USUAL, WEIGHTS

COLUMNS = [
    "model", "benchmark", "reading", "weights", "intervention", "same", "seeds", "untouched", "left", "low", "high",
    "loss", "status", "reason",
]  # fmt: skip


def cells(rows: pd.DataFrame, model: str, benchmark: str) -> pd.DataFrame:
    """One line for each reading of one model's table on one benchmark, in the order of the readings.

    Parameters
    ----------
    rows : DataFrame
        Of the experiment `readings`.
    model, benchmark : str
        As for `lostlib.results.obtain`.

    Returns
    -------
    DataFrame
        model, benchmark, reading (its name), weights, intervention, same (the run that the reading repeats by
        construction; "" for a run of its own), seeds, untouched (accuracy), left (share of the room above chance that
        is left, with low and high, its 95 % interval over pictures and seeds), loss (in accuracy), status and reason.
        The room and the loss are of the groups of questions that the untouched model can read; where there are none,
        left is nan.
    """
    asked = rows[~rows["pilot"]]
    before = asked[asked["reading"] == "none"].reset_index(drop=True)
    chance = benchmarks.chances(benchmark, len(before))
    found = []
    for keys, part in asked.groupby(["reading", "name"], sort=False):
        text, name = map(str, cast(tuple[str, str], keys))
        runs = [run.reset_index(drop=True) for _, run in part.groupby("seed")]
        names = [one for one in name.split(JOIN) if one != UNTOUCHED]
        if names and text == "none":
            runs *= rules.SEEDS  # the same in each
        for reading in names:
            verdict = rules.noise_is_harmless(before, runs, chance, benchmark)
            change, lost = (part.value for part in verdict.parts) if verdict.parts else (stats.UNKNOWN, stats.UNKNOWN)
            known = {
                "model": model, "benchmark": benchmark, "reading": reading, "intervention": text, "seeds": len(runs),
                "untouched": before["correct"].mean(), "left": 1 - lost.value, "low": 1 - lost.high,
                "high": 1 - lost.low, "loss": -change.value, "status": verdict.status, "reason": verdict.reason,
                "same": _same(text, reading),
            }  # fmt: skip
            kinds = WEIGHTS if text == "none" else [Form.parse(text).weights]
            found += [known | {"weights": kind} for kind in kinds]
    order = {name: k for k, name in enumerate([*FAMILY, *WEIGHTS])}
    made = pd.DataFrame(found, columns=COLUMNS)
    return made.sort_values(["weights", "reading"], key=lambda names: names.map(order), ignore_index=True)


def _same(text: str, reading: str) -> str:
    """The run that a reading without one of its own repeats; one of layers is a run of its own even so."""
    if "phase" not in FAMILY[reading] or (text != "none" and Form.parse(text).phase != "both"):
        return ""
    return UNTOUCHED if text == "none" else USUAL


def counted(found: pd.DataFrame) -> pd.DataFrame:
    """For each reading, in how many cells of model and benchmark C7 holds, does not, and cannot be told.

    Of gaussian weights; what repeats another run by construction is not counted. Columns: reading, holds, lost (fails
    or is opposite), unclear, left (the mean share of the room that is left).
    """
    own = found[(found["weights"] == WEIGHTS[0]) & (found["same"] == "") & found["status"].isin(TOLD)]
    held, certain = own["status"] == HOLDS, own["status"].isin(CERTAIN)
    counts = own.assign(holds=held, lost=certain & ~held, unclear=~certain).groupby("reading")
    table = counts.agg({"holds": "sum", "lost": "sum", "unclear": "sum", "left": "mean"})
    return table.reindex([reading for reading in FAMILY if reading in table.index]).rename_axis("reading").reset_index()


def answer(found: pd.DataFrame) -> list[str]:
    """In which readings C7 holds and in which it does not, in at most three sentences about what was measured.

    A cell is a model on a benchmark on which it has room; it can tell where the verdict is certain. In brackets: in how
    many of a reading's cells C7 holds, in the second sentence certainly does not, and how many there are.

    >>> about = {"model": "m", "benchmark": "b", "weights": "gaussian", "same": "", "left": 0.5}
    >>> found = [about | {"reading": r, "status": s} for r, s in [("image rows", "holds"), ("last row", "fails")]]
    >>> for sentence in answer(pd.DataFrame(found)): print(sentence)
    C7 holds in every cell that can tell when noise comes in image rows (1 of 1).
    C7 holds in none when noise comes in the last row (1 of 1).
    """
    counts = counted(found)
    told = counts[counts["holds"] + counts["lost"] > 0]
    always, never = told["lost"] == 0, told["holds"] == 0
    said = [
        _sentence("C7 holds in every cell that can tell when noise comes in", told[always], "holds"),
        _sentence("C7 holds in none when noise comes in", told[never], "lost"),
        _sentence("Model and benchmark decide when noise comes in", told[~always & ~never], "holds"),
    ]
    said = [sentence for sentence in said if sentence]
    return said or ["These items are too few to tell in any reading."]


def _sentence(words: str, counts: pd.DataFrame, column: str) -> str:
    """Each reading, with the cells that say so among all that have room; "" of no reading."""
    sums = counts[["holds", "lost", "unclear"]].sum(axis=1)
    each = [f"{SAID[r]} ({k} of {n})" for r, k, n in zip(counts["reading"], counts[column], sums, strict=True)]
    return f"{words} {_listed(each)}." if each else ""


SAID = {reading: reading for reading in FAMILY} | {
    USUAL: "all rows of all layers", "last row": "the last row", "first half": "the first half of the layers",
    "second half": "the second half of the layers", "free layers": "the layers that are free one by one",
    "share": "all rows with an even share of the mass", "prompt": "the prompt alone",
    "decoding": "generated tokens alone",
}  # fmt: skip
SAID |= {r: f"{rows} of {SAID[layers]}" for r in FAMILY for rows, _, layers in [r.partition(", ")] if layers}


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
