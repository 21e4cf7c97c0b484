# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   lost: {data: [data/results/*/smollm2-135m, data/results/residual/mini-llava-1.5/mini-pope, data/results/residual/mini-llava-1.5-sinks, data/models/mini-llava-1.5/model.safetensors, data/models/mini-llava-1.5-sinks/model.safetensors]}
# ---

# %% [markdown]
# (ch-language-model)=
# # A real language model
#
# The other models of this book were trained from nothing on coloured shapes. This chapter opens one that others pretrained
# on real text, SmolLM2 with 135 million parameters {cite}`allal2025smollm2`, and asks it what the paper asks.

# %% tags=["parameters"]
model = "smollm2-135m"
benchmark = "texts"
n_items = 200
seed = 0
device = "cpu"
sweeps = True

# %% tags=["hide-input"]
from lostlib import report

report.check_parameters(globals(), sweeps=bool)
report.style()

import numpy as np
import pandas as pd

from lostlib import results, stats
from lostlib.report import pretrained, words
from lostlib.report.numbers import tell

obtain = results.Reader(model=model, benchmark=benchmark, n=n_items, seed=seed, device=device)


def measured(n=n_items, **asked):
    """Residual metrics of the first n texts, each update by its name."""
    return words.of_updates(obtain("residual", n=min(n_items, n), **asked))


whole = measured()
without = measured(without="first", controls=["noise_delta", "no_rope"])
choosing, reported = pretrained.halves(whole)
named = pretrained.leading(choosing)
panels = {"all tokens": whole, "without the first token": without}
report.figure(
    pretrained.layers(panels, named),
    "lm-layers",
    f"The FFN leads in a few layers, and hardly where the first token is left out. RID by layer in {model}, mean over "
    f"{whole['item'].nunique()} texts with 95 % bands; grey: up to the tolerance ε(RoPE).",
    "Two panels over the layers. Above, the FFN's RID has a high peak in one middle layer and a lower one in the last layers; attention stays low. "
    "Below, without the first token, the middle peak is gone.",
    data=pd.concat(
        stats.summary(rows, ["kind", "layer"], "rid").assign(measured=name) for name, rows in panels.items()
    ),
)
tell(pretrained.answer(whole, without, named, model))

# %% [markdown]
# {term}`RID` measures how much an update of the {term}`residual stream` adds that was not there, {eq}`eq-rid`; the
# {term}`FFN` and attention are the two updates of a layer. This is one small model, and it sees no pictures: what it
# says about the paper's fifteen {ref}`is conjecture <lm-conjecture>`.
#
# ## The question
#
# In the paper's models the FFN's RID is several times attention's, and attention's is no larger than what position encoding
# alone causes. Of our small models most contradict the first ({ref}`ch-rq2`). A sceptic may answer that shapes on a dark ground
# do not make a language model. So this chapter asks for a decoder that has read real text:
#
# 1. Does its FFN lead, and in which layers?
# 2. What do these layers do?
# 3. Does it matter where its attention looks?
#
# ## What was measured
#
# :::{margin}
# **Decoder**: the part of a vision-language model that is a language model. Image tokens enter it like words.
# :::
#
# SmolLM2-135M-Instruct has {num}`lm_layers:d` layers and {num}`lm_hidden:d` hidden dimensions. It reads texts that were written for this book:
# stories, questions, lists, dialogue, code, numbers and descriptions of pictures, of {num}`lm_shortest:d` tokens or more. The code, the rank
# rule and the {term}`controls <control>` are those of {ref}`ch-rq2`. There are no image tokens, so the claims about them
# cannot be told here.
#
# ```python
# import lostlib
#
# m = lostlib.load_model("smollm2-135m")  # brought by `lostlib fetch smollm2-135m`
# b = lostlib.load_benchmark("texts", n=1)
# rows = lostlib.residual_metrics(m, b.items, controls=("no_rope",), without="first")
# print(rows.groupby(["module", "control"])["rid"].mean())
# ```
#
# The chapter reads tables of the same rows. This is all it takes to find the layers in which the FFN leads:

# %%
rows = obtain("residual")  # one row a text, layer, module and control
true = rows[rows["control"] == "none"]
by_layer = true.pivot_table(values="rid", index="layer", columns="module")
lead = (by_layer["ffn"] - by_layer["attn"]).sort_values(ascending=False)
print(lead.head(3).round(2).to_string())
print(f"{lead.head(3).sum() / lead.sum():.0%} of the lead, {(lead > 0).sum()} of {len(lead)} layers")

# %% tags=["hide-input"]
from lostlib.checkpoints import ModelChoice

_peak = whole[(whole["kind"] == "FFN") & (whole["layer"] == named[0])]
_card = ModelChoice.parse(model).card
report.say("lm_layers", whole["layer"].nunique())
report.say("lm_hidden", _card.hidden if _card else float("nan"))
report.say("lm_shortest", int(whole["tokens"].min()))
report.say("lm_ratio", pretrained.ratio(whole))
report.say("lm_ratio_first", pretrained.ratio(without))
report.say("lm_attn_tolerance", pretrained.ratio(whole, pretrained.ATTENTION, pretrained.TOLERANCE))
report.say("lm_ffn_tolerance", pretrained.ratio(whole, pretrained.FFN, pretrained.TOLERANCE))
report.say("lm_peak", named[0])
report.say("lm_peak_delta_s", stats.ratio(_peak["delta_s"], _peak["rid"], _peak["cluster"]))
report.say("lm_rank_before", stats.mean(_peak["erank_before"], _peak["cluster"]))
report.say("lm_rank_after", stats.mean(_peak["erank"], _peak["cluster"]))
ranks = _peak[["erank_before", "erank"]].mean().rename({"erank_before": "before", "erank": "after"})
_noise = whole[whole["kind"] == "Noise Δ"]
report.say("lm_noise_mixig", stats.mean(_noise["mixig"], _noise["cluster"]))
report.say("lm_attn_mixig", stats.mean(*(whole.loc[whole["kind"] == "attention", c] for c in ("mixig", "cluster"))))
_keys = {kind: f"rid_{key}" for kind, key in words.UPDATES.items()} | {"ε(RoPE)": "eps_rope"}
printed = {kind: report.published(key).value for kind, key in _keys.items()}
_fig, _drawn = pretrained.updates(whole, printed, measured(n=40, controls=["noise_qkv"], draws=10) if sweeps else None)
report.figure(
    _fig,
    "lm-updates",
    f"Noise in attention's place innovates more than attention, as published. RID of the modules and of the controls in {model}, 95 % intervals"
    + (", that of Noise QKV over ten sets of matrices." if sweeps else "."),
    "Points with intervals for the mean RID of attention, FFN, Noise Δ, Noise QKV and the tolerance; diamonds mark the published values.",
    data=_drawn,
    fold="Beside the controls",
)  # fmt: skip

# %% [markdown]
# The verdicts by the book's rules stand in the {ref}`scorecard <ch-scorecard>`. In short: the FFN is {num}`lm_ffn_tolerance:.1f` times
# the tolerance, which agrees with the paper; attention is {num}`lm_attn_tolerance:.1f` times the tolerance, which does not.
#
# {term}`Noise Δ` innovates more than attention ({numref}`fig-lm-updates`), as the paper says. But it does not un-mix the tokens: its
# {term}`MixIG` is {num}`lm_noise_mixig:+.4f` nats, attention's {num}`lm_attn_mixig:+.4f`.

# %% [markdown]
# ### Exercise 1: what does the largest innovation do?
#
# *Objective:* ask for the sign that a measure hides · *Minutes:* 2 · *Difficulty:* easy
#
# RID adds three parts, none of which can be negative. One of them is the change of the {term}`effective rank`. Commit before you read on: in the layer
# with the highest peak, does the effective rank of the stream rise or fall? Answer with `"rises"` or `"falls"`.

# %%
import lostlib
from lostlib import teach

# %% tags=["exercise"]
what_it_does = ...

# %% tags=["check"]
teach.check_reading("what-innovation-did", what_it_does, ranks)

# %% tags=["solution", "hide-cell"]
what_it_does = "rises" if ranks["after"] > ranks["before"] else "falls"
teach.check_reading("what-innovation-did", what_it_does, ranks)

# %% [markdown]
# ## One layer writes, two erase
#
# The highest peak is layer {num}`lm_peak:d`. Its FFN takes the stream from {num}`lm_rank_before:.0f` effective directions to
# {num}`lm_rank_after:.0f` ({numref}`fig-lm-complexity`).

# %% tags=["hide-input"]
_fig, _drawn = pretrained.complexity(panels)
report.figure(
    _fig,
    "lm-complexity",
    "One FFN makes the stream look simple, and the last ones undo it; without the first token nothing of this is seen. "
    f"{{term}}`Effective rank <effective rank>` of the stream that enters each layer of {model}.",
    "Lines of effective rank over the layers: with all tokens it collapses in a middle layer and recovers at the end, without the first token it stays.",
    data=_drawn,
)  # fmt: skip

# %% [markdown]
# So the largest innovation of this model is a loss. RID counts by how much the effective rank changes, up or down, and that
# part makes {num}`lm_peak_delta_s:.0%` of the peak. What happened is that one entry of the first token outgrew the whole
# matrix: a {term}`massive activation` {cite}`sun2024massive`. From then on one token holds nearly all of the
# matrix's energy. Every later update is measured beside it, which is why both modules look idle until the last two layers
# take it back.

# %% tags=["hide-input"]
written = obtain("writing", n=min(n_items, 40))
wrote = pretrained.writers(written, named[0])
_entry = wrote.iloc[0]
report.say("lm_dimension", _entry["dimension"])
report.say("lm_entry", _entry["after"])
report.say("lm_two_neurons", wrote["mean"].iloc[:2].sum() / wrote["mean"].sum())
report.figure(
    pretrained.neurons(wrote),
    "lm-neurons",
    f"Two neurons write the massive activation. What each adds to dimension {_entry['dimension']} of token {_entry['token']} in "
    f"layer {named[0]}, mean over {written['item'].nunique()} texts; the last bar is all others together.",
    "Bars of the contribution of single FFN neurons to the massive entry, the largest first, and of all others.",
    data=wrote,
)

# %% [markdown]
# The entry is dimension {num}`lm_dimension:d` of the first token. It reaches {num}`lm_entry:,.0f` on average, and two neurons alone write
# {num}`lm_two_neurons:.1%` of it ({numref}`fig-lm-neurons`). A first token sees nothing but itself. So this is not an answer to the text: it happened
# in each text that we tried.

# %% [markdown]
# ### Exercise 2: find the massive dimension
#
# *Objective:* turn a definition into a test that fits any model · *Minutes:* 8 · *Difficulty:* medium
#
# Write a function that lists the massive activations of a stream `X` of shape $(S, H)$ as pairs (token, dimension): entries whose
# magnitude exceeds one hundred and is at least a thousand times the median magnitude of the whole matrix. With the decoder at hand, try it on
# the stream that leaves the layer of the peak.


# %% tags=["exercise"]
def massive(X):
    """Pairs (token, dimension) of the massive activations of X, a numpy array (S, H)."""
    ...


# %% tags=["check"]
teach.check_massive_activations(massive)


# %% tags=["solution", "hide-cell"]
def massive(X):
    size = np.abs(X)
    places = np.argwhere((size > 100) & (size >= 1000 * np.median(size)))
    return [(int(token), int(dimension)) for token, dimension in places]


teach.check_massive_activations(massive)

# %% [markdown]
# ## Take the token out
#
# The model runs as ever; only the measurement leaves the first token's row out of every matrix. {numref}`fig-lm-ratios` sets that beside
# the full measurement, and beside one without the layers that lead. These layers were chosen on every second text, and
# what is reported of them comes from the others.

# %% tags=["hide-input"]
_few = lambda rows: rows[~rows["layer"].isin(named)]  # noqa: E731
_names = "+".join(map(str, sorted(named)))
_both = without[without["item"].isin(reported["item"].unique())]
parts = {
    "all tokens": whole,
    f"without layers {_names}": _few(reported),
    "without the first token": without,
    "without both": _few(_both),
}
decoupled = pretrained.decoupling(parts)
published = {
    "FFN / attention": printed["FFN"] / printed["attention"],
    "attention / ε(RoPE)": printed["attention"] / printed["ε(RoPE)"],
}
report.figure(
    pretrained.forest(decoupled, published),
    "lm-ratios",
    "Either cut takes most of the FFN's lead away, and both together hardly take more. Ratios of mean RIDs in "
    f"{model} with 95 % intervals; dashed: the published ratios.",
    "Points with intervals: the ratio of FFN to attention falls from two to about one and a third without three layers or without the first token.",
    data=decoupled,
)  # fmt: skip
_of = lambda part: decoupled[(decoupled["part"] == part) & (decoupled["ratio"] == "FFN / attention")].iloc[0]  # noqa: E731
report.say("lm_ratio_fewer", *_of(f"without layers {_names}")[["mean", "low", "high"]])

# %% [markdown]
# With all tokens the FFN's RID is {num}`lm_ratio:.2f:ci` times attention's. Without the first token it is {num}`lm_ratio_first:.2f:ci` times, without the three layers
# {num}`lm_ratio_fewer:.2f:ci`. Both cuts remove the same thing: the three layers are where one token is written and erased.
#
# The FFN still leads. So the pretrained decoder sides with the paper on the sign of the difference. On its size it says that
# a mean over tokens and layers mostly reports on one token.
#
# Was it there in our small models? One of them was given massive activations by hand ({ref}`ch-sinks`). {numref}`fig-lm-planted` repeats the
# comparison in it.

# %% tags=["hide-input"]
planted = pretrained.decoupling(
    {
        "trained from nothing": measured(model="mini-llava-1.5", benchmark="mini-pope"),
        "sinks planted": measured(model="mini-llava-1.5-sinks", benchmark="mini-pope"),
        "planted, massive\ntokens out": measured(model="mini-llava-1.5-sinks", benchmark="mini-pope", without="tokens"),
    }
)
report.figure(
    pretrained.forest(planted, published),
    "lm-planted",
    "Planting massive activations makes the FFN lead, and leaving their tokens out takes it back. The same ratios in two mini models on "
    "mini-pope, 95 % intervals.",
    "Points with intervals of the two ratios: in the mini model, in the one with planted sinks, and in that without its massive tokens.",
    data=planted,
)  # fmt: skip

# %% [markdown]
# (lm-exercise-3)=
# ### Exercise 3: predict the ratio
#
# *Objective:* know what one token can do to a mean · *Minutes:* 6 · *Difficulty:* medium
#
# A made-up layer of two dozen tokens: attention mixes a little, the FFN adds a little noise and makes one entry of the first
# token massive. Does the FFN's RID over attention's fall, stay (within a tenth) or rise when
#
# - `first`: the first token is left out
# - `last`: the last token is left out
# - `dimension`: the massive entry's dimension is left out
# - `ten`: the massive entry is ten times as large
#
# Answer with `"falls"`, `"stays"` or `"rises"`.

# %% tags=["exercise"]
predictions = {"first": ..., "last": ..., "dimension": ..., "ten": ...}

# %% tags=["check"]
teach.check_predictions("massive", predictions)

# %% tags=["solution", "hide-cell"]
predictions = {"first": "falls", "last": "stays", "dimension": "falls", "ten": "stays"}
# Once one entry dominates the matrix, how much it dominates is no longer seen.
teach.check_predictions("massive", predictions)

# %% [markdown]
# ### Exercise 4: take the token out
#
# *Objective:* measure without what dominates · *Minutes:* 8 · *Difficulty:* easy
#
# Write the ratio of the FFN's RID to attention's when one token is left out of the measurement. `lostlib.rid(X, X_new).total` is the RID of an update.


# %% tags=["exercise"]
def ratio_without(pre, mid, post, token):
    """FFN's RID over attention's; pre, mid and post are the stream (S, H) before, between and after the two."""
    ...


# %% tags=["check"]
teach.check_ratio_without_token(ratio_without)


# %% tags=["solution", "hide-cell"]
def ratio_without(pre, mid, post, token):
    pre, mid, post = (np.delete(x, token, axis=0) for x in (pre, mid, post))
    return float(lostlib.rid(mid, post).total / lostlib.rid(pre, mid).total)


teach.check_ratio_without_token(ratio_without)

# %% [markdown]
# ## A sink that grew by itself
#
# A token that outgrows the others is a {term}`sink <attention sink>` when it also draws attention. Nobody planted this one, and the finder was not
# told where to look.

# %% tags=["hide-input"]
sinks = obtain("sinks", n=min(n_items, 60), rows="layers")
heads = obtain("sinks", n=min(n_items, 60), rows="heads")
_fig, _drawn = pretrained.first_token(heads)
report.figure(
    _fig,
    "lm-sink",
    f"After the massive activation is written, most attention goes to the first token. Share of attention on it in {model}, mean over "
    f"{heads['item'].nunique()} texts: one dot a head, the line is their mean.",
    "Dots of the attention on the first token in each head over the layers, with a line for the mean over heads.",
    data=_drawn,
)
_first = sinks[sinks["kind"] == "first"].merge(heads.groupby(["item", "layer"])["on_first"].mean().reset_index())
_late = _first[_first["layer"].isin(pretrained.quiet(named, whole["layer"].nunique()))]
report.say("lm_on_first", stats.mean(_late["on_first"], _late["cluster"]))
report.say("lm_phi", stats.mean(_late["phi_max"], _late["cluster"]))
report.say("lm_phi_most", float(np.sqrt(_card.hidden)) if _card else float("nan"))

# %% [markdown]
# In the layers after the write, the first token draws {num}`lm_on_first:.0%` of the attention ({numref}`fig-lm-sink`). Its sink value {eq}`eq-phi` is {num}`lm_phi:.1f` there, of
# {num}`lm_phi_most:.0f` at most: nearly all of its energy lies in one dimension. Many heads look there long before, so the sink is older than its largest
# number.

# %% [markdown]
# ## Does it matter where attention looks?
#
# A text needs no picture to ask the paper's third question. We replace attention weights while the model reads and count what it
# costs in loss, in nats a token; the untouched model has {num}`lm_loss:.2f`. {term}`SAP` puts random, even or shuffled weights in
# the learned ones' place. Since the first token draws much of the attention, each rule is tried twice: on all tokens, and with the
# first token's weight kept as learned.

# %% tags=["hide-input"]
untouched = obtain("losses", n=min(n_items, 100))


def cost(intervention, n=30):
    """What a change adds to the loss of the first n texts; random draws are made for each text anew."""
    return pretrained.loss_change([obtain("losses", n=min(n_items, n), intervention=intervention)], untouched)


def costs(intervention, sets, n=20):
    """The same in each of these sets of layers, one after another."""
    found = obtain("losses", n=min(n_items, n), intervention=intervention, layers=sets)
    return pretrained.loss_by_set(found, untouched)


_quiet = pretrained.quiet(named, whole["layer"].nunique())
_some = f",layers={_quiet[0]}-{_quiet[-1]}"
_where = f"layers {_quiet[0]} to {_quiet[-1]}"
KEPT = {"": "all weights replaced", ",spare=first": "first token's weight kept"}
_tried = [("random", "gaussian", "", KEPT), (f"random,\n{_where}", "gaussian", _some, KEPT)]
if sweeps:
    for _name, _rule in (("even", "uniform"), ("shuffled", "permuted")):
        _tried += [(_name, _rule, "", KEPT), (f"{_name},\n{_where}", _rule, _some, [",spare=first"])]
spent = pd.DataFrame(
    [
        {"change": name, "sink": kept, **cost(f"sap:keys=text,weights={rule}{where}{kept}")._asdict()}
        for name, rule, where, ways in _tried
        for kept in ways
    ]
)
report.figure(
    pretrained.costs(spent, KEPT),
    "lm-losses",
    "Replacing all weights ruins the model; between the writing and the erasing layers, with the first token's weight kept, it costs far less. "
    f"Loss added in {model} by weights that know nothing of the text, 95 % intervals.",
    "Points with intervals of the added loss for even, random and shuffled weights in all layers and in the quiet ones, with the first token's weight kept and not.",
    data=spent,
)  # fmt: skip
cut, random_cut = cost("knockout:keys=sinks,among=text"), cost("knockout:keys=random,among=text")
_told = spent.set_index(["change", "sink"])[["value", "low", "high"]]
report.say("lm_loss", stats.mean(untouched["loss"], untouched["cluster"]))
report.say("lm_cut", cut)
report.say("lm_cut_random", random_cut)
report.say("lm_all", *_told.loc["random", ",spare=first"])
report.say("lm_quiet", *_told.loc[f"random,\n{_where}", ",spare=first"])
report.say("lm_quiet_sink", *_told.loc[f"random,\n{_where}", ""])

# %% [markdown]
# With random weights in every layer, the first token's kept, the loss grows by {num}`lm_all:.2f:ci` nats a token. In the layers between writing and
# erasing the same change costs {num}`lm_quiet:.2f:ci`, and {num}`lm_quiet_sink:.2f:ci` when the first token loses its weight, too ({numref}`fig-lm-losses`).
#
# So attention is not lost here, and small updates are not idle ones. And the sink has a use: cutting the attention to it adds {num}`lm_cut:.2f:ci` nats, cutting as many random tokens {num}`lm_cut_random:.2f:ci`.
#
# Which layers need their weights, one at a time and in growing sets, is folded away: {numref}`fig-lm-single` and {numref}`fig-lm-several`.

# %% tags=["hide-input"]
if sweeps:
    _count = whole["layer"].nunique()
    _noise = "sap:keys=text,weights=gaussian"
    _each = [str(layer) for layer in range(_count)]
    single = pd.concat(
        costs(_noise + kept, _each, n).assign(sink=KEPT[kept]) for kept, n in ((",spare=first", 20), ("", 10))
    )
    single["layer"] = single["layers"].astype(int)
    report.figure(
        pretrained.curves(single, "layer", "sink", "layer whose weights are random"),
        "lm-single",
        f"Single layers: what random weights in one of them add to the loss of {model}, with 95 % bands.",
        "Lines of added loss over the layer that is replaced, with the first token's weight kept and not.",
        data=single,
        fold="One layer at a time",
    )  # fmt: skip
    _sets = pretrained.sets_of_layers(_count, _quiet)
    several = _sets.merge(costs(f"{_noise},spare=first", list(_sets["layers"])), on="layers")
    report.figure(
        pretrained.curves(several.sort_values(["where", "number"]), "number", "where", "layers whose weights are random"),
        "lm-several",
        f"Several layers: what random weights in them add to the loss of {model}, the first token's weight kept, with 95 % bands.",
        "Lines of added loss over the number of replaced layers, counted from the first, from the last and around the quiet layers.",
        data=several,
        fold="More and more layers",
    )  # fmt: skip

# %% [markdown]
# (lm-conjecture)=
# ## If the paper's models behave alike
#
# :::{admonition} Conjecture
# :class: caution
# The published ratio is {num}`lm_published:.1f`. If the same part of the lead belongs to one token in the paper's fifteen models as it does in this one, they would show
# {num}`lm_conjectured:.1f` without their first token. Their effective rank would collapse in one early or middle layer and return in the last ones, and their
# RID by layer would be a few peaks on a flat ground. Large models of these families are known to carry massive
# activations {cite}`sun2024massive`; whether these carry the published means we have not measured.
# :::
#
# Whoever has one of them can tell with two commands, `lostlib run residual` with and without `--set without=first` ({ref}`real-models`).

# %% tags=["hide-input"]
_all, _left = (pretrained.ratio(rows).value for rows in (whole, without))
report.say("lm_published", published["FFN / attention"])
report.say("lm_conjectured", 1 + (published["FFN / attention"] - 1) * (_left - 1) / (_all - 1))

# %% [markdown]
# ## What could fool us
#
# - **One small decoder.** Its weights come from a file of four bits each; others may write their massive activations elsewhere, or have none.
# - **No pictures.** Image tokens change what the first token is worth beside the others, since there are many of them.
# - **Our texts.** They are short. The longer a text, the less a single token weighs in the mean ({numref}`fig-lm-length`).
# - **The rule for the rank.** Rules that count fewer directions call more of an update new ({numref}`fig-lm-rules`).
# - **Leaving a row out is a choice, too.** The token is part of what the model computes. What it hides is not more real than what it shows.

# %% tags=["hide-input"]
lengths = pretrained.decoupling(pretrained.by_length(whole))
report.figure(
    pretrained.forest(lengths, {}),
    "lm-length",
    f"The FFN's lead shrinks as texts grow. Ratios of mean RIDs in {model} by the length of the text, 95 % intervals.",
    "Points with intervals of both ratios for four groups of texts, from short to long.",
    data=lengths,
    fold="By the length of the text",
)
if sweeps:
    _rules = {"numerical": measured(n=60)} | {
        rule: measured(n=60, rank=rule, controls=["no_rope"]) for rule in ("numerical32", "energy=0.99", "erank")
    }
    _rules["without the massive\ndimension"] = measured(n=60, without="dimensions", controls=["no_rope"])
    by_rule = pretrained.decoupling(_rules)
    report.figure(
        pretrained.forest(by_rule, published),
        "lm-rules",
        f"The ratios under four rules for the rank of the support, and without the massive dimension; {min(n_items, 60)} texts, "
        "95 % intervals; dashed: published.",
        "Points with intervals of both ratios for four rank rules and for the stream without one dimension.",
        data=by_rule,
        fold="Other rules for the rank, and without the dimension",
    )

# %% tags=["hide-input"]
results.close("language_model", obtain.read)
