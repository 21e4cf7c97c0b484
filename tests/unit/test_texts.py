"""The texts: whole, of the kinds and sizes that their card tells, and no two alike."""

from __future__ import annotations

from collections import Counter

import pytest

import lostlib
from lostlib.benchmarks.texts import FILE

KINDS = ("story", "question", "list", "dialogue", "code", "numbers", "picture")


def test_the_card_is_true():
    items = lostlib.load_benchmark("texts").items
    assert Counter(item.meta["kind"] for item in items) == dict.fromkeys(KINDS, 43) | {"picture": 42}
    assert len({item.uid for item in items}) == 300
    assert not any(item.chat or item.images for item in items)
    assert all(item.prompt == item.prompt.strip() and 30 <= len(item.prompt.split()) <= 400 for item in items)


def test_no_two_share_eight_words():
    seen: dict[tuple[str, ...], str] = {}
    for item in lostlib.load_benchmark("texts").items:
        words = item.prompt.lower().split()
        for run in zip(*(words[k:] for k in range(8)), strict=False):
            assert seen.setdefault(run, item.uid) == item.uid, " ".join(run)


def test_the_first_n_are_a_fair_sample_and_a_seed_is_another_order():
    first = lostlib.load_benchmark("texts", n=70).items
    assert set(Counter(item.meta["kind"] for item in first).values()) == {10}
    other = lostlib.load_benchmark("texts", n=300, seed=1).items
    assert {item.uid for item in other} == {item.uid for item in lostlib.load_benchmark("texts").items}
    assert [item.uid for item in other[:70]] != [item.uid for item in first]


def test_they_are_in_the_package():
    assert FILE.is_relative_to(lostlib.paths.DATA)


def test_code_in_python_compiles():
    for item in lostlib.load_benchmark("texts").items:
        if item.meta["kind"] == "code" and item.prompt.startswith(("def ", "import ", "from ")):
            compile(item.prompt, item.uid, "exec")


def test_nothing_is_asked(tmp_path):
    from lostlib.experiments import measure

    with pytest.raises(ValueError, match="holds texts and asks nothing"):
        measure.measure("answers", model="mini-llava-1.5-xs", benchmark="texts", n=3)
