"""Scenes: up to six coloured shapes on a 4x4 grid, a deterministic function of (split, seed, index).

Colours and shapes are not equally frequent, and objects of one scene tend to share a colour or a shape, as things in
photographs do: without that, "popular" and "adversarial" negatives (POPE) would mean nothing.

Train and test are disjoint by construction: the split of a scene is a hash of its content (which object in which
cell), so no content can occur in two splits, whatever the seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

GRID = 4  # cells per side
CELL = 16  # pixels per cell
IMAGE = GRID * CELL  # pixels per side
PATCH = 8  # pixels per visual token side
TOKENS = (IMAGE // PATCH) ** 2  # visual tokens per image
MAX_OBJECTS = 6

COLORS = {
    "red": (214, 48, 49),
    "blue": (42, 105, 232),
    "green": (38, 166, 68),
    "yellow": (245, 206, 50),
    "purple": (145, 66, 190),
    "orange": (242, 130, 30),
    "white": (236, 236, 236),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
SIZES = {"small": 4, "large": 7}  # radius in pixels
SPLITS = {"train": range(0, 205), "validation": range(205, 231), "test": range(231, 256)}  # by one hash byte

COLOR_WEIGHTS = np.array([7, 6, 5, 4, 3, 3, 2]) / 30  # frequent things are frequent, as in photographs
SHAPE_WEIGHTS = np.array([5, 4, 3, 2, 2]) / 16
SHARE = 0.4  # chance that an object takes its colour or its shape from the one before it
JITTER = 1  # pixels off the cell's centre, each way; a large shape then reaches the rim of its cell


def split_of(content: str) -> str:
    """The split of a content: one byte of its hash decides."""
    byte = hashlib.blake2b(content.encode(), digest_size=1).digest()[0]
    return next(name for name, bytes_ in SPLITS.items() if byte in bytes_)


@dataclass(frozen=True, order=True)
class Thing:
    """One object: its cell (row, column from 0 at the top left), look, and jitter in pixels."""

    row: int
    column: int
    color: str
    shape: str
    size: str
    dx: int = 0
    dy: int = 0

    @property
    def name(self) -> str:
        """The words a question uses for it, e.g. ``red circle``."""
        return f"{self.color} {self.shape}"

    @property
    def center(self) -> tuple[int, int]:
        """(x, y) in pixels."""
        return self.column * CELL + CELL // 2 + self.dx, self.row * CELL + CELL // 2 + self.dy


@dataclass(frozen=True)
class Scene:
    """Objects, the background's grey level, and the seed of the pixel noise.

    Objects are painted one after the other: raster order, but where one covers another the nearer one comes last.
    """

    things: tuple[Thing, ...]
    background: int
    noise: int

    @property
    def split(self) -> str:
        """The split this content belongs to: a hash of cells, colours, shapes and sizes (jitter left out)."""
        return split_of(";".join(f"{t.row}{t.column}{t.color}{t.shape}{t.size}" for t in self.things))


def _looks(count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """`count` (colour, shape) pairs; each may inherit one attribute from the one before."""
    looks: list[tuple[str, str]] = []
    colors = rng.choice(list(COLORS), size=count, p=COLOR_WEIGHTS)
    shapes = rng.choice(SHAPES, size=count, p=SHAPE_WEIGHTS)
    shares = rng.random((count, 2))
    for color, shape, (share, which) in zip(colors, shapes, shares, strict=True):
        if looks and share < SHARE:
            color, shape = (looks[-1][0], shape) if which < 0.5 else (color, looks[-1][1])
        looks.append((str(color), str(shape)))
    return looks


def draw_scene(rng: np.random.Generator, least: int = 1) -> Scene:
    """One scene of `least` to six objects, of whatever split it happens to fall in."""
    count = int(rng.integers(least, MAX_OBJECTS + 1))
    cells = np.sort(rng.permutation(GRID * GRID)[:count])
    sizes = rng.choice(list(SIZES), size=count)
    jitter = rng.integers(-JITTER, JITTER + 1, size=(count, 2))
    things = tuple(
        Thing(int(cell) // GRID, int(cell) % GRID, color, shape, str(size), int(dx), int(dy))
        for cell, (color, shape), size, (dx, dy) in zip(cells, _looks(count, rng), sizes, jitter, strict=True)
    )
    return Scene(things, background=int(rng.integers(30, 90)), noise=int(rng.integers(2**31)))


def generator(split: str, seed: int, index: int) -> np.random.Generator:
    """The random generator of item `index`: a function of these three numbers alone."""
    return np.random.default_rng([list(SPLITS).index(split), seed, index])


def sample_scene(split: str, rng: np.random.Generator, least: int = 1) -> Scene:
    """A scene of this split: scenes are drawn until one's content hashes into it."""
    while True:
        scene = draw_scene(rng, least)
        if scene.split == split:
            return scene


def stream(split: str, seed: int, start: int = 0) -> Iterator[tuple[Scene, np.random.Generator]]:
    """Endless (scene, generator) pairs; pair i depends on (split, seed, i) alone."""
    index = start
    while True:
        rng = generator(split, seed, index)
        yield sample_scene(split, rng), rng
        index += 1
