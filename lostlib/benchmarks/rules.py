"""What one benchmark is: how its rows become questions, how answers are read, and what scores are broken down by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lostlib.benchmarks import scoring
from lostlib.benchmarks.hub import Row, Source
from lostlib.benchmarks.items import Item
from lostlib.benchmarks.prompts import DEFAULT, Style
from lostlib.benchmarks.scoring import Judge, Mark, Scores


class ToItem(Protocol):  # noqa: D101
    def __call__(self, row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Rules:
    """A benchmark, as its file in `lostlib.benchmarks` declares it; those of the mini world are made from these.

    label         its name beside those of other benchmarks of the hub, or of the mini world
    version       raised whenever an item, a prompt or an answer changes
    task          the kind of task, as VAR's paper tells them apart
    sums          the value of `group` that is sums, which can be done without a picture; None: it asks for none
    to_item       how a row becomes an item
    kinds         of answers: each has its extractors (`extractors.KINDS`) and its chance (`Item.guesses`)
    mark          how an answer is read, and whether it is right
    judged        the same with a judge; None: it is scored without one
    group         name of `Item.meta` by which accuracy is broken down first
    breakdowns    other such names
    extra_scores  scores beside accuracies; None: there are none
    stratum       names of meta, or `answer`, whose values have their share in every subset
    unit          name of meta of what a subset keeps together; None: every item is on its own
    tokens        how long answers may be, by the profile of prompts; `default` is for all that are not named
    images        columns that hold pictures
    sources       of the hub: variant -> data sets in the order they are tried; the first variant is meant by default
    expected      of the hub: variant -> counts that complete data have, see `hub.tally`
    rows          made here, if not of the hub: variant -> rows of a seed, of the mini world without end
    mini          are they of the mini world
    """

    label: str
    version: str = "1"
    task: Literal["general", "hallucination", "vision-centric"] = "general"
    sums: str | None = None
    to_item: ToItem
    kinds: tuple[str, ...]
    mark: Callable[[Item, str, str | None], Mark] = scoring.mark
    judged: Callable[[Item, str, Judge], Mark] | None = None
    group: str
    breakdowns: tuple[str, ...] = ()
    extra_scores: Callable[[Sequence[Item], Sequence[Mark]], Scores] | None = None
    stratum: tuple[str, ...]
    unit: str | None = None
    tokens: Mapping[str, int]
    images: tuple[str, ...] = ()
    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    expected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rows: Mapping[str, Callable[[int], Iterator[Row]]] = field(default_factory=dict)
    mini: bool = False

    @property
    def name(self) -> str:
        """The label; a benchmark of the mini world has "mini-" before it."""
        return f"mini-{self.label}" if self.mini else self.label

    @property
    def variants(self) -> tuple[str, ...]:
        """All there are; the first is meant when none is named."""
        return tuple(self.rows or self.sources)
