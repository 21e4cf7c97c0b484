"""How an output reaches the reader: the book's part under MIME types of its own, something sensible everywhere else.

When a chapter is run for the book, the variable LOST_FILES names the folder for figures and tables, and outputs also
carry what the book shows in their place, as MyST text that only `book/_ext/lostbook.py` reads.
"""

import os
from pathlib import Path
from typing import Any

KINDS = ("book", "number", "verdict", "grid")
BOOK, NUMBER, VERDICT, GRID = (f"application/vnd.lost.{kind}+json" for kind in KINDS)


def show(bundle: dict[str, Any]) -> None:
    """Display a bundle in a notebook; print its plain text elsewhere."""
    try:
        from IPython import display, get_ipython  # a pip install of the package alone has no IPython
    except ImportError:
        get_ipython = None
    if get_ipython is None or get_ipython() is None:
        print(bundle["text/plain"])
    else:
        display.display(bundle, raw=True)


def files_folder() -> Path | None:
    """Where this run keeps its files, or None outside a run for the book."""
    folder = os.environ.get("LOST_FILES")
    return Path(folder) if folder else None


def to_the_book(markdown: str) -> None:
    """Show MyST text in the book, and nothing elsewhere."""
    show({"text/plain": "", BOOK: {"markdown": markdown}})
