"""The answers loop: what is killed goes on, what is full is halved, what is broken is a row, twins are asked once."""

from __future__ import annotations

import io
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
from lostlib.answers import answers, plan

KILL = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
import lostlib
from lostlib.answers import answers
from pathlib import Path
folder, work, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
model, benchmark = lostlib.load_model(folder), lostlib.load_benchmark("mini-mathvista", n=40)
def run(folder=work):
    return answers(model, benchmark, "sap:keys=visual,weights=gaussian", 3, batch_size=2, work=folder)
run(None)  # warm
start = time.monotonic()
run(None)
draw, moments, whole = random.Random(0), [], time.monotonic() - start
for _ in range(kills):
    child = os.fork()
    if not child:
        run()
        os._exit(0)
    time.sleep(draw.uniform(0, 0.5) * whole)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    moments.append(len(list(work.rglob("*.parquet"))))
run().to_parquet(work / "table.parquet")
print(*moments)
"""


@pytest.fixture
def benchmark() -> lostlib.benchmarks.Benchmark:
    return lostlib.load_benchmark("mini-mathvista", n=40)


def same(left: pd.DataFrame, right: pd.DataFrame, places: float = 1e-4) -> None:
    """Row for row; the logarithms within rounding."""
    close = ["logprob"]
    pd.testing.assert_frame_equal(left.drop(columns=close), right.drop(columns=close))
    np.testing.assert_allclose(left[close], right[close], atol=places)


def test_killed_twenty_times_and_resumed(tiny_folder, benchmark, tmp_path) -> None:
    command = [sys.executable, "-c", KILL, str(tiny_folder), str(tmp_path / "work"), "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    moments = [int(count) for count in done.stdout.split()]
    assert len(set(moments)) > 2, f"the kills met nothing half done: {moments}"
    model = lostlib.load_model(tiny_folder)
    whole = answers(model, benchmark, "sap:keys=visual,weights=gaussian", 3, batch_size=2, work=tmp_path / "whole")
    same(pd.read_parquet(tmp_path / "work" / "table.parquet"), whole, places=1e-6)
    names = [sorted(f.name for f in (tmp_path / w).rglob("*-of-*.parquet")) for w in ("work", "whole")]
    assert names[0] == names[1] == [f"{i:05d}-of-00005.parquet" for i in range(5)]


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


def test_what_cannot_be_asked_is_a_row(tiny, benchmark) -> None:
    items = list(benchmark.items[:12])
    items[7] = replace(items[7], images=(broken_picture(),))
    items[9] = replace(items[9], prompt="", images=())
    frame = answers(tiny, replace(benchmark, items=tuple(items), rows=[]), batch_size=5)
    assert frame["error"].notna().tolist() == [i == 7 for i in range(12)]
    assert "OSError" in frame["error"][7]
    assert not frame["correct"][7]
    same(frame.drop([7, 9]), answers(tiny, replace(benchmark, items=benchmark.items[:12], rows=[])).drop([7, 9]))


def test_a_fault_of_the_model_is_not_recorded_for_every_item(tiny, benchmark, monkeypatch) -> None:
    def never(self, items, *args):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(lostlib.LostModel, "reply", never)
    with pytest.raises(RuntimeError, match=r"none of the first 8 items could be asked.*no such kernel"):
        answers(tiny, benchmark)


def test_the_plan_knows_nothing_of_what_is_done(benchmark) -> None:
    planned = plan(benchmark.items, 7, merge=False)
    assert sorted(i for batch in planned.batches for i in batch) == list(range(40))
    lengths = [len(benchmark.items[i].prompt) for batch in planned.batches for i in batch]
    assert lengths == sorted(lengths, reverse=True)
    backwards = plan(benchmark.items[::-1], 7, merge=False)
    names = [[[items[i].uid for i in batch] for batch in p.batches]
             for p, items in ((planned, benchmark.items), (backwards, benchmark.items[::-1]))]  # fmt: skip
    assert names[0] == names[1]
    with pytest.raises(ValueError, match="batch_size"):
        plan(benchmark.items, 0, merge=False)


def test_shards_of_another_plan_are_not_mixed_in(tiny, benchmark, tmp_path: Path) -> None:
    few = answers(tiny, benchmark, batch_size=3, work=tmp_path)
    again = answers(tiny, benchmark, batch_size=8, work=tmp_path)
    same(few, again)
    assert len(list(tmp_path.iterdir())) == 2
