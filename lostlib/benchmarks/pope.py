"""POPE: is there a ... in the image? Half yes, half no; the "no" objects are random, popular or adversarial.

Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lostlib import stats
from lostlib.benchmarks.hub import Source
from lostlib.benchmarks.items import Item, known
from lostlib.benchmarks.prompts import DEFAULT, SHORT, Style
from lostlib.benchmarks.rules import Rules
from lostlib.benchmarks.scoring import Mark, Scores, values


def to_item(row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item:
    """A row with POPE's columns: id, question_id, question, answer, image_source, category, image.

    The default prompt is the question alone, as VLMEvalKit asks it; lmms-eval and LLaVA want a single word.
    """
    question = row["question"].strip()
    return Item(
        uid=f"{row['category']}/{row['question_id']}",
        images=(row["image"],),
        prompt=f"{question}\n{SHORT}" if style.profile == "lmms" else question,
        answer=row["answer"].strip().lower(),
        kind="yesno",
        cluster=row["image_source"],
        **known(row),
        meta={"category": row["category"]},
    )


def extra_scores(items: Sequence[Item], marks: Sequence[Mark]) -> Scores:
    """F1, precision and recall of "yes", and the share of "yes" answers; what is unparsed is not a "yes".

    For all items and for each category (``f1/random``, ``n/random`` …). ``f1_mean3`` is the mean of the categories'
    F1, which is what LLaVA's papers report; the F1 of all items is another number.
    """
    clusters = np.array([item.cluster for item in items])
    said, true = np.array([m.parsed == "yes" for m in marks]), np.array([item.answer == "yes" for item in items])
    unparsed = np.array([m.parsed is None for m in marks])
    hits, either = said & true, said.astype(int) + true
    scores: Scores = {}
    categories = values(items, "category")
    for end, chosen in {
        "": np.full(len(items), True),
        **{f"/{name}": mask for name, mask in categories.items()},
    }.items():
        hit, held = hits[chosen], clusters[chosen]
        scores |= {
            f"f1{end}": stats.ratio(2 * hit, either[chosen], held),
            f"precision{end}": stats.ratio(hit, said[chosen], held),
            f"recall{end}": stats.ratio(hit, true[chosen], held),
            f"yes_ratio{end}": stats.mean(said[chosen], held),
        }
        if end:
            scores |= {f"n{end}": int(chosen.sum()), f"n_unparsed{end}": int(unparsed[chosen].sum())}
    if len(categories) == 3:
        parts = [(2 * hits[chosen], either[chosen], clusters[chosen]) for chosen in categories.values()]
        scores["f1_mean3"] = stats.combined(parts, [1 / 3] * 3)
    return scores


RULES = Rules(
    label="pope",
    task="hallucination",
    to_item=to_item,
    kinds=("yesno",),
    group="category",
    extra_scores=extra_scores,
    stratum=("category", "answer"),
    tokens={"default": 128},
    images=("image",),
    sources={"test": (Source("lmms-lab/POPE"), Source("lmms-lab-encoder/POPE"))},
    expected={
        "test": {"items": 9000, "answer=yes": 4500, "answer=no": 4500}
        | {f"category={name}": 3000 for name in ("adversarial", "popular", "random")}
    },
)
