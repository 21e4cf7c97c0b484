"""The exam of a mini model: single questions of each kind about held-out scenes."""

from __future__ import annotations

from typing import Any

from lostlib import stats
from lostlib.benchmarks.items import Item
from lostlib.miniworld.questions import KINDS, known_arithmetic
from lostlib.miniworld.render import relevant_tokens, render
from lostlib.miniworld.scenes import generator, sample_scene

EXAM = KINDS | {"known_arithmetic": known_arithmetic}
STREAM = 50  # keeps the exam's scenes apart from the benchmarks'


def items(kind: str, n: int = 400, seed: int = 0, split: str = "test") -> list[Item]:
    """The first n questions of a kind, one a scene."""
    made: list[Item] = []
    index = 0
    while len(made) < n:
        rng = generator(split, 1000 * (seed + 1) + STREAM + list(EXAM).index(kind), index)
        scene = sample_scene(split, rng)
        if (question := EXAM[kind](scene, rng)) is not None:
            made.append(
                Item(
                    uid=f"{kind}/{seed}-{index}", images=(render(scene),), prompt=question.text, answer=question.answer,
                    kind="open", options=question.options, cluster=f"{split}-{index}",
                    relevant=relevant_tokens(scene, question.things), meta={"kind": kind},
                )
            )  # fmt: skip
        index += 1
    return made


def exam(model: Any, n: int = 400, seed: int = 0, split: str = "test") -> dict[str, stats.Estimate]:
    """Share of exactly right greedy answers per kind, with intervals."""
    result = {}
    for kind in EXAM:
        asked = items(kind, n, seed, split)
        answers = model.answer(asked)
        result[kind] = stats.mean([answer == item.answer for answer, item in zip(answers, asked, strict=True)])
    return result
