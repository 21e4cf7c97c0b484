"""The claims' rules on rows with a known truth: every status is reached, and other rows reach another one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lostlib import claims, report
from lostlib.claims import Part, Verdict
from lostlib.stats import Estimate

HOLDS, NOT, OPPOSITE, UNMEASURABLE, NOT_RUN = claims.STATUSES


def residual(seed: int = 0, **means: tuple[float, float]) -> pd.DataFrame:
    """Rows of 40 items, two layers: (RID, MixIG) of attn, ffn and the controls, with a little noise."""
    rng = np.random.default_rng(seed)
    usual = {"attn": (0.06, 0.6), "ffn": (0.21, 0.02), "no_rope": (0.062, 0.5), "noise_delta": (0.61, -0.8),
             "noise_qkv": (0.44, -0.5)}  # fmt: skip
    rows = []
    for kind, (rid, mixig) in (usual | means).items():
        module, control = (kind, "none") if kind in ("attn", "ffn") else ("attn", kind)
        for item in range(40):
            for layer in range(2):
                more = rng.normal(0, 0.001, 2)
                rows.append((f"i{item}", f"c{item // 2}", layer, module, control, rid + more[0], mixig + more[1]))
    return pd.DataFrame(rows, columns=["item", "cluster", "layer", "module", "control", "rid", "mixig"])


def answers(accuracy: float, n: int = 200, group: str = "arithmetic", start: int = 0) -> pd.DataFrame:
    """Answers to n items of which the first so many, from `start` on, are right."""
    right = (np.arange(n) - start) % n < round(accuracy * n)
    return pd.DataFrame({"item": [f"i{k}" for k in range(n)], "cluster": [f"c{k}" for k in range(n)], "group": group,
                         "correct": right})  # fmt: skip


def tokens(sinks: int, drawn: float = 9.0, of: int = 20) -> pd.DataFrame:
    """Rows of a sinks table: 30 items, two layers, so many sinks of `of` visual tokens, each with `drawn` attention."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            (f"i{item}", f"c{item}", layer, "visual", token < sinks, rng.normal(drawn if token < sinks else 1, 0.05))
            for item in range(30) for layer in range(2) for token in range(of)
        ],
        columns=["item", "cluster", "layer", "kind", "sink", "attention"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "means", "status"),
    [
        (claims.attention_at_tolerance, {}, HOLDS),
        (claims.attention_at_tolerance, {"attn": (0.07, 0.6)}, NOT),
        (claims.ffn_innovates, {}, HOLDS),
        (claims.ffn_innovates, {"ffn": (0.06, 0.02)}, NOT),
        (claims.ffn_innovates, {"ffn": (0.03, 0.02)}, OPPOSITE),
        (claims.attention_mixes, {}, HOLDS),
        (claims.attention_mixes, {"attn": (0.06, -0.1), "ffn": (0.21, -0.2)}, NOT),
        (claims.attention_mixes, {"ffn": (0.21, 0.7)}, OPPOSITE),
        (lambda rows: claims.noise_innovates(rows, "C4"), {}, HOLDS),
        (lambda rows: claims.noise_innovates(rows, "C4"), {"noise_delta": (0.61, 0.1)}, NOT),
        (lambda rows: claims.noise_innovates(rows, "C4"), {"noise_delta": (0.01, 0.1)}, OPPOSITE),
        (lambda rows: claims.noise_innovates(rows, "C5"), {}, HOLDS),
        (lambda rows: claims.noise_innovates(rows, "C5"), {"noise_qkv": (0.01, 0.1)}, OPPOSITE),
    ],
)
def test_residual_claims(rule, means: dict, status: str):
    assert rule(residual(**means)).status == status


def test_one_order_in_all_models():
    same, turned = residual(), residual(attn=(0.3, 0.01), ffn=(0.2, 0.5))
    a, b, c = (claims.one_order(rows).of(name) for rows, name in ((same, "a"), (residual(1), "b"), (turned, "c")))
    assert [cell.status for cell in (a, b, c)] == [HOLDS, HOLDS, OPPOSITE]
    assert claims.one_order(residual(ffn=(0.03, 0.02))).status == NOT
    assert claims.same_in_all_models([a]).status == UNMEASURABLE
    assert claims.same_in_all_models([a, b]).status == HOLDS
    assert claims.same_in_all_models([c, c]).status == OPPOSITE
    found = claims.same_in_all_models([a, c, claims.not_run("C6", "d")])
    assert (found.status, found.reason) == (NOT, "in 1 of 2 models: a")


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [(0.9, 0.9, HOLDS), (0.9, 0.95, HOLDS), (0.9, 0.8, OPPOSITE), (0.9, 0.89, NOT), (0.52, 0.3, UNMEASURABLE)],
)
def test_noise_on_the_image(before: float, after: float, status: str):
    """A fall of one item in a hundred is neither certain nor certainly small."""
    found = claims.noise_is_harmless(answers(before), [answers(after)], 0.5, "mini-pope")
    assert found.status == status
    assert ("not above chance" in found.reason) == (status == UNMEASURABLE)


def test_a_baseline_at_chance_is_never_unaffected():
    """Also where nothing changes at all."""
    cell = claims.noise_is_harmless(answers(0.5), [answers(0.5)], 0.5, "mini-pope")
    assert cell.status == UNMEASURABLE
    assert not cell.parts
    assert cell.measured == cell.reason
    for rule, more in ((claims.var_helps, answers(0.5)), (claims.sinks_are_idle, answers(0.5))):
        runs = ([answers(0.5)],) if rule is claims.sinks_are_idle else ()
        assert rule(answers(0.5), more, *runs, 0.5, "mini-pope").status == UNMEASURABLE


def test_always_giving_the_commonest_number_is_chance_too():
    """Numbers cannot be guessed among options, but a model that says 2 to everything is right where it is 2."""
    says_two = answers(0.3).assign(gold=["2"] * 60 + [str(k) for k in range(140)])
    assert "chance, 0.305" in claims.at_chance(says_two, 0.0)
    assert claims.noise_is_harmless(says_two, [says_two], 0.0, "mini-mathvista").status == UNMEASURABLE
    assert claims.at_chance(answers(0.5).assign(gold=says_two["gold"]), 0.0) == ""


def test_runs_of_other_items_are_refused():
    other = answers(0.9).assign(item="x")
    with pytest.raises(ValueError, match="same items"):
        claims.noise_is_harmless(answers(0.9), [other], 0.5, "mini-pope")


def test_the_mean_over_seeds_and_the_items_that_all_hold():
    runs = [answers(0.6), answers(0.8, n=100)]
    (change,) = claims.noise_is_harmless(answers(1.0), runs, 0.5, "mini-mmmu").parts
    assert change.value.value == pytest.approx((0 - 0.2) / 2)  # all of the first 100 items, and 80 of them


def cell(status: str, benchmark: str = "mini-pope") -> Verdict:
    parts = (Part(benchmark, Estimate(-0.1, -0.2, -0.05)),) if status in (HOLDS, NOT, OPPOSITE) else ()
    return Verdict("C7", status, f"because of {benchmark}", parts, "m", benchmark)


def test_most_benchmarks():
    assert claims.majority([cell(HOLDS)] * 2 + [cell(UNMEASURABLE)] * 5).status == UNMEASURABLE
    assert claims.majority([cell(HOLDS)] * 2 + [cell(OPPOSITE)]).status == HOLDS
    assert claims.majority([cell(OPPOSITE)] * 2 + [cell(HOLDS)]).status == OPPOSITE
    assert claims.majority([cell(HOLDS), cell(OPPOSITE), cell(NOT)]).status == NOT


def test_benchmarks_that_can_tell_decide_together():
    assert claims.combined([cell(HOLDS, "a"), cell(HOLDS, "b")]).status == HOLDS
    mixed = claims.combined([cell(HOLDS, "a"), cell(OPPOSITE, "b"), cell(UNMEASURABLE, "c")])
    assert mixed.status == NOT
    assert mixed.benchmark == "a+b"
    assert mixed.reason == "holds on a; opposite on b; c: because of c"
    assert claims.combined([cell(UNMEASURABLE, "a"), cell(OPPOSITE, "b")]).status == OPPOSITE
    assert claims.combined([cell(NOT_RUN, "a"), cell(UNMEASURABLE, "b")]).status == UNMEASURABLE
    assert claims.combined([cell(NOT_RUN, "a")]).status == NOT_RUN
    alike = [claims.without_sinks("C11", name) for name in "ab"]
    assert claims.combined(alike).reason == alike[0].reason


def test_sums_and_text():
    ask = claims.text_is_needed
    assert ask(answers(0.9), answers(0.2), [answers(0.8)], "mini-mathvista").status == HOLDS
    assert ask(answers(0.9), answers(0.8), [answers(0.2)], "mini-mathvista").status == OPPOSITE
    assert ask(answers(0.9), answers(0.9), [answers(0.9)], "mini-mathvista").status == NOT
    assert ask(answers(0.0), answers(0.0), [answers(0.0)], "mini-mathvista").status == UNMEASURABLE
    assert ask(answers(0.9, group="count"), *(answers(0.9), [answers(0.9)]), "mini-mathvista").status == UNMEASURABLE


def test_sinks():
    assert claims.sinks_exist(tokens(2)).status == HOLDS
    assert claims.sinks_exist(tokens(2, drawn=1.0)).status == NOT
    assert claims.sinks_exist(tokens(0)).status == NOT
    assert "fifth" in claims.sinks_exist(tokens(5)).reason
    assert claims.sinks_exist(tokens(20)).status == NOT
    assert claims.sinks_exist(tokens(2), planted=True).status == UNMEASURABLE
    rare = tokens(2)
    rare["sink"] &= rare["cluster"] == rare["cluster"].iloc[0]  # in one picture only
    assert claims.sinks_exist(rare).reason == "too few to tell from none"
    assert claims.sinks_exist(rare).status == NOT


def test_cutting_sinks():
    cut = claims.sinks_are_idle
    assert cut(answers(0.9), answers(0.9), [answers(0.6)], 0.5, "mini-pope").status == HOLDS
    assert cut(answers(0.9), answers(0.6), [answers(0.9)], 0.5, "mini-pope").status == OPPOSITE
    assert cut(answers(0.9), answers(0.9), [answers(0.9)], 0.5, "mini-pope").status == NOT
    many = answers(0.9, n=2000)
    lower = many.assign(correct=many["correct"] & (many.index % 200 > 0))
    assert cut(many, lower, [lower], 0.5, "mini-pope").status == NOT  # a small loss that is certain, the same of both
    assert cut(many, many, [lower], 0.5, "mini-pope").status == HOLDS


@pytest.mark.parametrize(("after", "status"), [(0.99, HOLDS), (0.9, NOT), (0.8, OPPOSITE)])
def test_moving_attention(after: float, status: str):
    assert claims.var_helps(answers(0.9), answers(after), 0.5, "mini-mmmu").status == status


def test_sign_and_size_are_judged_apart_from_the_status():
    part = Part("x", Estimate(0.1, 0.05, 0.15), published=0.55)
    assert (part.sign, part.size) == ("yes", "no")
    assert Part("x", Estimate(0.1, 0.05, 0.15), published=0.12).size == "yes"
    assert Part("x", Estimate(0.1, 0.05, 0.15), published=-0.12).sign == "no"
    assert Part("x", Estimate(0.1, -0.05, 0.15), published=0.12).sign == "unclear"
    assert Part("x", Estimate(0.1, 0.05, 0.15), expected=-1).sign == "no"
    assert Part("x", Estimate(0.1, 0.05, 0.15)).size == "no figure"
    assert Part("x", Estimate(0.6, 0.55, 0.7), published=1.0, null=0.5).sign == "yes"
    strong, weak = residual(), residual(ffn=(0.07, 0.02))
    for rows, size in ((strong, "yes"), (weak, "no")):
        found = claims.ffn_innovates(rows)
        assert (found.status, found.sign, found.size) == (HOLDS, "yes", size)


def test_a_verdict_is_as_certain_as_its_weakest_part():
    parts = (Part("a", Estimate(1, 0, 2), p=0.01), Part("b", Estimate(1, 0, 2), p=0.2), Part("c", Estimate(1, 0, 2)))
    assert Verdict("C3", HOLDS, "", parts).p == 0.2
    assert math.isnan(Verdict("C3", NOT_RUN, "").p)


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_every_claim_can_be_shown(claim: str):
    text, printed, measured, status, rule = Verdict(claim, UNMEASURABLE, "too few items").box
    assert text.startswith(f"{claim}: ")
    assert "{" not in printed
    assert (measured, status) == ("too few items", UNMEASURABLE)
    assert len(rule) > 20
    report.verdict(text, printed, measured, status, rule)
