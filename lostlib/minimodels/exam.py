"""The exam of a mini model: single questions of each kind about held-out scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lostlib import stats
from lostlib.benchmarks.items import Item
from lostlib.minimodels.conversations import finished
from lostlib.miniworld.questions import KINDS, known_arithmetic
from lostlib.miniworld.render import render, tokens_of
from lostlib.miniworld.scenes import TOKENS, generator, sample_scene
from lostlib.miniworld.topics import TOPIC_OF, Case, case

EXAM = KINDS | {"known_arithmetic": known_arithmetic}  # what every mini model is asked
ALL = (*EXAM, *TOPIC_OF)
STREAM = 50  # keeps the exam's scenes apart from the benchmarks'


def _case(kind: str, split: str, rng: np.random.Generator) -> Case | None:
    if kind in TOPIC_OF:
        return case(kind, split, rng)
    scene = sample_scene(split, rng)
    question = EXAM[kind](scene, rng)
    return None if question is None else Case((scene,), question)


def items(kind: str, n: int = 400, seed: int = 0, split: str = "test") -> list[Item]:
    """The first n questions of a kind, one a draw of pictures."""
    made: list[Item] = []
    index = 0
    while len(made) < n:
        rng = generator(split, 1000 * (seed + 1) + STREAM + ALL.index(kind), index)
        if (one := _case(kind, split, rng)) is not None:
            question = one.question
            made.append(
                Item(
                    uid=f"{kind}/{seed}-{index}", images=tuple(render(picture) for picture in one.pictures),
                    prompt="".join(finished(question)), answer=question.answer, kind="open", options=question.options,
                    cluster=f"{split}-{index}", relevant=tokens_of(one.pictures, question.things), patches=TOKENS,
                    meta={"kind": kind},
                )
            )  # fmt: skip
        index += 1
    return made


def exam(
    model: Any, n: int = 400, seed: int = 0, split: str = "test", kinds: Sequence[str] = tuple(EXAM)
) -> dict[str, stats.Estimate]:
    """Share of exactly right greedy answers per kind, with intervals; blanks do not count."""
    result = {}
    for kind in kinds:
        asked = items(kind, n, seed, split)
        answers = model.answer(asked)
        right = [
            answer.replace(" ", "") == item.answer.replace(" ", "") for answer, item in zip(answers, asked, strict=True)
        ]
        result[kind] = stats.mean(right)
    return result
