"""Benchmarks by name: rows of the hub, of a folder or of the mini world, as items."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from itertools import islice
from pathlib import Path

import numpy as np

from lostlib import paths
from lostlib.benchmarks import hub, prompts
from lostlib.benchmarks.benchmark import Benchmark
from lostlib.benchmarks.choice import Choice
from lostlib.benchmarks.items import Item
from lostlib.benchmarks.rules import Rules
from lostlib.text import check_count, check_seed

SIZE = 1000  # items of a mini benchmark when n is not given


def load_benchmark(
    name: str,
    n: int | None = None,
    seed: int = 0,
    *,
    prompt: str = "default",
    family: str | None = None,
    variant: str | None = None,
    folder: str | Path | None = None,
    revision: str | None = None,
    partial: bool = False,
) -> Benchmark:
    """Load a benchmark.

    Parameters
    ----------
    name : str
        One of the hub: ``"pope"``, ``"3dsrbench"``, ``"realworldqa"``, ``"mmmu"``, ``"vmcbench"``, ``"mathvista"``,
        ``"hallusionbench"``, or its namesake in the mini world, ``"mini-pope"`` and so on; or ``"texts"``, for
        language models. Also with prompt, variant and, those of the hub, revision in one text, ``"pope:prompt=lmms"``:
        so chapters and tables name them.
    n : int, optional
        Items: 1000 of a mini benchmark and all of another by default. The first k items are the same for every n >= k;
        of a hub benchmark they are a stratified sample, and no more than there are.
    seed : int
        A new seed generates new test items of a mini benchmark, and draws other subsets of a hub benchmark.

    prompt : str
        ``"default"``, ``"lmms"`` or ``"vlmevalkit"``, see `lostlib.benchmarks.prompts`. A mini model does not know all
        words of the others.
    family : str, optional
        The model's family, ``"llava"``, ``"llava_next"`` or ``"qwen2_5_vl"``, for prompts that depend on it.

    variant : str, optional
        3DSRBench: ``"circular"`` or ``"flip"``; HallusionBench: ``"image"`` or ``"all"``; mini-mathvista:
        ``"all"``, ``"scenes"`` (sums and counts) or ``"charts"`` (bars to read). The first by default.

    The others are for hub benchmarks:

    folder : path, optional
        A local copy of the data set, Parquet files in the layout of the hub, in place of the hub. By default the
        subfolder of this name in the folder that the environment variable LOST_DATA names, where there is one.
    revision : str, optional
        A commit of the data set; the newest by default. What was loaded stands in the benchmark's ``origin``.
    partial : bool
        Take data of which rows are missing. By default the numbers of rows must be the known ones.

    >>> load_benchmark("mini-pope", n=2).items[0].prompt
    'Is there a green square in the image?'
    """
    choice = Choice.parse(name, prompt=prompt, variant=variant, revision=revision)
    if n is not None:
        check_count("n", n)
    check_seed(seed)
    style, rules = prompts.style(choice.prompt, family), choice.rules
    if not rules.rows:
        return _from_hub(choice, n, seed, style, folder, partial)
    if wrong := [key for key, value in {"folder": folder, "partial": partial}.items() if value]:
        raise ValueError(f"{choice.name} is made here, so it takes no {' or '.join(wrong)}")
    rows = list(islice(rules.rows[choice.named_variant](seed), n or SIZE))
    items = tuple(rules.to_item(row, style=style) for row in rows)
    origin = "mini world" if rules.mini else "written for this book"
    return Benchmark(choice.name, _version(choice, style), seed, rows, items, rules, origin, style)


def _version(choice: Choice, style: prompts.Style) -> str:
    """A benchmark's version, and what is not as usual about its items."""
    usual = ("default", choice.rules.variants[0])
    parts = (choice.rules.version, choice.variant, *style)
    return "+".join(part for part in parts if part and part not in usual)


def _from_hub(
    choice: Choice, n: int | None, seed: int, style: prompts.Style, folder: str | Path | None, partial: bool
) -> Benchmark:
    name, rules, variant = choice.name, choice.rules, choice.named_variant
    if folder is None and (copies := os.environ.get("LOST_DATA")) and (paths.given(copies) / name).is_dir():
        folder = paths.given(copies) / name
    place = paths.given(folder) if folder else None
    rows, origin = hub.read(rules.sources[variant], rules.images, place, choice.revision)
    items = [_item(rules, row, number, style) for number, row in enumerate(rows)]
    if items and all(item.fault for item in items):
        raise ValueError(f"{name} from {origin} holds nothing that this benchmark is made of: {items[0].fault}")
    hub.check_uids(name, items)
    hub.check_golds(name, items)
    if not partial:
        hub.check(name, origin, items, rules.expected[variant])
    strata = ["/".join(str(item.meta.get(key, item.answer)) for key in rules.stratum) for item in items]
    units = [item.meta[rules.unit] if rules.unit else item.uid for item in items]
    order = hub.stratified(name, seed, strata, units)[:n]
    kept, asked = [rows[i] for i in order], tuple(items[i] for i in order)
    return Benchmark(name, _version(choice, style), seed, kept, asked, rules, origin, style)


def _item(rules: Rules, row: hub.Row, number: int, style: prompts.Style) -> Item:
    """A row as an item; one that is empty or not as it should be becomes an item that says so."""
    try:
        if row["question"] is None:
            raise ValueError("it asks nothing")
        return rules.to_item(row, number, style)
    except Exception as error:  # whatever is missing in it
        uid, fault = f"row/{number}", f"row {number} is no question of this benchmark ({type(error).__name__}: {error})"
        return Item(uid, (), "", "", rules.kinds[0], cluster=uid, meta=defaultdict(str), fault=fault)


def chance(name: str, n: int) -> float:
    """`Benchmark.chance` of the first n items, see `chances`."""
    return float(np.mean(chances(name, n)))


def chances(name: str, n: int) -> list[float]:
    """`Benchmark.chances` of the first n items, in their order; of a mini benchmark without making its pictures.

    `data/chance.json` has for each mini benchmark and variant its version and, a digit an item, how many answers one
    can guess among; `tools/chance.py` writes it.
    """
    kept = json.loads(paths.CHANCE.read_text()) if paths.CHANCE.exists() else {}
    asked = Choice.parse(name)
    version, digits = kept.get(str(asked), ("", ""))
    if version != asked.rules.version or len(digits) < n:
        return list(load_benchmark(name, n=n).chances.values())
    return [1 / int(k) if int(k) else 0.0 for k in digits[:n]]
