"""The look of figures: colours that everyone can tell apart, letters that a phone can show, intervals."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lostlib.report import drawing

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("notebooks/*.py"))
PHONE = 342  # pixels that a figure is wide on a screen of 390
VISION = {  # linear RGB as dichromats see it: Machado, Oliveira and Fernandes (2009), severity 1
    "full": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = XYZ.sum(axis=1)


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    t = XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(vision: str, one: str, other: str) -> float:
    """How far apart two colours look; 2 is just seen side by side, 100 is black and white."""
    return float(np.linalg.norm(lab(VISION[vision] @ linear(one)) - lab(VISION[vision] @ linear(other))))


def contrast(colour: str) -> float:
    """On white, as WCAG counts it; lines and marks need 3."""
    return 1.05 / (XYZ[1] @ linear(colour) + 0.05)


@pytest.mark.parametrize("vision", VISION)
def test_everyone_can_tell_the_colours_apart(vision: str):
    close = {pair: distance(vision, *pair) for pair in combinations(drawing.PALETTE, 2)}
    assert min(close.values()) > 15, sorted(close.items(), key=lambda pair: pair[1])[:3]


def test_the_measure_sees_what_dichromats_do_not():
    assert distance("full", "#ff0000", "#948a00") > 60
    assert distance("no red", "#d55e00", "#8c7200") < 5
    assert distance("full", "#000000", "#ffffff") == pytest.approx(100, abs=0.1)


def test_the_colours_stand_out_on_white():
    assert {colour: contrast(colour) for colour in drawing.PALETTE if contrast(colour) < 3} == {}
    assert contrast("#ffffff") == pytest.approx(1)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_other_colours_and_no_smaller_letters(source: Path):
    text = source.read_text()
    strange = set(re.findall(r"#[0-9a-fA-F]{6}\b", text)) - set(drawing.PALETTE)
    assert all(contrast(colour) >= 4.5 for colour in strange), "letters of another colour need more contrast"
    assert all(int(number) < len(drawing.PALETTE) for number in re.findall(r'color="C(\d)', text))
    assert not re.findall(r"fontsize|labelsize|font\.size", text), "the style's size is the smallest that phones show"
    widths = [float(width) for width in re.findall(r"figsize=\(([\d.]+),", text)]
    assert all(width <= drawing.WIDTH for width in widths)


def test_letters_are_ten_pixels_on_a_phone():
    drawing.style()
    sizes = [mpl.rcParams[f"{what}size"] for what in ("axes.title", "axes.label", "xtick.label", "ytick.label")]
    assert {plt.matplotlib.font_manager.FontProperties(size=size).get_size_in_points() for size in sizes} == {11}
    assert 11 * PHONE / (72 * drawing.WIDTH) >= 10


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


ROWS = pd.DataFrame(
    {
        "layer": [0, 1, 0, 1],
        "kind": ["a", "a", "b", "b"],
        "mean": [1.0, 2.0, 3.0, 4.0],
        "low": [0.5, 1.5, 2.0, 4.0],
        "high": [2.0, 3.0, 4.0, 4.0],
    }
)


def ends(ax) -> list[tuple[float, ...]]:
    """Both ends of every interval drawn."""
    return [tuple(segment.ravel().round(6)) for lines in ax.collections for segment in lines.get_segments()]


def test_points_have_their_intervals_either_way():
    _, (standing, lying) = plt.subplots(2)
    drawing.points(standing, [0, 1], ROWS[:2])
    drawing.points(lying, [0, 1], ROWS[:2], lying=True)
    assert ends(standing) == [(0, 0.5, 0, 2.0), (1, 1.5, 1, 3.0)]
    assert ends(lying) == [(0.5, 0, 2.0, 0), (1.5, 1, 3.0, 1)]


def test_groups_stand_side_by_side_and_the_first_line_is_on_top():
    _, ax = plt.subplots()
    drawing.groups(ax, ROWS, "layer", "kind", {"b": "second", "a": "first"}, lying=True)
    assert ends(ax) == [(2, -0.15, 4, -0.15), (4, 0.85, 4, 0.85), (0.5, 0.15, 2, 0.15), (1.5, 1.15, 3, 1.15)]
    assert ax.get_legend_handles_labels()[1] == ["second", "first"]
    assert ax.yaxis.get_inverted()


def test_curves_differ_in_more_than_colour():
    fig, ax = plt.subplots()
    drawing.curves(ax, ROWS, "layer", "kind", ["a", "b"])
    one, other = ax.lines
    assert one.get_marker() != other.get_marker()
    assert one.get_linestyle() != other.get_linestyle()
    assert len(ax.collections) == 2
    drawing.legend_below(fig, [ax, ax], ncols=2)
    assert [text.get_text() for text in fig.legends[0].texts] == ["a", "b"]
