"""The scorecard on tables with a known truth: what is read, what is not run; other rows give another verdict."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_claims import answers, residual, seeds, sums, tokens

from lostlib import claims, paths, stats, tables
from lostlib.benchmarks import NAMESAKES, RULES, chance, load_benchmark
from lostlib.checkpoints import ModelChoice
from lostlib.claims import scorecard
from lostlib.tables import Key, Table

ROOT = Path(__file__).resolve().parents[2]
MINI = [name for name, rules in RULES.items() if rules.mini]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from lostbook import outcome  # noqa: E402  no package

HOLDS, OPPOSITE, FAILS, UNDECIDED, UNMEASURABLE, NOT_RUN = claims.STATUSES
GAUSSIAN, TEXT = (scorecard.NOISE.format(keys=keys, weights="gaussian") for keys in ("visual", "text"))


def put(folder: Path, experiment: str, frame: pd.DataFrame, benchmark: str = "mini-pope", model: str = "mini-llava-1.5",
        weights: str | None = None, **more) -> Path:  # fmt: skip
    held = ModelChoice.parse(model).weights if weights is None else weights
    key = Key(experiment, model, held, benchmark, "1", n=frame["item"].nunique(), **more)
    return tables.write(Table(frame, key, {"seconds": 1.0}), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One model: residual metrics and sinks on mini-pope, answers to four benchmarks, of which it can do three."""
    put(tmp_path, "residual", residual(draws=1))
    put(tmp_path, "residual", residual(), parameters=scorecard.DRAWN)
    put(tmp_path, "sinks", tokens(0), parameters={"tau": "10%"})
    able = {"mini-pope": answers(0.9, 200), "mini-mathvista": sums(0.9, 0.9, 200),
            "mini-realworldqa": answers(0.9, 200), "mini-hallusionbench": answers(0.5, 200)}  # fmt: skip
    for benchmark, rows in able.items():
        put(tmp_path, "answers", rows, benchmark)
        for seed in range(5):
            put(tmp_path, "answers", rows, benchmark, intervention=GAUSSIAN, seed=seed)
    for seed in range(5):
        put(tmp_path, "answers", sums(0.1, 0.8, 200, start=seed), "mini-mathvista", intervention=TEXT, seed=seed)
    return tmp_path


def statuses(folder: Path, **more) -> dict[tuple[str, str], str]:
    return {(c.claim, c.benchmark): c.status for c in scorecard.cells(scorecard.Shelf(folder, **more))}


def test_every_claim_has_its_cells(folder: Path):
    found = statuses(folder)
    assert {claim for claim, _ in found} == set(claims.CLAIMS)
    for claim in ("C1", "C2a", "C2b", "C3", "C4", "C5", "C6"):
        assert found[claim, "mini-pope"] == HOLDS
    assert found["C7", "mini-pope"] == found["C7", "mini-mathvista"] == HOLDS
    assert found["C7", "mini-hallusionbench"] == UNMEASURABLE  # at chance: never unaffected, although nothing changed
    put(folder, "answers", answers(0.2), "mini-vmcbench")
    put(folder, "answers", answers(0.9), "mini-3dsrbench")
    again = statuses(folder)
    assert again["C7", "mini-vmcbench"] == UNMEASURABLE  # no noise is needed to know
    assert again["C7", "mini-3dsrbench"] == NOT_RUN
    assert found["C8", ""] == UNDECIDED  # three of three are not certainly more than half
    assert found["C9", "mini-mathvista"] == HOLDS
    assert found["C10", "mini-pope"] == FAILS
    for claim in ("C11a", "C11b", "C12"):
        assert found[claim, "mini-pope"] == UNMEASURABLE  # without sinks nothing is cut or moved


def test_a_tampered_table_changes_the_verdict(folder: Path):
    for path in tables.shipped_tables(folder):
        if "mini-pope" in path.parts and "gaussian.s" in path.name:
            table = tables.read(path)
            tables.write(replace(table, frame=table.frame.assign(correct=False)), folder)
    found = statuses(folder)
    assert found["C7", "mini-pope"] == OPPOSITE
    assert found["C7", "mini-mathvista"] == HOLDS
    put(folder, "residual", residual(draws=1, ffn=(0.03, 0.02)))
    assert statuses(folder)["C2b", "mini-pope"] == OPPOSITE


def test_one_draw_of_matrices_does_where_there_are_no_others(tmp_path: Path):
    put(tmp_path, "residual", residual(draws=1))
    assert statuses(tmp_path)["C5", "mini-pope"] == UNDECIDED
    put(tmp_path, "residual", residual(noise_qkv=(0.01, 0.1)), parameters=scorecard.DRAWN)
    assert statuses(tmp_path)["C5", "mini-pope"] == OPPOSITE


def test_what_is_not_there_is_not_run(tmp_path: Path):
    put(tmp_path, "answers", answers(0.9))
    found = statuses(tmp_path)
    assert set(found.values()) == {NOT_RUN}
    assert found["C7", "mini-pope"] == NOT_RUN
    assert {claim for claim, _ in found} == set(claims.CLAIMS)


def test_tables_of_other_weights_do_not_count(tmp_path: Path):
    put(tmp_path, "residual", residual(draws=1), weights="0" * 16)
    assert scorecard.Shelf(tmp_path).models == []
    put(
        tmp_path, "residual", residual(draws=1), model="some/model", weights="unknown"
    )  # of one that was never fetched here
    assert scorecard.Shelf(tmp_path).models == ["some/model"]


def test_sinks_are_cut_and_moved_where_there_are_any(tmp_path: Path):
    put(tmp_path, "sinks", tokens(2), parameters={"tau": "10%"})
    put(tmp_path, "answers", answers(0.9))
    put(tmp_path, "answers", answers(0.9), intervention=scorecard.CUT.format(keys="sinks"))
    for seed, rows in enumerate(seeds(0.6)):
        put(tmp_path, "answers", rows, intervention=scorecard.CUT.format(keys="random"), seed=seed)
    put(tmp_path, "answers", answers(0.99), intervention=scorecard.VAR.format(rho=0.5))
    found = statuses(tmp_path)
    assert {found[claim, "mini-pope"] for claim in ("C10", "C11a", "C11b", "C12")} == {HOLDS}
    put(tmp_path, "sinks", tokens(2, first=0), parameters={"tau": "10%"})
    found = statuses(tmp_path)
    assert found["C10", "mini-pope"] == FAILS
    assert {found[claim, "mini-pope"] for claim in ("C11a", "C11b", "C12")} == {UNMEASURABLE}


def test_fewer_items_and_fewer_models(folder: Path):
    shelf = scorecard.Shelf(folder, n=20, models=["mini-llava-1.5"])
    scorecard.cells(shelf)
    assert {table.frame["item"].nunique() for table in shelf.read.values()} == {20}
    assert scorecard.Shelf(folder, models=["other"]).models == []


def test_one_family_of_tests(folder: Path):
    cells = scorecard.cells(scorecard.Shelf(folder))
    rows = scorecard.long(cells)
    once = rows.drop_duplicates(["claim", "model", "benchmark"])
    assert not {"C6", "C8"} & set(once[once["p"].notna()]["claim"])  # they count what others have tested
    assert once["p_holm"].to_numpy() == pytest.approx(stats.holm(once["p"]), nan_ok=True)
    assert (rows["p_holm"].dropna() >= rows["p"].dropna()).all()
    c3 = rows[rows["claim"] == "C3"]
    assert len(c3) == 5
    assert c3["p"].nunique() == 1


def test_models_beside_one_another():
    def row(model: str, value: float, status: str = HOLDS, estimate: str = "MixIG") -> dict:
        told = {"claim": "C3", "benchmark": "mini-pope", "status": status, "measured": f"{value}"}
        return told | {"model": model, "estimate": estimate, "value": value, "low": value - 1, "high": value + 1}

    rows = [row("a", 0), row("b", 1.5, OPPOSITE), row("a", 5, estimate="RID"), row("b", np.nan, UNDECIDED, "RID")]
    found = scorecard.beside(pd.DataFrame(rows), ["a", "b"])
    assert list(found.index) == [("C3", "mini-pope", "MixIG")]  # b has no RID
    assert found["value"].to_dict("list") == {"a": [0], "b": [1.5]}
    assert found["status"].to_dict("list") == {"a": [HOLDS], "b": [OPPOSITE]}
    assert scorecard.beside(pd.DataFrame(rows), ["a", "elsewhere"]).empty


def test_headlines(folder: Path):
    cells = scorecard.cells(scorecard.Shelf(folder))
    seven = [cell for cell in cells if cell.claim == "C7"]
    assert scorecard.headline(seven).endswith("lowest of 3")
    assert scorecard.headline(seven[-1:]) == seven[-1].reason  # at chance
    assert scorecard.by_model(cells)["C7", "mini-llava-1.5"].status == HOLDS


def test_changes_keep_what_cannot_be_measured_apart(folder: Path):
    found = scorecard.changes(scorecard.Shelf(folder), {"noise": GAUSSIAN}).set_index("benchmark")
    assert found.loc["mini-pope", "value"] == 0
    assert found.loc["mini-pope", "seeds"] == 5
    assert not found.loc["mini-hallusionbench", "measurable"]
    assert np.isnan(found.loc["mini-hallusionbench", "value"])


@pytest.mark.parametrize("name", MINI)
def test_kept_chances_are_those_of_the_items(name: str):
    items = load_benchmark(name, n=30)
    assert chance(name, 30) == items.chance


def test_kept_chances_are_of_the_present_versions():
    assert paths.CHANCE.exists()
    for name in MINI:
        made = f'"{name}": [\n  "{RULES[name].version}"'
        assert made in paths.CHANCE.read_text(), "tools/chance.py makes it anew"


# --- the coverage page ------------------------------------------------------------------------------------------------


def test_coverage_names_what_there_is():
    lines = pd.read_csv(ROOT / "book" / "coverage.csv", keep_default_na=False)
    chapters = "\n".join(path.read_text() for path in (ROOT / "notebooks").glob("*.py"))
    for line in lines.itertuples():
        assert set(filter(None, line.claims.split("+"))) <= set(claims.CLAIMS)
        assert bool(line.claims) != bool(line.status), (
            f"{line.what}: a status is typed exactly where no claim gives one"
        )
        assert line.status in ("", "measured", "not run", "not known to us")
        assert line.benchmark in ("", *NAMESAKES)
        kind, _, name = line.where.partition("-")
        told = {"": "", "ch": f"({line.where})=", "fig": f'"{name}"', "tab": f'"{name}"'}[kind]
        assert told in chapters, line.where
        assert line.where or line.status in ("not run", "not known to us")
    assert set(claims.CLAIMS) == {c for cell in lines["claims"] for c in cell.split("+") if c}


def test_coverage_reads_the_verdicts():
    row = {"claim": "C7", "model": "m", "benchmark": "mini-pope", "status": HOLDS, "size": "no"}
    other = row | {"model": "n", "status": OPPOSITE}
    third = row | {"benchmark": "mini-mmmu", "status": UNMEASURABLE, "size": "–"}
    assert outcome("C7", "mini-pope", [row, third]) == "**reproduced** (holds in 1 of 1; size in 0 of 1)"
    assert outcome("C7", "", [row, other, third]).startswith("**in part** (holds in 1 of 2")
    assert outcome("C7", "", [other]).startswith("**differs**")
    assert outcome("C7", "mini-mmmu", [row, third]) == UNMEASURABLE
    assert outcome("C8", "", [row]) == "not run"


def test_every_chapter_and_verdict_that_a_claim_names_exists():
    text = "\n".join(path.read_text() for path in (ROOT / "notebooks").glob("*.py"))
    assert {f"({claim.chapter})=" for claim in claims.CLAIMS.values()} <= set(re.findall(r"\(ch-[\w-]+\)=", text))


def test_what_is_about_pictures_cannot_be_measured_in_a_language_model():
    found = [scorecard._lacking(claim, "smollm2-135m") for claim in ("C7", "C12", "C5")]
    assert [cell.status for cell in found] == [claims.UNMEASURABLE, claims.UNMEASURABLE, claims.NOT_RUN]
    assert scorecard._lacking("C7", "mini-llava-1.5").status == claims.NOT_RUN
