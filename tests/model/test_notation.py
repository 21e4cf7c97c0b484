"""The notation page says what the code does: names, shapes, ranges, units."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import pytest
import torch

import lostlib

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"none", "nats", "tokens", "dimensions", "layers"}


def rows(heading: str) -> list[dict[str, str]]:
    """The table below a heading of the page."""
    part = (ROOT / "book" / "notation.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in part.splitlines() if line.startswith("|")]
    head, _, *body = lines
    return [dict(zip((name.strip("| ") for name in head), row, strict=True)) for row in body]


def code(row: dict[str, str]) -> str:
    return row["in code"].strip("`")


@pytest.fixture
def stream(tiny, items):
    with lostlib.watch(tiny) as seen:
        tiny.forward(tiny.encode(items[:1]))
    return seen


def test_the_stream_has_these_names_and_shapes(tiny, items, stream) -> None:
    sizes = {"S": int(tiny.encode(items[:1]).real.sum()), "H": tiny.hidden_size}
    for row in rows("The stream"):
        assert row["unit"] in UNITS
        if row["shape"] == "one number":
            residual = code(row) == "tokens"
            found = lostlib.residual_metrics(tiny, items[:1], controls=())["tokens"][0] if residual else None
            assert found == sizes["S"] if residual else isinstance(getattr(tiny, code(row)), int)
            continue
        wanted = tuple(sizes[name] for name in re.findall(r"[SH]", row["shape"]))
        assert tuple(getattr(stream[1], code(row)).shape) == (1, *wanted), row


def test_the_metrics_have_these_shapes_ranges_and_units(stream) -> None:
    x, y = (stream[1].resid_pre[0].double(), stream[1].resid_mid[0].double())
    sizes = {"S": x.shape[0], "H": x.shape[1]}
    parts = lostlib.rid(x, y)
    bases = lostlib.support(x)
    for row in rows("The metrics"):
        name = code(row)
        assert row["unit"] in UNITS
        if name == "support":
            basis = bases.column if "`.column`" in row["symbol"] else bases.row
            found = basis @ basis.T
            wanted = tuple(sizes[size] for size in re.findall(r"[SH]", row["shape"]))
            assert tuple(found.shape) == wanted
            assert torch.allclose(found @ found, found, atol=1e-6)
            continue
        function = getattr(lostlib, name, None)
        if function is None:
            value = getattr(parts, name)
        else:
            value = function(x, y) if "X_new" in inspect.signature(function).parameters else function(x)
            value = getattr(value, "total", value)
            unit = inspect.signature(function).parameters.get("unit")
            assert (unit.default if unit else row["unit"]) == row["unit"]
        assert value.shape == ()
        low, high = (bound(text, **sizes) for text in re.fullmatch(r"\$\[(.*?), (.*)\]\$", row["range"]).groups())
        assert low - 1e-9 <= float(value) <= high + 1e-9, row


def bound(text: str, S: int, H: int) -> float:
    """A bound of the page as a number."""
    return eval(re.sub(r"\\ln (\w)", r"log(\1)", text).replace("\\", ""), {"log": math.log, "min": min, "S": S, "H": H})


def test_every_symbol_is_used_in_a_chapter() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "notebooks").glob("*.py"))
    for row in rows("The stream") + rows("The metrics"):
        for symbol in re.findall(r"\$([^$= ]*)", row["symbol"].split(",")[0]):
            assert symbol in text or symbol == "L", symbol
