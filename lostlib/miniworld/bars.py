"""Questions about a bar chart: read one bar, compare two, average two, list all.

Each kind is a function (chart, rng) -> Question, or None when the chart does not admit one.
"""

from __future__ import annotations

import numpy as np

from lostlib.miniworld.charts import TALLEST, Chart
from lostlib.miniworld.questions import Question, choice

LISTED = 3  # bars of a chart whose heights are listed: a longer list would need more than eight tokens


def _two(chart: Chart, rng: np.random.Generator) -> tuple[int, int]:
    """Two bars in random order."""
    i, j = rng.permutation(len(chart.things))[:2].tolist()
    return i, j


def bar(chart: Chart, rng: np.random.Generator) -> Question:
    """What is the height of the red bar? An integer."""
    i = int(rng.integers(len(chart.things)))
    return Question("bar", f"What is the height of the {chart.things[i].name}?", str(chart.things[i].height), (i,))


def bar_difference(chart: Chart, rng: np.random.Generator) -> Question | None:
    """How much higher is the red bar than the blue bar? An integer."""
    i, j = _two(chart, rng)
    one, other = chart.things[i], chart.things[j]
    if one.height <= other.height:
        return None
    text = f"How much higher is the {one.name} than the {other.name}?"
    return Question("bar_difference", text, str(one.height - other.height), (i, j))


def bar_mean(chart: Chart, rng: np.random.Generator) -> Question:
    """What is the mean height of the red bar and the blue bar? One decimal place."""
    i, j = _two(chart, rng)
    one, other = chart.things[i], chart.things[j]
    text = f"What is the mean height of the {one.name} and the {other.name}?"
    return Question("bar_mean", text, str((one.height + other.height) / 2), (i, j))


def bar_list(chart: Chart, rng: np.random.Generator) -> Question | None:
    """What are the heights of the bars from left to right? A list of three."""
    if len(chart.things) != LISTED:
        return None
    heights = [one.height for one in chart.things]
    text = "What are the heights of the bars from left to right?"
    return Question("bar_list", text, str(heights), tuple(range(LISTED)))


def bar_choice(chart: Chart, rng: np.random.Generator) -> Question:
    """What is the height of the red bar? Four numbers, those of other bars first."""
    i = int(rng.integers(len(chart.things)))
    right = chart.things[i].height
    near = rng.permutation([one.height for one in chart.things]).tolist()
    every = dict.fromkeys([*near, *rng.permutation(np.arange(1, TALLEST + 1)).tolist()])
    options = [str(right), *[str(height) for height in every if height != right][:3]]
    return choice("bar_choice", f"What is the height of the {chart.things[i].name}?", options, (i,), rng)


def _extreme(kind: str, chart: Chart, rng: np.random.Generator, sign: int) -> Question | None:
    heights = [sign * one.height for one in chart.things]
    if heights.count(max(heights)) > 1:
        return None
    right = heights.index(max(heights))
    options = [chart.things[right].color, *(one.color for i, one in enumerate(chart.things) if i != right)]
    word = "highest" if sign > 0 else "lowest"
    return choice(kind, f"Which bar is the {word}?", options, tuple(range(len(heights))), rng)


def highest_bar(chart: Chart, rng: np.random.Generator) -> Question | None:
    """Which bar is the highest? As many options as there are bars, three to six."""
    return _extreme("highest_bar", chart, rng, 1)


def lowest_bar(chart: Chart, rng: np.random.Generator) -> Question | None:
    """Which bar is the lowest? As many options as there are bars, three to six."""
    return _extreme("lowest_bar", chart, rng, -1)
