"""Numbers that prose prints: those that a chapter says, and those that the papers print."""

import csv
import math
import numbers
import re
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lostlib import paths
from lostlib.report import notebook
from lostlib.report.myst import UNKNOWN, plain
from lostlib.text import nearest


class Number(NamedTuple):
    """A number with its interval; `f"{n:.3f}"` prints both. None: there was nothing to estimate it from."""

    key: str
    value: float | None
    low: float | None = None
    high: float | None = None

    def __format__(self, spec: str) -> str:
        if self.value is None:
            return UNKNOWN
        value = format(self.value, spec)
        return value if self.low is None else f"{value} [{format(self.low, spec)}, {format(self.high, spec)}]"

    def _ipython_display_(self) -> None:
        """Show nothing when a cell ends in `say(...)`: that has shown it already."""


class Published(NamedTuple):
    """A figure that the paper prints, as transcribed in `data/paper`."""

    key: str
    value: float | str
    unit: str
    where: str
    note: str


def say(key: str, value: Any, low: Any = None, high: Any = None) -> Number:
    """Hand a number to the book: prose prints it with the role {num}`key:.3f`, or {num}`key:.3f:ci` with its interval.

    `value` may also be an estimate, that is anything with `.value`, `.low` and `.high`. What is nan, as the mean of no
    items, is printed as a dash; in the shipped book nothing is, which a test holds.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", key):
        raise ValueError(f"key {key!r}: small letters, digits and underscores only, a letter first")
    if low is None and high is None and hasattr(value, "low"):
        value, low, high = value.value, value.low, value.high
    if (low is None) != (high is None):
        raise ValueError(f"{key}: an interval has two ends, got low={low!r} and high={high!r}")
    ends = () if _is_nan(value) else (None if end is None else _finite(key, end) for end in (low, high))
    number = Number(key, None if _is_nan(value) else _finite(key, value), *ends)
    whole = low is None and isinstance(number.value, int)
    spec = "" if whole else ".3f" if 0.1 <= abs(number.value or 0) < 1000 else ".3g"
    notebook.show({"text/plain": f"{key} = {number:{spec}}", notebook.NUMBER: number._asdict()})
    return number


def tell(text: str) -> None:
    """Show sentences that data wrote, as MyST in the book and as Markdown in any notebook."""
    words = plain(text)
    notebook.show({"text/plain": words, "text/markdown": words, notebook.BOOK: {"markdown": text}})


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and math.isnan(value)


def _finite(key: str, value: Any) -> float | int:
    """A Python number from a Python, NumPy or torch scalar; infinity, text and arrays are errors."""
    scalar = value.item() if hasattr(value, "item") else value
    if isinstance(scalar, bool) or not isinstance(scalar, numbers.Real) or not math.isfinite(scalar):
        raise ValueError(f"{key}: a finite number is needed, got {value!r}")
    return int(scalar) if isinstance(scalar, numbers.Integral) else float(scalar)


@cache
def _paper() -> dict[str, Published]:
    """All published figures; the columns of the files are the fields of `Published`."""
    found = {}
    for path in sorted(paths.PUBLISHED.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                key, value, *about = (row[name] for name in Published._fields)
                found[key] = Published(key, _number_or_text(value), *about)
    return found


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def published(key: str) -> Published:
    """What the paper prints under this key of `data/paper/*.csv`."""
    if key not in _paper():
        raise KeyError(f"the paper's figures have no key {key!r}{nearest(key, _paper())}")
    return _paper()[key]
