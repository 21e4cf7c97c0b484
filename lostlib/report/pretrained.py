"""What the chapter on a pretrained language model shows: where its FFNs innovate, and what is left without one token.

Rows are those of a `residual` table with the column `kind` of `words.of_updates`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lostlib import stats
from lostlib.forms import format_numbers
from lostlib.report import drawing
from lostlib.stats import Estimate

FFN, ATTENTION, TOLERANCE = {"kind": "FFN"}, {"kind": "attention"}, {"kind": "ε(RoPE)"}
RATIOS = {"FFN / attention": (FFN, ATTENTION), "attention / ε(RoPE)": (ATTENTION, TOLERANCE)}
OTHERS = -1  # what a `writing` table calls all neurons that it does not name
WELL_ABOVE = 1.25  # a ratio that is certainly larger


def halves(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of every second item to choose layers by, and those of the others to report; of one item, twice the same."""
    items = rows["item"].drop_duplicates()
    reported = rows["item"].isin(items[::2])
    return rows if reported.all() else rows[~reported], rows[reported]


def leading(rows: pd.DataFrame, count: int = 3) -> list[int]:
    """The layers in which the FFN's RID exceeds attention's the most, the first of them first in the list."""
    means = rows.groupby(["layer", "kind"])["rid"].mean().unstack()
    return [int(layer) for layer in (means["FFN"] - means["attention"]).nlargest(count).index]


def share_of_lead(rows: pd.DataFrame, layers: Sequence[int]) -> Estimate:
    """The part of the FFN's lead over attention, summed over all layers, that these layers hold."""
    leads = rows.assign(lead=rows["rid"] * rows["kind"].map({"FFN": 1.0, "attention": -1.0}).fillna(0.0))
    items = leads.assign(own=leads["lead"] * leads["layer"].isin(layers)).groupby(["cluster", "item"])[["own", "lead"]]
    sums = items.sum().reset_index()
    return stats.ratio(sums["own"], sums["lead"], sums["cluster"])


def ratio(rows: pd.DataFrame, over: dict[str, str] = FFN, under: dict[str, str] = ATTENTION) -> Estimate:
    """Mean RID of one kind of rows over that of another, the FFN's over attention's by default."""
    return stats.ratio(*stats.sides(rows, "rid", over, under))


def change_of_ratio(before: pd.DataFrame, after: pd.DataFrame) -> Estimate:
    """By how much FFN over attention differs between two measurements of the same items, paired by item."""
    return stats.combined([stats.sides(rows, "rid", FFN, ATTENTION) for rows in (after, before)], [1, -1])


def decoupling(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Both of `RATIOS` in each part of the evidence: columns part, ratio, mean, low, high."""
    lines = [
        {"part": part, "ratio": name, **ratio(rows, *sides)._asdict()}
        for part, rows in parts.items()
        for name, sides in RATIOS.items()
    ]
    return pd.DataFrame(lines).rename(columns={"value": "mean"})


def by_length(rows: pd.DataFrame, groups: int = 4) -> dict[str, pd.DataFrame]:
    """Rows of items of about as many tokens, by their range, as `decoupling` takes them."""
    tokens = rows.groupby("item")["tokens"].max().sort_values()
    size = -(-len(tokens) // groups)
    parts = [tokens.iloc[first : first + size] for first in range(0, len(tokens), size)]
    names = [f"{part.min()} to {part.max()} tokens" if len(part) > 1 else f"{part.min()} tokens" for part in parts]
    return {name: rows[rows["item"].isin(part.index)] for name, part in zip(names, parts, strict=True)}


def answer(whole: pd.DataFrame, without: pd.DataFrame, named: Sequence[int], model: str) -> str:
    """The chapter's answer in three sentences, worded as the intervals allow."""
    over, change = ratio(whole), change_of_ratio(whole, without)
    agrees = "well above, as in the paper's models" if over.low > WELL_ABOVE else "which is not what the paper reports"
    moves = "falls to" if change.high < 0 else "rises to" if change.low > 0 else "may be the same: it is"
    share, left = share_of_lead(whole, named).value, ratio(without).value
    return (
        f"In {model}, which others pretrained on real text, the FFN's {{term}}`RID` is {over.value:.1f} times that "
        f"of attention, {agrees}. Of this lead, {_listed(named)} hold {share:.0%}; the model has "
        f"{whole['layer'].nunique()}. And much of it is one token: when the first token, which carries a "
        f"{{term}}`massive activation`, is left out of the measurement, the ratio {moves} {left:.1f}."
    )


def _listed(numbers: Sequence[int]) -> str:
    """Layers by number, ascending, as a sentence has them."""
    first, last = sorted(numbers)[:-1], max(numbers)
    return f"layers {', '.join(map(str, first))} and {last}" if first else f"layer {last}"


def quiet(named: Sequence[int], count: int) -> range:
    """The layers after the one that leads, up to the next that does; all `count` of them where it has none between."""
    end = min((layer for layer in named if layer > named[0]), default=count)
    return range(named[0] + 1, end) or range(count)


def sets_of_layers(count: int, quiet: range) -> pd.DataFrame:
    """More and more of `count` layers, from several ends: columns where, number, and layers as text."""
    first, last = quiet[0], quiet[-1]
    grown = {"the first": [range(n) for n in (2, 4, 8, 12, 16, 20, 24)]}
    grown["the last"] = [range(count - n, count) for n in (2, 4, 8, 12, 18, 22, 26)]
    if len(quiet) < count:
        grown[f"from layer {first}"] = [range(first, first + n) for n in (4, 8, 12)]
        grown[f"up to layer {last}"] = [range(last - 7, last + 1)]
    lines = [
        {"where": where, "number": len(layers), "layers": format_numbers(tuple(layers))}
        for where, sets in grown.items()
        for layers in sets
        if len(layers) < (count if where.startswith("the") else len(quiet))
    ]
    return pd.DataFrame(lines)


def loss_change(changed: Sequence[pd.DataFrame], untouched: pd.DataFrame) -> Estimate:
    """What a change costs, in nats per token: the mean over items of loss under it minus loss without it.

    Several tables are draws of the same change, each item by its mean over them. A draw is made for each item anew, so
    that an interval over items covers it. Items that not all tables have are left out.
    """
    items = pd.concat(changed).groupby("item")["loss"].agg(["mean", "size"])
    both = untouched.set_index("item").join(items[items["size"] == len(changed)], how="inner")
    return stats.difference(both["mean"], both["loss"], both["cluster"])


def loss_by_set(changed: pd.DataFrame, untouched: pd.DataFrame) -> pd.DataFrame:
    """What a change adds to the loss in each set of layers of a `losses` table: columns layers, mean, low, high."""
    parts = changed.groupby("layers", sort=False)
    lines = [{"layers": where, **loss_change([part], untouched)._asdict()} for where, part in parts]
    return pd.DataFrame(lines).rename(columns={"value": "mean"})


def writers(rows: pd.DataFrame, layer: int, top: int = 5) -> pd.DataFrame:
    """Of a `writing` table: what neurons add to the entry that this layer's FFN writes in most items.

    Columns neuron (-1: all others), mean, low, high, token, dimension, after (the entry, mean): the `top` neurons, the
    largest first, and all others together. Entries in other places do not count.
    """
    here = rows[rows["layer"] == layer]
    token, dimension = cast(tuple[int, int], here.groupby(["token", "dimension"])["item"].nunique().idxmax())
    here = here[(here["token"] == token) & (here["dimension"] == dimension)]
    wide = here.pivot_table(values="contribution", index=["cluster", "item"], columns="neuron").fillna(0.0)
    order = wide.drop(columns=OTHERS).mean().abs().nlargest(top).index
    found = wide[order].assign(**{str(OTHERS): wide.drop(columns=order).sum(axis=1)}).reset_index()
    means = stats.summary(found.melt(["cluster", "item"], var_name="neuron", value_name="adds"), ["neuron"], "adds")
    means = means.assign(neuron=means["neuron"].astype(int)).set_index("neuron").loc[[*order, OTHERS]].reset_index()
    return means.assign(token=token, dimension=dimension, after=here["after"].mean())


# --- figures ----------------------------------------------------------------------------------------------------------


def layers(panels: Mapping[str, pd.DataFrame], named: Sequence[int]) -> Figure:
    """RID of FFN and attention by layer over the shaded tolerance, one panel a measurement, `named` layers labelled."""
    fig, axes = plt.subplots(
        len(panels), figsize=(drawing.WIDTH, 0.6 + 2.2 * len(panels)), sharex=True, sharey=True, squeeze=False
    )
    found = {title: stats.summary(rows, ["kind", "layer"], "rid") for title, rows in panels.items()}
    top = 1.12 * max(means["high"].max() for means in found.values())
    for ax, (title, means) in zip(axes[:, 0], found.items(), strict=True):
        shade = means[means["kind"] == "ε(RoPE)"]
        ax.fill_between(shade["layer"], 0, shade["mean"], color="black", alpha=0.25, lw=0, label="ε(RoPE), tolerance")
        drawing.curves(ax, means, "layer", "kind", ["FFN", "attention"])
        _label(ax, means[(means["kind"] == "FFN") & means["layer"].isin(named)], means["layer"].max())
        ax.set(ylabel="RID", ylim=(0, top))
        ax.set_title(title, loc="left")
    axes[-1, 0].set_xlabel("layer")
    drawing.legend_below(fig, axes[:1, 0], ncols=3)
    return fig


def _label(ax: Axes, points: pd.DataFrame, last: int) -> None:
    """Names beside points; neighbours are named together, at the higher one."""
    groups: list[pd.DataFrame] = [part for _, part in points.groupby(points["layer"].diff().ne(1).cumsum())]
    for group in groups:
        at = group.sort_values("mean").iloc[-1]
        right = at["layer"] > 0.7 * last
        ax.annotate(
            f"layer{'s' * (len(group) > 1)} {'+'.join(map(str, group['layer']))}", (at["layer"], at["mean"]),
            ha="right" if right else "left", va="bottom", xytext=(0 if right else 6, 4), textcoords="offset points",
        )  # fmt: skip


def complexity(panels: Mapping[str, pd.DataFrame]) -> tuple[Figure, pd.DataFrame]:
    """The effective rank of the stream that enters each layer, a line a measurement; and what is drawn."""
    found = pd.concat(
        stats.summary(rows[rows["kind"] == "attention"], ["layer"], "erank_before").assign(measured=name)
        for name, rows in panels.items()
    )
    fig, ax = plt.subplots(figsize=(drawing.WIDTH, 2.8))
    drawing.curves(ax, found, "layer", "measured", list(panels))
    ax.set(xlabel="layer that the stream enters", ylabel="effective rank", ylim=(0, None))
    drawing.legend_below(fig, [ax], ncols=2)
    return fig, found


def first_token(heads: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Attention on the first token by layer: a dot a head, the mean over heads as a line; and what the line shows.

    Rows are those of a `sinks` table of heads.
    """
    found = stats.summary(heads.assign(heads="mean over heads"), ["layer", "heads"], "on_first")
    dots = heads.groupby(["layer", "head"])["on_first"].mean().reset_index()
    fig, ax = plt.subplots(figsize=(drawing.WIDTH, 2.8))
    ax.plot(dots["layer"], dots["on_first"], "o", color="C1", ms=3, alpha=0.6, label="one head")
    drawing.curves(ax, found, "layer", "heads", ["mean over heads"])
    ax.set(xlabel="layer", ylabel="attention on the first token", ylim=(0, 1))
    drawing.legend_below(fig, [ax], ncols=2)
    return fig, found


def forest(found: pd.DataFrame, published: Mapping[str, float]) -> Figure:
    """A forest plot of `decoupling`, one line a part; the published ratios are dashed."""
    fig, ax = plt.subplots(figsize=(drawing.WIDTH, 1.3 + 0.45 * found["part"].nunique()))
    ax.axvline(1, color="black", lw=0.8)
    drawing.groups(ax, found, "part", "ratio", list(RATIOS), lying=True)
    for k, name in enumerate(RATIOS):
        if name in published:
            ax.axvline(published[name], color=f"C{k}", ls="--", lw=1.2, label="paper")
    ax.set(xlabel="ratio of mean RIDs", xlim=(0, None))
    drawing.legend_below(fig, [ax], ncols=3)
    return fig


def updates(
    rows: pd.DataFrame, published: Mapping[str, float], draws: pd.DataFrame | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Mean RID of both modules and of the controls beside the published values; and what is drawn.

    With `draws`, rows of several sets of noise matrices, the interval of Noise QKV covers items and draws.
    """
    found = stats.summary(rows, ["kind"], "rid").set_index("kind").loc[list(published)]
    if draws is not None:
        noise = draws[draws["kind"] == "Noise QKV"]
        over = stats.crossed(noise.pivot_table(values="rid", index="item", columns="draw").to_numpy()).estimate
        found.loc["Noise QKV", ["mean", "low", "high"]] = list(over)
    fig, ax = plt.subplots(figsize=(drawing.WIDTH, 2.8))
    drawing.points(ax, range(len(found)), found, lying=True, label="here")
    ax.plot(list(published.values()), range(len(found)), "D", color="C1", ms=6, label="paper")
    ax.set(yticks=range(len(found)), yticklabels=found.index, xlabel="RID, mean over layers", xlim=(0, None))
    ax.invert_yaxis()
    drawing.legend_below(fig, [ax], ncols=2)
    return fig, found.reset_index()


def costs(found: pd.DataFrame, series: Mapping[str, str]) -> Figure:
    """A forest plot of losses: a line for each entry of `change`, points for each of `series` of the column `sink`."""
    fig, ax = plt.subplots(figsize=(drawing.WIDTH, 1.3 + 0.45 * found["change"].nunique()))
    ax.axvline(0, color="black", lw=0.8)
    drawing.groups(ax, found, "change", "sink", series, value="value", lying=True)
    ax.set(xlabel="loss added, nats per token")
    drawing.legend_below(fig, [ax], ncols=2)
    return fig


def curves(found: pd.DataFrame, along: str, series: str, xlabel: str) -> Figure:
    """Losses over layers, or over how many of them are replaced; a line for each entry of the column `series`."""
    fig, ax = plt.subplots(figsize=(drawing.WIDTH, 3.2))
    ax.axhline(0, color="black", lw=0.8)
    drawing.curves(ax, found, along, series, list(dict.fromkeys(found[series])))
    ax.set(xlabel=xlabel, ylabel="loss added, nats per token")
    drawing.legend_below(fig, [ax], ncols=2)
    return fig


def neurons(found: pd.DataFrame) -> Figure:
    """Bars of `writers`: what single neurons add to an entry, and all others together."""
    fig, ax = plt.subplots(figsize=(drawing.WIDTH, 2.8))
    at = range(len(found))
    ax.bar(at, found["mean"], color=["C0" if n >= 0 else "C4" for n in found["neuron"]])
    drawing.points(ax, at, found, fmt="none", ecolor="C1")
    ax.set(xticks=at, xlabel="neuron of the FFN", ylabel="adds to the entry")
    ax.set_xticklabels([str(n) if n >= 0 else "others" for n in found["neuron"]], rotation=45)
    return fig
