"""What a chapter comes to: claims beside what was measured, and the tables that it stands on."""

import html
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lostlib.report import notebook, parameters
from lostlib.report.figures import as_html, brief
from lostlib.report.myst import csv_table, escape, plain
from lostlib.report.numbers import Number, Published

MARKS = {"holds": "✓", "opposite": "⇄", "fails": "✗", "undecided": "?", "not measurable": "○", "not run": "·"}
PROVENANCE = ("name", "model", "weights", "benchmark", "intervention", "seed", "n", "source", "hash")


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
    notebook.show(
        {
            "text/plain": f"{key}: {text}\n"
            + "".join(f"{a}: {b}\n" for a, b in rows)
            + f"{MARKS[status]} {status}. {plain(note)}",
            "text/html": _verdict_html(record, rows, plain(note)),
            notebook.BOOK: {"markdown": _verdict_myst(record, rows, note)},
            notebook.VERDICT: record,
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
    chapter = (notebook.files_folder() or Path("CHAPTER_files")).name.removesuffix("_files")
    given = "".join(f" -p {name} {shlex.quote(str(value))}" for name, value in parameters.CURRENT.items())
    command = f"papermill notebooks/{chapter}.ipynb out.ipynb{given}"
    intro = "Tables that this chapter stands on:" if rows else "This chapter reads no table."
    words, page, myst = (
        (brief(df), as_html(df), csv_table(df.columns, df.itertuples(index=False))) if rows else ("", "", "")
    )
    folded = f":::{{dropdown}} {intro}\n{myst}\n\nAll tables, with the commands that make them: {{ref}}`tables`.\n:::"
    notebook.show(
        {
            "text/plain": f"{intro}\n{words}\nRun it again: {command}",
            "text/html": f"<p>{intro}</p>{page}<p>Run it again:</p><pre>{html.escape(command)}</pre>",
            notebook.BOOK: {"markdown": f"{folded}\n\nRun it again:\n\n```bash\n{command}\n```"},
        }
    )
