"""Questions with four options about one scene: every kind of thing that the mini world asks, as a choice.

Each kind is a function (scene, rng) -> Question, or None when the scene does not admit one. Wrong options are taken
from the scene where it has enough of them, so that one has to look at the right object.
"""

from __future__ import annotations

import numpy as np

from lostlib.miniworld.questions import (
    LOOKS,
    OPPOSITE,
    Question,
    choice,
    directions,
    members,
    one_of,
    pick,
    plural,
    refer,
    unique,
)
from lostlib.miniworld.scenes import COLORS, GRID, SHAPES, SIZES, Scene


def _others(right: str, near: list[str], far: list[str], rng: np.random.Generator) -> list[str]:
    """Three wrong options: from `near` in random order as long as it lasts, then from `far`."""
    ordered = [values[i] for values in (near, far) for i in rng.permutation(len(values)).tolist()]
    return [value for value in dict.fromkeys(ordered) if value != right][:3]


def _look(scene: Scene, rng: np.random.Generator, asked: str, known: str, values: list[str], words: str):
    """What colour is the circle, or what shape is the red object?"""
    if (i := one_of(scene, known, rng)) is None:
        return None
    right = getattr(scene.things[i], asked)
    wrong = _others(right, [getattr(t, asked) for t in scene.things], values, rng)
    return choice(f"{asked}_choice", words.format(getattr(scene.things[i], known)), [right, *wrong], (i,), rng)


def color_choice(scene: Scene, rng: np.random.Generator) -> Question | None:
    """What color is the circle? Four colours."""
    return _look(scene, rng, "color", "shape", list(COLORS), "What color is the {}?")


def shape_choice(scene: Scene, rng: np.random.Generator) -> Question | None:
    """What shape is the red object? Four shapes."""
    return _look(scene, rng, "shape", "color", list(SHAPES), "What shape is the {} object?")


def size_choice(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Which of these is large? Four objects, one of them of this size."""
    size = pick(rng, list(SIZES))
    named = unique(scene, "name")
    right = [i for i in named if scene.things[i].size == size]
    wrong = [i for i in named if scene.things[i].size != size]
    if not right or len(wrong) < 3:
        return None
    shown = [int(rng.choice(right)), *rng.permutation(wrong)[:3].tolist()]
    names = [scene.things[i].name for i in shown]
    return choice("size_choice", f"Which of these is {size}?", names, tuple(shown), rng)


def location_choice(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Where is the red circle? Four cells, those of other objects first."""
    if (i := one_of(scene, "name", rng)) is None:
        return None
    cells = [f"row {t.row + 1} column {t.column + 1}" for t in scene.things]
    every = [f"row {row} column {column}" for row in range(1, GRID + 1) for column in range(1, GRID + 1)]
    wrong = _others(cells[i], cells, every, rng)
    return choice("location_choice", f"Where is the {refer(scene, i, rng)}?", [cells[i], *wrong], (i,), rng)


def existence_choice(scene: Scene, rng: np.random.Generator) -> Question:
    """Which of these is in the image? Four looks, one of them there."""
    looks = [(t.color, t.shape) for t in scene.things]
    i = int(rng.integers(len(looks)))
    absent = [" ".join(look) for look in LOOKS if look not in looks]
    right = " ".join(looks[i])
    things = tuple(k for k, look in enumerate(looks) if look == looks[i])
    return choice(
        "existence_choice", "Which of these is in the image?", [right, *_others(right, [], absent, rng)], things, rng
    )


def count_choice(scene: Scene, rng: np.random.Generator) -> Question | None:
    """How many circles are there? One to four."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    by = pick(rng, ["color", "shape"])
    things = members(scene, by, getattr(thing, by))
    if len(things) > 4:
        return None
    right = str(len(things))
    options = [right, *(n for n in "1234" if n != right)]
    return choice("count_choice", f"How many {plural(by, getattr(thing, by))} are there?", options, things, rng, by=by)


def direction_choice(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Where is the red circle relative to the blue square? Left, right, above, below; they share a row or a column."""
    named = unique(scene, "name")
    pairs = [(i, j) for i in named for j in named if len(directions(scene.things[i], scene.things[j])) == 1]
    if not pairs:
        return None
    i, j = pairs[int(rng.integers(len(pairs)))]
    (right,) = directions(scene.things[i], scene.things[j])
    text = f"Where is the {refer(scene, i, rng)} relative to the {refer(scene, j, rng)}?"
    return choice("direction_choice", text, [right, *(d for d in OPPOSITE if d != right)], (i, j), rng)
