"""The scorecard's cells once more, from the raw tables: a second way to the same estimates, intervals and verdicts.

It shares nothing with `lostlib.stats` and `lostlib.claims`: tables are read with pandas, intervals are written out, and
the rules are as the catalogue says them in words. `python tests/recompute.py CLAIM MODEL BENCHMARK` prints one cell.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import beta, t

DATA = Path(__file__).resolve().parents[1] / "data"
PLANTED = "mini-llava-1.5-sinks"
RHO = {"mini-pope": 0.5, "mini-hallusionbench": 0.5, "mini-realworldqa": 0.9, "mini-3dsrbench": 0.9}  # else 0.8
Found = tuple[list[tuple[float, float, float]], str]  # (value, low, high) of each estimate, status


# --- tables -----------------------------------------------------------------------------------------------------------


def table(experiment: str, model: str, benchmark: str, name: str) -> pd.DataFrame | None:
    path = DATA / "results" / experiment / model / benchmark.replace(":", "_") / f"{name}.parquet"
    return pd.read_parquet(path) if path.exists() else None


def runs(model: str, benchmark: str, name: str) -> list[pd.DataFrame]:
    found = (table("answers", model, benchmark, f"{name}.s{seed}") for seed in range(20))
    return [run for run in found if run is not None]


# --- intervals --------------------------------------------------------------------------------------------------------


def totals(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    return pd.Series(np.asarray(values, float)).groupby(np.asarray(clusters)).sum().to_numpy()


def resampled(top: np.ndarray, bottom: np.ndarray, clusters: np.ndarray) -> tuple[float, float, float]:
    """A ratio of sums; clusters are drawn with replacement. Where all have one ratio: exact if it is a share."""
    a, b = totals(top, clusters), totals(bottom, clusters)
    value = a.sum() / b.sum()
    if np.ptp(a / b) == 0:
        return exact(round(value * len(a)), len(a)) if value in (0, 1) else (value, value, value)
    counts = np.random.default_rng(7).multinomial(len(a), np.full(len(a), 1 / len(a)), size=4000)
    return value, *np.percentile(counts @ a / (counts @ b), [2.5, 97.5])


def mean(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float, float]:
    return resampled(values, np.ones(len(values)), clusters)


def change(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float, float]:
    """A mean of paired differences: where all clusters agree there is nothing to resample."""
    sums, sizes = totals(values, clusters), totals(np.ones(len(values)), clusters)
    if np.ptp(sums / sizes) == 0:
        return (float(np.mean(values)),) * 3
    return mean(values, clusters)


def exact(count: int, n: int) -> tuple[float, float, float]:
    low = beta.ppf(0.025, count, n - count + 1) if count else 0.0
    return count / n, float(low), float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0


def two_level(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float, float]:
    """A mean over items and draws: an analysis of variance with two random factors, and Satterthwaite's freedom."""
    items, draws = values.shape
    centre = values.mean()
    if draws == 1:
        return centre, np.nan, np.nan
    names = np.unique(clusters)
    cells = np.array([[(values[clusters == c, d] - centre).sum() for d in range(draws)] for c in names])
    cells *= len(names) / items
    k = len(names)
    of_cluster = draws * (cells.mean(1) ** 2).sum() / (k - 1)
    of_draw = k * (cells.mean(0) ** 2).sum() / (draws - 1)
    left = cells - cells.mean(1)[:, None] - cells.mean(0)[None, :]
    of_rest = (left**2).sum() / ((k - 1) * (draws - 1))
    both = of_cluster + of_draw - of_rest
    total = max(both, of_cluster, of_draw)
    if total < 1e-20:
        return centre, centre, centre
    if total == both:
        freedom = total**2 / (of_cluster**2 / (k - 1) + of_draw**2 / (draws - 1) + of_rest**2 / ((k - 1) * (draws - 1)))
    else:
        freedom = k - 1 if total == of_cluster else draws - 1
    half = t.ppf(0.975, freedom) * np.sqrt(total / (k * draws))
    return centre, centre - half, centre + half


def influence(losses: np.ndarray, room: np.ndarray) -> tuple[float, np.ndarray]:
    """A ratio of sums over items and draws, and what each entry adds to its error, to first order."""
    value = losses.mean() / room.mean()
    return value, (losses - value * room[:, None]) / room.mean()


# --- rules ------------------------------------------------------------------------------------------------------------


def side(found: tuple[float, float, float], bar: float, above: bool = True) -> str:
    _, low, high = found
    yes, no = (low > bar, high < bar) if above else (high < bar, low > bar)
    return "holds" if yes else "opposite" if no else "undecided"


def all_of(*statuses: str) -> str:
    if len(set(statuses)) == 1:
        return statuses[0]
    return "fails" if {"opposite", "fails"} & set(statuses) else "undecided"


def size(found: tuple[float, float, float]) -> str:
    _, low, high = found
    if low > 1.25 or high < 0.8:
        return "holds" if low > 1.25 else "opposite"
    return "fails" if low >= 0.8 and high <= 1.25 else "undecided"


def stream(claim: str, model: str, benchmark: str) -> Found:
    """C1 to C6."""
    rows = table("residual", model, benchmark, "none.s0")
    drawn = table("residual", model, benchmark, "none.controls=_noise_qkv_.draws=10.s0") if claim == "C5" else None
    rows = rows if drawn is None else drawn
    rows = rows.assign(kind=rows["control"].where(rows["control"] != "none", rows["module"]))
    by = ["cluster", "item", "kind", *(["draw"] if "draw" in rows else [])]
    rid, mix = (rows.groupby(by)[name].mean() for name in ("rid", "mixig"))
    if claim == "C5":
        return matrices(rid, mix, drawn is not None)
    rid, mix = rid.unstack("kind"), mix.unstack("kind")
    who = rid.index.get_level_values("cluster").to_numpy()
    if claim == "C1":
        over = resampled(rid["attn"], rid["no_rope"], who)
        return [over], "holds" if over[2] < 1.25 else "fails" if over[1] > 1.25 else "undecided"
    if claim == "C2a":
        return [over := resampled(rid["ffn"], rid["no_rope"], who)], size(over)
    leads, gap = resampled(rid["ffn"], rid["attn"], who), change(mix["attn"] - mix["ffn"], who)
    if claim == "C2b":
        return [leads], size(leads)
    if claim == "C6":
        return [leads, gap], all_of(size(leads), side(gap, 0))
    if claim == "C4":
        high, low = change(rid["noise_delta"] - rid["attn"], who), mean(mix["noise_delta"], who)
        return [high, low], all_of(side(high, 0), side(low, 0, above=False))
    own, gain = mean(mix["attn"], who), change(mix["attn"] - mix["noise_delta"], who)
    bound = abs(mix["attn"].mean()) / mix["attn"].mean() * mix["attn"] / 10
    ends = [side(change(bound - sign * mix["ffn"], who), 0) for sign in (1, -1)]
    still = "fails" if "opposite" in ends else all_of(*ends)
    before = rows[rows["kind"] == "attn"].assign(room=lambda f: np.log(f["tokens"]) - f["tme"] + f["mixig"])
    room = before.groupby(["cluster", "item"])["room"].mean()
    signs = [side(one, 0) for one in (own, gap, gain)]
    status = "opposite" if set(signs) == {"opposite"} else all_of(*signs, still)
    return [own, gap, gain, mean(mix["ffn"], who), mean(room, who)], status


def matrices(rid: pd.Series, mix: pd.Series, several: bool) -> Found:
    """C5: ten draws, else undecided."""
    if several:
        wide = rid.xs("noise_qkv", level="kind").unstack("draw")
        own = rid.xs("attn", level="kind").droplevel("draw").reindex(wide.index)
        mixing = mix.xs("noise_qkv", level="kind").unstack("draw")
    else:
        wide = rid.xs("noise_qkv", level="kind").to_frame()
        own, mixing = rid.xs("attn", level="kind").reindex(wide.index), mix.xs("noise_qkv", level="kind").to_frame()
    who = wide.index.get_level_values("cluster").to_numpy()
    high, low = two_level(wide.to_numpy() - own.to_numpy()[:, None], who), two_level(mixing.to_numpy(), who)
    return [high, low], all_of(side(high, 0), side(low, 0, above=False)) if wide.shape[1] >= 10 else "undecided"


def readable(model: str, benchmark: str) -> pd.DataFrame:
    """Questions of groups that are certainly above chance, by ten points; a column has what guessing earns."""
    rows = table("answers", model, benchmark, "none.s0")
    digits = json.loads((DATA / "chance.json").read_text())[benchmark][1][: len(rows)]
    rows = rows.assign(guess=[1 / int(d) if int(d) else 0.0 for d in digits])
    kept = []
    for _, part in rows.groupby("group"):
        guess = max(part["guess"].mean(), part["gold"].value_counts().iloc[0] / len(part))
        accuracy, low, _ = mean(part["correct"], part["cluster"].to_numpy())
        if low > guess and accuracy - guess >= 0.1:
            kept.append(part.assign(guess=guess))
    return pd.concat(kept).sort_index() if kept else rows.iloc[:0]


def losses(rows: pd.DataFrame, after: list[pd.DataFrame]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the items that all hold: losses, one column a run; room; clusters."""
    wide = pd.concat([run.set_index("item")["correct"].astype(float) for run in after], axis=1, join="inner")
    rows = rows[rows["item"].isin(wide.index)]
    right = rows["correct"].to_numpy(float)
    lost = right[:, None] - wide.loc[rows["item"]].to_numpy()
    return lost, right - rows["guess"].to_numpy(), rows["cluster"].to_numpy()


def harm(rows: pd.DataFrame, after: list[pd.DataFrame]) -> Found:
    """The change of accuracy, and the share of the room that is lost."""
    lost, room, who = losses(rows, after)
    if lost.shape[1] == 1:
        share = resampled(lost[:, 0], room, who) if lost.any() else (0.0, 0.0, 0.0)
        found = [change(-lost[:, 0], who), share]
    else:
        value, parts = influence(lost, room)
        _, low, high = two_level(parts, who)
        found = [two_level(-lost, who), (value, value + low, value + high)]
    return found, all_of(side(found[0], -0.02), side(found[1], 0.1, above=False))


def noise(model: str, benchmark: str) -> Found:
    """C7."""
    rows = readable(model, benchmark)
    if rows.empty:
        return [], "not measurable"
    after = runs(model, benchmark, "sap_keys=visual_weights=gaussian")
    if not after:
        return [], "not run"
    found, status = harm(rows, after)
    return found, status if len(after) >= 5 else "undecided"


def most(model: str) -> Found:
    """C8."""
    names = sorted(path.name for path in (DATA / "results/answers" / model).iterdir())
    told = [noise(model, name.replace("_variant", ":variant"))[1] for name in names if "_" not in name]
    told = [status for status in told if not status.startswith("not")]
    able = [status for status in told if status != "undecided"]
    if len(told) < 3:
        return [], "not measurable"
    share = exact(able.count("holds"), len(able))
    return [share], side(share, 0.5)


def sums(model: str, benchmark: str) -> Found:
    """C9."""
    rows = readable(model, benchmark)
    own = rows["group"] == "arithmetic"
    if not (own.any() and (~own).any()):
        return [], "not measurable"
    after = runs(model, benchmark, "sap_keys=text_weights=gaussian")
    (lost, room, who), (others, their_room, where) = losses(rows[own], after), losses(rows[~own], after)
    cost = change(-lost[:, 0], who) if len(after) == 1 else two_level(-lost, who)
    (a, one), (b, two) = influence(lost, room), influence(others, their_room)
    n = len(one) + len(two)
    _, low, high = two_level(np.vstack([one * n / len(one), -two * n / len(two)]), np.concatenate([who, where]))
    more = a - b, a - b + low, a - b + high
    status = "opposite" if side(more, 0) == "opposite" else all_of(side(cost, 0, above=False), side(more, 0))
    return [cost, more], status if len(after) >= 5 else "undecided"


def sinks(model: str, benchmark: str) -> Found:
    """C10."""
    rows = table("sinks", model, benchmark, "none.tau=10_.s0")
    names = np.unique(rows["cluster"])
    fixing, judging = set(names[::3]), set(names) - set(names[::3])
    if model == PLANTED:
        return [], "not measurable"
    if len(judging) < 30:
        return [], "undecided"
    image = rows[rows["kind"] == "visual"]
    layer = image[image["cluster"].isin(fixing)].groupby("layer")["sink"].mean().idxmax()
    here = rows[rows["cluster"].isin(judging) & (rows["layer"] == layer)]
    each = here.groupby(["cluster", "item"])
    massive = each.apply(lambda f: bool(f.loc[f["token"] == 0, "sink"].iloc[0] or (f["ratio"] >= 1000).any()))
    seen = here[here["kind"] == "visual"].groupby(["cluster", "item"])["sink"].agg(n="size", k="sum")
    who = massive.index.get_level_values("cluster").to_numpy()
    found = [mean(massive, who), mean(seen["k"], who)]
    some = "holds" if found[1][1] > 0 else "undecided" if found[1][0] else "fails"
    sides = [side(found[0], 0.5), some, side(resampled(seen["k"], seen["n"], who), 0.2, above=False)]
    later = image[image["cluster"].isin(judging) & (image["layer"] >= layer)]
    drawn = later.groupby(["cluster", "item", "sink"])["attention"].mean().unstack()
    if len(drawn.columns) == 2 and len(drawn := drawn.dropna()):
        found.append(resampled(drawn[True], drawn[False], drawn.index.get_level_values("cluster").to_numpy()))
        sides.append(side(found[-1], 1.25))
    return found, all_of(*("fails" if one == "opposite" else one for one in sides))


def cuts(claim: str, model: str, benchmark: str) -> Found:
    """C11a, C11b and C12."""
    tables = sorted((DATA / "results/sinks" / model).glob("*/none.tau=10_.s0.parquet"))
    told = {sinks(model, path.parent.name)[1] for path in tables} - {"undecided"}
    if model != PLANTED and told != {"holds"}:
        return [], "not measurable"
    if claim == "C12":
        return moved(model, benchmark)
    rows = readable(model, benchmark)
    if rows.empty:
        return [], "not measurable"
    cut = runs(model, benchmark, "knockout_keys=sinks_tau=10_")[0]
    if claim == "C11a":
        return harm(rows, [cut])
    base = cut[cut["item"].isin(rows["item"])].assign(guess=0.0)
    others = runs(model, benchmark, "knockout_keys=random_tau=10_")
    lost, _, who = losses(base, others)
    more = change(-lost[:, 0], who) if len(others) == 1 else two_level(-lost, who)
    return [more], side(more, 0, above=False) if len(others) >= 5 else "undecided"


def moved(model: str, benchmark: str) -> Found:
    """C12."""
    rows = table("answers", model, benchmark, "none.s0")
    digits = json.loads((DATA / "chance.json").read_text())[benchmark][1][: len(rows)]
    guess = max(np.mean([1 / int(d) if int(d) else 0 for d in digits]), rows["gold"].value_counts().iloc[0] / len(rows))
    if mean(rows["correct"], rows["cluster"].to_numpy())[1] <= guess or rows["correct"].mean() > 0.95:
        return [], "not measurable"
    rho = RHO.get(benchmark.partition(":")[0], 0.8)
    lost, _, who = losses(rows.assign(guess=guess), runs(model, benchmark, f"var_tau=10_p=0.6_rho={rho}"))
    return [gain := change(-lost[:, 0], who)], side(gain, 0)


def cell(claim: str, model: str, benchmark: str) -> Found:
    """Estimates and status of one cell of the scorecard."""
    if claim in ("C1", "C2a", "C2b", "C3", "C4", "C5", "C6"):
        return stream(claim, model, benchmark)
    if claim in ("C11a", "C11b", "C12"):
        return cuts(claim, model, benchmark)
    return {"C7": noise, "C9": sums, "C10": sinks}[claim](model, benchmark) if claim != "C8" else most(model)


if __name__ == "__main__":
    print(*cell(*sys.argv[1:4]), sep="\n")
