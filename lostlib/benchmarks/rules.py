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
    """A benchmark, as its file in `lostlib.benchmarks` declares it; those of the mini world are made from these."""

    label: str  #: its name beside those of other benchmarks of the hub, or of the mini world
    version: str = "1"  #: raised whenever an item, a prompt or an answer changes
    #: the kind of task, as VAR's paper tells them apart
    task: Literal["general", "hallucination", "vision-centric"] = "general"
    #: the value of `group` that is sums, which can be done without a picture; None where it asks for none
    sums: str | None = None
    to_item: ToItem  #: how a row becomes an item
    kinds: tuple[str, ...]  #: of answers, each with its extractors (`extractors.KINDS`) and its chance (`Item.guesses`)
    mark: Callable[[Item, str, str | None], Mark] = scoring.mark  #: how an answer is read, and whether it is right
    #: the same with a judge; None where it is scored without one
    judged: Callable[[Item, str, Judge], Mark] | None = None
    group: str  #: the name in `Item.meta` by which accuracy is broken down first
    breakdowns: tuple[str, ...] = ()  #: other such names
    #: scores beside accuracies; None where there are none
    extra_scores: Callable[[Sequence[Item], Sequence[Mark]], Scores] | None = None
    stratum: tuple[str, ...]  #: names in meta, or `answer`, whose values keep their share in every subset
    unit: str | None = None  #: the name in meta of what a subset keeps together; every item is on its own if None
    #: how long answers may be, by the profile of prompts; `default` is for all that are not named
    tokens: Mapping[str, int]
    images: tuple[str, ...] = ()  #: columns that hold pictures
    #: of the hub, by variant the data sets in the order they are tried; the first variant is the default
    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    #: of the hub, by variant the counts that complete data have, see `hub.tally`
    expected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    #: made here, if not of the hub; by variant the rows of a seed, of the mini world without end
    rows: Mapping[str, Callable[[int], Iterator[Row]]] = field(default_factory=dict)
    mini: bool = False  #: are they of the mini world

    @property
    def name(self) -> str:
        """The label; a benchmark of the mini world has "mini-" before it."""
        return f"mini-{self.label}" if self.mini else self.label

    @property
    def variants(self) -> tuple[str, ...]:
        """All there are; the first is meant when none is named."""
        return tuple(self.rows or self.sources)
