"""Every benchmark's `Rules` are whole, agree with its items, and are all that is known of it: its name says nothing."""

from __future__ import annotations

import pkgutil
from dataclasses import MISSING, fields, replace
from importlib import import_module

import pandas as pd
import pytest

import lostlib
from lostlib import benchmarks, claims
from lostlib.benchmarks import HUB, NAMESAKES, OWN, RULES, Choice, Rules
from lostlib.benchmarks.extractors import KINDS
from lostlib.benchmarks.prompts import PROFILES

ASKED = [(name, variant) for name, rules in NAMESAKES.items() for variant in rules.variants]


@pytest.mark.parametrize("name", RULES)
def test_the_rules_are_whole(name: str) -> None:
    rules = RULES[name]
    assert rules.name == name
    assert all(getattr(rules, one.name) for one in fields(Rules) if MISSING is one.default is one.default_factory)
    assert set(rules.kinds) <= set(KINDS)
    assert {"default"} <= set(rules.tokens) <= set(PROFILES)
    assert min(rules.tokens.values()) > 0
    assert rules.group not in rules.breakdowns
    assert rules.task in claims.RHO
    assert bool(rules.rows) != bool(rules.sources)
    assert list(rules.expected) == list(rules.sources)
    assert all(counts["items"] > 0 for counts in rules.expected.values())
    assert all(len(set(sources)) == len(sources) > 0 for sources in rules.sources.values())


def test_every_file_that_declares_a_benchmark_is_entered() -> None:
    files = [import_module(f"lostlib.benchmarks.{file.name}") for file in pkgutil.iter_modules(benchmarks.__path__)]
    declared = [rules for file in files if isinstance(rules := vars(file).get("RULES"), Rules)]
    assert {rules.name for rules in declared} == {*HUB, *OWN}
    assert [rules.label for rules in NAMESAKES.values()] == [rules.label for rules in HUB.values()]


@pytest.mark.parametrize(("name", "variant"), ASKED)
def test_items_have_what_their_rules_name(name: str, variant: str) -> None:
    made = lostlib.load_benchmark(name, n=48, variant=variant)
    rules = made.rules
    assert {item.kind for item in made.items} <= set(rules.kinds)
    for item in made.items:
        assert {rules.group, *rules.stratum, rules.unit or "answer"} <= {*item.meta, "answer"}
        assert rules.mark(item, item.answer, None) == (item.answer, True)
    assert all(set(rules.images) & set(row) for row in made.rows)
    assert made.max_new_tokens == rules.tokens["default"]


@pytest.fixture
def notpope(monkeypatch: pytest.MonkeyPatch) -> str:
    """A benchmark whose name ends as POPE's and that has nothing else of it."""
    rules = replace(NAMESAKES["mini-realworldqa"], label="notpope", version="7", task="general", judged=None)
    monkeypatch.setitem(RULES, rules.name, rules)
    return rules.name


def test_a_name_says_nothing(notpope: str) -> None:
    made = lostlib.load_benchmark(f"{notpope}:all", n=3)
    assert (made.name, made.version) == ("mini-notpope", "7")
    assert [item.kind for item in made.items] == ["mcq"] * 3
    assert Choice.parse(f"{notpope}:prompt=lmms").label == "notpope (lmms)"
    assert claims.rho_for(notpope) == claims.RHO["general"]
    with pytest.raises(ValueError, match="scored without a judge"):
        made.score(made.items, ["A"] * 3, judge=lambda item, said: said)
    assert published(notpope) == [None] * 4


def published(benchmark: str) -> list[float | None]:
    """What the verdicts on C7, C11a, C11b and C12 set beside our changes on a benchmark."""
    before = pd.DataFrame({"item": range(80), "cluster": range(80), "correct": [True] * 72 + [False] * 8, "group": "g"})
    found = [
        claims.noise_is_harmless(before, [before], 0.5, benchmark),
        claims.sinks_are_idle(before, before, 0.5, benchmark),
        claims.random_cuts_cost_more(before, before, [before], 0.5, benchmark),
        claims.var_helps(before, before, 0.5, benchmark),
    ]
    return [verdict.parts[0].published for verdict in found]


@pytest.mark.parametrize("how", ["", ":prompt=lmms"])
@pytest.mark.parametrize("name", RULES)
def test_what_is_published_goes_with_the_benchmark(name: str, how: str) -> None:
    known = [figure is not None for figure in published(name + how)]
    assert known == {"pope": [True] * 4, "realworldqa": [True] + [False] * 3}.get(RULES[name].label, [False] * 4)


@pytest.mark.parametrize("name", RULES)
def test_rho_goes_with_the_task_however_it_is_asked(name: str) -> None:
    asked = {claims.rho_for(f"{name}:{variant},prompt=lmms") for variant in RULES[name].variants}
    assert asked == {claims.rho_for(name)} == {claims.RHO[RULES[name].task]}


def test_an_unknown_benchmark_has_no_rho() -> None:
    with pytest.raises(ValueError, match="did you mean 'mini-pope'"):
        claims.rho_for("mini-popes")
