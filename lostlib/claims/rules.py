"""The rules: pure functions from measured rows to verdicts.

They compare intervals, never bare values, with zero or with `MARGIN`. Each rule in words is in `CLAIMS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lostlib import stats
from lostlib.benchmarks import Choice
from lostlib.claims.catalog import CHANGES, figure
from lostlib.claims.verdicts import HOLDS, NOT, OPPOSITE, TOLD, UNMEASURABLE, Part, Verdict, not_run
from lostlib.stats import Estimate

MARGIN = 0.02  # accuracy: a loss that is certainly smaller counts as none
CROWD = 0.2  # of the visual tokens: when more are sinks, they are not few
RHO = {"hallucination": 0.5, "general": 0.8, "vision-centric": 0.9}  # VAR's rho by kind of task


# --- RQ2 and RQ3: rows of a residual table ----------------------------------------------------------------------------

ATTN, FFN = {"module": "attn", "control": "none"}, {"module": "ffn", "control": "none"}
CONTROLS = {"C4": "noise_delta", "C5": "noise_qkv"}


def attention_at_tolerance(rows: pd.DataFrame) -> Verdict:
    """C1, from residual rows with the control `no_rope`, which is the tolerance."""
    over = _contrast(
        rows, "RID above the tolerance", "rid", ATTN, {"control": "no_rope"}, figure("rid_attn", "eps_rope")
    )
    return _verdict("C1", HOLDS if over.value.low <= 0 else NOT, (over,))


def ffn_innovates(rows: pd.DataFrame) -> Verdict:
    """C2, from residual rows."""
    gap = _contrast(rows, "RID, FFN minus attention", "rid", FFN, ATTN, figure("rid_ffn", "rid_attn"))
    return _verdict("C2", _by_side(gap.value), (gap,))


def attention_mixes(rows: pd.DataFrame) -> Verdict:
    """C3, from residual rows."""
    mixes = _level(rows, "MixIG of attention", "mixig", ATTN, figure("mixig_attn"))
    gap = _contrast(rows, "MixIG, attention minus FFN", "mixig", ATTN, FFN, figure("mixig_attn", "mixig_ffn"))
    status = HOLDS if mixes.value.low > 0 and gap.value.low > 0 else OPPOSITE if gap.value.high < 0 else NOT
    return _verdict("C3", status, (mixes, gap))


def noise_innovates(rows: pd.DataFrame, claim: str) -> Verdict:
    """C4 and C5, from residual rows with the controls `noise_delta` and `noise_qkv`."""
    control = CONTROLS[claim]
    noise = {"control": control}
    rid = _contrast(rows, "RID above attention's", "rid", noise, ATTN, figure(f"rid_{control}", "rid_attn"))
    mix = _level(rows, "MixIG", "mixig", noise, figure(f"mixig_{control}"))
    up, down = _by_side(rid.value), _by_side(mix.value)
    status = HOLDS if (up, down) == (HOLDS, OPPOSITE) else OPPOSITE if (up, down) == (OPPOSITE, HOLDS) else NOT
    return _verdict(claim, status, (rid, mix))


def one_order(rows: pd.DataFrame) -> Verdict:
    """C6 in one model, from residual rows: are FFN and attention in the published order, by RID and by MixIG?"""
    parts = [replace(found.parts[-1], p=math.nan) for found in (ffn_innovates(rows), attention_mixes(rows))]
    sides = {_by_side(part.value) for part in parts}  # tested already, for C2 and C3
    return _verdict("C6", sides.pop() if len(sides) == 1 else NOT, tuple(parts))


def same_in_all_models(cells: Sequence[Verdict]) -> Verdict:
    """C6 over models, from `one_order` of each."""
    told = [cell for cell in cells if cell.status in TOLD]
    if len(told) < 2:
        return _verdict("C6", UNMEASURABLE, (), f"{len(told)} model{'s' * (len(told) != 1)} measured")
    alike = [cell.model for cell in told if cell.status == HOLDS]
    status = HOLDS if len(alike) == len(told) else OPPOSITE if all(c.status == OPPOSITE for c in told) else NOT
    share = Part("share of models", stats.share(len(alike), len(told)), 1.0, null=0.5, spec=".2f")
    which = f": {', '.join(alike)}" if alike else ""
    return _verdict("C6", status, (share,), f"in {len(alike)} of {len(told)} models{which}")


# --- does it matter: rows of answers tables ---------------------------------------------------------------------------


def noise_is_harmless(before: pd.DataFrame, runs: Sequence[pd.DataFrame], chance: float, benchmark: str) -> Verdict:
    """C7 on one benchmark: the untouched model, and gaussian weights on visual keys with one or more seeds.

    Where there is nothing to lose, no run is needed to know.
    """
    if problem := at_chance(before, chance):
        return _verdict("C7", UNMEASURABLE, (), problem, benchmark)
    if not runs:
        return not_run("C7", benchmark=benchmark)
    found = change(benchmark, runs, before, _printed("C7", benchmark)[0])
    status = _harm(found.value)
    return _verdict("C7", status, (found,), _LOSS[status], benchmark)


def majority(cells: Sequence[Verdict]) -> Verdict:
    """C8, from one model's verdicts on C7."""
    told = [cell.status for cell in cells if cell.status in TOLD]
    if len(told) < 3:
        return _verdict("C8", UNMEASURABLE, (), f"{len(told)} benchmarks can be measured")
    good = told.count(HOLDS)
    status = HOLDS if good > len(told) / 2 else OPPOSITE if told.count(OPPOSITE) > len(told) / 2 else NOT
    part = Part("share of benchmarks as good or better", stats.share(good, len(told)), null=0.5, spec=".2f")
    return _verdict("C8", status, (part,), f"on {good} of {len(told)} benchmarks")


def text_is_needed(before: pd.DataFrame, text: pd.DataFrame, visual: Sequence[pd.DataFrame], benchmark: str) -> Verdict:
    """C9, from answers to the benchmark's sums: untouched, gaussian weights on text keys, and on visual keys."""
    sums = Choice.parse(benchmark).rules.sums
    before, text, *visual = (rows[rows["group"] == sums] for rows in (before, text, *visual))
    if problem := "no sums among its questions" if before.empty else at_chance(before, 0.0):
        return _verdict("C9", UNMEASURABLE, (), problem, benchmark)
    cost = change("sums, noise on text keys", [text], before, expected=-1)
    other = replace(change("noise on visual keys", visual, before), p=math.nan)
    more = change("text keys minus visual keys", [text], _over_runs(visual), expected=-1)
    status = HOLDS if cost.value.high < 0 and more.value.high < 0 else OPPOSITE if more.value.low > 0 else NOT
    return _verdict("C9", status, (cost, replace(other, expected=-1), more), benchmark=benchmark)


# --- sinks ------------------------------------------------------------------------------------------------------------


def sinks_exist(tokens: pd.DataFrame, planted: bool = False) -> Verdict:
    """C10, from rows of a `sinks` table. `planted`: are its sinks our doing?"""
    if planted:
        return _verdict("C10", UNMEASURABLE, (), "its sinks were planted")
    visual = tokens[tokens["kind"] == "visual"]
    counts = visual.groupby(["cluster", "item", "layer"])["sink"].agg(["sum", "size"]).reset_index()
    onset = counts.groupby("layer")["sum"].mean().idxmax()
    most = counts[counts["layer"] == onset]
    found = stats.mean(most["sum"], most["cluster"])
    number = Part("visual sinks a picture", found, figure("sink_count_max"), spec=".1f")
    if number.value.low <= 0:
        why = "too few to tell from none" if number.value.value else "no visual token is a sink"
        return _verdict("C10", NOT, (number,), why)
    if most["sum"].sum() > CROWD * most["size"].sum():
        return _verdict("C10", NOT, (number,), "more than a fifth of the visual tokens are sinks")
    attended = visual[visual["layer"] >= onset].groupby(["cluster", "item", "sink"])["attention"].mean()
    drawn = attended.unstack("sink").dropna()
    if drawn.empty:
        return _verdict("C10", UNMEASURABLE, (number,), "no picture has sinks beside other visual tokens")
    who = drawn.index.get_level_values("cluster")
    ratio = Part("attention, sink over other", stats.ratio(drawn[True], drawn[False], who), null=1.0, spec=".2f",
                 p=stats.no_difference(drawn[True], drawn[False], who))  # fmt: skip
    return _verdict("C10", HOLDS if ratio.value.low > 1 else NOT, (number, ratio))


def sinks_are_idle(
    before: pd.DataFrame, cut: pd.DataFrame, others: Sequence[pd.DataFrame], chance: float, benchmark: str
) -> Verdict:
    """C11 on one benchmark: the untouched model, sinks cut, and as many random visual tokens cut (one run a seed)."""
    if problem := at_chance(before, chance):
        return _verdict("C11", UNMEASURABLE, (), problem, benchmark)
    printed = _printed("C11", benchmark)
    sinks = replace(change(f"{benchmark}, sinks cut", [cut], before, printed[0], expected=-1), p=math.nan)
    random = change(f"{benchmark}, random cut", others, before, printed[1], expected=-1)
    more = change(f"{benchmark}, random minus sinks", others, cut, printed[2], expected=-1)
    holds = sinks.value.low > -MARGIN and random.value.high < 0 and more.value.high < 0
    reverse = random.value.low > -MARGIN and sinks.value.high < 0 and more.value.low > 0
    status = HOLDS if holds else OPPOSITE if reverse else NOT
    return _verdict("C11", status, (sinks, random, more), benchmark=benchmark)


def var_helps(before: pd.DataFrame, after: pd.DataFrame, chance: float, benchmark: str) -> Verdict:
    """C12 on one benchmark: the untouched model, and VAR at `rho_for` this benchmark."""
    if problem := at_chance(before, chance):
        return _verdict("C12", UNMEASURABLE, (), problem, benchmark)
    found = change(benchmark, [after], before, _printed("C12", benchmark)[0])
    return _verdict("C12", _by_side(found.value), (found,), benchmark=benchmark)


def without_sinks(claim: str, benchmark: str) -> Verdict:
    """C11 or C12 of a model that has no visual sinks: there is nothing to cut and nothing to move."""
    return _verdict(claim, UNMEASURABLE, (), "the model has no visual sinks", benchmark)


def rho_for(benchmark: str) -> float:
    """The paper's rho for the kind of task that a benchmark is.

    >>> rho_for("mini-pope"), rho_for("realworldqa"), rho_for("mmmu")
    (0.5, 0.9, 0.8)
    """
    return RHO[Choice.parse(benchmark).rules.task]


# --- what the rules share ---------------------------------------------------------------------------------------------


def _printed(claim: str, benchmark: str) -> list[float | None]:
    """The published changes of a claim's estimates; None of each where the paper prints nothing on this benchmark."""
    known = CHANGES[claim]
    pairs = known.get(Choice.parse(benchmark).rules.label)
    return [figure(*pair, 100) for pair in pairs] if pairs else [None for _ in next(iter(known.values()))]


def at_chance(before: pd.DataFrame, chance: float) -> str:
    """Why a baseline cannot show a loss: the interval of its accuracy does not lie above chance; "" where it does.

    Chance is the larger of `chance`, guessing among options, and of always giving the commonest right answer (column
    `gold`): among numbers nothing can be guessed, and yet a model that says 2 to everything is right sometimes.
    """
    accuracy = stats.mean(before["correct"], before["cluster"])
    common = before["gold"].value_counts(normalize=True).max() if "gold" in before else 0.0
    if accuracy.low > max(chance, common):
        return ""
    return f"the baseline {accuracy} is not above chance, {max(chance, common):.3f}"


def _contrast(
    rows: pd.DataFrame, name: str, value: str, after: dict[str, str], before: dict[str, str], printed: float
) -> Part:
    pair = stats.sides(rows, value, after, before)
    return Part(name, stats.difference(*pair), printed, p=stats.no_difference(*pair), spec=_SPECS[value])


def _level(rows: pd.DataFrame, name: str, value: str, kind: dict[str, str], printed: float) -> Part:
    """A kind's own mean, set beside zero."""
    own, _, clusters = stats.sides(rows, value, kind, kind)
    p = stats.no_difference(own, np.zeros(len(own)), clusters)
    return Part(name, stats.mean(own, clusters), printed, p=p, spec=_SPECS[value])


_SPECS = {"rid": "+.3f", "mixig": "+.4f"}


def change(
    name: str, runs: Sequence[pd.DataFrame], before: pd.DataFrame, printed: float | None = None, expected: int = 1
) -> Part:
    """Change of accuracy, the mean over runs that differ in their seed, paired over the items that all of them hold."""
    before, *runs = _shared([before, *runs], name)
    after = _over_runs(runs)
    pair = after["correct"].to_numpy(float), before["correct"].to_numpy(float), before["cluster"].to_numpy()
    return Part(name, stats.difference(*pair), printed, expected, p=stats.no_difference(*pair))


def _shared(frames: Sequence[pd.DataFrame], name: str) -> list[pd.DataFrame]:
    """The rows of the items that all frames hold: what one run could not measure is missing in all."""
    common = set.intersection(*(set(frame["item"]) for frame in frames))
    kept = [frame[frame["item"].isin(common)].reset_index(drop=True) for frame in frames]
    if not common or any(list(one["item"]) != list(kept[0]["item"]) for one in kept):
        raise ValueError(f"{name}: the runs do not hold the same items in the same order")
    return kept


def _over_runs(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Each item's mean over several runs, of the items that all of them hold."""
    kept = _shared(runs, "several runs")
    right = np.mean([run["correct"].to_numpy(float) for run in kept], axis=0)
    return kept[0].assign(correct=right)


def _by_side(value: Estimate) -> str:
    """Holds above zero, opposite below."""
    return HOLDS if value.low > 0 else OPPOSITE if value.high < 0 else NOT


def _harm(value: Estimate) -> str:
    """Holds where the loss is certainly below `MARGIN`."""
    return HOLDS if value.low > -MARGIN else OPPOSITE if value.high < 0 else NOT


_LOSS = {
    HOLDS: "a loss of two points is ruled out",
    OPPOSITE: "accuracy falls, and a loss of two points is not ruled out",
    NOT: "neither a fall nor the absence of one is certain",
}


def _verdict(claim: str, status: str, parts: tuple[Part, ...], reason: str = "", benchmark: str = "") -> Verdict:
    reason = reason or ", ".join(part.side for part in parts)
    return Verdict(claim, status, reason, parts, benchmark=benchmark)
