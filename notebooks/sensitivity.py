# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# (ch-sensitivity)=
# # Which verdicts flip?
#
# The verdicts in this book stand on choices that could have been made differently: which singular values count, in which unit, with
# which numbers a computer calculates, how a question is put and an answer read, which of many possible weights a training found. The papers name few of theirs. This
# chapter makes the choices that we thought of differently, one at a time, and asks of each verdict: does it flip?
#
# :::{margin}
# **To flip**: a verdict flips when another choice gives another status, such as *opposite* for *holds*.
# :::
#
# The rules that turn measurements into verdicts stay as they are ({ref}`api-claims`); only what they are fed changes.
#
# ## Your prediction
#
# A dozen claims and many choices: how RID and MixIG are defined, what noise is, in which rows and layers it acts and how long, numerical precision, what massive activations reach, what
# counts as a sink, how the model is asked and read, how many items there are. Which choice flips most verdicts? Which flips none?

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

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lostlib import results, stats
from lostlib.benchmarks import Choice
from lostlib.claims import choices, scorecard
from lostlib.claims.study import LETTER, PROFILES, READERS, Study
from lostlib.report import drawing, glance

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
#     print(choice, claims.ffn_leads(rows).measured)
# ```
#
# ## All choices at a glance

# %% tags=["hide-input"]
obtain = results.Reader(model=model, n=n_items, device=device)
shelf = scorecard.Shelf()
study = Study(obtain, shelf.ask, model, benchmark, benchmarks.split("+"), n_items, seed, seeds)
grid = choices.grid(study)
firm = choices.flips(grid)
names, sums, few, many, half = study.names, study.sums, study.few, study.many, study.half
columns = [(c, c.split()[0], Choice.parse(c.split()[1]).label if " " in c else "") for c in grid["column"].unique()]
report.figure(
    glance.drawn(grid, columns),
    "flips",
    f"Every verdict on {model} that we measured, under each choice that we tried, changed one at a time: {glance.SAID}. "
    "A black frame marks a verdict that is not what it is in the chapters (first row); a dot: the choice has no part in the claim, or there is no table. The estimates "
    "that decide are in the CSV with their intervals. "
    f"Metrics on {many} items in the first row and for other weights, on {few} where they were measured again; answers to {n_items} questions a benchmark, {half} in float16. "
    f"C11a to C12 are of {study.sinks_in}.",
    "A grid with a row for each choice and a column for each claim. Each cell has a mark for its verdict; cells "
    "whose verdict differs from the first row have a black frame.",
    data=grid,
)
_others = grid[grid["family"] != choices.REFERENCE]
flips = (
    _others.groupby("family", sort=False)
    .agg(choices=("choice", "nunique"), verdicts=("flipped", "size"), flipped=("flipped", "sum"))
    .reset_index()
)
report.say("n_choices", flips["choices"].sum())
report.say("n_verdicts", len(_others))
report.say("n_flipped", _others["flipped"].sum())
report.say("n_few", few)
report.say("n_seeds", seeds)

# %% [markdown]
# {num}`n_choices:d` choices were tried; of the {num}`n_verdicts:d` verdicts that they give, {num}`n_flipped:d` are not those of the chapters. By claim:

# %% tags=["hide-input"]
report.tell("\n".join(f"- {choices.sentence(claim, firm, model)}" for claim in firm["claim"]))
report.tell(
    choices.holding("C7", grid, model) + " {ref}`ch-readings` has the readings of this replacement for all models."
)
report.table(
    _others.pivot_table(index="family", columns="claim", values="flipped", aggfunc="sum", sort=False)
    .reindex(columns=firm["claim"].tolist())
    .reset_index(),
    "flips",
    "How many verdicts flip: families of choices against claims. A dash: no choice of the family has a part in the claim. C7 is counted on each benchmark.",
    dict.fromkeys(firm["claim"], ".0f"),
    fold="Flips by family and claim",
)
report.table(
    _others[_others["flipped"]].assign(flip=lambda f: f["usual"] + " → " + f["status"])[
        ["family", "choice", "column", "flip", "measured"]
    ],
    "flipped",
    "Each verdict that flips, with all its estimates and 95 % intervals.",
    look="lost-sortable",
    fold=f"The {int(_others['flipped'].sum())} verdicts that flip",
)

# %% [markdown]
# The rest of the chapter takes most of the families one by one: by how much the numbers move, and why.
#
# ## Which directions count
#
# RID asks what lies outside the support of the stream, and the rank rule says how many directions the support has. With a rule that counts
# fewer than there are, what the stream already has beyond them counts as new, in every update. So all values grow,
# those of small updates too, and differences between modules are what is left over ({numref}`fig-energy`).

# %% tags=["hide-input"]
ATTN, FFN, EPS = {"module": "attn", "control": "none"}, {"module": "ffn", "control": "none"}, {"control": "no_rope"}
DELTA, QKV = {"control": "noise_delta"}, {"control": "noise_qkv"}
ESTIMATES = {
    "attention − ε(RoPE)  (C1)": (ATTN, EPS),
    "FFN − attention  (C2b)": (FFN, ATTN),
    "Noise QKV − attention  (C5)": (QKV, ATTN),
}
ranked = {rule: study.stream(rank=rule) for rule in ("numerical", *choices.RANKS)}
_lines = [
    {"rule": rule, "estimate": name, **stats.contrast(rows, "rid", *pair)._asdict()}
    for rule, rows in ranked.items()
    for name, pair in ESTIMATES.items()
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
    f"The differences of RID behind C1, C2b and C5 (of which one draw of matrices is shown), under seven rank rules; {few} items, 95 % intervals. The rules stand in the order of how many "
    "directions they count, but for erank, which is set apart.",
    "Points with intervals of three differences of RID under seven rank rules, with a line at zero.",
    data=energy,
)
_gap = energy[energy["estimate"].str.contains("C2b")].set_index("rule")
for _rule, _key in (("numerical", "numerical"), ("energy=0.99", "energy_99"), ("energy=0.9", "energy_90")):
    report.say(f"sens_gap_{_key}", *_gap.loc[_rule, ["value", "low", "high"]])
whole = study.whole
_over = stats.sides(whole, "rid", ATTN, EPS)
report.say("sens_tolerance_ratio", stats.ratio(_over.after, _over.before, _over.clusters))
_seven = grid[(grid["family"] == choices.REFERENCE) & (grid["claim"] == "C7")]
report.say("sens_margin_needed", -100 * _seven["low"].min())
report.tell(choices.moved("rank rule", grid, model))

# %% [markdown]
# The FFN's RID minus attention's is {num}`sens_gap_numerical:+.4f:ci` when every direction above rounding counts,
# {num}`sens_gap_energy_99:+.4f:ci` when those that hold ninety-nine percent of the energy do, and {num}`sens_gap_energy_90:+.4f:ci` at ninety
# percent. At ninety-five percent and at ninety all values are the same to the last digit, because both rules
# leave one direction, which every token shares; the stream has dozens above rounding. A share of energy sounds modest and throws nearly everything away.
#
# *Tolerance.* C1 compares attention with ε(RoPE), and one may want to be more generous. Attention's RID is
# {num}`sens_tolerance_ratio:.1f:ci` times as large; only a tolerance nearly that much wider makes C1 hold. C7 has a margin of two
# points of accuracy and a tenth of the room; to call the loss harmless on the benchmarks asked here one would have to allow {num}`sens_margin_needed:.0f`.
#
# ## The unit of mixing, and the layers
#
# Bits are nats divided by a constant, and so is the normalised form as long as all prompts are equally long: a verdict by sign cannot flip, which
# the grid only confirms. The causal variant is another measure: a token is compared with those before it, which are all that a decoder can mix from.

# %% tags=["hide-input"]
for _key, _rows in (("full", study.stream()), ("causal", study.stream(causal=True))):
    report.say(f"sens_mixig_{_key}", stats.contrast(_rows, "mixig", ATTN, FFN))
    report.say(
        f"sens_mixig_delta_{_key}",
        *stats.summary(_rows[_rows["control"] == "noise_delta"], ["control"], "mixig").iloc[0][["mean", "low", "high"]],
    )
for _key, _rows in (("all", whole), ("deep", whole[whole["layer"] > 0])):
    report.say(f"sens_mixig_{_key}", stats.contrast(_rows, "mixig", ATTN, FFN))
report.tell(choices.moved("layers", grid, model))

# %% [markdown]
# On the same {num}`n_few:d` items attention's MixIG exceeds the FFN's by {num}`sens_mixig_full:+.4f:ci` nats over all tokens and by {num}`sens_mixig_causal:+.4f:ci` causally; that of
# Noise Δ is {num}`sens_mixig_delta_full:+.4f:ci` and {num}`sens_mixig_delta_causal:+.4f:ci`. Sizes change, sides do not.
#
# The plainest choice is the mean over layers. With the first layer, where equal words still are equal rows, attention exceeds the FFN by
# {num}`sens_mixig_all:+.4f:ci`; without it by {num}`sens_mixig_deep:+.4f:ci`. A claim about a mean that one layer carries is a claim about that layer.
#
# ## Massive activations
#
# A few dimensions in which a few tokens are enormous hold most of the Frobenius norm, which RID divides by, and most of the spectrum. Large models
# have them, our mini models do not, so we look at `mini-llava-1.5-sinks`, in which they were planted ({ref}`ch-sinks`), and measure its stream
# three times: as it is, without these dimensions, without the tokens that hold a tenth of their energy there.

# %% tags=["hide-input"]
STREAMS = {"as in the chapters": study.stream(), "strongest dimension out": study.stream(without="dimensions")}
if study.sinks_in != model:
    STREAMS |= {choice: study.stream(of=study.sinks_in, **how) for choice, how in choices.PLANTED.items()}
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
    ("plain", choices.REFERENCE),
    ("planted", "sinks planted"),
    ("dims", "planted, dimensions out"),
    ("tokens", "planted, tokens out"),
):
    if _choice in STREAMS:
        report.say(f"sens_massive_{_key}", stats.contrast(STREAMS[_choice], "rid", FFN, ATTN))
report.tell(choices.moved("massive activations", grid, model))

# %% [markdown]
# With planting, the FFN minus attention goes from {num}`sens_massive_plain:+.4f:ci` to {num}`sens_massive_planted:+.4f:ci`. It is the FFN
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
for _end in ("xs", "xs-s1", "xs-s2") if model == "mini-llava-1.5" else ():
    _rows = study.stream(of=f"{model}-{_end}", n=many)
    report.say(f"sens_weights_{_end.replace('-', '_')}", stats.contrast(_rows, "rid", FFN, ATTN))
report.tell(choices.moved("other weights", grid, model))

# %% [markdown]
# In the three trainings the FFN's RID minus attention's is {num}`sens_weights_xs:+.4f:ci`, {num}`sens_weights_xs_s1:+.4f:ci` and
# {num}`sens_weights_xs_s2:+.4f:ci`. {numref}`fig-trainings` has their other estimates.
#
# ## Arithmetic
#
# Half precision rounds every activation; the backend decides in which order sums are made. Ours is eager attention with a place to step in;
# transformers' own two run an untouched model only, so here they give the *baseline*, and the replaced runs stay ours. That is a mistake that is easily made with
# real models: compare a run through an instrumented function with a baseline from a fused one.

# %% tags=["hide-input"]
_same = ["item", "layer", "module", "control"]
_lines, moved = [], []
before, noisy, text = study.usual
for _choice, (_of, _n) in study.computed.items():
    _rows, _untouched = study.stream(of=_of), {name: study.answers(name, of=_of, n=_n) for name in names}
    _pair = _rows.merge(study.stream(), on=_same, suffixes=("", "_usual"))
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
report.tell(choices.moved("arithmetic", grid, model))

# %% [markdown]
# Single values of RID move by more than some differences between modules, means hardly: whatever the model computes in, its activations are measured on a float64 copy ({numref}`tab-arithmetic`). Of the answers at most
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
_asked = {(profile, name): study.asked(name, profile) for profile in PROFILES for name in names}
for (_profile, _name), _other in ((pair, other) for pair, other in _asked.items() if other):
    _plain, (_noise,) = study.answers(_other), study.noisy(_other)
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
        report.say(f"sens_asked_{Choice.parse(_name).slug}_{PROFILES.get(_prompt, _prompt)}", _accuracy)
    if _name == sums:
        report.say("sens_broken_change", stats.difference(_noise["correct"], _plain["correct"], _plain["cluster"]))
report.table(
    pd.DataFrame(_lines).drop_duplicates(),
    "asked",
    "Accuracy with its 95 % interval under our prompt and under a harness's, untouched and with gaussian weights on image keys (one seed); unread: the share of the untouched "
    "model's answers in which nothing can be read.",
    {"unread": ".3f"},
)
report.tell(choices.moved("prompt", grid, model))

# %% [markdown]
# In words of its own the model is right on {num}`sens_asked_pope_ours:.0p` percent of mini-pope; with one more sentence behind the same question, on
# {num}`sens_asked_pope_lmms:.0p`. It now answers with a number, whatever it is asked, and so it does on mini-realworldqa ({numref}`tab-asked`). C7 is then not
# measurable, as it should be.
#
# On the scenes of mini-mathvista the same breakdown sets a trap. A number is what was asked for, so everything can be read; it is right now and then, so accuracy is
# {num}`sens_asked_mathvista_scenes_lmms:.0p` percent and not zero; and noise cannot take away what is not there: accuracy changes by {num}`sens_broken_change:+.1p:ci` points. Seen alone, that
# change says that noise does no harm. The rule asks for a baseline that beats the commonest answer, and so this too is *not measurable*. Look at the baseline before you look at its change.
#
# The metrics see the prompt too, although the question is the same: metrics are means over tokens, and several of the tokens are now one unknown word.
#
# ## How one reads
#
# The same responses, read by other rules; nothing is measured again.

# %% tags=["hide-input"]
_lines = []
_read = {"ours": (before, noisy)} | {how: study.read(how) for how in READERS}
_every = {(how, name): (base[name], runs[name]) for how, (base, runs) in _read.items() for name in base}
for (_how, _name), (_base, _runs) in _every.items():
    _right = np.mean([run["correct"].to_numpy(float) for run in _runs], axis=0)
    _lines.append(
        {
            "benchmark": _name,
            "read by": _how,
            "items": len(_base),
            "untouched": str(stats.mean(_base["correct"], _base["cluster"])),
            "noise on image keys": str(stats.mean(_right, _base["cluster"])),
            "unread": float("nan") if _how == LETTER else np.mean([run["parsed"].isna().mean() for run in _runs]),
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
report.tell(choices.moved("reading", grid, model))

# %% [markdown]
# This model answers in a word or two, and even under noise all but {num}`sens_unread:.2f` percent of its answers can be read. Readers differ on
# long answers, which large models give when they are disturbed; there, {numref}`tab-reading` is the table to make first.
#
# ## How many items, which seed

# %% tags=["hide-input"]
_sized = grid[grid["choice"].str.endswith(" items") | (grid["family"] == choices.REFERENCE)]
_sized = _sized.assign(items=[int(c.split()[0]) if c.endswith(" items") else 0 for c in _sized["choice"]])
_fig, _axes = plt.subplots(1, 2, figsize=(5.2, 3.4))
for _ax, _columns, _top in zip(_axes, (["C1", "C2b"], [f"C7 {name}" for name in names]), (many, n_items), strict=True):
    _ax.axhline(1 if _ax is _axes[0] else 0, color="black", lw=0.8)
    for _k, _column in enumerate(_columns):
        _part = _sized[_sized["column"] == _column].sort_values("items")
        _part = _part.assign(items=_part["items"].replace(0, _top)).sort_values("items")
        _at = _part["items"] * (1 + 0.06 * _k)
        drawing.points(_ax, _at, _part, "value", fmt=drawing.MARKERS[_k], ms=4, label=_column.replace("mini-", ""))
    _ax.set(xscale="log", xlabel="items")
    _ax.legend()
_axes[0].set_ylabel("ratio of RID")
_axes[1].set_ylabel("change of accuracy")
report.figure(
    _fig,
    "items",
    "The first items of the same tables: what a smaller study would have seen, 95 % intervals. Left the ratios of RID behind C1 (attention to ε) and C2b (FFN to attention), right the changes of accuracy behind C7.",
    "Two panels of points with intervals that grow narrower as the number of items rises.",
    data=_sized,
)
_each = [[run["correct"].mean() for run in noisy[name]] for name in names]
report.say("sens_seed_spread", 100 * max(max(found) - min(found) for found in _each))
_order = whole["item"].drop_duplicates()
for _n in (10, 25):
    report.say(f"sens_pictures_{_n}", before[names[0]].head(_n)["cluster"].nunique())
    _gap = stats.contrast(whole[whole["item"].isin(_order.head(_n))], "rid", FFN, ATTN)
    report.say(f"sens_gap_{_n}", _gap)
report.tell(choices.moved("items", grid, model))

# %% [markdown]
# Ten or twenty-five questions of mini-pope are about {num}`sens_pictures_10:d` and {num}`sens_pictures_25:d` pictures, and being right about so few does
# not exclude guessing. One seed instead of {num}`n_seeds:d` moves the change of
# accuracy by at most {num}`sens_seed_spread:.1f` points.
#
# Beware of the intervals at the left end. The FFN's RID minus attention's from ten items is {num}`sens_gap_10:+.4f:ci`, from twenty-five {num}`sens_gap_25:+.4f:ci`: *narrower* from fewer. A bootstrap over
# {num}`sens_pictures_10:d` pictures can only draw them in a handful of ways, and knows nothing of the pictures that were not asked about.
#
# ## What could fool us
#
# - **One at a time.** A row of the grid changes one choice and leaves the others. Two harmless choices may flip a verdict together; all combinations would be
#   thousands of runs.
# - **A verdict that does not flip need not be right.** It is the same under the choices that we tried. We did not vary the heads in which attention is replaced, the
#   share that VAR moves or the dimensions in which sinks are looked for, and C5 only where ten draws of matrices were measured.
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
_read = sorted([*shelf.read.values(), *obtain.read], key=lambda t: t.key.n)
results.close("sensitivity", {t.key.path: t for t in _read}.values())
