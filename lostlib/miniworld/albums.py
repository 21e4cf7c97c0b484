"""Questions about several pictures: which shows more, what changed, which one is meant, what both show together.

Each kind is a function (*pictures, rng) -> Question, or None when the pictures do not admit one. A text says where its
pictures stand as MMMU's do: "<image 1>", each one once and in order, also among the options.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lostlib.miniworld.charts import Chart
from lostlib.miniworld.edits import some_group
from lostlib.miniworld.questions import Question, article, choice, members, pick, plural
from lostlib.miniworld.scenes import Scene
from lostlib.miniworld.statements import EDITS

CHANGES = {"color": "is_color", "shape": "is_shape", "size": "is_size", "place": "is_beside", "nothing": ""}


def _groups(one: Scene, other: Scene, rng: np.random.Generator) -> tuple[str, str, tuple[int, ...], tuple[int, ...]]:
    """Attribute and value of what is counted in two scenes, and the objects in each; usually they are there."""
    attribute, value = some_group(rng)
    if rng.random() < 0.9:
        value = pick(rng, [getattr(t, attribute) for t in (*one.things, *other.things)])
    return attribute, value, members(one, attribute, value), members(other, attribute, value)


def _flat(one: Scene, first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """Objects of two pictures, numbered on from the first to the second."""
    return (*first, *(len(one.things) + i for i in second))


def more(one: Scene, other: Scene, *, rng: np.random.Generator) -> Question:
    """Which image shows more circles? The first, the second, or the same number."""
    attribute, value, first, second = _groups(one, other, rng)
    sign = (len(first) > len(second)) - (len(first) < len(second))
    right = {1: "image 1", -1: "image 2", 0: "the same number"}[sign]
    wrong = [text for text in ("image 1", "image 2", "the same number") if text != right]
    text = f"Which image shows more {plural(attribute, value)}, <image 1> or <image 2>?"
    return choice("more", text, [right, *wrong], _flat(one, first, second), rng, by=attribute)


def total(one: Scene, other: Scene, *, rng: np.random.Generator) -> Question | None:
    """How many circles do both images show together? A number from 1 to 6, without options."""
    attribute, value, first, second = _groups(one, other, rng)
    number = len(first) + len(second)
    if not 1 <= number <= 6:
        return None
    text = f"How many {plural(attribute, value)} do <image 1> and <image 2> show together?"
    return Question("total", text, str(number), _flat(one, first, second), meta={"by": attribute}, form="short")


def edited(scene: Scene, rng: np.random.Generator) -> Scene | None:
    """The scene with a colour, shape or size changed, two objects exchanged, or nothing; the noise is another one."""
    name = CHANGES[pick(rng, list(CHANGES))]
    if not name:
        return replace(scene, noise=int(rng.integers(2**31)))
    edit = EDITS[name](scene, rng)
    return edit and replace(edit.picture, noise=int(rng.integers(2**31)))


def change(one: Scene, other: Scene, *, rng: np.random.Generator) -> Question | None:
    """What changed from one image to the other? One of colour, shape, size and place of one object, or nothing."""
    lost, found = ([t for t in a.things if t not in b.things] for a, b in ((one, other), (other, one)))
    right = _changed(lost, found)
    if right is None:
        return None
    things = _flat(one, tuple(map(one.things.index, lost)), tuple(map(other.things.index, found)))
    options = [right, *(name for name in CHANGES if name != right)]
    return choice("change", "What changed from <image 1> to <image 2>?", options, things, rng)


def _changed(lost: list, found: list) -> str | None:
    """What tells the objects that only one scene has from those that only the other has; None where it is not one."""
    if not lost and not found:
        return "nothing"
    if {t.name for t in lost} == {t.name for t in found} and len(lost) == len(found) == 2:
        return "place"
    if len(lost) != 1 or len(found) != 1:
        return None
    names = [a for a in ("color", "shape", "size", "row", "column") if getattr(lost[0], a) != getattr(found[0], a)]
    return names[0] if len(names) == 1 and names[0] in CHANGES else None


def which_image(*scenes: Scene, rng: np.random.Generator) -> Question | None:
    """Which image shows a red circle? The images are the options, and one of them does."""
    looks = [[t.name for t in scene.things] for scene in scenes]
    shown = int(rng.integers(len(scenes)))
    name = pick(rng, looks[shown])
    if sum(name in found for found in looks) != 1:
        return None
    thing = sum(len(found) for found in looks[:shown]) + looks[shown].index(name)
    options = [f"<image {k + 1}>" for k in range(len(scenes))]
    ordered = choice("which_image", f"Which image shows {article(name)} {name}?", options, (thing,), None)
    return replace(ordered, answer="ABCDEF"[shown])


def matches(chart: Chart, scene: Scene) -> list[tuple[str, str, int]]:
    """Colours and shapes (attribute, value) shown as often as exactly one bar is high, and that bar."""
    groups = sorted({(name, getattr(thing, name)) for thing in scene.things for name in ("color", "shape")})
    heights = [bar.height for bar in chart.things]
    counts = {group: len(members(scene, *group)) for group in groups}
    return [(*group, heights.index(n)) for group, n in counts.items() if heights.count(n) == 1]


def as_high(chart: Chart, scene: Scene, *, rng: np.random.Generator) -> Question | None:
    """Which bar of one image is as high as the number of circles in the other? As many options as bars, up to six."""
    if not (found := matches(chart, scene)):
        return None
    attribute, value, right = found[int(rng.integers(len(found)))]
    text = f"Which bar of <image 1> is as high as the number of {plural(attribute, value)} in <image 2>?"
    bars = [bar.color for bar in chart.things]
    options = [bars[right], *(color for color in bars if color != bars[right])]
    things = (*range(len(bars)), *(len(bars) + i for i in members(scene, attribute, value)))
    return choice("as_high", text, options, things, rng)
