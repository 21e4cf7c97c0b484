"""Cells of the scorecard, recomputed from the raw tables by a script that shares no statistics with the package."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest

from lostlib import claims
from lostlib.claims import scorecard

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import recompute  # no package


@pytest.mark.slow
def test_fifty_cells_recomputed():
    """Estimates agree to rounding, interval ends to a third of half a width (resampling), verdicts altogether.

    The sample has each claim; cells whose verdict needs no table, because none was run, have nothing to recompute.
    """
    every = [cell for cell in scorecard.cells(scorecard.Shelf()) if cell.status != claims.NOT_RUN]
    draw = random.Random(20261129)
    told = [cell for cell in every if cell.status in claims.TOLD]
    first = [draw.choice([cell for cell in told if cell.claim == claim]) for claim in {c.claim: 0 for c in told}]
    chosen = first + draw.sample([cell for cell in told if cell not in first], 42 - len(first))
    chosen += draw.sample([cell for cell in every if cell.status == claims.UNMEASURABLE], 8)
    assert len(chosen) == 50
    for cell in chosen:
        named = f"{cell.claim} {cell.model} {cell.benchmark}"
        found, status = recompute.cell(cell.claim, cell.model, cell.benchmark)
        assert status == cell.status, named
        assert len(found) == len(cell.parts), named
        for (value, low, high), part in zip(found, cell.parts, strict=True):
            assert value == pytest.approx(part.value.value, rel=1e-4, abs=1e-7), f"{named}: {part}"
            allowed = max((part.value.high - part.value.low) / 6, 1e-6)
            ends = np.abs(np.array([low, high]) - part.value[1:])
            assert not (ends > allowed).any(), f"{named}: {part}, recomputed {low:.4f} to {high:.4f}"


def test_the_script_stands_alone():
    text = Path(recompute.__file__).read_text()
    assert "import lostlib" not in text
    assert "from lostlib" not in text
