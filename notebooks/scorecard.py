# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   lost: {data: [data/results/answers, data/results/residual, data/results/sinks, data/results/readings, data/chance.json, data/former-verdicts.csv, data/models/*/model.safetensors]}
# ---

# %% [markdown]
# (ch-scorecard)=
# # The scorecard
#
# The chapters look at one model at a time. The papers speak of families of models and of many benchmarks. This chapter puts
# every claim beside every model and every benchmark of which there are tables: what was published, what was measured, the
# interval, and a verdict.
#
# ## The papers' claims
#
# :::{margin}
# **Not measurable**: the untouched model is not above chance, so that nothing can be lost. It is not *unaffected*.
# :::
#
# {cite:t}`lost2026` report means over fifteen models and seven benchmarks, {cite:t}`kang2025see` six models and some twenty
# benchmarks; neither gives intervals. {numref}`tab-scorecard` lists what they say as claims, C1 to C12. The models here are
# small and were trained by this project; a real model joins the table when somebody measures it ({ref}`real-models`).
#
# ## Your prediction
#
# A claim can fail in two ways: the sign is another, or the sign is the same and the size is not. Of the numbers that the papers print,
# how many will our small models share in sign, and how many in size?

# %% tags=["parameters"]
model = "mini-llava-1.5"
benchmark = "mini-pope"
n_items = 1000
seed = 0
device = "cpu"
models = "all"
varied = "mini-pope+mini-realworldqa+mini-mathvista:variant=scenes"
trainings = "mini-llava-1.5-xs+mini-llava-1.5-xs-s1+mini-llava-1.5-xs-s2"
other_size = "mini-llava-1.5"

# %% tags=["hide-input"]
import re as _re

from lostlib import report

_several = _re.compile(r"[^+]+(\+[^+]+)*")
report.check_parameters(
    globals(), models=_several, varied=_several, trainings=_several, other_size=_re.compile(r"[^+]+")
)
report.style()

import matplotlib.pyplot as plt
import pandas as pd

from lostlib import claims, results, stats
from lostlib.checkpoints import CARDS
from lostlib.claims import choices, moved, scorecard
from lostlib.claims.study import Study
from lostlib.report import drawing, glance, words

# %% [markdown]
# ## Minimal code
#
# ```python
# from lostlib.claims import scorecard
#
# cells = scorecard.cells(scorecard.Shelf(models=["mini-llava-1.5"], n=100))
# for cell in cells[:5]:
#     print(cell.claim, cell.benchmark, cell.status, "|", cell.published, "|", cell.measured)
# ```
#
# ## At a glance

# %% tags=["hide-input"]
shelf = scorecard.Shelf(n=n_items, models=None if models == "all" else models.split("+"))
if model not in shelf.models:
    raise report.ParameterError(f"model = {model!r}: there are tables of {', '.join(shelf.models) or 'no model'}")
cells = scorecard.cells(shelf)
firm = choices.flips(choices.grid(Study(shelf.ask, shelf.ask, model, benchmark, varied.split("+"), n_items, seed)))
glance.scorecard(
    shelf.models,
    scorecard.lines(cells, shelf.models, firm),
    "scorecard",
    f"Each claim of the papers in each of our models, over all of a model's benchmarks: {glance.SAID}. A cell leads to its estimates. To its right, in how many of the "
    f"models that can tell the claim holds, and how many of the choices that were tried on {model} flip its verdict there ({{ref}}`ch-sensitivity`).",
)

# %% [markdown]
# (how-to-read)=
# ## How to read it
#
# A verdict is a rule in code ({ref}`api-claims`), applied to intervals. It is one of
#
# | | |
# |---|---|
# | ✓ holds | each condition of the claim is certain |
# | ⇄ opposite | the reverse of what the claim says is certain |
# | ✗ fails | a condition is certainly violated, without being the reverse |
# | ? undecided | the data cannot tell: too few pictures, seeds or draws, or an effect too near to the margin |
# | ○ not measurable | the rows cannot be asked. Above all: where a baseline has no room above chance, nothing can be lost. Chance is guessing among the options, or always giving the commonest right answer, whichever earns more |
# | · not run | there is no table; nothing is measured in silence to fill this page |
#
# The papers report means over fifteen models and give no intervals; ours are small models that share a world and a maker. So a row is a count of
# models, not a vote. The box in a chapter rests on the model and the benchmarks that it names, a cell here on all benchmarks of which there are tables.
#
# Two more judgements stand beside each verdict in {numref}`tab-cells`. **Sign**: does the interval lie on the same side of zero as the published
# value, or, where no figure is known, as the claim has it? **Size**: does the interval hold the published value?
#
# ## Every estimate

# %% tags=["hide-input"]
estimates = scorecard.long(cells)
tests = estimates.drop_duplicates(["claim", "model", "benchmark"])
_told = tests[tests["status"].isin(claims.TOLD)]
_printed = estimates[estimates["published"].notna()]
_silent = {status: int((tests["status"] == status).sum()) for status in (claims.UNMEASURABLE, claims.NOT_RUN)}
report.tell(
    f"There are tables of {len(shelf.models)} models. By claim, model and benchmark, a claim {scorecard.holds_in(_told['status'].tolist())}; "
    + "; ".join(f"{count} more are {status}" for status, count in _silent.items() if count)
    + "."
)
report.say("n_printed", len(_printed))
report.say("n_same_sign", int((_printed["sign"] == "yes").sum()))
report.say("n_same_size", int((_printed["size"] == "yes").sum()))
report.say("n_tests", int(tests["p"].notna().sum()))
report.say("n_clear", int((tests["p"] < 0.05).sum()))
report.say("n_clear_holm", int((tests["p_holm"] < 0.05).sum()))
_shown = estimates.rename(columns={"p_holm": "p, Holm"})
_first = ~estimates.duplicated(["claim", "model"])
_shown["claim"] = [
    report.Cell(row.claim, f"({report.myst.behind(row.claim, row.model)})=\n{row.claim}") if first else row.claim
    for row, first in zip(estimates.itertuples(), _first, strict=True)
]
report.table(
    _shown[
        ["claim", "model", "benchmark", "status", "estimate", "measured", "published", "sign", "size", "p", "p, Holm"]
    ],
    "cells",
    "The estimates behind the verdicts: what was measured with its 95 % interval (differences of accuracy, RID, MixIG in nats, or what the "
    "name says), what was published, and the p of the cell, alone and after Holm's adjustment over this table. Without an estimate: why not.",
    {"published": "+.3g", "p": ".2g", "p, Holm": ".2g"},
    look="lost-sortable",
    fold=f"{len(estimates)} lines, to be searched and sorted",
)

# %% [markdown]
# Of the {num}`n_printed:d` estimates that can be set beside a published figure, {num}`n_same_sign:d` have its sign and {num}`n_same_size:d` its size. Those of MixIG cannot have the size, whatever the model
# ({prf:ref}`thm-mixig`).
#
# ### Many comparisons
#
# A page with many tests finds something by chance. The **family** is every cell with a test of its own, over all claims, models and
# benchmarks: {num}`n_tests:d` of them. Each is two-sided, paired and clustered by image, of the statement that nothing differs; a
# claim with two conditions is as certain as the weaker one. An *opposite* can rest on fewer conditions than the claim has; there its interval says more
# than its p. C6 and C8 only count verdicts of others and are left out. Of these tests
# {num}`n_clear:d` have a p below one in twenty alone, and {num}`n_clear_holm:d` after Holm's adjustment over the whole family. The
# verdicts themselves are not adjusted: they are what one would say after seeing one cell. The column `p, Holm` of {numref}`tab-cells` says
# which of them a reader of the whole page may keep.
#
# ### Two claims about many

# %% tags=["hide-input"]
_several = {claim: [cell for cell in cells if cell.claim == claim] for claim in ("C6", "C7", "C8")}
_on = {claim: "+".join(dict.fromkeys(c.benchmark for c in found if c.benchmark)) for claim, found in _several.items()}
_six = [cell for (claim, _), cell in scorecard.by_model(cells).items() if claim == "C6"]
report.verdict(*claims.same_in_all_models(_six).of(f"{len(_six)} models", _on["C6"]).box)
_eight = claims.combined([cell for cell in _several["C8"] if cell.model == model])
report.verdict(*_eight.of(model, _on["C7"]).box)

# %% [markdown]
# C6 is about all models at once; here they are of three families and made by one hand, and three are trainings of one recipe, which count three times, so
# that this is no sample of what exists. For C8 the
# box speaks of {ref}`one model <model-card>`; the others stand in {numref}`tab-scorecard`.

# %% [markdown]
# ## Innovation against reconfiguration
#
# The plane of the first paper: RID to the right, MixIG upwards, one panel a model, and one for the published values. The dashed line
# is the tolerance ε(RoPE). Mind the scales: each panel has its own.

# %% tags=["hide-input"]
_rows = {name: shelf.get("residual", name, benchmark) for name in shelf.models}
residual = {name: words.of_updates(rows) for name, rows in _rows.items() if rows is not None}
_keys = words.UPDATES
_value = lambda key: {end: report.published(key).value for end in ("mean", "low", "high")}  # noqa: E731
_points = [
    {"model": "paper, mean of its models", "kind": kind, "value": of, **_value(f"{of}_{key}")}
    for kind, key in _keys.items()
    for of in ("rid", "mixig")
]
_points.append({"model": "paper, mean of its models", "kind": "ε(RoPE)", "value": "rid", **_value("eps_rope")})
plane = pd.concat(
    [pd.DataFrame(_points)]
    + [stats.summary(rows, ["kind"], ["rid", "mixig"]).assign(model=name) for name, rows in residual.items()]
)
_panels = list(dict.fromkeys(plane["model"]))
_height = -(-len(_panels) // 2)
_fig, _axes = plt.subplots(_height, 2, figsize=(5.2, 1 + 2.5 * _height), squeeze=False)
for _ax in _axes.flat[len(_panels) :]:
    _ax.axis("off")
for _ax, _name in zip(_axes.flat, _panels, strict=False):
    _of = plane[plane["model"] == _name].set_index(["value", "kind"])
    for _kind, _marker in zip(_keys, "osD^", strict=True):
        _x, _y = _of.loc[("rid", _kind)], _of.loc[("mixig", _kind)]
        drawing.cross(_ax, _x, _y, fmt=_marker, ms=6, capsize=2, label=_kind)
    _ax.axvline(_of.loc[("rid", "ε(RoPE)"), "mean"], color="0.4", ls="--", lw=1)
    _ax.axhline(0, color="black", lw=0.8)
    _ax.set_title(_name)
    _ax.set(xlim=(0, None))
    _ax.margins(0.15)
for _ax in [*_axes.flat][max(0, len(_panels) - 2) : len(_panels)]:
    _ax.set_xlabel("RID")
_fig.supylabel("MixIG (nats)")
drawing.legend_below(_fig, [_axes[0][0]], ncols=2)
report.figure(
    _fig,
    "scorecard-plane",
    f"Innovation and reconfiguration of both modules and the noise controls, means over layers and items of {benchmark} with 95 % intervals; dashed: ε(RoPE).",
    "Scatter plots of RID and MixIG, one panel for the published values and one for each model, with attention, FFN, Noise Δ and Noise QKV.",
    data=plane,
)

# %% [markdown]
# ## What replacing attention costs

# %% tags=["hide-input"]
RUNS = {
    "gaussian on image": "sap:keys=visual,weights=gaussian",
    "permuted on image": "sap:keys=visual,weights=permuted",
    "gaussian on text": "sap:keys=text,weights=gaussian",
}
forest = scorecard.changes(shelf, RUNS)
_lines = []  # (benchmark, model or none for the heading)
for _name in dict.fromkeys(forest["benchmark"]):
    _able = forest[(forest["benchmark"] == _name) & forest["measurable"]]
    _lines += [(_name, None), *((_name, of) for of in _able["model"].unique())]
_at = {line: k for k, line in enumerate(_lines)}
_fig, _ax = plt.subplots(figsize=(5.2, 1.3 + 0.24 * len(_lines)))
for _k, _label in enumerate(RUNS):
    _of = forest[(forest["intervention"] == _label) & forest["measurable"]]
    _y = [_at[pair] + 0.22 * (_k - 1) for pair in zip(_of["benchmark"], _of["model"], strict=True)]
    drawing.points(_ax, _y, _of, "value", lying=True, fmt=drawing.MARKERS[_k], ms=4, label=_label)
for _name, _y in ((name, y) for (name, of), y in _at.items() if of is None):
    _ax.axhspan(_y - 0.5, _y + 0.5, color="0.93", lw=0)
    if not forest.loc[forest["benchmark"] == _name, "measurable"].any():
        _ax.text(-1.0, _y, "no model is above chance", va="center", color="0.3", in_layout=False)
_ax.set(ylim=(len(_lines) - 0.5, -0.5), xlim=(-1.02, 0.1), xlabel="change of accuracy", yticks=range(len(_lines)))
_ax.set_yticklabels([name if of is None else of.removeprefix("mini-") for name, of in _lines])
for _text, (_name, _of) in zip(_ax.get_yticklabels(), _lines, strict=True):
    _text.set(weight="bold" if _of is None else "normal")
_ax.tick_params(axis="y", length=0)
_ax.grid(visible=False, axis="y")
_ax.axvline(0, color="black", lw=0.8)
drawing.legend_below(_fig, [_ax], ncols=1)
report.figure(
    _fig,
    "scorecard-forest",
    "Change of accuracy when attention weights are replaced, paired over items, 95 % intervals over pictures. Under each benchmark stand the "
    "models that are above chance there when untouched: of others nothing can be measured. No mark: not run.",
    "Forest plot: one block a benchmark, one line a model, three marks with intervals for the three replacements.",
    data=forest,
)

# %% [markdown]
# Zero here means that noise costs nothing, which is the paper's finding. A cell that is *not measurable* looks the same in a table of
# changes, and means something else: the model could not do the task to begin with.
#
# A benchmark can be half of each. Every second question of mini-mathvista is about a bar chart, and only `mini-llava-1.5-wide` was taught to
# read those. The others are nearly always wrong about them, before and after, so their change is about half of what it is on the scenes alone, which
# {ref}`ch-rq3` shows for the default model.
#
# ## Layer by layer

# %% tags=["hide-input"]
profiles = pd.concat(
    stats.summary(rows, ["kind", "layer"], ["rid", "mixig"]).assign(model=name) for name, rows in residual.items()
)
_fig, _axes = plt.subplots(len(residual), 2, figsize=(5.2, 1 + 1.35 * len(residual)), sharex=True, squeeze=False)
for _row, _name in enumerate(residual):
    for _ax, _value in zip(_axes[_row], ("rid", "mixig"), strict=True):
        _of = profiles[(profiles["model"] == _name) & (profiles["value"] == _value)]
        drawing.curves(_ax, _of, "layer", "kind", ("attention", "FFN"))
        _ax.axhline(0, color="black", lw=0.8)
    _axes[_row][0].set_title(_name, loc="left")
    _axes[_row][0].set_ylabel("RID")
    _axes[_row][1].set_ylabel("MixIG (nats)")
for _ax in _axes[-1]:
    _ax.set_xlabel("layer")
drawing.legend_below(_fig, [_axes[0][0]], ncols=2)
report.figure(
    _fig,
    "scorecard-layers",
    f"RID and MixIG of both modules by layer, on {benchmark}, with 95 % bands; each model on its own scale.",
    "Two panels a model over the layer: RID and MixIG, one line for attention and one for the FFN.",
    data=profiles,
)

# %% [markdown]
# ## Verdicts that moved
#
# The rules were revised once, after an audit of the cells had found that some tested another claim than the paper's and that some rested on a single
# random draw. {numref}`tab-moved` sets the former verdicts beside those of today; {ref}`deviations` tells the story.

# %% tags=["hide-input"]
report.table(
    moved.moved(cells),
    "moved",
    "Verdicts over a model's benchmarks that are others than before the rules were revised, and what in the rule made the difference.",
    look="lost-sortable",
    fold="The verdicts that moved",
)

# %% [markdown]
# ## Another training, another size
#
# All intervals so far are over pictures: how far would an estimate move if *the same weights* were shown others? They say nothing
# of other weights. `mini-llava-1.5-xs` has a quarter of the default's parameters, and its recipe was trained three times, from other random
# weights and on other scenes. {numref}`fig-trainings` shows how far the trainings lie apart, in units of what an interval allows to
# either side, and where the default model lies.

# %% tags=["hide-input"]
_trained = trainings.split("+")
_counted = estimates[~estimates["claim"].isin(["C6", "C8"])]  # those only count the others
_both = scorecard.beside(_counted, _trained)
_default = scorecard.beside(_counted, [other_size]).reindex(_both.index)  # it may lack some, such as cut sinks
if _both.empty:
    print(f"This section is left out: not all of {', '.join(_trained)} are among the models.")
else:
    _value, _low, _high = (_both[end].astype(float) for end in ("value", "low", "high"))
    _other, _width = _default["value", other_size].astype(float), ((_high - _low) / 2).mean(axis=1)
    _least, _most, _centre = _value.min(axis=1), _value.max(axis=1), _value.mean(axis=1)
    _cells = _both["status"].groupby(level=["claim", "benchmark"]).first()
    report.say("trainings_n", len(_both))
    report.say(
        "trainings_distance", float(((_most - _least) / _width).fillna(0).replace(float("inf"), float("nan")).median())
    )
    report.say("trainings_apart", int((_low.max(axis=1) > _high.min(axis=1)).sum()))
    report.say("trainings_cells", len(_cells))
    report.say("trainings_other_verdict", int((_cells.nunique(axis=1) > 1).sum()))
    report.say("size_n", int(_other.notna().sum()))
    report.say("size_outside", int(((_other < _least) | (_other > _most)).sum()))
    _often = _both.index.droplevel("benchmark").duplicated(keep=False)
    _labels = []
    for (_claim, _where, _what), _many in zip(_both.index, _often, strict=True):
        _short = _where.removeprefix("mini-")
        _named = _short if _what == "change of accuracy" else f"{_what}, {_short}" if _many else _what
        _labels.append(f"{_claim} {_named}".replace(" minus", " −"))
    _fig, _ax = plt.subplots(figsize=(5.2, 1.6 + 0.27 * len(_both)))
    _ax.axvspan(-1, 1, color="0.93", lw=0)
    for _k, _name in enumerate([*_trained, other_size]):
        _look = {"color": "C1", "zorder": 1} if _name == other_size else {"color": "C0", "mfc": "none"}
        _off = (_other if _name == other_size else _value[_name]) - _centre
        _x = (_off / _width).where(_off != 0, 0).clip(-100, 100)  # where all agree the interval may have no width
        _ax.plot(_x, range(len(_both)), drawing.MARKERS[_k], ms=6, label=_name, **_look)
    _ticks = (-100, -10, 0, 10, 100)
    _ax.set_xscale("symlog", linthresh=2)
    _ax.set(xticks=_ticks, xticklabels=[f"{tick}".replace("-", "−") for tick in _ticks], xlim=(-130, 130))
    _ax.set(xlabel="half widths of an interval", ylim=(len(_both) - 0.5, -0.5))
    _ax.set(yticks=range(len(_both)), yticklabels=_labels)
    drawing.legend_below(_fig, [_ax], ncols=1)
    report.figure(
        _fig,
        "trainings",
        "Estimates of several trainings of one recipe, and of another size: distance from the trainings' mean, in half widths of a 95 % interval "
        "over pictures (the mean of the trainings'; grey: one to either side). Linear up to two, logarithmic beyond; what lies further than a hundred stands at "
        "a hundred. C7 and C12 are changes of accuracy.",
        "Dot plot: one line an estimate, hollow marks for the trainings and a full one for the other size.",
        data=_value.assign(**{other_size: _other, "width": _width}).reset_index(),
    )
    _told = _both["measured"].assign(**{other_size: _default["measured", other_size]})
    report.table(
        _told.assign(verdicts=[", ".join(dict.fromkeys(row)) for row in _both["status"].to_numpy()]).reset_index(),
        "trainings",
        "The same estimates, each with its 95 % interval over pictures, and the different verdicts on their cells in the trainings.",
        look="lost-sortable",
        fold="The estimates of each training",
    )

# %% [markdown]
# In the median estimate the trainings span {num}`trainings_distance:.1f` half widths. Of {num}`trainings_n:d` estimates, two trainings'
# intervals have nothing in common in {num}`trainings_apart:d`; of {num}`trainings_cells:d` cells {num}`trainings_other_verdict:d` have more than one verdict. The default model lies outside the range of the
# three in {num}`size_outside:d` of {num}`size_n:d` estimates.

# %% tags=["hide-input"]
report.tell(scorecard.alike(estimates, _trained))
report.tell(scorecard.alike(estimates, [*_trained, other_size]))

# %% [markdown]
# RID has parts, and {numref}`tab-parts-of-c2` shows which of them differ between the trainings and the default model.

# %% tags=["hide-input"]
PARTS = {"delta_s": "ΔS", "delta_d_column": "ΔD, columns", "delta_d_row": "ΔD, rows", "rid": "RID"}
_attention, _ffn = ({"module": module, "control": "none"} for module in ("attn", "ffn"))
_named = {"other_size": (other_size, benchmark), "several_images": (other_size, "mini-mmmu")}
_named |= {f"training_{k}": (name, benchmark) for k, name in enumerate(_trained)}
_lines = []
for _key, (_name, _on) in _named.items():
    _rows, _card = shelf.get("residual", _name, _on), CARDS.get(_name)
    if _rows is None or _card is None:
        continue
    if _key == "several_images":
        _rows = _rows[_rows["tokens"] > _card.hidden]
    _parts = {label: stats.contrast(_rows, part, _ffn, _attention) for part, label in PARTS.items()}
    _told = {label: f"{e:+.4f}" for label, e in _parts.items()}
    _tokens = None if _rows.empty else int(_rows["tokens"].median())
    _lines.append({"model": _name, "benchmark": _on, "tokens": _tokens, "dimensions": _card.hidden} | _told)
    report.say(f"c2_{_key}", _parts["RID"])
if _lines:
    report.table(
        pd.DataFrame(_lines),
        "parts-of-c2",
        "The FFN's RID minus attention's and what it is made of, means over layers with 95 % intervals over pictures; tokens of the median prompt, and "
        "dimensions of the stream. Of mini-mmmu, the prompts with more tokens than dimensions.",
    )

# %% [markdown]
# In the three trainings of the smaller model that we have, the FFN innovates more, by {num}`c2_training_0:+.4f`, {num}`c2_training_1:+.4f` and
# {num}`c2_training_2:+.4f` (intervals in the table), and it is the effective rank that it changes more. In the default model attention is ahead, mostly in
# ΔD. Of that the smaller one has the columns' part only: its prompts have more tokens than it has dimensions, so they span all of these, and nothing lies
# outside. That does not turn the sign by itself, for on several images the default model has more tokens than dimensions too, and attention stays
# ahead, {num}`c2_several_images:+.4f:ci`.
#
# So *which module innovates more* has one answer in three trainings at one width and the opposite in the default model, each certain by its interval. Whether the
# width does it or the one training that the default had, this cannot tell: {numref}`tab-scorecard` has the other models of the default's width. Narrow intervals over pictures are no intervals over models.

# %% [markdown]
# ## What could fool us
#
# - **One world, one hand.** The models share their data; most share their seed and nearly their size, and some go on from the weights of another. Intervals
#   are over pictures ({numref}`fig-trainings` shows what they leave out). So many models that agree here are not so many pieces of evidence.
# - **Published values without intervals.** *Size: no* can mean that our interval is narrow. It compares a small model with large ones
#   in any case; sign and order are the fairer question.
# - **Thresholds.** Less than two points of accuracy and a tenth of the room count as no loss, less than a quarter more as *at* a tolerance. The papers name no margins; others
#   move cells whose effect is small and certain.
# - **Planted.** C2b and C6 ask nothing about where massive activations come from. Where they hold in `mini-llava-1.5-sinks`, that is our doing
#   ({ref}`ch-sensitivity`).
# - **Accuracy for F1.** The published figures of the second paper's POPE experiments are F1 where we compare accuracy.
# - **What was not run.** A row of dots is no row of ticks: which tables exist was decided by what we could afford.

# %% [markdown]
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. A check never looks at how you do it, only at what comes out;
# it can be run as often as you like.

# %%
from lostlib import teach

# %% [markdown]
# ### Exercise 1: alarms by chance
#
# *Objective:* know what a page full of tests finds on its own · *Minutes:* 4 · *Difficulty:* easy
#
# Suppose that nothing in {numref}`tab-cells` made any difference at all. In how many of its tests would p lie below one in twenty, on
# average? A cell has one test, so count each claim, model and benchmark once (`tests["p"]`), and round to a whole number.

# %% tags=["exercise"]
by_chance = ...

# %% tags=["check"]
teach.check_reading("false-alarms", by_chance, tests["p"])

# %% tags=["solution", "hide-cell"]
# one test in twenty is below one in twenty when nothing is there
by_chance = round(0.05 * tests["p"].notna().sum())
teach.check_reading("false-alarms", by_chance, tests["p"])

# %% [markdown]
# ### Exercise 2: nothing changed
#
# *Objective:* tell “unaffected” from “not measurable” · *Minutes:* 3 · *Difficulty:* easy
#
# A model is right on half of a thousand yes-or-no questions, untouched as well as with noise in place of its attention: the change of
# accuracy is zero, with a narrow interval. What does the scorecard say to C7: `"holds"`, `"opposite"` or `"not measurable"`?

# %% tags=["exercise"]
nothing_changed = ...

# %% tags=["check"]
teach.check_reading("at-chance", nothing_changed)

# %% tags=["solution", "hide-cell"]
# a model that guesses has nothing to lose
nothing_changed = "not measurable"
teach.check_reading("at-chance", nothing_changed)

# %% [markdown]
# ### Exercise 3: the same sign, another size
#
# *Objective:* keep two questions apart · *Minutes:* 5 · *Difficulty:* medium
#
# For how many estimates of the model `model` is the sign as published and the size not? Write the expression with the table `mine`, or
# count in {numref}`tab-cells`.

# %%
mine = estimates[estimates["model"] == model]

# %% tags=["exercise"]
sign_only = ...

# %% tags=["check"]
teach.check_reading("sign-without-size", sign_only, mine)

# %% tags=["solution", "hide-cell"]
# sign and size are columns of their own
sign_only = int(((mine["sign"] == "yes") & (mine["size"] == "no")).sum())
teach.check_reading("sign-without-size", sign_only, mine)

# %% [markdown]
# ### Exercise 4: read an interval
#
# *Objective:* say what an interval rules out · *Minutes:* 4 · *Difficulty:* medium
#
# With noise in place of attention a model loses one point of accuracy; the interval reaches from a loss of three points to a gain of
# one. Its baseline is far above chance. Does C7 hold, by the rule in its box: `"holds"`, `"opposite"` or `"undecided"`?

# %% tags=["exercise"]
one_point = ...

# %% tags=["check"]
teach.check_reading("wide-interval", one_point)

# %% tags=["solution", "hide-cell"]
# neither no loss nor a loss of more than two points is ruled out
one_point = "undecided"
teach.check_reading("wide-interval", one_point)

# %% tags=["hide-input"]
results.close("scorecard", shelf.read.values())
