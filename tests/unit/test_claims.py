"""The claims' rules on rows with a known truth: each is certain, reversed, undecided and at its margin."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lostlib import claims, report
from lostlib.claims import Part, Verdict
from lostlib.stats import Estimate

HOLDS, OPPOSITE, FAILS, UNDECIDED, UNMEASURABLE, NOT_RUN = claims.STATUSES


def residual(draws: int = 10, noise: float = 0.001, of_draws: float = 0.0, seed: int = 0,
             **means: tuple[float, float]) -> pd.DataFrame:  # fmt: skip
    """Rows of 40 items, two layers: (RID, MixIG) of attn, ffn and the controls; of Noise QKV several draws.

    noise     standard deviation of a row
    of_draws  of what a draw of matrices does to all items alike
    """
    rng = np.random.default_rng(seed)
    usual = {"attn": (0.06, 0.6), "ffn": (0.21, 0.02), "no_rope": (0.062, 0.5), "noise_delta": (0.61, -0.8),
             "noise_qkv": (0.44, -0.5)}  # fmt: skip
    rows = []
    for kind, (rid, mixig) in (usual | means).items():
        module, control = (kind, "none") if kind in ("attn", "ffn") else ("attn", kind)
        for draw in range(draws if kind == "noise_qkv" else 1):
            alike = rng.normal(0, of_draws, 2)
            for item in range(40):
                for layer in range(2):
                    more = alike + rng.normal(0, noise, 2)
                    values = rid + more[0], mixig + more[1]
                    rows.append((f"i{item}", f"c{item // 2}", layer, module, control, draw, *values, 4.0, 64))
    columns = ["item", "cluster", "layer", "module", "control", "draw", "rid", "mixig", "tme", "tokens"]
    found = pd.DataFrame(rows, columns=columns)
    return found if draws > 1 else found.drop(columns="draw")


def answers(accuracy: float, n: int = 600, group: str = "g", start: int = 0, step: int = 1) -> pd.DataFrame:
    """Answers to n items, right on a share of them that is spread evenly; `start` says which ones are right."""
    k = np.arange(n) * step
    right = np.floor((k + start + 1) * accuracy) > np.floor((k + start) * accuracy)
    return pd.DataFrame({"item": [f"{group}{i}" for i in range(n)], "cluster": [f"{group}{i}" for i in range(n)],
                         "group": group, "correct": right})  # fmt: skip


def seeds(accuracy: float, of: int = 5, **more) -> list[pd.DataFrame]:
    """Several runs that differ in which items are right."""
    return [answers(accuracy, start=7 * k, **more) for k in range(of)]


def tokens(sinks: int, drawn: float = 9.0, of: int = 20, pictures: int = 60, first: float = 1.0, ratio: float = 5.0,
           rare: float = 1.0, best: int = 1) -> pd.DataFrame:  # fmt: skip
    """Rows of a sinks table: two layers, of which `best` has so many sinks among `of` visual tokens, with `drawn`
    attention; the first token is a sink in a share `first` of the pictures, there are sinks in a share `rare`."""
    rng = np.random.default_rng(0)
    rows = []
    for item in range(pictures):
        for layer in range(2):
            here = layer == best and (item + 1) * rare // 1 > item * rare // 1
            rows.append((f"i{item}", f"c{item}", layer, 0, "text", item < first * pictures, ratio, 1.0))
            for token in range(1, of + 1):
                sink = bool(here and token <= sinks)
                rows.append((f"i{item}", f"c{item}", layer, token, "visual", sink, 5.0,
                             rng.normal(drawn if sink else 1, 0.05)))  # fmt: skip
    return pd.DataFrame(rows, columns=["item", "cluster", "layer", "token", "kind", "sink", "ratio", "attention"])


# --- the residual stream ----------------------------------------------------------------------------------------------

RULES = {
    "C1": claims.attention_at_tolerance,
    "C2a": claims.ffn_innovates,
    "C2b": claims.ffn_leads,
    "C3": claims.attention_mixes,
    "C4": claims.noise_delta_innovates,
    "C5": claims.noise_qkv_innovates,
    "C6": claims.one_order,
}


@pytest.mark.parametrize(
    ("claim", "means", "status"),
    [
        ("C1", {}, HOLDS),
        ("C1", {"attn": (0.07, 0.6)}, HOLDS),  # above the tolerance, and not by a quarter
        ("C1", {"attn": (0.062 * 1.25, 0.6)}, UNDECIDED),  # at the margin
        ("C1", {"attn": (0.08, 0.6)}, FAILS),
        ("C2a", {}, HOLDS),
        ("C2a", {"ffn": (0.065, 0.02)}, FAILS),  # equal
        ("C2a", {"ffn": (0.062 * 1.25, 0.02)}, UNDECIDED),
        ("C2a", {"ffn": (0.062 * 0.8, 0.02)}, UNDECIDED),
        ("C2a", {"ffn": (0.04, 0.02)}, OPPOSITE),
        ("C2b", {}, HOLDS),
        ("C2b", {"ffn": (0.0624, 0.02)}, FAILS),  # a gap of 4 % is not "well above"
        ("C2b", {"ffn": (0.075, 0.02)}, UNDECIDED),
        ("C2b", {"ffn": (0.03, 0.02)}, OPPOSITE),
        ("C3", {}, HOLDS),
        ("C3", {"ffn": (0.21, 0.06)}, UNDECIDED),  # a tenth of attention's
        ("C3", {"ffn": (0.21, 0.08)}, FAILS),
        ("C3", {"ffn": (0.21, -0.08)}, FAILS),
        ("C3", {"noise_delta": (0.61, 0.6)}, UNDECIDED),
        ("C3", {"noise_delta": (0.61, 0.7)}, FAILS),  # noise of the same norm mixes more
        ("C3", {"attn": (0.06, 0.0)}, FAILS),  # below the FFN's
        ("C3", {"attn": (0.06, -0.9)}, OPPOSITE),
        ("C4", {}, HOLDS),
        ("C4", {"noise_delta": (0.61, 0.0)}, UNDECIDED),
        ("C4", {"noise_delta": (0.61, 0.1)}, FAILS),
        ("C4", {"noise_delta": (0.01, 0.1)}, OPPOSITE),
        ("C5", {}, HOLDS),
        ("C5", {"noise_qkv": (0.44, 0.1)}, FAILS),
        ("C5", {"noise_qkv": (0.06, -0.1)}, UNDECIDED),
        ("C5", {"noise_qkv": (0.01, 0.1)}, OPPOSITE),
        ("C6", {}, HOLDS),
        ("C6", {"ffn": (0.03, 0.02)}, FAILS),  # one of two is reversed
        ("C6", {"ffn": (0.075, 0.02)}, UNDECIDED),
        ("C6", {"ffn": (0.03, 0.7)}, OPPOSITE),
    ],
)
def test_the_stream(claim: str, means: dict, status: str):
    found = RULES[claim](residual(**means))
    assert (found.claim, found.status) == (claim, status), found.reason


@pytest.mark.parametrize("claim", RULES)
def test_wide_intervals_leave_it_undecided(claim: str):
    means = dict.fromkeys(("attn", "ffn", "noise_delta", "noise_qkv"), (0.1, 0.0)) | {"no_rope": (0.08, 0.0)}
    assert RULES[claim](residual(noise=0.15, **means)).status == UNDECIDED


def test_one_draw_of_matrices_is_never_certain():
    """Nor are a few; and draws that move all items alike count, however many items there are."""
    found = claims.noise_qkv_innovates(residual(draws=1))
    assert (found.status, found.reason) == (UNDECIDED, "one draw of matrices, 10 are needed")
    assert found.parts[1].value.value == pytest.approx(-0.5, abs=0.01)
    assert np.isnan(found.parts[1].value.low)
    assert "no interval" in found.measured
    assert (found.sign, found.size) == ("unclear", "unclear")
    assert claims.noise_qkv_innovates(residual(draws=9)).reason == "9 draws of matrices, 10 are needed"
    near, alike = {"noise_qkv": (0.10, -0.05)}, {"of_draws": 0.1}
    assert claims.noise_qkv_innovates(residual(**near)).status == HOLDS
    assert claims.noise_qkv_innovates(residual(**near, **alike)).status == UNDECIDED


def test_the_headroom_of_mixing_stands_beside():
    """The mixing entropy was 4.0 - 0.6 before attention, of at most ln 64; it has no say."""
    found = claims.attention_mixes(residual())
    assert found.parts[-1].value.value == pytest.approx(math.log(64) - 3.4, abs=0.01)
    assert (found.parts[-1].sign, math.isnan(found.parts[-1].p)) == ("no figure", True)
    assert found.sign == "yes"


def test_one_order_in_all_models():
    def cells(*statuses: str) -> list[Verdict]:
        return [Verdict("C6", status, "", (), f"m{k}") for k, status in enumerate(statuses)]

    over = claims.same_in_all_models
    assert over(cells(HOLDS)).status == UNMEASURABLE
    assert over(cells(HOLDS, HOLDS)).status == HOLDS
    assert over(cells(HOLDS, HOLDS, UNDECIDED)).status == HOLDS
    assert over(cells(HOLDS, UNDECIDED)).status == UNDECIDED
    assert over(cells(OPPOSITE, OPPOSITE)).status == OPPOSITE
    found = over(cells(HOLDS, OPPOSITE, NOT_RUN))
    assert (found.status, found.reason) == (FAILS, "in 1 of the 2 models that can tell: m0")
    assert over(cells(FAILS, FAILS)).status == FAILS


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (0.9, 0.9, HOLDS),
        (0.9, 0.95, HOLDS),
        (0.9, 0.6, OPPOSITE),
        (0.9, 0.88, UNDECIDED),  # at two points
        (1.0, 0.97, FAILS),  # more than two points, and less than a tenth of fifty
        (0.55, 0.3, UNMEASURABLE),  # above chance, by five points
        (0.50, 0.3, UNMEASURABLE),
    ],
)
def test_noise_on_the_image(before: float, after: float, status: str):
    n = 2000
    found = claims.noise_is_harmless(answers(before, n), seeds(after, n=n), 0.5, "mini-pope")
    assert found.status == status, found.reason
    assert ("points of room" in found.reason) == (status == UNMEASURABLE)


def test_the_loss_is_relative_to_the_room():
    """Of forty points above chance, ten are a quarter; where the room is small, two points are more than a tenth."""
    found = claims.noise_is_harmless(answers(0.9), seeds(0.8), 0.5, "mini-pope")
    assert found.parts[1].value.value == pytest.approx(0.25, abs=0.01)
    assert found.parts[0].value.value == pytest.approx(-0.1, abs=0.01)
    whole = answers(0.62, 9000)
    less = whole.assign(correct=whole["correct"] & (whole.index >= 225))  # one point and a half
    small = claims.noise_is_harmless(whole, [less] * 5, 0.5, "mini-pope")
    assert small.status == FAILS, small.measured


def test_groups_that_cannot_be_read_have_no_say():
    """Half of the questions are guessed at; what noise does to them says nothing."""
    read, guessed = answers(0.9, group="a"), answers(0.5, group="b")
    spoilt = [pd.concat([read, run]) for run in seeds(0.1, group="b")]
    found = claims.noise_is_harmless(pd.concat([read, guessed]), spoilt, 0.5, "mini-pope")
    assert found.status == HOLDS
    assert "less than 10 points of room in b (0.50, chance 0.50)" in found.reason
    able = claims.readable(pd.concat([read, answers(0.45, group="b")]), [0.5] * 600 + [0.25] * 600)
    assert able.groups == ["a", "b"]
    assert set(able.guess) == {0.5, 0.25}


def test_one_seed_is_never_certain():
    found = claims.noise_is_harmless(answers(0.9), seeds(0.9, of=1), 0.5, "mini-pope")
    assert (found.status, found.reason) == (UNDECIDED, "one seed of the noise, 5 are needed")
    assert claims.noise_is_harmless(answers(0.9), [], 0.5, "mini-pope").status == NOT_RUN


def test_seeds_that_differ_widen_the_interval():
    """The mean over seeds is the same; in one case they agree, in the other each does something else to all items."""
    before = answers(1.0)
    alike = claims.noise_is_harmless(before, seeds(0.8), 0.5, "mini-pope").parts[0].value
    apart = claims.noise_is_harmless(
        before, [answers(a) for a in (0.6, 0.7, 0.8, 0.9, 1.0)], 0.5, "mini-pope"
    ).parts[0].value  # fmt: skip
    assert alike.value == pytest.approx(apart.value, abs=0.01)
    assert apart.high - apart.low > 4 * (alike.high - alike.low)


def test_a_baseline_at_chance_is_never_unaffected():
    """Also where nothing changes at all."""
    guessing = answers(0.5)
    for found in (
        claims.noise_is_harmless(guessing, [guessing] * 5, 0.5, "mini-pope"),
        claims.sinks_are_idle(guessing, guessing, 0.5, "mini-pope"),
        claims.random_cuts_cost_more(guessing, guessing, [guessing] * 5, 0.5, "mini-pope"),
        claims.var_helps(guessing, guessing, 0.5, "mini-pope"),
    ):
        assert found.status == UNMEASURABLE
        assert not found.parts
        assert found.measured == found.reason


def test_always_giving_the_commonest_number_is_chance_too():
    """Numbers cannot be guessed among options, but a model that says 2 to everything is right where it is 2."""
    says_two = answers(0.3, 200).assign(gold=["2"] * 60 + [str(k) for k in range(140)])
    assert "chance, 0.305" in claims.at_chance(says_two, 0.0)
    assert claims.noise_is_harmless(says_two, [says_two] * 5, 0.0, "mini-mathvista").status == UNMEASURABLE
    assert claims.at_chance(answers(0.5, 200).assign(gold=says_two["gold"]), 0.0) == ""


def test_runs_of_other_items_are_refused():
    other = answers(0.9).assign(item="x")
    with pytest.raises(ValueError, match="same items"):
        claims.noise_is_harmless(answers(0.9), [other], 0.5, "mini-pope")


def test_the_mean_over_seeds_and_the_items_that_all_hold():
    runs = [answers(0.6), answers(0.8, n=100)]
    change, _ = claims.noise_is_harmless(answers(1.0), runs, 0.5, "mini-mmmu").parts
    assert change.value.value == pytest.approx((-0.4 - 0.2) / 2)  # of the first 100 items


def cell(status: str, benchmark: str = "mini-pope") -> Verdict:
    parts = (Part(benchmark, Estimate(-0.1, -0.2, -0.05)),) if status in claims.TOLD else ()
    return Verdict("C7", status, f"because of {benchmark}", parts, "m", benchmark)


def test_most_benchmarks():
    """Six of six are certainly more than half; five of five, or six of seven, are not."""

    def most(**counts: int) -> str:
        cells = [cell(status.replace("_", " ")) for status, count in counts.items() for _ in range(count)]
        return claims.majority(cells).status

    assert most(holds=2, not_measurable=5) == UNMEASURABLE
    assert most(holds=6) == HOLDS
    assert most(holds=6, undecided=1) == HOLDS  # one that cannot tell has no say
    assert most(holds=5) == most(holds=6, opposite=1) == UNDECIDED
    assert most(opposite=4, fails=2) == OPPOSITE
    assert most(undecided=3) == UNDECIDED


def test_benchmarks_that_can_tell_decide_together():
    assert claims.combined([cell(HOLDS, "a"), cell(HOLDS, "b")]).status == HOLDS
    mixed = claims.combined([cell(HOLDS, "a"), cell(OPPOSITE, "b"), cell(UNMEASURABLE, "c")])
    assert mixed.status == FAILS
    assert mixed.benchmark == "a+b"
    assert mixed.reason == "holds on a; opposite on b; c: because of c"
    some = claims.combined([cell(HOLDS, "a"), cell(UNDECIDED, "b")])
    assert (some.status, some.reason) == (HOLDS, "holds on a; undecided on b")
    assert claims.combined([cell(UNDECIDED, "a"), cell(UNDECIDED, "b")]).status == UNDECIDED
    assert claims.combined([cell(OPPOSITE, "a"), cell(FAILS, "b")]).status == FAILS
    assert claims.combined([cell(UNMEASURABLE, "a"), cell(OPPOSITE, "b")]).status == OPPOSITE
    assert claims.combined([cell(NOT_RUN, "a"), cell(UNMEASURABLE, "b")]).status == UNMEASURABLE
    assert claims.combined([cell(NOT_RUN, "a")]).status == NOT_RUN
    alike = [claims.without_sinks("C11a", name) for name in "ab"]
    assert claims.combined(alike).reason == alike[0].reason


def sums(of_sums: float, of_pictures: float, n: int = 600, start: int = 0) -> pd.DataFrame:
    """Answers to sums and to picture questions."""
    return pd.concat([answers(of_sums, n, "arithmetic", start), answers(of_pictures, n, "count", start)])


@pytest.mark.parametrize(
    ("of_sums", "of_pictures", "status"),
    [
        (0.1, 0.8, HOLDS),
        (0.1, 0.1, UNDECIDED),  # both lose all
        (0.8, 0.1, OPPOSITE),
        (0.9, 0.9, UNDECIDED),
        (0.95, 0.99, FAILS),  # sums gain, and pictures gain more
    ],
)
def test_sums_and_text(of_sums: float, of_pictures: float, status: str):
    runs = [sums(of_sums, of_pictures, start=7 * k) for k in range(5)]
    found = claims.text_is_needed(sums(0.9, 0.9), runs, 0.0, "mini-mathvista")
    assert found.status == status, found.measured


def test_sums_that_cannot_be_judged():
    ask = claims.text_is_needed
    assert ask(sums(0.0, 0.9), [sums(0.0, 0.9)] * 5, 0.0, "mini-mathvista").status == UNMEASURABLE
    assert "no picture questions" in ask(sums(0.9, 0.0), [sums(0.9, 0.0)] * 5, 0.0, "mini-mathvista").reason
    assert ask(sums(0.9, 0.9), [sums(0.1, 0.8)], 0.0, "mini-mathvista").reason.startswith("one seed")
    assert ask(sums(0.9, 0.9), [], 0.0, "mini-mathvista").status == NOT_RUN


# --- sinks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"sinks": 2}, HOLDS),
        ({"sinks": 2, "first": 0.0, "ratio": 2000.0}, HOLDS),  # Sun's criterion, below tau
        ({"sinks": 2, "first": 0.0}, FAILS),  # without massive activations there is no such thing
        ({"sinks": 2, "first": 0.5}, UNDECIDED),
        ({"sinks": 2, "drawn": 1.0}, UNDECIDED),
        ({"sinks": 2, "drawn": 0.5}, FAILS),
        ({"sinks": 0}, FAILS),
        ({"sinks": 5}, FAILS),  # more than a fifth
        ({"sinks": 20}, FAILS),
        ({"sinks": 2, "rare": 1 / 30, "best": 0}, UNDECIDED),  # in one picture or two
        ({"sinks": 2, "pictures": 42}, UNDECIDED),  # 28 to judge
    ],
)
def test_sinks(how: dict, status: str):
    found = claims.sinks_exist(tokens(**how))
    assert found.status == status, found.reason
    assert ("pictures to judge" in found.reason) == ("pictures" in how)


def test_planted_sinks_are_our_doing():
    assert claims.sinks_exist(tokens(2), planted=True).status == UNMEASURABLE


def test_a_layer_is_fixed_on_other_pictures_than_those_it_is_judged_on():
    """The pictures that fix it have their sinks in layer 0 alone, the others in layer 1 alone."""
    ones = sorted(tokens(1)["cluster"].unique())[::3]
    here, there = tokens(2, best=0), tokens(2, best=1)
    mixed = pd.concat([here[here["cluster"].isin(ones)], there[~there["cluster"].isin(ones)]])
    assert claims.sinks_exist(mixed).status == FAILS
    assert claims.sinks_exist(mixed).parts[1].value.value == 0


@pytest.mark.parametrize(
    ("cut", "random", "idle", "more"),
    [
        (0.9, 0.6, HOLDS, HOLDS),
        (0.6, 0.9, OPPOSITE, OPPOSITE),
        (0.9, 0.9, HOLDS, UNDECIDED),
        (0.6, 0.6, OPPOSITE, UNDECIDED),
        (0.88, 0.6, UNDECIDED, HOLDS),
    ],
)
def test_cutting_sinks(cut: float, random: float, idle: str, more: str):
    before, after = answers(0.9), answers(cut)
    assert claims.sinks_are_idle(before, after, 0.5, "mini-pope").status == idle
    assert claims.random_cuts_cost_more(before, after, seeds(random), 0.5, "mini-pope").status == more


def test_cuts_are_counted_and_their_sinks_named():
    found = claims.random_cuts_cost_more(answers(0.9), answers(0.9), seeds(0.6, of=3), 0.5, "mini-pope", planted=True)
    assert (found.status, found.reason) == (UNDECIDED, "3 seeds of the random cuts, 5 are needed; of planted sinks")
    assert claims.sinks_are_idle(answers(0.9), answers(0.9), 0.5, "mini-pope", True).reason.endswith("planted sinks")


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [(0.9, 0.99, HOLDS), (0.9, 0.9, UNDECIDED), (0.9, 0.8, OPPOSITE), (0.96, 0.99, UNMEASURABLE)],
)
def test_moving_attention(before: float, after: float, status: str):
    found = claims.var_helps(answers(before), answers(after), 0.5, "mini-mmmu")
    assert found.status == status
    assert ("4.0 points of room" in found.reason) == (status == UNMEASURABLE)


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_sign_and_size_are_judged_apart_from_the_status():
    part = Part("x", Estimate(0.1, 0.05, 0.15), published=0.55)
    assert (part.sign, part.size) == ("yes", "no")
    assert Part("x", Estimate(0.1, 0.05, 0.15), published=0.12).size == "yes"
    assert Part("x", Estimate(0.1, 0.05, 0.15), published=-0.12).sign == "no"
    assert Part("x", Estimate(0.1, -0.05, 0.15), published=0.12).sign == "unclear"
    assert Part("x", Estimate(0.1, 0.05, 0.15), expected=-1).sign == "no"
    assert Part("x", Estimate(0.1, 0.05, 0.15)).size == "no figure"
    assert Part("x", Estimate(0.6, 0.55, 0.7), published=1.0, null=0.5).sign == "yes"
    strong, weak = residual(), residual(ffn=(0.09, 0.02))
    for rows, size in ((strong, "yes"), (weak, "no")):
        found = claims.ffn_leads(rows)
        assert (found.status, found.sign, found.size) == (HOLDS, "yes", size)


def test_p_is_of_the_claims_own_null():
    """A ratio at its margin is no evidence, however far from 1; an equivalence has no p."""
    at = claims.ffn_leads(residual(ffn=(0.075, 0.02)))
    assert at.p > 0.05 > claims.ffn_leads(residual(ffn=(0.08, 0.02))).p
    assert math.isnan(claims.attention_at_tolerance(residual()).p)
    assert math.isnan(claims.noise_is_harmless(answers(0.9), seeds(0.9), 0.5, "mini-pope").p)
    assert math.isnan(claims.sinks_are_idle(answers(0.9), answers(0.9), 0.5, "mini-pope").p)


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


def test_no_torch():
    script = "import sys; import lostlib.claims; assert not {'torch', 'transformers'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
