# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# (ch-beyond)=
# # Beyond the paper
#
# Three questions that the earlier chapters raise and leave open. How large is an RID, when every value depends on the
# number of tokens, the hidden size and the norm of the update? Which layers innovate *together*? And if attention on image
# tokens were redundant, what would it save?
#
# ## Your prediction
#
# Take a true attention update and hand its rows out to the wrong tokens: same vectors, same norms, each in the wrong
# place. Is its RID smaller, equal, or larger? And is the RID of all layers at once smaller or larger than the sum over
# layers?

# %% tags=["parameters"]
model = "mini-llava-1.5"
benchmark = "mini-pope"
n_items = 200
seed = 0
device = "cpu"

# %% tags=["hide-input"]
from lostlib import report

report.check_parameters(globals())
report.style()

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from lostlib import paths, results, stats
from lostlib.report import drawing

# %% [markdown]
# ## Minimal code
#
# ```python
# import lostlib
#
# m = lostlib.load_model("mini-llava-1.5")
# items = lostlib.load_benchmark("mini-pope", n=4).items
# print(lostlib.null_metrics(m, items).groupby(["module", "control"])[["rid", "mixig"]].mean())
# print(lostlib.span_metrics(m, items).groupby(["module", "first", "last"])["rid"].mean())
# ```
#
# ## What chance would do
#
# :::{margin}
# **Null model**: what a measure is on data that share some properties with the real ones and are random otherwise.
# :::
#
# A null model is an update that could have been drawn without knowing anything. Two of them have the size of the true
# update. *Gaussian* is noise with its Frobenius norm. *Shuffled* is the true update with its rows dealt out to other
# tokens of the sequence. The first asks whether RID sees more than size; the second whether it matters which
# token gets which vector. Unlike the controls of {ref}`ch-rq2`, both exist for the FFN too, which can then be
# compared with attention although their updates differ in size.

# %% tags=["hide-input"]
NAMES = {"none": "true", "shuffled": "shuffled", "gaussian": "gaussian"}
obtain = results.Reader(model=model, benchmark=benchmark, device=device)
nulls = obtain("nulls", n=min(n_items, 200), seed=seed)
means = stats.summary(nulls, ["module", "control"], ["rid", "mixig"])
_fig, _axes = plt.subplots(1, 2, figsize=(5.2, 2.8))
for _ax, _value, _label in zip(_axes, ("rid", "mixig"), ("RID", "MixIG (nats)"), strict=True):
    _rows = means[means["value"] == _value].replace({"module": {"attn": "attention", "ffn": "FFN"}})
    drawing.groups(_ax, _rows, "module", "control", NAMES)
    _ax.axhline(0, color="black", lw=0.8)
    _ax.set(title=_label)
drawing.legend_below(_fig, _axes, ncols=3)
report.figure(
    _fig,
    "nulls",
    f"True updates beside two null models of the same size, means over layers of {model}, {nulls['item'].nunique()} items, 95 % intervals.",
    "Points with intervals of RID and MixIG for the true, shuffled and gaussian update of attention and FFN.",
    data=means,
)
_rid = {
    (m, c): stats.contrast(nulls, "rid", {"module": m, "control": "none"}, {"module": m, "control": c})
    for m in ("attn", "ffn")
    for c in ("shuffled", "gaussian")
}
for (_m, _c), _estimate in _rid.items():
    report.say(f"{_m}_minus_{_c}", _estimate)
_of_items = nulls.groupby(["module", "cluster", "item", "control"])["rid"].mean().unstack("control")
for _m, _null in _rid:
    _own = _of_items.loc[_m]
    _share = stats.ratio(_own["none"], _own[_null], _own.index.get_level_values("cluster"))
    report.say(f"{_m}_of_{_null}", *(100 * end for end in _share))

# %% [markdown]
# Against noise of its own size, attention's RID is {num}`attn_of_gaussian:.0f:ci` percent and the FFN's
# {num}`ffn_of_gaussian:.0f:ci` percent. On this absolute scale both are far from chance and close to one another: what looked like a ranking of
# modules is in part a ranking of sizes. Against their own shuffled rows they stand at {num}`attn_of_shuffled:.0f:ci` and
# {num}`ffn_of_shuffled:.0f:ci` percent; the true update brings less that is new than the same vectors in the wrong places, by
# {num}`attn_minus_shuffled:.4f:ci` and {num}`ffn_minus_shuffled:.4f:ci`. An update is fitted to the token that receives it, in
# both modules.
#
# ## Which layers innovate together
#
# The paper looks at one update at a time. {numref}`fig-spans` takes the stream before layer $a$ as $X$ and adds all updates of
# the layers from $a$ to $b$.

# %% tags=["hide-input"]
spans = obtain("spans", n=min(n_items, 100))
_by_span = stats.summary(spans, ["module", "first", "last"], "rid")
_titles = {"attn": "attention", "ffn": "FFN", "both": "both"}
_fig, _axes = plt.subplots(3, 1, figsize=(5.2, 8), sharex=True)
for _ax, _module in zip(_axes, _titles, strict=True):
    _grid = _by_span[_by_span["module"] == _module].pivot(index="first", columns="last", values="mean")
    sns.heatmap(
        100 * _grid, annot=len(_grid) <= 8, fmt=".1f", cmap="cividis", vmin=0, vmax=100 * _by_span["mean"].max(), cbar=False, ax=_ax,
    )  # fmt: skip
    _ax.set(title=_titles[_module], xlabel="last layer" if _module == "both" else "", ylabel="first layer")
report.figure(
    _fig,
    "spans",
    f"RID, times 100, of all updates from a first to a last layer together, by module; {spans['item'].nunique()} items. The diagonal holds single layers; 95 % intervals are in the data.",
    "Three triangular heat maps of RID over spans of layers, for attention, the FFN and both.",
    data=_by_span,
)
_both = spans[spans["module"] == "both"]
_last, _keys = int(_both["last"].max()), ["cluster", "item"]
_whole = _both[(_both["first"] == 0) & (_both["last"] == _last)].set_index(_keys)["rid"]
_starts = sorted(_both["first"].unique())
_ends = [b - 1 for b in _starts[1:]] + [_last]
_steps = _both[
    [pair in set(zip(_starts, _ends, strict=True)) for pair in zip(_both["first"], _both["last"], strict=True)]
]
_steps = _steps.groupby(_keys)["rid"].sum()
report.say("whole", stats.mean(_whole, _whole.index.get_level_values("cluster")))
report.say("steps", stats.mean(_steps, _steps.index.get_level_values("cluster")))
_joint = stats.difference(
    _whole.to_numpy(), _steps.reindex(_whole.index).to_numpy(), _whole.index.get_level_values("cluster")
)
report.say("whole_minus_steps", _joint)
_last_only = _both[(_both["first"] == _starts[-1]) & (_both["last"] == _last)].set_index(_keys)["rid"]
_share = stats.ratio(_last_only.reindex(_whole.index), _whole, _whole.index.get_level_values("cluster"))
report.say("last_share", *(100 * end for end in _share))
_parts = spans[(spans["first"] == 0) & (spans["last"] == _last)]
report.say("all_attn_minus_ffn", stats.contrast(_parts, "rid", {"module": "attn"}, {"module": "ffn"}))

# %% [markdown]
# All layers together reach {num}`whole:.3f:ci`; their single steps add up to {num}`steps:.3f:ci`, a difference of
# {num}`whole_minus_steps:+.3f:ci`. RID is not additive, so that says nothing yet about how much layers
# repeat one another. The last step alone reaches {num}`last_share:.0f:ci` percent of what all together reach. Over all layers, the
# updates of attention alone minus those of the FFN alone give {num}`all_attn_minus_ffn:+.4f:ci`: whether one module innovates
# more is a different question for a step and for the whole depth, and a claim about one is not evidence for the other.
#
# ## What redundancy would buy
#
# :::{margin}
# **Prefill**: the one pass in which a model reads the whole prompt, before it writes word by word.
# :::
#
# Suppose content-free weights on image tokens, and a content-free mass for them (our runs kept the learned one), did no harm. Then the products of queries with visual keys need not be computed: with
# uniform weights a row's part from the image is a running mean of values. `bench/skipping.py` builds
# that, checks it against this package's own replacement, and times it beside ordinary attention on one layer of the size of
# the paper's seven-billion-parameter models. A large image is {num}`most_visual:d` tokens there.

# %% tags=["hide-input"]
cost = pd.read_csv(paths.DATA / "bench" / "skipping.csv")
_wide = cost.pivot(index="visual_tokens", columns="way", values="attention_s")
_rest = cost.groupby("visual_tokens")["rest_s"].first()
_shown = pd.DataFrame(
    {
        "visual tokens": _wide.index,
        "eager (ms)": 1e3 * _wide["eager"].to_numpy(),
        "fused (ms)": 1e3 * _wide["sdpa"].to_numpy(),
        "skipping (ms)": 1e3 * _wide["skipping"].to_numpy(),
        "static (ms)": 1e3 * _wide["static"].to_numpy(),
        "rest of the layer (ms)": 1e3 * _rest.to_numpy(),
    }
)
report.table(
    _shown,
    "skipping",
    f"Milliseconds of attention in one layer at prefill, medians of {int(cost['repeats'].iloc[0])} runs in turns; {cost['dtype'].iloc[0]}, "
    f"{int(cost['threads'].iloc[0])} CPU threads, torch {cost['torch'].iloc[0]}. Made by `bench/skipping.py`.",
    dict.fromkeys(_shown.columns[1:], ".0f"),
)
_most = int(cost["visual_tokens"].max())
_at = cost[cost["visual_tokens"] == _most].set_index("way")
report.say("most_visual", _most)
report.say("speedup_eager", _at.loc["skipping", "speedup"])
report.say("speedup_sdpa", _at.loc["sdpa", "attention_s"] / _at.loc["skipping", "attention_s"])
for _way in ("eager", "sdpa"):
    _total = _at.loc[_way, "attention_s"] + _at.loc[_way, "rest_s"]
    report.say(f"saved_{_way}", 100 * (_at.loc[_way, "attention_s"] - _at.loc["skipping", "attention_s"]) / _total)
report.say("weights_eager", _at.loc["eager", "weights_mb"])
report.say("weights_skipping", _at.loc["skipping", "weights_mb"])

# %% [markdown]
# At that size, skipping makes attention {num}`speedup_eager:.1f` times faster than eager attention and {num}`speedup_sdpa:.1f`
# times faster than the fused one. Of the whole layer it saves {num}`saved_eager:.0f` and {num}`saved_sdpa:.0f` percent: projections
# and MLP remain, and they are the larger part. Memory for the weights falls from {num}`weights_eager:.0f` to
# {num}`weights_skipping:.0f` megabytes, a gain that fused attention has without giving anything up. The case for skipping is long
# sequences and small hidden sizes, not the models of the paper.
#
# ## What could fool us
#
# - **A null model is a choice.** Gaussian noise spreads over all directions; the stream does not. Noise within the stream's own
#   covariance would be a harder rival and RID closer to it.
# - **Sums of RID have no meaning of their own.** The measure is not additive; the sum of steps is a yardstick, not a bound.
# - **One layer on one CPU.** Ratios on a GPU differ, where products are cheap and memory is slow.
# - **One small model.** What holds over six layers need not hold over thirty.

# %% [markdown]
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. A check never looks at how you do it, only at what comes out;
# it can be run as often as you like.

# %%
from lostlib import teach

# %% [markdown]
# ### Exercise 1: the harder rival
#
# *Objective:* tell null models apart · *Minutes:* 3 · *Difficulty:* easy
#
# Which null model comes closer to the RID of the true attention update in {numref}`fig-nulls`, `"gaussian"` or `"shuffled"`? Say why
# before you run the check: what does each of them keep?

# %% tags=["exercise"]
closer = ...

# %% tags=["check"]
teach.check_reading("harder-rival", closer, means)

# %% tags=["solution", "hide-cell"]
_attn = means[(means["value"] == "rid") & (means["module"] == "attn")].set_index("control")["mean"]
closer = (_attn[["gaussian", "shuffled"]] - _attn["none"]).abs().idxmin()
teach.check_reading("harder-rival", closer, means)

# %% [markdown]
# ### Exercise 2: the largest step
#
# *Objective:* read a triangle of spans · *Minutes:* 3 · *Difficulty:* easy
#
# Single layers lie on the diagonal of {numref}`fig-spans`. In which layer do both modules together bring most? Answer with its number
# as a text.

# %% tags=["exercise"]
layer = ...

# %% tags=["check"]
teach.check_reading("largest-step", layer, _by_span)

# %% tags=["solution", "hide-cell"]
_single = _by_span[(_by_span["first"] == _by_span["last"]) & (_by_span["module"] == "both")]
layer = str(_single.set_index("first")["mean"].idxmax())
teach.check_reading("largest-step", layer, _by_span)

# %% [markdown]
# ### Exercise 3: together and apart
#
# *Objective:* see what a sum of steps leaves out · *Minutes:* 4 · *Difficulty:* medium
#
# One layer writes a new direction into the stream, and the next one takes it out again. Is the RID of both together smaller, equal or
# larger than the sum of their two RIDs? Answer with `"smaller"`, `"equal"` or `"larger"`.

# %% tags=["exercise"]
together = ...

# %% tags=["check"]
teach.check_reading("together-and-apart", together)

# %% tags=["solution", "hide-cell"]
together = "smaller"  # it is nothing: the stream is what it was, and both steps were something
teach.check_reading("together-and-apart", together)

# %% [markdown]
# ### Exercise 4: what is left to compute
#
# *Objective:* count before you optimise · *Minutes:* 5 · *Difficulty:* medium
#
# A prompt has sixty-four text tokens and five hundred and seventy-six image tokens. With content-free weights on image tokens only the products of
# queries with text keys are computed. How many percent of all products of queries and keys is that? Ignore that half of them are masked.

# %% tags=["exercise"]
percent = ...

# %% tags=["check"]
teach.check_reading("products-left", percent)

# %% tags=["solution", "hide-cell"]
percent = 100 * 64 // (64 + 576)  # every query still meets every text key
teach.check_reading("products-left", percent)

# %% tags=["hide-input"]
results.close("beyond", obtain.read)
