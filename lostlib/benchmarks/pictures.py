"""Pictures as a model sees them, wherever they come from: upright, RGB, eight bits."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

RANGES = (1, 0xFF, 0xFFFF)  # of numbers that do not say theirs: shares, 8 bits, 16 bits


class Kept(ABC):
    """A picture that is elsewhere until it is looked at."""

    @abstractmethod
    def open(self) -> Image.Image:
        """The picture, as `rgb` makes it."""


def read(given: Any) -> Image.Image:
    """A picture of PIL, a file's path or bytes, or a row of `datasets` ({"bytes": …, "path": …}), as `rgb` makes it."""
    if isinstance(given, Mapping):
        from datasets import Image as Decoder

        given = Decoder().decode_example(dict(given))  # paths may be addresses, or places within archives
    if isinstance(given, bytes | str | Path):
        given = Image.open(io.BytesIO(given) if isinstance(given, bytes) else Path(given).expanduser())
    if not isinstance(given, Image.Image):
        raise TypeError(f"expected a picture of PIL, a path, bytes or a row of datasets, got {type(given).__name__}")
    return rgb(given)


def rgb(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF data say, darkest to lightest in eight bits, on white where it is transparent.

    Pillow's own conversion cuts 16-bit values off at 255, and shows colours that transparency hides.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode[0] in "IF":
        picture = _eight_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Of grey values that have 16 bits, or, where the mode does not say so, the least of `RANGES` that holds them."""
    values = np.asarray(picture).astype("float64").clip(0)
    if not np.isfinite(values).all():
        raise ValueError(f"a picture of mode {picture.mode} has values that are not finite")
    known = RANGES[2:] if picture.mode.startswith("I;16") else RANGES[picture.mode == "I" :]
    top = next((top for top in known if values.max(initial=0) <= top), values.max(initial=0))
    return Image.fromarray((values / top * 0xFF).round().astype("uint8"))
