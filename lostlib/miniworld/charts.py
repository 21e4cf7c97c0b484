"""Bar charts in the format of the mini world: three to six bars of different colours, heights of one to eight units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from lostlib.miniworld.scenes import COLORS, IMAGE, split_of

TALLEST = 8  # units
UNIT = 7  # pixels
BASE = 60  # the pixel row of height 0
LEFT, WIDTH = 2, 60  # pixels: where the first slot begins, and all slots together
GAP, WIDEST = 3, 12  # pixels between bars, and of the widest bar
GRID_LINE = 14  # grey levels that a grid line is lighter than the background; little, against the pixel noise


@dataclass(frozen=True, order=True)
class Bar:
    """One bar: its place from the left, colour, and height in units."""

    column: int
    color: str
    height: int

    @property
    def name(self) -> str:
        """The words a question uses for it, e.g. ``red bar``."""
        return f"{self.color} bar"


@dataclass(frozen=True)
class Chart:
    """Bars from left to right, the background's grey level, and the seed of the pixel noise."""

    things: tuple[Bar, ...]
    background: int
    noise: int

    @property
    def split(self) -> str:
        """The split this content belongs to: a hash of colours and heights."""
        return split_of("chart;" + ";".join(f"{bar.color}{bar.height}" for bar in self.things))


def draw_chart(rng: np.random.Generator, least: int = 3, most: int = 6) -> Chart:
    """A chart of `least` to `most` bars, of whatever split it happens to fall in."""
    count = int(rng.integers(least, most + 1))
    names, colors = list(COLORS), rng.permutation(len(COLORS))[:count]
    heights = rng.integers(1, TALLEST + 1, size=count)
    bars = tuple(Bar(i, names[c], int(h)) for i, (c, h) in enumerate(zip(colors, heights, strict=True)))
    return Chart(bars, background=int(rng.integers(30, 90)), noise=int(rng.integers(2**31)))


def box(chart: Chart, bar: Bar) -> tuple[int, int, int, int]:
    """The bar's pixels: left, top, right, bottom, the last two included."""
    slot = WIDTH // len(chart.things)
    width = min(WIDEST, slot - GAP)
    left = LEFT + bar.column * slot + (slot - width) // 2
    return left, BASE - UNIT * bar.height, left + width - 1, BASE - 1


def paste_chart(chart: Chart) -> tuple[Image.Image, Image.Image]:
    """The clean picture and the owner map: pixel value i + 1 where bar i is what one sees, 0 elsewhere."""
    picture = Image.new("RGB", (IMAGE, IMAGE), (chart.background,) * 3)
    owner = Image.new("L", (IMAGE, IMAGE), 0)
    drawn, owned = ImageDraw.Draw(picture), ImageDraw.Draw(owner)
    for height in range(TALLEST + 1):
        y = BASE - UNIT * height
        drawn.line((0, y, IMAGE - 1, y), fill=(chart.background + GRID_LINE,) * 3)
    for i, bar in enumerate(chart.things):
        drawn.rectangle(box(chart, bar), fill=COLORS[bar.color])
        owned.rectangle(box(chart, bar), fill=i + 1)
    return picture, owner
