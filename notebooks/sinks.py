# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   lost: {data: [data/results/sinks, data/results/heads, data/results/sinkmaps, data/results/answers/mini-llava-1.5-sinks, data/results/answers/mini-llava-1.5/*/none.s0.parquet, data/results/answers/mini-llava-1.5/*/var*, data/models/mini-llava-1.5*/model.safetensors]}
# ---

# %% [markdown]
# (ch-sinks)=
# # Sinks and redistribution
#
# Some image tokens draw much attention and show nothing but a patch of sky. Why they do, what happens without them, and
# whether the attention that they draw could be put to better use, is this chapter's subject.
#
# ## The paper's claims
#
# {cite:t}`kang2025see`: a few visual tokens, mostly background, carry *massive activations* {cite}`sun2024massive` and draw
# attention like the first token of a text does {cite}`xiao2024sinks`; cutting the attention to them does no harm; and giving
# it to the other visual tokens, in the heads that look at the image, makes the model better at no cost (visual attention
# redistribution, VAR).
#
# ## What a sink is
#
# :::{margin}
# **Energy** of a token: the sum of its squared entries. Its share in one dimension says how much of the token is there.
# :::
#
# A language model has a few **sink dimensions** $\mathcal D$, coordinates of the residual stream in which its first token is
# huge. The **sink value** of a token with residual stream $x \in \mathbb R^H$ says how far these stand out,
#
# $$
# \begin{aligned}
# \phi(x) &= \max_{d \in \mathcal D} \frac{|x_d|}{\sqrt{\tfrac1H \sum_{d'} x_{d'}^2}} \\
# &\le \sqrt H ,
# \end{aligned}
# $$ (eq-phi)
#
# and a token is a **sink** of a layer when the stream that enters the layer has $\phi \ge \tau$. The paper takes $\tau = 20$.
# A bound hides in this number: $\phi^2 / H$ is the **share of the token's energy** in one dimension, so $\tau = 20$ asks for a tenth
# of the energy at $H = 4096$ and for more than all of it when $H < 400$. We therefore give $\tau$ as an energy share, a tenth by default,
# which is the paper's threshold for a model of its size and means something for one of ours: $\phi$ = {num}`tau_phi:.1f` at
# $H$ = {num}`sinks_hidden:d`.
#
# ## A model with planted sinks
#
# Our mini model has no sinks, as {numref}`tab-models` will show. A chapter about them needs a model that has, so this one uses
# `mini-llava-1.5-sinks`: the mini model in which sinks were **planted**, first by editing a handful of neurons and then by training
# on ({ref}`deviations`). Planted were three things: the first token and the background patches at six places of the grid
# have two huge coordinates; no other token has; and text pays these patches attention. *Not* planted was what they write to the
# stream, and what happens when the attention on them is cut or moved. On the first kind of question this chapter can only
# show that the instruments read what is there. On the second it can learn something.
#
# ## Your prediction
#
# Text tokens of this model spend about a third of their attention on patches that show nothing. We cut it, in all layers. Does accuracy
# fall? As much as when we cut as many other image tokens, drawn by lot? And what if it goes to the rest of the
# image?

# %% tags=["parameters"]
model = "mini-llava-1.5-sinks"
benchmark = "mini-pope"
n_items = 600
seed = 0
device = "cpu"
compare = "mini-llava-1.5"
benchmarks = "mini-pope+mini-realworldqa+mini-mathvista:scenes"
tau = "10%"
p = 0.6
rho = 0.5
seeds = 3
picture = 2
layers = "all"
heads = "all"

# %% tags=["hide-input"]
import re as _re

from lostlib import report
from lostlib.report.parameters import BENCHMARKS

_numbers = _re.compile(r"all|\d+(\+\d+)*")
_own = {
    "compare": str,
    "benchmarks": BENCHMARKS,
    "tau": _re.compile(r"\d+(\.\d+)?%?"),
    "p": (float, 0, 1),
    "rho": (float, 0, 1),
    "seeds": (int, 2, 20),
    "picture": (int, 0, 3),
    "layers": _numbers,
    "heads": _numbers,
}
report.check_parameters(globals(), **_own)
report.style()

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lostlib import checkpoints, claims, results, stats
from lostlib.benchmarks import Choice, load_benchmark
from lostlib.report import drawing
from lostlib.text import slug

# %% [markdown]
# ## Minimal code
#
# ```python
# import lostlib
#
# m = lostlib.load_model("mini-llava-1.5-sinks")
# print(lostlib.sinks.find_dimensions(m))
# b = lostlib.load_benchmark("mini-pope", n=60)
# print("as it is   ", b.score(b.items, m.answer(b.items))["accuracy"])
# for text in ("knockout:keys=sinks,tau=10%", "knockout:keys=random,tau=10%", "var:tau=10%,rho=0.5"):
#     with lostlib.intervene(m, text):
#         print(text, b.score(b.items, m.answer(b.items))["accuracy"])
# ```
#
# The finder is not told what was planted. It looks for coordinates of the first token that are larger than a hundred and a
# thousand times the token's median, the definition of a massive activation; where there are none it ranks coordinates, takes the
# best, and warns that this is a guess.
#
# ## Does the mini model have sinks?

# %% tags=["hide-input"]
obtain = results.Reader(model=model, benchmark=benchmark, n=n_items, device=device)
_tau = tau if "%" in tau else float(tau)
_planted = getattr(checkpoints.CARDS.get(model), "planted_in", None)
_models = [name for name in dict.fromkeys((compare, model)) if name]


_n_tokens = min(n_items, 120)
tokens = {name: obtain("sinks", n=_n_tokens, model=name, tau=_tau, rows="tokens") for name in _models}
_lines, _firsts = [], {}
for _name, _rows in tokens.items():
    _visual = _rows[_rows["kind"] == "visual"]
    _size = _rows["phi"].pow(2).sum() / _rows["share"].sum()  # H
    _count = _visual.groupby(["cluster", "item", "layer"])["sink"].sum().reset_index()
    _most = _count.groupby("layer")["sink"].mean().idxmax()
    _mean = stats.mean(*(_count[_count["layer"] == _most][c] for c in ("sink", "cluster")))
    _first_token = stats.summary(_rows[_rows["token"] == 0], ["layer"], "share")
    _firsts[_name] = _first_token.loc[_first_token["mean"].idxmax(), ["mean", "low", "high"]]
    _lines.append(
        {
            "model": _name,
            "first token": _first_token["mean"].max(),
            "visual sinks": _mean,
            "of": int(_visual.groupby(["item", "layer"]).size().max()),
            "in layer": _most,
            "strongest": _visual["share"].max(),
            "any dimension": (_visual["peak"] ** 2 / _size).median(),
            "ratio": _rows["ratio"].max(),
        }
    )
census = pd.DataFrame(_lines).set_index("model")
counted, onset = census.loc[model, "visual sinks"], int(census.loc[model, "in layer"])
has_sinks = counted.value > 0
report.say("sinks_a_picture", counted)
report.say("visual_tokens", census.loc[model, "of"])
report.say("share_first", *_firsts[model])
report.say("sinks_hidden", round(math.sqrt(_size) ** 2))
report.say("tau_phi", math.sqrt(float(tau.rstrip("%")) / 100 * _size) if "%" in tau else float(tau))
if compare in census.index:
    report.say("sinks_a_picture_compared", census.loc[compare, "visual sinks"])
    report.say("first_compared", *_firsts[compare])
    report.say("any_compared", census.loc[compare, "any dimension"])
report.table(
    census.assign(**{"visual sinks": [f"{e:.2f}" for e in census["visual sinks"]]}),
    "models",
    f"Sinks on {_n_tokens} items of {benchmark}, tau = {tau}. First token: share of its energy in the strongest sink dimension, in "
    "the layer where it is largest. Visual sinks: mean a picture, with a 95 % interval over pictures (where none has one, that of "
    "the share of pictures that have), in the layer where there are most. Strongest: largest share that a visual token has in a sink dimension. Any dimension: the median visual token's share "
    "in whatever dimension is its strongest. Ratio: largest |x| over the token's median |x|, at most.",
    {"first token": ".1%", "strongest": ".1%", "any dimension": ".1%", "ratio": ".0f"},
)  # fmt: skip
if not has_sinks:
    print(f"{model} has no visual sinks at tau = {tau}: what follows is about tokens that are not there, and says so.")

# %% [markdown]
# The ordinary mini model has {num}`sinks_a_picture_compared:.2f:ci` visual sinks a picture, and its first token keeps no more than
# {num}`first_compared:.3f:ci` of its energy in one dimension. What large models grow in a long training, an hour on coloured
# shapes did not bring forth in this one (in others: {ref}`C10 <claim-c10>`). In the planted model the finder gets the planted dimensions back, the first
# token holds {num}`share_first:.2f:ci` of its energy in one of them, and there are {num}`sinks_a_picture:.2f:ci` sinks among {num}`visual_tokens:d` visual tokens.
#
# Mind the column *any dimension*. In the ordinary model, the median image token holds {num}`any_compared:.2f` of its energy in
# one coordinate, the same in all of them: the projector's signature. Take the maximum over *all* dimensions instead
# of the sink dimensions, as some ports of the method do, and most image tokens are sinks.

# %% tags=["hide-input"]
_fig, _axes = plt.subplots(1, len(_models), figsize=(5.2, 3.1), sharey=True, sharex=True, squeeze=False)
_shown = {"background": ("o", 0), "object": ("s", 2), "relevant": ("^", 1), "place unknown": ("o", 4)}
for _ax, _name in zip(_axes[0], _models, strict=True):
    _rows = tokens[_name]
    _part = _rows[(_rows["kind"] == "visual") & (_rows["layer"] == onset)]
    _part = _part.assign(place=_part["place"].fillna("place unknown"))
    for _place, (_marker, _colour) in _shown.items():
        _of = _part[_part["place"] == _place].head(1500)
        if len(_of):
            _ax.scatter(
                _of["share"] + 1e-7,
                _of["attention"],
                s=9,
                marker=_marker,
                alpha=0.35,
                lw=0,
                color=f"C{_colour}",
                label=_place,
            )
    _ax.axvline(float(tau.rstrip("%")) / 100 if "%" in tau else float(tau) ** 2 / _size, color="black", lw=0.8, ls="--")
    _ax.set(xscale="log", yscale="log", xlabel="share of energy")
    _ax.set_title(_name)
_axes[0][0].set_ylabel("attention of text tokens")
drawing.legend_below(_fig, _axes[0], ncols=3)
for _handle in _fig.legends[0].legend_handles:
    _handle.set(alpha=1, sizes=[30])
report.figure(
    _fig,
    "phi",
    f"Visual tokens in layer {onset}: share of the token's energy in a sink dimension, which is $\\phi^2/H$, against the attention it "
    "gets, mean over heads and over the text tokens after the image. Dashed: tau. Right of it are the sinks.",
    "Scatter of attention against the share of energy in the sink dimensions, one panel a model; the dashed line is tau.",
    data=tokens[model][(tokens[model]["kind"] == "visual") & (tokens[model]["layer"] == onset)][["item", "patch", "place", "share", "attention"]],
)  # fmt: skip

# %% [markdown]
# ## Where and when

# %% tags=["hide-input"]
visual = tokens[model][tokens[model]["kind"] == "visual"]
_known = visual["place"].notna().any()
_per = visual.assign(background=visual["place"] == "background", sink=visual["sink"].astype(float))
_items = _per.groupby(["cluster", "item", "layer"]).agg(sinks=("sink", "sum"), of=("sink", "size")).reset_index()
by_layer = stats.summary(_items, ["layer"], "sinks")
_in = _per[(_per["layer"] == onset)]
_of_sinks = _in[_in["sink"] > 0]
attended = (
    _per[_per["layer"] >= onset]
    .groupby(["cluster", "item", "sink"])[["attention", "contribution"]]
    .mean()
    .unstack("sink")
)
_both = attended.dropna() if has_sinks else attended.iloc[:0]
lines = []
if len(_both):
    _who = _both.index.get_level_values("cluster")
    for _value in ("attention", "contribution"):
        _ratio = stats.ratio(_both[_value, 1.0], _both[_value, 0.0], _who)
        report.say(f"{_value}_ratio", _ratio)
        lines.append({"what": f"{_value} of a sink / of another visual token", **_ratio._asdict()})
    _weight = stats.ratio(
        _both["contribution", 1.0] / _both["attention", 1.0], _both["contribution", 0.0] / _both["attention", 0.0], _who
    )
    report.say("write_ratio", _weight)
    lines.append({"what": "contribution at equal attention", **_weight._asdict()})
    _mass = _per[_per["layer"] >= onset].assign(mass=lambda f: f["attention"] * f["sink"])
    _mass = _mass.groupby(["cluster", "item", "layer"])["mass"].sum().groupby(["cluster", "item"]).mean().reset_index()
    lines.append(
        {
            "what": "attention on all visual sinks",
            **report.say("mass_sinks", stats.mean(_mass["mass"], _mass["cluster"]))._asdict(),
        }
    )
    if _known:
        lines.append(
            {
                "what": "sinks that lie on background",
                **report.say("on_background", stats.mean(_of_sinks["background"], _of_sinks["cluster"]))._asdict(),
            }
        )
        lines.append(
            {
                "what": "visual tokens that lie on background",
                **report.say("all_background", stats.mean(_in["background"], _in["cluster"]))._asdict(),
            }
        )
facts = pd.DataFrame(lines, columns=["what", "value", "low", "high"])

_fig, (_ax, _other) = plt.subplots(1, 2, figsize=(5.2, 3.6))
_counts = []
for _name in _models:
    _rows = tokens[_name]
    _count = _rows[_rows["kind"] == "visual"].groupby(["cluster", "item", "layer"])["sink"].sum().reset_index()
    _counts.append(stats.summary(_count, ["layer"], "sink").assign(model=_name))
drawing.curves(_ax, pd.concat(_counts), "layer", "model", _models)
_ax.set(xlabel="layer", ylabel="visual sinks a picture")
_first = tokens[model][tokens[model]["token"] == 0].assign(on="the first token")
_on = pd.concat([_per.assign(on=np.where(_per["sink"] > 0, "a sink", "another visual token")), _first])
drawing.curves(_other, stats.summary(_on, ["layer", "on"], "attention"), "layer", "on", sorted(set(_on["on"])))
_other.set(xlabel="layer", ylabel="attention on", yscale="log")
for _each in (_ax, _other):
    _each.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
report.figure(
    _fig,
    "sink-layers",
    f"Left: visual sinks a picture by layer. Right: attention that one token gets in {model}, mean over heads and text tokens. 95 % bands over pictures.",
    "Two panels over the layer: the number of visual sinks, and the attention on a sink, on another visual token and on the first token.",
    data=by_layer,
)  # fmt: skip
report.table(
    facts if len(facts) else pd.DataFrame({"what": [f"{model} has no visual sinks at tau = {tau}"]}),
    "sinks",
    f"Sinks of {model} from layer {onset} on, with 95 % intervals over pictures. Contribution: norm of what the token's value writes to the "
    "residual stream, weighted with the attention on it.",
    {"value": ".3f", "low": ".3f", "high": ".3f"} if len(facts) else {},
)

# %% [markdown]
# In the planted model sinks appear at the layer they were planted in and stay, as they were trained to. {num}`on_background:.3f:ci` of them lie on background, of all image tokens {num}`all_background:.3f:ci`; in
# photographs readers of the paper report {num}`published_background_low:.0f` to {num}`published_background_high:.0f` percent. That is planted, and
# so is that a sink gets {num}`attention_ratio:.1f:ci` times the attention of another visual token. What was not: it writes
# {num}`contribution_ratio:.2f:ci` times as much to the residual stream, so at equal attention {num}`write_ratio:.3f:ci`
# as much. The paper reads a contribution of about a tenth of another token's off LLaVA-1.5. Training on with sinks did not
# make these silent: a unit of attention on them brings about half of what it brings elsewhere.

# %% tags=["hide-input"]
report.say("published_background_low", report.published("sink_background_low").value)
report.say("published_background_high", report.published("sink_background_high").value)
_others = [name for name in _models if name != model]
_judged = _others[0] if _planted and _others else model  # what was planted proves nothing
_found = claims.sinks_exist(tokens[_judged], planted=_judged == model and bool(_planted))
_text, _printed, _measured, _status, _rule = _found.box
_beside = f"; {model}, planted: {counted:.2f}" if _judged != model else ""
report.verdict(_text, _printed, f"{_judged}: {_measured}{_beside}", _status, _rule)

# %% [markdown]
# ## Attention maps
#
# The pictures behind the numbers: what text tokens look at in one picture, layer by layer, with sinks and without. `picture`,
# `layers` and `heads` are parameters of this chapter. {numref}`fig-sinkmaps-heads` shows single heads.

# %% tags=["hide-input"]
_on_maps = "mini-realworldqa" if benchmark.startswith("mini-") else benchmark
maps = obtain("sinkmaps", benchmark=_on_maps, n=4, tau=_tau)
_asked = load_benchmark(_on_maps, n=4).items[picture]
_map = maps[maps["item"] == _asked.uid]
_wanted = lambda text, values: list(values) if text == "all" else [v for v in map(int, text.split("+")) if v in values]  # noqa: E731
_heads, _all_layers = _wanted(heads, sorted(_map["head"].unique())), _wanted(layers, sorted(_map["layer"].unique()))
_side = math.isqrt(_map["patch"].nunique())
_square = len(_asked.images) == 1 and _side**2 == _map["patch"].nunique() and len(_heads) and len(_all_layers)
_picked = [_all_layers[round(i)] for i in np.linspace(0, len(_all_layers) - 1, min(6, len(_all_layers)))]


def _overlay(ax, part, without=False):
    """The picture in grey under its attention, each map in its own scale; sinks have a frame."""
    weights = part.groupby("patch")["attention"].mean().to_numpy().copy()
    sinks = part.groupby("patch")["sink"].first().to_numpy().astype(bool)
    if without:
        weights[sinks] = 0
    frame = (0, _side, _side, 0)
    ax.imshow(np.asarray(_asked.images[0].convert("L").resize((256, 256))), cmap="gray", extent=frame)
    ax.imshow(weights.reshape(_side, _side), cmap="inferno", alpha=0.65, extent=frame, vmin=0)
    for patch in np.flatnonzero(sinks):
        row, column = divmod(patch, _side)
        ax.add_patch(plt.Rectangle((column, row), 1, 1, fill=False, lw=1.2, ec="cyan"))
    ax.set(xticks=[], yticks=[], xlim=(0, _side), ylim=(_side, 0))
    ax.grid(False)


if _square:
    _columns = min(3, len(_picked))
    _blocks = math.ceil(len(_picked) / _columns)
    _fig, _axes = plt.subplots(2 * _blocks, _columns, figsize=(5.2, 3.4 * _blocks), squeeze=False)
    for _ax in _axes.flat:
        _ax.axis("off")
    for _i, _layer in enumerate(_picked):
        _block, _column = divmod(_i, _columns)
        _part = _map[(_map["layer"] == _layer) & _map["head"].isin(_heads)]
        for _row, _without in ((0, False), (1, True)):
            _ax = _axes[2 * _block + _row][_column]
            _ax.axis("on")
            _overlay(_ax, _part, _without)
            _ax.set_title("without sinks" if _without else f"layer {_layer}")
    report.figure(
        _fig,
        "sinkmaps",
        f"Attention of the text tokens of one item over the image in {model}, mean over heads {'+'.join(map(str, _heads))}. Framed: sinks. "
        "Second and fourth row: the same without the sinks. Each map has its own scale, from none (dark) to most (bright).",
        f"Overlays of attention on the picture in {len(_picked)} layers, with sinks and without.",
        data=_map,
    )  # fmt: skip
    _layer = (
        max(_picked, key=lambda at: float(_map[_map["sink"] & (_map["layer"] == at)]["attention"].sum()))
        if has_sinks
        else _picked[len(_picked) // 2]
    )
    _few = _heads[:8]
    _fig, _axes = plt.subplots(
        math.ceil(len(_few) / 2), min(2, len(_few)), figsize=(5.2, 2.7 * math.ceil(len(_few) / 2)), squeeze=False
    )
    for _ax in _axes.flat:
        _ax.axis("off")
    for _ax, _head in zip(_axes.flat, _few, strict=False):
        _ax.axis("on")
        _overlay(_ax, _map[(_map["layer"] == _layer) & (_map["head"] == _head)])
        _on = _map[(_map["layer"] == _layer) & (_map["head"] == _head)]
        _ax.set_title(
            f"head {_head}: {_on['attention'].sum():.0%} on image,\n{_on[_on['sink']]['attention'].sum():.0%} on sinks"
        )
    report.figure(
        _fig,
        "sinkmaps-heads",
        f"The same in single heads of layer {_layer}.",
        "Overlays of attention on the picture, one a head, with the mass on the image and on sinks in the title.",
        data=_map[(_map["layer"] == _layer) & _map["head"].isin(_few)],
    )
else:
    print(
        f"no maps: {_map['patch'].nunique()} visual tokens of {len(_asked.images)} pictures do not lie on one square grid, or no such layer or head"
    )

# %% [markdown]
# ## Cutting the sinks off
#
# The paper's test of uselessness: attention from text tokens to the sinks is cut in every layer, and, for comparison, to as many
# random visual tokens. Two readings of *cut* are common. **Renormalise**: the scores become minus infinity before the
# softmax, so that the rest of the row grows. **Zero**: the weights become zero after it, and nothing grows. Random tokens are drawn
# once an item, with several seeds. Runs are compared item by item with the untouched model.

# %% tags=["hide-input"]
_names = benchmarks.split("+")
_at = "" if _tau == 20 else f",tau={_tau}"
_chance = {name: load_benchmark(name, n=n_items).chance for name in {benchmark, *_names}}


_on = list(dict.fromkeys((benchmark, *_names)))
_bases = {name: obtain("answers", benchmark=name) for name in _on}
_clear = [n for n in _on if not claims.at_chance(_bases[n], _chance[n])]
_slug = {name: Choice.parse(name).slug for name in _on}
_n_others = min(n_items, 300)
CUTS = {"sinks": ("sinks", ""), "as many random": ("random", ""), "the whole image": ("all_visual", "")}
ZERO = {f"{label}, zero": (keys, ",flavour=zero") for label, (keys, _) in CUTS.items()}
_lines, _right, _cut = [], {}, {}
for _name in _on if has_sinks else ():
    _n = n_items if _name == benchmark else _n_others
    _before = _bases[_name].head(_n)
    for _label, (_keys, _flavour) in (CUTS | ZERO if _name == benchmark else CUTS).items():
        _text = f"knockout:keys={_keys}{_flavour}{'' if _keys == 'all_visual' else _at}"
        _draws = range(seeds if _keys == "random" else 1)
        _cut[_name, _label] = [obtain("answers", benchmark=_name, intervention=_text, seed=s, n=_n) for s in _draws]
        _runs = [run["correct"].astype(float) for run in _cut[_name, _label]]
        _right[_name, _label] = pd.concat(_runs, axis=1).mean(axis=1)
        _change = stats.difference(_right[_name, _label], _before["correct"], _before["cluster"])
        _about = {"benchmark": _name, "cut": _label, "before": _before["correct"].mean(), "items": _n}
        _spread = {"lowest seed": min(r.mean() for r in _runs), "highest seed": max(r.mean() for r in _runs)}
        _lines.append(_about | _change._asdict() | _spread)
        report.say(f"cut_{_slug[_name]}_{slug(_label)}", _change)
    report.say(
        f"cut_{_slug[_name]}_gap",
        stats.difference(_right[_name, "sinks"], _right[_name, "as many random"], _before["cluster"]),
    )
cuts = pd.DataFrame(_lines)
if has_sinks:
    _before = cuts.groupby("benchmark")["before"].first()
    _named = {n: f"{n}, baseline {_before[n]:.2f}" for n in _on}
    _fig = drawing.changes(cuts, "cut", "benchmark", _named, height=4.4, ncols=1)
    report.figure(
        _fig,
        "cuts",
        f"Change of accuracy when attention from text to visual tokens is cut in all layers, renormalised or (on {benchmark}) set to zero; "
        f"paired, 95 % intervals over pictures; {n_items} items of {benchmark}, {_n_others} of the others; random tokens are the mean over {seeds} seeds.",
        "Forest plot, one point a benchmark: change of accuracy when sinks, as many random visual tokens, or the whole image are cut.",
        data=cuts,
    )
report.verdict(
    *claims.combined([
        claims.sinks_are_idle(_bases[n], _cut[n, "sinks"][0], _cut[n, "as many random"], _chance[n], n) if has_sinks
        else claims.without_sinks("C11", n) for n in _on
    ]).box
)  # fmt: skip

# %% [markdown]
# Cutting the sinks changes accuracy by {num}`cut_pope_sinks:+.3f:ci` on mini-pope, {num}`cut_realworldqa_sinks:+.3f:ci` on
# mini-realworldqa and {num}`cut_mathvista_scenes_sinks:+.3f:ci` on the scenes of mini-mathvista; cutting as many random visual tokens by
# {num}`cut_pope_as_many_random:+.3f:ci`, {num}`cut_realworldqa_as_many_random:+.3f:ci` and
# {num}`cut_mathvista_scenes_as_many_random:+.3f:ci`. The paired differences, sinks cut minus random cut, are {num}`cut_pope_gap:+.3f:ci`,
# {num}`cut_realworldqa_gap:+.3f:ci` and {num}`cut_mathvista_scenes_gap:+.3f:ci`. That the knife cuts is seen where the whole image goes:
# {num}`cut_pope_the_whole_image:+.3f:ci` on mini-pope. So {num}`mass_sinks:.2f:ci` of the text's attention can be taken off its
# targets with no loss that these intervals could show; but so can what as many random patches get, and the contrast on which the
# paper's argument rests is missing.
# A handful of patches at random rarely meets the one that decides an answer, and what they show is soon known to
# their neighbours.
#
# The paper's figure has random masking fall by thirty points. With seven of several hundred tokens masked that is hard to
# understand, and a reader of the paper suggests that the random set was drawn anew in each layer. We show it because it was published.
#
# ## Redistribution
#
# :::{margin}
# **Row**: the weights of one head with which one token takes over the values of all tokens up to it. They sum to one.
# :::
#
# VAR looks for **image-centric** rows: of one head and one text token, with weights $\alpha_j$, image mass
# $V = \sum_{j \in \text{vis}} \alpha_j$ of at least a fifth, and a non-sink share $r$ of at least $\rho$. There, and only there, every sink
# gives up a fraction $p$ of its weight, and the visual non-sinks share it in proportion to theirs:
#
# $$
# \begin{aligned}
# r &= \frac{1}{V} \sum_{j \in \text{vis} \setminus \text{sinks}} \alpha_j \ge \rho, \\
# \Omega &= p \sum_{j \in \text{sinks}} \alpha_j, \\
# \alpha'_j &= \begin{cases} (1 - p)\, \alpha_j & \text{sinks} \\
# \alpha_j + \Omega\, \alpha_j / (rV) & \text{vis} \setminus \text{sinks} \end{cases}
# \end{aligned}
# $$ (eq-var)
#
# Sinks of the text, the first token above all, give too. The paper moves $p$ = three fifths, leaves the last layer alone, and sets $\rho$ by
# the kind of task: a half against hallucination, four fifths in general, nine tenths for vision-centric tasks.

# %% tags=["hide-input"]
_n_heads = min(n_items, 60)
head = obtain("heads", n=_n_heads, tau=_tau, p=p, rho=rho)
_cells = head.groupby(["layer", "head"])[["selected", "moved", "visual", "share"]].mean().reset_index()
_fig, _axes = plt.subplots(1, 2, figsize=(5.2, 3.2), sharey=True)
for _ax, _value, _title in zip(
    _axes, ("selected", "moved"), ("rows that count\nas image-centric", "attention moved\nin a row"), strict=True
):
    _wide = _cells.pivot(index="layer", columns="head", values=_value)
    _small = _wide.size <= 64
    sns.heatmap(_wide, annot=_small, fmt=".2f", cmap="cividis", vmin=0, cbar=not _small, ax=_ax)
    _ax.set_title(_title)
    _ax.set_ylabel("layer" if _value == "selected" else "")
report.figure(
    _fig,
    "heads",
    f"What VAR would do in {model} at rho = {rho:g}, p = {p:g}: share of the text tokens after the image in whose row the head counts as image-centric, and "
    f"mean mass that is moved; {_n_heads} items of {benchmark}.",
    "Two heat maps over layer and head: share of image-centric rows, and attention moved.",
    data=_cells,
)  # fmt: skip

# %% tags=["hide-input"]
_every = {
    (of, name): _bases[name] if of == model else obtain("answers", model=of, benchmark=name)
    for of in _models
    for name in _names
}
_lines, _moved = [], {}
for (_of, _name), _before in _every.items():
    for _rho in claims.RHO.values():
        if _of != model and _rho != claims.rho_for(_name):
            continue  # one run shows that a model without sinks does not change
        _how = f"var:tau={_tau},p={float(p)},rho={_rho}"
        _after = _moved[_of, _name, _rho] = obtain("answers", model=_of, benchmark=_name, intervention=_how)
        _change = stats.difference(_after["correct"], _before["correct"], _before["cluster"])
        _moves = stats.mcnemar(_after["correct"], _before["correct"])
        _lines.append(
            {
                "model": _of,
                "benchmark": _name,
                "rho": _rho,
                "preset": "own" if _rho == claims.rho_for(_name) else "",
                "before": _before["correct"].mean(),
                **_change._asdict(),
                "lost": _moves.lost,
                "gained": _moves.gained,
                "p": _moves.p,
            }
        )
var = pd.DataFrame(_lines)
_pictures = min(
    rows["cluster"].nunique() for rows in _bases.values()
)  # the questions about one picture are no independent items
report.say("pictures_asked", _pictures)
report.say("rule_of_three", 3 / _pictures)
own = var[(var["model"] == model) & (var["preset"] == "own")]
for _row in own.itertuples():
    report.say(
        f"var_{_slug[_row.benchmark]}",
        _row.value,
        _row.low,
        _row.high,
    )
_own_rho = {n: f"{n} {r:g}" for n, r in zip(own["benchmark"], own["rho"], strict=True)}
_shown = var[var["model"] == model].sort_values("rho").assign(at=lambda f: [f"$\\rho$ = {r:g}" for r in f["rho"]])
_fig = drawing.changes(_shown, "at", "benchmark", _names, height=4)
report.figure(
    _fig,
    "var",
    f"Change of accuracy of {model} under VAR, p = {p:g}, at the paper's three values of rho. For these kinds of task the paper would "
    f"take: {', '.join(_own_rho.values())}. {n_items} items a benchmark, paired, 95 % intervals over pictures.",
    "Forest plot: one line a value of rho, in it a point with its interval for each benchmark.",
    data=var,
)
_shown = var.assign(
    change=[f"{stats.Estimate(*ends):+.3f}" for ends in var[["value", "low", "high"]].to_numpy()],
    p=stats.holm(var["p"]),
)
report.table(
    _shown[["model", "benchmark", "rho", "preset", "before", "change", "lost", "gained", "p"]],
    "var",
    "VAR on every benchmark. Own: the paper's rho for this kind of task. Change of accuracy with its paired 95 % interval; answers lost "
    "and gained; p of McNemar's test after Holm's adjustment over this table.",
    {"before": ".3f", "p": ".2g", "rho": "g"},
)  # fmt: skip
report.verdict(
    *claims.combined([
        claims.var_helps(_bases[n], _moved[model, n, claims.rho_for(n)], _chance[n], n) if has_sinks
        else claims.without_sinks("C12", n) for n in _names
    ]).box
)  # fmt: skip

# %% [markdown]
# At the paper's settings VAR changes the planted model's accuracy by {num}`var_pope:+.3f:ci` on mini-pope,
# {num}`var_realworldqa:+.3f:ci` on mini-realworldqa and {num}`var_mathvista_scenes:+.3f:ci` on the scenes of mini-mathvista. In the ordinary mini model, which has
# no sinks, nothing can be moved, and its answers stay what they were ({numref}`tab-var`).
#
# ## The knobs
#
# Two numbers to choose, and a test set that shows which choice looks best: the paper's reviewers object that $\rho$ was chosen there. Here is
# the sweep, and what the choice is worth. The items are split in two by picture, the best cell is picked on one half
# and read on the other.

# %% tags=["hide-input"]
RHOS, SHARES = (0.0, 0.5, 0.8, 0.9), (0.6, 1.0)
_n_sweep = min(n_items, 200)
_room = min(_clear or [benchmark], key=lambda name: _bases[name]["correct"].mean())  # where there is most to gain
if has_sinks:
    _before = _bases[_room].head(_n_sweep)
    _pictures = _before["cluster"].drop_duplicates().reset_index(drop=True)
    _half = _before["cluster"].isin(_pictures[::2])
    _cells = {
        (share, rho): obtain(
            "answers", benchmark=_room, n=_n_sweep, intervention=f"var:tau={_tau},p={share},rho={rho}"
        )["correct"]
        for share in SHARES
        for rho in RHOS
    }

    def _change(cell, part=slice(None)):
        return stats.difference(_cells[cell][part], _before["correct"][part], _before["cluster"][part])

    sweep = pd.DataFrame(
        [
            {
                "p": f"$p$ = {share:g}",
                "rho": f"$\\rho$ = {rho:g}",
                "cell": (share, rho),
                **_change((share, rho))._asdict(),
            }
            for share, rho in _cells
        ]
    )
    _fig = drawing.changes(sweep, "rho", "p", list(dict.fromkeys(sweep["p"])), height=3.6)
    report.figure(
        _fig,
        "sweep",
        f"Change of accuracy on the first {_n_sweep} items of {_room}, the benchmark with the lowest baseline, by $\\rho$ (the non-sink share "
        "that makes a row image-centric) and $p$ (the fraction moved), 95 % intervals over pictures. Picking the best cell here is "
        "picking on the test set.",
        "Forest plot: one line a value of rho, in it a point with its interval for each value of p.",
        data=sweep.drop(columns="cell"),
    )
    _best = max(_cells, key=lambda cell: _change(cell, _half).value)
    report.say("sweep_picked_p", _best[0])
    report.say("sweep_picked_rho", _best[1])
    report.say("sweep_picked", _change(_best, _half))
    report.say("sweep_other", _change(_best, ~_half))
    report.say("sweep_tried", len(sweep))
    report.say("sweep_clear", int(((sweep["low"] > 0) | (sweep["high"] < 0)).sum()))
    for _name, _at in (("best", sweep["value"].idxmax()), ("worst", sweep["value"].idxmin())):
        report.say(f"sweep_{_name}", *sweep.loc[_at, ["value", "low", "high"]])
else:
    print(f"no sweep: {model} has no visual sinks at tau = {tau}")

# %% [markdown]
# Over the {num}`sweep_tried:d` cells, the change of accuracy goes from {num}`sweep_worst:+.3f:ci` to {num}`sweep_best:+.3f:ci`;
# {num}`sweep_clear:d` of the intervals lie clear of zero. The best cell of one half, $\rho$ = {num}`sweep_picked_rho:.1f` and
# $p$ = {num}`sweep_picked_p:.1f`, is worth {num}`sweep_picked:+.3f:ci` there and {num}`sweep_other:+.3f:ci` on the other half.
#
# ## What others measured
#
# The paper's tables, in part, and two attempts by others to repeat them.

# %% tags=["hide-input"]
_PAPER = {
    "LLaVA-1.5-7B": "llava15_7b", "LLaVA-1.5-13B": "llava15_13b", "LLaVA-1.5-HD-13B": "llava15_hd_13b",
    "VILA-13B": "vila_13b", "Qwen2-VL-7B": "qwen2vl_7b", "InternVL2-8B": "internvl2_8b",
}  # fmt: skip
_COLUMNS = {
    "POPE F1": "pope_f1",
    "CHAIR_S ↓": "chair_s",
    "MMVP": "mmvp",
    "CV-Bench 3D": "cv_3d",
    "MME": "mme",
    "GQA": "gqa",
    "TextVQA": "textvqa",
}
_pair = lambda key: " → ".join(f"{report.published(f'{key}_{when}').value:g}" for when in ("base", "var"))  # noqa: E731
report.table(
    pd.DataFrame(
        [{"model": name, **{c: _pair(f"{k}_{slug}") for c, k in _COLUMNS.items()}} for name, slug in _PAPER.items()]
    ),
    "published",
    "Published (VAR, Tables 1 to 3): baseline → with VAR. No intervals are given. All tables are in `data/paper/var.csv`.",
)
_REPEATED = {
    "MME": "replication_mme", "TextVQA": "replication_textvqa",
    "POPE random, false yes (%)": "replication_pope_fpr_random",
    "POPE popular, false yes (%)": "replication_pope_fpr_popular",
    "POPE adversarial, false yes (%)": "replication_pope_fpr_adversarial",
    "POPE adversarial, MCC": "replication_pope_mcc",
}  # fmt: skip
report.table(
    pd.DataFrame([
        {"measured": name, "baseline → VAR": _pair(key), "better?": "lower" if "false yes" in name else "higher", "by": report.published(f"{key}_base").where}
        for name, key in _REPEATED.items()
    ]),
    "repeated",
    "Two independent repetitions on LLaVA-1.5-7B in transformers, with the released settings. Only TextVQA gains.",
)  # fmt: skip

# %% [markdown]
# The published gains are of the size of our intervals. The independent repetitions ({numref}`tab-repeated`) are negative on all but
# TextVQA. Part of the reason may be that the released code does not do what the paper says: its two parameters mean
# the opposite, and it looks for sinks in the first picture only ({ref}`deviations`).
#
# ## What could fool us
#
# - **We planted it.** That sinks have huge coordinates and draw attention is our doing, also where they are and from which layer on. What sinks
#   write and what VAR does follow from training on with them, in one small model and from one seed.
# - **A sink needs a definition that bites.** At a lower threshold or with other dimensions most image tokens of some models
#   count as sinks; the tables warn when more than a fifth do.
# - **The mass differs too.** Random tokens draw less attention than sinks do, so the two cuts remove as many tokens and not as
#   much attention. Cutting more attention and losing less is the stronger result, the reverse would be ambiguous.
# - **Renormalising changes the whole row.** Without the sinks the rest of the row grows by as much as they held; the zero flavour
#   keeps the rest and shrinks the sum. Neither is what the model was trained with.
# - **Many cells.** Three values of $\rho$ on three benchmarks, and a sweep: something will look significant. {numref}`tab-var`
#   adjusts for its own tests; the sweep shows what picking is worth.
# - **A ceiling.** Where the baseline is nearly perfect there is little for VAR to gain, and it can only show that it does no harm.
# - **Intervals without width.** Where not one answer changes, resampling shows no uncertainty. By the rule of three, no change on
#   {num}`pictures_asked:d` pictures (the benchmark with fewest; several questions about one picture count once) still allows
#   changes on {num}`rule_of_three:.3f` of all.

# %% [markdown]
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. A check never looks at how you do it, only at what comes out;
# it can be run as often as you like.

# %%
import numpy as np

from lostlib import teach

# %% [markdown]
# ### Exercise 1: find the sink tokens
#
# *Objective:* turn a definition into a detector · *Minutes:* 10 · *Difficulty:* medium
#
# The sink value of a token is $\phi(x) = \max_{d \in D} |x_d| / \sqrt{\frac{1}{H} \sum_h x_h^2}$ for the sink dimensions $D$; a token
# is a sink from the threshold $\tau$ on. Write the detector. Before you do: does the scale of a token matter, its sign, the other
# tokens of the sequence?


# %% tags=["exercise"]
def my_sinks(hidden, dims, tau):
    """A boolean for each token of `hidden`, a numpy array (S, H); `dims` is a list of sink dimensions."""
    ...


# %% tags=["check"]
teach.check_sink_tokens(my_sinks)


# %% tags=["solution", "hide-cell"]
def my_sinks(hidden, dims, tau):
    phi = np.abs(hidden[:, dims]).max(axis=1) / np.sqrt(np.mean(hidden**2, axis=1))
    return phi >= tau


teach.check_sink_tokens(my_sinks)

# %% [markdown]
# ### Exercise 2: change a token and predict
#
# *Objective:* know what a detector reacts to · *Minutes:* 5 · *Difficulty:* easy
#
# A token is huge in one sink dimension. Does its sink value fall, stay or rise when
#
# - `scale`: all its numbers are nine times as large
# - `sign`: all its numbers change their sign
# - `elsewhere`: another dimension, which is no sink dimension, becomes even larger
# - `wider`: the model has twice as many dimensions, and the token is zero in the new ones
#
# Answer with `"falls"`, `"stays"` or `"rises"`.

# %% tags=["exercise"]
predictions = {"scale": ..., "sign": ..., "elsewhere": ..., "wider": ...}

# %% tags=["check"]
teach.check_predictions("sink-value", predictions)

# %% tags=["solution", "hide-cell"]
predictions = {"scale": "stays", "sign": "stays", "elsewhere": "falls", "wider": "rises"}
# phi is relative to the token's own energy per dimension: a threshold means
# another thing in a model of another width.
teach.check_predictions("sink-value", predictions)

# %% [markdown]
# ### Exercise 3: a threshold from another model
#
# *Objective:* carry a threshold over with care · *Minutes:* 4 · *Difficulty:* medium
#
# The published threshold is $\tau = 20$. What is the smallest number $H$ of hidden dimensions with which any token at all can be a
# sink? Answer with a number.

# %% tags=["exercise"]
smallest = ...

# %% tags=["check"]
teach.check_reading("smallest-hidden-size", smallest)

# %% tags=["solution", "hide-cell"]
smallest = 20**2  # phi is at most the square root of H
teach.check_reading("smallest-hidden-size", smallest)

# %% [markdown]
# ### Exercise 4: move the attention
#
# *Objective:* write the redistribution and keep its books · *Minutes:* 12 · *Difficulty:* hard
#
# Write what VAR does to one attention row of an image-centric head: all sinks, in the image and in the text, keep $1 - p$ of their
# weight; what they lose goes to the image tokens that are no sinks, in proportion to what these had; nothing else changes. Which of
# these must hold whatever $p$ is: the row sums to one, text that is no sink keeps its weight, the order of the receivers stays?


# %% tags=["exercise"]
def my_move(row, sinks, visual, p):
    """The new row; `row` (K,) sums to one, `sinks` and `visual` (K,) are boolean numpy arrays, 0 <= p <= 1."""
    ...


# %% tags=["check"]
teach.check_redistribution(my_move)


# %% tags=["solution", "hide-cell"]
def my_move(row, sinks, visual, p):
    receivers = visual & ~sinks
    new = np.where(sinks, (1 - p) * row, row)
    new[receivers] += p * row[sinks].sum() * row[receivers] / row[receivers].sum()
    return new


teach.check_redistribution(my_move)

# %% tags=["hide-input"]
results.close("sinks", obtain.read)
