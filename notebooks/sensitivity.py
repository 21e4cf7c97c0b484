# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# (ch-sensitivity)=
# # Which verdicts flip?
#
# Every verdict in this book stands on choices that nobody had to make that way: which singular values count, in which unit, with
# which numbers a computer calculates, how a question is put and an answer read, which of many possible weights a training found. The papers name few of theirs. This
# chapter makes each choice differently, one at a time, and asks of each verdict: does it flip?
#
# :::{margin}
# **To flip**: a verdict flips when another choice gives another one of *holds*, *does not hold*, *opposite* and *not measurable*.
# :::
#
# The rules that turn measurements into verdicts stay as they are ({ref}`api-claims`); only what they are fed changes.
#
# ## Your prediction
#
# Seven claims and many choices: how RID and MixIG are defined, what noise is and how long it acts, numerical precision, what massive activations reach, how
# the model is asked and read, how many items there are. Which choice flips most verdicts? Which flips none?

# %% tags=["parameters"]
model = "mini-llava-1.5"
benchmark = "mini-pope"
n_items = 1000
seed = 0
device = "cpu"
benchmarks = "mini-pope+mini-realworldqa+mini-mathvista:scenes"
seeds = 5

# %% tags=["hide-input"]
from lostlib import report
from lostlib.report.parameters import BENCHMARKS

report.check_parameters(globals(), benchmarks=BENCHMARKS, seeds=(int, 1, 20))
report.style()

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from lostlib import claims, results, stats
from lostlib.benchmarks import Choice, load_benchmark
from lostlib.checkpoints import ModelChoice
from lostlib.report import drawing

# %% [markdown]
# ## Minimal code
#
# A choice is a parameter of the experiment, or part of the name of the model or of the benchmark:
#
# ```python
# from lostlib import claims, results
#
# asked = {"model": "mini-llava-1.5", "benchmark": "mini-pope", "n": 50}
# for choice in ({}, {"rank": "erank"}, {"model": "mini-llava-1.5:backend=sdpa"}, {"benchmark": "mini-pope:prompt=lmms"}):
#     rows = results.obtain("residual", **{**asked, **choice}).frame
#     print(choice, claims.ffn_innovates(rows).measured)
# ```
#
# ## All choices at a glance

# %% tags=["hide-input"]
OWN = ModelChoice.parse(model)
FAMILY = OWN.card.family if OWN.card else None
names = benchmarks.split("+")
sums = next((name for name in names if Choice.parse(name).name == "mini-mathvista"), None)  # who asks for sums
asked_of = {name: load_benchmark(name, n=n_items) for name in names}
chance = {name: made.chance for name, made in asked_of.items()}
few, many, half = (
    min(n_items, n) for n in (50, 200, 100)
)  # items for metrics, for the reference; for float16, which is slow on a CPU
obtain = results.Reader(model=model, n=n_items, device=device)


def _variant(**how):
    """The model, loaded in another way."""
    return str(replace(OWN, **how))


def stream(of=model, on=benchmark, n=few, **own):
    """Residual metrics."""
    return obtain("residual", model=of, benchmark=on, n=n, seed=seed, **own)


def answers(name, keys=None, of=model, run=seed, n=n_items, weights="gaussian"):
    """Answers of the untouched model, or with replaced weights on some keys."""
    changed = {"intervention": f"sap:keys={keys},weights={weights}", "seed": run} if keys else {}
    return obtain("answers", model=of, benchmark=name, n=n, **changed)


RULES = {
    "C1": claims.attention_at_tolerance,
    "C2": claims.ffn_innovates,
    "C3": claims.attention_mixes,
    "C4": lambda rows: claims.noise_innovates(rows, "C4"),
    "C5": lambda rows: claims.noise_innovates(rows, "C5"),
}


def of_stream(rows, only=tuple(RULES)):
    """Verdicts from residual rows."""
    return {claim: RULES[claim](rows) for claim in only}


def of_answers(before, noisy, text=None):
    """Verdicts from answers: of each benchmark the untouched model and runs with noise on visual keys; noise on text keys."""
    found = {f"C7 {name}": claims.noise_is_harmless(before[name], noisy[name], chance[name], name) for name in noisy}
    if text is not None:
        found["C9"] = claims.text_is_needed(before[sums], text, noisy[sums], sums)
    return found


# Each of these gives verdicts for some of the claims. What a choice has no part in is left out.
tried = []


def choose(family, choice, verdicts):
    """Keep what a choice comes to."""
    tried.append((family, choice, verdicts))
    return verdicts


REFERENCE = "as in the chapters"
whole = stream(n=many)
before = {name: answers(name) for name in names}
noisy = {name: [answers(name, "visual", run=seed + s) for s in range(seeds)] for name in names}
text = answers(sums, "text") if sums else None
reference = choose(REFERENCE, "as in the chapters", of_stream(whole) | of_answers(before, noisy, text))

RANKS = ("numerical32", "energy=0.999", "energy=0.99", "energy=0.95", "energy=0.9", "erank")
ranked = {rule: stream(rank=rule) for rule in ("numerical", *RANKS)}
for _rule in RANKS:
    choose("rank rule", _rule, of_stream(ranked[_rule], ("C1", "C2", "C4", "C5")))

_is_rope = whole["control"] == "no_rope"
for _factor in (2, 5, 10):
    _wider = whole.assign(rid=whole["rid"].where(~_is_rope, _factor * whole["rid"]))
    choose("tolerance", f"{_factor} times ε(RoPE)", of_stream(_wider, ("C1",)))
propagated = stream(scope="model")
choose("tolerance", "ε of the whole model", of_stream(propagated, ("C1",)))

_bits, _normal = (whole.assign(mixig=whole["mixig"] / by) for by in (math.log(2), np.log(whole["tokens"])))
choose("MixIG", "bits", of_stream(_bits, ("C3", "C4", "C5")))
choose("MixIG", "normalised", of_stream(_normal, ("C3", "C4", "C5")))
causal = stream(causal=True)
choose("MixIG", "causal", of_stream(causal, ("C3", "C4", "C5")))
choose("layers", "without the first", of_stream(whole[whole["layer"] > 0]))

_scaled = stream(controls=["noise_delta", "noise_delta:scale=token", "noise_delta:scale=unit"])
for _scale in ("token", "unit"):
    _as = _scaled[_scaled["control"] != "noise_delta"].replace(
        {"control": {f"noise_delta:scale={_scale}": "noise_delta"}}
    )
    choose("noise", f"Noise Δ by {_scale}", of_stream(_as, ("C4",)))
choose("noise", "in all layers at once", of_stream(propagated, ("C4", "C5")))
RECIPES = ("gaussian_abs", "uniform", "permuted", "static", "gaussian_logits", "zero")
for _weights in RECIPES:
    _runs = {name: [answers(name, "visual", weights=_weights)] for name in names}
    choose("noise", f"weights {_weights}", of_answers(before, _runs))

massive = {"strongest dimension out": stream(without="dimensions")}
if model == "mini-llava-1.5":  # has none of its own
    massive |= {
        "sinks planted": stream(of="mini-llava-1.5-sinks"),
        "planted, dimensions out": stream(of="mini-llava-1.5-sinks", without="dimensions"),
        "planted, tokens out": stream(of="mini-llava-1.5-sinks", without="tokens"),
    }
for _choice, _rows in massive.items():
    choose("massive activations", _choice, of_stream(_rows))

weights = {}
if model == "mini-llava-1.5":  # the recipe of which there are several trainings is the smaller one's
    for _end in ("xs", "xs-s1", "xs-s2"):
        _of = f"{model}-{_end}"
        _before = {name: answers(name, of=_of) for name in names}
        _runs = {name: [answers(name, "visual", of=_of, run=seed + s) for s in range(seeds)] for name in names}
        _text = answers(sums, "text", of=_of) if sums else None
        weights[_end] = stream(of=_of, n=many)
        choose("other weights", _of, of_stream(weights[_end]) | of_answers(_before, _runs, _text))

_usual = OWN.usual_dtype if OWN.dtype == "auto" else OWN.dtype
computed = {}  # choice -> (residual rows, untouched answers)
for _dtype in ("float32", "bfloat16", "float16"):
    if _dtype != _usual:
        _of, _n = _variant(dtype=_dtype), half if _dtype == "float16" else n_items
        computed[_dtype] = stream(of=_of), {name: answers(name, of=_of, n=_n) for name in names}
        _runs = {name: [answers(name, "visual", of=_of, n=_n)] for name in names}
        _text = answers(sums, "text", of=_of, n=_n) if sums else None
        choose("arithmetic", _dtype, of_stream(computed[_dtype][0]) | of_answers(computed[_dtype][1], _runs, _text))
for _backend in ("eager", "sdpa"):
    _of = _variant(backend=_backend)
    computed[_backend] = stream(of=_of), {name: answers(name, of=_of) for name in names}
    choose("arithmetic", _backend, of_stream(computed[_backend][0]) | of_answers(computed[_backend][1], noisy, text))

asked = {}  # profile, benchmark -> untouched answers, with noise on visual keys
for _profile in ("lmms", "vlmevalkit"):
    _verdicts, _before, _runs, _text = {}, {}, {}, None
    for _name in names:
        _other = str(Choice.parse(_name)._replace(prompt=_profile))
        _theirs = load_benchmark(_other, n=n_items, family=FAMILY).items
        if all(item.prompt == other.prompt for item, other in zip(asked_of[_name].items, _theirs, strict=True)):
            continue  # this profile asks as we do
        _before[_name], _runs[_name] = answers(_other), [answers(_other, "visual")]
        asked[_profile, _name] = _before[_name], _runs[_name][0]
        if _name == sums:
            _text = answers(_other, "text")
        if _name == benchmark:
            _verdicts |= of_stream(stream(on=_other))
    choose(
        "prompt",
        {"lmms": "as lmms-eval", "vlmevalkit": "as VLMEvalKit"}[_profile],
        _verdicts | of_answers(_before, _runs, _text),
    )

HARNESSES = {
    "official": ("pope_official", "mmmu_official"),
    "lmms-eval": ("lmms_pope", "lmms_mcq"),
    "VLMEvalKit": ("vk_yorn", "vk_can_infer"),
}


def reread(name, frame, how):
    """The same responses, read by other rules; None where these have nothing for this benchmark's questions."""
    made = asked_of[name]
    if how == "to the letter":
        right = [said.strip().lower() == gold.lower() for said, gold in zip(frame["raw"], frame["gold"], strict=True)]
        return frame.assign(correct=right)
    kinds = {item.kind for item in made.items}
    fit = [one for one, kind in zip(HARNESSES[how], ("yesno", "mcq"), strict=True) if kind in kinds]
    if not fit:
        return None
    marks = made.mark(made.items, frame["raw"].tolist(), fit[0])
    return frame.assign(correct=[m.right for m in marks], parsed=pd.Series([m.parsed for m in marks], dtype="str"))


read = {}  # rule, benchmark -> untouched answers, with noise on visual keys
for _how in ("to the letter", *HARNESSES):
    for _name in names:
        _again = [reread(_name, frame, _how) for frame in (before[_name], *noisy[_name])]
        if _again[0] is not None:
            read[_how, _name] = _again[0], _again[1:]
    _own = {name: read[_how, name] for name in names if (_how, name) in read}
    _text = reread(sums, text, _how) if sums in _own else None
    choose(
        "reading", _how, of_answers({k: b for k, (b, _) in _own.items()}, {k: r for k, (_, r) in _own.items()}, _text)
    )
for _name in names:
    _all = [before[_name], *noisy[_name]]
    _clear = np.logical_and.reduce([frame["parsed"].notna() for frame in _all])
    read["unread left out", _name] = _all[0][_clear], [frame[_clear] for frame in _all[1:]]
_own = {name: read["unread left out", name] for name in names}
choose(
    "reading", "unread left out", of_answers({k: b for k, (b, _) in _own.items()}, {k: r for k, (_, r) in _own.items()})
)

for _s in range(seeds):
    choose(
        "seeds and items",
        f"seed {seed + _s} alone",
        of_answers(before, {k: [runs[_s]] for k, runs in noisy.items()}, text),
    )
SIZES = [n for n in (10, 25, 50, 100, 200, 500) if n < n_items]
_order = whole["item"].drop_duplicates()
for _n in SIZES:
    _verdicts = of_stream(whole[whole["item"].isin(_order.head(_n))]) if _n < many else {}
    _heads = {k: frame.head(_n) for k, frame in before.items()}
    _runs = {k: [run.head(_n) for run in runs] for k, runs in noisy.items()}
    choose("seeds and items", f"{_n} items", _verdicts | of_answers(_heads, _runs, text.head(_n) if sums else None))

# %% tags=["hide-input"]
SHOWN = {"C1": 0, "C2": 0, "C3": 1, "C4": 1, "C5": 1, "C7": 0, "C9": 2}  # of several estimates the one that decides
_lines = []
for _family, _choice, _verdicts in tried:
    for _column, _verdict in _verdicts.items():
        _main = _verdict.parts[SHOWN[_verdict.claim]] if _verdict.parts else None
        _lines.append(
            {
                "family": _family,
                "choice": _choice,
                "claim": _verdict.claim,
                "benchmark": _column.partition(" ")[2] or (benchmark if _column != "C9" else sums),
                "column": _column,
                "status": _verdict.status,
                "usual": reference[_column].status,
                "flipped": _verdict.status != reference[_column].status,
                "shown": _main.name if _main else "",
                "value": _main.value.value if _main else math.nan,
                "low": _main.value.low if _main else math.nan,
                "high": _main.value.high if _main else math.nan,
                "measured": _verdict.measured,
            }
        )
grid = pd.DataFrame(_lines)
SHADE = {"holds": (0, 0.25), "does not hold": (1, 0.2), "opposite": (3, 0.45), "not measurable here": (4, 0.12)}


def _cell(ax, x, y, status, flipped):
    """A verdict: its colour and mark, in a frame where it is another than in the chapters."""
    colour, strength = SHADE[status]
    frame = {"edgecolor": "black", "lw": 1.8} if flipped else {"edgecolor": "none"}
    face = to_rgba(f"C{colour}", strength)
    ax.add_patch(Rectangle((x + 0.05, y - 0.44), 0.9, 0.88, facecolor=face, **frame))
    ax.text(x + 0.5, y, report.MARKS[status], ha="center", va="center", weight="bold" if flipped else "normal")


def _draw(grid, columns):
    """The grid: a row for each choice, with room between families; a cell has its mark and its colour."""
    choices = list(dict.fromkeys(zip(grid["family"], grid["choice"], strict=True)))
    height, places, labels = 0.0, {}, {}
    for family, choice in choices:
        if family not in labels:
            height += 0.25 if not labels else 1.3
            labels[family] = height - 0.8
        places[family, choice] = height
        height += 1
    fig, ax = plt.subplots(figsize=(5.2, 0.22 * height + 1))
    ax.set(xlim=(-6, len(columns)), ylim=(height - 0.4, -2.6))
    ax.axis("off")
    for (family, choice), y in places.items():
        ax.text(-0.1, y, choice, ha="right", va="center")
        own = grid[(grid["family"] == family) & (grid["choice"] == choice)].set_index("column")
        for x, column in enumerate(columns):
            if column not in own.index:
                ax.text(x + 0.5, y, "·", ha="center", va="center")
            else:
                _cell(ax, x, y, *own.loc[column, ["status", "flipped"]])
    for family, y in labels.items():
        if family != REFERENCE:
            ax.text(-0.1, y, family, ha="right", va="center", weight="bold")
    for x, column in enumerate(columns):
        claim, _, name = column.partition(" ")
        ax.text(x + 0.5, -1.5, claim, ha="center", va="bottom", weight="bold")
        ax.text(x + 0.5, -0.6, name.removeprefix("mini-")[:1], ha="center", va="bottom")
    return fig


columns = list(reference)
report.figure(
    _draw(grid, columns),
    "flips",
    f"Every verdict on {model} under every choice, changed one at a time. ✓ holds, ✗ does not hold, ⇄ opposite, ○ not measurable; "
    f"a black frame marks a verdict that is not what it is in the chapters (first row). C7 is of {', '.join(names)}, named by their first letters. The estimates "
    "that decide are in the CSV with their intervals: RID above the tolerance (C1), RID of FFN minus attention (C2), MixIG of attention "
    "minus FFN (C3), MixIG of Noise Δ (C4) and of Noise QKV (C5), change of accuracy (C7), that under noise on text minus that under noise "
    "on the image (C9). A dot: the choice has no part in the claim. "
    f"Metrics on {many} items in the first row and for other weights, on {few} where they were measured again; answers to {n_items} questions a benchmark, {half} in float16.",
    "A grid with a row for each choice and a column for each claim. Each cell has a mark for its verdict; cells "
    "whose verdict differs from the first row have a black frame.",
    data=grid,
)
_others = grid[grid["family"] != REFERENCE]
flips = (
    _others.groupby("family", sort=False)
    .agg(choices=("choice", "nunique"), verdicts=("flipped", "size"), flipped=("flipped", "sum"))
    .reset_index()
)
report.say("n_choices", flips["choices"].sum())
report.say("n_verdicts", len(_others))
report.say("n_flipped", _others["flipped"].sum())
report.say("n_families", len(flips))
report.say("n_few", few)
report.say("n_seeds", seeds)
report.say("n_families_flip", (flips["flipped"] > 0).sum())

# %% tags=["hide-input"]
report.table(
    _others.pivot_table(index="family", columns="claim", values="flipped", aggfunc="sum", sort=False)
    .reindex(columns=list(SHOWN))
    .reset_index(),
    "flips",
    "How many verdicts flip: families of choices against claims. A dash: the choice has no part in the claim. C7 is counted on each benchmark.",
    dict.fromkeys(SHOWN, ".0f"),
)
report.table(
    _others[_others["flipped"]].assign(flip=lambda f: f["usual"] + " → " + f["status"])[
        ["family", "choice", "column", "flip", "measured"]
    ],
    "flipped",
    "Each verdict that flips, with all its estimates and 95 % intervals.",
    look="lost-told",
)

# %% [markdown]
# {num}`n_choices:d` choices in {num}`n_families:d` families, {num}`n_verdicts:d` verdicts, of which {num}`n_flipped:d` flip
# ({numref}`tab-flips`, {numref}`tab-flipped`). What noise is, how numbers are computed and how answers are read flip nothing. Which directions count, massive
# activations and the model's weights decide C2; the first layer and the prompt decide C3; the prompt and one of three other trainings turn C5; and no choice makes C7 hold. The rest of the chapter takes most
# of the families one by one: by how much the numbers move, and why.
#
# ## Which directions count
#
# RID asks what lies outside the support of the stream, and the rank rule says how many directions the support has. With a rule that counts
# fewer than there are, what the stream already has beyond them counts as new, in every update. So all values grow,
# those of small updates too, and differences between modules are what is left over ({numref}`fig-energy`).

# %% tags=["hide-input"]
ATTN, EPS = {"module": "attn", "control": "none"}, {"control": "no_rope"}
ESTIMATES = {
    "attention − ε(RoPE)  (C1)": ("C1", 0),
    "FFN − attention  (C2)": ("C2", 0),
    "Noise QKV − attention  (C5)": ("C5", 0),
}
_lines = []
for _rule, _rows in ranked.items():
    _found = of_stream(_rows, ("C1", "C2", "C5"))
    _lines += [
        {"rule": _rule, "estimate": name, **_found[claim].parts[place].value._asdict()}
        for name, (claim, place) in ESTIMATES.items()
    ]
energy = pd.DataFrame(_lines)
_fig, _ax = plt.subplots(figsize=(5.2, 4.2))
_ax.axhline(0, color="black", lw=0.8)
for _k, (_name, _marker) in enumerate(zip(ESTIMATES, "osD", strict=True)):
    _part = energy[energy["estimate"] == _name]
    _x = np.arange(len(_part)) + (_k - 1) * 0.12
    drawing.points(_ax, _x, _part, "value", fmt=_marker, label=_name)
_ax.set(xticks=range(len(ranked)), ylabel="difference of RID")
_ax.set_xticklabels(list(ranked), rotation=35, ha="right")
drawing.legend_below(_fig, [_ax], ncols=1)
report.figure(
    _fig,
    "energy",
    f"The differences that the verdicts on C1, C2 and C5 rest on, under seven rank rules; {few} items, 95 % intervals. The rules stand in the order of how many "
    "directions they count, but for erank, which is set apart.",
    "Points with intervals of three differences of RID under seven rank rules, with a line at zero.",
    data=energy,
)
_gap = energy[energy["estimate"].str.contains("C2")].set_index("rule")
for _rule, _key in (("numerical", "numerical"), ("energy=0.99", "energy_99"), ("energy=0.9", "energy_90")):
    report.say(f"sens_gap_{_key}", *_gap.loc[_rule, ["value", "low", "high"]])
_over = stats.sides(whole, "rid", ATTN, EPS)
report.say("sens_tolerance_ratio", stats.ratio(_over.after, _over.before, _over.clusters))
report.say(
    "sens_margin_needed",
    100
    * max(
        (-cell.parts[0].value.low for cell in reference.values() if cell.claim == "C7" and cell.parts),
        default=float("nan"),
    ),
)

# %% [markdown]
# C2 is decided by the rule: the FFN's RID minus attention's is {num}`sens_gap_numerical:+.4f:ci` when every direction above rounding counts,
# {num}`sens_gap_energy_99:+.4f:ci` when those that hold ninety-nine percent of the energy do, and {num}`sens_gap_energy_90:+.4f:ci` at ninety
# percent. C1 and C5 are not: the points keep their side of zero. At ninety-five percent and at ninety all values are the same to the last digit, because both rules
# leave one direction, which every token shares; the stream has dozens above rounding. A share of energy sounds modest and throws nearly everything away.
#
# *Tolerance.* C1 compares attention with ε(RoPE), and one may want to be more generous. Attention's RID is
# {num}`sens_tolerance_ratio:.1f:ci` times as large; only a tolerance that much wider makes C1 hold. C7 has a margin of two
# points of accuracy; to call the loss harmless on every benchmark one would have to allow {num}`sens_margin_needed:.0f`.
#
# ## The unit of mixing, and the layers
#
# Bits are nats divided by a constant, and so is the normalised form as long as all prompts are equally long: a verdict by sign cannot flip, which
# the grid only confirms. The causal variant is another measure: a token is compared with those before it, which are all that a decoder can mix from.

# %% tags=["hide-input"]
for _key, _rows in (("full", ranked["numerical"]), ("causal", causal)):
    report.say(f"sens_mixig_{_key}", claims.attention_mixes(_rows).parts[1].value)
    report.say(f"sens_mixig_delta_{_key}", claims.noise_innovates(_rows, "C4").parts[1].value)
for _key, _rows in (("all", whole), ("deep", whole[whole["layer"] > 0])):
    report.say(f"sens_mixig_{_key}", claims.attention_mixes(_rows).parts[1].value)

# %% [markdown]
# On the same {num}`n_few:d` items attention's MixIG exceeds the FFN's by {num}`sens_mixig_full:+.4f:ci` nats over all tokens and by {num}`sens_mixig_causal:+.4f:ci` causally; that of
# Noise Δ is {num}`sens_mixig_delta_full:+.4f:ci` and {num}`sens_mixig_delta_causal:+.4f:ci`. Sizes change, sides do not.
#
# What does change C3 is the plainest choice of all, the mean over layers. With the first layer, where equal words still are equal rows, attention exceeds the FFN by
# {num}`sens_mixig_all:+.4f:ci`; without it by {num}`sens_mixig_deep:+.4f:ci`, the opposite verdict. A claim about a mean that one layer carries is a claim about that layer.
#
# ## Massive activations
#
# A few dimensions in which a few tokens are enormous hold most of the Frobenius norm, which RID divides by, and most of the spectrum. Large models
# have them, our mini models do not, so we look at `mini-llava-1.5-sinks`, in which they were planted ({ref}`ch-sinks`), and measure its stream
# three times: as it is, without these dimensions, without the tokens that hold a tenth of their energy there.

# %% tags=["hide-input"]
STREAMS = {"as in the chapters": ranked["numerical"], **massive}
_lines = []
for _choice, _rows in STREAMS.items():
    _true = _rows[_rows["control"] == "none"]
    _lines.append(stats.summary(_true, ["module"], ["rid", "mixig"]).assign(stream=_choice))
heavy = pd.concat(_lines)
_fig, _axes = plt.subplots(1, 2, figsize=(5.2, 3.2), sharey=True)
for _ax, _value, _label in zip(_axes, ("rid", "mixig"), ("RID", "MixIG (10⁻³ nats)"), strict=True):
    _ax.axvline(0, color="black", lw=0.8)
    for _k, (_module, _name) in enumerate((("attn", "attention"), ("ffn", "FFN"))):
        _part = heavy[(heavy["value"] == _value) & (heavy["module"] == _module)].set_index("stream").loc[list(STREAMS)]
        _y = np.arange(len(STREAMS)) + (_k - 0.5) * 0.24
        drawing.points(_ax, _y, _part, lying=True, fmt="os"[_k], label=_name)
    _ax.set(yticks=range(len(STREAMS)))
    _ax.set_xlabel(_label)
    _ax.set_yticklabels(STREAMS)
_axes[0].invert_yaxis()
_axes[1].xaxis.set_major_formatter(lambda value, _: f"{1000 * value:g}")
drawing.legend_below(_fig, _axes, ncols=2)
report.figure(
    _fig,
    "massive",
    f"RID and MixIG of both modules with and without what massive activations reach; means over layers, {few} items, 95 % intervals. The last three are of the "
    "model with planted sinks.",
    "Two panels of points with intervals, RID and MixIG, a row for each way to measure the stream.",
    data=heavy,
)
for _key, _choice in (
    ("plain", REFERENCE),
    ("planted", "sinks planted"),
    ("dims", "planted, dimensions out"),
    ("tokens", "planted, tokens out"),
):
    if _choice in STREAMS:
        report.say(f"sens_massive_{_key}", claims.ffn_innovates(STREAMS[_choice]).parts[0].value)

# %% [markdown]
# Planting turns C2 around: the FFN minus attention goes from {num}`sens_massive_plain:+.4f:ci` to {num}`sens_massive_planted:+.4f:ci`. It is the FFN
# of one early layer that writes the massive activations, a huge update in very few directions, and RID counts it as innovation. Without the tokens
# concerned the difference is {num}`sens_massive_tokens:+.4f:ci`, which is what it was before planting; without the dimensions it is
# {num}`sens_massive_dims:+.4f:ci`. A token with a massive activation is unlike itself in its other dimensions too. Whoever finds in a large model that the FFN
# innovates more should ask how much of that is one layer and a handful of tokens.
#
# ## Other weights
#
# The smaller model of {ref}`ch-scorecard` was trained three times from the same recipe. Against the default model its size changes and its weights change, together; among the
# three only the weights do.

# %% tags=["hide-input"]
for _end, _rows in weights.items():
    report.say(f"sens_weights_{_end.replace('-', '_')}", claims.ffn_innovates(_rows).parts[0].value)

# %% [markdown]
# C2 is turned by all three, the FFN minus attention being {num}`sens_weights_xs:+.4f:ci`, {num}`sens_weights_xs_s1:+.4f:ci` and
# {num}`sens_weights_xs_s2:+.4f:ci`; C5 by one of them. All other verdicts stand. {numref}`fig-trainings` has every estimate.
#
# ## Arithmetic
#
# Half precision rounds every activation; the backend decides in which order sums are made. Ours is eager attention with a place to step in;
# transformers' own two run an untouched model only, so here they give the *baseline*, and the replaced runs stay ours. That is a mistake that is easily made with
# real models: compare a run through an instrumented function with a baseline from a fused one.

# %% tags=["hide-input"]
_same = ["item", "layer", "module", "control"]
_lines, moved = [], []
for _choice, (_rows, _untouched) in computed.items():
    _pair = _rows.merge(ranked["numerical"], on=_same, suffixes=("", "_usual"))
    _pair = _pair[_pair["control"] == "none"]
    _line = {"choice": _choice} | {
        f"Δ {name}": (_pair[key] - _pair[f"{key}_usual"]).abs().max()
        for key, name in (("rid", "RID"), ("mixig", "MixIG"))
    }
    for _name, _frame in _untouched.items():
        _base = before[_name].head(len(_frame))
        _changed = (_frame["raw"].to_numpy() != _base["raw"].to_numpy()).sum()
        _change = stats.difference(_frame["correct"], _base["correct"], _base["cluster"])
        moved.append(
            {"choice": _choice, "benchmark": _name, "answers": len(_frame), "changed": _changed, **_change._asdict()}
        )
        _line[Choice.parse(_name).label] = f"{_changed} of {len(_frame)}"
    _lines.append(_line)
moved = pd.DataFrame(moved)
report.table(
    pd.DataFrame(_lines),
    "arithmetic",
    "Against float32 through our function: the largest change of RID and of MixIG in any update of any item, and how many answers of the untouched "
    "model are other words, item by item.",
    {"Δ RID": ".1e", "Δ MixIG": ".1e"},
)
report.say("sens_most_changed", 100 * (moved["changed"] / moved["answers"]).max())
report.say("sens_most_accuracy", 100 * moved["value"].abs().max())
_fused = moved[moved["choice"].isin(["eager", "sdpa"])]
report.say("sens_backend_changed", _fused["changed"].sum())

# %% [markdown]
# Verdicts do not notice, although single values of RID move by more than some differences between modules: whatever the model computes in, its activations are measured on a float64 copy ({numref}`tab-arithmetic`). Of the answers at most
# {num}`sens_most_changed:.1f` percent change, and accuracy by at most {num}`sens_most_accuracy:.1f` points; the two backends change
# {num}`sens_backend_changed:d` answers. It need not be so harmless: a user of a large model
# reports [nine points](https://github.com/huggingface/transformers/issues/35749) of a chart benchmark between a fused and the eager backend.
#
# ## How one asks
#
# The same questions in the words of two harnesses. A mini model does not know all of these words, and takes an unknown one for a
# word without meaning: for it, this is a prompt from outside of its world.

# %% tags=["hide-input"]
_lines = []
for (_profile, _name), (_plain, _noise) in asked.items():
    for _prompt, _base, _run in (("ours", before[_name], noisy[_name][0]), (_profile, _plain, _noise)):
        _accuracy, _left = (stats.mean(frame["correct"], frame["cluster"]) for frame in (_base, _run))
        _lines.append(
            {
                "benchmark": _name,
                "prompt": _prompt,
                "untouched": str(_accuracy),
                "noise on image keys": str(_left),
                "unread": _base["parsed"].isna().mean(),
            }
        )
        report.say(f"sens_asked_{Choice.parse(_name).slug}_{_prompt}", _accuracy)
    if _name == sums:
        report.say("sens_broken_change", stats.difference(_noise["correct"], _plain["correct"], _plain["cluster"]))
report.table(
    pd.DataFrame(_lines).drop_duplicates(),
    "asked",
    "Accuracy with its 95 % interval under our prompt and under a harness's, untouched and with gaussian weights on image keys (one seed); unread: the share of the untouched "
    "model's answers in which nothing can be read.",
    {"unread": ".3f"},
)

# %% [markdown]
# In words of its own the model is right in {num}`sens_asked_pope_ours:.3f:ci` of mini-pope; with one more sentence behind the same question, in
# {num}`sens_asked_pope_lmms:.3f:ci`. It now answers with a number, whatever it is asked, and so it does on mini-realworldqa
# ({num}`sens_asked_realworldqa_ours:.3f:ci`, then {num}`sens_asked_realworldqa_vlmevalkit:.3f:ci`). C7 is then not measurable, as it should be.
#
# On the scenes of mini-mathvista the same breakdown sets a trap. A number is what was asked for, so everything can be read; it is right now and then, so accuracy is
# {num}`sens_asked_mathvista_scenes_lmms:.3f:ci` and not zero; and noise cannot take away what is not there: accuracy changes by {num}`sens_broken_change:+.3f:ci`. Seen alone, that
# change says that noise does no harm. The rule asks for a baseline that beats the commonest answer, and so this too is *not measurable*. Look at the baseline before you look at its change.
#
# The metrics see the prompt too. C3 and C5 flip although the question is the same: metrics are means over tokens, and several of the tokens are now one unknown word.
#
# ## How one reads
#
# The same responses, read by other rules; nothing is measured again.

# %% tags=["hide-input"]
_lines = []
for (_how, _name), (_base, _runs) in ({("ours", name): (before[name], noisy[name]) for name in names} | read).items():
    _right = np.mean([run["correct"].to_numpy(float) for run in _runs], axis=0)
    _lines.append(
        {
            "benchmark": _name,
            "read by": _how,
            "items": len(_base),
            "untouched": str(stats.mean(_base["correct"], _base["cluster"])),
            "noise on image keys": str(stats.mean(_right, _base["cluster"])),
            "unread": float("nan")
            if _how == "to the letter"
            else np.mean([run["parsed"].isna().mean() for run in _runs]),
        }
    )
reading = pd.DataFrame(_lines).sort_values("benchmark", kind="stable")
report.table(
    reading,
    "reading",
    f"Accuracy with its 95 % interval under different rules for reading an answer, untouched and with gaussian weights on image keys (mean of {seeds} seeds); unread: the "
    "share of answers under noise in which nothing can be read. A harness's rule stands where it has one for the benchmark's kind of answer.",
    {"unread": ".3f"},
)
report.say("sens_unread", 100 * reading.loc[reading["read by"] == "ours", "unread"].max())

# %% [markdown]
# Nothing moves. This model answers in a word or two, and even under noise all but {num}`sens_unread:.2f` percent of its answers can be read. Readers differ on
# long answers, which large models give when they are disturbed; there, {numref}`tab-reading` is the table to make first.
#
# ## How many items, which seed

# %% tags=["hide-input"]
_sized = grid[grid["choice"].str.endswith(" items") | (grid["family"] == REFERENCE)]
_sized = _sized.assign(items=[int(c.split()[0]) if c.endswith(" items") else 0 for c in _sized["choice"]])
_pope = f"C7 {names[0]}"
_fig, _axes = plt.subplots(1, 2, figsize=(5.2, 3.4))
for _ax, _columns, _top in zip(_axes, (["C1", "C2"], [_pope, "C9"]), (many, n_items), strict=True):
    _ax.axhline(0, color="black", lw=0.8)
    for _k, _column in enumerate(_columns):
        _part = _sized[_sized["column"] == _column].sort_values("items")
        _part = _part.assign(items=_part["items"].replace(0, _top)).sort_values("items")
        _at = _part["items"] * (1 + 0.06 * _k)
        drawing.points(_ax, _at, _part, "value", fmt="os"[_k], ms=4, label=_column)
    _ax.set(xscale="log", xlabel="items")
    _ax.legend()
_axes[0].set_ylabel("difference of RID")
_axes[1].set_ylabel("change of accuracy")
report.figure(
    _fig,
    "items",
    "The first items of the same tables: what a smaller study would have seen, 95 % intervals. Left the differences of RID behind C1 and C2, right the changes of accuracy behind C7 and C9.",
    "Two panels of points with intervals that grow narrower as the number of items rises.",
    data=_sized,
)
_alone = grid[grid["choice"].str.endswith(" alone") & (grid["claim"] == "C7")].groupby("column")["value"]
report.say("sens_seed_spread", 100 * (_alone.max() - _alone.min()).max())
for _n in (10, 25):
    report.say(f"sens_pictures_{_n}", before[names[0]].head(_n)["cluster"].nunique())
    _gap = claims.ffn_innovates(whole[whole["item"].isin(_order.head(_n))]).parts[0].value
    report.say(f"sens_gap_{_n}", _gap)

# %% [markdown]
# With ten or twenty-five questions C7 cannot be told on mini-pope: they are about {num}`sens_pictures_10:d` and {num}`sens_pictures_25:d` pictures, and being right about so few does
# not exclude guessing. All other verdicts are there from the first ten items on, because these effects are large. One seed instead of {num}`n_seeds:d` moves the change of
# accuracy by at most {num}`sens_seed_spread:.1f` points.
#
# Beware of the intervals at the left end. C2's estimate from ten items is {num}`sens_gap_10:+.4f:ci`, from twenty-five {num}`sens_gap_25:+.4f:ci`: *narrower* from fewer. A bootstrap over
# {num}`sens_pictures_10:d` pictures can only draw them in a handful of ways, and knows nothing of the pictures that were not asked about.
#
# ## What could fool us
#
# - **One at a time.** Every row changes one choice and leaves the others. Two harmless choices may flip a verdict together; all combinations would be
#   thousands of runs.
# - **A verdict that does not flip is not right.** It is the same under the choices that we thought of.
# - **Marks are coarse.** A verdict can stay while the number doubles, and flip while it hardly moves: read the intervals in
#   {numref}`tab-flipped`.
# - **Small samples where metrics are measured again.** The rows of {numref}`fig-items` say what so few items can tell.
# - **One small model.** Which choice matters may differ in a large one; what can be taken over is the list. With other weights of nearly the same recipe
#   some verdicts are others already.

# %% [markdown]
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. A check never looks at how you do it, only at what comes out;
# it can be run as often as you like.

# %%
from lostlib import teach

# %% [markdown]
# ### Exercise 1: read the grid
#
# *Objective:* see which choices carry weight · *Minutes:* 4 · *Difficulty:* easy
#
# In which family of choices do most verdicts flip in {numref}`fig-flips`? Answer with its name.

# %% tags=["exercise"]
family = ...

# %% tags=["check"]
teach.check_reading("most-flips", family, flips)

# %% tags=["solution", "hide-cell"]
_flipped_in = flips.set_index("family")["flipped"]
family = _flipped_in.idxmax()
teach.check_reading("most-flips", family, flips)

# %% [markdown]
# ### Exercise 2: what a unit cannot do
#
# *Objective:* tell a change of unit from a change of measure · *Minutes:* 3 · *Difficulty:* easy
#
# MixIG is measured in bits where it was in nats. Which of these verdicts can flip: `"C3"` (by sign and order), `"C4"` (by RID and sign) or `"none"`?

# %% tags=["exercise"]
turned = ...

# %% tags=["check"]
teach.check_reading("turned-by-a-unit", turned)

# %% tags=["solution", "hide-cell"]
turned = "none"  # all values are divided by one positive constant
teach.check_reading("turned-by-a-unit", turned)

# %% [markdown]
# ### Exercise 3: the wrong baseline
#
# *Objective:* compare like with like · *Minutes:* 5 · *Difficulty:* medium
#
# A model answers eighty percent of a benchmark through a fused backend and seventy-seven through the function in which weights can be replaced, where nothing is replaced.
# With noise in place of its weights it answers seventy-eight percent. By how many points did the noise change the accuracy? Answer with a number, negative for a loss.

# %% tags=["exercise"]
points = ...

# %% tags=["check"]
teach.check_reading("wrong-baseline", points)

# %% tags=["solution", "hide-cell"]
points = 78 - 77  # through the same function; the fused backend has no say
teach.check_reading("wrong-baseline", points)

# %% [markdown]
# ### Exercise 4: half the width
#
# *Objective:* plan a sample · *Minutes:* 3 · *Difficulty:* medium
#
# With fifty items, the interval of a difference is twice as wide as you can accept. How many items do you need, about? Answer with a number.

# %% tags=["exercise"]
items_needed = ...

# %% tags=["check"]
teach.check_reading("half-the-width", items_needed)

# %% tags=["solution", "hide-cell"]
items_needed = 50 * 2**2  # the width falls with the root of the number
teach.check_reading("half-the-width", items_needed)

# %% [markdown]
# ### Exercise 5: all paths
#
# *Objective:* see why a grid of single changes is not the whole story · *Minutes:* 3 · *Difficulty:* medium
#
# A study makes seven choices, each of which could have been made in two ways. In how many ways could it have been done? Answer with a number, and think of the author who reports the
# best of them.

# %% tags=["exercise"]
ways = ...

# %% tags=["check"]
teach.check_reading("all-paths", ways)

# %% tags=["solution", "hide-cell"]
ways = 2**7  # each choice doubles them
teach.check_reading("all-paths", ways)

# %% tags=["hide-input"]
# what was asked for with fewer items is the same table
results.close("sensitivity", {t.key.path: t for t in sorted(obtain.read, key=lambda t: t.key.n)}.values())
