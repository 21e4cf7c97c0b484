"""MathVista: mathematics in pictures; here its integer answers, read by rule and not by a judge model.

Lu et al., "MathVista", ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lostlib.benchmarks.extractors import integer
from lostlib.benchmarks.items import Item

GROUP = "task"
EXTRACTOR = integer


def to_item(row: Mapping[str, Any]) -> Item:
    """A row with MathVista's columns: pid, query, image (path), decoded_image, answer, answer_type, metadata …"""
    return Item(
        uid=row["pid"],
        images=(row["decoded_image"],),
        prompt=row["query"],
        answer=row["answer"],
        kind="number",
        cluster=row["image"],
        relevant=None if row.get("relevant") is None else tuple(row["relevant"]),
        objects=None if row.get("objects") is None else tuple(row["objects"]),
        meta={"task": row["metadata"]["task"]},
    )
