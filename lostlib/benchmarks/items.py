"""What a benchmark asks: one `Item` a question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Item:
    """One question about zero or more images.

    uid       unique within the benchmark; random draws are keyed by it
    images    PIL images, in the order they are shown
    prompt    the text the model is asked, options and instructions included
    answer    the expected answer: yes | no, a letter, a number as text, …
    kind      yesno | mcq | number | open
    options   letter -> text for mcq
    cluster   items of one cluster share an image: intervals resample clusters
    relevant  visual tokens (raster order) that decide the answer, where they are known; None where they are not
    objects   visual tokens that show any object, where they are known; the others are background
    meta      what scores are broken down by
    """

    uid: str
    images: tuple[Any, ...]
    prompt: str
    answer: str
    kind: str
    options: Mapping[str, str] | None = None
    cluster: str = ""
    relevant: tuple[int, ...] | None = None
    objects: tuple[int, ...] | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
