"""Captions: every object described, and how objects lie to one another, line by line, in random order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lostlib.miniworld.questions import OPPOSITE, directions, pick, refer, unique
from lostlib.miniworld.scenes import Scene


@dataclass(frozen=True)
class Line:
    """One line of a caption: words that refer to `things`, and what is said of them."""

    reference: str
    reply: str
    things: tuple[int, ...]


def describe(scene: Scene, rng: np.random.Generator) -> list[Line]:
    """Every object in random order: "circle:" "large red circle row 1 column 2,".

    The order is random so that what a reference means can only be found by looking for what it says; read in raster
    order, captions teach a model where to look next and not how to find something.
    """
    return [
        Line(f"{refer(scene, i, rng)}:", f"{t.size} {t.color} {t.shape} row {t.row + 1} column {t.column + 1},", (i,))
        for i in rng.permutation(len(scene.things)).tolist()
        if i in unique(scene, "name")
        for t in (scene.things[i],)
    ]


def relate(scene: Scene, rng: np.random.Generator, most: int = 8) -> list[Line]:
    """How random pairs lie to one another, each said in one of three ways.

    "circle, red object:" "left above," or "circle left red object:" "yes," or "circle, red object, A left B below:"
    "A,". A sequence holds eight such lines and one or two questions about relations, so that they are learned here.
    """
    named = unique(scene, "name")
    pairs = [(i, j) for i in named for j in named if i != j]
    return [_relation_line(scene, pairs[k], rng) for k in rng.permutation(len(pairs))[:most].tolist()]


def _relation_line(scene: Scene, pair: tuple[int, int], rng: np.random.Generator) -> Line:
    first, second = (refer(scene, k, rng) for k in pair)
    true = directions(*(scene.things[k] for k in pair))
    right = str(pick(rng, sorted(true)))
    wrong = str(pick(rng, sorted(set(OPPOSITE) - true)))
    way = rng.integers(3)
    if way == 0:
        return Line(f"{first}, {second}:", " ".join(d for d in OPPOSITE if d in true) + ",", pair)
    yes = rng.random() < 0.5
    if way == 1:
        asked = right if yes else OPPOSITE[right]
        return Line(f"{first} {asked} {second}:", "yes," if yes else "no,", pair)
    options = (right, wrong) if yes else (wrong, right)
    return Line(f"{first}, {second}, A {options[0]} B {options[1]}:", "A," if yes else "B,", pair)
