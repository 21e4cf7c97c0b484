"""The one loop of all experiments: every item through the model, once, whatever happens on the way.

A fixed plan comes first: items are sorted by length and cut into batches, and batches into shards. The plan depends on
the items and the batch size only, never on what is done already. With a folder, a finished shard is one Parquet file
that appears whole or not at all, so a run that is killed at any moment and started again leaves the same rows as one
that was not, and two processes in one folder take each other's shards and at worst do the same work twice.

A batch that does not fit into memory is measured in halves. What is wrong with an item itself (a broken picture, a
prompt that is too long) leaves it out, with the reason; it is tried again when the run is. Anything else, a fault of
the device, a missing package, an item that fits in no memory, stops the run: a failure is no measurement.
"""

from __future__ import annotations

import gc
import hashlib
import json
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from lostlib import paths
from lostlib.benchmarks.items import Item, several
from lostlib.models.model import TooLong
from lostlib.text import check_count

SHARD = 4  # batches a file
GIVE_UP = 8  # items that fail one after another: then it is not the items' fault
# what pictures, prompts and processors raise about an item; everything else is no item's fault
ITEMS_OWN = (
    ValueError, TypeError, LookupError, OSError, EOFError, SyntaxError, struct.error, Image.DecompressionBombError
)  # fmt: skip
LEFT_OUT = "left_out"  # of a frame's attrs: uid -> why it has no rows

Measured = Callable[[Sequence[Item]], pd.DataFrame]  # a batch's rows, with a column `item`


@dataclass(frozen=True)
class Plan:
    """What is measured together, by places in the list of items, and the items that cannot be."""

    batches: tuple[tuple[int, ...], ...]
    unreadable: dict[str, str] = field(default_factory=dict)  #: from uid to why

    @property
    def shards(self) -> list[list[tuple[int, ...]]]:
        """The batches of each file."""
        return [list(self.batches[i : i + SHARD]) for i in range(0, len(self.batches), SHARD)]


def plan(items: Sequence[Item], batch_size: int) -> Plan:
    """Longest first, so that a batch that is too large for the device shows at once."""
    check_count("batch_size", batch_size)
    if not items:
        raise ValueError("there are no items to measure")
    pixels, unreadable = dict[int, int](), dict[str, str]()
    for i, item in enumerate(items):
        if item.fault:
            continue  # no question at all
        try:
            pixels[i] = sum(image.width * image.height for image in item.images)
        except Exception as error:  # whatever Pillow makes of it
            unreadable[item.uid] = _said(error)
    order = sorted(pixels, key=lambda i: (-pixels[i], -len(items[i].prompt), items[i].uid))
    return Plan(tuple(tuple(order[i : i + batch_size]) for i in range(0, len(order), batch_size)), unreadable)


def gather(
    items: Sequence[Item],
    measured: Measured,
    batch_size: int,
    title: str,
    work: Path | None = None,
    share: slice = slice(None),
    about: str = "",
) -> pd.DataFrame:
    """The rows of all items, in the items' order, the cluster of each beside it.

    Parameters
    ----------
    items : sequence of Item
    measured : callable
        Rows of one batch, with a column ``item``.
    batch_size : int
        Items at once, to begin with.
    title : str
        Of the progress bar, which counts items.
    work : Path, optional
        Folder of finished shards: with one, a run that was killed goes on where it was.
    share : slice
        Of the shards: only these.
    about : str
        What else the rows depend on; shards of another text are not taken.

    Returns
    -------
    pandas.DataFrame
        ``attrs["left_out"]`` has the items without rows, and why.
    """
    items = several(items)
    planned = plan(items, batch_size)
    if work:
        paths.check_writable(work)
    loop = _Loop(measured)
    loop.failures |= planned.unreadable
    folder = work and work / _digest(items, planned, about)
    shards = list(enumerate(planned.shards))[share]
    count, frames = len(planned.shards), []
    with tqdm(total=sum(len(b) for _, s in shards for b in s), desc=title, unit="item", disable=None) as bar:
        for number, batches in shards:
            file = folder and folder / f"{number:05d}-of-{count:05d}.parquet"
            parts = [held] if file and (held := _finished(file)) is not None else []
            done = set(parts[0]["item"]) if parts else set()
            fresh = [[items[i] for i in batch if items[i].uid not in done] for batch in batches]
            bar.update(sum(map(len, batches)) - sum(map(len, fresh)))
            for batch in filter(None, fresh):
                parts += loop.measure(batch)
                bar.update(len(batch))
            if parts:
                frames.append(pd.concat(parts, ignore_index=True))
                if file and any(fresh):
                    _finish(file, frames[-1])
    if not frames and (share == slice(None)):
        raise RuntimeError(_nothing(loop.failures | {item.uid: item.fault for item in items if item.fault}))
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"item": []})
    rows = with_clusters(rows, items)
    rows.attrs[LEFT_OUT] = loop.failures
    return rows


class _Loop:
    """Measures batches; measures those that fail in halves."""

    def __init__(self, measured: Measured):
        self.measured = measured
        self.largest = sys.maxsize  # as many items as fit into memory
        self.failures: dict[str, str] = {}  # uid -> why it has no rows
        self.in_a_row = 0

    def measure(self, items: Sequence[Item]) -> Iterator[pd.DataFrame]:
        """The rows of these items, in one frame or several."""
        if len(items) > self.largest:
            for i in range(0, len(items), self.largest):
                yield from self.measure(items[i : i + self.largest])
            return
        try:
            rows = self.measured(items)
        except Exception as error:
            full, own, said = _is_full(error), isinstance(error, ITEMS_OWN), _said(error)
            certain = isinstance(error, TooLong)
            if not full and not own:
                raise RuntimeError(f"{said}; it happened at {_named(items)}, and is no item's fault") from error
            if full and len(items) == 1:
                raise RuntimeError(f"{items[0].uid} alone does not fit into memory ({said})") from error
        else:
            self.in_a_row = 0
            yield rows
            return
        # outside of the handler, whose traceback would keep the failed batch's tensors
        if len(items) == 1:
            self._leave_out(items[0], said, certain)
            return
        half = -(-len(items) // 2)
        if full:
            self.largest = half
            gc.collect()
            torch.cuda.empty_cache()
        yield from self.measure(items[:half])
        yield from self.measure(items[half:])

    def _leave_out(self, item: Item, why: str, certain: bool) -> None:
        """Where it is certain that the item is at fault, as of one that is too long, others may follow it."""
        self.failures[item.uid] = why
        self.in_a_row += not certain
        if self.in_a_row == GIVE_UP:
            raise RuntimeError(f"{GIVE_UP} items failed one after another, the last one {item.uid}: {why}")


def _is_full(error: Exception) -> bool:
    """Is memory short? On a CPU, torch says so in words only."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(w in str(error).lower() for w in words)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip()


def _named(items: Sequence[Item]) -> str:
    return items[0].uid + (f" and {len(items) - 1} others" if len(items) > 1 else "")


def _nothing(failures: dict[str, str]) -> str:
    first = next(iter(failures.items()), None)
    return f"none of {len(failures)} items could be measured" + (f"; {first[0]}: {first[1]}" if first else "")


def _finished(file: Path) -> pd.DataFrame | None:
    """A shard; None where it is not done, damaged, or cleared away by another process that has finished the table."""
    try:
        return pd.read_parquet(file)
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever Arrow makes of a file that was cut off
        print(f"{file} is damaged and is measured again ({_said(error)})", file=sys.stderr)
        return None


def _finish(file: Path, rows: pd.DataFrame) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with paths.replacing(file) as partial:
            rows.to_parquet(partial, index=False, compression="zstd")
    except OSError:
        if file.parent.is_dir():
            raise
        # another process has just cleared the folder away, which is no loss: these rows are in memory


def _digest(items: Sequence[Item], planned: Plan, about: str) -> str:
    """A name for the plan: shards of another one are not taken for its own."""
    asked = [[(items[i].uid, items[i].prompt + items[i].begun) for i in batch] for batch in planned.batches]
    return hashlib.sha256(json.dumps([asked, SHARD, about]).encode()).hexdigest()[:12]


def with_clusters(rows: pd.DataFrame, items: Sequence[Item]) -> pd.DataFrame:
    """The rows in the items' order, the cluster of each item beside it."""
    order = {item.uid: i for i, item in enumerate(items)}
    frame = rows.sort_values("item", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)
    if "cluster" not in frame:
        frame.insert(1, "cluster", frame["item"].map({item.uid: item.cluster for item in items}))
    return frame
