"""The rules: pure functions from measured rows to verdicts.

They compare intervals, never bare values, with zero or with a margin. Each rule in words is in `CLAIMS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lostlib import stats
from lostlib.benchmarks import Choice
from lostlib.census import by_layer
from lostlib.claims.catalog import CHANGES, figure
from lostlib.claims.verdicts import (
    CERTAIN,
    FAILS,
    HOLDS,
    OPPOSITE,
    TOLD,
    UNDECIDED,
    UNMEASURABLE,
    Part,
    Verdict,
    not_run,
    together,
)
from lostlib.readings import MARGIN
from lostlib.stats import Estimate

WELL_ABOVE, WELL_BELOW = 1.25, 0.8  # ratios of RID and of attention: what lies between counts as equal
TENTH = 0.1  # of attention's MixIG, of the room: what is smaller counts as none
ROOM = 0.1  # accuracy above chance: with less there is nothing to lose
HEADROOM = 0.05  # accuracy below 1: with less there is nothing to gain
MATRICES, SEEDS = 10, 5  # draws that a certain verdict needs: of Noise QKV's matrices, of noise and cuts in answers
PICTURES = 30  # to judge sinks on
CROWD = 0.2  # of the visual tokens: when more are sinks, they are not few
MASSIVE = 1000.0  # of a token's median: Sun et al.'s massive activation
RHO = {"hallucination": 0.5, "general": 0.8, "vision-centric": 0.9}  # VAR's rho by kind of task


# --- RQ2 and RQ3: rows of a residual table ----------------------------------------------------------------------------

ATTN, FFN = {"module": "attn", "control": "none"}, {"module": "ffn", "control": "none"}
ROPE, DELTA, QKV = ({"control": control} for control in ("no_rope", "noise_delta", "noise_qkv"))


def attention_at_tolerance(rows: pd.DataFrame) -> Verdict:
    """C1, from residual rows with the control `no_rope`, which is the tolerance."""
    over = _ratio(rows, "RID, attention over tolerance", ATTN, ROPE, figure("rid_attn") / figure("eps_rope"))
    low, high = over.value.low, over.value.high
    status = HOLDS if high < WELL_ABOVE else FAILS if low > WELL_ABOVE else UNDECIDED
    return _verdict("C1", status, (replace(over, p=math.nan),), _beside(over.value, WELL_ABOVE))


def ffn_innovates(rows: pd.DataFrame) -> Verdict:
    """C2a, from residual rows with the control `no_rope`."""
    over = _ratio(rows, "RID, FFN over tolerance", FFN, ROPE, figure("rid_ffn") / figure("eps_rope"))
    return _verdict("C2a", *_well_above(over))


def ffn_leads(rows: pd.DataFrame) -> Verdict:
    """C2b, from residual rows."""
    over = _ratio(rows, "RID, FFN over attention", FFN, ATTN, figure("rid_ffn") / figure("rid_attn"))
    return _verdict("C2b", *_well_above(over))


def attention_mixes(rows: pd.DataFrame) -> Verdict:
    """C3, from residual rows with the control `noise_delta`; TME's distance to its ceiling stands beside."""
    mixes = _level(rows, "MixIG of attention", "mixig", ATTN, figure("mixig_attn"))
    gap = _mixing_gap(rows)
    noise = figure("mixig_attn", "mixig_noise_delta")
    gain = _contrast(rows, "MixIG, attention minus Noise Δ", "mixig", ATTN, DELTA, noise)
    still, negligible = _negligible(rows)
    sides = [_side(part.value) for part in (mixes, gap, gain)]
    status = OPPOSITE if set(sides) == {OPPOSITE} else together([*sides, negligible])
    found = (mixes, gap, gain, still, *_headroom(rows))
    words = {HOLDS: "below", FAILS: "not below"}.get(negligible, "not certainly below or above")
    reason = f"{', '.join(part.side for part in (mixes, gap, gain))}; the FFN's MixIG is {words} a tenth of attention's"
    return _verdict("C3", status, found, reason)


def _mixing_gap(rows: pd.DataFrame) -> Part:
    return _contrast(rows, "MixIG, attention minus FFN", "mixig", ATTN, FFN, figure("mixig_attn", "mixig_ffn"))


def _negligible(rows: pd.DataFrame) -> tuple[Part, str]:
    """The FFN's MixIG, and whether it is certainly below a tenth of attention's in size."""
    ffn, attn, clusters = stats.sides(rows, "mixig", FFN, ATTN)
    bound = TENTH * attn * np.sign(attn.mean())
    ends = [stats.difference(bound, side * ffn, clusters) for side in (1, -1)]
    status = FAILS if any(end.high < 0 for end in ends) else HOLDS if all(end.low > 0 for end in ends) else UNDECIDED
    part = _level(rows, "MixIG of the FFN", "mixig", FFN, figure("mixig_ffn"))
    return replace(part, p=math.nan), status


def _headroom(rows: pd.DataFrame) -> list[Part]:
    """How far TME lies below its ceiling ln S before attention's update: more than that no update can mix."""
    if not {"tme", "tokens"} <= {*rows.columns}:
        return []
    before = rows.assign(room=np.log(rows["tokens"]) - (rows["tme"] - rows["mixig"]))
    part = _level(before, "headroom of TME", "room", ATTN, None)
    return [replace(part, expected=0, p=math.nan)]


def noise_delta_innovates(rows: pd.DataFrame) -> Verdict:
    """C4, from residual rows with the control `noise_delta`, which is drawn anew for each item."""
    rid = _contrast(rows, "RID above attention's", "rid", DELTA, ATTN, figure("rid_noise_delta", "rid_attn"))
    mix = _level(rows, "MixIG", "mixig", DELTA, figure("mixig_noise_delta"))
    return _high_and_negative("C4", rid, mix)


def noise_qkv_innovates(rows: pd.DataFrame) -> Verdict:
    """C5, from residual rows with the control `noise_qkv`, whose matrices are drawn once for all items.

    The column `draw` counts them; without it there was one.
    """
    drawn = rows if "draw" in rows else rows.assign(draw=0)
    noise = drawn[drawn["control"] == "noise_qkv"]
    own, _, clusters = stats.sides(rows, "rid", ATTN, ATTN)
    table = noise.pivot_table(index=["cluster", "item"], columns="draw", values=["rid", "mixig"])
    above = stats.crossed(table["rid"].to_numpy() - own[:, None], clusters)
    mixes = stats.crossed(table["mixig"].to_numpy(), clusters)
    parts = [
        Part("RID above attention's", above.estimate, figure("rid_noise_qkv", "rid_attn"), p=above.p(), spec="+.3f"),
        Part("MixIG", mixes.estimate, figure("mixig_noise_qkv"), p=mixes.p(), spec="+.4f"),
    ]
    return _of_draws(_high_and_negative("C5", *parts), noise["draw"].nunique(), MATRICES, "draw", "of matrices")


def _high_and_negative(claim: str, rid: Part, mix: Part) -> Verdict:
    """Both must hold: an RID above attention's, a MixIG below zero."""
    return _verdict(claim, together([_side(rid.value), _side(mix.value, -1)]), (rid, mix))


def _of_draws(found: Verdict, draws: int, needed: int, *what: str) -> Verdict:
    """The verdict, which is certain only where enough was drawn."""
    if draws >= needed:
        return found
    number = "one" if draws == 1 else str(draws)
    counted = f"{number} {what[0]}{'s' * (draws != 1)} {what[1]}, {needed} are needed"
    return replace(found, status=UNDECIDED, reason=counted)


def one_order(rows: pd.DataFrame) -> Verdict:
    """C6 in one model, from residual rows: C2b's condition, and attention's MixIG above the FFN's."""
    leads = ffn_leads(rows)
    gap = _mixing_gap(rows)
    parts = tuple(replace(part, p=math.nan) for part in (*leads.parts, gap))  # tested already, for C2b and C3
    return _verdict("C6", together([leads.status, _side(gap.value)]), parts, f"{leads.reason}; {gap.side}")


def same_in_all_models(cells: Sequence[Verdict]) -> Verdict:
    """C6 over models, from `one_order` of each: models that can tell decide, as benchmarks do in `combined`."""
    told = [cell for cell in cells if cell.status in CERTAIN]
    if len(told) < 2:
        measured = sum(cell.status in TOLD for cell in cells)
        status = UNDECIDED if measured > 1 else UNMEASURABLE
        return _verdict("C6", status, (), f"{len(told)} of {measured} measured model{'s' * (measured != 1)} can tell")
    alike = [cell.model for cell in told if cell.status == HOLDS]
    share = Part("share of models", stats.share(len(alike), len(told)), 1.0, null=0.5, spec=".2f")
    which = f": {', '.join(alike)}" if alike else ""
    status = together([cell.status for cell in told])
    return _verdict("C6", status, (share,), f"in {len(alike)} of the {len(told)} models that can tell{which}")


# --- does it matter: rows of answers tables ---------------------------------------------------------------------------


class Readable(NamedTuple):
    """The questions that an untouched model can read."""

    rows: pd.DataFrame  #: their rows
    guess: NDArray[np.float64]  #: for each, what guessing earns in its group
    groups: list[str]  #: the groups that are readable
    why: str  #: why there is none, or which are left out; "" where all are readable


def readable(before: pd.DataFrame, chance: ArrayLike) -> Readable:
    """The groups of questions in which an untouched model has `ROOM` to lose: certainly above chance, and by so much.

    Parameters
    ----------
    before : pandas.DataFrame
        Rows of an answers table of the untouched model.
    chance : float or one for each row
        What guessing among options earns. Where always giving a group's commonest right answer (column `gold`) earns
        more, that counts.
    """
    rows = before.assign(guess=np.broadcast_to(np.asarray(chance, dtype=np.float64), len(before)))
    found, words = list[tuple[str, float]](), list[str]()
    for name, part in rows.groupby("group", sort=True):
        accuracy, guess = stats.mean(part["correct"], part["cluster"]), _guess(part)
        if accuracy.low > guess and accuracy.value - guess >= ROOM:
            found.append((str(name), guess))
        else:
            words.append(f"{name} ({accuracy.value:.2f}, chance {guess:.2f})")
    kept = rows[rows["group"].isin([name for name, _ in found])].drop(columns="guess").reset_index(drop=True)
    chances = np.asarray([dict(found)[name] for name in kept["group"]], dtype=np.float64)
    why = f"less than {100 * ROOM:g} points of room in {', '.join(words)}" if words else ""
    return Readable(kept, chances, [name for name, _ in found], why)


def _guess(rows: pd.DataFrame) -> float:
    """Chance in these rows: guessing among options, or always giving the commonest right answer."""
    common = rows["gold"].value_counts(normalize=True).max() if "gold" in rows else 0.0
    return max(float(rows["guess"].mean()), common)


def noise_is_harmless(before: pd.DataFrame, runs: Sequence[pd.DataFrame], chance: ArrayLike, benchmark: str) -> Verdict:
    """C7 on one benchmark, in one reading: the untouched model, and noise in place of attention, one run a seed.

    Where there is nothing to lose, no run is needed to know. Of the table of an experiment `readings`, `before` are the
    rows of the reading `none`, and `runs` those of another, seed by seed.
    """
    if not (able := readable(before, chance)).groups:
        return _verdict("C7", UNMEASURABLE, (), able.why, benchmark)
    if not runs:
        return not_run("C7", benchmark=benchmark)
    found = _harmless("C7", able, runs, benchmark, _printed("C7", benchmark))
    return _of_draws(found, len(runs), SEEDS, "seed", "of the noise")


def _harmless(
    claim: str, able: Readable, runs: Sequence[pd.DataFrame], benchmark: str, printed: float | None, expected: int = 1
) -> Verdict:
    """The loss must certainly be below `MARGIN` and below a tenth of the room, of the questions that are readable."""
    points = replace(change(benchmark, runs, able.rows, printed, expected), p=math.nan)
    share = Part("share of the room lost", lost(able, runs), expected=0, spec=".2f")
    sides = [_side(points.value, 1, -MARGIN), _side(share.value, -1, TENTH)]
    status = together(sides)
    return _verdict(claim, status, (points, share), "; ".join(filter(None, (_LOSS[status], able.why))), benchmark)


_LOSS = {
    HOLDS: "the loss is certainly below two points and a tenth of the room",
    OPPOSITE: "the loss is certainly above two points and a tenth of the room",
    FAILS: "of two points and a tenth of the room the loss is certainly above one",
    UNDECIDED: "the loss may lie on either side of two points or a tenth of the room",
}


def lost(able: Readable, runs: Sequence[pd.DataFrame]) -> Estimate:
    """(untouched - changed) / (untouched - chance), accuracy over the readable questions; more than 1 is below chance.

    Over several seeds the interval covers seeds and pictures, of one run pictures alone.
    """
    losses, room, clusters = _losses(able, runs)
    if losses.shape[1] == 1:
        return stats.combined([(losses[:, 0], room, clusters)], [1.0])
    return stats.crossed_ratio([(losses, room, clusters)]).estimate


def _losses(able: Readable, runs: Sequence[pd.DataFrame]) -> tuple[NDArray, NDArray, NDArray]:
    """Of the readable items that all runs hold: losses (items, runs), room (items,) and clusters."""
    before, *after = _shared([able.rows.assign(guess=able.guess), *runs], "the runs")
    right = before["correct"].to_numpy(float)
    losses = np.stack([right - run["correct"].to_numpy(float) for run in after], axis=1)
    return losses, right - before["guess"].to_numpy(), before["cluster"].to_numpy()


def majority(cells: Sequence[Verdict]) -> Verdict:
    """C8, from one model's verdicts on C7."""
    told = [cell.status for cell in cells if cell.status in TOLD]
    if len(told) < 3:
        return _verdict("C8", UNMEASURABLE, (), f"{len(told)} benchmarks can be measured")
    certain = [status for status in told if status in CERTAIN]
    if not certain:
        return _verdict("C8", UNDECIDED, (), "C7 is undecided on all of them")
    good = certain.count(HOLDS)
    part = Part("share of benchmarks as good or better", stats.share(good, len(certain)), null=0.5, spec=".2f")
    reason = f"on {good} of the {len(certain)} benchmarks that can tell"
    return _verdict("C8", _side(part.value, 1, 0.5), (part,), reason)


def text_is_needed(before: pd.DataFrame, runs: Sequence[pd.DataFrame], chance: ArrayLike, benchmark: str) -> Verdict:
    """C9, from answers to a benchmark with sums: untouched, and gaussian weights on text keys, one run a seed.

    Picture questions are the benchmark's other groups that the untouched model can read.
    """
    name, able = Choice.parse(benchmark).rules.sums, readable(before, chance)
    if name not in able.groups or len(able.groups) < 2:
        lacking = "sums" if name not in able.groups else "picture questions"
        return _verdict("C9", UNMEASURABLE, (), f"it can read no {lacking}: {able.why or 'none are asked'}", benchmark)
    if not runs:
        return not_run("C9", benchmark=benchmark)
    own = able.rows["group"] == name
    sums, others = (able._replace(rows=able.rows[of], guess=able.guess[of]) for of in (own, ~own))
    cost = change("sums, noise on text keys", runs, sums.rows, expected=-1)
    more = stats.crossed_ratio([_losses(sums, runs), _losses(others, runs)], [1, -1])
    beside = Part("share of the room lost, sums minus picture questions", more.estimate, p=more.p(), spec="+.2f")
    side = _side(beside.value)
    status = OPPOSITE if side == OPPOSITE else together([_side(cost.value, -1), side])
    found = _verdict("C9", status, (cost, beside), benchmark=benchmark)
    return _of_draws(found, len(runs), SEEDS, "seed", "of the noise on text")


# --- sinks ------------------------------------------------------------------------------------------------------------


def sinks_exist(tokens: pd.DataFrame, planted: bool = False) -> Verdict:
    """C10, from rows of a `sinks` table. `planted`: are its sinks our doing?

    A third of the pictures fix the layer, the one with most visual sinks; the others are judged.
    """
    if planted:
        return _verdict("C10", UNMEASURABLE, (), "its sinks were planted")
    layers = by_layer(tokens)
    held = np.unique(layers["cluster"])
    fixing, visual = layers["cluster"].isin(held[::3]), layers["kind"] == "visual"
    if not visual.any():
        return _verdict("C10", UNMEASURABLE, (), "there are no pictures")
    if (judged := len(held) - len(held[::3])) < PICTURES:
        return _verdict("C10", UNDECIDED, (), f"{judged} pictures to judge, {PICTURES} are needed")
    sums = layers[fixing & visual].groupby("layer")[["sinks", "tokens"]].sum()
    layer = (sums["sinks"] / sums["tokens"]).idxmax()
    rows = layers[~fixing & (layers["layer"] == layer)]
    rows = rows.assign(massive=(rows["ratio_max"] >= MASSIVE) | ((rows["kind"] == "first") & (rows["sinks"] > 0)))
    massive = rows.groupby(["cluster", "item"])["massive"].any()
    who = massive.index.get_level_values("cluster")
    shares = Part("pictures with massive activations", stats.mean(massive, who), null=0.5, spec=".2f")
    counts = rows[rows["kind"] == "visual"].groupby(["cluster", "item"])[["sinks", "tokens"]].sum()
    who = counts.index.get_level_values("cluster")
    number = Part("visual sinks a picture", stats.mean(counts["sinks"], who), figure("sink_count_max"), spec=".1f")
    crowd = stats.ratio(counts["sinks"], counts["tokens"], who)
    conditions = {
        "massive activations in most pictures": _side(shares.value, 1, 0.5),
        "some visual sinks": HOLDS if number.value.low > 0 else UNDECIDED if number.value.value else FAILS,
        "at most a fifth of the visual tokens": _side(crowd, -1, CROWD),
    }
    parts = [shares, number]
    drawn = _attention(layers[~fixing & visual & (layers["layer"] >= layer)])
    if not drawn.empty:
        who = drawn.index.get_level_values("cluster")
        value = stats.ratio(drawn[True], drawn[False], who)
        parts.append(Part("attention, sink over other", value, null=1.0, spec=".2f",
                          p=stats.no_difference(drawn[True], WELL_ABOVE * drawn[False], who)))  # fmt: skip
        conditions["well above the attention of others"] = _side(value, 1, WELL_ABOVE)
    status = together([FAILS if of == OPPOSITE else of for of in conditions.values()])
    return _verdict("C10", status, tuple(parts), ", ".join(f"{what}: {_WORDS[of]}" for what, of in conditions.items()))


_WORDS = {HOLDS: "yes", OPPOSITE: "no", FAILS: "no", UNDECIDED: "unclear"}


def _attention(visual: pd.DataFrame) -> pd.DataFrame:
    """Mean attention on sinks (True) and on other visual tokens (False) of the items that have both."""
    counts = {True: visual["sinks"], False: visual["tokens"] - visual["sinks"]}
    means = {True: visual["attention_sinks"], False: visual["attention_others"]}
    items, found = [visual["cluster"], visual["item"]], {}
    for side, count in counts.items():
        drawn = (count * means[side]).where(count > 0, 0.0)
        found[side] = drawn.groupby(items).sum() / count.groupby(items).sum()
    return pd.DataFrame(found).dropna()


def sinks_are_idle(
    before: pd.DataFrame, cut: pd.DataFrame, chance: ArrayLike, benchmark: str, planted: bool = False
) -> Verdict:
    """C11a on one benchmark: the untouched model, and sinks cut."""
    if not (able := readable(before, chance)).groups:
        return _verdict("C11a", UNMEASURABLE, (), able.why, benchmark)
    printed = _printed("C11a", benchmark)
    return _owning(_harmless("C11a", able, [cut], benchmark, printed, expected=-1), planted)


def random_cuts_cost_more(
    before: pd.DataFrame, cut: pd.DataFrame, others: Sequence[pd.DataFrame], chance: ArrayLike, benchmark: str,
    planted: bool = False,
) -> Verdict:  # fmt: skip
    """C11b on one benchmark: sinks cut, and as many random visual tokens cut, one run a seed."""
    if not (able := readable(before, chance)).groups:
        return _verdict("C11b", UNMEASURABLE, (), able.why, benchmark)
    printed = _printed("C11b", benchmark)
    sinks, *_ = _shared([cut, able.rows], benchmark)
    more = change(f"{benchmark}, random minus sinks", others, sinks, printed, expected=-1)
    found = _verdict("C11b", _side(more.value, -1), (more,), benchmark=benchmark)
    return _owning(_of_draws(found, len(others), SEEDS, "seed", "of the random cuts"), planted)


def var_helps(
    before: pd.DataFrame, after: pd.DataFrame, chance: ArrayLike, benchmark: str, planted: bool = False
) -> Verdict:
    """C12 on one benchmark: the untouched model, and VAR at `rho_for` this benchmark."""
    if problem := at_chance(before, chance):
        return _verdict("C12", UNMEASURABLE, (), problem, benchmark)
    if (room := 1 - before["correct"].mean()) < HEADROOM:
        why = f"{100 * room:.1f} points of room to improve, {100 * HEADROOM:g} are needed"
        return _verdict("C12", UNMEASURABLE, (), why, benchmark)
    printed = _printed("C12", benchmark)
    found = change(benchmark, [after], before, printed)
    return _owning(_verdict("C12", _side(found.value), (found,), benchmark=benchmark), planted)


def _owning(found: Verdict, planted: bool) -> Verdict:
    """The verdict, saying whose sinks it speaks of."""
    return replace(found, reason=f"{found.reason}; of planted sinks") if planted else found


def without_sinks(claim: str, benchmark: str) -> Verdict:
    """C11a, C11b or C12 of a model in which no sinks were found by C10, and none planted."""
    return _verdict(claim, UNMEASURABLE, (), "judged only where C10 holds or sinks were planted", benchmark)


def rho_for(benchmark: str) -> float:
    """The paper's rho for the kind of task that a benchmark is.

    >>> rho_for("mini-pope"), rho_for("realworldqa"), rho_for("mmmu")
    (0.5, 0.9, 0.8)
    """
    return RHO[Choice.parse(benchmark).rules.task]


# --- what the rules share ---------------------------------------------------------------------------------------------


def _printed(claim: str, benchmark: str) -> float | None:
    """The published change; None where the paper prints nothing on this benchmark."""
    pair = CHANGES[claim].get(Choice.parse(benchmark).rules.label)
    return figure(*pair, 100) if pair else None


def at_chance(before: pd.DataFrame, chance: ArrayLike) -> str:
    """Why a baseline cannot show a loss: the interval of its accuracy does not lie above chance; "" where it does.

    Chance is the larger of the mean of `chance`, guessing among options, and of always giving the commonest right
    answer (column `gold`): among numbers nothing can be guessed, and yet a model that says 2 to everything is right
    sometimes.
    """
    accuracy = stats.mean(before["correct"], before["cluster"])
    guess = _guess(before.assign(guess=np.broadcast_to(np.asarray(chance, dtype=np.float64), len(before))))
    return "" if accuracy.low > guess else f"the baseline {accuracy} is not above chance, {guess:.3f}"


def _ratio(rows: pd.DataFrame, name: str, after: dict[str, str], before: dict[str, str], printed: float) -> Part:
    """The ratio of two kinds' mean RID; its p is of the margin `WELL_ABOVE`."""
    top, bottom, clusters = stats.sides(rows, "rid", after, before)
    p = stats.no_difference(top, WELL_ABOVE * bottom, clusters)
    return Part(name, stats.ratio(top, bottom, clusters), printed, null=1.0, p=p, spec=".2f")


def _well_above(over: Part) -> tuple[str, tuple[Part, ...], str]:
    """Status, parts and reason of a claim that a ratio is well above 1."""
    low, high = over.value.low, over.value.high
    if low > WELL_ABOVE:
        return HOLDS, (over,), f"certainly above {WELL_ABOVE:g}"
    if high < WELL_BELOW:
        return OPPOSITE, (over,), f"certainly below {WELL_BELOW:g}"
    if low >= WELL_BELOW and high <= WELL_ABOVE:
        return FAILS, (over,), f"equal: certainly between {WELL_BELOW:g} and {WELL_ABOVE:g}"
    bar = WELL_ABOVE if high > WELL_ABOVE else WELL_BELOW
    return UNDECIDED, (over,), f"on either side of {bar:g}"


def _beside(value: Estimate, bar: float) -> str:
    where = "certainly below" if value.high < bar else "certainly above" if value.low > bar else "on either side of"
    return f"{where} {bar:g}"


def _contrast(
    rows: pd.DataFrame, name: str, value: str, after: dict[str, str], before: dict[str, str], printed: float
) -> Part:
    pair = stats.sides(rows, value, after, before)
    return Part(name, stats.difference(*pair), printed, p=stats.no_difference(*pair), spec=_SPECS[value])


def _level(rows: pd.DataFrame, name: str, value: str, kind: dict[str, str], printed: float | None) -> Part:
    """A kind's own mean, set beside zero."""
    own, _, clusters = stats.sides(rows, value, kind, kind)
    p = stats.no_difference(own, np.zeros(len(own)), clusters)
    return Part(name, stats.mean(own, clusters), printed, p=p, spec=_SPECS[value])


_SPECS = {"rid": "+.3f", "mixig": "+.4f", "room": ".3f"}


def change(
    name: str, runs: Sequence[pd.DataFrame], before: pd.DataFrame, printed: float | None = None, expected: int = 1
) -> Part:
    """Change of accuracy, paired over the items that all runs hold; of runs that differ in their seed the mean.

    Over several seeds the interval covers seeds and pictures, of one run pictures alone.
    """
    before, *runs = _shared([before, *runs], name)
    then, clusters = before["correct"].to_numpy(float), before["cluster"].to_numpy()
    now = np.stack([run["correct"].to_numpy(float) for run in runs], axis=1)
    if len(runs) > 1:
        found = stats.crossed(now - then[:, None], clusters)
        return Part(name, found.estimate, printed, expected, p=found.p())
    pair = now[:, 0], then, clusters
    return Part(name, stats.difference(*pair), printed, expected, p=stats.no_difference(*pair))


def _shared(frames: Sequence[pd.DataFrame], name: str) -> list[pd.DataFrame]:
    """The rows of the items that all frames hold: what one run could not measure is missing in all."""
    common = set.intersection(*(set(frame["item"]) for frame in frames))
    kept = [frame[frame["item"].isin(common)].reset_index(drop=True) for frame in frames]
    if not common or any(list(one["item"]) != list(kept[0]["item"]) for one in kept):
        raise ValueError(f"{name}: the runs do not hold the same items in the same order")
    return kept


def _side(value: Estimate, sign: int = 1, bar: float = 0.0) -> str:
    """Holds where the interval lies above `bar` (below it for the sign -1), opposite on the other side."""
    low, high = sorted((sign * (value.low - bar), sign * (value.high - bar)))
    return HOLDS if low > 0 else OPPOSITE if high < 0 else UNDECIDED


def _verdict(claim: str, status: str, parts: tuple[Part, ...], reason: str = "", benchmark: str = "") -> Verdict:
    reason = reason or ", ".join(part.side for part in parts)
    return Verdict(claim, status, reason, parts, benchmark=benchmark)
