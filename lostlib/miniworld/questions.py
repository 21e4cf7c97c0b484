"""Question kinds: words, the right answer, and the objects one has to look at to know it.

Each kind is a function (scene, rng) -> Question, or None when the scene does not admit one. Yes/no kinds are balanced
per draw; the other kinds draw their target uniformly among what the scene offers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np

from lostlib.miniworld.scenes import COLORS, SHAPES, Scene, Thing, draw_scene, generator

LETTERS = "ABCDEF"
NUMBERS = 21  # operands 0..20
LOOKS = tuple((color, shape) for color in COLORS for shape in SHAPES)
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
PHRASE = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
NEGATIVES = ("random", "popular", "adversarial")
NOUNS = (*SHAPES, "object")  # the word that ends a reference to one object
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """A question about pictures."""

    kind: str
    text: str
    answer: str
    things: tuple[int, ...] = ()  #: the objects that decide the answer, numbered on from picture to picture
    options: dict[str, str] | None = None
    meta: dict[str, str] = field(default_factory=dict)
    #: how it is finished when it is asked, "" as it is, "choice" with its options and the wish for a letter, "short"
    #: with the wish for a single word
    form: str = ""


def pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    """One of the values, uniformly (rng.choice turns objects into arrays)."""
    return values[int(rng.integers(len(values)))]


def choice(
    kind: str, text: str, options: list[str], things: tuple[int, ...], rng: np.random.Generator | None, **meta: str
) -> Question:
    """A question with options of which the first is true; they are shuffled, or kept in order without a generator."""
    order = range(len(options)) if rng is None else rng.permutation(len(options)).tolist()
    lettered = {LETTERS[k]: options[i] for k, i in enumerate(order)}
    answer = next(letter for letter, value in lettered.items() if value == options[0])
    return Question(kind, text, answer, things, lettered, meta, "choice")


def unique(scene: Scene, attribute: str) -> list[int]:
    """Indices of objects whose attribute (a Thing property) no other object shares."""
    values = [getattr(thing, attribute) for thing in scene.things]
    return [i for i, value in enumerate(values) if values.count(value) == 1]


def one_of(scene: Scene, attribute: str, rng: np.random.Generator) -> int | None:
    """The index of one of the `unique` objects; None where there is none."""
    return pick(rng, found) if (found := unique(scene, attribute)) else None


def refer(scene: Scene, i: int, rng: np.random.Generator) -> str:
    """Words that fit object i and no other: its colour and shape, its shape alone, or its colour alone."""
    thing = scene.things[i]
    words = {"name": thing.name, "shape": thing.shape, "color": f"{thing.color} object"}
    return pick(rng, [text for attribute, text in words.items() if i in unique(scene, attribute)])


def article(word: str) -> str:
    """A or an."""
    return "an" if word[0] in "aeiou" else "a"


def plural(attribute: str, value: str) -> str:
    """What is counted: circles, crosses, red objects."""
    return f"{value} objects" if attribute == "color" else f"{value}es" if value == "cross" else f"{value}s"


def members(scene: Scene, attribute: str, value: str) -> tuple[int, ...]:
    """The objects of a colour or shape."""
    return tuple(i for i, t in enumerate(scene.things) if getattr(t, attribute) == value)


# ---- existence, with POPE's three kinds of negatives ----------------------------------------------------------------


@cache
def world_statistics(scenes: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """(how many scenes show each look, how many show each pair of looks), over the first 4000 training draws."""
    seen = np.zeros((scenes, len(LOOKS)))
    for i in range(scenes):
        scene = draw_scene(generator("train", 0, i))
        for thing in scene.things:
            seen[i, LOOKS.index((thing.color, thing.shape))] = 1
    return seen.sum(axis=0), seen.T @ seen


def negative(scene: Scene, category: str, rng: np.random.Generator) -> tuple[str, str]:
    """An absent look: any; one of the three most frequent; one of the three most often seen with what is here."""
    present = sorted({LOOKS.index((t.color, t.shape)) for t in scene.things})
    absent = [i for i in range(len(LOOKS)) if i not in present]
    if category == "random":
        return LOOKS[pick(rng, absent)]
    frequency, together = world_statistics()
    rank = frequency if category == "popular" else together[present].sum(axis=0)
    return LOOKS[pick(rng, sorted(absent, key=lambda i: -rank[i])[:3])]


def exists(scene: Scene, look: tuple[str, str], category: str) -> Question:
    """Is there a (colour, shape) in the image?"""
    things = tuple(i for i, t in enumerate(scene.things) if (t.color, t.shape) == look)
    text = f"Is there {article(look[0])} {look[0]} {look[1]} in the image?"
    return Question("existence", text, "yes" if things else "no", things, meta={"category": category})


def existence(scene: Scene, rng: np.random.Generator) -> Question:
    """A present object half of the time, else one of the three kinds of negatives."""
    category = pick(rng, list(NEGATIVES))
    if rng.random() < 0.5:
        thing = scene.things[int(rng.integers(len(scene.things)))]
        return exists(scene, (thing.color, thing.shape), category)
    return exists(scene, negative(scene, category, rng), category)


# ---- attributes -----------------------------------------------------------------------------------------------------


def color(scene: Scene, rng: np.random.Generator) -> Question | None:
    """What color is the circle? (one circle in the scene)"""
    if (i := one_of(scene, "shape", rng)) is None:
        return None
    return Question("color", f"What color is the {scene.things[i].shape}?", scene.things[i].color, (i,))


def shape(scene: Scene, rng: np.random.Generator) -> Question | None:
    """What shape is the red object? (one red object in the scene)"""
    if (i := one_of(scene, "color", rng)) is None:
        return None
    return Question("shape", f"What shape is the {scene.things[i].color} object?", scene.things[i].shape, (i,))


def size(scene: Scene, rng: np.random.Generator) -> Question | None:
    """What size is the red circle?"""
    if (i := one_of(scene, "name", rng)) is None:
        return None
    return Question("size", f"What size is the {refer(scene, i, rng)}?", scene.things[i].size, (i,))


def location(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Where is the red circle? -> row 2 column 3, counted from the top left."""
    if (i := one_of(scene, "name", rng)) is None:
        return None
    thing = scene.things[i]
    return Question(
        "location", f"Where is the {refer(scene, i, rng)}?", f"row {thing.row + 1} column {thing.column + 1}", (i,)
    )


# ---- counting and arithmetic ----------------------------------------------------------------------------------------


def _group(scene: Scene, rng: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    """Something to count: (its plural, the indices it covers); seven in ten times it is there."""
    which = rng.random()
    if which < 0.2:
        return "objects", tuple(range(len(scene.things)))
    thing = scene.things[int(rng.integers(len(scene.things)))]
    if which < 0.6:
        word = thing.shape if rng.random() < 0.7 else pick(rng, list(SHAPES))
        return plural("shape", word), members(scene, "shape", word)
    word = thing.color if rng.random() < 0.7 else pick(rng, list(COLORS))
    return plural("color", word), members(scene, "color", word)


def count(scene: Scene, rng: np.random.Generator) -> Question:
    """How many circles, red objects or objects are there?"""
    group, things = _group(scene, rng)
    return Question("count", f"How many {group} are there?", str(len(things)), things)


def count_plus(scene: Scene, rng: np.random.Generator) -> Question:
    """How many circles are there plus 3? Counting and arithmetic in one step."""
    group, things = _group(scene, rng)
    number = int(rng.integers(1, 6))
    return Question("count_plus", f"How many {group} are there plus {number}?", str(len(things) + number), things)


def held_out(a: int, sign: str, b: int) -> bool:
    """One in ten sums is asked in tests only: a hash of its text decides."""
    return hashlib.blake2b(f"{a} {sign} {b}".encode(), digest_size=1).digest()[0] < 26


def _sum(rng: np.random.Generator, wanted: bool) -> Question:
    """A sum that is held out, or one that is not."""
    while True:
        a, b = (int(v) for v in rng.integers(0, NUMBERS, size=2))
        sign = "plus" if rng.random() < 0.5 else "minus"
        if sign == "minus":
            a, b = max(a, b), min(a, b)
        if held_out(a, sign, b) == wanted:
            break
    return Question("arithmetic", f"What is {a} {sign} {b}?", str(a + b if sign == "plus" else a - b))


def arithmetic(scene: Scene, rng: np.random.Generator) -> Question:
    """What is 13 plus 6? The picture has nothing to say; test scenes ask held-out sums only."""
    return _sum(rng, wanted=scene.split != "train")


def known_arithmetic(scene: Scene, rng: np.random.Generator) -> Question:
    """A sum that training asks, for exams: what was learned by heart, beside what is worked out."""
    return _sum(rng, wanted=False)


# ---- relations ------------------------------------------------------------------------------------------------------


def directions(one: Thing, other: Thing) -> set[str]:
    """Where `one` is, seen from `other`, by grid cells: none to two of left, right, above, below."""
    across = {"left"} if one.column < other.column else {"right"} if one.column > other.column else set()
    along = {"above"} if one.row < other.row else {"below"} if one.row > other.row else set()
    return across | along


def _pair(scene: Scene, rng: np.random.Generator) -> tuple[int, int] | None:
    """Two objects that can be referred to, in random order."""
    candidates = unique(scene, "name")
    if len(candidates) < 2:
        return None
    i, j = rng.permutation(candidates)[:2].tolist()
    return i, j


def relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Is the red circle to the left of the blue square? Asked along an axis in which the two differ; half are true."""
    if (pair := _pair(scene, rng)) is None:
        return None
    one, other = (scene.things[k] for k in pair)
    true = pick(rng, sorted(directions(one, other)))
    asked = true if (yes := rng.random() < 0.5) else OPPOSITE[true]
    text = f"Is the {refer(scene, pair[0], rng)} {PHRASE[asked]} the {refer(scene, pair[1], rng)}?"
    return Question(
        "relation",
        text,
        "yes" if yes else "no",
        pair,
        meta={"axis": "across" if true in ("left", "right") else "along"},
    )


def relation_choice(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Where is the red circle relative to the blue square? A. left B. right … with exactly one true option."""
    if (pair := _pair(scene, rng)) is None:
        return None
    one, other = (scene.things[k] for k in pair)
    true = directions(one, other)
    right = pick(rng, sorted(true))
    wrong = sorted(set(OPPOSITE) - true)
    wrong = [OPPOSITE[right], *(d for d in wrong if d != OPPOSITE[right])][: int(rng.integers(1, len(wrong) + 1))]
    order = rng.permutation(len(wrong) + 1)
    options = {LETTERS[k]: [right, *wrong][int(i)] for k, i in enumerate(order)}
    listed = "\n".join(f"{letter}. {text}" for letter, text in options.items())
    first, second = (refer(scene, i, rng) for i in pair)
    text = f"Where is the {first} relative to the {second}?\n{listed}\nAnswer with the letter."
    answer = next(letter for letter, value in options.items() if value == right)
    return Question("relation_choice", text, answer, pair, options, meta={"n_options": str(len(options))})


KINDS: dict[str, Callable[[Scene, np.random.Generator], Question | None]] = {
    f.__name__: f
    for f in (existence, color, shape, size, location, count, count_plus, arithmetic, relation, relation_choice)
}


def ask(scene: Scene, rng: np.random.Generator, kinds: list[str], weights: np.ndarray | None = None) -> Question:
    """One question of a random admissible kind."""
    while True:
        name = kinds[int(rng.choice(len(kinds), p=weights))]
        if (question := KINDS[name](scene, rng)) is not None:
            return question
