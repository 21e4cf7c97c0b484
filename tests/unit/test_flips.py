"""Which verdicts flip, on tables with a known truth; sentences say no more than what was tried."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from test_claims import answers, residual

from lostlib import catalog, claims
from lostlib.benchmarks import load_benchmark
from lostlib.claims import choices
from lostlib.claims.choices import REFERENCE
from lostlib.claims.study import Study
from lostlib.tables import NotThere

N = 60
MODEL = "mini-llava-1.5"
USUAL, FREE = "sap:keys=visual,weights=gaussian", "sap:keys=visual,queries=visual,weights=gaussian"
NAMED = {f"i{k}": item.uid for k, item in enumerate(load_benchmark("mini-pope", n=N).items)}


def made(accuracy: float) -> pd.DataFrame:
    """Answers of which this share is right."""
    rows = answers(accuracy, n=N, group="i")
    gold = np.where(np.arange(N) % 2, "yes", "no")
    said = np.where(rows["correct"], gold, np.where(gold == "yes", "no", "yes"))
    return rows.assign(item=rows["item"].map(NAMED), gold=gold, raw=said, parsed=said)


class World:
    """Tables by what is asked for; what is not among them is not there."""

    def __init__(self, **tables: pd.DataFrame) -> None:
        self.tables = tables

    def __call__(self, experiment: str, *, model: str, benchmark: str, n: int, **how) -> pd.DataFrame:
        told = how.get("intervention") or "+".join(f"{key}={value}" for key, value in how.items() if key != "seed")
        found = self.tables.get(f"{experiment} {told}".strip())
        if found is None or not model.startswith(MODEL):
            raise NotThere(f"{experiment} {told}")
        return found[found["item"].isin(found["item"].unique()[:n])]


@pytest.fixture(scope="module")
def world() -> World:
    """Noise in all rows costs forty points, noise in image rows nothing; one rank rule turns the FFN's RID round."""
    runs = [("none", 0, 0.9), (USUAL, 0, 0.5), *((FREE, seed, 0.9) for seed in range(5))]
    readings = pd.concat([made(right).assign(reading=reading, seed=seed, pilot=False) for reading, seed, right in runs])
    return World(**{
        "residual": residual(), "residual rank=erank": residual(ffn=(0.03, 0.02)),
        "residual rank=energy=0.9": residual(), "readings": readings, "answers none": made(0.9),
        f"answers {USUAL}": made(0.5), f"answers {USUAL.replace('visual', 'text')}": made(0.5),
    })  # fmt: skip


@pytest.fixture(scope="module")
def rows(world: World) -> pd.DataFrame:
    kept = {REFERENCE, "rank rule", "MixIG", "reading of the replacement"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choices, "FAMILIES", [family for family in choices.FAMILIES if family.name in kept])
        patch.setitem(catalog.EXPERIMENTS, "readings", catalog.EXPERIMENTS["answers"])
        return choices.grid(Study(world, world, MODEL, "mini-pope", ["mini-pope"], n=N))


def test_what_flips_is_what_differs_from_the_chapters(rows: pd.DataFrame):
    ranks = rows[rows["family"] == "rank rule"]
    assert set(ranks["choice"]) == {"erank", "energy=0.9"}  # what is not there is left out
    turned = ranks[ranks["flipped"]]
    assert set(turned["choice"]) == {"erank"}
    assert {"C2b", "C6"} <= set(turned["column"])
    told = choices.flips(rows).set_index("claim")
    assert "rank rule (1 of 2)" in told.loc["C2b", "where"]
    assert told.loc["C1", "flip"] == 0


def test_a_unit_flips_nothing_here_and_the_reference_is_no_choice(rows: pd.DataFrame):
    assert not rows.loc[rows["family"] == REFERENCE, "flipped"].any()
    assert not rows.loc[rows["choice"] == "bits", "flipped"].any()
    assert REFERENCE not in choices.flips(rows)["where"].str.cat()


def test_other_readings_come_from_their_own_table(rows: pd.DataFrame):
    """C7 holds in one of them, and the sentence names it."""
    read = rows[rows["family"] == "reading of the replacement"]
    assert set(read["choice"]) == {"rows visual"}  # neither the untouched model nor the usual reading
    assert read[read["claim"] == "C7"]["flipped"].all()
    told = choices.holding("C7", rows, MODEL)
    assert told.startswith("C7 holds in 1 of the ")
    assert "rows visual (C7 mini-pope)" in told


@pytest.mark.slow
def test_all_families_give_verdicts_where_there_are_tables(world: World):
    rows = choices.grid(Study(world, world, MODEL, "mini-pope", ["mini-pope"], n=N))
    assert {"layers", "other weights", "arithmetic", "prompt", "reading", "items"} <= set(rows["family"])
    assert set(rows["status"]) <= set(claims.STATUSES)
    assert not rows.loc[rows["choice"] == "to the letter", "flipped"].any()  # answers are single words


def rows_of(*cells: tuple[str, str, str, str]) -> pd.DataFrame:
    """(family, choice, column, status) of C7, of which the reference is the first."""
    usual = {column: status for family, _, column, status in cells if family == REFERENCE}
    lines = [
        {"family": family, "choice": choice, "claim": "C7", "column": column, "status": status, "usual": usual[column],
         "flipped": status != usual[column], "value": np.nan, "low": np.nan, "high": np.nan, "measured": ""}
        for family, choice, column, status in cells
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=choices.COLUMNS)


OPPOSITE, HOLDS = claims.OPPOSITE, claims.HOLDS
TRIED = rows_of(
    (REFERENCE, REFERENCE, "C7 a", OPPOSITE),
    (REFERENCE, REFERENCE, "C7 b", OPPOSITE),
    ("rows", "image", "C7 a", HOLDS),
    ("rows", "image", "C7 b", OPPOSITE),
    ("rows", "text", "C7 a", OPPOSITE),
    ("seeds", "seed 1", "C7 a", OPPOSITE),
)


def test_sentences_count_and_name_what_was_tried():
    counted = choices.flips(TRIED)
    assert counted.to_dict("records") == [{"claim": "C7", "choices": 3, "flip": 1, "where": "rows (1 of 2)"}]
    assert choices.sentence("C7", counted, "m") == "C7 flips under 1 of the 3 choices tried on m: rows (1 of 2)."
    assert choices.sentence("C9", counted, "m") == "No choice that bears on C9 was tried on m."
    assert choices.holding("C7", TRIED, "m") == (
        "C7 holds in 1 of the 6 verdicts that m gives: image (C7 a). Varied were: rows, seeds."
    )
    assert choices.moved("rows", TRIED, "m") == (
        "Under the choices tried on m that concern rows, "
        f"1 of the 3 verdicts flips: C7 a ({OPPOSITE} → holds) under “image”."
    )
    assert "none of the 1 verdict flips" in choices.moved("seeds", TRIED, "m")
    assert choices.moved("prompt", TRIED, "m") == "No choice that concerns prompt was tried on m."


@pytest.mark.parametrize("drop", ["image", "text", "seed 1"])
def test_no_sentence_speaks_of_what_was_not_tried(drop: str):
    fewer = TRIED[TRIED["choice"] != drop]
    told = " ".join([
        choices.sentence("C7", choices.flips(fewer), "m"),
        choices.holding("C7", fewer, "m"),
        *(choices.moved(family, fewer, "m") for family in fewer["family"].unique()),
    ])  # fmt: skip
    assert drop not in told
    assert re.search(r"(of|none of) the \d+ verdict", told)
