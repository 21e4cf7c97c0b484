"""Scenes made on purpose: every look equally likely, a number of objects alike, one object over another, mirrored.

The first scenes of the mini world (`scenes.draw_scene`) are as uneven as photographs. Where options are offered, an
uneven world would let one guess; here nothing is more frequent than anything else.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lostlib.miniworld.questions import LOOKS, pick
from lostlib.miniworld.render import coverage
from lostlib.miniworld.scenes import GRID, JITTER, MAX_OBJECTS, SIZES, Scene, Thing

NEAR = 12  # pixels: closer centres than this, along both axes, and two large objects overlap
PULL = 8  # pixels that an object is moved over its neighbour
HIDDEN, LEFT_OVER = 15, 60  # pixels of the farther object: so many hidden at least, so many still seen


def even_scene(rng: np.random.Generator, least: int = 4, looks: list[int] | None = None) -> Scene:
    """A scene of `least` to six objects, no two alike, every look equally likely; or of the given looks."""
    if looks is None:
        looks = rng.permutation(len(LOOKS))[: int(rng.integers(least, MAX_OBJECTS + 1))].tolist()
    cells = np.sort(rng.permutation(GRID * GRID)[: len(looks)])
    sizes, jitter = rng.integers(2, size=len(looks)), rng.integers(-JITTER, JITTER + 1, size=(len(looks), 2))
    things = tuple(
        Thing(cell // GRID, cell % GRID, LOOKS[look][0], LOOKS[look][1], list(SIZES)[size], dx, dy)
        for cell, look, size, (dx, dy) in zip(cells.tolist(), looks, sizes.tolist(), jitter.tolist(), strict=True)
    )
    return Scene(things, background=int(rng.integers(30, 90)), noise=int(rng.integers(2**31)))


def crowd(rng: np.random.Generator, attribute: str, value: str, count: int) -> Scene:
    """A scene in which exactly `count` (up to four) objects have this colour or shape; no two objects are alike."""
    alike = [i for i, look in enumerate(LOOKS) if value == look[attribute == "shape"]]
    others = [i for i in range(len(LOOKS)) if i not in alike]
    total = int(rng.integers(4, MAX_OBJECTS + 1))
    looks = [*rng.permutation(alike)[:count].tolist(), *rng.permutation(others)[: total - count].tolist()]
    return even_scene(rng, looks=rng.permutation(looks).tolist())


def overlap(one: Thing, other: Thing) -> bool:
    """Does one of the two cover a part of the other?"""
    return max(abs(a - b) for a, b in zip(one.center, other.center, strict=True)) < NEAR


def stacked(scene: Scene, rng: np.random.Generator) -> Scene | None:
    """The scene with one object moved over a large neighbour of another colour, which of them is nearer being random.

    The two come last, the nearer one at the end. None where there is no room.
    """
    i, j = rng.permutation(len(scene.things))[:2].tolist()
    one, other = scene.things[i], scene.things[j]
    down, right = [(0, 1), (0, -1), (1, 0), (-1, 0)][int(rng.integers(4))]
    row, column = one.row + down, one.column + right
    rest = tuple(t for t in scene.things if t not in (one, other))
    free = 0 <= row < GRID and 0 <= column < GRID and (row, column) not in {(t.row, t.column) for t in rest}
    if not free or one.color == other.color:
        return None
    one = replace(one, size="large")
    other = replace(other, row=row, column=column, size="large", dx=-right * PULL, dy=-down * PULL)
    far, near = (one, other) if rng.random() < 0.5 else (other, one)
    return replace(scene, things=(*rest, far, near))


def shows_depth(scene: Scene) -> bool:
    """Is enough of the last object but one hidden, and enough seen?

    Both would be so if the other of the two were the nearer one: nothing but the picture tells which it is.
    """
    *rest, far, near = scene.things
    (far_seen, _), (near_seen, far_whole) = (
        coverage(replace(scene, things=(*rest, *pair))).sum(axis=1)[-2:] for pair in ((far, near), (near, far))
    )
    return far_whole - far_seen >= HIDDEN and min(far_seen, near_seen) >= LEFT_OVER


def mirrored(scene: Scene) -> Scene:
    """Left and right exchanged; painted in the same order."""
    things = tuple(replace(t, column=GRID - 1 - t.column, dx=-t.dx) for t in scene.things)
    return replace(scene, things=things)


def some_group(rng: np.random.Generator) -> tuple[str, str]:
    """An attribute, colour or shape, and one of its values."""
    attribute = pick(rng, ["color", "shape"])
    return attribute, LOOKS[int(rng.integers(len(LOOKS)))][attribute == "shape"]
