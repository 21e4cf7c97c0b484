"""Benchmarks: rows -> items, prompts, answer extraction, scores.

Each benchmark is a small file; a mini benchmark is its namesake's file fed with rows of the mini world. What such a
file (the benchmark's rules) has: `to_item`, how a row becomes an item; `KINDS` of answers; `GROUP`, `BREAKDOWNS`, what
scores are broken down by; `STRATUM`, `UNIT`, how subsets are drawn; `SOURCES`, `EXPECTED`, `IMAGES`, where rows are,
how many, and which columns are pictures; `TOKENS`, how long answers may be; and where needed `mark`, `judged` and
`extra_scores`. Nothing here needs torch.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lostlib import paths
from lostlib.benchmarks import (
    hallusionbench,
    hub,
    mathvista,
    mini,
    mmmu,
    pope,
    prompts,
    realworldqa,
    scoring,
    threedsr,
    vmcbench,
)
from lostlib.benchmarks.items import Item, Pictures
from lostlib.benchmarks.scoring import Judge, Mark
from lostlib.text import check_count, check_seed, nearest, slug

if TYPE_CHECKING:
    from datasets import Dataset

SIZE = 1000  # items of a mini benchmark when n is not given
HUB: dict[str, ModuleType] = {
    "pope": pope,
    "3dsrbench": threedsr,
    "realworldqa": realworldqa,
    "mmmu": mmmu,
    "vmcbench": vmcbench,
    "mathvista": mathvista,
    "hallusionbench": hallusionbench,
}
NAMESAKES = {name: HUB[name.removeprefix("mini-")] for name in mini.ROWS}
RULES = NAMESAKES | HUB
VERSIONS = dict.fromkeys(RULES, "1") | {"mini-mathvista": "2"}  # raised whenever an item, prompt or answer changes
MINI_TOKENS = 8  # enough for every answer of the mini world

__all__ = ["Benchmark", "Item", "load_benchmark"]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's items and how they are scored.

    version   of our items; also says the variant and the prompts where they are not the default ones
    seed      of the subset, or of the items themselves for a mini benchmark
    origin    where the rows are from: data set id, revision, configs and splits, or a folder
    """

    name: str
    version: str
    seed: int
    rows: list[dict[str, Any]]
    items: tuple[Item, ...]
    rules: ModuleType
    origin: str = "mini world"
    style: prompts.Style = prompts.DEFAULT

    def __repr__(self) -> str:
        return f"Benchmark({self.name} version {self.version}, seed {self.seed}, {len(self.items)} items)"

    @property
    def dataset(self) -> Dataset:
        """The rows as a `datasets.Dataset`, images as its Image feature."""
        from datasets import Dataset, Image

        plain = [{k: v.value if isinstance(v, hub.Stored) else v for k, v in row.items()} for row in self.rows]
        made = Dataset.from_list(plain)
        for column in self.rules.IMAGES:
            if column in made.column_names:
                made = made.cast_column(column, Image())
        return made

    @property
    def chance(self) -> float:
        """Expected accuracy of guessing: one over the options, one half for yes or no, 0 for numbers."""
        return float(np.mean([1 / k if (k := i.guesses) else 0 for i in self.items]))

    @property
    def max_new_tokens(self) -> int:
        """Tokens an answer may need under this benchmark's prompts."""
        if self.name in NAMESAKES:
            return MINI_TOKENS
        return self.rules.TOKENS.get(self.style.profile, self.rules.TOKENS["default"])

    def mark(
        self, items: Sequence[Item], answers: Sequence[str], extractor: str | None = None, judge: Judge | None = None
    ) -> list[Mark]:
        """For each raw answer what is read from it (None where nothing can be) and whether that is right.

        Parameters
        ----------
        items : sequence of Item
        answers : sequence of str
            What the model said, one answer an item.
        extractor : str, optional
            A name of `extractors.EXTRACTORS` to read with, for the kinds of items it is for; ours by default.
        judge : callable, optional
            ``judge(item, answer) -> str``: the short answer in a long one, for benchmarks whose published numbers use a
            judge (MathVista).
        """
        if len(items) != len(answers):
            raise ValueError(f"{len(items)} items but {len(answers)} answers")
        if extractor is not None:
            scoring.check_extractor(extractor, items)
        if judge is not None and not hasattr(self.rules, "judged"):
            raise ValueError(f"{self.name} is scored without a judge")

        def read(item: Item, answer: str) -> Mark:
            if item.fault:
                return Mark(None, False)
            if judge is not None:
                return self.rules.judged(item, answer, judge)
            return getattr(self.rules, "mark", scoring.mark)(item, answer, extractor)

        return [read(item, answer) for item, answer in zip(items, answers, strict=True)]

    def parse(self, items: Sequence[Item], answers: Sequence[str], extractor: str | None = None) -> list[str | None]:
        """The answer given in each text; None where there is none."""
        return [mark.parsed for mark in self.mark(items, answers, extractor)]

    def score(
        self, items: Sequence[Item], answers: Sequence[str], extractor: str | None = None, judge: Judge | None = None
    ) -> dict[str, Any]:
        """Scores of raw answers: fractions in [0, 1] with 95 % intervals by bootstrap over images.

        Keys: ``accuracy``, ``accuracy/<value>`` for each value of the benchmark's group, ``accuracy/<name>=<value>``
        for its other breakdowns, the benchmark's own scores (see ``extra_scores`` of its file), and the counts ``n``
        and ``n_unparsed``. What cannot be parsed is wrong. Parameters as for `mark`.

        >>> asked = load_benchmark("mini-pope", n=4)
        >>> scores = asked.score(asked.items, ["yes", "no", "maybe", "Yes."])
        >>> scores["n"], scores["n_unparsed"]
        (4, 1)
        """
        marks = self.mark(items, answers, extractor, judge)
        right = np.array([mark.right for mark in marks])
        scores = scoring.accuracies(items, right, self.rules.GROUP, getattr(self.rules, "BREAKDOWNS", ()))
        if hasattr(self.rules, "extra_scores"):
            scores |= self.rules.extra_scores(items, marks)
        return scores | {"n": len(items), "n_unparsed": sum(mark.parsed is None for mark in marks)}


def chance(name: str, n: int) -> float:
    """`Benchmark.chance` of the first n items; of a mini benchmark without making its pictures, from what is shipped.

    `data/chance.json` has for each mini benchmark and variant its version and, a digit an item, how many answers one
    can guess among; `tools/chance.py` writes it.
    """
    kept = json.loads(paths.CHANCE.read_text()) if paths.CHANCE.exists() else {}
    asked = Choice.parse(name)
    version, digits = kept.get(str(asked), ("", ""))
    if version != VERSIONS[asked.name] or len(digits) < n:
        return load_benchmark(name, n=n).chance
    return float(np.mean([1 / int(k) if int(k) else 0 for k in digits[:n]]))


class Choice(NamedTuple):
    """A benchmark and how it is asked; as text `name`, `name:prompt=lmms,variant=flip,revision=main` or `name:flip`."""

    name: str
    prompt: str = "default"
    variant: str | None = None
    revision: str | None = None  # of the data set; None: the newest

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Of a text; what does not exist is an error that names the nearest.

        >>> str(Choice.parse("3dsrbench:flip, prompt=default"))
        '3dsrbench:variant=flip'
        """
        name, _, rest = text.partition(":")
        if name not in RULES:
            raise ValueError(f"unknown benchmark {name!r}; there are {', '.join(RULES)}{nearest(name, RULES)}")
        parts = [part if "=" in part or not part.strip() else f"variant={part}" for part in rest.split(",")]
        given = {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in parts)}
        given.pop("", None)
        if wrong := [key for key in given if key not in cls._fields[1:]]:
            known = cls._fields[1:]
            raise ValueError(f"{text}: {wrong[0]!r} is not one of {', '.join(known)}{nearest(wrong[0], known)}")
        if empty := [key for key, value in given.items() if not value]:
            raise ValueError(f"{text}: {empty[0]} is empty")
        choice = cls(name, **given)
        prompts.style(choice.prompt, None)
        if name in NAMESAKES and choice.revision:
            raise ValueError(f"{text}: {name} is generated here, so it takes no revision")
        _check_variant(name, choice.variant)
        return choice

    @property
    def label(self) -> str:
        """Its name beside those of other mini benchmarks, what is not usual in brackets.

        >>> Choice.parse("mini-mathvista:variant=scenes").label
        'mathvista (scenes)'
        """
        name, _, rest = str(self).removeprefix("mini-").partition(":")
        return f"{name} ({', '.join(part.partition('=')[2] for part in rest.split(','))})" if rest else name

    @property
    def slug(self) -> str:
        """The label as part of a key, see `lostlib.text.slug`.

        >>> Choice.parse("mini-mathvista:variant=scenes").slug
        'mathvista_scenes'
        """
        return slug(self.label)

    def __str__(self) -> str:
        named = {"prompt": self.prompt, "variant": self.variant, "revision": self.revision}
        plain = {"default", None, first_variant(self.name)}
        shown = ",".join(f"{key}={value}" for key, value in named.items() if value not in plain)
        return f"{self.name}:{shown}" if shown else self.name


def first_variant(name: str) -> str | None:
    """The variant that is meant when none is named."""
    return next(iter(variants(name)), None)


def variants(name: str) -> list[str]:
    """Of a benchmark, by name; none if there is but one."""
    return list(HUB[name].SOURCES if name in HUB else mini.VARIANTS.get(name, ()))


def _check_variant(name: str, variant: str | None) -> None:
    if variant and variant not in (known := variants(name)):
        there = f"there are {', '.join(known)}{nearest(variant, known)}" if known else "there is only one"
        raise ValueError(f"{name} has no variant {variant!r}; {there}")


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
        ``"hallusionbench"``, or its namesake in the mini world, ``"mini-pope"`` and so on. Also with prompt, variant
        and, those of the hub, revision in one text, ``"pope:prompt=lmms"``: so chapters and tables name them.
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
    choice = Choice.parse(name)
    name, prompt = choice.name, prompt if choice.prompt == "default" else choice.prompt
    variant, revision = variant or choice.variant or first_variant(name), revision or choice.revision
    _check_variant(name, variant)
    if n is not None:
        check_count("n", n)
    check_seed(seed)
    rules, style = RULES[name], prompts.style(prompt, family)
    if name in HUB:
        copies = os.environ.get("LOST_DATA")
        if folder is None and copies and (Path(copies) / name).is_dir():
            folder = Path(copies) / name
        return _from_hub(name, n, seed, style, str(variant), folder, revision, partial)
    given = {"folder": folder, "revision": revision, "partial": partial}
    if wrong := [key for key, value in given.items() if value]:
        raise ValueError(f"{name} takes no {' or '.join(wrong)}: it is generated here")
    rows = mini.rows(name, n or SIZE, seed, variant)
    items = tuple(rules.to_item(row, style=style) for row in rows)
    return Benchmark(name, _version(name, style, variant), seed, rows, items, rules, style=style)


def _version(name: str, style: prompts.Style, variant: str | None) -> str:
    """A benchmark's version, and what is not as usual about its items."""
    usual = ("default", first_variant(name), None)
    return "+".join([VERSIONS[name], *(part for part in (variant, *style) if part is not None and part not in usual)])


def _from_hub(
    name: str, n: int | None, seed: int, style: prompts.Style, variant: str, folder: str | Path | None,
    revision: str | None, partial: bool,
) -> Benchmark:  # fmt: skip
    rules = HUB[name]
    place = None if folder is None else Path(folder)
    rows, origin = hub.read(rules.SOURCES[variant], rules.IMAGES, place, revision)
    items = [_item(rules, row, number, style) for number, row in enumerate(rows)]
    if items and all(item.fault for item in items):
        raise ValueError(f"{name} from {origin} holds nothing that this benchmark is made of: {items[0].fault}")
    hub.check_uids(name, items)
    hub.check_golds(name, items)
    if not partial:
        hub.check(name, origin, items, rules.EXPECTED[variant])
    strata = ["/".join(str(item.meta.get(key, item.answer)) for key in rules.STRATUM) for item in items]
    units = [item.meta[rules.UNIT] if hasattr(rules, "UNIT") else item.uid for item in items]
    order = hub.stratified(name, seed, strata, units)[:n]
    version = _version(name, style, variant)
    return Benchmark(
        name, version, seed, [rows[i] for i in order], tuple(items[i] for i in order), rules, origin, style
    )


def _item(rules: ModuleType, row: hub.Row, number: int, style: prompts.Style) -> Item:
    """A row as an item; one that is empty or not as it should be becomes an item that says so."""
    try:
        if row["question"] is None:
            raise ValueError("it asks nothing")
        item = rules.to_item(row, number, style)
    except Exception as error:  # whatever is missing in it
        uid, fault = f"row/{number}", f"row {number} is no question of this benchmark ({type(error).__name__}: {error})"
        return Item(uid, (), "", "", rules.KINDS[0], cluster=uid, meta=defaultdict(str), fault=fault)
    return replace(item, images=Pictures(item.images))
