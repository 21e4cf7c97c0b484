"""Chapters run in the tests' own process: no kernel starts, and nothing is imported anew."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import pytest
from nbformat import NotebookNode


@pytest.fixture
def run_cells(monkeypatch: pytest.MonkeyPatch):
    """Run a notebook's code cells, with other parameters; after each, its tags and what its last line gives."""
    mpl.use("agg")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(notebook: NotebookNode, **given: object) -> Iterator[tuple[set[str], Any]]:
        names: dict[str, Any] = {"__name__": "__main__"}
        for cell in notebook.cells:
            tags = set(cell.metadata.get("tags", ()))
            if cell.cell_type != "code":
                continue
            lines = ast.parse(cell.source)
            last = lines.body.pop() if isinstance(lines.body[-1], ast.Expr) else None
            exec(compile(lines, "cell", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
            if "parameters" in tags:
                names |= given
            yield tags, value

    return run
