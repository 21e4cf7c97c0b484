"""Readings: the same items, asked untouched and under every reading of SAP on visual keys.

One process holds the model. A batch is encoded once, its pictures pass the vision tower once, the readings of one seed
share their draws, and each begins where it changes something, so it costs a part of the decoder alone. Every answer is
the one that the experiment `answers` has under the same intervention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lostlib.benchmarks import Benchmark, Item
from lostlib.experiments.answers import marked
from lostlib.experiments.rows import LEFT_OUT, gather
from lostlib.interventions import Sap, intervene
from lostlib.models import Batch, LostModel, Reply, keyed_random
from lostlib.models.kept import KeptPrompt
from lostlib.readings import UNTOUCHED, WEIGHTS, family, first_free, single

COLUMNS = ["item", "cluster", "group", "gold", "name", "reading", "seed", "answer", "correct", "tokens"]
ONE_WORD = 2  # tokens of an answer of one token, which the end token follows


class Run(NamedTuple):
    """One way to ask everything; runs of one seed follow one another, so that they share their draws."""

    seed: int
    reading: str
    name: str


def reading_rows(
    model: LostModel,
    benchmark: Benchmark,
    pilot: Benchmark | None = None,
    seed: int = 0,
    seeds: int = 5,
    batch_size: int = 64,
    work: Path | None = None,
) -> pd.DataFrame:
    """Greedy answers untouched and under every reading of SAP on visual keys, see `lostlib.readings`.

    Parameters
    ----------
    model : LostModel
    benchmark : Benchmark
    pilot : Benchmark, optional
        Other items of the same kind. By them is decided from which layer on replacement is free, and whether all
        answers are of one token. Without them no layer counts as free, and answers count as long.
    seed, seeds : int
        Gaussian weights are drawn with so many seeds, from the first on; permuted weights with the first alone.
    batch_size : int
        Items at once, to begin with.
    work : Path, optional
        Folder of finished shards: with one, a run that was killed goes on where it was.

    Returns
    -------
    pandas.DataFrame
        A row for each item and run, items in the benchmark's order: item, cluster, group (the benchmark's category),
        gold, name (of the reading, or all its names), reading (the intervention), seed, answer (what the model said),
        correct, pilot. The last is True for the items of the pilot, which stand at the end, untouched and with a
        single layer replaced. Items that could not be asked have no rows; ``attrs["left_out"]`` says why.
    """
    reported = {item.uid for item in benchmark.items}
    others = [item for item in (pilot.items if pilot else ()) if item.uid not in reported]
    alone = {"none": UNTOUCHED} | {single(layer): f"layer {layer}" for layer in range(model.n_layers)}
    tried = _asked(model, benchmark, others, _runs(alone, range(seed, seed + 1)), batch_size, work) if others else None
    if tried is None:
        named = family(model.n_layers)
    else:
        short = bool((tried["tokens"][tried["reading"] == "none"] <= ONE_WORD).all())
        named = family(model.n_layers, first_free(tried, model.n_layers), short)
    rows = _asked(model, benchmark, benchmark.items, _runs(named, range(seed, seed + seeds), WEIGHTS), batch_size, work)
    parts = [rows.assign(pilot=False)] + ([] if tried is None else [tried.assign(pilot=True)])
    frame = pd.concat(parts, ignore_index=True).drop(columns="tokens")
    frame.attrs[LEFT_OUT] = {uid: why for part in parts for uid, why in part.attrs[LEFT_OUT].items()}
    return frame


def _runs(named: Mapping[str, str], seeds: Sequence[int], weights: Sequence[str] = WEIGHTS[:1]) -> list[Run]:
    """The untouched run, in which nothing is random, and every reading with every seed, seed by seed."""
    runs = [Run(0, "none", named["none"])]
    for seed in seeds:
        for kind in weights if seed == seeds[0] else weights[:1]:
            runs += [Run(seed, _with(kind, text), name) for text, name in named.items() if text != "none"]
    return runs


def _with(weights: str, reading: str) -> str:
    return str(replace(Sap.parse(reading), weights=weights))


def _asked(
    model: LostModel,
    benchmark: Benchmark,
    items: Sequence[Item],
    runs: Sequence[Run],
    batch_size: int,
    work: Path | None,
) -> pd.DataFrame:
    """Rows of every run for these items, and how many tokens each answer has."""

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        batch, kept, frames = model.encode(part), KeptPrompt(model), []
        with model.seeing_once():
            for seed, same in groupby(runs, key=lambda run: run.seed):
                with keyed_random.remembering():
                    for run in same:
                        with intervene(model, run.reading, seed), _beginning(kept, run, batch):
                            replies = model.reply(batch, benchmark.max_new_tokens)
                        frames.append(_rows(benchmark, part, run, replies))
        return pd.concat(frames, ignore_index=True)

    about = repr([*runs, benchmark.max_new_tokens])
    return gather(items, measured, batch_size, f"{benchmark.name}, {len(runs)} runs", work, about=about)


def _beginning(kept: KeptPrompt, run: Run, batch: Batch) -> AbstractContextManager[None]:
    """The untouched run comes first and is kept; the others begin where they change something."""
    return kept.keeping() if run.reading == "none" else kept.from_where(*Sap.parse(run.reading).begins(batch.visual))


def _rows(benchmark: Benchmark, items: Sequence[Item], run: Run, replies: Sequence[Reply]) -> pd.DataFrame:
    found = marked(benchmark, items, [reply.raw for reply in replies]).rename(columns={"raw": "answer"})
    return found.assign(**run._asdict(), tokens=[reply.answer_tokens for reply in replies])[COLUMNS]
