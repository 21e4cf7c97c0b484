"""Numbered figures and tables, with their data to download."""

import base64
import html
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from lostlib.report import notebook
from lostlib.report.myst import Cell, csv_table, plain


def figure(
    fig: Figure, name: str, caption: str, alt: str, data: pd.DataFrame | None = None,
    fold: str = "",  # a title below which the book folds the figure away
) -> None:  # fmt: skip
    """Show a numbered figure; prose refers to it with {numref}`fig-name`. `caption` is MyST, `alt` plain text."""
    label, alt, caption = labelled("fig", name), " ".join(alt.split()), " ".join(caption.split())
    if not alt or not caption:
        raise ValueError(f"figure {name!r} needs a caption and an alternative text for those who cannot see it")
    png = saved(fig, "png")
    bundle: dict[str, Any] = {"text/plain": alt, "image/png": base64.b64encode(png).decode()}
    if folder := notebook.files_folder():
        files = {kind: saved(fig, kind) for kind in ("svg", "pdf")}
        files |= {} if data is None else {"csv": data.to_csv(index=False).encode()}
        options = f":name: {label}\n:alt: {json.dumps(alt, ensure_ascii=False)}"
        lines = f"{options}\n\n{caption}\n\n{offered(folder, label, files)}"
        bundle[notebook.BOOK] = {"markdown": f":::{{figure}} {folder.name}/{label}.svg\n{lines}\n:::"}
        if fold:
            bundle[notebook.BOOK]["markdown"] = f"::::{{dropdown}} {fold}\n{bundle[notebook.BOOK]['markdown']}\n::::"
    plt.close(fig)  # or Jupyter shows it a second time
    notebook.show(bundle)
    named, said = f"Figure “{name}”", plain(caption)  # in a notebook, where nothing is numbered
    words = f"**{named}.** *{said}*"
    notebook.show({"text/plain": f"{named}: {said}", "text/markdown": words, notebook.BOOK: {"markdown": ""}})


def table(
    df: pd.DataFrame, name: str, caption: str, formats: Mapping[str, str | Callable[[Any], str]] | None = None,
    look: str = "", fold: str = "",
) -> None:  # fmt: skip
    """Show a numbered table; prose refers to it with {numref}`tab-name`. `formats` maps columns to format specs.

    `look` is a class of `book/_static/lost.css`: "lost-sortable" is for long tables, to be searched and sorted. With
    `fold`, a title, the table is folded away below it, and a link into the table opens it.
    """
    label, caption = labelled("tab", name), " ".join(caption.split())
    df = df.reset_index(drop=df.index.names == [None])  # an index without a name says nothing
    text = _as_text(df, formats or {})
    markdown = csv_table(text.columns, text.itertuples(index=False), caption, label, look)
    if folder := notebook.files_folder():
        markdown += f"\n\n{offered(folder, label, {'csv': df.to_csv(index=False).encode()})}"
    heading = f"<table border='1'><caption>{html.escape(f'Table “{name}”: {plain(caption)}')}</caption>"
    page = heading + as_html(text).split(">", 1)[1]
    if fold:
        markdown = f"::::{{dropdown}} {fold}\n{markdown}\n::::"
        page = f"<details><summary>{html.escape(fold)}</summary>{page}</details>"
    notebook.show({"text/plain": brief(text), "text/html": page, notebook.BOOK: {"markdown": markdown}})


def brief(df: pd.DataFrame) -> str:
    """For where there is no HTML."""
    return df.to_string(index=False, max_rows=30)


def as_html(df: pd.DataFrame) -> str:
    """Escaped, and without pandas' indentation."""
    return re.sub(r"\n +", "\n", df.to_html(index=False))


def saved(fig: Figure, kind: str) -> bytes:
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


def labelled(kind: str, name: str) -> str:
    """The label of a figure ("fig") or table ("tab"); a name of other signs is refused."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name {name!r}: small letters, digits and hyphens only")
    return f"{kind}-{name}"


def offered(folder: Path, label: str, files: Mapping[str, bytes]) -> str:
    """Write the files, by their endings, and give the links to them."""
    for kind, content in files.items():
        (folder / f"{label}.{kind}").write_bytes(content)
    return " · ".join(f"{{download}}`{kind.upper()} <{folder.name}/{label}.{kind}>`" for kind in files)
