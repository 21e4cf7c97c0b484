"""Figures that a reader drives in the book without a kernel, each below a numbered static twin. No torch.

A figure's data is written once, into a small HTML fragment that `book/_static/explore.js` brings to life; in plain
Jupyter, in print and without scripts the twin is what there is.
"""

from __future__ import annotations

import base64
import io
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lostlib.benchmarks import Item
from lostlib.report import figures, notebook
from lostlib.report.drawing import PALETTE

LARGEST = 1_000_000  # bytes of a fragment; a phone should not load more
SCALE = 10_000  # weights are kept as whole numbers of 1 / SCALE
PIXELS = 160  # longest side of a shown picture

Scene = tuple[str, Item]  # a benchmark's name and one of its items, with one picture


def answers(scenes: Sequence[Scene], runs: Mapping[str, pd.DataFrame], name: str, caption: str, alt: str) -> None:
    """Choose an intervention, see the answers change.

    Parameters
    ----------
    scenes : sequence of (benchmark, Item)
    runs : mapping of label to frame
        Rows of answers with the columns benchmark, item, raw (what was said) and right (bool); the first is the
        baseline.
    name, caption, alt
        As for `report.figure`.
    """
    said = {label: frame.set_index(["benchmark", "item"]).loc[_keys(scenes)] for label, frame in runs.items()}
    rows = pd.concat([f[["raw", "right"]].reset_index().assign(run=label) for label, f in said.items()])
    figures.figure(_answers_drawn(scenes, said), name, caption, alt, rows)
    shown = [
        _shown(item) | {"answers": [[str(f["raw"].iloc[k]), bool(f["right"].iloc[k])] for f in said.values()]}
        for k, (_, item) in enumerate(scenes)
    ]
    _fragment(name, {"kind": "answers", "runs": list(runs), "scenes": shown})


def maps(
    scenes: Sequence[Scene], runs: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], name: str, caption: str, alt: str
) -> None:
    """Choose picture, layer and head, see the attention map before and after a replacement.

    Parameters
    ----------
    scenes : sequence of (benchmark, Item)
        Those whose image tokens do not fill a square are left out.
    runs : mapping of label to (maps, answers)
        Rows of a `maps` table with a column benchmark, and of `answers` as above; the first run is the untouched model.
    name, caption, alt
        As for `report.figure`.
    """
    weights = {label: [_weights(found, scene) for scene in scenes] for label, (found, _) in runs.items()}
    square = [k for k, w in enumerate(next(iter(weights.values()))) if math.isqrt(w.shape[-1]) ** 2 == w.shape[-1] > 0]
    if not square:
        print("No attention maps are drawn: the image tokens of these items do not fill a square.")
        return
    scenes = [scenes[k] for k in square]
    weights = {label: [found[k] for k in square] for label, found in weights.items()}
    figures.figure(_maps_drawn(scenes[0][1], weights), name, caption, alt, _wide(scenes, weights))
    said = [frame.set_index(["benchmark", "item"]).loc[_keys(scenes)] for _, frame in runs.values()]
    shown = [
        _shown(item)
        | {
            "relevant": list(item.relevant or ()),
            "answers": [[str(f["raw"].iloc[k]), bool(f["right"].iloc[k])] for f in said],
            "weights": [np.rint(SCALE * found[k]).astype(int).tolist() for found in weights.values()],
        }
        for k, (_, item) in enumerate(scenes)
    ]
    _fragment(name, {"kind": "maps", "runs": list(runs), "scale": SCALE, "scenes": shown})


# --- what is shown ----------------------------------------------------------------------------------------------------


def _keys(scenes: Sequence[Scene]) -> list[tuple[str, str]]:
    return [(benchmark, item.uid) for benchmark, item in scenes]


def _shown(item: Item) -> dict[str, Any]:
    """What a page says of an item: the picture as a data address, question and truth as plain text."""
    picture = item.images[0]
    picture.thumbnail((PIXELS, PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    address = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"picture": address, "question": item.prompt, "truth": item.answer}


def _weights(found: pd.DataFrame, scene: Scene) -> NDArray[np.float64]:
    """One scene's weights, (layers, heads, patches)."""
    benchmark, item = scene
    own = found[(found["benchmark"] == benchmark) & (found["item"] == item.uid)]
    sizes = [int(own[axis].max()) + 1 if len(own) else 0 for axis in ("layer", "head", "patch")]
    return own["weight"].to_numpy(float).reshape(sizes)


def _wide(scenes: Sequence[Scene], weights: Mapping[str, list[NDArray[np.float64]]]) -> pd.DataFrame:
    """The figure's data: a line a scene, run, layer and head, a column a patch."""
    parts = []
    for label, found in weights.items():
        for (benchmark, item), w in zip(scenes, found, strict=True):
            index = pd.MultiIndex.from_product([range(w.shape[0]), range(w.shape[1])], names=["layer", "head"])
            line = pd.DataFrame(w.reshape(len(index), -1).round(4), index=index).reset_index()
            parts.append(pd.DataFrame({"benchmark": benchmark, "item": item.uid, "run": label}, line.index).join(line))
    return pd.concat(parts)


# --- the static twins -------------------------------------------------------------------------------------------------


def _answers_drawn(scenes: Sequence[Scene], said: Mapping[str, pd.DataFrame], across: int = 3) -> Figure:
    """Pictures with their questions, below them a line of answers for each run; orange ones are wrong."""
    blocks, lines = -(-len(scenes) // across), 0.2 * len(said)
    heights = [1.2, lines] * blocks
    fig, axes = plt.subplots(
        2 * blocks, across + 1, figsize=(5.2, sum(heights) + 1.1 * blocks), squeeze=False, height_ratios=heights,
        width_ratios=[1.4] + [1] * across,
    )  # fmt: skip
    for ax in axes.flat:
        ax.set_axis_off()
    for ax in axes[1::2].flat:
        ax.set(ylim=(len(said) - 0.5, -0.5), xlim=(0, 1))
    for block in range(blocks):
        for row, label in enumerate(said):
            axes[2 * block + 1][0].text(1, row, label, va="center", ha="right")
    for k, (_, item) in enumerate(scenes):
        block, column = divmod(k, across)
        picture, below = axes[2 * block][column + 1], axes[2 * block + 1][column + 1]
        picture.imshow(np.asarray(item.images[0]))
        picture.set_title(_plain(textwrap.fill(textwrap.shorten(item.prompt, 60), 13)), loc="left")
        for row, frame in enumerate(said.values()):
            right = bool(frame["right"].iloc[k])
            text = f"{'✓' if right else '✗'} {textwrap.shorten(str(frame['raw'].iloc[k]), 9, placeholder='…')}"
            color = PALETTE[0] if right else "#a34700"  # the palette's orange, darker: small text on white
            below.text(0, row, _plain(text), color=color, va="center")
    return fig


def _plain(text: str) -> str:
    """Text in which a dollar is a dollar, not the start of a formula."""
    return text.replace("$", r"\$")


def _maps_drawn(item: Item, weights: Mapping[str, list[NDArray[np.float64]]]) -> Figure:
    """One scene, mean over heads: a line of maps for each run, a column a layer."""
    runs = {label: found[0].mean(1) for label, found in weights.items()}  # (layers, patches)
    layers, patches = next(iter(runs.values())).shape
    shown, side = range(0, layers, -(-layers // 8)), math.isqrt(patches)
    fig, axes = plt.subplots(len(runs), len(shown) + 1, figsize=(5.2, 0.85 * len(runs) + 0.4), squeeze=False)
    fig.suptitle("layer")
    for row, (label, found) in enumerate(runs.items()):
        axes[row][0].imshow(np.asarray(item.images[0]))
        axes[row][0].set_ylabel(label)
        for ax, layer in zip(axes[row][1:], shown, strict=True):
            ax.imshow(found[layer].reshape(side, side), cmap="cividis", vmin=0)
            for patch in item.relevant or ():
                at = (patch % side - 0.5, patch // side - 0.5)
                ax.add_patch(plt.Rectangle(at, 1, 1, fill=False, color="white", lw=0.8))
            ax.set_title(layer if row == 0 else "")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    return fig


# --- to the book ------------------------------------------------------------------------------------------------------


def _fragment(name: str, data: Mapping[str, Any]) -> None:
    """Put the data into the page; no text of it can end the script element it stands in."""
    label = f"explore-{name}"
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    if len(text.encode()) > LARGEST:
        print(f"{label} cannot be driven: {len(text.encode()) / 1e6:.1f} MB of data are too many for a page.")
        return
    if folder := notebook.files_folder():
        inert = f'<script type="application/json">{text}</script>'
        (folder / f"{label}.html").write_text(f'<div class="lost-explore" id="{label}" hidden>{inert}</div>\n', "utf-8")
        notebook.to_the_book(f":::{{raw}} html\n:file: {folder.name}/{label}.html\n:::")
