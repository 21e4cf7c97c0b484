"""RealWorldQA (xAI 2024): spatial questions about an image; options stand in the question, a letter is the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lostlib.benchmarks.extractors import letter
from lostlib.benchmarks.items import Item

GROUP = "n_options"
EXTRACTOR = letter


def to_item(row: Mapping[str, Any]) -> Item:
    """A row with RealWorldQA's columns: image, question, answer, image_path; options are lines of the question."""
    options = dict(re.findall(r"^([A-Z])\. (.+)$", row["question"], re.MULTILINE))
    return Item(
        uid=row["uid"],
        images=(row["image"],),
        prompt=row["question"],
        answer=row["answer"],
        kind="mcq",
        options=options,
        cluster=row["image_path"],
        relevant=None if row.get("relevant") is None else tuple(row["relevant"]),
        objects=None if row.get("objects") is None else tuple(row["objects"]),
        meta={"n_options": str(len(options))},
    )
