"""From raw answers to scores: marks one by one, then shares with intervals, broken down as a benchmark wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lostlib import stats
from lostlib.benchmarks.extractors import EXTRACTORS, KINDS
from lostlib.benchmarks.items import Item
from lostlib.text import check


class Mark(NamedTuple):
    """What was read from an answer (None where nothing could be), and whether it is right."""

    parsed: str | None
    right: bool


Judge = Callable[[Item, str], str]  # (item, what the model said) -> the short answer in it, as text
Scores = dict[str, Any]  # name -> Estimate or a count


def mark(item: Item, answer: str, extractor: str | None = None) -> Mark:
    """Read by our extractor for the item's kind, or by the named one if it is for this kind; right if expected."""
    names = KINDS[item.kind]
    parsed = EXTRACTORS[extractor if extractor in names else names[0]](answer, item.options)
    return Mark(parsed, parsed is not None and parsed in (item.answer, *item.aliases))


def check_extractor(extractor: str, items: Sequence[Item]) -> None:
    """Refuse an extractor we do not have, or that is for no item here."""
    check("extractor", extractor, EXTRACTORS)
    kinds = sorted({item.kind for item in items})
    fitting = [name for kind in kinds for name in KINDS[kind]]
    if items and extractor not in fitting:
        raise ValueError(f"{extractor} does not read {' or '.join(kinds)} answers; there are {', '.join(fitting)}")


def accuracies(items: Sequence[Item], right: ArrayLike, group: str, breakdowns: Sequence[str]) -> Scores:
    """``accuracy``, ``accuracy/<value>`` of the group, ``accuracy/<name>=<value>`` of the breakdowns."""
    right, clusters = np.asarray(right), np.array([item.cluster for item in items])
    scores: Scores = {"accuracy": stats.mean(right, clusters)}
    for name in (group, *breakdowns):
        for value, chosen in values(items, name).items():
            key = f"accuracy/{value}" if name == group else f"accuracy/{name}={value}"
            scores[key] = stats.mean(right[chosen], clusters[chosen])
    return scores


def values(items: Sequence[Item], name: str) -> dict[str, NDArray[np.bool_]]:
    """Each value of a name of meta, with the mask of the items that have it; several values count each."""
    held = [found if isinstance(found := item.meta.get(name, ()), tuple) else (found,) for item in items]
    return {value: np.array([value in one for one in held]) for value in sorted({v for one in held for v in one})}


def all_right(
    right: NDArray[np.bool_], keys: ArrayLike, clusters: ArrayLike, mask: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Of the chosen items, for each group with one key: are all of them right, and the cluster of the first of them."""
    _, first, group = np.unique(np.asarray(keys)[mask], return_index=True, return_inverse=True)
    wrong = np.bincount(group, weights=~right[mask], minlength=len(first))
    return wrong == 0, np.asarray(clusters)[mask][first]
