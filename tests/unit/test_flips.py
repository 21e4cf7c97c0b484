"""Which verdicts flip, on tables with a known truth; sentences say no more than what was tried."""

from __future__ import annotations

import re
from functools import partial

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

made = partial(answers, n=200, group="i")
NAMES = ["mini-pope", "mini-realworldqa", "mini-mathvista"]
NAMED = {name: {f"i{k}": item.uid for k, item in enumerate(load_benchmark(name, n=200).items)} for name in NAMES}


class World:
    """Tables by what is asked for; what is not among them is not there. Counts how often each is asked for."""

    def __init__(self, **tables: pd.DataFrame) -> None:
        self.tables, self.asked = tables, []

    def __call__(self, experiment: str, *, model: str, benchmark: str, n: int, **how) -> pd.DataFrame:
        self.asked.append((experiment, benchmark, sorted(how.items())))
        told = how.get("intervention") or "+".join(f"{key}={value}" for key, value in how.items() if key != "seed")
        found = self.tables.get(f"{experiment} {told}".strip())
        if found is None or not model.startswith("mini-llava-1.5"):
            raise NotThere(f"{experiment} {told}")
        first = found[found["item"].isin(found["item"].unique()[:n])]
        return first if experiment == "residual" else first.assign(item=first["item"].map(NAMED[benchmark]))


def usual(noisy: float = 0.5, **more: pd.DataFrame) -> World:
    """The tables of the reference: metrics, and answers that noise on the image brings down from 0.9."""
    gaussian = {f"answers sap:keys={keys},weights=gaussian": made(noisy) for keys in ("visual", "text")}
    return World(**{"residual": residual(), "answers none": made(0.9)} | gaussian | more)


def grid(world: World, names=tuple(NAMES)) -> pd.DataFrame:
    return choices.grid(Study(world, world, "mini-llava-1.5", "mini-pope", names, n=200))


def test_what_flips_is_what_differs_from_the_chapters():
    world = usual(**{"residual rank=erank": residual(ffn=(0.03, 0.02)), "residual rank=energy=0.9": residual()})
    rows = grid(world)
    ranks = rows[rows["family"] == "rank rule"]
    assert set(ranks["choice"]) == {"erank", "energy=0.9"}  # what is not there is left out
    turned = ranks[ranks["flipped"]]
    assert set(turned["choice"]) == {"erank"}
    assert {"C2b", "C6"} <= set(turned["column"])
    told = choices.flips(rows).set_index("claim")
    assert "rank rule (1 of 2)" in told.loc["C2b", "where"]
    assert told.loc["C1", "flip"] == 0


def test_a_unit_flips_nothing_here_and_the_reference_is_no_choice():
    rows = grid(usual())
    assert not rows.loc[rows["family"] == REFERENCE, "flipped"].any()
    assert not rows.loc[rows["choice"] == "bits", "flipped"].any()
    assert REFERENCE not in choices.flips(rows)["where"].str.cat()


def test_tables_are_asked_for_once():
    world = usual()
    grid(world)
    assert len(world.asked) == len(set(map(str, world.asked)))


def test_other_readings_come_from_their_own_table(monkeypatch):
    """The default costs forty points, noise in image rows nothing: there C7 holds, and the sentence names it."""
    monkeypatch.setitem(catalog.EXPERIMENTS, "readings", catalog.EXPERIMENTS["answers"])
    default, free = (
        "sap:keys=visual,weights=gaussian",
        "sap:keys=visual,queries=visual,weights=gaussian",
    )
    runs = [("none", 0, 0.9), (default, 0, 0.5), *((free, seed, 0.9) for seed in range(5))]
    table = pd.concat([made(right).assign(reading=reading, seed=seed) for reading, seed, right in runs])
    rows = grid(usual(**{"readings": table}))
    read = rows[rows["family"] == "reading of the replacement"]
    assert set(read["choice"]) == {"rows visual"}  # neither the untouched model nor the default
    assert read[read["claim"] == "C7"]["flipped"].all()
    told = choices.holding("C7", rows, "mini-llava-1.5")
    assert told.startswith("C7 holds in 3 of the ")
    assert "rows visual (C7 mini-pope" in told
    assert "mini-llava-1.5 gives" in told


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
        f"1 of the 3 verdicts flips: C7 a ({OPPOSITE} → holds under “image”)."
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
