"""What a chapter says to the book: numbers, figures, tables, verdicts and where they came from.

Every call shows something sensible in plain Jupyter, on GitHub and in Colab. When a chapter is run for the book, the
variable LOST_FILES names the folder for figures and tables, and the output also carries what the book shows in
its place (as MyST text, under a MIME type that only `book/_ext/lostbook.py` reads). Nothing here imports torch.
"""

import base64
import csv
import html
import io
import json
import math
import numbers
import os
import re
import shlex
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from lostlib import paths
from lostlib.report import parameters
from lostlib.report.drawing import style
from lostlib.report.myst import plain
from lostlib.report.parameters import ParameterError, check_parameters
from lostlib.text import nearest

__all__ = [
    "Cell",
    "Number",
    "ParameterError",
    "Published",
    "check_parameters",
    "escape",
    "figure",
    "provenance",
    "published",
    "say",
    "style",
    "table",
    "verdict",
]

BOOK, NUMBER, VERDICT = (f"application/vnd.lost.{kind}+json" for kind in ("book", "number", "verdict"))
PAPER = paths.PUBLISHED
MARKS = {"holds": "✓", "does not hold": "✗", "opposite": "⇄", "not measurable here": "○"}
PROVENANCE = ("name", "model", "weights", "benchmark", "intervention", "seed", "n", "source", "hash")


UNKNOWN = "–"


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


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is MyST in the book, to hold links or be the target of one, and plain text elsewhere."""

    text: str
    myst: str

    def __str__(self) -> str:
        return self.text


class Published(NamedTuple):
    """A figure that the paper prints, as transcribed in `data/paper`."""

    key: str
    value: float | str
    unit: str
    where: str
    note: str


# --- numbers ----------------------------------------------------------------------------------------------------------


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
    _show({"text/plain": f"{key} = {number:{spec}}", NUMBER: number._asdict()})
    return number


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
    for path in sorted(PAPER.glob("*.csv")):
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


# --- figures and tables -----------------------------------------------------------------------------------------------


def figure(fig: Figure, name: str, caption: str, alt: str, data: pd.DataFrame | None = None) -> None:
    """Show a numbered figure; prose refers to it with {numref}`fig-name`. `caption` is MyST, `alt` plain text."""
    label, alt, caption = _label("fig", name), " ".join(alt.split()), " ".join(caption.split())
    if not alt or not caption:
        raise ValueError(f"figure {name!r} needs a caption and an alternative text for those who cannot see it")
    png = _saved(fig, "png")
    bundle: dict[str, Any] = {"text/plain": alt, "image/png": base64.b64encode(png).decode()}
    if folder := files_folder():
        files = {kind: _saved(fig, kind) for kind in ("svg", "pdf")}
        files |= {} if data is None else {"csv": data.to_csv(index=False).encode()}
        for kind, content in files.items():
            (folder / f"{label}.{kind}").write_bytes(content)
        lines = (
            f":name: {label}\n:alt: {json.dumps(alt, ensure_ascii=False)}\n\n{caption}\n\n{_downloads(label, files)}"
        )
        bundle[BOOK] = {"markdown": f":::{{figure}} {folder.name}/{label}.svg\n{lines}\n:::"}
    plt.close(fig)  # or Jupyter shows it a second time
    _show(bundle)
    named, said = f"Figure “{name}”", plain(caption)  # in a notebook, where nothing is numbered
    _show({"text/plain": f"{named}: {said}", "text/markdown": f"**{named}.** *{said}*", BOOK: {"markdown": ""}})


def table(
    df: pd.DataFrame, name: str, caption: str, formats: Mapping[str, str | Callable[[Any], str]] | None = None,
    look: str = "",
) -> None:  # fmt: skip
    """Show a numbered table; prose refers to it with {numref}`tab-name`. `formats` maps columns to format specs.

    `look` is a class of `book/_static/lost.css`: "lost-sortable" is for long tables, to be searched and sorted.
    """
    label, caption = _label("tab", name), " ".join(caption.split())
    df = df.reset_index(drop=df.index.names == [None])  # an index without a name says nothing
    text = _as_text(df, formats or {})
    links = ""
    if folder := files_folder():
        (folder / f"{label}.csv").write_text(df.to_csv(index=False))
        links = f"\n\n{_downloads(label, ['csv'])}"
    markdown = f"{_csv_table(text, caption, label, look)}{links}"
    heading = f"<table border='1'><caption>{html.escape(f'Table “{name}”: {plain(caption)}')}</caption>"
    rows = _html(text).split(">", 1)[1]
    _show({"text/plain": _brief(text), "text/html": heading + rows, BOOK: {"markdown": markdown}})


def _brief(df: pd.DataFrame) -> str:
    """For where there is no HTML."""
    return df.to_string(index=False, max_rows=30)


def _html(df: pd.DataFrame) -> str:
    """Escaped, and without pandas' indentation."""
    return re.sub(r"\n +", "\n", df.to_html(index=False))


def _saved(fig: Figure, kind: str) -> bytes:
    """The figure as a file, with neither clock nor version in it."""
    no_clock: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    buffer = io.BytesIO()
    fig.savefig(buffer, format=kind, metadata=no_clock, facecolor="white")
    return _thinned(buffer) if kind == "png" else buffer.getvalue()


def _thinned(png: io.BytesIO) -> bytes:
    """The picture in 128 colours of its own, at little over a third of its size."""
    thin = io.BytesIO()
    with Image.open(png) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(thin, "PNG", optimize=True)
    return thin.getvalue()


def _as_text(df: pd.DataFrame, formats: Mapping[str, Any]) -> pd.DataFrame:
    if stray := set(formats) - set(df.columns):
        raise KeyError(f"formats for columns that are not there: {sorted(stray)}; columns: {list(df.columns)}")
    rows = [
        [_cell(value, formats.get(c)) for c, value in zip(df.columns, row, strict=True)]
        for row in df.itertuples(index=False)
    ]
    return pd.DataFrame(rows, columns=[str(c) for c in df.columns])


def _cell(value: Any, spec: str | Callable[[Any], str] | None) -> str | Cell:
    if isinstance(value, Cell):
        return value
    if value is None or value is pd.NA or value != value:  # NaN is the one value unlike itself
        return "–"
    if callable(spec):
        return spec(value)
    return format(value, spec or (".4g" if isinstance(value, float) else ""))


def _csv_table(text: pd.DataFrame, caption: str = "", label: str = "", look: str = "") -> str:
    """A MyST table with all cells escaped; a colon fence, because its title may hold backticks."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow([escape(c) for c in text.columns])
    for row in text.itertuples(index=False):
        writer.writerow([c.myst if isinstance(c, Cell) else escape(c) for c in row])
    name = (f":name: {label}\n" if label else "") + (f":class: {look}\n" if look else "")
    return f":::{{csv-table}} {caption}\n{name}:header-rows: 1\n:widths: auto\n\n{buffer.getvalue()}:::"


def escape(text: object) -> str:
    """Text from data as MyST that shows exactly this text: every punctuation mark gets a backslash."""
    marks = re.escape(string.punctuation)
    return re.sub(f"([{marks}])", r"\\\1", " ".join(str(text).split()))


def _label(kind: str, name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name {name!r}: small letters, digits and hyphens only")
    return f"{kind}-{name}"


def files_folder() -> Path | None:
    """Where this run keeps its files, or None outside a run for the book."""
    folder = os.environ.get("LOST_FILES")
    return Path(folder) if folder else None


def to_the_book(markdown: str) -> None:
    """Show MyST text in the book, and nothing elsewhere."""
    _show({"text/plain": "", BOOK: {"markdown": markdown}})


def _downloads(label: str, kinds: Iterable[str]) -> str:
    folder = os.path.basename(os.environ["LOST_FILES"])
    return " · ".join(f"{{download}}`{kind.upper()} <{folder}/{label}.{kind}>`" for kind in kinds)


# --- verdicts and provenance ------------------------------------------------------------------------------------------


def verdict(claim: str, published: object, measured: object, status: str, note: str = "") -> None:
    """A box that sets a claim, "A1: its text", beside what was measured here.

    `published` is a text, a number or `published(key)`; `measured` a text or what `say` gave back; `note` is MyST.
    """
    if status not in MARKS:
        raise ValueError(f"status {status!r}: one of {', '.join(MARKS)}")
    key, colon, text = (part.strip() for part in claim.partition(":"))
    if not (colon and text and re.fullmatch(r"[A-Za-z0-9.-]+", key)):
        raise ValueError(f"claim {claim!r}: written as 'A1: what the paper says'")
    rows = [("The paper", _in_words(published)), ("Measured here", _in_words(measured))]
    record = {"claim": key, "text": text, "status": status, "label": f"verdict-{key.lower().replace('.', '-')}"}
    _show(
        {
            "text/plain": f"{key}: {text}\n"
            + "".join(f"{a}: {b}\n" for a, b in rows)
            + f"{MARKS[status]} {status}. {plain(note)}",
            "text/html": _verdict_html(record, rows, plain(note)),
            BOOK: {"markdown": _verdict_myst(record, rows, note)},
            VERDICT: record,
        }
    )


def _verdict_html(record: Mapping[str, str], rows: Sequence[tuple[str, str]], note: str) -> str:
    title = html.escape(f"{record['claim']} {MARKS[record['status']]} {record['status']}")
    lines = "<br>".join(f"{a}: {html.escape(b)}" for a, b in rows)
    return f"<p><b>{title}</b><br>{html.escape(record['text'])}</p><p>{lines}</p><p>{html.escape(note)}</p>"


def _verdict_myst(record: Mapping[str, str], rows: Sequence[tuple[str, str]], note: str) -> str:
    title = f"{escape(record['claim'])} {MARKS[record['status']]} {record['status']}"
    options = f":class: lost-verdict lost-{record['status'].replace(' ', '-')}\n:name: {record['label']}\n"
    lines = "\n".join(f"- {a}: {_listed(b)}" for a, b in rows)
    return f":::{{admonition}} {title}\n{options}\n{escape(record['text'])}\n\n{lines}\n\n{note}\n:::"


def _listed(text: str) -> str:
    """As MyST; of three or more statements between semicolons, each has its line."""
    parts = [escape(part) for part in text.split("; ")]
    return "; ".join(parts) if len(parts) < 3 else "".join(f"\n  - {part}" for part in parts)


def _in_words(value: object) -> str:
    if isinstance(value, Published):
        shown = f"{value.value:g}" if isinstance(value.value, float) else value.value
        return " ".join(part for part in (shown, value.unit, f"({value.where})") if part)
    return f"{value:.3g}" if isinstance(value, Number | float) else str(value)


def provenance(tables: Iterable[Mapping[str, Any]]) -> None:
    """End a chapter: the tables it stands on (their manifests) and the command that runs it again."""
    rows = [{k: str(t[k])[:60] for k in PROVENANCE if t.get(k) is not None} for t in tables]
    df = pd.DataFrame(rows, columns=[k for k in PROVENANCE if any(k in row for row in rows)]).fillna("–")
    chapter = (files_folder() or Path("CHAPTER_files")).name.removesuffix("_files")
    given = "".join(f" -p {name} {shlex.quote(str(value))}" for name, value in parameters.CURRENT.items())
    command = f"papermill notebooks/{chapter}.ipynb out.ipynb{given}"
    intro = "Tables that this chapter stands on:" if rows else "This chapter reads no table."
    words, page, myst = (_brief(df), _html(df), _csv_table(df)) if rows else ("", "", "")
    folded = f":::{{dropdown}} {intro}\n{myst}\n\nAll tables, with the commands that make them: {{ref}}`tables`.\n:::"
    _show(
        {
            "text/plain": f"{intro}\n{words}\nRun it again: {command}",
            "text/html": f"<p>{intro}</p>{page}<p>Run it again:</p><pre>{html.escape(command)}</pre>",
            BOOK: {"markdown": f"{folded}\n\nRun it again:\n\n```bash\n{command}\n```"},
        }
    )


def _show(bundle: dict[str, Any]) -> None:
    """Display a bundle in a notebook; print its plain text elsewhere."""
    try:
        from IPython import display, get_ipython  # a pip install of the package alone has no IPython
    except ImportError:
        get_ipython = None
    if get_ipython is None or get_ipython() is None:
        print(bundle["text/plain"])
    else:
        display.display(bundle, raw=True)
