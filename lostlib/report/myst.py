"""The book's Markdown: text and tables from data, and what other notebooks show of it (roles as words)."""

from __future__ import annotations

import csv
import io
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lostlib import paths

UNKNOWN = "–"  # what there was nothing to estimate from
KINDS = {"fig": "figure", "tab": "table", "eq": "the formula", "thm": "the theorem"}
TITLE = r"^(?:# )?\(([\w-]+)\)=\n(?:# )?#+ (.+)$"  # a label and the heading below it, in a page or a chapter's source
ENTRY = r"^@\w+\{([\w-]+),.*?author\s*=\s*\{(.*?)\},\n.*?year\s*=\s*\{(\d+)\}"


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is MyST in the book, to hold links or be the target of one, and plain text elsewhere."""

    text: str
    myst: str

    def __str__(self) -> str:
        return self.text


def escape(text: object) -> str:
    """Text from data as MyST that shows exactly this text: every punctuation mark gets a backslash."""
    marks = re.escape(string.punctuation)
    return re.sub(f"([{marks}])", r"\\\1", " ".join(str(text).split()))


def csv_table(
    head: Iterable[object], rows: Iterable[Iterable[object]], caption: str = "", label: str = "", look: str = ""
) -> str:
    """A MyST table with all cells escaped but for `Cell`s; a colon fence, because its title may hold backticks."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([c.myst if isinstance(c, Cell) else escape(c) for c in row] for row in (head, *rows))
    name = (f":name: {label}\n" if label else "") + (f":class: {look}\n" if look else "")
    return f":::{{csv-table}} {caption}\n{name}:header-rows: 1\n:widths: auto\n\n{buffer.getvalue()}:::"


def behind(claim: str, model: str) -> str:
    """The anchor of the estimates behind a cell of the scorecard.

    >>> behind("C2a", "mini-llava-1.5")
    'cell-c2a-mini-llava-1-5'
    """
    return f"cell-{claim}-{re.sub(r'[^A-Za-z0-9]+', '-', model)}".lower()


def shown(number: Mapping[str, Any], spec: str) -> str:
    """A record of `report.say` as the role `num` prints it; with its interval where the format ends in `ci`.

    The type `p` prints a share in points, a hundred times as large.

    >>> shown({"value": 1.25, "low": 1.0, "high": 2.0}, ".1f:ci")
    '1.2 [1.0, 2.0]'
    >>> shown({"value": -0.498, "low": -0.5, "high": -0.495}, "+.0p")
    '-50'
    """
    spec, _, interval = spec.strip().partition(":") if spec != "ci" else ("", "", "ci")
    if interval not in ("", "ci"):
        raise ValueError(f"{interval!r} is not 'ci'")
    if number["value"] is None:  # there was nothing to estimate it from
        return UNKNOWN
    if interval and number["low"] is None:
        raise ValueError("there is no interval")
    times, spec = (100, f"{spec[:-1]}f") if spec.endswith("p") else (1, spec)
    value, low, high = (
        None if number[k] is None else format(times * number[k], spec) for k in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]" if interval else str(value)


def plain(text: str, numbers: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """MyST as Markdown that any notebook shows; `numbers` are the records of `report.say` that it may quote.

    Figures, tables and formulas go by their names, chapters and pages by their titles, papers by authors and year.

    >>> plain("(ch)=\\n# A\\nSee {numref}`fig-rid`: {num}`x:.1f:ci` by {eq}`eq-rid`.",
    ...       {"x": {"value": 1.25, "low": 1.0, "high": 2.0}})
    '# A\\nSee figure “rid”: 1.2 [1.0, 2.0] by the formula “rid”.'
    """
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^:::\{[\w:]*?(\w+)\} *(.*)\n(?::\w+:.*\n)*", _titled, text, flags=re.MULTILINE)
    text = re.sub(r"^:::+\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\$\$ \(eq-([\w-]+)\)$", r"\\tag{\1}\n$$", text, flags=re.MULTILINE)
    return re.sub(r"\{([\w:]+)\}`([^`]*)`", lambda found: _role(found[1], found[2], numbers or {}), text)


def _titled(found: re.Match) -> str:
    """A directive's opening lines as a bold word; a note in the margin begins with its own."""
    if found[1] == "margin":
        return ""
    title = f" ({found[2]})" if found[2] else ""
    return f"**{found[1].capitalize()}{title}.** "


def _role(role: str, content: str, numbers: Mapping[str, Mapping[str, Any]]) -> str:
    if role == "num":
        key, _, spec = content.partition(":")
        return shown(numbers[key], spec) if key in numbers else f"`{key}`"
    if titled := re.fullmatch(r"(.*\S) *<.*>", content):
        return titled[1]
    if role.startswith("cite"):
        return _cited(content, in_brackets=role == "cite")
    kind, _, name = content.partition("-")
    if kind in KINDS and name:
        return f"{KINDS[kind]} “{name}”"
    return f"“{_titles()[content]}”" if content in _titles() else content


def _cited(key: str, in_brackets: bool) -> str:
    """Authors and year as the book prints them."""
    if key not in _papers():
        return f"({key})"
    authors, year = _papers()[key]
    return f"({authors}, {year})" if in_brackets else f"{authors} ({year})"


@cache
def _titles() -> dict[str, str]:
    """What labelled chapters and pages are called; nothing where the package is installed without the book."""
    files = [*paths.ROOT.glob("notebooks/*.py"), *paths.ROOT.glob("book/**/*.md")]
    return dict(found for path in files for found in re.findall(TITLE, path.read_text("utf-8"), flags=re.MULTILINE))


@cache
def _papers() -> dict[str, tuple[str, str]]:
    """Authors and year by citation key, from the book's bibliography."""
    path = paths.ROOT / "book" / "references.bib"
    text = path.read_text("utf-8") if path.exists() else ""
    found = re.findall(ENTRY, text, flags=re.MULTILINE | re.DOTALL)
    return {key: (_short(authors.split(" and ")), year) for key, authors, year in found}


def _short(authors: list[str]) -> str:
    """Family names as in a citation: one, two, or the first of more."""
    names = [name.split(",")[0].split()[-1] for name in authors]
    return " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
