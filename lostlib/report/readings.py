"""The picture of C7's readings: how much of the room is left, reading by reading, on each benchmark in each model."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lostlib.report.drawing import WIDTH

ROW = 0.2  # inches
ACROSS = 2  # benchmarks beside one another
# status -> a colour of the style, and its strength where everything is left and where nothing is
SHADES = {"holds": ("C2", 0.45, 0.45), "fails": ("C1", 0.3, 0.8), "opposite": ("C3", 0.35, 1.0),
          "undecided": ("black", 0.04, 0.5)}  # fmt: skip
CELL = ("model", "reading", "same", "status", "left")
SAME, UNMEASURABLE = "=", "○"


def readings(found: pd.DataFrame, models: Sequence[str]) -> Figure:
    """A panel a benchmark, a row a reading, a column a model.

    Parameters
    ----------
    found : DataFrame
        Columns model, benchmark, reading, same, left and status, as `lostlib.claims.readings.cells` gives them; one row
        each. Readings and benchmarks stand in their order.
    models : sequence of str
        The columns, in their order.
    """
    names, rows = list(dict.fromkeys(found["benchmark"])), list(dict.fromkeys(found["reading"]))
    down = -(-len(names) // ACROSS)
    deep = 0.5 * max(len(_short(model)) for model in models) + 1.5  # rows that the models' names take
    size = WIDTH, ROW * down * (len(rows) + deep)
    fig, axes = plt.subplots(down, ACROSS, figsize=size, squeeze=False, sharey=True)
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    for ax, name in zip(axes.flat, names, strict=False):
        _panel(ax, found[found["benchmark"] == name], rows, models)
        ax.set_title(name, weight="bold")
    return fig


def _panel(ax: Axes, found: pd.DataFrame, rows: Sequence[str], models: Sequence[str]) -> None:
    ax.set(xlim=(0, len(models)), ylim=(len(rows), 0), yticks=[k + 0.5 for k in range(len(rows))], yticklabels=rows)
    ax.set_xticks([k + 0.5 for k in range(len(models))], [_short(model) for model in models], rotation=90)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    held = found[found["model"].isin(models)]
    for model, reading, same, status, left in zip(*(held[name] for name in CELL), strict=True):
        x, y = models.index(model), rows.index(reading)
        if same or status not in SHADES:
            ax.text(x + 0.5, y + 0.5, SAME if same else UNMEASURABLE, ha="center", va="center", color="0.6")
        else:
            ax.add_patch(Rectangle((x + 0.05, y + 0.06), 0.9, 0.88, facecolor=_colour(status, left), lw=0))


def _colour(status: str, left: float) -> tuple[float, float, float, float]:
    colour, all_left, none_left = SHADES[status]
    return to_rgba(colour, none_left + (all_left - none_left) * min(max(left, 0.0), 1.0))


def _short(model: str) -> str:
    """Of a mini model what tells it from the others.

    >>> [_short(name) for name in ("mini-llava-1.5", "mini-llava-1.5-xs", "mini-qwen2.5-vl", "owner/name")]
    ['llava-1.5', 'xs', 'qwen2.5-vl', 'owner/name']
    """
    name = model.removeprefix("mini-")
    return name.removeprefix("llava-1.5-")
