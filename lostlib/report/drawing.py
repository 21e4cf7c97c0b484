"""How the book's figures look, and the ways in which they show numbers with their intervals. No torch.

- `points`  values against something, each with its interval
- `cross`   one point, with an interval in both directions
- `groups`  several of them side by side at each place of an axis: a forest plot, lying or standing
- `changes` a forest plot of changes of accuracy
- `curves`  lines over layers or positions, with bands

The frames have the columns `low` and `high` beside the value, as `lostlib.stats.summary` gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 5.2  # inches, 500 px in the book; on a phone of 390 px 11 pt are then 10 px, and nothing is set smaller
# of Okabe and Ito those that stand out on white, and a violet that nobody takes for one of them
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#6600CC")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")

Kinds = Sequence[str] | Mapping[str, str]  # wanted entries of a column, in order; a mapping gives them other names


def style() -> None:
    """The book's look: legible at 390 px width, on white also in dark mode, the same bytes on every run."""
    plt.rcdefaults()
    mpl.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.4),
            "figure.dpi": 150,
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "font.size": 11,
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=PALETTE),
            "legend.frameon": False,
            "svg.hashsalt": "lost",  # ids in SVG files are random without it
        }
    )


def points(ax: Axes, at: Any, rows: pd.DataFrame, value: str = "mean", lying: bool = False, **look: Any) -> None:
    """Column `value` of `rows` at the places `at`, with intervals; `lying`: the values run along the x axis."""
    error = [rows[value] - rows["low"], rows["high"] - rows[value]]
    drawn: dict[str, Any] = {"fmt": "o", "ms": 5, "capsize": 2} | look
    if lying:
        ax.errorbar(rows[value], at, xerr=error, **drawn)
    else:
        ax.errorbar(at, rows[value], yerr=error, **drawn)


def cross(ax: Axes, x: pd.Series, y: pd.Series, **look: Any) -> None:
    """One point with an interval in both directions; each with the entries mean, low and high."""
    across, along = ([[one["mean"] - one["low"]], [one["high"] - one["mean"]]] for one in (x, y))
    ax.errorbar(x["mean"], y["mean"], xerr=across, yerr=along, **look)


def groups(
    ax: Axes, rows: pd.DataFrame, place: str, series: str, kinds: Kinds, value: str = "mean", lying: bool = False
) -> None:
    """At each entry of column `place` the points of all `kinds` of column `series`, side by side.

    With `lying` places are lines, the first one on top.
    """
    places = list(dict.fromkeys(rows[place]))
    for k, (part, label) in enumerate(_parts(rows, series, kinds)):
        at = part[place].map(places.index).astype(float) + 0.6 * ((k + 0.5) / len(kinds) - 0.5)
        points(ax, at, part, value, lying, fmt=MARKERS[k % len(MARKERS)], label=label)
    if lying:
        ax.set(yticks=range(len(places)), yticklabels=places, ylim=(len(places) - 0.5, -0.5))
    else:
        ax.set(xticks=range(len(places)), xticklabels=places, xlim=(-0.5, len(places) - 0.5))


def changes(
    rows: pd.DataFrame, place: str, series: str, kinds: Kinds, value: str = "value", *, height: float, ncols: int = 2,
    **axes: Any,
) -> Figure:  # fmt: skip
    """A forest plot of changes of accuracy: a line an entry of `place`, in it a point for each of `kinds`."""
    fig, ax = plt.subplots(figsize=(WIDTH, height))
    ax.axvline(0, color="black", lw=0.8)
    groups(ax, rows, place, series, kinds, value, lying=True)
    ax.set(xlabel="change of accuracy", **axes)
    legend_below(fig, [ax], ncols)
    return fig


def curves(ax: Axes, rows: pd.DataFrame, along: str, series: str, kinds: Kinds, value: str = "mean") -> None:
    """A line over column `along` for each of `kinds` of column `series`, with its band, marker and dash."""
    for k, (part, label) in enumerate(_parts(rows, series, kinds)):
        look: dict[str, Any] = {"marker": MARKERS[k % len(MARKERS)], "ls": DASHES[k % len(DASHES)], "ms": 5, "lw": 1.2}
        ax.plot(part[along], part[value], label=label, **look)
        ax.fill_between(part[along], part["low"], part["high"], alpha=0.2, lw=0)


def _parts(rows: pd.DataFrame, series: str, kinds: Kinds) -> Iterator[tuple[pd.DataFrame, str]]:
    """The rows of each wanted kind and the kind's name in the legend."""
    for kind in kinds:
        yield rows[rows[series] == kind], kinds[kind] if isinstance(kinds, Mapping) else kind


def legend_below(fig: Figure, axes: Iterable[Axes], ncols: int) -> None:
    """One legend for all axes under the figure, each name once."""
    named: dict[Any, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    fig.legend(list(named.values()), list(named), loc="outside lower center", ncols=ncols)
