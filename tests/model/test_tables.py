"""Tables: what identifies them, Parquet and back, shipped or measured, the command line, checking."""

from __future__ import annotations

import shlex

import numpy as np
import pandas as pd
import pytest
from tiny import make
from typer.testing import CliRunner

import lostlib
from lostlib import cli, paths, results, tables
from lostlib.cli import app
from lostlib.experiments import measure, recheck, sinks

runner = CliRunner()


@pytest.fixture
def table(tiny_folder) -> tables.Table:
    return measure.measure("answers", model=str(tiny_folder), benchmark="mini-pope", n=12, intervention="sap", seed=2)


def test_a_table_survives_parquet(table, tmp_path) -> None:
    again = tables.read(tables.write(table, tmp_path))
    pd.testing.assert_frame_equal(again.frame, table.frame)
    assert again.key == table.key
    assert again.about == table.about
    assert again.manifest["hash"] == table.manifest["hash"]
    assert not list(tmp_path.rglob("*.partial"))


def test_the_key_is_what_was_measured(table, tiny_folder) -> None:
    assert table.key.intervention == "sap:keys=visual,weights=gaussian"
    assert table.key.weights == paths.weights_hash(tiny_folder) != "unknown"
    assert table.key.covers(tables.Key(**{**vars(table.key), "n": 5}))
    for change in ({"n": 13}, {"seed": 3}, {"weights": "other"}, {"version": "2"}, {"parameters": {"rank": "erank"}}):
        assert not table.key.covers(tables.Key(**{**vars(table.key), **change}))
    assert "date" in table.about
    assert table.about["backend"] == "lost"


def test_obtain_reads_what_is_shipped_and_measures_the_rest(table, tiny_folder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOST_RESULTS", str(tmp_path))
    ask = {"model": str(tiny_folder), "benchmark": "mini-pope", "intervention": "sap:keys=visual,weights=gaussian"}
    tables.write(table, tmp_path)
    fewer = results.obtain("answers", **ask, n=5, seed=2)
    assert fewer.origin == "shipped"
    pd.testing.assert_frame_equal(fewer.frame, table.frame.head(5))
    more = results.obtain("answers", **ask, n=14, seed=2)
    assert more.origin == "measured"
    pd.testing.assert_frame_equal(more.frame.head(12), table.frame)  # the same items give the same answers
    assert capsys.readouterr().out.count("measured now: answers") == 1
    assert results.sources([fewer, more, more]) == "2 tables measured, 1 table shipped."


def test_a_reader_remembers_its_tables_and_averages_over_seeds(tiny_folder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOST_RESULTS", str(tmp_path))
    reader = results.Reader(model=str(tiny_folder), benchmark="mini-pope", n=6)
    noise = "sap:keys=visual,weights=gaussian"
    one, two = (reader("answers", intervention=noise, seed=seed) for seed in (0, 1))
    both = reader.over_seeds(2, intervention=noise)
    assert both["correct"].tolist() == [(a + b) / 2 for a, b in zip(one["correct"], two["correct"], strict=True)]
    assert both["unparsed"].tolist() == [
        (a + b) / 2 for a, b in zip(one["parsed"].isna(), two["parsed"].isna(), strict=True)
    ]
    assert both["right"].tolist() == one["correct"].tolist()
    assert [table.key.seed for table in reader.read] == [0, 1, 0, 1]
    capsys.readouterr()
    results.close("x", reader.read)
    assert "4 tables measured." in (told := capsys.readouterr().out)
    assert "seconds_x = " in told


def test_record_keeps_what_was_measured(tiny_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LOST_RESULTS", str(tmp_path))
    monkeypatch.setenv("LOST_RECORD", "1")
    ask = {"model": str(tiny_folder), "benchmark": "mini-mathvista", "n": 3}
    assert results.obtain("residual", **ask, rank="erank").origin == "measured"
    assert results.obtain("residual", **ask, rank="erank").origin == "shipped"
    assert results.obtain("residual", **ask).origin == "measured"


def test_the_recorded_command_makes_the_same_table(table, tmp_path) -> None:
    words = shlex.split(table.about["command"])
    assert words[0] == "lostlib"
    run = runner.invoke(app, [*words[1:], "--out", str(tmp_path)])
    assert run.exit_code == 0, run.output
    (path,) = tables.shipped_tables(tmp_path)
    pd.testing.assert_frame_equal(tables.read(path).frame, table.frame)


def test_parameters_of_any_type_survive_the_recorded_command() -> None:
    given = {"causal": True, "controls": ["noise_qkv"], "rank": 3, "dims": "12", "tau": "10%", "unit": "bits"}
    words = shlex.split(tables.Key("residual", "m", "w", "mini-pope", "1", parameters=given).command)
    assert cli._parameters([word for word, before in zip(words[1:], words, strict=False) if before == "--set"]) == given


def test_items_at_once_are_no_part_of_what_was_measured(table, tiny_folder) -> None:
    ask = {"model": str(tiny_folder), "benchmark": "mini-pope", "n": 12, "intervention": "sap", "seed": 2}
    few = measure.measure("answers", **ask, batch_size=5)
    assert few.key == table.key
    pd.testing.assert_frame_equal(few.frame.drop(columns="logprob"), table.frame.drop(columns="logprob"))


def test_shares_on_the_command_line_leave_the_table_of_one_run(tiny_folder, tmp_path) -> None:
    words = ["run", "answers", "--model", str(tiny_folder), "--n", "12", "--set", "batch_size=1", "--out"]
    made = []
    for name, shares in (("alone", []), ("shared", ["2/2", "1/2"])):
        for share in shares:
            done = runner.invoke(app, [*words, str(tmp_path / name), "--share", share])
            assert done.exit_code == 0, done.output
            assert f"share {share}, " in done.output
            assert not list(tables.shipped_tables(tmp_path / name))
        assert runner.invoke(app, [*words, str(tmp_path / name)]).exit_code == 0
        (path,) = tables.shipped_tables(tmp_path / name)
        made.append(tables.read(path))
    assert made[0].manifest["hash"] == made[1].manifest["hash"]
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_table_that_is_there_is_kept_when_asked_to(tiny_folder, tmp_path, monkeypatch) -> None:
    words = ["run", "answers", "--model", str(tiny_folder), "--n", "3", "--set", "batch_size=2", "--keep"]
    words += ["--out", str(tmp_path)]
    assert "3 rows in" in runner.invoke(app, words).output
    with monkeypatch.context() as blocked:
        blocked.setattr(measure, "measure", lambda *_, **__: pytest.fail("it was measured again"))
        for more in ([], ["--n", "2"], ["--share", "1/2"]):
            done = runner.invoke(app, [*words, *more])
            assert (done.exit_code, done.output.strip().endswith("is there")) == (0, True), done.output
    assert "4 rows in" in runner.invoke(app, [*words, "--n", "4"]).output


def test_the_score_is_told(tiny_folder, tmp_path) -> None:
    words = ["run", "answers", "--model", str(tiny_folder), "--n", "12", "--out", str(tmp_path / "out")]
    done = runner.invoke(app, words)
    assert done.exit_code == 0, done.output
    (path,) = tables.shipped_tables(tmp_path / "out")
    raw, benchmark = tables.read(path).frame["raw"].tolist(), lostlib.load_benchmark("mini-pope", n=12)
    score = benchmark.score(benchmark.items, raw)
    assert f"accuracy     {score['accuracy']}" in done.output
    assert f"12 items, {score['n_unparsed']} answers not parsed\n" in done.output
    assert [folder.name for folder in tmp_path.iterdir()] == ["out"], "finished parts are cleared away"


def test_how_a_model_is_loaded_is_part_of_what_was_measured(tiny_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LOST_RESULTS", str(tmp_path))
    monkeypatch.setenv("LOST_RECORD", "1")
    ask = {"benchmark": "mini-pope", "n": 3}
    half = results.obtain("answers", model=f"{tiny_folder}:dtype=bfloat16", **ask)
    assert half.key.model == f"{tiny_folder}:dtype=bfloat16"
    assert half.about["dtype"] == "bfloat16"
    assert half.about["origin"] == "mini world"
    eager = results.obtain("answers", model=f"{tiny_folder}:backend=eager", **ask)
    assert (eager.key.model, eager.about["backend"]) == (f"{tiny_folder}:backend=eager", "eager")
    assert half.about["pixels"] is None
    assert results.obtain("answers", model=str(tiny_folder), **ask).origin == "measured"
    same = results.obtain("answers", model=f"{tiny_folder}:dtype=float32", **ask)  # which is what auto means here
    assert (same.origin, same.key.model) == ("shipped", str(tiny_folder))
    assert len(list(tables.shipped_tables(tmp_path))) == 3


def test_check_finds_what_differs(table, tmp_path) -> None:
    good = tables.write(table, tmp_path)
    assert recheck.check_table(good, 4).agrees
    assert runner.invoke(app, ["check", "--folder", str(tmp_path)]).exit_code == 0
    of_it = runner.invoke(app, ["check", "--folder", str(tmp_path), "--model", table.key.model])
    assert (of_it.exit_code, of_it.output.count("same ")) == (0, 1)
    none = runner.invoke(app, ["check", "--folder", str(tmp_path), "--model", "mini-llava"])
    assert none.exit_code == 2
    assert "no tables of 'mini-llava'" in " ".join(none.output.replace("│", "").split())
    table.frame.loc[:, "raw"] = "something else"
    tables.write(table, tmp_path)
    assert not recheck.check_table(good, None).agrees
    assert runner.invoke(app, ["check", "--folder", str(tmp_path), "--all"]).exit_code == 1


def test_check_compares_numbers() -> None:
    frame = pd.DataFrame({"item": ["a", "b"], "rid": [0.1, 0.2]})
    assert recheck.compare(frame, frame.assign(rid=frame["rid"] + 1e-5)).agrees
    assert not recheck.compare(frame, frame.assign(rid=[0.1, 0.25])).agrees
    assert not recheck.compare(frame, frame.head(1)).agrees
    assert not recheck.compare(frame, frame.assign(item=["a", "c"])).agrees
    assert not recheck.compare(frame, frame.assign(rid=[0.1, np.nan])).agrees
    both = frame.assign(rid=[0.1, np.nan])
    assert recheck.compare(both, both).agrees


def test_check_compares_what_is_made_of_an_answer() -> None:
    frame = pd.DataFrame({"item": ["a", "b"], "raw": ["yes", "no"], "parsed": ["yes", None], "correct": [True, False]})
    frame["logprob"] = -0.1
    assert recheck.compare(frame, frame).agrees
    for name, changed in {"correct": [True, True], "parsed": ["yes", "no"], "logprob": [-0.1, -0.2]}.items():
        found = recheck.compare(frame, frame.assign(**{name: changed}))
        assert not found.agrees
        assert f"{name} differs in 1 of 2 rows" in found.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "answers", "--model", "mini-lava-1.5"], "neither shipped"),
        (["run", "answers", "--benchmark", "pop"], "unknown benchmark"),
        (["run", "answers", "--intervention", "sap:weights=gausian"], "did you mean 'gaussian'"),
        (["run", "answers", "--device", "cuda:99"], "not to be had here"),
        (["run", "residual", "--intervention", "sap"], "untouched model"),
        (["run", "residual", "--set", "rank"], "not name=value"),
        (["run", "answer"], "did you mean 'answers'"),
        (["run", "sinks", "--set", "tua=10%"], "did you mean 'tau'"),
        (["run", "sinks", "--set", "tau=ten"], "tau='ten' is neither"),
        (["run", "heads", "--set", "preset=papper"], "'papper' is not one of paper, official_code"),
        (["run", "residual", "--set", "rank=nmerical"], "did you mean 'numerical'"),
        (["run", "residual", "--set", "unit=nat"], "did you mean 'nats'"),
        (["run", "residual", "--set", "scope=layers"], "did you mean 'layer'"),
        (["run", "residual", "--set", "without=token"], "did you mean 'tokens'"),
        (["run", "residual", "--set", "causal=yes"], "causal must be true or false"),
        (["run", "residual", "--set", 'controls=["noise_dleta"]'], "did you mean 'noise_delta'"),
        (["run", "residual", "--set", "controls=noise_delta"], "controls must be a list"),
        (["run", "answers", "--set", "seed=1"], "answers has no parameter 'seed'"),
        (["run", "attention", "--set", "batch_size=0"], "batch_size must be a whole number of at least 1"),
        (["run", "answers", "--set", "max_new_tokens=few"], "max_new_tokens must be a whole number"),
        (["run", "answers", "--intervention", "sap:layers=9"], "mini-llava-1.5 has layers 0-5"),
        (["run", "sinks", "--set", "dims=1415"], "mini-llava-1.5 has dims 0-127"),
        (["run", "answers", "--dtype", "bfloat6"], "did you mean 'bfloat16'"),
        (["run", "answers", "--revision", "main"], "is a folder here, which has no revisions"),
        (["run", "heads", "--max-pixels", "1003520"], "max_pixels are for qwen2_5_vl"),
        (["run", "answers", "--model", "mini-llava-1.5:dtpe=float32"], "did you mean 'dtype'"),
        (["run", "attention", "--model", "mini-llava-1.5:backend=eager"], "neither seen nor changed"),
        (
            ["run", "answers", "--model", "mini-llava-1.5:backend=sdpa", "--intervention", "sap"],
            "leave the backend out",
        ),
        (["run", "answers", "--model", "mini-llava-1.5:dtype=float16", "--dtype", "float32"], "given twice"),
        (["run", "answers", "--share", "2"], "'2' is not a share such as 2/4"),
        (["run", "answers", "--share", "5/4"], "share 5/4 is not one of 1/4 to 4/4"),
        (["run", "residual", "--share", "1/4"], "only answers are measured in shares"),
        (["train", "mini-lava-1.5"], "did you mean 'mini-llava-1.5'"),
    ],
)
def test_mistakes_on_the_command_line(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them before any weights are read."""
    monkeypatch.setattr(measure, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    measure.load_once.cache_clear()
    done = runner.invoke(app, words)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_help_and_lists() -> None:
    told = {
        "--help": "benchmarks", "run --help": "--intervention", "models": "AWQ: 4-bit weights need a GPU",
        "benchmarks": "\n  charts",
    }  # fmt: skip
    for words, part in told.items():
        done = runner.invoke(app, words.split())
        assert done.exit_code == 0
        assert part in done.output


def test_attention_mass_of_a_model_that_looks_everywhere_alike(tiny, items) -> None:
    rows = lostlib.experiments.attention.attention_mass(tiny, items)
    assert len(rows) == len(items) * 3
    assert rows["visual"].between(0, 1).all()
    known = rows.dropna()
    assert set(known["item"]) == {item.uid for item in items if item.relevant}
    assert (known["relevant"] <= known["visual"]).all()
    assert list(rows.columns) == ["item", "cluster", "layer", "visual", "relevant", "expected", "entropy"]


def test_patches_of_another_layout_are_not_called_relevant(tmp_path) -> None:
    """This model cuts a picture into nine patches; mini benchmarks number sixty-four."""
    nine = lostlib.load_model(make("llava", tmp_path / "nine"))
    items = lostlib.load_benchmark("mini-pope", n=4).items
    assert any(item.relevant for item in items)
    rows = lostlib.experiments.attention.attention_mass(nine, items)
    assert rows[["relevant", "expected"]].isna().all(axis=None)
    assert rows["visual"].notna().all()
    assert sinks.sink_rows(nine, items, tau="10%", dims="0+1")["place"].isna().all()
