"""The answers loop: two processes share a table, full memory halves batches, the broken is a row, twins count once."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFile

import lostlib
from lostlib import tables
from lostlib.experiments.answers import answers, ask_share
from lostlib.experiments.rows import plan

TOGETHER = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from lostlib import cli
from lostlib.experiments import measure
folder, out, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
words = ["run", "answers", "--model", folder, "--benchmark", "mini-mathvista", "--n", "40", "--seed", "3",
         "--intervention", "sap:keys=visual,weights=gaussian", "--set", "batch_size=2"]
run = lambda name: cli.app([*words, "--out", f"{out}/{name}"], standalone_mode=False)
run("warm")  # the model is loaded once, and the processes have it from here
start = time.monotonic()
run("alone")
whole, draw = time.monotonic() - start, random.Random(1)
for number in range(rounds):
    children = []
    for late in (0, draw.uniform(0, 0.6)):
        time.sleep(late * whole)
        child = os.fork()
        if not child:
            sys.stdout = open(os.devnull, "w")
            run(number)
            os._exit(0)
        children.append(child)
    killed = draw.choice(children) if number % 2 else None
    if killed:
        time.sleep(draw.uniform(0, 0.8) * whole)
        os.kill(killed, signal.SIGKILL)
    for child in children:
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) and child == killed or status == 0, (number, child == killed, status)
"""


@pytest.fixture
def benchmark() -> lostlib.benchmarks.Benchmark:
    return lostlib.load_benchmark("mini-mathvista", n=40)


def same(left: pd.DataFrame, right: pd.DataFrame, places: float = 1e-4) -> None:
    """Row for row; the logarithms within rounding."""
    close = ["logprob"]
    pd.testing.assert_frame_equal(left.drop(columns=close), right.drop(columns=close))
    np.testing.assert_allclose(left[close], right[close], atol=places)


@pytest.mark.slow
def test_two_processes_write_one_table_and_one_of_them_may_be_killed(tiny_folder, benchmark, tmp_path) -> None:
    """Rows, their order and the finished parts; every second round loses one process, and the other goes on."""
    command = [sys.executable, "-c", TOGETHER, str(tiny_folder), str(tmp_path), "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    alone, *rounds = (
        pd.concat([tables.read(path).frame for path in tables.shipped_tables(tmp_path / name)])
        for name in ("alone", *map(str, range(4)))
    )
    assert alone["item"].tolist() == [item.uid for item in benchmark.items]
    for frame in rounds:
        same(frame, alone, places=1e-6)
    left = [path for number in range(0, 4, 2) for path in tmp_path.glob(f"{number}.unfinished/**/*.parquet*")]
    assert not left, "whoever finishes clears away what both have made"


def test_two_processes_share_their_shards(tiny, benchmark, tmp_path, monkeypatch) -> None:
    """What another process finishes in the meantime is taken from it, and a folder it clears away is no loss."""
    whole = answers(tiny, benchmark, batch_size=2, work=tmp_path / "other")
    original, shards = lostlib.LostModel.reply, sorted((tmp_path / "other").rglob("*.parquet"))
    asked: list[str] = []

    def reply(self, items, *args):
        asked.extend(item.uid for item in items)
        folder = tmp_path / "own" / shards[0].parent.name
        if len(asked) == 2:  # the other process finishes the second shard
            folder.mkdir(parents=True)
            shutil.copy(shards[1], folder)
        if len(asked) == 10:  # and later all of it
            shutil.rmtree(tmp_path / "own")
            monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
        return original(self, items, *args)

    monkeypatch.setattr(lostlib.LostModel, "reply", reply)
    same(answers(tiny, benchmark, batch_size=2, work=tmp_path / "own"), whole, places=1e-6)
    assert not set(asked) & set(pd.read_parquet(shards[1])["item"])
    assert len(asked) == len(set(asked)) == 32


def test_the_log_probability_is_that_of_the_answer(tiny, benchmark) -> None:
    """Teacher forcing: the answer's tokens after its prompt, one forward pass an item."""
    items = benchmark.items[:4]
    for item, reply in zip(items, tiny.reply(items, 5), strict=True):
        batch = tiny.encode([item])
        assert batch.tensors["input_ids"].shape[1] == reply.prompt_tokens
        out = tiny.hf.generate(**batch.tensors, max_new_tokens=5, do_sample=False)
        with tiny.serving(batch.item_ids):
            logits = tiny.hf(**{**batch.tensors, "input_ids": out, "attention_mask": torch.ones_like(out)}).logits
        new = out[0, reply.prompt_tokens :]
        each = logits[0, reply.prompt_tokens - 1 : -1].log_softmax(-1).gather(1, new[:, None])
        assert reply.answer_tokens == len(new) <= 5
        assert reply.logprob == pytest.approx(each.sum().item(), abs=1e-4)


def test_twins_are_asked_once_unless_chance_is_keyed_by_their_ids(tiny, benchmark, monkeypatch) -> None:
    twins = [replace(item, uid=f"{item.uid}/twin") for item in benchmark.items[:5]]
    doubled = replace(benchmark, items=(*benchmark.items[:5], *twins), rows=[])
    asked: list[str] = []
    original = lostlib.LostModel.reply

    def count(self, items, *args):
        asked.extend(item.uid for item in items)
        return original(self, items, *args)

    monkeypatch.setattr(lostlib.LostModel, "reply", count)
    frame = answers(tiny, doubled)
    assert sorted(asked) == sorted(item.uid for item in benchmark.items[:5])
    assert frame["raw"].tolist()[:5] == frame["raw"].tolist()[5:]
    assert frame["item"].tolist() == [item.uid for item in doubled.items]
    asked.clear()
    answers(tiny, doubled, "sap:keys=visual,weights=gaussian")
    assert len(asked) == 10


def test_out_of_memory_halves_the_batch_and_goes_on(tiny, benchmark, monkeypatch) -> None:
    whole = answers(tiny, benchmark)
    original, sizes = lostlib.LostModel.reply, []

    def small(self, items, *args):
        sizes.append(len(items))
        if len(items) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, items, *args)

    monkeypatch.setattr(lostlib.LostModel, "reply", small)
    same(answers(tiny, benchmark), whole)
    assert max(sizes[4:]) <= 6, sizes


def broken_picture() -> Image.Image:
    """Opens, and fails when its pixels are read."""
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole, "PNG")
    picture = Image.open(io.BytesIO(whole.getvalue()[:2000]))
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    return picture


def test_what_cannot_be_asked_is_left_out(tiny, benchmark) -> None:
    items = list(benchmark.items[:12])
    items[7] = replace(items[7], images=(broken_picture(),))
    items[9] = replace(items[9], prompt="", images=())
    frame = answers(tiny, replace(benchmark, items=tuple(items), rows=[]), batch_size=5)
    assert frame["item"].tolist() == [item.uid for i, item in enumerate(items) if i != 7]
    assert list(frame.attrs["left_out"]) == [items[7].uid]
    assert "OSError" in frame.attrs["left_out"][items[7].uid]
    whole = answers(tiny, replace(benchmark, items=benchmark.items[:12], rows=[])).drop([7, 9])
    same(frame.drop(8).reset_index(drop=True), whole.reset_index(drop=True))


def test_a_fault_of_the_model_is_not_recorded_for_every_item(tiny, benchmark, monkeypatch) -> None:
    def never(self, items, *args):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(lostlib.LostModel, "reply", never)
    with pytest.raises(RuntimeError, match=r"no such kernel; it happened at .*, and is no item's fault"):
        answers(tiny, benchmark)


def test_the_plan_knows_nothing_of_what_is_done(benchmark) -> None:
    planned = plan(benchmark.items, 7)
    assert sorted(i for batch in planned.batches for i in batch) == list(range(40))
    lengths = [len(benchmark.items[i].prompt) for batch in planned.batches for i in batch]
    assert lengths == sorted(lengths, reverse=True)
    backwards = plan(benchmark.items[::-1], 7)
    names = [[[items[i].uid for i in batch] for batch in p.batches]
             for p, items in ((planned, benchmark.items), (backwards, benchmark.items[::-1]))]  # fmt: skip
    assert names[0] == names[1]
    with pytest.raises(ValueError, match="batch_size"):
        plan(benchmark.items, 0)


def test_shards_of_another_plan_are_not_mixed_in(tiny, benchmark, tmp_path: Path) -> None:
    few = answers(tiny, benchmark, batch_size=3, work=tmp_path)
    again = answers(tiny, benchmark, batch_size=8, work=tmp_path)
    same(few, again)
    assert len(list(tmp_path.iterdir())) == 2


def test_shares_and_what_gathers_them_are_one_run_to_the_bit(tiny, benchmark, tmp_path, monkeypatch) -> None:
    """No item is asked twice, none is forgotten, and a share that never ran is made up for."""
    how = {"intervention": "sap:keys=visual,weights=gaussian", "seed": 3, "batch_size": 2}
    whole = answers(tiny, benchmark, **how)
    original, asked = lostlib.LostModel.reply, []

    def reply(self, items, *args):
        asked.extend(item.uid for item in items)
        return original(self, items, *args)

    monkeypatch.setattr(lostlib.LostModel, "reply", reply)
    sizes = [ask_share(tiny, benchmark, (number, 3), tmp_path, **how) for number in (3, 1)]
    assert sizes == [8, 16]  # shards 3; 1 and 4
    assert len(set(asked)) == 24
    again = [ask_share(tiny, benchmark, (number, 3), tmp_path, **how) for number in (3, 1)]
    assert again == sizes
    assert len(asked) == 24
    pd.testing.assert_frame_equal(answers(tiny, benchmark, work=tmp_path, **how), whole)
    assert sorted(asked) == sorted(item.uid for item in benchmark.items)
    with pytest.raises(ValueError, match="share 4/3 is not one of 1/3 to 3/3"):
        ask_share(tiny, benchmark, (4, 3), tmp_path, **how)
