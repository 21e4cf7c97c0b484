"""What chapters tell the book: checked on the bundles they show, without a kernel."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lostlib import paths, report, stats
from lostlib.report import BOOK, NUMBER, VERDICT, ParameterError, check_parameters

GOOD = {"model": "mini-llava-1.5", "benchmark": "mini-pope", "n_items": 10, "seed": 0, "device": "cuda:1"}


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    bundles: list[dict] = []
    monkeypatch.setattr(report.notebook, "show", bundles.append)
    return bundles


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    files = tmp_path / "x_files"
    files.mkdir()
    monkeypatch.setenv("LOST_FILES", str(files))
    return files


def test_the_report_half_needs_no_torch():
    script = "import sys, lostlib.report; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- parameters


def test_good_parameters_come_back():
    names = GOOD | {"rho": 1, "_private": 3, "np": np, "In": [], "Out": {}}
    assert check_parameters(names, rho=(float, 0, 1)) == GOOD | {"rho": 1}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_itmes": 5}, ["n_itmes", "did you mean 'n_items'?", "benchmark"]),
        ({"zzz": 5}, ["zzz", "there are: model"]),
        ({"n_items": 0}, ["n_items = 0", "at least 1"]),
        ({"n_items": True}, ["n_items = True", "int"]),
        ({"n_items": "5"}, ["n_items = '5'", "int"]),
        ({"seed": -1}, ["seed = -1", "at least 0"]),
        ({"device": "gpu"}, ["device = 'gpu'", "cuda"]),
        ({"rho": 1.5}, ["rho = 1.5", "at most 1"]),
        ({"mode": "fst"}, ["mode = 'fst'", "did you mean 'fast'?"]),
    ],
)
def test_a_bad_parameter_stops_the_run(given, words):
    with pytest.raises(ParameterError) as error:
        check_parameters(GOOD | given, rho=(float, 0, 1), mode=["fast", "slow"])
    assert all(word in str(error.value) for word in words), error.value


def test_the_cell_can_be_run_again_in_a_used_notebook():
    names = dict(GOOD)
    check_parameters(names)
    names |= {"rows": 3, "text": "later cells made this"}
    assert check_parameters(names) == GOOD
    with pytest.raises(ParameterError):
        check_parameters(names | {"n_items": -1})


# --- numbers


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


@pytest.mark.parametrize("value", [np.float64(0.125), np.float32(0.125), np.array(0.125), 0.125])
def test_a_number_is_a_python_number(shown, value):
    report.say("x", value, np.float64(0), 1)
    assert shown[0][NUMBER] == {"key": "x", "value": 0.125, "low": 0, "high": 1}
    assert type(shown[0][NUMBER]["value"]) is float
    assert shown[0]["text/plain"] == "x = 0.125 [0.000, 1.000]"


def test_an_estimate_brings_its_interval(shown):
    assert report.say("x", Estimate(0.5, 0.4, 0.6)).high == 0.6


def test_a_count_stays_a_count(shown):
    assert shown == []
    assert type(report.say("n", np.int64(7)).value) is int
    assert shown[0]["text/plain"] == "n = 7"


@pytest.mark.parametrize("value", [np.inf, -np.inf, "0.5", None, True, np.zeros(3), np.bool_(True)])
def test_what_is_no_finite_number_is_refused(shown, value):
    with pytest.raises(ValueError, match=r"x: a finite number|size 1"):
        report.say("x", value)


@pytest.mark.parametrize(
    "value", [np.nan, float("nan"), np.float32("nan"), stats.UNKNOWN, stats.mean([]), stats.difference([], [])]
)
def test_what_nothing_is_known_of_is_a_dash(shown, value):
    number = report.say("x", value)
    assert (number.value, number.low, f"{number:.3f}") == (None, None, "–")
    assert shown[0]["text/plain"] == "x = –"


@pytest.mark.parametrize("path", sorted(Path("notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_in_the_shipped_book_every_number_is_known(path):
    outputs = [o.get("data", {}) for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", [])]
    told = [data[report.NUMBER] for data in outputs if report.NUMBER in data]
    assert told
    assert all(number["value"] is not None for number in told)


@pytest.mark.parametrize("key", ["", "A", "a:b", "a b", "1a", "a`"])
def test_keys_are_plain(shown, key):
    with pytest.raises(ValueError, match="key"):
        report.say(key, 1)


def test_half_an_interval_is_refused(shown):
    with pytest.raises(ValueError, match="two ends"):
        report.say("x", 1, low=0)


# --- figures and tables


def drawing():
    report.style()
    fig, ax = plt.subplots()
    ax.plot([1, 2, 4])
    return fig


def test_a_figure_has_files_and_a_numbered_place(shown, folder):
    report.figure(drawing(), "depth", "Rank 0.3\nby layer.", 'A line: "up".', pd.DataFrame({"a": [1]}))
    assert sorted(p.name for p in folder.iterdir()) == [f"fig-depth.{kind}" for kind in ("csv", "pdf", "svg")]
    page = shown[0][BOOK]["markdown"]
    assert page.startswith(
        ':::{figure} x_files/fig-depth.svg\n:name: fig-depth\n:alt: "A line: \\"up\\"."\n\nRank 0.3 by'
    )
    assert "{download}`CSV <x_files/fig-depth.csv>`" in page
    assert shown[0]["image/png"]
    assert str(folder) not in page
    assert not plt.get_fignums()  # or Jupyter would show it twice


def test_the_same_figure_has_the_same_bytes(shown, folder):
    runs = []
    for _ in range(2):
        report.figure(drawing(), "x", "c", "a")
        runs.append([shown[-2]["image/png"], *(path.read_bytes() for path in sorted(folder.iterdir()))])
    assert runs[0] == runs[1]


def test_outside_a_run_no_files_are_left(shown, monkeypatch, tmp_path):
    monkeypatch.delenv("LOST_FILES", raising=False)
    monkeypatch.chdir(tmp_path)
    report.figure(drawing(), "x", "c", "a")
    report.table(pd.DataFrame({"a": [1]}), "x", "c")
    assert BOOK not in shown[0]
    assert not list(tmp_path.iterdir())


def test_a_figure_needs_words_for_those_who_cannot_see_it(shown):
    with pytest.raises(ValueError, match="alternative text"):
        report.figure(drawing(), "x", "caption", " ")


def test_a_table_escapes_its_cells_and_keeps_full_digits_in_the_csv(shown, folder):
    df = pd.DataFrame({"who": ["*a* {num}`x` <b>\n", None], "acc": [1 / 3, float("nan")]})
    report.table(df, "t", "Caption", {"acc": ".2f"})
    page, plain = shown[0][BOOK]["markdown"], shown[0]["text/html"]
    assert r"\*a\* \{num\}\`x\` \<b\>" in page
    assert '"0\\.33"' in page
    assert '"–"' in page
    assert "<b>" not in plain
    assert "&lt;b&gt;" in plain
    assert "0.3333333333333333" in (folder / "tab-t.csv").read_text()


def test_a_misspelt_column_is_an_error(shown):
    with pytest.raises(KeyError, match="acc"):
        report.table(pd.DataFrame({"a": [1]}), "t", "c", {"acc": ".2f"})


# --- verdicts, published figures, provenance


def test_a_verdict_says_what_it_compares(shown):
    report.verdict("A1: Less <is> more", 0.5, report.Number("x", 0.25, 0.2, 0.3), "fails", "Why.")
    page = shown[0][BOOK]["markdown"]
    assert "A1 ✗ fails" in page
    assert r"Less \<is\> more" in page
    assert r"0\.25 \[0\.2\, 0\.3\]" in page
    assert "<is>" not in shown[0]["text/html"]
    assert shown[0][VERDICT]["label"] == "verdict-a1"


def test_many_estimates_of_a_verdict_have_a_line_each(shown):
    for told in ("a 1; b 2", "a 1; b 2; c <3>"):
        report.verdict("A1: More", 1, told, "holds")
    short, long = (one[report.BOOK]["markdown"] for one in shown)
    assert "- Measured here: a 1; b 2\n" in short
    assert "- Measured here: \n  - a 1\n  - b 2\n  - c " in long
    assert "<3>" not in long


@pytest.mark.parametrize(("claim", "status"), [("A1: x", "maybe"), ("no key", "holds"), (": x", "holds")])
def test_a_verdict_is_well_formed(shown, claim, status):
    with pytest.raises(ValueError, match=r"status|claim"):
        report.verdict(claim, 1, 2, status)


def test_published_figures_are_looked_up(monkeypatch, tmp_path, shown):
    (tmp_path / "a.csv").write_text("key,value,unit,where,note\nacc,81.5,%,Table 2,\nword,yes,,p. 3,a note\n")
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path)
    report.numbers._paper.cache_clear()
    assert report.published("acc") == ("acc", 81.5, "%", "Table 2", "")
    assert report.published("word").value == "yes"
    with pytest.raises(KeyError, match="did you mean 'acc'"):
        report.published("ac")
    report.numbers._paper.cache_clear()


def test_provenance_tells_how_to_run_it_again(shown, folder):
    check_parameters(GOOD | {"model": "a b"})
    report.provenance([{"name": "residual", "model": "m", "n": 5, "device": "not shown"}, {"name": "sinks"}])
    page = shown[0][BOOK]["markdown"]
    assert "papermill notebooks/x.ipynb out.ipynb -p model 'a b' -p benchmark mini-pope -p n_items 10" in page
    assert '"residual","m","5"' in page
    assert "not shown" not in page
