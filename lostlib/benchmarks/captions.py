"""mini-captions: one object of a picture described in a phrase, "large red circle row 1 column 2".

Asked to describe an image, a mini model says nothing of its own accord: training gave it the words that refer to an
object ("circle:"), in random order, and taught it what follows them. So its answer begins with such words here as well,
and the object is described as far as the picture tells: size, colour, shape and place. These are eight tokens, each
read off the image after those before it. No other benchmark has answers as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lostlib import stats
from lostlib.benchmarks.hub import Row
from lostlib.benchmarks.items import Item, known
from lostlib.benchmarks.prompts import DEFAULT, Style
from lostlib.benchmarks.rules import Rules
from lostlib.benchmarks.scoring import Mark, Scores
from lostlib.miniworld.captions import describe
from lostlib.miniworld.render import render, tokens_of
from lostlib.miniworld.scenes import COLORS, SHAPES, SIZES, generator, sample_scene

STREAM = 9  # beside those of `mini.STREAMS`
REQUEST = "Describe the image."
_SAID = re.compile(
    rf"({'|'.join(SIZES)}) ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) row ([1-4]) column ([1-4])(?: ?,)?", re.IGNORECASE
)


def rows(seed: int) -> Iterator[Row]:
    """Up to three objects of every picture, each called by a word or two that mean no other."""
    index = 0
    while True:
        rng = generator("test", 100 * seed + STREAM, index)
        scene = sample_scene("test", rng, least=2)
        for number, line in enumerate(describe(scene, rng)[:3]):
            name = scene.things[line.things[0]].name
            yield {
                "id": f"{seed}-{index}-{number}", "image": render(scene), "question": REQUEST,
                "begun": line.reference, "answer": line.reply.removesuffix(","), "image_source": f"test-{seed}-{index}",
                "called": "by colour and shape" if line.reference == f"{name}:" else "by colour or shape",
                "relevant": list(tokens_of((scene,), line.things)),
                "objects": list(tokens_of((scene,), range(len(scene.things)))),
            }  # fmt: skip
        index += 1


def to_item(row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item:
    """One object of a picture to describe."""
    return Item(
        uid=row["id"], images=(row["image"],), prompt=row["question"], begun=row["begun"], answer=row["answer"],
        kind="open", cluster=row["image_source"], **known(row), meta={"called": row["called"]},
    )  # fmt: skip


def mark(item: Item, answer: str, extractor: str | None = None) -> Mark:
    """Right where size, colour, shape, row and column are; a phrase that is not whole, or goes on, is read as nothing.

    >>> one = Item("1", (), REQUEST, "small red circle row 1 column 2", "open", begun="circle:")
    >>> mark(one, "small red circle row 1 column 2 ,").right, mark(one, "small red circle row 1").parsed
    (True, None)
    """
    found = _SAID.fullmatch(answer.strip())
    parsed = "{} {} {} row {} column {}".format(*found.groups()).lower() if found else None
    return Mark(parsed, parsed == item.answer)


def shares(items: Sequence[Item], marks: Sequence[Mark]) -> Scores:
    """``words``: how many of the five things that are said of an object are true."""
    pairs = [(item.answer.split(), (mark.parsed or "").split()) for item, mark in zip(items, marks, strict=True)]
    told = [np.mean([k < len(said) and said[k] == true[k] for k in (0, 1, 2, 4, 6)]) for true, said in pairs]
    return {"words": stats.mean(told, [item.cluster for item in items])}


RULES = Rules(
    label="captions",
    to_item=to_item,
    kinds=("open",),
    mark=mark,
    group="called",
    extra_scores=shares,
    stratum=("called",),
    tokens={"default": 12},
    images=("image",),
    rows={"all": rows},
    mini=True,
)
