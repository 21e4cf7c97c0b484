"""Grids of verdicts: each cell has its mark and colour, what flips its frame, and what is behind a cell its place."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from lostlib import claims, report
from lostlib.claims import Verdict, scorecard
from lostlib.report import GRID, MARKS, glance
from lostlib.report.glance import Line, Seen

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book" / "_ext"))
from lostbook import cell_of

LINES = [
    Line(
        "C1", "A claim", "0.5", [Seen("holds", "C1, a: holds"), Seen("opposite", "C1, b: opposite")], "holds in 1 of 2"
    ),
    Line("C2", "Another " * 20, "0.1", [Seen("not run", "C2, a: not run")] * 2, "no model can tell"),
]


@pytest.fixture(autouse=True)
def styled():
    report.style()
    yield
    plt.close("all")


def words(fig) -> list[str]:
    return [text.get_text() for text in fig.axes[0].texts]


def test_every_status_has_a_mark_and_a_colour_of_its_own():
    assert set(MARKS) == set(claims.STATUSES) <= set(glance.SHADES)
    looks = [MARKS[status] for status in claims.STATUSES]
    assert len(set(looks)) == len(looks)
    colours = [to_rgba(*glance.SHADES[status]) for status in claims.STATUSES]
    assert len(set(colours)) == len(colours)


def test_the_scorecard_goes_to_the_book_as_it_was_drawn(monkeypatch, tmp_path: Path):
    shown: list[dict] = []
    monkeypatch.setattr(report.notebook, "show", shown.append)
    monkeypatch.setenv("LOST_FILES", str(tmp_path))
    glance.scorecard(["mini-a", "mini-b"], LINES, "scorecard", "Claims and models.")
    record = shown[0][GRID]
    assert record["models"] == ["mini-a", "mini-b"]
    assert [line["claim"] for line in record["lines"]] == ["C1", "C2"]
    assert [cell[0] for cell in record["lines"][0]["cells"]] == ["holds", "opposite"]
    table = pd.read_csv(tmp_path / "tab-scorecard.csv")
    assert table["status"].tolist() == ["holds", "opposite", "not run", "not run"]
    assert "C1 holds in 1 of 2" in shown[0]["text/plain"]
    assert shown[0]["image/png"]


def test_the_picture_has_all_claims_marks_and_ends():
    fig = glance._scorecard_drawn(["mini-a", "mini-b"], LINES)
    said = words(fig)
    assert [word for word in said if word in MARKS.values()] == ["✓", "⇄", "·", "·"]
    assert {"a", "b", "C1  A claim", "holds in 1 of 2"} <= set(said)
    assert fig.get_figwidth() <= report.drawing.WIDTH
    fig.draw_without_rendering()
    right = max(text.get_window_extent().x1 for text in fig.axes[0].texts)
    assert right <= fig.bbox.width


def test_flips_are_framed_and_what_has_no_part_is_a_dot():
    rows = pd.DataFrame(
        [("as usual", "as usual", "C1", "holds", False), ("rank", "erank", "C1", "opposite", True),
         ("rank", "erank", "C2", "holds", False)],
        columns=["family", "choice", "column", "status", "flipped"],
    )  # fmt: skip
    fig = glance.drawn(rows, [("C1", "C1", ""), ("C2", "C2", "pope")])
    frames = [patch.get_linewidth() for patch in fig.axes[0].patches if patch.get_edgecolor()[3]]
    assert frames == [1.8]
    assert {"C1", "C2 pope", "rank", "erank", "·"} <= set(words(fig))
    assert words(fig).count("as usual") == 1  # the reference needs no heading


def test_a_cell_of_the_book_leads_to_its_estimates_and_says_what_it_is():
    cell = cell_of("not run", "C2, mini-a: not run", "x.html#cell-c2-mini-a")
    (link,) = cell.findall(lambda node: "refuri" in getattr(node, "attributes", {}))
    assert link["refuri"] == "x.html#cell-c2-mini-a"
    assert link.astext() == "· C2, mini-a: not run"
    assert cell["classes"] == ["lost-not-run"]


def cell(claim: str, model: str, status: str, benchmark: str = "mini-pope") -> Verdict:
    return Verdict(claim, status, f"because of {benchmark}", (), model, benchmark)


def test_a_line_counts_the_models_that_can_tell():
    opposite, unable = claims.OPPOSITE, claims.UNMEASURABLE
    assert scorecard.holds_in(["holds", opposite, opposite, unable, claims.NOT_RUN]) == "holds in 1 of 3, opposite in 2"
    assert scorecard.holds_in([unable]) == "none can tell"
    found = [
        cell(claim, model, status) for claim in claims.CLAIMS for model, status in (("a", "holds"), ("b", opposite))
    ]
    firm = pd.DataFrame([{"claim": "C7", "choices": 9, "flip": 4, "where": ""}])
    lines = {line.claim: line for line in scorecard.lines(found, ["a", "b"], firm)}
    assert list(lines) == list(claims.CLAIMS)
    assert lines["C7"].end == "holds in 1 of 2, opposite in 1; flips under 4 of 9 choices"
    assert "flips" not in lines["C1"].end  # nothing was tried
    assert [seen.status for seen in lines["C7"].cells] == ["holds", opposite]
    assert lines["C7"].cells[1].told.startswith("C7, b: opposite")


def test_where_models_agree_is_said_of_what_all_were_measured_on():
    both = [cell("C1", "a", "holds"), cell("C1", "b", "holds"), cell("C3", "a", "holds")]
    found = [*both, cell("C3", "b", claims.OPPOSITE), cell("C7", "a", "holds")]
    told = scorecard.alike(scorecard.long(found), ["a", "b"])
    assert told == "Where all can be measured, a and b have one verdict on C1; more than one on C3."


def test_a_box_says_on_what_it_rests(monkeypatch):
    shown: list[dict] = []
    monkeypatch.setattr(report.notebook, "show", shown.append)
    with pytest.raises(ValueError, match="C7 rests"):
        _ = claims.not_run("C7").box
    report.verdict(*cell("C7", "m", "holds", "mini-pope+mini-mmmu").box)
    assert "Rests on: m on mini-pope, mini-mmmu" in shown[0]["text/plain"]
