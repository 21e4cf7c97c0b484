"""A benchmark's items, and what a model's answers to them come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lostlib.benchmarks import hub, prompts, scoring
from lostlib.benchmarks.items import Item
from lostlib.benchmarks.rules import Rules
from lostlib.benchmarks.scoring import Judge, Mark

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's items and how they are scored.

    version   of our items; also says the variant and the prompts where they are not the default ones
    seed      of the subset, or of the items themselves for a mini benchmark
    origin    where the rows are from: data set id, revision, configs and splits, or a folder
    """

    name: str
    version: str
    seed: int
    rows: list[dict[str, Any]]
    items: tuple[Item, ...]
    rules: Rules
    origin: str = "mini world"
    style: prompts.Style = prompts.DEFAULT

    def __repr__(self) -> str:
        return f"Benchmark({self.name} version {self.version}, seed {self.seed}, {len(self.items)} items)"

    @property
    def dataset(self) -> Dataset:
        """The rows as a `datasets.Dataset`, images as its Image feature."""
        from datasets import Dataset, Image

        plain = [{k: v.value if isinstance(v, hub.Stored) else v for k, v in row.items()} for row in self.rows]
        made = Dataset.from_list(plain)
        for column in self.rules.images:
            if column in made.column_names:
                made = made.cast_column(column, Image())
        return made

    @property
    def chance(self) -> float:
        """Expected accuracy of guessing: one over the options, one half for yes or no, 0 for numbers."""
        return float(np.mean(list(self.chances.values())))

    @property
    def chances(self) -> dict[str, float]:
        """The same for each item, by its uid."""
        return {i.uid: 1 / i.guesses if i.guesses else 0.0 for i in self.items}

    @property
    def max_new_tokens(self) -> int:
        """Tokens an answer may need under this benchmark's prompts."""
        return self.rules.tokens.get(self.style.profile, self.rules.tokens["default"])

    def mark(
        self, items: Sequence[Item], answers: Sequence[str], extractor: str | None = None, judge: Judge | None = None
    ) -> list[Mark]:
        """For each raw answer what is read from it (None where nothing can be) and whether that is right.

        Parameters
        ----------
        items : sequence of Item
        answers : sequence of str
            What the model said, one answer an item.
        extractor : str, optional
            A name of `extractors.EXTRACTORS` to read with, for the kinds of items it is for; ours by default.
        judge : callable, optional
            ``judge(item, answer) -> str``: the short answer in a long one, for benchmarks whose published numbers use a
            judge (MathVista).
        """
        if len(items) != len(answers):
            raise ValueError(f"{len(items)} items but {len(answers)} answers")
        if extractor is not None:
            scoring.check_extractor(extractor, items)
        if judge is not None and self.rules.judged is None:
            raise ValueError(f"{self.name} is scored without a judge")

        def read(item: Item, answer: str) -> Mark:
            if item.fault:
                return Mark(None, False)
            if judge is not None and self.rules.judged is not None:
                return self.rules.judged(item, answer, judge)
            return self.rules.mark(item, answer, extractor)

        return [read(item, answer) for item, answer in zip(items, answers, strict=True)]

    def parse(self, items: Sequence[Item], answers: Sequence[str], extractor: str | None = None) -> list[str | None]:
        """The answer given in each text; None where there is none."""
        return [mark.parsed for mark in self.mark(items, answers, extractor)]

    def score(
        self, items: Sequence[Item], answers: Sequence[str], extractor: str | None = None, judge: Judge | None = None
    ) -> dict[str, Any]:
        """Scores of raw answers: fractions in [0, 1] with 95 % intervals by bootstrap over images.

        Keys: ``accuracy``, ``accuracy/<value>`` for each value of the benchmark's group, ``accuracy/<name>=<value>``
        for its other breakdowns, the benchmark's own scores (see ``extra_scores`` of its file), and the counts ``n``
        and ``n_unparsed``. What cannot be parsed is wrong. Parameters as for `mark`.

        >>> from lostlib.benchmarks import load_benchmark
        >>> asked = load_benchmark("mini-pope", n=4)
        >>> scores = asked.score(asked.items, ["yes", "no", "maybe", "Yes."])
        >>> scores["n"], scores["n_unparsed"]
        (4, 1)
        """
        marks = self.mark(items, answers, extractor, judge)
        right = np.array([mark.right for mark in marks])
        scores = scoring.accuracies(items, right, self.rules.group, self.rules.breakdowns)
        if self.rules.extra_scores is not None:
            scores |= self.rules.extra_scores(items, marks)
        return scores | {"n": len(items), "n_unparsed": sum(mark.parsed is None for mark in marks)}
