"""The one door of chapters: a table that is shipped, or else one that is measured now. No torch before it measures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from lostlib import paths, report
from lostlib.tables import Key, Table, first_items, held, write


def obtain(
    experiment: str, *, model: str, benchmark: str, n: int, intervention: str = "none", seed: int = 0,
    device: str = "cpu", **parameters: Any,
) -> Table:  # fmt: skip
    """A table for a chapter: shipped where a shipped one has this key, measured (and it says so) otherwise.

    Parameters
    ----------
    experiment : str
        One of `lostlib.catalog.EXPERIMENTS`.
    model, benchmark : str
        As for `load_model` and `load_benchmark`, with all that belongs to them in the text.
    n : int
        Items; a shipped table with more serves its first n.
    intervention, seed
        As for `intervene`.
    device : str
        Where to measure, when measuring is needed.
    parameters
        The experiment's own, for example ``rank="erank"``.
    """
    wanted = Key.of(experiment, model, benchmark, n, intervention, seed, parameters)
    folder = paths.given(os.environ.get("LOST_RESULTS", paths.RESULTS))
    if there := held(wanted, folder):
        found = first_items(there, n)
    else:
        from lostlib.experiments import measure

        found = measure.measure(
            experiment, model=model, benchmark=benchmark, n=n, intervention=intervention, seed=seed, device=device,
            **parameters,
        )  # fmt: skip
        # `make tables`: what the chapters ask for becomes what is shipped
        if os.environ.get("LOST_RECORD") and not found.left_out:
            write(found, folder)
    if found.origin == "measured":
        print(f"measured now: {experiment} of {model} on {benchmark}, {wanted.intervention}, seed {seed}, {n} items")
    if found.left_out:
        print(f"it lacks {len(found.left_out)} items, for example {next(iter(found.left_out.items()))}")
    return found


class Reader:
    """A chapter's tables: asked for with what is usual in it, and remembered for its last cell."""

    def __init__(self, **usual: Any) -> None:
        self.usual = usual
        self.read: list[Table] = []

    def __call__(self, experiment: str, **asked: Any) -> pd.DataFrame:
        """The rows of one table, see `obtain`."""
        self.read.append(obtain(experiment, **self.usual | asked))
        return self.read[-1].frame

    def over_seeds(self, seeds: int, **asked: Any) -> pd.DataFrame:
        """Answers, each item's `correct` and `unparsed` (nothing could be read) as means over seeds 0, 1, ….

        All else, and `right`, is the first seed's.
        """
        runs = [self("answers", seed=seed, **asked) for seed in range(seeds)]
        right = np.mean([run["correct"].to_numpy(float) for run in runs], axis=0)
        unparsed = np.mean([run["parsed"].isna() for run in runs], axis=0)
        return runs[0].assign(correct=right, unparsed=unparsed, right=runs[0]["correct"])


def close(chapter: str, tables: Iterable[Table]) -> None:
    """End a chapter: which tables it stands on, where they came from and how long they took."""
    tables = list(tables)
    print(sources(tables))
    report.say(f"seconds_{chapter}", sum(table.about["seconds"] for table in tables))
    report.provenance([table.manifest for table in tables])


def sources(tables: Iterable[Table]) -> str:
    """One sentence: how many of these tables were shipped and how many were measured now."""
    origins = Counter(table.origin for table in tables)
    return ", ".join(f"{count} table{'s' * (count > 1)} {origin}" for origin, count in sorted(origins.items())) + "."
