# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# (ch-rq3)=
# # Does it matter where attention looks?
#
# The last chapter asked what updates *add*. This one (RQ3) asks how they *rearrange* tokens, and then does the
# experiment behind the title: throw the learned attention weights away, put noise in their place, and look at the
# answers.
#
# ## The paper's claims
#
# {cite:t}`lost2026`: attention mixes tokens widely and the FFN does not; noise in place of attention un-mixes; and
# replacing the learned attention weights on image tokens by noise leaves most vision benchmarks as they were, or better.
#
# ## The measure, and how large it can be
#
# Let $\tilde x_t = x_t / \lVert x_t \rVert$ be the direction of token $t$. Similarity to each token of the sequence,
# shifted to be positive, makes a distribution, and its mean entropy is the token mixing entropy:
#
# $$
# \begin{aligned}
# P_{t,j} &\propto \tfrac{1}{2} (\tilde x_t^\top \tilde x_j + 1), \\
# \mathrm{TME}(X) &= \tfrac{1}{S} \textstyle\sum_t H(P_t), \\
# \mathrm{MixIG} &= \mathrm{TME}(X') \\
# &\quad - \mathrm{TME}(X) .
# \end{aligned}
# $$ (eq-mixig)
#
# :::{prf:theorem} Bound
# :label: thm-mixig
# $\ln S - \ln 2 \le \mathrm{TME}(X) \le \ln S$ in nats, so $|\mathrm{MixIG}| \le \ln 2$.
# :::
#
# :::{prf:proof}
# The upper bound is the entropy of the uniform distribution. For the lower one let $k_{tj} = (1 + \cos_{tj})/2 \in [0, 1]$
# and $d_t = \sum_j k_{tj}$. Shannon's entropy is at least Rényi's of order 2, and $k^2 \le k$, hence
# $H(P_t) \ge -\ln \sum_j (k_{tj}/d_t)^2 \ge \ln d_t$. Let $s = \sum_t \tilde x_t$ and $c_t$ the cosine between
# $\tilde x_t$ and $s$; then $d_t = (S + c_t \lVert s \rVert)/2$ is the mixture of $A = (S + \lVert s \rVert)/2$ and
# $B = (S - \lVert s \rVert)/2$ with weights $(1 \pm c_t)/2$. The logarithm is concave and $\sum_t c_t = \lVert s \rVert$,
# so $\sum_t \ln d_t \ge A \ln A + B \ln B$, and $A \ln A + B \ln B \ge S \ln (S/2)$. Two opposite clusters of equal size attain it.
# :::
#
# The published values for attention and Noise Δ start from the same stream and lie {num}`published_span:.2f` apart. By the
# theorem they cannot differ by more than $\ln 2$, {num}`ln2:.3f` nats or one bit. So no unit of this definition produces the published
# magnitudes, and we compare **sign and order** with the paper, magnitudes only among ourselves.
#
# (rq3-prediction)=
# ## Your prediction
#
# We replace the attention weights on all image tokens, in every layer and head, by noise; each row keeps its total mass on
# the image. How much of the model's accuracy survives? And how much when the weights on *text* tokens are replaced
# instead?

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

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lostlib import claims, results, stats
from lostlib.benchmarks import Choice, load_benchmark
from lostlib.claims.scorecard import DRAWN
from lostlib.report import drawing, words

# %% [markdown]
# ## Minimal code
#
# ```python
# import lostlib
#
# m = lostlib.load_model("mini-llava-1.5")
# b = lostlib.load_benchmark("mini-pope", n=60)
# print("learned ", b.score(b.items, m.answer(b.items))["accuracy"])
# with lostlib.intervene(m, "sap:keys=visual,weights=gaussian", seed=0):
#     print("gaussian", b.score(b.items, m.answer(b.items))["accuracy"])
# ```
#
# ## Mixing

# %% tags=["hide-input"]
KEYS = words.UPDATES
obtain = results.Reader(model=model, n=n_items, device=device)
rows = obtain("residual", benchmark=benchmark, n=min(n_items, 200), seed=seed)
rows = words.of_updates(rows[rows["control"] != "no_rope"])
overall = stats.summary(rows, ["kind"], ["rid", "mixig"])
mixig = overall[overall["value"] == "mixig"].set_index("kind").loc[list(KEYS)]
rid = overall[overall["value"] == "rid"].set_index("kind").loc[list(KEYS)]
_mixes = {k: report.say(f"mixig_{key}", *mixig.loc[k, ["mean", "low", "high"]]) for k, key in KEYS.items()}
report.say("ln2", math.log(2))
report.say("published_span", report.published("mixig_attn").value - report.published("mixig_noise_delta").value)

layers = stats.summary(rows, ["kind", "layer"], "mixig")
_fig, _ax = plt.subplots()
drawing.curves(_ax, layers, "layer", "kind", list(KEYS))
_ax.axhline(0, color="black", lw=0.8)
_ax.set(xlabel="layer", ylabel="MixIG (nats)")
drawing.legend_below(_fig, [_ax], ncols=2)
report.figure(
    _fig,
    "mixig",
    f"MixIG by layer in {model}, {rows['item'].nunique()} items, 95 % bands. Positive: the update spreads each token's similarity more evenly.",
    "Lines of MixIG against the layer for attention, FFN and the two noise controls.",
    data=layers,
)

# %% tags=["hide-input"]
_fig, _ax = plt.subplots(figsize=(5.2, 3.6))
for _kind, _marker in zip(KEYS, drawing.MARKERS, strict=False):
    _x, _y = rid.loc[_kind], mixig.loc[_kind]
    drawing.cross(_ax, _x, _y, fmt=_marker, ms=7, capsize=3)
    _ax.annotate(_kind, (_x["mean"], _y["mean"]), xytext=(6, 6), textcoords="offset points")
_ax.axhline(0, color="black", lw=0.8)
_ax.set(xlabel="RID (innovation)", ylabel="MixIG in nats (reconfiguration)", xlim=(0, None))
_ax.margins(0.2)
report.figure(
    _fig,
    "plane",
    "Innovation against reconfiguration, means over layers and items with 95 % intervals.",
    "Scatter of RID and MixIG for attention, FFN, Noise Δ and Noise QKV.",
    data=overall,
)
attention_mixes = claims.attention_mixes(rows)
report.say("mixig_attn_minus_ffn", attention_mixes.parts[1].value)

_signs = layers.set_index("kind")
report.say("n_layers", len(layers["layer"].unique()))
report.say("attn_unmixes_in", (_signs.loc["attention", "high"] < 0).sum())
report.say("ffn_mixes_in", (_signs.loc["FFN", "low"] > 0).sum())

# %% tags=["hide-input"]
report.verdict(*attention_mixes.of(model, benchmark).box)
report.verdict(*claims.noise_delta_innovates(rows).of(model, benchmark).box)
_drawn = obtain("residual", benchmark=benchmark, n=min(n_items, 100), seed=seed, **DRAWN)
report.verdict(*claims.noise_qkv_innovates(_drawn).of(model, benchmark).box)

# %% [markdown]
# C3 is a statement about means over layers. Layer by layer ({numref}`fig-mixig`) attention *un-mixes*, with its interval below
# zero, in {num}`attn_unmixes_in:d` of {num}`n_layers:d` layers, and the FFN mixes in {num}`ffn_mixes_in:d`. A rule that asked for the
# sign in every layer would not call this a success, and the means are small against what the bound allows.
#
# (rq3-replacing)=
# ## Replacing the weights
#
# :::{margin}
# **Mass**: the sum of a row's weights on a block of keys. Replacing weights within the block leaves it as it was.
# :::
#
# Stochastic attention probing (SAP) keeps everything of attention but the question of *where it looks*. In the rows it
# touches, the weights on a block of keys give way to predefined ones; the block keeps the mass the model gave it (but for the last two rules), causal
# zeros stay zero, rows still sum to one. The members of the family differ in what they put there:
#
# | rule | the block's weights become |
# |---|---|
# | gaussian | a softmax of independent normal scores, new for each sample, layer, head and position |
# | gaussian_abs | absolute values of normal numbers, normalised |
# | uniform | all equal |
# | permuted | the row's own learned weights, shuffled among the block's keys |
# | static | a softmax of one fixed table of scores, the same everywhere |
# | gaussian_logits | scores with the mean and spread of the learned ones, softmax over the whole row |
# | zero | nothing; the rest of the row is scaled up |
#
# `permuted` is the sharpest of them: it keeps how peaked each row is and destroys only which token gets what.
# Every run is compared, item by item, with a baseline that goes through the same attention function with nothing changed.

# %% tags=["hide-input"]
VISUAL = ["gaussian", "gaussian_abs", "uniform", "permuted", "static", "gaussian_logits", "zero"]
RUNS = {f"visual: {w}": f"sap:keys=visual,weights={w}" for w in VISUAL} | {
    "text: gaussian": "sap:keys=text,weights=gaussian",
    "all: gaussian": "sap:keys=all,weights=gaussian",
    "Noise Δ": "noise_delta",
    "Noise QKV": "noise_qkv",
    "no RoPE": "no_rope",
}
_names = benchmarks.split("+")


def _run(name, label):
    """Answers under one intervention; gaussian weights on visual keys as the mean over several seeds."""
    return obtain.over_seeds(seeds if label == "visual: gaussian" else 1, benchmark=name, intervention=RUNS[label])


baseline = {name: obtain("answers", benchmark=name) for name in _names}
_asked = {name: load_benchmark(name, n=n_items) for name in _names}
chance = {name: made.chance for name, made in _asked.items()}
measurable = {name: not claims.at_chance(f, chance[name]) for name, f in baseline.items()}
after = {(name, label): _run(name, label) for name in _names for label in RUNS}

# %% tags=["hide-input"]
_lines = []
for _name, _base in baseline.items():
    _lines.append(
        {
            "benchmark": _name,
            "run": "baseline",
            **stats.mean(_base["correct"], _base["cluster"])._asdict(),
            "change": math.nan,
            "change_low": math.nan,
            "change_high": math.nan,
            "unparsed": _base["parsed"].isna().mean(),
        }
    )
    for _label in RUNS:
        _frame = after[_name, _label]
        _change = stats.difference(_frame["correct"], _base["correct"], _base["cluster"])
        _lines.append(
            {
                "benchmark": _name,
                "run": _label,
                **stats.mean(_frame["correct"], _base["cluster"])._asdict(),
                "change": _change.value,
                "change_low": _change.low,
                "change_high": _change.high,
                "unparsed": _frame["unparsed"].mean(),
            }
        )
sap = pd.DataFrame(_lines).rename(columns={"value": "accuracy"})
_slug = {name: Choice.parse(name).slug for name in _names}
for _name in _names:
    _of = sap[sap["benchmark"] == _name].set_index("run")
    report.say(f"chance_{_slug[_name]}", chance[_name])
    report.say(f"base_{_slug[_name]}", *_of.loc["baseline", ["accuracy", "low", "high"]])
    for _label in RUNS:
        _key = _label.replace(": ", "_").replace(" ", "_").replace("Δ", "delta").lower()
        report.say(f"sap_{_slug[_name]}_{_key}", *_of.loc[_label, ["accuracy", "low", "high"]])
        report.say(f"change_{_slug[_name]}_{_key}", *_of.loc[_label, ["change", "change_low", "change_high"]])

_changes = (
    sap.dropna(subset="change")
    .drop(columns=["low", "high"])
    .rename(columns={"change_low": "low", "change_high": "high"})
)
_before = sap[sap["run"] == "baseline"].set_index("benchmark")["accuracy"]
_named = {n: f"{n}, {'baseline' if measurable[n] else 'at chance:'} {_before[n]:.2f}" for n in _names}
_fig = drawing.changes(_changes, "run", "benchmark", _named, "change", height=6, ncols=1, xlim=(-1.05, 0.15))
report.figure(
    _fig,
    "sap",
    f"Change of accuracy of {model} when attention weights are replaced, paired over {n_items} items a benchmark, 95 % "
    f"intervals; gaussian weights on visual keys are the mean over {seeds} seeds.",
    "Forest plot: one line an intervention, in it a point with its interval for the change of accuracy on each benchmark.",
    data=sap,
)

# %% tags=["hide-input"]
_wide = sap.assign(text=[str(stats.Estimate(*ends)) for ends in sap[["accuracy", "low", "high"]].to_numpy()])
_wide = _wide.pivot(index="run", columns="benchmark", values="text").loc[["baseline", *RUNS], _names]
_flat = (sap["low"] == sap["high"]).any()  # resampling pictures changes nothing
_flat_note = (
    " An interval of no width: every picture has the same share of right answers, as when a model gives one answer to "
    "everything and each picture is asked as many questions with the truth yes as with no."
    if _flat
    else ""
)
_wide["unread"] = sap.groupby("run")["unparsed"].max()
report.table(
    _wide.reset_index(),
    "sap",
    f"Accuracy under each replacement with its 95 % interval, {n_items} items a benchmark; unread: the share of answers in "
    "which nothing can be read, in the benchmark where it is largest. The changes are in the data of {numref}`fig-sap`."
    + _flat_note,
    {"unread": ".3f"},
)

# %% [markdown]
# Try it: {ref}`in the page where the model runs <playground>` you choose the question and the replacement, and see *which* wrong
# answers the model falls back on.
#
# On mini-pope the model falls from {num}`base_pope:.3f:ci` to {num}`sap_pope_visual_gaussian:.3f:ci` when the weights on image
# tokens are gaussian noise, where guessing gives one half; on the scenes of mini-mathvista from {num}`base_mathvista_scenes:.3f:ci` to
# {num}`sap_mathvista_scenes_visual_gaussian:.3f:ci`, although a third of their questions do not need the picture (the other half of that benchmark is charts, which this model never saw). Shuffling the learned
# weights among the image tokens gives {num}`sap_pope_visual_permuted:.3f:ci` and {num}`sap_mathvista_scenes_visual_permuted:.3f:ci`. **When all rows and all
# layers of this model are replaced at once, it matters where attention looks.** That differs from the paper's finding on large models; other readings of the
# replacement cost less, and some of them nothing that we could measure ({ref}`ch-readings`). One explanation: each
# image patch knows little beyond what it shows, so that the answer can only be fetched from the right place. Because both sides can be trained in this
# world, {ref}`ch-regimes` could ask whether redundancy comes with a vision tower that writes the whole scene into every token. That alone turns
# out not to be enough.
#
# On mini-realworldqa, which asks how two objects lie to one another, it falls from {num}`base_realworldqa:.3f:ci` to
# {num}`sap_realworldqa_visual_gaussian:.3f:ci`, where guessing earns {num}`chance_realworldqa:.3f`. A benchmark whose baseline is
# not above chance would be called *not measurable* here, which is not the same as *unaffected*.
#
# ## Which questions
#
# {numref}`fig-groups` breaks the same runs down. Sums are asked with a picture that does not help, so they tell whether a
# replacement merely breaks the model.

# %% tags=["hide-input"]
_cells = []
for _name in _names:
    for _label, _frame in [("baseline", baseline[_name]), *((label, after[_name, label]) for label in RUNS)]:
        for _group, _part in _frame.groupby("group"):
            _mean = stats.mean(_part["correct"], _part["cluster"])._asdict()
            _cells.append({"question": f"{Choice.parse(_name).label}: {_group}", "run": _label, **_mean})
groups = pd.DataFrame(_cells).rename(columns={"value": "accuracy"})
_wide = groups.pivot(index="question", columns="run", values="accuracy")[["baseline", *RUNS]]
_wide = _wide.loc[list(dict.fromkeys(groups["question"]))]
_fig, _ax = plt.subplots(figsize=(5.2, 6))
sns.heatmap(100 * _wide.T, annot=True, fmt=".0f", cmap="cividis", vmin=0, vmax=100, cbar=False, ax=_ax)
_ax.set(xlabel="", ylabel="")
plt.setp(_ax.get_xticklabels(), rotation=90)
report.figure(
    _fig,
    "groups",
    "Accuracy in percent by kind of question (columns) and intervention (rows). The 95 % intervals are in the data; the ends of the "
    f"widest lie {50 * (groups['high'] - groups['low']).max():.0f} points from its middle.",
    "Heat map of accuracy with the value in each cell.",
    data=groups,
)

# %% tags=["hide-input"]
_chances = {name: baseline[name]["item"].map(made.chances) for name, made in _asked.items()}


def _drawn_runs(name, label, n=n_items):
    """One run for each of several seeds."""
    return [obtain("answers", benchmark=name, intervention=RUNS[label], seed=s, n=n) for s in range(seeds)]


report.verdict(
    *claims.combined([
        claims.noise_is_harmless(baseline[n], _drawn_runs(n, "visual: gaussian"), _chances[n], n) for n in _names
    ]).of(model, "+".join(_names)).box
)  # fmt: skip
_asks_sums = next((name for name in _names if (baseline[name]["group"] == "arithmetic").any()), None)
if _asks_sums:
    _base = baseline[_asks_sums]
    _sums = _base[_base["group"] == "arithmetic"]
    for _key in ("text", "visual"):
        report.say(f"sums_{_key}_change", claims.change("sums", [after[_asks_sums, f"{_key}: gaussian"]], _sums).value)
    report.say("sums_base", stats.mean(_sums["correct"]))
    _text = _drawn_runs(_asks_sums, "text: gaussian", min(n_items, 300))
    _sums_need_text = claims.text_is_needed(_base, _text, _chances[_asks_sums], _asks_sums)
    report.verdict(*_sums_need_text.of(model, _asks_sums).box)

# %% [markdown]
# Sums are asked with numbers that training never put together, so their baseline is {num}`sums_base:.3f:ci`. They change by
# {num}`sums_visual_change:+.3f:ci` under noise on the image and by {num}`sums_text_change:+.3f:ci` under noise on the text:
# noise on text breaks them, as it breaks the questions about the picture ({numref}`fig-groups`), so what we measured is not special to
# sums. That sums suffer at all from noise on a picture they do not need is a warning
# for reading the other panels. Noise does not only withhold what attention would have fetched, it may also bring in what
# attention had kept out.
#
# ## Does attention look where the answer is?
#
# In large models nobody knows which image tokens *should* be attended. Here we do. {numref}`fig-looks` shows the simplest
# reading, the last token averaged over heads. On mini-pope it finds what it is asked for: at best
# {num}`looks_pope:.3f:ci` of its attention lies on the patches that decide the answer, where an even spread over the image would
# give them {num}`even_pope:.3f:ci`. On mini-realworldqa it is {num}`looks_realworldqa:.3f:ci` against {num}`even_realworldqa:.3f:ci`, in a
# model that answers these questions and that shuffling the weights of all rows ruins. So the picture explains the one and not the
# other. Does it explain the one?

# %% tags=["hide-input"]
_looks = []
for _name in _names:
    _found = obtain("attention", benchmark=_name, n=min(n_items, 200))
    _looks.append(stats.summary(_found, ["layer"], ["relevant", "expected", "visual"]).assign(benchmark=_name))
    _means = _looks[-1].set_index(["value", "layer"])
    if _means.loc["relevant", "mean"].notna().any():  # only a made world knows which patches decide
        _best = _means.loc["relevant", "mean"].idxmax()
        report.say(f"looks_{_slug[_name]}", *_means.loc[("relevant", _best), ["mean", "low", "high"]])
        report.say(f"even_{_slug[_name]}", *_means.loc[("expected", _best), ["mean", "low", "high"]])
looks = pd.concat(_looks)
LOOKS = {"relevant": "on the relevant patches", "expected": "if spread evenly", "visual": "on all patches"}
_fig, _axes = plt.subplots(1, len(_names), figsize=(5.2, 3.2), sharey=True, squeeze=False)
for _ax, _name in zip(_axes[0], _names, strict=True):
    drawing.curves(_ax, looks[looks["benchmark"] == _name], "layer", "value", LOOKS)
    _ax.set(title=Choice.parse(_name).label, xlabel="layer", ylim=(0, None))
_axes[0][0].set_ylabel("attention mass")
drawing.legend_below(_fig, _axes[0], ncols=2)
report.figure(
    _fig,
    "looks",
    "Attention of the last prompt token, from which the answer is read, averaged over heads: mass on the image patches that "
    "decide the answer, what these would get if the image's mass were spread evenly, and mass on the whole image; 95 % bands.",
    "Three lines of attention mass against the layer, one panel a benchmark.",
    data=looks,
)

# %% [markdown]
# The averages hide heads that do different things. {ref}`The model in the page <playground>` shows each layer and head, and what a
# replacement leaves: the mass on the image stays, where it lies does not. The later layers also change because what they read has
# changed.

# %% [markdown]
# ## Where the looking is done
#
# A replacement can be confined to some rows and some layers, and then it says where a choice is needed. We shuffle the weights
# on image tokens again: in the row of the last token only; in one layer only; in a layer and all above it.

# %% tags=["hide-input"]
_n_layers = int(rows["layer"].max()) + 1
_bands = [(int(part[0]), int(part[-1])) for part in np.array_split(np.arange(_n_layers), min(6, _n_layers))]
_span = lambda a, b: f"{a}-{b}" if b > a + 1 else "+".join(map(str, range(a, b + 1)))  # noqa: E731
_few = min(n_items, 500)
ROWS = {"last": "the last token", "text": "all text after the image", "visual": "the image's own"}
_lines, _confined = [], []
for _name in _names:
    _base = baseline[_name].head(_few)

    def _change(where, _name=_name, _base=_base):
        _found = obtain("answers", benchmark=_name, n=_few, intervention=f"sap:keys=visual,{where}")
        return stats.difference(_found["correct"], _base["correct"], _base["cluster"])

    for _rows in ROWS:
        _in_rows = report.say(f"where_{_slug[_name]}_{_rows}", _change(f"queries={_rows},weights=permuted"))
        _confined.append({"rows": ROWS[_rows], "benchmark": _name, "change": f"{_in_rows:+.3f}"})
    for _i, (_first, _last) in enumerate(_bands):
        _upper = _change(f"weights=permuted,layers={_span(_first, _n_layers - 1)}") if _first else None
        _own = _change(f"weights=permuted,layers={_span(_first, _last)}")
        _all = stats.difference(
            after[_name, "visual: permuted"]["correct"].head(_few), _base["correct"], _base["cluster"]
        )
        for _kind, _found in (("this layer alone", _own), ("this layer and all above", _upper or _all)):
            _lines.append({"benchmark": _name, "layer": _span(_first, _last), "kind": _kind, **_found._asdict()})
        if _i == len(_bands) // 2:
            report.say(f"where_{_slug[_name]}_upper", _upper or _all)
where = pd.DataFrame(_lines)
report.say("upper_layer", _bands[len(_bands) // 2][0])
_fig, _axes = plt.subplots(1, len(_names), figsize=(5.2, 3.2), sharey=True, squeeze=False)
for _ax, _name in zip(_axes[0], _names, strict=True):
    drawing.curves(
        _ax,
        where[where["benchmark"] == _name],
        "layer",
        "kind",
        ["this layer alone", "this layer and all above"],
        "value",
    )
    _ax.axhline(0, color="black", lw=0.8)
    _ax.set(title=Choice.parse(_name).label, xlabel="layer")
_axes[0][0].set_ylabel("change of accuracy")
drawing.legend_below(_fig, _axes[0], ncols=2)
report.figure(
    _fig,
    "where",
    f"Change of accuracy when the weights on image tokens are shuffled in one layer, or in it and all above; {_few} items a "
    "benchmark, paired, 95 % bands.",
    "Two lines of change of accuracy against the layer, one panel a benchmark.",
    data=where,
)

# %% tags=["hide-input"]
report.table(
    pd.DataFrame(_confined)
    .pivot(index="rows", columns="benchmark", values="change")
    .loc[list(ROWS.values()), _names]
    .reset_index(),
    "rows",
    f"Change of accuracy when the weights on image tokens are shuffled in some rows only, all layers; {_few} items a benchmark, paired, "
    "95 % intervals.",
)

# %% [markdown]
# {numref}`tab-rows`: in the last token's row alone, shuffling changes accuracy on mini-pope by {num}`where_pope_last:+.3f:ci` and on
# mini-realworldqa by {num}`where_realworldqa_last:+.3f:ci`; in the rows of all text tokens by {num}`where_pope_text:+.3f:ci` and
# {num}`where_realworldqa_text:+.3f:ci`. The token from which the answer is read looks at the right patches, and it need not: what it
# needs was fetched earlier in the question and reaches it through text. {numref}`fig-looks` shows attention at work
# where no work is done. On mini-mathvista's scenes, which are counted, the last token's own look is worth
# {num}`where_mathvista_scenes_last:+.3f:ci`.
#
# And from layer {num}`upper_layer:d` on, all weights on the image can be shuffled together at a cost of
# {num}`where_pope_upper:+.3f:ci`, {num}`where_realworldqa_upper:+.3f:ci` and {num}`where_mathvista_scenes_upper:+.3f:ci` on the three
# benchmarks. On the first two we find in these layers what the paper reports: it hardly matters any more where attention looks in the image. Counting goes
# on. A replacement in all layers also hits those below, which still look.
#
# (rq3-fool)=
# ## What could fool us
#
# - **Noise is off the training distribution.** A model may fail because rows look unlike anything it has seen, not because
#   the information is missing. `permuted` and `uniform` guard against this reading, each from its side.
# - **Intervals without width.** Where no answer changes at all, resampling shows no uncertainty. Five hundred questions of mini-pope are
#   eighty-four pictures, and leave room for changes on about one in thirty.
# - **Every layer at once.** Replacing all layers asks whether *any* learned choice is needed; {numref}`fig-where` asks where.
# - **We told it to look early.** Training asked the middle of the decoder what each reference means ({ref}`deviations`). That
#   the looking ends there may be our doing; a model trained without this help would have to show it again.
# - **Answers must still be readable.** What cannot be parsed counts as wrong; {numref}`tab-sap` shows its share.
# - **A world that demands looking.** Questions with an answer in the language prior would survive any noise on the image.
# - **Thresholds.** The verdicts above are rules in code that you can read and change; the intervals are what to look at.

# %% [markdown]
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. A check never looks at how you do it, only at what comes out;
# it can be run as often as you like.

# %%
from lostlib import teach

# %% [markdown]
# ### Exercise 1: read the figure
#
# *Objective:* find where a choice stops to matter · *Minutes:* 4 · *Difficulty:* easy
#
# In the first panel of {numref}`fig-where` follow the line “this layer and all above”. From which layer on does shuffling cost
# nothing that its interval would show? Answer with the label on the axis as text, for example `"2"`, or `"none"`.

# %% tags=["exercise"]
free_from = ...

# %% tags=["check"]
teach.check_reading("no-cost-from-layer", free_from, where[where["benchmark"] == _names[0]])

# %% tags=["solution", "hide-cell"]
_upper = where[(where["benchmark"] == _names[0]) & (where["kind"] == "this layer and all above")]
_free = _upper[_upper["high"] >= 0]["layer"]  # whose interval reaches zero
free_from = str(_free.iloc[0]) if len(_free) else "none"
teach.check_reading("no-cost-from-layer", free_from, where[where["benchmark"] == _names[0]])

# %% [markdown]
# ### Exercise 2: write token mixing entropy
#
# *Objective:* turn a formula into code and know its bounds · *Minutes:* 10 · *Difficulty:* medium
#
# Write the TME of {eq}`eq-mixig` in nats for one matrix of shape $(S, H)$, the token's similarity to itself included. Predict first:
# which four tokens have the largest TME there can be, and which the smallest?


# %% tags=["exercise"]
def my_tme(X):
    """Token mixing entropy in nats of a numpy array X of shape (S, H)."""
    ...


# %% tags=["check"]
teach.check_token_mixing_entropy(my_tme)


# %% tags=["solution", "hide-cell"]
def my_tme(X):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    similar = np.clip((unit @ unit.T + 1) / 2, 0, 1)
    P = similar / similar.sum(axis=1, keepdims=True)
    logs = np.log(np.where(P > 0, P, 1))  # 0 ln 0 is 0
    return -np.mean(np.sum(P * logs, axis=1))


teach.check_token_mixing_entropy(my_tme)

# %% [markdown]
# (rq3-exercise-3)=
# ### Exercise 3: shuffle a part and predict
#
# *Objective:* use an intervention to say where a choice is needed · *Minutes:* 6 · *Difficulty:* medium
#
# The weights on image tokens are shuffled in a part of the mini model, and it answers forty questions of mini-pope. Does its
# accuracy fall, stay or rise?
#
# - `lower`: in layers 0 to 2, `sap:keys=visual,weights=permuted,layers=0-2`
# - `upper`: in layers 3 to 5, `sap:keys=visual,weights=permuted,layers=3-5`
# - `last`: in the row of the last token only, `sap:keys=visual,queries=last,weights=permuted`
# - `text`: in the rows of text tokens, `sap:keys=visual,queries=text,weights=permuted`
#
# Answer with `"falls"`, `"stays"` or `"rises"`; it stays when the interval of the change holds zero.

# %% tags=["exercise"]
predictions = {"lower": ..., "upper": ..., "last": ..., "text": ...}

# %% tags=["check"]
teach.check_predictions("layers", predictions)

# %% tags=["solution", "hide-cell"]
predictions = {"lower": "falls", "upper": "stays", "last": "stays", "text": "falls"}
# What the question needs is fetched early, by the question's own tokens,
# and handed on in text.
teach.check_predictions("layers", predictions)

# %% [markdown]
# (rq3-exercise-4)=
# ### Exercise 4: write your own attention
#
# *Objective:* replace attention and keep everything else · *Minutes:* 15 · *Difficulty:* hard
#
# Put something of your own in the place of attention on the image: the nearest patch, the brightest weight only, every second
# token, noise. `weights` $(heads, Q, K)$ is what the model computed, `block` $(Q, K)$ marks the image tokens that each row sees.
# Outside the block nothing may change and rows must still sum to one. When the rules hold, the mini model answers with it, in all
# layers. Predict first: can you find a rule without learning that costs less than noise does?


# %% tags=["exercise"]
def my_attention(weights, block):
    """New weights (heads, Q, K) in place of `weights`; both are numpy arrays."""
    ...


# %% tags=["check"]
teach.try_attention_replacement(my_attention)


# %% tags=["solution", "hide-cell"]
def my_attention(weights, block):
    # a row's mass on the image goes to the image token with the largest weight
    inside = np.where(block, weights, -1)
    largest = (inside == inside.max(axis=-1, keepdims=True)) & block
    mass = np.where(block, weights, 0).sum(axis=-1, keepdims=True)
    return np.where(block, mass * largest / np.maximum(largest.sum(axis=-1, keepdims=True), 1), weights)


teach.try_attention_replacement(my_attention)

# %% [markdown]
# (rq3-exercise-5)=
# ### Exercise 5: what follows?
#
# *Objective:* say no more than a run shows · *Minutes:* 5 · *Difficulty:* medium
#
# Shuffling the weights on image tokens from some layer on costs nothing. What follows?
#
# - `"a"`: attention in these layers is useless
# - `"b"`: which image token gets which weight is not needed in these layers, everything else being as learned
# - `"c"`: the model does not use the image
#
# And: accuracy falls under gaussian weights. Someone says that the rows merely look unlike anything the model has seen. Which
# further run answers this: `"more items"`, `"another seed"` or `"permuted"`?

# %% tags=["exercise"]
follows = ...
run = ...

# %% tags=["check"]
teach.check_reading("what-follows", follows)

# %% tags=["check"]
teach.check_reading("which-run-tells", run)

# %% tags=["solution", "hide-cell"]
follows = "b"
teach.check_reading("what-follows", follows)

# %% tags=["solution", "hide-cell"]
run = "permuted"
teach.check_reading("which-run-tells", run)

# %% tags=["hide-input"]
results.close("rq3", obtain.read)
