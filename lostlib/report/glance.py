"""Verdicts at a glance: grids of coloured cells, each with its mark, and what stands behind a cell. No torch.

- `scorecard`  claims and models: a table in the book, whose cells lead to their estimates, and a picture elsewhere
- `drawn`      that picture, and any other grid of verdicts
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lostlib.report import figures, notebook
from lostlib.report.drawing import WIDTH
from lostlib.report.myst import plain
from lostlib.report.verdicts import MARKS

ROW, COLUMN, TEXT = 0.24, 0.22, 0.75  # inches that a row and a column take; rows that a line of words takes
LETTERS = 62  # that a line of a figure holds
# status -> a colour of the style and its strength: `.lost-holds` and so on of book/_static/lost.css
SHADES = {"holds": ("C2", 0.4), "opposite": ("C3", 0.6), "fails": ("C1", 0.4), "undecided": ("#9a7d00", 0.2),
          "not measurable": ("C4", 0.14), "not run": ("C4", 0.0)}  # fmt: skip
SAID = ", ".join(f"{mark} {status}" for status, mark in MARKS.items())


class Seen(NamedTuple):
    """A cell: its status, and what stands behind it in a line."""

    status: str
    told: str


class Line(NamedTuple):
    """A claim: its text, what is printed, its cells in the order of the models, and what they come to."""

    claim: str
    text: str
    printed: str
    cells: Sequence[Seen]
    end: str


def scorecard(models: Sequence[str], lines: Sequence[Line], name: str, caption: str) -> None:
    """Show the claims as a numbered grid, and hand it to the book, whose directive `glance` shows it on any page."""
    label, caption = figures.labelled("tab", name), " ".join(caption.split())
    alt = "; ".join(f"{line.claim} {line.end}" for line in lines)
    fig = _scorecard_drawn(models, lines)
    record = {"models": list(models), "lines": [line._asdict() | {"cells": [*line.cells]} for line in lines]}
    data = pd.DataFrame(
        [(line.claim, model, *cell) for line in lines for model, cell in zip(models, line.cells, strict=True)],
        columns=["claim", "model", "status", "told"],
    )
    markdown = f":::{{glance}}\n:name: {label}\n\n{caption}\n:::"
    if folder := notebook.files_folder():
        offered = {"csv": data.to_csv(index=False).encode(), "svg": figures.saved(fig, "svg")}
        markdown += f"\n\n{figures.offered(folder, label, offered)}"
    png = base64.b64encode(figures.saved(fig, "png")).decode()
    notebook.show({"text/plain": alt, "image/png": png, notebook.BOOK: {"markdown": markdown}, notebook.GRID: record})
    plt.close(fig)
    said = f"Table “{name}”: {plain(caption)}"
    notebook.show({"text/plain": said, "text/markdown": f"*{said}*", notebook.BOOK: {"markdown": ""}})


def _scorecard_drawn(models: Sequence[str], lines: Sequence[Line]) -> Figure:
    """Each claim's text, below it its cells and what they come to."""
    texts = [textwrap.fill(f"{line.claim}  {line.text}", LETTERS) for line in lines]
    ends = [textwrap.fill(line.end, round(LETTERS * (1 - (len(models) + 2) * COLUMN / WIDTH))) for line in lines]
    head = 0.37 * max(map(len, models))
    above = [TEXT * (text.count("\n") + 1) for text in texts]
    below = [max(1.0, TEXT * (end.count("\n") + 1)) for end in ends]
    fig, ax = _paper(head + sum(above) + sum(below) + 0.8 * len(lines), WIDTH / COLUMN)
    for x, model in enumerate(models):
        ax.text(x + 0.5, head - 0.3, model.removeprefix("mini-"), rotation=90, ha="center", va="bottom")
    top = head
    for line, text, end, words, cells in zip(lines, texts, ends, above, below, strict=True):
        ax.text(0, top, text, va="top")
        for x, cell in enumerate(line.cells):
            _cell(ax, x, top + words + 0.65, cell.status)
        ax.text(len(models) + 0.6, top + words + 0.25, end, va="top")
        top += words + cells + 0.8
    return fig


def drawn(rows: pd.DataFrame, columns: Sequence[tuple[str, str, str]]) -> Figure:
    """A row for each choice, with room between families; a black frame marks a verdict that flips.

    Parameters
    ----------
    rows : DataFrame
        Columns family, choice, column, status, flipped, as `lostlib.claims.choices.grid` gives them. The first family
        is the reference, which has no heading.
    columns : sequence of (column, head, second head)
        Which entries of `column` are shown, in order, under which words.
    """
    at, heads, height = dict[tuple, float](), dict[str, float](), 0.0
    for family, choice in dict.fromkeys(zip(rows["family"], rows["choice"], strict=True)):
        if family not in heads:
            height += 1.3 if heads else 0.25
            heads[family] = height - 0.8
        at[family, choice] = height
        height += 1
    names = WIDTH / COLUMN - len(columns)  # what the columns leave
    deep = 0.4 * max(len(f"{head} {second}") for _, head, second in columns) + 1
    fig, ax = _paper(height + deep + 0.2, WIDTH / COLUMN, top=-deep, left=-names)
    places = zip(rows["family"], rows["choice"], rows["column"], strict=True)
    found = dict(zip(places, zip(map(str, rows["status"]), map(bool, rows["flipped"]), strict=True), strict=True))
    for (family, choice), y in at.items():
        ax.text(-0.2, y, choice, ha="right", va="center")
        for x, (column, _, _) in enumerate(columns):
            if (family, choice, column) in found:
                _cell(ax, x, y, *found[family, choice, column])
            else:
                ax.text(x + 0.5, y, "·", ha="center", va="center")
    for family, y in list(heads.items())[1:]:
        ax.text(-0.2, y, family, ha="right", va="center", weight="bold")
    for x, (_, head, second) in enumerate(columns):
        ax.text(x + 0.5, -0.7, f"{head} {second}".strip(), rotation=90, ha="center", va="bottom", weight="bold")
    return fig


def _paper(height: float, width: float, top: float = 0, left: float = 0) -> tuple[Figure, plt.Axes]:
    """An empty sheet, as wide as the book's column, counted in rows and columns from its upper left."""
    fig, ax = plt.subplots(figsize=(WIDTH, ROW * height))
    ax.set(xlim=(left, left + width), ylim=(top + height, top))
    ax.axis("off")
    return fig, ax


def _cell(ax: plt.Axes, x: float, y: float, status: str, flipped: bool = False) -> None:
    """A verdict: its colour and mark, in a frame where it is another than usual."""
    frame = {"edgecolor": "black", "lw": 1.8} if flipped else {"edgecolor": "none"}
    ax.add_patch(Rectangle((x + 0.05, y - 0.44), 0.9, 0.88, facecolor=to_rgba(*SHADES[status]), **frame))
    ax.text(x + 0.5, y, MARKS[status], ha="center", va="center", weight="bold" if flipped else "normal")
