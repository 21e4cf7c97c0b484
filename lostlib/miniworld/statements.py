"""Pairs of pictures, an original and an edited one, with two statements: one true of each.

Both statements are asked of both pictures, so every question has "yes" once and "no" once for an answer, and nothing
but the picture tells. Each kind is a function (picture, rng) -> Edit, or None when the picture does not admit one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lostlib.miniworld.charts import TALLEST, Chart
from lostlib.miniworld.questions import (
    LOOKS,
    OPPOSITE,
    PHRASE,
    Question,
    article,
    directions,
    members,
    one_of,
    pick,
    plural,
    refer,
    unique,
)
from lostlib.miniworld.render import Picture
from lostlib.miniworld.scenes import COLORS, SHAPES, SIZES, Scene, Thing


@dataclass(frozen=True)
class Edit:
    """An edited picture; what is true before and after; and the objects that decide, in either picture."""

    picture: Picture
    before: str
    after: str
    things: tuple[int, ...]
    edited_things: tuple[int, ...]

    def questions(self, kind: str, edited: bool) -> tuple[Question, Question]:
        """Both statements as questions about the original or the edited picture."""
        things = self.edited_things if edited else self.things
        first, second = ("no", "yes") if edited else ("yes", "no")
        return Question(kind, self.before, first, things), Question(kind, self.after, second, things)


def _with(scene: Scene, i: int, thing: Thing) -> Scene:
    return replace(scene, things=(*scene.things[:i], thing, *scene.things[i + 1 :]))


def _another(scene: Scene, i: int, attribute: str, values: list[str], rng: np.random.Generator) -> Thing | None:
    """The object with another colour or shape, such that no other object looks like it."""
    thing = scene.things[i]
    made = [replace(thing, **{attribute: value}) for value in values if value != getattr(thing, attribute)]  # type: ignore[arg-type]
    made = [one for one in made if one.name not in {t.name for t in scene.things}]
    return made[int(rng.integers(len(made)))] if made else None


def _attribute(scene: Scene, rng: np.random.Generator, asked: str, known: str, words: Callable[[Thing], str]):
    """Another colour for an object that its shape picks out, or the reverse."""
    values = list(COLORS) if asked == "color" else list(SHAPES)
    if (i := one_of(scene, known, rng)) is None:
        return None
    if (made := _another(scene, i, asked, values, rng)) is None:
        return None
    return Edit(_with(scene, i, made), words(scene.things[i]), words(made), (i,), (i,))


def is_color(scene: Scene, rng: np.random.Generator) -> Edit | None:
    """Is the circle red? It becomes blue."""
    return _attribute(scene, rng, "color", "shape", lambda t: f"Is the {t.shape} {t.color}?")


def is_shape(scene: Scene, rng: np.random.Generator) -> Edit | None:
    """Is the red object a circle? It becomes a square."""
    return _attribute(scene, rng, "shape", "color", lambda t: f"Is the {t.color} object a {t.shape}?")


def is_size(scene: Scene, rng: np.random.Generator) -> Edit | None:
    """Is the red circle large? It becomes small."""
    if (i := one_of(scene, "name", rng)) is None:
        return None
    thing, words = scene.things[i], refer(scene, i, rng)
    other = next(size for size in SIZES if size != thing.size)
    made = _with(scene, i, replace(thing, size=other))
    return Edit(made, f"Is the {words} {thing.size}?", f"Is the {words} {other}?", (i,), (i,))


def is_beside(scene: Scene, rng: np.random.Generator) -> Edit | None:
    """Is the red circle to the left of the blue square? They change places."""
    if len(named := unique(scene, "name")) < 2:
        return None
    i, j = rng.permutation(named)[:2].tolist()
    one, other = scene.things[i], scene.things[j]
    true = pick(rng, sorted(directions(one, other)))
    moved = replace(one, row=other.row, column=other.column), replace(other, row=one.row, column=one.column)
    things = tuple(sorted((*(t for t in scene.things if t not in (one, other)), *moved)))
    first, second = refer(scene, i, rng), refer(scene, j, rng)
    before, after = (f"Is the {first} {PHRASE[d]} the {second}?" for d in (true, OPPOSITE[true]))
    return Edit(replace(scene, things=things), before, after, (i, j), tuple(things.index(t) for t in moved))


def is_number(scene: Scene, rng: np.random.Generator) -> Edit | None:
    """Is the number of circles 3? One of them becomes something else, or something else becomes one."""
    attribute = pick(rng, ["color", "shape"])
    values = list(COLORS) if attribute == "color" else list(SHAPES)
    value = pick(rng, values)
    i = int(rng.integers(len(scene.things)))
    fewer = getattr(scene.things[i], attribute) == value
    wanted = [v for v in values if v != value] if fewer else [value]
    if (made := _another(scene, i, attribute, wanted, rng)) is None:
        return None
    edited = _with(scene, i, made)
    old, new = (members(shown, attribute, value) for shown in (scene, edited))
    if min(len(old), len(new)) < 1:
        return None
    before, after = (f"Is the number of {plural(attribute, value)} {len(found)}?" for found in (old, new))
    return Edit(edited, before, after, old, new)


def is_there(scene: Scene, rng: np.random.Generator) -> Edit | None:
    """Is there a red circle in the image? It becomes a blue square."""
    if (i := one_of(scene, "name", rng)) is None:
        return None
    thing, names = scene.things[i], {t.name for t in scene.things}
    looks = [(c, s) for c, s in LOOKS if f"{c} {s}" not in names and c != thing.color and s != thing.shape]
    color, shape = looks[int(rng.integers(len(looks)))]
    made = replace(thing, color=color, shape=shape)
    before, after = (f"Is there {article(t.name)} {t.name} in the image?" for t in (thing, made))
    return Edit(_with(scene, i, made), before, after, (i,), (i,))


def is_higher(chart: Chart, rng: np.random.Generator) -> Edit | None:
    """Is the red bar higher than the blue bar? They exchange their heights."""
    i, j = rng.permutation(len(chart.things))[:2].tolist()
    if chart.things[i].height <= chart.things[j].height:
        return None
    bars = list(chart.things)
    bars[i], bars[j] = (replace(bars[a], height=bars[b].height) for a, b in ((i, j), (j, i)))
    one, other = chart.things[i].name, chart.things[j].name
    before, after = (f"Is the {one} {word} than the {other}?" for word in ("higher", "lower"))
    return Edit(replace(chart, things=tuple(bars)), before, after, (i, j), (i, j))


def is_height(chart: Chart, rng: np.random.Generator) -> Edit | None:
    """Is the height of the red bar 5? It becomes another one."""
    i = int(rng.integers(len(chart.things)))
    bars = list(chart.things)
    bars[i] = replace(bars[i], height=pick(rng, [h for h in range(1, TALLEST + 1) if h != bars[i].height]))
    before, after = (f"Is the height of the {bar.name} {bar.height}?" for bar in (chart.things[i], bars[i]))
    return Edit(replace(chart, things=tuple(bars)), before, after, (i,), (i,))


SCENE_EDITS: dict[str, Callable[[Scene, np.random.Generator], Edit | None]] = {
    f.__name__: f for f in (is_color, is_shape, is_size, is_beside, is_number, is_there)
}
CHART_EDITS: dict[str, Callable[[Chart, np.random.Generator], Edit | None]] = {
    f.__name__: f for f in (is_higher, is_height)
}
EDITS: dict[str, Callable] = SCENE_EDITS | CHART_EDITS


def stated(kind: str, picture: Picture, rng: np.random.Generator) -> Question | None:
    """One of the two statements, about the original."""
    edit = EDITS[kind](picture, rng)
    return None if edit is None else edit.questions(kind, edited=False)[int(rng.integers(2))]
