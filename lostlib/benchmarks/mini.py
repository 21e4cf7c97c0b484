"""Rows of the mini benchmarks: test scenes of the mini world, in the columns of the benchmark each is named after.

A row is a function of (seed, index), so a larger n only adds rows, and another seed gives other scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from lostlib.miniworld.questions import KINDS, NEGATIVES, Question, exists, negative
from lostlib.miniworld.render import relevant_tokens, render
from lostlib.miniworld.scenes import Scene, generator, sample_scene

Row = dict[str, Any]
STREAMS = {"mini-pope": 1, "mini-realworldqa": 2, "mini-mathvista": 3}  # every benchmark has scenes of its own
MATH_KINDS = ("arithmetic", "count", "count_plus")


def test_scenes(name: str, seed: int, least: int) -> Iterator[tuple[int, Scene, np.random.Generator]]:
    """Endless (index, scene, generator) of one benchmark and seed."""
    index = 0
    while True:
        rng = generator("test", 100 * seed + STREAMS[name], index)
        yield index, sample_scene("test", rng, least), rng
        index += 1


def shown(scene: Scene, question: Question) -> Row:
    """Which visual tokens show what the question is about, and which show any object."""
    everything = tuple(range(len(scene.things)))
    return {
        "relevant": list(relevant_tokens(scene, question.things)),
        "objects": list(relevant_tokens(scene, everything)),
    }


def _pope_questions(scene: Scene, category: str, rng: np.random.Generator) -> list[Question] | None:
    """Three present and three absent looks, none twice; None when the scene shows fewer than three looks."""
    looks = sorted({(t.color, t.shape) for t in scene.things})
    if len(looks) < 3:
        return None
    absent: list[tuple[str, str]] = []
    while len(absent) < 3:
        if (look := negative(scene, category, rng)) not in absent:
            absent.append(look)
    present = [looks[i] for i in rng.permutation(len(looks))[:3]]
    return [exists(scene, look, category) for pair in zip(present, absent, strict=True) for look in pair]


def pope_rows(seed: int) -> Iterator[Row]:
    """Six questions an image, three of them "yes"; the images take turns among the kinds of negatives."""
    number, images = 0, 0
    for index, scene, rng in test_scenes("mini-pope", seed, least=3):
        category = NEGATIVES[images % len(NEGATIVES)]
        if (questions := _pope_questions(scene, category, rng)) is None:
            continue
        images += 1
        image = render(scene)
        for question in questions:
            yield {
                "id": str(number), "question_id": f"{seed}-{number}", "category": category, "image": image,
                "question": question.text, "answer": question.answer, "image_source": f"test-{seed}-{index}",
                **shown(scene, question),
            }  # fmt: skip
            number += 1


def realworldqa_rows(seed: int) -> Iterator[Row]:
    """One multiple-choice question about the relation of two objects per image."""
    for index, scene, rng in test_scenes("mini-realworldqa", seed, least=2):
        if (question := KINDS["relation_choice"](scene, rng)) is not None:
            yield {
                "uid": f"{seed}-{index}", "image": render(scene), "question": question.text, "answer": question.answer,
                "image_path": f"test-{seed}-{index}", **shown(scene, question),
            }  # fmt: skip


def mathvista_rows(seed: int) -> Iterator[Row]:
    """Sums without a picture's help, counts, and counts plus a number, in turn; all integers."""
    for index, scene, rng in test_scenes("mini-mathvista", seed, least=1):
        kind = MATH_KINDS[index % len(MATH_KINDS)]
        question = KINDS[kind](scene, rng)
        assert question is not None  # these kinds admit every scene
        yield {
            "pid": f"{seed}-{index}", "question": question.text, "query": question.text, "answer": question.answer,
            "image": f"test-{seed}-{index}", "decoded_image": render(scene), "choices": None, "unit": None,
            "precision": None, "question_type": "free_form", "answer_type": "integer",
            "metadata": {"task": kind, "category": "mini", "language": "english"},
            **shown(scene, question),
        }  # fmt: skip


ROWS: dict[str, Callable[[int], Iterator[Row]]] = {
    "mini-pope": pope_rows,
    "mini-realworldqa": realworldqa_rows,
    "mini-mathvista": mathvista_rows,
}


def rows(name: str, n: int, seed: int) -> list[Row]:
    """The first n rows."""
    return list(islice(ROWS[name](seed), n))
