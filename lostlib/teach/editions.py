"""The chapters as a class gets them: exercises without any solution, and solutions for the teacher.

What a chapter's cells are for, their tags say: `exercise` is a student's cell, `check` the instant check below it,
`solution` the cell that replaces both. The exercise edition leaves out solutions, the solution edition exercises and
checks. Both come without outputs, and their prose without the book's roles, which plain Jupyter would not understand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lostlib import paths
from lostlib.report import NUMBER
from lostlib.report.myst import plain

CHAPTERS = paths.ROOT / "notebooks"
LEFT_OUT = {"exercises": {"solution"}, "solutions": {"exercise", "check"}}
WELCOME = {
    "exercises": "*Exercise edition. Run all cells once. Then work on the cells with `...`: replace the dots, run the "
    "cell, and run the check below it, which says “not yet” until then.*",
    "solutions": "*Solution edition, for teachers: every exercise with one solution and its check.*",
}

Notebook = dict[str, Any]


def write(out: Path, chapters: Path = CHAPTERS, replace: bool = False) -> Iterator[Path]:
    """Write `out/exercises/*.ipynb` and `out/solutions/*.ipynb` from executed chapters, and name each when it is there.

    Everything is read and checked before anything is written. An existing file is an error unless `replace` is true.
    """
    sources = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(chapters.glob("*.ipynb"))}
    sources = {name: notebook for name, notebook in sources.items() if _tagged(notebook, "solution")}
    if not sources:
        raise ValueError(
            f"no chapters with exercises in {chapters}: an installed package does not bring them. Run this in a clone "
            "of the repository, or name its folder of notebooks with --chapters"
        )
    numbers = {number["key"]: number for notebook in sources.values() for number in _numbers(notebook)}
    made = {
        out / kind / f"{name}.ipynb": edition(notebook, kind, numbers)
        for kind in LEFT_OUT
        for name, notebook in sources.items()
    }
    if (there := [path for path in made if path.exists()]) and not replace:
        raise ValueError(f"{there[0]} is there already (and {len(there) - 1} more); to write over them, say --replace")
    for path, notebook in made.items():
        with paths.replacing(path) as partial:
            partial.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
        yield path


def edition(notebook: Notebook, kind: str, numbers: Mapping[str, dict]) -> Notebook:
    """One edition (`exercises` or `solutions`) of an executed chapter; `numbers` are what its prose may quote."""
    cells = [_clean(cell, numbers) for cell in notebook["cells"] if not LEFT_OUT[kind] & _tags(cell)]
    welcome = {"cell_type": "markdown", "id": "welcome", "metadata": {}, "source": WELCOME[kind]}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": [welcome, *cells], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _tags(cell: dict) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def _tagged(notebook: Notebook, tag: str) -> bool:
    return any(tag in _tags(cell) for cell in notebook["cells"])


def _numbers(notebook: Notebook) -> Iterator[dict]:
    for cell in notebook["cells"]:
        yield from (o["data"][NUMBER] for o in cell.get("outputs", ()) if NUMBER in o.get("data", {}))


def _clean(cell: dict, numbers: Mapping[str, dict]) -> dict:
    """A cell with its source and tags alone; what the book folds, JupyterLab folds too."""
    text, tags = "".join(cell["source"]), sorted(_tags(cell))
    metadata: dict[str, Any] = {"tags": tags} if tags else {}
    if cell["cell_type"] != "code":
        return {"cell_type": "markdown", "id": cell["id"], "metadata": metadata, "source": plain(text, numbers)}
    if "hide-input" in tags:
        metadata["jupyter"] = {"source_hidden": True}
    empty: dict[str, Any] = {"execution_count": None, "outputs": []}
    return {"cell_type": "code", "id": cell["id"], "metadata": metadata, "source": text} | empty
