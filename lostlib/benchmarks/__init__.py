"""Benchmarks: rows -> items, prompts, answer extraction, scores.

Each benchmark is a small file; a mini benchmark is its namesake's file fed with rows of the mini world. Nothing here
needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from lostlib import stats
from lostlib.benchmarks import mathvista, mini, pope, realworldqa
from lostlib.benchmarks.items import Item
from lostlib.names import nearest

if TYPE_CHECKING:
    from datasets import Dataset

SIZE = 1000  # items of a mini benchmark when n is not given
NAMESAKES: dict[str, ModuleType] = {"mini-pope": pope, "mini-realworldqa": realworldqa, "mini-mathvista": mathvista}
VERSIONS = dict.fromkeys(NAMESAKES, "1")  # raised whenever an item, prompt or answer changes

__all__ = ["Benchmark", "Item", "load_benchmark"]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's items and how they are scored."""

    name: str
    version: str
    seed: int
    rows: list[dict[str, Any]]
    items: tuple[Item, ...]
    rules: ModuleType

    def __repr__(self) -> str:
        return f"Benchmark({self.name} version {self.version}, seed {self.seed}, {len(self.items)} items)"

    @property
    def dataset(self) -> Dataset:
        """The rows as a `datasets.Dataset`, images as its Image feature."""
        from datasets import Dataset, Image

        made = Dataset.from_list(self.rows)
        for column in ("image", "decoded_image"):
            if column in made.column_names and not isinstance(self.rows[0][column], str):
                made = made.cast_column(column, Image())
        return made

    @property
    def chance(self) -> float:
        """Expected accuracy of guessing: one over the options, one half for yes or no, 0 for numbers."""
        return float(np.mean([1 / len(i.options) if i.options else 0.5 * (i.kind == "yesno") for i in self.items]))

    def parse(self, items: Sequence[Item], answers: Sequence[str]) -> list[str | None]:
        """The answer given in each text, by this benchmark's extractor; None where there is none."""
        if len(items) != len(answers):
            raise ValueError(f"{len(items)} items but {len(answers)} answers")
        return [self.rules.EXTRACTOR(answer, item.options) for item, answer in zip(items, answers, strict=True)]

    def score(self, items: Sequence[Item], answers: Sequence[str]) -> dict[str, Any]:
        """Scores of raw answers: fractions in [0, 1] with 95 % intervals by bootstrap over images.

        Keys: ``accuracy`` and ``accuracy/<group>`` for each group of the benchmark, the benchmark's own scores (POPE:
        f1, precision, recall, yes_ratio), and the counts ``n`` and ``n_unparsed``. What cannot be parsed is wrong.
        """
        parsed = self.parse(items, answers)
        right = np.array([p == item.answer for p, item in zip(parsed, items, strict=True)])
        clusters = np.array([item.cluster for item in items])
        groups = np.array([item.meta[self.rules.GROUP] for item in items])
        scores: dict[str, Any] = {"accuracy": stats.mean(right, clusters)}
        for group in sorted(set(groups)):
            scores[f"accuracy/{group}"] = stats.mean(right[groups == group], clusters[groups == group])
        if hasattr(self.rules, "extra_scores"):
            scores |= self.rules.extra_scores(items, parsed)
        return scores | {"n": len(items), "n_unparsed": sum(p is None for p in parsed)}


def check_name(name: str) -> None:
    """Refuse a benchmark we do not have, naming the nearest one."""
    if name not in NAMESAKES:
        raise ValueError(f"unknown benchmark {name!r}; there are {', '.join(NAMESAKES)}{nearest(name, NAMESAKES)}")


def load_benchmark(name: str, n: int | None = None, seed: int = 0) -> Benchmark:
    """Load a benchmark.

    Parameters
    ----------
    name : str
        ``"mini-pope"``, ``"mini-realworldqa"`` or ``"mini-mathvista"``.
    n : int, optional
        Items; 1000 by default. The first k items are the same for every n >= k.
    seed : int
        A new seed generates new test items.

    >>> load_benchmark("mini-pope", n=2).items[0].prompt
    'Is there a green square in the image?'
    """
    check_name(name)
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    rows = mini.rows(name, n or SIZE, seed)
    rules = NAMESAKES[name]
    return Benchmark(name, VERSIONS[name], seed, rows, tuple(rules.to_item(row) for row in rows), rules)
