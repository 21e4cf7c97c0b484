"""Texts to read, and nothing asked: what a language model is measured on, by its loss per token.

Three hundred of 60 to 400 tokens, written for this book: stories, questions, lists, dialogue, code, numbers and
descriptions of pictures. They are sent as they stand, without a chat template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lostlib import paths
from lostlib.benchmarks.hub import Row
from lostlib.benchmarks.items import Item
from lostlib.benchmarks.prompts import DEFAULT, Style
from lostlib.benchmarks.rules import Rules

FILE = paths.DATA / "texts" / "texts.jsonl"


def rows(seed: int) -> Iterator[Row]:
    """The kinds take turns, so that the first n are a fair sample; another seed gives another order."""
    found = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    order = np.random.default_rng(seed).permutation(len(found)) if seed else np.arange(len(found))
    return (found[i] for i in order)


def to_item(row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item:
    """A text as an item that is no turn in a conversation."""
    return Item(row["uid"], (), row["text"], "", "open", cluster=row["uid"], meta={"kind": row["kind"]}, chat=False)


RULES = Rules(
    label="texts",
    to_item=to_item,
    kinds=("open",),
    group="kind",
    stratum=("kind",),
    tokens={"default": 64},
    rows={"all": rows},
)
