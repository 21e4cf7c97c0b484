"""The one loop of all experiments: killed, it goes on; a failure is no measurement; a broken item is left out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import lostlib
from lostlib import catalog, tables
from lostlib.cli import app
from lostlib.experiments import measure, rows
from lostlib.models import LostModel

runner = CliRunner()
pytestmark = pytest.mark.filterwarnings("ignore::lostlib.sinks.SinkWarning")  # the tiny model has no sinks
PARAMETERS: dict[str, dict] = {"sinks": {"tau": "10%"}, "heads": {"tau": "10%"}, "sinkmaps": {"tau": "10%"},
                               "probes": {"scenes": 400}, "readings": {"seeds": 1}}  # fmt: skip
KILLED = """
import os, signal, sys, time
import torch
torch.set_num_threads(1)
from pathlib import Path
import lostlib
from lostlib import catalog
from lostlib.experiments import measure
model, asked = lostlib.load_model(sys.argv[1]), lostlib.load_benchmark("mini-pope", n=12)
for experiment in catalog.EXPERIMENTS:
    given, work = eval(sys.argv[3]).get(experiment, {}), Path(sys.argv[2]) / experiment
    items = asked if catalog.experiment(experiment).asked else asked.items
    run = lambda work: measure.LOOPS[experiment](model, items, batch_size=1, work=work, **given)
    finished = lambda: {path: path.stat().st_mtime_ns for path in work.rglob("*-of-*.parquet")}
    whole, met = run(None), []
    for shards in (0, 1, 2):
        child = os.fork()
        if not child:
            run(work)
            os._exit(0)
        while len(finished()) < shards and not os.waitpid(child, os.WNOHANG)[0]:
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        before = finished()
        met.append(len(before))
    again = run(work)
    assert again.equals(whole), (experiment, again.shape, whole.shape)
    assert before.items() <= finished().items(), f"{experiment}: what was finished is measured again"
    assert len(finished()) == 3
    print(experiment, *met, flush=True)
"""


def whatever_it_takes(experiment: str, asked: lostlib.benchmarks.Benchmark):
    """A loop whose answers are marked takes the benchmark, another its items alone."""
    return asked if catalog.experiment(experiment).asked else asked.items


@pytest.fixture
def benchmark() -> lostlib.benchmarks.Benchmark:
    return lostlib.load_benchmark("mini-pope", n=12)


@pytest.mark.slow
def test_what_is_killed_goes_on_where_it_was(tiny_folder, tmp_path):
    """Every experiment is killed at once, after its first part and after its second."""
    command = [sys.executable, "-c", KILLED, str(tiny_folder), str(tmp_path), repr(PARAMETERS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    met = {name: list(map(int, counts)) for name, *counts in map(str.split, done.stdout.splitlines())}
    assert met.keys() == catalog.EXPERIMENTS.keys()
    assert all(once >= 1 and twice >= 2 for _, once, twice in met.values()), met
    assert sum(counts[1:] == [1, 2] for counts in met.values()) > len(met) / 2, f"killed too late: {met}"


@pytest.mark.parametrize("experiment", catalog.EXPERIMENTS)
def test_a_broken_item_is_left_out_with_its_reason(experiment, tiny, benchmark):
    broken = replace(benchmark.items[3], images=(b"no picture at all",))
    asked = replace(benchmark, items=(*benchmark.items[:3], broken, *benchmark.items[4:]))
    items = whatever_it_takes(experiment, asked)
    frame = measure.LOOPS[experiment](tiny, items, batch_size=5, **PARAMETERS.get(experiment, {}))
    uids = [item.uid for item in benchmark.items]
    assert list(dict.fromkeys(frame["item"])) == uids[:3] + uids[4:]
    assert list(frame.attrs["left_out"]) == [uids[3]]
    assert "cannot identify image" in frame.attrs["left_out"][uids[3]]


@pytest.mark.parametrize("experiment", ["answers", "attention"])
def test_what_is_no_question_is_not_asked_and_lacks_nothing(experiment, tiny, benchmark):
    empty = replace(benchmark.items[3], fault="row 3 is no question")
    asked = replace(benchmark, items=(*benchmark.items[:3], empty, *benchmark.items[4:]))
    frame = measure.LOOPS[experiment](tiny, whatever_it_takes(experiment, asked))
    assert frame.attrs["left_out"] == {}
    if experiment == "answers":
        row = frame.set_index("item").loc[empty.uid]
        assert (row["error"], row["correct"], row["raw"]) == ("row 3 is no question", False, "")
    else:
        assert empty.uid not in set(frame["item"])


@pytest.mark.parametrize("experiment", catalog.EXPERIMENTS)
def test_no_items_are_an_error(experiment, tiny, benchmark):
    items = whatever_it_takes(experiment, replace(benchmark, items=()))
    with pytest.raises(ValueError, match="no item"):
        measure.LOOPS[experiment](tiny, items)


attention = measure.LOOPS["attention"]


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, after: int = 0) -> list[int]:
    """Every forward pass after so many ends in this error; how many were asked."""
    original, calls = LostModel.forward, list[int]()

    def forward(self, batch, **more):
        calls.append(len(batch.item_ids))
        if len(calls) > after:
            raise error
        return original(self, batch, **more)

    monkeypatch.setattr(LostModel, "forward", forward)
    return calls


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), 0), (ImportError("no module flash_attn"), 3),
        (AssertionError(), 0), (NotImplementedError("no kernel"), 3), (torch.OutOfMemoryError("CUDA out of memory"), 3),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 0), (MemoryError(), 3), (ZeroDivisionError(), 3),
    ],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_what_is_no_items_fault_stops_the_run_and_leaves_no_rows(error, after, tiny, benchmark, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        failing(patch, error, after)
        with pytest.raises(RuntimeError, match=r"is no item's fault|does not fit into memory"):
            attention(tiny, benchmark.items, batch_size=1, work=tmp_path)
    again = attention(tiny, benchmark.items, batch_size=1, work=tmp_path)
    pd.testing.assert_frame_equal(again, attention(tiny, benchmark.items, batch_size=1))


@pytest.mark.parametrize("n", [1, 7, 12])
def test_when_every_item_fails_nothing_is_measured(n, tiny, benchmark, monkeypatch):
    failing(monkeypatch, ValueError("this processor takes no such picture"))
    with pytest.raises(RuntimeError, match=r"takes no such picture"):
        attention(tiny, benchmark.items[:n], batch_size=1)


def test_failures_in_a_row_stop_a_run_at_any_time(tiny, monkeypatch):
    items = lostlib.load_benchmark("mini-pope", n=60).items
    calls = failing(monkeypatch, ValueError("broken"), after=20)
    with pytest.raises(RuntimeError, match="8 items failed one after another, the last one"):
        attention(tiny, items, batch_size=1)
    assert len(calls) == 28


def test_failed_items_are_tried_again(tiny, benchmark, tmp_path, monkeypatch):
    bad = {benchmark.items[i].uid for i in (2, 7)}
    original = LostModel.encode

    def encode(self, items):
        if bad & {item.uid for item in items}:
            raise ValueError("the picture's server does not answer")
        return original(self, items)

    with monkeypatch.context() as patch:
        patch.setattr(LostModel, "encode", encode)
        frame = attention(tiny, benchmark.items, batch_size=4, work=tmp_path)
        assert set(frame.attrs["left_out"]) == bad
    again = attention(tiny, benchmark.items, batch_size=4, work=tmp_path)
    assert again.attrs["left_out"] == {}
    assert list(dict.fromkeys(again["item"])) == [item.uid for item in benchmark.items]


def test_a_shard_without_rows_is_not_the_one_before_it(tiny, benchmark, tmp_path, monkeypatch):
    """The last shard's only item fails: what is kept of it is nothing, and nothing is there twice."""
    items, original = benchmark.items[:5], LostModel.encode
    last = items[rows.plan(items, 1).batches[-1][0]].uid

    def encode(self, asked, *args):
        if last in {item.uid for item in asked}:
            raise ValueError("broken")
        return original(self, asked, *args)

    with monkeypatch.context() as patch:
        patch.setattr(LostModel, "encode", encode)
        once = attention(tiny, items, batch_size=1, work=tmp_path)
        twice = attention(tiny, items, batch_size=1, work=tmp_path)
    pd.testing.assert_frame_equal(once, twice)
    healed = attention(tiny, items, batch_size=1, work=tmp_path)
    pd.testing.assert_frame_equal(healed, attention(tiny, items, batch_size=1))


def test_work_that_cannot_be_kept_is_an_error_at_once(tiny, benchmark, tmp_path, monkeypatch):
    calls = failing(monkeypatch, AssertionError("nothing is measured"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="nothing can be written to"):
        attention(tiny, benchmark.items, work=tmp_path / "file" / "work")
    assert calls == []


def test_a_damaged_shard_is_named_and_measured_again(tiny, benchmark, tmp_path, capsys):
    whole = attention(tiny, benchmark.items, batch_size=1, work=tmp_path)
    first, second, third = sorted(tmp_path.rglob("*.parquet"))
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:100])
    third.write_text("no table")
    again = attention(tiny, benchmark.items, batch_size=1, work=tmp_path)
    pd.testing.assert_frame_equal(again, whole)
    told = capsys.readouterr().err
    assert all(f"{file} is damaged and is measured again" in told for file in (first, second, third))


# ---- tables with failures, and the command line ---------------------------------------------------------------------


def words(folder: Path, out: Path, *more: str) -> list[str]:
    return ["run", "answers", "--model", str(folder), "--n", "12", "--out", str(out), *more]


def test_a_table_that_lacks_items_does_not_count(tiny_folder, benchmark, tmp_path, monkeypatch):
    original, bad = LostModel.encode, benchmark.items[5].uid

    def encode(self, items):
        if bad in {item.uid for item in items}:
            raise OSError("image file is truncated")
        return original(self, items)

    with monkeypatch.context() as patch:
        patch.setattr(LostModel, "encode", encode)
        done = runner.invoke(app, words(tiny_folder, tmp_path / "out"))
    assert done.exit_code == 1
    assert "11 items, " in done.output
    assert "1 lacking" in done.output
    assert f"for example {bad}: OSError: image file is truncated" in done.output
    (path,) = tables.shipped_tables(tmp_path / "out")
    assert tables.read(path).left_out == {bad: "OSError: image file is truncated"}
    assert not tables.is_held(tables.read_key(path), tmp_path / "out")
    done = runner.invoke(app, words(tiny_folder, tmp_path / "out", "--keep"))
    assert done.exit_code == 0, done.output
    assert tables.is_held(tables.read_key(path), tmp_path / "out")
    assert "is there" in runner.invoke(app, words(tiny_folder, tmp_path / "out", "--keep")).output
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_fault_of_the_device_leaves_no_table(tiny_folder, tmp_path, monkeypatch):
    def never(self, items, *args):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(LostModel, "reply", never)
    done = runner.invoke(app, words(tiny_folder, tmp_path / "out"))
    assert done.exit_code == 2
    assert "error: RuntimeError: CUDA error: an illegal memory access" in done.output
    assert not list(tables.shipped_tables(tmp_path / "out"))


def test_more_items_are_not_lost_to_fewer(tiny_folder, tmp_path):
    assert runner.invoke(app, words(tiny_folder, tmp_path)).exit_code == 0
    fewer = ["run", "answers", "--model", str(tiny_folder), "--n", "4", "--out", str(tmp_path)]
    done = runner.invoke(app, fewer)
    assert done.exit_code == 2
    assert "holds 12 items already, and 4 would take its place: say --replace" in done.output
    assert runner.invoke(app, [*fewer, "--replace"]).exit_code == 0
    (path,) = tables.shipped_tables(tmp_path)
    assert tables.read_key(path).n == 4


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"no table at all"])
def test_a_damaged_table_is_named_and_measured_again(tiny_folder, tmp_path, damage):
    assert runner.invoke(app, words(tiny_folder, tmp_path)).exit_code == 0
    (path,) = tables.shipped_tables(tmp_path)
    whole, manifest = tables.read(path), path.read_bytes()
    for content in (damage, manifest[: len(manifest) // 2], manifest[:200] + b"x" * 200 + manifest[400:]):
        path.write_bytes(content)
        with pytest.raises(tables.Damaged, match=r"is no whole table"):
            tables.read(path)
        found = runner.invoke(app, ["check", "--folder", str(tmp_path)])
        assert found.exit_code != 0
        done = runner.invoke(app, words(tiny_folder, tmp_path, "--keep"))
        assert done.exit_code == 0, done.output
        assert "is there" not in done.output
        pd.testing.assert_frame_equal(tables.read(path).frame, whole.frame)


def damaged(change):
    """A small table's file with another manifest."""

    def write(path: Path) -> None:
        held = pq.read_table(path)
        meta = json.loads(held.schema.metadata[tables.META])
        text = change(meta)
        pq.write_table(held.replace_schema_metadata({tables.META: text if text else json.dumps(meta)}), path)

    return write


MANIFESTS = {
    "no JSON": damaged(lambda meta: "{"),
    "another JSON": damaged(lambda meta: "[]"),
    "no key": damaged(lambda meta: meta.pop("key") and None),
    "an extra key": damaged(lambda meta: meta["key"].update(more=1)),
    "a key of another type": damaged(lambda meta: meta["key"].update(n="12")),
    "parameters that are none": damaged(lambda meta: meta["key"].update(parameters=[1])),
    "nothing besides": damaged(lambda meta: meta.update(about=None)),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_table_with_another_manifest_is_named(tmp_path, kind):
    path = tables.write(
        tables.Table(pd.DataFrame({"item": ["a"]}), tables.Key("answers", "m", "w", "b", "1", n=1), {}), tmp_path
    )
    MANIFESTS[kind](path)
    for read in (tables.read, tables.read_head, tables.read_key):
        with pytest.raises(tables.Damaged, match=f"{path} is no whole table"):
            read(path)


def test_no_damaged_page_passes_for_a_whole_one(tmp_path):
    """One byte is changed at a time, anywhere in the pages: the table is the same, or it is named."""
    frame = pd.DataFrame({"item": [f"i{k}" for k in range(200)], "value": np.random.default_rng(0).normal(size=200)})
    path = tables.write(tables.Table(frame, tables.Key("answers", "m", "w", "b", "1", n=200), {}), tmp_path)
    whole, good = tables.read(path).frame, path.read_bytes()
    end = len(good) - 8 - int.from_bytes(good[-8:-4], "little")  # where the footer begins
    named = 0
    for at in range(4, end, 3):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:
            pd.testing.assert_frame_equal(tables.read(path).frame, whole)
        except tables.Damaged as error:
            named += str(path) in str(error)
    assert named > 0.9 * (end - 4) / 3


def test_check_goes_on_after_a_damaged_table(tiny_folder, tmp_path):
    for seed in ("1", "2"):
        done = runner.invoke(app, words(tiny_folder, tmp_path, "--intervention", "sap", "--seed", seed))
        assert done.exit_code == 0
    first, _ = tables.shipped_tables(tmp_path)
    first.write_bytes(first.read_bytes()[:300])
    done = runner.invoke(app, ["check", "--folder", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output.count("is no whole table") == 1
    assert done.output.count("same") == 1


def test_check_sees_what_cannot_be_measured_any_more(tiny_folder, benchmark, tmp_path, monkeypatch):
    assert runner.invoke(app, words(tiny_folder, tmp_path)).exit_code == 0
    bad = {item.uid for item in benchmark.items[:4]}
    original = LostModel.encode

    def encode(self, items, *args):
        if bad & {item.uid for item in items}:
            raise ValueError("broken")
        return original(self, items, *args)

    monkeypatch.setattr(LostModel, "encode", encode)
    done = runner.invoke(app, ["check", "--folder", str(tmp_path), "--sample", "12"])
    assert done.exit_code == 1
    assert "4 items cannot be measured now, for example" in done.output


def test_check_goes_on_whatever_is_wrong_with_a_table(tiny_folder, tmp_path):
    assert runner.invoke(app, words(tiny_folder, tmp_path)).exit_code == 0
    (path,) = tables.shipped_tables(tmp_path)
    whole = tables.read(path)
    odd = replace(whole, key=replace(whole.key, seed=1, parameters={"colour": "red"}))
    tables.write(odd, tmp_path)
    tables.write(replace(whole, key=replace(whole.key, seed=2), frame=whole.frame.drop(columns="item")), tmp_path)
    done = runner.invoke(app, ["check", "--folder", str(tmp_path)])
    assert (done.exit_code, done.output.count("DIFFERS"), done.output.count("same")) == (1, 2, 1)


def test_long_and_odd_names_are_places_of_their_own():
    lines = ["You are a", "You are  a", "You are_a helper", "You are a " + "very " * 60 + "kind helper."]
    models = [f"llava-hf/llava-1.5-7b-hf:system={line}" for line in lines]
    paths = [tables.Key.of("answers", model, "pope", 10).path for model in models]
    assert max(len(part) for path in paths for part in path.parts) < 200
    keys = {tables.Key.of("answers", model, "pope", 10).model for model in models}
    assert len(set(paths)) == len(keys)


def test_check_on_nothing_is_an_error(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        done = runner.invoke(app, ["check", "--folder", str(folder)])
        assert done.exit_code == 2
        assert "there are no tables in" in done.output


def test_a_folder_that_cannot_be_written_to_is_found_before_anything_is_measured(tiny_folder, tmp_path, monkeypatch):
    failing(monkeypatch, AssertionError("nothing is measured"))
    (tmp_path / "file").write_text("in the way")
    done = runner.invoke(app, words(tiny_folder, tmp_path / "file" / "out"))
    assert done.exit_code == 2
    assert "nothing can be written to" in done.output


def test_the_loop_knows_whose_fault_it_is():
    """What processors and Pillow raise about an item; nothing that a device or an installation raises is among it."""
    assert not issubclass(RuntimeError, rows.ITEMS_OWN)
    assert not issubclass(ImportError, rows.ITEMS_OWN)
    assert issubclass(UnicodeDecodeError, rows.ITEMS_OWN)
