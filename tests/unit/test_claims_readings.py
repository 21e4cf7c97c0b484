"""C7 reading by reading: cells on rows with a known truth, counts, sentences and the picture."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lostlib import report
from lostlib.claims import readings
from lostlib.readings import FAMILY, family
from lostlib.report.readings import readings as picture

NONE, USUAL = "none", "sap:keys=visual,weights=gaussian"
LAST = "sap:keys=visual,queries=last,weights=gaussian"
IMAGE = "sap:keys=visual,queries=visual,weights=gaussian"


def table(kept: dict[str, float], n: int = 300, seeds: int = 5, before: float = 0.9, group: str = "adversarial"):
    """Rows of a readings table: of the items that the untouched model has right, a reading keeps a share."""
    named = family(6, None, short=True)
    items = [f"i{k}" for k in range(n)]
    right = np.arange(n) < before * n
    parts = []
    for text, share in {NONE: 1.0, **kept}.items():
        base = text.replace("permuted", "gaussian")
        for seed in [0] if text == NONE or "permuted" in text else range(seeds):
            lost = (np.arange(n) * 7 + seed * 11) % n < (1 - share) * n
            about = {"item": items, "cluster": items, "group": group, "gold": ["yes", "no"] * (n // 2)}
            about |= {"name": named[base], "reading": text, "seed": seed, "answer": "", "correct": right & ~lost}
            parts.append(pd.DataFrame(about | {"pilot": False}))
    pilot = parts[0].assign(item=[f"p{k}" for k in range(n)], pilot=True, correct=False)
    rows = pd.concat(parts).sort_values("item", kind="stable", key=lambda ids: ids.str[1:].astype(int))
    return pd.concat([rows, pilot], ignore_index=True)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return table({USUAL: 0.5, IMAGE: 1.0, LAST: 0.975, USUAL.replace("gaussian", "permuted"): 0.5})


@pytest.fixture(scope="module")
def found(rows) -> pd.DataFrame:
    return readings.cells(rows, "m", "mini-pope")


def test_a_cell_for_each_reading(found, rows):
    cells = found.set_index(["reading", "weights"])
    assert cells.index.is_unique
    usual, image = cells.loc[("as usual", "gaussian")], cells.loc[("image rows", "gaussian")]
    assert (usual["status"], image["status"]) == ("opposite", "holds")
    after = rows[(rows["reading"] == USUAL) & ~rows["pilot"]]["correct"].mean()
    assert usual["left"] == pytest.approx((after - 0.5) / (0.9 - 0.5))
    assert usual["low"] < usual["left"] < usual["high"]
    assert usual["loss"] == pytest.approx(0.9 - after)
    assert (image["left"], image["low"], image["high"], image["loss"]) == (1, 1, 1, 0)
    assert cells.loc[("last row", "gaussian"), "status"] == "undecided"
    assert (usual["seeds"], cells.loc[("as usual", "permuted"), "seeds"]) == (5, 1)
    assert cells.loc[("as usual", "permuted"), "status"] == "undecided"  # of one draw
    assert (usual["untouched"], usual["same"]) == (pytest.approx(0.9), "")


def test_what_repeats_another_run_says_so_and_is_not_counted(found):
    same = found[found["same"] != ""].set_index(["reading", "weights"])
    assert same["same"].to_dict() == {
        ("prompt", "gaussian"): "as usual", ("decoding", "gaussian"): "untouched",
        ("prompt", "permuted"): "as usual", ("decoding", "permuted"): "untouched",
    }  # fmt: skip
    assert same.loc[("decoding", "gaussian"), "left"] == 1
    counts = readings.counted(found)
    assert counts["reading"].tolist() == ["as usual", "image rows", "last row"]  # in the order of the family
    assert counts[["holds", "lost", "unclear"]].to_numpy().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_what_cannot_be_read_is_not_measurable():
    rows = table({USUAL: 0.5}, before=0.55)
    cells = readings.cells(rows, "m", "mini-pope")
    assert set(cells["status"]) == {"not measurable"}
    assert cells["left"].isna().all()
    assert readings.counted(cells).empty
    assert readings.answer(cells) == ["These items are too few to tell in any reading."]


def test_the_pilot_has_no_say():
    rows = table({USUAL: 0.9})
    assert readings.cells(rows[~rows["pilot"]], "m", "mini-pope").equals(readings.cells(rows, "m", "mini-pope"))


def test_three_sentences_quantify_over_what_was_measured(found):
    others = found.assign(model="other", status=found["status"].replace({"undecided": "fails"}))
    third = found.assign(model="third", status=found["status"].replace({"undecided": "holds"}))
    said = readings.answer(pd.concat([found, others, third]))
    assert said == [
        "C7 holds in every cell that can tell when noise comes in image rows (3 of 3).",
        "C7 holds in none when noise comes in all rows of all layers (3 of 3).",
        "Model and benchmark decide when noise comes in the last row (1 of 3).",
    ]


def test_every_reading_can_be_said():
    assert set(readings.SAID) == set(FAMILY)
    assert readings.SAID["text rows, second half"] == "text rows of the second half of the layers"


def test_the_picture_has_a_cell_for_each_reading_model_and_benchmark(found):
    report.style()
    gaussian = found[found["weights"] == "gaussian"]
    both = pd.concat([gaussian, gaussian.assign(model="mini-llava-1.5-xs", left=0.2, status="opposite"),
                      gaussian.assign(benchmark="mini-captions", same="", status="not measurable")])  # fmt: skip
    fig = picture(both, ["m", "mini-llava-1.5-xs"])
    pope, captions = fig.axes[:2]
    assert [ax.get_title() for ax in (pope, captions)] == ["mini-pope", "mini-captions"]
    assert [label.get_text() for label in pope.get_xticklabels()] == ["m", "xs"]
    rows = [label.get_text() for label in pope.get_yticklabels()]
    assert rows == list(dict.fromkeys(gaussian["reading"]))
    assert (len(pope.patches), len(captions.patches)) == (2 * 3, 0)
    assert [text.get_text() for text in pope.texts] == ["="] * 4
    assert {text.get_text() for text in captions.texts} == {"○"}
    colours = {(round(p.get_x()), round(p.get_y())): p.get_facecolor() for p in pope.patches}
    usual, image = rows.index("as usual"), rows.index("image rows")
    assert colours[0, image] != colours[0, usual]  # holds, opposite
    assert colours[0, usual][:3] == colours[1, usual][:3]
    assert colours[0, usual][3] > colours[1, usual][3]  # less is left
    plt.close(fig)
