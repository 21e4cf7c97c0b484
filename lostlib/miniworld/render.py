"""Pictures of scenes and charts, and which object each visual token shows.

Shapes are drawn four times too large and reduced (anti-aliased) once; a scene pastes these sprites in the order of its
things, so a later object covers an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from lostlib.miniworld.charts import Chart, paste_chart
from lostlib.miniworld.scenes import COLORS, IMAGE, PATCH, SIZES, TOKENS, Scene

Picture = Scene | Chart

NOISE = 6.0  # standard deviation of the pixel noise, in grey levels
VISIBLE = 3  # pixels of an object that make a patch one of its patches


@cache
def sprite(shape: str, size: str) -> Image.Image:
    """The shape's coverage as an 8-bit mask, 2r+1 pixels wide."""
    scale, radius = 4, SIZES[size]
    width = (2 * radius + 1) * scale
    mask = Image.new("L", (width, width), 0)
    draw, end, middle, third = ImageDraw.Draw(mask), width - 1, width / 2, width / 3
    if shape == "circle":
        draw.ellipse((0, 0, end, end), fill=255)
    elif shape == "square":
        draw.rectangle((width * 0.08, width * 0.08, end * 0.92, end * 0.92), fill=255)
    elif shape == "triangle":
        draw.polygon([(middle, 0), (end, end), (0, end)], fill=255)
    elif shape == "diamond":
        draw.polygon([(middle, 0), (end, middle), (middle, end), (0, middle)], fill=255)
    elif shape == "cross":
        draw.rectangle((third, 0, 2 * third, end), fill=255)
        draw.rectangle((0, third, end, 2 * third), fill=255)
    else:
        raise ValueError(f"unknown shape {shape!r}")
    return mask.resize((2 * radius + 1, 2 * radius + 1), Image.Resampling.LANCZOS)


@cache
def _solid(shape: str, size: str) -> Image.Image:
    """Where the shape covers more than half of a pixel: 255, else 0."""
    return sprite(shape, size).point(lambda v: 255 * (v > 127))


def _paste(scene: Picture) -> tuple[Image.Image, Image.Image]:
    """The clean picture and the owner map: pixel value i + 1 where object i is what one sees, 0 for background."""
    if isinstance(scene, Chart):
        return paste_chart(scene)
    picture = Image.new("RGB", (IMAGE, IMAGE), (scene.background,) * 3)
    owner = Image.new("L", (IMAGE, IMAGE), 0)
    for i, thing in enumerate(scene.things):
        mask, (x, y) = sprite(thing.shape, thing.size), thing.center
        left, top = x - SIZES[thing.size], y - SIZES[thing.size]
        box = (left, top, left + mask.width, top + mask.height)
        picture.paste(COLORS[thing.color], box, mask)
        owner.paste(i + 1, box, _solid(thing.shape, thing.size))
    return picture, owner


def pixels(scene: Picture) -> np.ndarray:
    """The picture as uint8 (IMAGE, IMAGE, 3), with its pixel noise."""
    clean = np.asarray(_paste(scene)[0], dtype=np.float32)
    return np.clip(clean + noise(scene.noise), 0, 255).astype(np.uint8)


def noise(seed: int) -> np.ndarray:
    """The pixel noise of a scene, in grey levels: float32 (IMAGE, IMAGE, 3)."""
    return NOISE * np.random.default_rng(seed).standard_normal((IMAGE, IMAGE, 3), dtype=np.float32)


def render(scene: Picture) -> Image.Image:
    """The picture as a PIL image, IMAGE x IMAGE pixels, RGB."""
    return Image.fromarray(pixels(scene))


def coverage(scene: Picture) -> np.ndarray:
    """Visible pixels of each object in each patch: int (objects, visual tokens), tokens in raster order."""
    owner = np.asarray(_paste(scene)[1])
    side = IMAGE // PATCH
    tiles = owner.reshape(side, PATCH, side, PATCH).transpose(0, 2, 1, 3).reshape(side * side, -1)
    return np.stack([(tiles == i + 1).sum(axis=1) for i in range(len(scene.things))])


def relevant_tokens(scene: Picture, things: tuple[int, ...]) -> tuple[int, ...]:
    """The visual tokens (raster order) that show at least three pixels of one of these objects."""
    if not things:
        return ()
    return tuple(np.flatnonzero((coverage(scene)[list(things)] >= VISIBLE).any(axis=0)).tolist())


def tokens_of(pictures: Sequence[Picture], things: Sequence[int]) -> tuple[int, ...]:
    """The visual tokens of several pictures, shown one after the other, that show one of these objects.

    Tokens and objects are numbered on from picture to picture: token 64 is the first one of the second picture.
    """
    found: list[int] = []
    first = 0
    for number, picture in enumerate(pictures):
        here = tuple(k - first for k in things if 0 <= k - first < len(picture.things))
        found += [number * TOKENS + token for token in relevant_tokens(picture, here)]
        first += len(picture.things)
    return tuple(found)
