"""Answers: every question of a benchmark, asked once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lostlib.benchmarks import Benchmark, Item
from lostlib.experiments.rows import LEFT_OUT, gather
from lostlib.interventions import Intervention, intervene
from lostlib.models import LostModel
from lostlib.text import check_count


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
        the answer, its end included), prompt_tokens, answer_tokens, error (null; why, of a row of the data that is no
        question, which is never right). Items that could not be asked have no row; ``attrs["left_out"]`` says why.
    """
    asking = _Asking.of(benchmark, intervention, max_new_tokens)
    said = asking.ask(model, seed, batch_size, work)
    return _table(benchmark, asking.for_twins(said))


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
    asking = _Asking.of(benchmark, intervention, max_new_tokens)
    return len(asking.ask(model, seed, batch_size, work, slice(number - 1, None, shares)))


def check_share(share: tuple[int, int]) -> tuple[int, int]:
    """Refuse the fifth of four."""
    number, shares = share
    if not 1 <= number <= shares:
        raise ValueError(f"share {number}/{shares} is not one of 1/{shares} to {shares}/{shares}")
    return number, shares


@dataclass(frozen=True)
class _Asking:
    """What is asked of a model under what intervention; of identical questions the first is asked for all.

    Where the seed matters, every item is asked for itself, since draws are keyed by its id.
    """

    benchmark: Benchmark
    intervention: Intervention
    asked_as: dict[str, str]  #: from uid to the uid of the item that is asked
    max_new_tokens: int

    @classmethod
    def of(cls, benchmark: Benchmark, intervention: str, max_new_tokens: int | None) -> _Asking:
        """As `answers` is asked to."""
        chosen, first = Intervention.parse(intervention), dict[str, str]()
        contents = {item.uid: item.uid if chosen.random else _content(item) for item in benchmark.items}
        asked_as = {uid: first.setdefault(content, uid) for uid, content in contents.items()}
        tokens = benchmark.max_new_tokens if max_new_tokens is None else max_new_tokens
        check_count("max_new_tokens", tokens)
        return cls(benchmark, chosen, asked_as, tokens)

    def ask(
        self, model: LostModel, seed: int, batch_size: int, work: Path | None, share: slice = slice(None)
    ) -> pd.DataFrame:
        """A row for each item that is asked."""
        asked = [item for item in self.benchmark.items if self.asked_as[item.uid] == item.uid]

        def measured(part: Sequence[Item]) -> pd.DataFrame:
            replies = model.reply(part, self.max_new_tokens)
            return pd.DataFrame([{"item": item.uid, **r._asdict()} for item, r in zip(part, replies, strict=True)])

        title = f"{self.benchmark.name} {self.intervention}"
        with intervene(model, self.intervention, seed):
            return gather(asked, measured, batch_size, title, work, share, about=str(self.max_new_tokens))

    def for_twins(self, said: pd.DataFrame) -> pd.DataFrame:
        """A row for each item that has an answer, in the benchmark's order."""
        known, failures = said.set_index("item"), said.attrs[LEFT_OUT]
        uids = [uid for uid, asked in self.asked_as.items() if asked in known.index]
        rows = known.loc[[self.asked_as[uid] for uid in uids]].reset_index(drop=True).assign(item=uids)
        rows.attrs[LEFT_OUT] = {uid: failures[a] for uid, a in self.asked_as.items() if a in failures}
        return rows


def _content(item: Item) -> str:
    """What makes two items the same question; one whose pictures cannot be read, or that is none, is like no other."""
    try:
        pictures = [(one.mode, one.size, hashlib.sha256(one.tobytes()).hexdigest()) for one in item.images]
    except Exception:  # whatever Pillow makes of it: the loop will tell
        return item.uid
    return item.uid if item.fault else repr((item.prompt, pictures, item.begun))


def _table(benchmark: Benchmark, said: pd.DataFrame) -> pd.DataFrame:
    held = set(said["item"])
    items = [item for item in benchmark.items if item.fault or item.uid in held]
    said, attrs = said.set_index("item").reindex([item.uid for item in items]), said.attrs
    frame = marked(benchmark, items, said["raw"].fillna("").tolist()).assign(
        logprob=said["logprob"].to_numpy("float32"),
        prompt_tokens=said["prompt_tokens"].fillna(0).to_numpy("int32"),
        answer_tokens=said["answer_tokens"].fillna(0).to_numpy("int32"),
        error=pd.Series([item.fault for item in items], dtype="str"),
    )
    frame.attrs |= attrs
    return frame


def marked(benchmark: Benchmark, items: Sequence[Item], raw: Sequence[str]) -> pd.DataFrame:
    """What was said to each item, read and marked: item, cluster, group, gold, raw, parsed, correct."""
    marks = benchmark.mark(items, raw)
    return pd.DataFrame(
        {
            "item": [item.uid for item in items],
            "cluster": [item.cluster for item in items],
            "group": [item.meta[benchmark.rules.group] for item in items],
            "gold": [item.answer for item in items],
            "raw": pd.Series(raw, dtype="str"),
            "parsed": pd.Series([mark.parsed for mark in marks], dtype="str"),
            "correct": [mark.right for mark in marks],
        }
    )
