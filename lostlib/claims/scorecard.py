"""The scorecard: every claim, for each model and benchmark of which there are tables. No torch; nothing is measured.

1. `Shelf` finds the shipped tables of weights that are still the shipped ones; 2. `cells` asks each claim's rule about
them, and says `not run` where a table is wanting; 3. `by_model` puts a model's benchmarks together; 4. `long` lays all
cells out as rows, with p values adjusted for all tests on the page.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from lostlib import benchmarks, claims, paths, stats, tables
from lostlib.benchmarks import Choice
from lostlib.catalog import canonical
from lostlib.checkpoints import CARDS, ModelChoice
from lostlib.claims import Part, Verdict, not_run
from lostlib.report.glance import Line, Seen
from lostlib.tables import Key, Table

TAU = "10%"  # a sink's share of its energy in a sink dimension
VAR = "var:tau=10%,p=0.6,rho={rho}"
CUT = "knockout:keys={keys},tau=10%"
NOISE = "sap:keys={keys},weights={weights}"
DRAWN: dict[str, Any] = {"controls": ["noise_qkv"], "draws": 10}
OF_STREAM: dict[str, Callable[[pd.DataFrame], Verdict]] = {
    "C1": claims.attention_at_tolerance,
    "C2a": claims.ffn_innovates,
    "C2b": claims.ffn_leads,
    "C3": claims.attention_mixes,
    "C4": claims.noise_delta_innovates,
    "C6": claims.one_order,
}
OF_PICTURES = ("C7", "C8", "C9", "C10", "C11a", "C11b", "C12")


class Shelf:
    """The shipped tables, by what they are measurements of; those that were read are remembered.

    Parameters
    ----------
    folder : Path, optional
        Where they are; by default what the environment variable LOST_RESULTS names, or else the package's own.
    n : int, optional
        Read no more than the first n items of each.
    models : iterable of str, optional
        Only these; all by default.
    """

    def __init__(self, folder: Path | None = None, n: int | None = None, models: Iterable[str] | None = None) -> None:
        self.n, self.read = n, dict[Path, Table]()
        self.held: dict[tuple, tuple[Path, Key]] = {}
        weights, wanted = cache(_weights), None if models is None else set(models)
        for path in tables.shipped_tables(folder or paths.given(os.environ.get("LOST_RESULTS", paths.RESULTS))):
            try:
                key, about = tables.read_head(path)
            except tables.Damaged as error:
                print(f"{error}: it is left out", file=sys.stderr)
                continue
            if about.get("left_out"):
                continue  # it lacks items
            if (wanted is None or key.model in wanted) and key.weights in (weights(key.model), "unknown"):
                self.held[
                    _index(key.experiment, key.model, key.benchmark, key.intervention, key.seed, key.parameters)
                ] = (path, key)

    @property
    def models(self) -> list[str]:
        """Models with tables of answers, residual metrics or sinks, in the order of `checkpoints`; see `_plain`."""
        return self.every("answers", "residual", "sinks")

    def every(self, *experiments: str) -> list[str]:
        """Models with tables of one of these experiments, in the order of `checkpoints`; see `_plain`."""
        found = _plain({key.model for _, key in self.held.values() if key.experiment in experiments})
        return [name for name in CARDS if name in found] + sorted(found - set(CARDS))

    def benchmarks(self, experiment: str, model: str) -> list[str]:
        """Benchmarks on which a model was measured, in their usual order; see `_plain`."""
        found = {key.benchmark for _, key in self.held.values() if (key.experiment, key.model) == (experiment, model)}
        return sorted(_plain(found), key=lambda name: (list(benchmarks.RULES).index(Choice.parse(name).name), name))

    def get(
        self,
        experiment: str,
        model: str,
        benchmark: str,
        intervention: str = "none",
        seed: int = 0,
        **parameters: object,
    ) -> pd.DataFrame | None:
        """A table's rows, or None where there is none."""
        path, _ = self.held.get(_index(experiment, model, benchmark, intervention, seed, parameters), (None, None))
        if path is None:
            return None
        if path not in self.read:
            table = tables.read(path)
            self.read[path] = tables.first_items(table, self.n) if self.n else table
        return self.read[path].frame

    def ask(self, experiment: str, *, n: int, **asked: Any) -> pd.DataFrame:
        """The first n items of a table, for `claims.choices`; where there is none, or a shorter one, NotThere."""
        rows = self.get(experiment, **asked)
        if rows is None or len(items := rows["item"].unique()) < n:
            raise tables.NotThere(f"no table of {experiment} with {n} items: {asked}")
        return rows[rows["item"].isin(items[:n])]

    def seeds(self, model: str, benchmark: str, intervention: str) -> list[pd.DataFrame]:
        """Answers under an intervention, one run for each seed that was measured."""
        wanted: tuple = ("answers", model, benchmark, intervention, {})
        held = sorted(
            k.seed
            for _, k in self.held.values()
            if (k.experiment, k.model, k.benchmark, k.intervention, k.parameters) == wanted
        )
        found = (self.get("answers", model, benchmark, intervention, seed) for seed in held)
        return [frame for frame in found if frame is not None]


def _plain(found: set[str]) -> set[str]:
    """Names without those that add options to another one that was measured: the same thing, or a part, done otherwise.

    >>> sorted(_plain({"a", "a:dtype=float16", "b:max_pixels=9"}))
    ['a', 'b:max_pixels=9']
    """
    return {name for name in found if (plain := name.partition(":")[0]) == name or plain not in found}


def _weights(model: str) -> str:
    return ModelChoice.parse(model).weights


def _index(experiment: str, model: str, benchmark: str, intervention: str, seed: int, parameters: dict) -> tuple:
    return experiment, model, benchmark, *map(repr, canonical(experiment, intervention, seed, parameters, model))


# --- the cells --------------------------------------------------------------------------------------------------------


def cells(shelf: Shelf) -> list[Verdict]:
    """One verdict for each claim, model and benchmark; a claim that a model was not measured for has one, `not run`.

    What a claim says of pictures cannot be measured in a language model that sees none.
    """
    found = [cell for model in shelf.models for cell in _of_model(shelf, model)]
    lacking = [
        _lacking(claim, model)
        for model in shelf.models
        for claim in claims.CLAIMS
        if not any((cell.claim, cell.model) == (claim, model) for cell in found)
    ]
    order = {claim: k for k, claim in enumerate(claims.CLAIMS)}
    return sorted(found + lacking, key=lambda cell: order[cell.claim])  # stable: models stay in their order


def _lacking(claim: str, model: str) -> Verdict:
    card = ModelChoice.parse(model).card
    if claim in OF_PICTURES and card and card.visual_tokens == "0":
        return replace(not_run(claim, model), status=claims.UNMEASURABLE, reason="it sees no pictures")
    return not_run(claim, model)


def _of_model(shelf: Shelf, model: str) -> list[Verdict]:
    noise = list(_noise(shelf, model))
    most = [claims.majority(noise).of(model)] if any(cell.status != claims.NOT_RUN for cell in noise) else []
    return [*_residual(shelf, model), *noise, *most, *_sums(shelf, model), *_sinks(shelf, model)]


def _residual(shelf: Shelf, model: str) -> Iterator[Verdict]:
    """C1 to C6. Of Noise QKV a table of its own has several draws; without it the one of the others must do."""
    for benchmark in shelf.benchmarks("residual", model):
        rows = shelf.get("residual", model, benchmark)
        drawn = shelf.get("residual", model, benchmark, **DRAWN)
        if rows is not None:
            for rule in OF_STREAM.values():
                yield rule(rows).of(model, benchmark)
        several = rows if drawn is None else drawn
        if several is not None:
            yield claims.noise_qkv_innovates(several).of(model, benchmark)


def _noise(shelf: Shelf, model: str) -> Iterator[Verdict]:
    """C7."""
    for benchmark, before in _answered(shelf, model):
        runs = shelf.seeds(model, benchmark, NOISE.format(keys="visual", weights="gaussian"))
        yield claims.noise_is_harmless(before, runs, _chances(benchmark, before), benchmark).of(model, benchmark)


def _sums(shelf: Shelf, model: str) -> Iterator[Verdict]:
    """C9."""
    for benchmark, before in _answered(shelf, model):
        if Choice.parse(benchmark).rules.sums:
            text = shelf.seeds(model, benchmark, NOISE.format(keys="text", weights="gaussian"))
            yield claims.text_is_needed(before, text, _chances(benchmark, before), benchmark).of(model, benchmark)


def _sinks(shelf: Shelf, model: str) -> Iterator[Verdict]:
    """C10; where it holds or sinks were planted also C11 and C12."""
    card = ModelChoice.parse(model).card
    planted, found = bool(card and card.planted_in), list[Verdict]()
    for benchmark in shelf.benchmarks("sinks", model):
        tokens = shelf.get("sinks", model, benchmark, tau=TAU)
        if tokens is not None:
            found.append(claims.sinks_exist(tokens, planted).of(model, benchmark))
    yield from found
    if not found:
        return
    for benchmark, before in _answered(shelf, model):
        if not planted and claims.combined(found).status != claims.HOLDS:
            yield from (claims.without_sinks(one, benchmark).of(model, benchmark) for one in ("C11a", "C11b", "C12"))
            continue
        chance = _chances(benchmark, before)
        cut, others = (shelf.seeds(model, benchmark, CUT.format(keys=keys)) for keys in ("sinks", "random"))
        if cut:
            yield claims.sinks_are_idle(before, cut[0], chance, benchmark, planted).of(model, benchmark)
        if cut and others:
            yield claims.random_cuts_cost_more(before, cut[0], others, chance, benchmark, planted).of(model, benchmark)
        moved = shelf.get("answers", model, benchmark, VAR.format(rho=claims.rho_for(benchmark)))
        if moved is not None:
            yield claims.var_helps(before, moved, chance, benchmark, planted).of(model, benchmark)


def _chances(benchmark: str, rows: pd.DataFrame) -> list[float]:
    """What guessing earns in each row."""
    return benchmarks.chances(benchmark, len(rows))


def _answered(shelf: Shelf, model: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Benchmarks that the untouched model has answered."""
    for benchmark in shelf.benchmarks("answers", model):
        if (before := shelf.get("answers", model, benchmark)) is not None:
            yield benchmark, before


# --- as tables --------------------------------------------------------------------------------------------------------


def by_model(found: Iterable[Verdict]) -> dict[tuple[str, str], Verdict]:
    """(claim, model) -> the verdict over that model's benchmarks."""
    parts = groupby(found, key=lambda cell: (cell.claim, cell.model))
    return {key: claims.combined(list(group)) for key, group in parts}


def headline(found: Sequence[Verdict]) -> str:
    """What stands in a cell of the scorecard: the first estimate, of several benchmarks the lowest, or the reason."""
    leads = [cell.parts[0] for cell in found if cell.status in claims.TOLD and cell.parts]
    if not leads:
        return claims.combined(found).reason
    lowest = min(leads, key=lambda part: part.value.value)
    return lowest.interval + (f", lowest of {len(leads)}" if len(leads) > 1 else "")


def lines(found: Sequence[Verdict], models: Sequence[str], flips: pd.DataFrame) -> list[Line]:
    """The claims at a glance: each model's verdict over its benchmarks, and what they come to.

    `flips` counts choices by claim, as `claims.choices.flips` does.
    """
    every, firm = by_model(found), {row["claim"]: row for row in flips.to_dict("records")}
    rows = []
    for claim, about in claims.CLAIMS.items():
        own = [every[claim, model] for model in models]
        seen = [
            Seen(cell.status, told(cell, [c for c in found if c.claim == claim and c.model == cell.model]))
            for cell in own
        ]
        end = holds_in([cell.status for cell in own])
        if claim in firm:
            end += "; flips under {flip} of {choices} choices".format_map(firm[claim])
        rows.append(Line(claim, about.text, about.published, seen, end))
    return rows


def told(cell: Verdict, parts: Sequence[Verdict]) -> str:
    """What stands behind a cell of the grid, in a line."""
    split = cell.reason if len({part.status for part in parts if part.status in claims.TOLD}) > 1 else headline(parts)
    return f"{cell.claim}, {cell.model}: {cell.status}" + (f" ({split})" if cell.status != claims.NOT_RUN else "")


def holds_in(statuses: Sequence[str]) -> str:
    """In how many of those that can tell a claim holds, and what it does in the others.

    >>> holds_in(["holds", "opposite", "opposite", "undecided", "not run"])
    'holds in 1 of 3, opposite in 2 (undecided in 1)'
    """
    able = [status for status in statuses if status in claims.CERTAIN]
    others = [f"{status} in {able.count(status)}" for status in claims.CERTAIN[1:] if status in able]
    told = [f"{claims.HOLDS} in {able.count(claims.HOLDS)} of {len(able)}", *others] if able else ["none can tell"]
    doubt = statuses.count(claims.UNDECIDED)
    return ", ".join(told) + (f" ({claims.UNDECIDED} in {doubt})" if doubt else "")


def long(found: Iterable[Verdict]) -> pd.DataFrame:
    """One row for each estimate, one for a cell without any.

    The family of tests is every cell with a p of its own: a cell has one, that of its weakest estimate, and Holm's
    adjustment runs over all of them together (`p_holm`, of the cell).
    """
    kept = list(found)
    rows = []
    for cell, p_holm in zip(kept, stats.holm([cell.p for cell in kept]), strict=True):
        about = {"claim": cell.claim, "model": cell.model, "benchmark": cell.benchmark, "status": cell.status}
        tail = {"p": cell.p, "p_holm": p_holm, "reason": cell.reason}
        none = {"estimate": "–", "measured": cell.reason, "sign": "–", "size": "–"}
        rows += [about | _row(part, cell.benchmark) | tail for part in cell.parts] or [about | none | tail]
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = [
    "claim", "model", "benchmark", "status", "estimate", "measured", "value", "low", "high", "published", "sign",
    "size", "p", "p_holm", "reason",
]  # fmt: skip


def _row(part: Part, benchmark: str) -> dict[str, object]:
    name = part.name.removeprefix(benchmark).removeprefix(", ") or "change of accuracy"
    about = {"estimate": name, "measured": part.interval, **part.value._asdict()}
    return about | {"published": part.published, "sign": part.sign, "size": part.size}


def changes(shelf: Shelf, interventions: dict[str, str]) -> pd.DataFrame:
    """Change of accuracy under each intervention (label -> text), mean over seeds: one row a model and benchmark.

    Where the baseline is not above chance there is a row without a value, and `measurable` is False.
    """
    rows = []
    for model in shelf.models:
        for benchmark, before in _answered(shelf, model):
            able = not claims.at_chance(before, _chances(benchmark, before))
            for label, text in interventions.items():
                if runs := shelf.seeds(model, benchmark, text):
                    value = claims.change(benchmark, runs, before).value if able else stats.UNKNOWN
                    about = {"model": model, "benchmark": benchmark, "intervention": label, "measurable": able}
                    rows.append(about | {"seeds": len(runs), "baseline": before["correct"].mean(), **value._asdict()})
    return pd.DataFrame(
        rows, columns=["model", "benchmark", "intervention", "measurable", "seeds", "baseline", "value", "low", "high"]
    )


def alike(estimates: pd.DataFrame, models: Sequence[str]) -> str:
    """Which claims have one verdict in all of these models, on the benchmarks that all can be measured on.

    `estimates` are rows of `long`.
    """
    known = estimates[estimates["model"].isin(models) & estimates["status"].isin(claims.TOLD)]
    cells = known.groupby(["claim", "benchmark"], sort=False).agg({"model": "nunique", "status": "nunique"})
    shared = cells[cells["model"] == len(models)]["status"].groupby("claim", sort=False).max()
    groups = {"one verdict": shared[shared == 1].index, "more than one": shared[shared > 1].index}
    told = [f"{word} on {', '.join(found)}" for word, found in groups.items() if len(found)]
    named = f"{', '.join(models[:-1])} and {models[-1]}"
    return f"Where all can be measured, {named} have {'; '.join(told) or 'no verdict in common'}."


def beside(estimates: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """The estimates that all of these models have, of the rows of `long`.

    One row for each claim, benchmark and estimate, which are the index; columns are pairs of a column of `long` and a
    model, so that `beside(...)["value"]` has a column for each model.
    """
    known = estimates[estimates["value"].notna()].set_index(["claim", "benchmark", "estimate"])
    parts = {name: known[known["model"] == name] for name in models}
    return pd.concat(parts, axis=1, join="inner").swaplevel(axis=1)
