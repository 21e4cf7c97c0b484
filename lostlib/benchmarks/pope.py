"""POPE: is there a ... in the image? Half yes, half no; the "no" objects are random, popular or adversarial.

Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lostlib import stats
from lostlib.benchmarks.extractors import yes_no
from lostlib.benchmarks.items import Item

GROUP = "category"
EXTRACTOR = yes_no


def to_item(row: Mapping[str, Any]) -> Item:
    """A row with POPE's columns: id, question_id, question, answer, image_source, category, image."""
    return Item(
        uid=f"{row['category']}/{row['question_id']}",
        images=(row["image"],),
        prompt=row["question"].strip(),
        answer=row["answer"],
        kind="yesno",
        cluster=row["image_source"],
        relevant=None if row.get("relevant") is None else tuple(row["relevant"]),
        objects=None if row.get("objects") is None else tuple(row["objects"]),
        meta={"category": row["category"]},
    )


def extra_scores(items: Sequence[Item], parsed: Sequence[str | None]) -> dict[str, stats.Estimate]:
    """F1, precision and recall of "yes", and the share of "yes" answers; what is unparsed is not a "yes"."""
    clusters = [item.cluster for item in items]
    said, true = (
        np.array([value == "yes" for value in values]) for values in (parsed, [item.answer for item in items])
    )
    hit = said & true
    return {
        "f1": stats.ratio(2 * hit, said.astype(int) + true, clusters),
        "precision": stats.ratio(hit, said, clusters),
        "recall": stats.ratio(hit, true, clusters),
        "yes_ratio": stats.mean(said, clusters),
    }
