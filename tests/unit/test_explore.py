"""Figures that a reader drives: what goes into the page, and that it cannot be more than data there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lostlib import report
from lostlib.benchmarks import Item
from lostlib.report import interactive

EVIL = '</script><img src=x onerror="alert(1)"> {num}`x`'


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[list[dict], Path]:
    bundles: list[dict] = []
    (tmp_path / "x_files").mkdir()
    monkeypatch.setattr(report.notebook, "show", bundles.append)
    monkeypatch.setenv("LOST_FILES", str(tmp_path / "x_files"))
    return bundles, tmp_path / "x_files"


def scenes() -> list[interactive.Scene]:
    picture = Image.new("RGB", (400, 300))
    return [("b", Item(f"q{k}", [picture], EVIL, "yes", "yesno", relevant=(0, 3))) for k in range(4)]


def said(*raw: str) -> pd.DataFrame:
    return pd.DataFrame(
        {"benchmark": "b", "item": [f"q{k}" for k in range(4)], "raw": raw, "right": [r == "yes" for r in raw]}
    )


def looked(patches: int) -> pd.DataFrame:
    rows = [
        {"benchmark": "b", "item": f"q{k}", "layer": layer, "head": head, "patch": p, "weight": (layer + p) / 100}
        for k in range(4) for layer in range(2) for head in range(3) for p in range(patches)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def data_of(path: Path) -> dict:
    text = path.read_text("utf-8")
    assert text.count("<") == 4, "a text of the data has opened or closed an element"
    return json.loads(re.search(r">(\{.*\})<", text)[1])


def test_answers_go_into_the_page_as_data(shown) -> None:
    bundles, folder = shown
    runs = {"learned": said("yes", "no", "yes", "yes"), "noise": said(EVIL, "no", "no", "no")}
    interactive.answers(scenes(), runs, "x", "c", "a")
    found = data_of(folder / "explore-x.html")
    assert found["runs"] == ["learned", "noise"]
    assert [scene["answers"][0] for scene in found["scenes"]] == [
        ["yes", True],
        ["no", False],
        ["yes", True],
        ["yes", True],
    ]
    assert found["scenes"][0]["answers"][1] == [EVIL, False]
    assert bundles[-1][report.BOOK]["markdown"] == ":::{raw} html\n:file: x_files/explore-x.html\n:::"
    assert (folder / "fig-x.pdf").exists()
    assert len(pd.read_csv(folder / "fig-x.csv")) == 8


def test_maps_keep_each_weight_in_its_place(shown) -> None:
    _, folder = shown
    answers = said("yes", "no", "yes", "no")
    interactive.maps(scenes(), {"learned": (looked(4), answers), "noise": (looked(4), answers)}, "y", "c", "a")
    weights = data_of(folder / "explore-y.html")["scenes"][0]["weights"]
    assert weights[1][1][2] == [100, 200, 300, 400]  # run, layer, head -> patches, in 1/10000
    assert set(pd.read_csv(folder / "fig-y.csv").columns) >= {"layer", "head", "0", "3"}


def test_what_is_no_square_or_too_large_is_said(shown, capsys, monkeypatch) -> None:
    bundles, _ = shown
    interactive.maps(scenes(), {"learned": (looked(5), said("yes", "no", "no", "no"))}, "z", "c", "a")
    assert "do not fill a square" in capsys.readouterr().out
    assert not bundles
    monkeypatch.setattr(interactive, "LARGEST", 100)
    interactive.answers(scenes(), {"learned": said("a", "b", "c", "d")}, "z", "c", "a")
    assert "cannot be driven" in capsys.readouterr().out
