"""Captions: every object described, and how objects lie to one another, line by line, in random order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lostlib.miniworld.charts import Chart
from lostlib.miniworld.edits import overlap
from lostlib.miniworld.questions import OPPOSITE, directions, pick, refer, unique
from lostlib.miniworld.render import Picture
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
    right = pick(rng, sorted(true))
    wrong = pick(rng, sorted(set(OPPOSITE) - true))
    way = rng.integers(3)
    if way == 0:
        return Line(f"{first}, {second}:", " ".join(d for d in OPPOSITE if d in true) + ",", pair)
    yes = rng.random() < 0.5
    if way == 1:
        asked = right if yes else OPPOSITE[right]
        return Line(f"{first} {asked} {second}:", "yes," if yes else "no,", pair)
    options = (right, wrong) if yes else (wrong, right)
    return Line(f"{first}, {second}, A {options[0]} B {options[1]}:", "A," if yes else "B,", pair)


def depths(scene: Scene, rng: np.random.Generator, most: int = 6) -> list[Line]:
    """Which of two is nearer, for pairs of which one covers the other or looks larger.

    "red circle, blue square:" "blue square,"
    """
    named = unique(scene, "name")
    pairs = [(i, j) for i in named for j in named if i < j and _nearer(scene, i, j) is not None]
    lines = []
    for k in rng.permutation(len(pairs))[:most].tolist():
        i, j = pairs[k] if rng.random() < 0.5 else pairs[k][::-1]
        near = i if _nearer(scene, i, j) else j
        lines.append(Line(f"{refer(scene, i, rng)}, {refer(scene, j, rng)}:", f"{scene.things[near].name},", (i, j)))
    return lines


def _nearer(scene: Scene, i: int, j: int) -> bool | None:
    """Is object i nearer than j? None where the picture does not tell."""
    one, other = scene.things[i], scene.things[j]
    if one.size != other.size:
        return one.size == "large"
    return i > j if overlap(one, other) else None


def heights(chart: Chart, rng: np.random.Generator) -> list[Line]:
    """Every bar in random order: "red bar:" "5,"."""
    return [
        Line(f"{chart.things[i].name}:", f"{chart.things[i].height},", (i,))
        for i in rng.permutation(len(chart.things)).tolist()
    ]


Captions = dict[str, Callable[..., list[Line]]]
ABOUT_SCENES: Captions = {"Describe the image.": describe, "Where are the objects?": relate}
ABOUT_DEPTH: Captions = {"Describe the image.": describe, "Which objects are closer?": depths}
ABOUT_CHARTS: Captions = {"What are the heights of the bars?": heights}


def captions_of(picture: Picture) -> Captions:
    """What is told of a picture: of overlapping objects their depth, of others how they lie to one another."""
    if isinstance(picture, Chart):
        return ABOUT_CHARTS
    last = picture.things[-2:]
    return ABOUT_DEPTH if len(last) == 2 and overlap(*last) else ABOUT_SCENES
