"""What pictures are shown together, and what is asked about them: the kinds of questions of the wider mini world.

A topic draws its pictures, all of one split, and has kinds of questions about them. In training several questions are
asked about the pictures of one draw; in benchmarks and exams one, drawn again until its answer is the one whose turn it
is, so that no answer is more frequent than another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from lostlib.miniworld import albums, bars, choices, space
from lostlib.miniworld.charts import Chart, draw_chart
from lostlib.miniworld.edits import crowd, even_scene, mirrored, shows_depth, some_group, stacked
from lostlib.miniworld.questions import Question, pick
from lostlib.miniworld.render import Picture
from lostlib.miniworld.scenes import Scene
from lostlib.miniworld.statements import CHART_EDITS, SCENE_EDITS, stated

UNKNOWN = "unknown"  # what can be said about a picture that is not shown
Kind = Callable[..., Question | None]
P = TypeVar("P", Scene, Chart)


def until(split: str, draw: Callable[[], P | None]) -> P:
    """Draw until there is a picture and its content hashes into the split."""
    while True:
        if (picture := draw()) is not None and picture.split == split:
            return picture


def scene_of(split: str, rng: np.random.Generator) -> Scene:
    """A scene in which nothing is frequent; in half of them one to four objects are alike in something."""

    def draw() -> Scene:
        return crowd(rng, *some_group(rng), int(rng.integers(1, 5))) if rng.random() < 0.5 else even_scene(rng)

    return until(split, draw)


def chart_of(split: str, rng: np.random.Generator) -> Chart:
    """A chart."""
    return until(split, lambda: draw_chart(rng))


def stack_of(split: str, rng: np.random.Generator) -> Scene:
    """A scene with one object over another; it and its mirror image are of the split."""
    while True:
        candidate = stacked(even_scene(rng), rng)
        if candidate is None or not candidate.split == mirrored(candidate).split == split:
            continue
        if shows_depth(candidate):
            return candidate


def pair_of(split: str, rng: np.random.Generator) -> tuple[Scene, Scene]:
    """Two scenes: an original and the same with one thing changed, or two with up to three objects of one group."""
    if rng.random() < 0.5:
        one = scene_of(split, rng)
        return one, until(split, lambda: albums.edited(one, rng))
    group = some_group(rng)
    one, other = (until(split, lambda: crowd(rng, *group, int(rng.integers(4)))) for _ in range(2))
    return one, other


def bars_and_objects(split: str, rng: np.random.Generator) -> tuple[Chart, Scene]:
    """A chart and a scene with as many objects of one colour or shape as one bar is high, and no other bar."""
    while not albums.matches(chart := chart_of(split, rng), scene := scene_of(split, rng)):
        continue
    return chart, scene


def unshown(rng: np.random.Generator, *, kind: str) -> Question | None:
    """A statement about a chart that nobody sees."""
    question = stated(kind, draw_chart(rng), rng)
    return question and Question(f"unshown_{kind[3:]}", question.text, UNKNOWN)


@dataclass(frozen=True)
class Topic:
    """Pictures and kinds of questions about them."""

    draw: Callable[[str, np.random.Generator], tuple[Picture, ...]]  #: ``(split, rng) -> pictures``
    kinds: Mapping[str, Kind]  #: by name, ``(*pictures, rng) -> Question or None``
    share: float  #: of the training sequences
    questions: int  #: asked in one sequence

    def ask(self, pictures: tuple[Picture, ...], rng: np.random.Generator) -> Question:
        """A question of a random kind that the pictures admit."""
        while True:
            name = pick(rng, list(self.kinds))
            if (question := self.kinds[name](*pictures, rng=rng)) is not None:
                return question


def _named(*functions: Kind) -> dict[str, Kind]:
    return {f.__name__: f for f in functions}  # type: ignore[attr-defined]


TOPICS = {
    "objects": Topic(
        lambda split, rng: (scene_of(split, rng),),
        _named(
            choices.color_choice, choices.shape_choice, choices.size_choice, choices.location_choice,
            choices.existence_choice, choices.count_choice, choices.direction_choice,
        ) | {name: partial(stated, name) for name in SCENE_EDITS},
        share=0.3, questions=4,
    ),
    "space": Topic(
        lambda split, rng: (stack_of(split, rng),),
        _named(
            space.nearer_by_overlap, space.nearer_by_size, space.highest, space.next_to, space.closer_to, space.side
        ),
        share=0.2, questions=4,
    ),
    "chart": Topic(
        lambda split, rng: (chart_of(split, rng),),
        _named(
            bars.bar, bars.bar_difference, bars.bar_mean, bars.bar_list, bars.bar_choice, bars.highest_bar,
            bars.lowest_bar,
        ) | {name: partial(stated, name) for name in CHART_EDITS},
        share=0.25, questions=5,
    ),
    "pair": Topic(pair_of, _named(albums.more, albums.total, albums.change), share=0.1, questions=3),
    "three": Topic(
        lambda split, rng: tuple(scene_of(split, rng) for _ in range(3)), _named(albums.which_image),
        share=0.05, questions=3,
    ),
    "chart and scene": Topic(
        bars_and_objects, _named(albums.as_high),
        share=0.07, questions=3,
    ),
    "nothing": Topic(
        lambda split, rng: (), {f"unshown_{name[3:]}": partial(unshown, kind=name) for name in CHART_EDITS},
        share=0.03, questions=4,
    ),
}  # fmt: skip
TOPIC_OF = {kind: topic for topic in TOPICS.values() for kind in topic.kinds}


@dataclass(frozen=True)
class Case:
    """One question with its pictures."""

    pictures: tuple[Picture, ...]
    question: Question


def _turns(kind: str) -> list[tuple[str, str]]:
    """The answers of a kind, each with the attribute that its text names, where their frequency is to be evened out."""
    return {
        "count_choice": [(n, by) for n in "1234" for by in ("color", "shape")],
        "more": [(a, by) for a in ("image 1", "image 2", "the same number") for by in ("color", "shape")],
        "total": [(str(n), by) for n in range(1, 7) for by in ("color", "shape")],
        "change": [(name, "") for name in albums.CHANGES],
        "next_to": [("yes", ""), ("no", "")],
        "bar_difference": [(str(n), "") for n in range(1, 6)],
        "bar_mean": [(str(n / 2), "") for n in range(4, 15)],
    }.get(kind, [])


def case(kind: str, split: str, rng: np.random.Generator) -> Case:
    """One question of this kind about pictures of this split; every answer is equally likely."""
    topic, turns = TOPIC_OF[kind], _turns(kind)
    turn = turns[int(rng.integers(len(turns)))] if turns else None
    while True:
        pictures = topic.draw(split, rng)
        question = topic.kinds[kind](*pictures, rng=rng)
        if question is not None and (turn is None or turn == _said(question)):
            return Case(pictures, question)


def _said(question: Question) -> tuple[str, str]:
    """The answer as text, and the attribute that the question's text names."""
    text = question.options[question.answer] if question.options else question.answer
    return text, question.meta.get("by", "")
