"""The answers loop: every item of a benchmark through the model, once, whatever happens on the way.

A fixed plan comes first: identical questions about identical pictures are asked once, the rest is sorted by length
and cut into batches, and batches into shards. The plan depends on the items and the batch size only, never on what is
done already. A finished shard is one Parquet file that appears whole or not at all, so a run that is killed at any
moment and started again leaves the same files as one that was not, and two processes in one folder take each other's
shards and at worst do the same work twice. A batch that does not fit into the device's memory is asked in halves; an
item that cannot be asked at all becomes a row that says why.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from tqdm import tqdm

from lostlib import paths
from lostlib.benchmarks import Benchmark, Item
from lostlib.catalog import check_count
from lostlib.interventions import Intervention, intervene
from lostlib.models import LostModel

SHARD = 4  # batches a file
GIVE_UP = 8  # items that fail before any is answered: then it is not the items' fault


@dataclass(frozen=True)
class Plan:
    """What is asked together, and whose answer it is."""

    batches: tuple[tuple[int, ...], ...]  # places in the list of items
    asked_as: tuple[int, ...]  # for each item the place of the one that is asked

    @property
    def shards(self) -> list[list[tuple[int, ...]]]:
        """The batches of each file."""
        return [list(self.batches[i : i + SHARD]) for i in range(0, len(self.batches), SHARD)]


def plan(items: Sequence[Item], batch_size: int, merge: bool) -> Plan:
    """Longest first, so that a batch that is too large for the device shows at once; `merge` asks twins only once."""
    check_count("batch_size", batch_size)
    first: dict[str, int] = {}
    looks = [_look(item, merge) for item in items]
    asked_as = [first.setdefault(look.content, i) for i, look in enumerate(looks)]
    order = sorted(set(asked_as), key=lambda i: (-looks[i].pixels, -len(items[i].prompt), items[i].uid))
    batches = tuple(tuple(order[i : i + batch_size]) for i in range(0, len(order), batch_size))
    return Plan(batches, tuple(asked_as))


class _Look(NamedTuple):
    """What makes two items the same question (its uid where it is to be asked for itself), and how long it is."""

    content: str
    pixels: int


def _look(item: Item, merge: bool) -> _Look:
    """Opens an item's pictures once, and hashes them only to `merge` twins.

    An item whose pictures cannot be read, or that is no question, is like no other.
    """
    if item.fault:
        return _Look(item.uid, 0)
    pixels, pictures = 0, []
    try:
        for image in item.images:
            pixels += image.width * image.height
            if merge:
                pictures.append((image.mode, image.size, hashlib.sha256(image.tobytes()).hexdigest()))
    except Exception:  # whatever Pillow makes of it: the item's row will tell
        return _Look(item.uid, 0)
    return _Look(repr((item.prompt, pictures)) if merge else item.uid, pixels)


def answers(
    model: LostModel,
    benchmark: Benchmark,
    intervention: str = "none",
    seed: int = 0,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    work: Path | None = None,
) -> pd.DataFrame:
    """Greedy answers under an intervention.

    Parameters
    ----------
    model : LostModel
    benchmark : Benchmark
    intervention, seed
        As for `intervene`. Where the seed matters, every item is asked for itself, since draws are keyed by its id.
    batch_size : int
        Items at once, to begin with.
    max_new_tokens : int, optional
        As many as the benchmark needs by default.
    work : Path, optional
        Folder of finished shards: with one, a run that was killed goes on where it was.

    Returns
    -------
    pandas.DataFrame
        One row an item, in the benchmark's order: item, cluster, group (the benchmark's category), gold, raw (what the
        model said), parsed (null where nothing can be read), correct, logprob (natural logarithm of the probability of
        the answer, its end included), prompt_tokens, answer_tokens, error (null, or why the item could not be asked).
    """
    asking = _Asking.of(benchmark, intervention, batch_size, max_new_tokens)
    said = pd.concat(asking.ask(model, seed, work), ignore_index=True).set_index("item")
    ordered = said.loc[[benchmark.items[i].uid for i in asking.plan.asked_as]]
    return _table(benchmark, ordered.reset_index(drop=True))


def ask_share(
    model: LostModel,
    benchmark: Benchmark,
    share: tuple[int, int],
    work: Path,
    intervention: str = "none",
    seed: int = 0,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
) -> int:
    """Finish one of several shares of the shards in `work`, where `answers` finds them; give back how many items it is.

    Parameters as for `answers`, `batch_size` too, for another one is another plan. The share ``(2, 4)`` is every fourth
    shard from the second on, so that each has its part of the long questions; there are as many shards as there are
    times 4 x `batch_size` items, and with more shares than shards some shares are empty.
    """
    number, shares = check_share(share)
    asking = _Asking.of(benchmark, intervention, batch_size, max_new_tokens)
    return sum(map(len, asking.ask(model, seed, work, slice(number - 1, None, shares))))


def check_share(share: tuple[int, int]) -> tuple[int, int]:
    """Refuse the fifth of four."""
    number, shares = share
    if not 1 <= number <= shares:
        raise ValueError(f"share {number}/{shares} is not one of 1/{shares} to {shares}/{shares}")
    return number, shares


@dataclass(frozen=True)
class _Asking:
    """What is asked of a model, in which parts, under what intervention."""

    benchmark: Benchmark
    intervention: Intervention
    plan: Plan
    max_new_tokens: int

    @classmethod
    def of(cls, benchmark: Benchmark, intervention: str, batch_size: int, max_new_tokens: int | None) -> _Asking:
        """As `answers` is asked to."""
        chosen = Intervention.parse(intervention)
        planned = plan(benchmark.items, batch_size, merge=not chosen.random)
        tokens = benchmark.max_new_tokens if max_new_tokens is None else max_new_tokens
        check_count("max_new_tokens", tokens)
        return cls(benchmark, chosen, planned, tokens)

    def files(self, work: Path | None) -> list[Path | None]:
        """Where each shard is kept."""
        folder = work and work / _digest(self.benchmark.items, self.plan, self.max_new_tokens)
        count = len(self.plan.shards)
        return [folder and folder / f"{i:05d}-of-{count:05d}.parquet" for i in range(count)]

    def ask(self, model: LostModel, seed: int, work: Path | None, share: slice = slice(None)) -> list[pd.DataFrame]:
        """The rows of each shard of the share, read where it is finished."""
        items, asker = self.benchmark.items, _Asker(model, self.max_new_tokens)
        shards = list(zip(self.plan.shards, self.files(work), strict=True))[share]
        sizes, frames = [sum(map(len, batches)) for batches, _ in shards], []
        done = sum(size for size, (_, file) in zip(sizes, shards, strict=True) if file and file.exists())
        title = f"{self.benchmark.name} {self.intervention}"
        with (
            intervene(model, self.intervention, seed),
            tqdm(total=sum(sizes), initial=done, desc=title, unit="item", disable=None) as bar,
        ):
            for batches, file in shards:
                if file and (finished := _finished(file)) is not None:
                    frames.append(finished)
                    continue
                rows: list[dict] = []
                for batch in batches:
                    rows += asker.ask([items[i] for i in batch])
                    bar.update(len(batch))
                frames.append(pd.DataFrame(rows).astype({"raw": "str", "error": "str"}))
                if file:
                    _finish(file, frames[-1])
        return frames


def _finished(file: Path) -> pd.DataFrame | None:
    """A shard; None where it is not done, or cleared away by another process that has finished the whole table."""
    try:
        return pd.read_parquet(file)
    except FileNotFoundError:
        return None


def _finish(file: Path, rows: pd.DataFrame) -> None:
    try:
        with paths.replacing(file) as partial:
            rows.to_parquet(partial, index=False, compression="zstd")
    except OSError:
        if file.parent.is_dir():
            raise
        # another process has just cleared the folder away, which is no loss: these rows are in memory


def _table(benchmark: Benchmark, said: pd.DataFrame) -> pd.DataFrame:
    items, marks = benchmark.items, benchmark.mark(benchmark.items, said["raw"].tolist())
    return pd.DataFrame(
        {
            "item": [item.uid for item in items],
            "cluster": [item.cluster for item in items],
            "group": [item.meta[benchmark.rules.GROUP] for item in items],
            "gold": [item.answer for item in items],
            "raw": said["raw"],
            "parsed": pd.Series([mark.parsed for mark in marks], dtype="str"),
            "correct": [mark.right for mark in marks],
            "logprob": said["logprob"].astype("float32"),
            "prompt_tokens": said["prompt_tokens"].astype("int32"),
            "answer_tokens": said["answer_tokens"].astype("int32"),
            "error": said["error"],
        }
    )


def _digest(items: Sequence[Item], planned: Plan, max_new_tokens: int) -> str:
    """A name for the plan: shards of another one are not taken for its own."""
    asked = [[(items[i].uid, items[i].prompt) for i in batch] for batch in planned.batches]
    return hashlib.sha256(json.dumps([asked, SHARD, max_new_tokens]).encode()).hexdigest()[:12]


class _Asker:
    """Asks batches; asks those that fail in halves."""

    def __init__(self, model: LostModel, max_new_tokens: int):
        self.model, self.max_new_tokens = model, max_new_tokens
        self.largest = sys.maxsize  # as many items as fit into memory
        self.answered = self.failed = 0

    def ask(self, items: Sequence[Item]) -> list[dict]:
        """One row an item."""
        if len(items) > self.largest:
            return [row for i in range(0, len(items), self.largest) for row in self.ask(items[i : i + self.largest])]
        try:
            replies = self.model.reply(items, self.max_new_tokens)
        except Exception as error:  # what it is about shows when it is alone
            failure, full = f"{type(error).__name__}: {error}", isinstance(error, torch.OutOfMemoryError)
        else:
            self.answered += len(items)
            return [
                {"item": item.uid, **reply._asdict(), "error": None} for item, reply in zip(items, replies, strict=True)
            ]
        # outside of the handler, whose traceback would keep the failed batch's tensors
        if len(items) == 1:
            return [self._unasked(items[0], failure)]
        half = -(-len(items) // 2)
        if full:
            self.largest = half
            gc.collect()
            torch.cuda.empty_cache()
        return self.ask(items[:half]) + self.ask(items[half:])

    def _unasked(self, item: Item, failure: str) -> dict:
        self.failed += 1
        if not self.answered and self.failed == GIVE_UP:
            raise RuntimeError(f"none of the first {GIVE_UP} items could be asked; {item.uid}: {failure}")
        return {
            "item": item.uid, "raw": "", "logprob": math.nan, "prompt_tokens": 0, "answer_tokens": 0, "error": failure
        }  # fmt: skip
