# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# (ch-regimes)=
# # When does it matter where attention looks?
#
# In the mini model, noise on the attention to image tokens ruins the answers; in the paper's large models it does not. Both
# can be true. This chapter asks **under which conditions** visual attention becomes redundant, in a world where the condition can
# be set by hand.
#
# ## The hypothesis
#
# Attention chooses among tokens. Where every token tells the same, there is nothing to choose, and any weights will do. So what
# should count is how much of the answer *a single visual token* carries, whichever it is. That is decided by the vision
# tower:
#
# | tower | what its patches are trained to say | may they look at one another? |
# |---|---|---|
# | local | what the patch itself shows | no |
# | mixing | what the patch itself shows | yes (the default) |
# | broadcast | that, and what is anywhere in the scene and how often | yes |
#
# The decoder, its size, captions, questions, their steps and the seed are equal. The tower's own stage is not: to broadcast takes longer to
# learn, and a broadcast tower stands still afterwards, or it would unlearn it. How often something is in the scene is told by every token of a
# broadcast tower; *where* it lies is not, for anything but the token's own patch.
#
# :::{note}
# Four models are measured here: `mixing`, the default one; `local`; `broadcast`; and `wide`, the default one trained on with more kinds of
# questions, charts and several images. Others join every figure through the parameter `towers`. The far end, tokens that are all alike, is
# reached by hand.
# :::
#
# ## Your prediction
#
# Three kinds of questions: is there a red circle, how many circles, where is the red circle relative to the blue square. Which of
# them could be answered from the *mean* of all visual tokens, which is what attention with uniform weights hands on?

# %% tags=["parameters"]
model = "mini-llava-1.5"
benchmark = "mini-pope"
n_items = 1000
seed = 0
device = "cpu"
towers = "mini-llava-1.5+mini-llava-1.5-local+mini-llava-1.5-wide+mini-llava-1.5-broadcast"
benchmarks = "mini-pope+mini-realworldqa+mini-mathvista:scenes"
seeds = 5

# %% tags=["hide-input"]
import re as _re

from lostlib import report
from lostlib.report.parameters import BENCHMARKS

_towers = _re.compile(r"[\w.:=,/@-]+(\+[\w.:=,/@-]+)*")
report.check_parameters(globals(), towers=_towers, benchmarks=BENCHMARKS, seeds=(int, 1, 20))
report.style()

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lostlib import results, stats
from lostlib.benchmarks import Choice, chance
from lostlib.report import drawing
from lostlib.text import slug

# %% [markdown]
# ## Minimal code
#
# ```python
# import lostlib
#
# m = lostlib.load_model("mini-llava-1.5")
# items = lostlib.load_benchmark("mini-pope", n=100).items
# rows = lostlib.probe_rows(m, items)
# print("a single token", rows[rows.token >= 0].right.mean())
# print("the right token", rows[rows.relevant].right.mean())
# print("their mean", rows[rows.token == -1].right.mean())
# ```
#
# ## What a single token knows
#
# :::{margin}
# **Linear probe**: a linear map, fitted on other scenes, that reads a fact from an activation. It shows what can be read, not what
# the model reads.
# :::
#
# Each visual token, as the language model receives it, is asked the benchmarks' own questions by linear probes: is the look
# there, how many are there, and in which row and column does each of two objects lie? The probes are fitted on scenes that no model
# was trained on, one for each place of the picture. Chance is what the most frequent answer or a random option earns.

# %% tags=["hide-input"]
KIND = {"mini-pope": "whether", "mini-realworldqa": "where", "mini-mathvista": "how many"}
COLOR = {"whether": "C0", "where": "C1", "how many": "C2"}
_models, _names = towers.split("+"), benchmarks.split("+")
_short = {name: name.removeprefix("mini-llava-1.5").strip("-") or "mixing" for name in _models}
obtain = results.Reader(n=n_items, device=device)
if _unknown := [name for name in _names if Choice.parse(name).name not in KIND]:
    raise report.ParameterError(
        f"benchmarks: probes know the answers of {', '.join(KIND)}, not of {', '.join(_unknown)}"
    )


def _kind(name):
    return KIND[Choice.parse(name).name]


def _say(words, *values):
    report.say(slug("_".join(words)), *values)


_n_probe = min(n_items, 300)
probes = {(of, name): obtain("probes", model=of, benchmark=name, n=_n_probe) for of in _models for name in _names}


def _answers(of, name, intervention="none", seeds=1):
    """Answers to the questions about a scene; sums are kept apart, and bars, which no probe knows, left out."""
    frame = obtain.over_seeds(seeds, model=of, benchmark=name, intervention=intervention)
    frame = frame[~frame["group"].str.startswith("bar")].reset_index(drop=True)
    return frame.assign(picture=frame["group"] != "arithmetic")


def _guess(name):
    """What an answer without the picture earns: the benchmark's chance, or the most frequent number among counts."""
    if _kind(name) != "how many":
        return chance(name, n_items)
    rows = before[_models[0], name]
    return rows.loc[rows["picture"], "gold"].value_counts(normalize=True).max()


before = {(of, name): _answers(of, name) for of in _models for name in _names}
guess = {name: _guess(name) for name in _names}
for _name, _earned in guess.items():
    _say(["guess", _kind(_name)], _earned)
_lines = []
for (_of, _name), _rows in probes.items():
    _single = _rows[_rows["token"] >= 0]
    for _who, _part in (
        ("a single token", _single),
        ("a relevant token", _single[_single["relevant"]]),
        ("another token", _single[~_single["relevant"]]),
        ("the mean token", _rows[_rows["token"] < 0]),
    ):
        _lines.append(
            {
                "tower": _short[_of],
                "question": _kind(_name),
                "read from": _who,
                **stats.mean(_part["right"], _part["cluster"])._asdict(),
                "chance": guess[_name],
            }
        )
known = pd.DataFrame(_lines)
_text = known.assign(text=[f"{stats.Estimate(*ends):.2f}" for ends in known[["value", "low", "high"]].to_numpy()])
_wide = _text.pivot(index=["tower", "question"], columns="read from", values="text")
_wide = _wide.loc[
    [(_short[of], _kind(name)) for of in _models for name in _names], list(dict.fromkeys(known["read from"]))
]
report.table(
    _wide.reset_index(),
    "known",
    f"Share of questions that linear probes answer from one visual token, {_n_probe} items a benchmark (of counts, those without sums), "
    f"95 % intervals. Without the picture: {', '.join(f'{_kind(n)} {g:.2f}' for n, g in guess.items())}.",
)

_who = {"a single token": "token", "a relevant token": "relevant", "another token": "other", "the mean token": "mean"}
for _row in known.itertuples():
    _say([_row.tower, _who[_row[3]], _row.question], _row.value, _row.low, _row.high)

# %% [markdown]
# In the default model a single token answers {num}`mixing_token_whether:.2f:ci` of the *whether* questions, hardly more than guessing; a token that
# shows the thing asked for answers {num}`mixing_relevant_whether:.2f:ci`. So the facts are where the things are. But the *mean* of all tokens
# answers {num}`mixing_mean_whether:.2f:ci` of them, and {num}`mixing_mean_how_many:.2f:ci` of *how many*: a sum over patches counts. Of *where* it
# knows little, {num}`mixing_mean_where:.2f:ci`. Uniform attention would have what it takes to count, if the decoder could read it.
#
# The broadcast tower does what it was trained to: any single token answers {num}`broadcast_token_whether:.2f:ci` of *whether* and
# {num}`broadcast_token_how_many:.2f:ci` of *how many*. Of *where* it tells no more than the default's.
#
# To keep patches apart changes less than one might think: a token of the local tower that does not show the thing answers
# {num}`local_other_whether:.2f:ci` of *whether*, one of the default tower {num}`mixing_other_whether:.2f:ci`. Nothing in its training asked the default's patches
# for anything but what they show themselves, and they hardly look at one another for more.
#
# {numref}`fig-tokens-know` shows the same by place: the share of *whether*, *where* and *how many* questions that the token at each
# place of the grid can answer.

# %% tags=["hide-input"]
_fig, _axes = plt.subplots(
    len(_names), len(_models), figsize=(5.2, 0.5 + 4.6 * len(_names) / len(_models)), squeeze=False
)
_maps = []
for _i, _name in enumerate(_names):
    for _j, _of in enumerate(_models):
        _by_place = probes[_of, _name].query("token >= 0").groupby("token")["right"].mean()
        _maps.append(_by_place.rename("right").reset_index().assign(tower=_short[_of], question=_kind(_name)))
        _side = round(len(_by_place) ** 0.5)
        _axes[_i][_j].imshow(_by_place.to_numpy().reshape(_side, _side), cmap="cividis", vmin=guess[_name], vmax=1)
        _axes[_i][_j].set(xticks=(), yticks=())
        _axes[_i][_j].grid(False)
        if _i == 0:
            _axes[_i][_j].set_title(_short[_of])
        if _j == 0:
            _axes[_i][_j].set_ylabel(_kind(_name))
report.figure(
    _fig,
    "tokens-know",
    "What each visual token can tell, by its place in the picture: share of right answers of a linear probe, from chance (dark) "
    "to all (bright). One column a tower, one row a kind of question.",
    "A grid of small maps, eight by eight tokens each, brighter where a token's probe answers more questions.",
    data=pd.concat(_maps),
)


# %% [markdown]
# ## What replacing the weights costs
#
# Now the replacement rules of {ref}`ch-rq3`, on the same questions.

# %% tags=["hide-input"]
RULES = ("gaussian", "uniform", "permuted", "static", "zero")
RUNS = {rule: f"sap:keys=visual,weights={rule}" for rule in RULES}


after = {
    (of, name, rule): _answers(of, name, RUNS[rule], seeds if rule == "gaussian" else 1)
    for of in _models
    for name in _names
    for rule in RULES
}
_lines = []
for (_of, _name, _rule), _frame in after.items():
    _seen = _frame["picture"]
    _was, _is = before[_of, _name][_seen], _frame[_seen]
    _base = stats.mean(_was["correct"], _was["cluster"])
    _lines.append(
        {
            "tower": _short[_of],
            "question": _kind(_name),
            "rule": _rule,
            "baseline": _base.value,
            "baseline_low": _base.low,
            "chance": guess[_name],
            "measurable": _base.low > guess[_name],
            **stats.difference(_is["correct"], _was["correct"], _was["cluster"])._asdict(),
        }
    )
damage = pd.DataFrame(_lines).rename(columns={"value": "change"})
_fig, _axes = plt.subplots(1, len(_names), figsize=(5.2, 3.8), sharey=True, squeeze=False)
for _ax, _name in zip(_axes[0], _names, strict=True):
    for _j, _of in enumerate(_models):
        _part = damage[(damage["tower"] == _short[_of]) & (damage["question"] == _kind(_name))]
        _y = np.arange(len(_part)) + (_j - (len(_models) - 1) / 2) * 0.22
        _alpha = 1 if _part["measurable"].all() else 0.25
        _look = {"fmt": drawing.MARKERS[_j], "alpha": _alpha, "label": _short[_of]}
        drawing.points(_ax, _y, _part, "change", lying=True, color=f"C{_j}", **_look)
    _ax.axvline(0, color="black", lw=0.8)
    _ax.set(title=_kind(_name), yticks=range(len(RULES)), yticklabels=RULES, xlim=(-1.05, 0.15))
_axes[0][0].invert_yaxis()
_axes[0][len(_names) // 2].set_xlabel("change of accuracy")
drawing.legend_below(_fig, _axes[0], ncols=len(_models))
report.figure(
    _fig,
    "towers",
    f"Change of accuracy on questions about the picture when attention weights on image tokens are replaced, by tower; {n_items} items a "
    f"benchmark, gaussian over {seeds} seeds, 95 % intervals. Pale: the baseline is not above chance, so that nothing can be measured.",
    "Forest plot: one panel a kind of question, one line a replacement rule, one point with its interval for each tower.",
    data=damage,
)
for _row in damage[damage["rule"].isin(["uniform", "gaussian", "zero"])].itertuples():
    _say([_row.tower, _row.rule, _row.question], _row.change, _row.low, _row.high)
_bases = damage.drop_duplicates(["tower", "question"])
_wide = _bases.assign(
    baseline=_bases["baseline"].map("{:.3f}".format) + _bases["measurable"].map({True: "", False: " (at chance)"})
)
_wide = _wide.pivot(index="tower", columns="question", values="baseline")
report.table(
    _wide.loc[[_short[of] for of in _models], [_kind(n) for n in _names]].reset_index(),
    "towers-baseline",
    "Accuracy of the untouched models on questions about the picture.",
)

# %% [markdown]
# What a probe can read is not what the model reads. Uniform weights hand on the mean, from which a probe counts; the default model, which
# never learned to, changes by {num}`mixing_uniform_how_many:+.3f:ci` on *how many*. The broadcast model changes by
# {num}`broadcast_uniform_how_many:+.3f:ci` there, half as much. It takes its counts through attention all the same: with no weight on the image
# at all (zero) it changes by {num}`broadcast_zero_how_many:+.3f:ci`.
#
# ## Damage against what a token knows
#
# {numref}`fig-regimes` puts both together. To the right, a single token answers more; upwards, more of what the model can do above
# chance survives gaussian weights. The hypothesis says: bottom left and top right.

# %% tags=["hide-input"]
_single = known[known["read from"] == "a single token"].set_index(["tower", "question"])
_points = []
for _row in damage[(damage["rule"] == "gaussian") & damage["measurable"]].itertuples():
    _probe = _single.loc[_row.tower, _row.question]
    _room = _row.baseline - _row.chance
    _above = 1 - _row.chance
    _points.append(
        {
            "tower": _row.tower,
            "question": _row.question,
            "known": (_probe["value"] - _row.chance) / _above,
            "known_low": (_probe["low"] - _row.chance) / _above,
            "known_high": (_probe["high"] - _row.chance) / _above,
            "kept": 1 + _row.change / _room,
            "kept_low": 1 + _row.low / _room,
            "kept_high": 1 + _row.high / _room,
        }
    )
regimes = pd.DataFrame(_points)
_fig, _ax = plt.subplots(figsize=(5.2, 3.8))
for _row in regimes.itertuples():
    _ax.errorbar(
        _row.known, _row.kept,
        xerr=[[_row.known - _row.known_low], [_row.known_high - _row.known]],
        yerr=[[_row.kept - _row.kept_low], [_row.kept_high - _row.kept]],
        fmt=drawing.MARKERS[[_short[m] for m in _models].index(_row.tower)], color=COLOR.get(_row.question, "C3"), ms=7, capsize=2,
    )  # fmt: skip
for _j, _of in enumerate(_models):
    _ax.plot([], [], drawing.MARKERS[_j], color="black", label=_short[_of])
for _name in _names:
    _ax.plot([], [], "-", lw=4, color=COLOR.get(_kind(_name), "C3"), label=_kind(_name))
_ax.axhline(1, color="black", lw=0.8, ls=":")
_ax.axhline(0, color="black", lw=0.8)
_ax.set(
    xlim=(-0.05, 1.05),
    xlabel="what a single token tells (0 chance, 1 all)",
    ylabel="kept under gaussian weights\n(0 chance, 1 all)",
)
drawing.legend_below(_fig, [_ax], ncols=3)
report.figure(
    _fig,
    "regimes",
    "Share of the accuracy above chance that survives gaussian weights on image tokens, against what a linear probe reads from a single "
    "visual token; both with 95 % intervals. One point a tower and kind of question whose baseline is above chance.",
    "Scatter of the share of accuracy kept against what a single token tells, a marker for each tower, a colour for each kind of question.",
    data=regimes,
)
for _row in regimes.itertuples():
    _say(["known", _row.tower, _row.question], _row.known, _row.known_low, _row.known_high)
    _say(["kept", _row.tower, _row.question], _row.kept, _row.kept_low, _row.kept_high)

# %% [markdown]
# The broadcast tower was made for the right half of the figure, and it is there: of what lies above chance, a single token tells
# {num}`known_broadcast_whether:.2f:ci` of *whether* and {num}`known_broadcast_how_many:.2f:ci` of *how many*. What follows is not what the hypothesis
# says. Of *how many*, {num}`kept_broadcast_how_many:.2f:ci` survives noise, where the default model keeps {num}`kept_mixing_how_many:.2f:ci`. Of
# *whether*, {num}`kept_broadcast_whether:.2f:ci` survives, although every token tells that as well. So that each token carries the
# answer is **not sufficient**. The decoder was trained with attention at hand, and nothing asked it to do without: it looks for the patch that shows
# the thing also where it need not ({numref}`fig-looking`). At the other end the local model keeps {num}`kept_local_whether:.2f:ci` of *whether* and
# {num}`kept_local_how_many:.2f:ci` of *how many*, and lies where the default does.
#
# ## The far end: copies
#
# The end of the axis can be reached in any model: `pool` hands the decoder the *mean* of all visual tokens in place of each. Copies have
# the same values, so in the first layer it makes no difference which of them is weighted how. What remains to see is what the
# model can still do, and whether replacing weights then costs anything on top.

# %% tags=["hide-input"]
_lines = []
for _of in _models:
    for _name in _names:
        _copies = _answers(_of, _name, "pool")
        _noisy = _answers(_of, _name, f"pool & {RUNS['gaussian']}")
        _seen = _copies["picture"]
        _was, _is, _both = (f[_seen] for f in (before[_of, _name], _copies, _noisy))
        _left = stats.mean(_is["correct"], _is["cluster"])
        _more = stats.difference(_both["correct"], _is["correct"], _is["cluster"])
        _lines.append(
            {
                "tower": _short[_of],
                "question": _kind(_name),
                "chance": guess[_name],
                "untouched": _was["correct"].mean(),
                "copies": str(_left),
                "noise on top": f"{_more:+.3f}",
                "copies_above_chance": _left.low > guess[_name],
                "copies_value": _left.value,
                "copies_low": _left.low,
                "copies_high": _left.high,
                "more": _more.value,
                "more_low": _more.low,
                "more_high": _more.high,
            }
        )
copies = pd.DataFrame(_lines)
report.table(
    copies[["tower", "question", "chance", "untouched", "copies", "noise on top"]],
    "copies",
    f"Accuracy when all visual tokens are copies of their mean, and what gaussian weights on them change on top; {n_items} items a benchmark, "
    "questions about the picture, 95 % intervals.",
    {"chance": ".2f", "untouched": ".3f"},
)
_alive = copies[copies["copies_above_chance"]]
report.say("copies_alive", len(_alive))
report.say("copies_cells", len(copies))
report.say("copies_worst_noise", float(copies["more"].min()))
for _row in copies.itertuples():
    _say(["copies", _row.tower, _row.question], _row.copies_value, _row.copies_low, _row.copies_high)
    _say(["copies_more", _row.tower, _row.question], _row.more, _row.more_low, _row.more_high)

# %% [markdown]
# Of {num}`copies_cells:d` pairs of model and question, {num}`copies_alive:d` stay above chance with copies. Noise on top
# changes accuracy by {num}`copies_worst_noise:+.3f` at worst: over copies, attention was redundant in each of these models, whatever it had
# learned. Mostly this is the trivial kind of redundancy, in models that can hardly see any more, and no evidence that they did not use
# attention. In one cell it is not. With copies the broadcast model still counts, right on {num}`copies_broadcast_how_many:.2f:ci` where guessing
# earns {num}`guess_how_many:.2f`, and noise changes that by {num}`copies_more_broadcast_how_many:+.3f:ci`: the paper's C7 to the letter, in a model that
# still takes something from the picture.
#
# ## Where the models look
#
# Redundant is not random: a model may look at the right place although it need not. {numref}`fig-looking` shows how much of the last
# token's attention goes to patches that decide the answer, against what an even spread would give.

# %% tags=["hide-input"]
MASSES = {"relevant": "on patches that decide", "expected": "if spread evenly"}
_n_look = min(n_items, 500)
_lines = []
for _of in _models:
    for _name in _names:
        _frame = obtain("attention", model=_of, benchmark=_name, n=_n_look).dropna(subset=["relevant"])
        _per_item = (
            _frame.groupby(["cluster", "item"], sort=False)[["visual", "relevant", "expected"]].mean().reset_index()
        )
        for _what, _mass in MASSES.items():
            _lines.append(
                {
                    "tower": _short[_of],
                    "question": _kind(_name),
                    "mass": _mass,
                    **stats.ratio(_per_item[_what], _per_item["visual"], _per_item["cluster"])._asdict(),
                }
            )
looking = pd.DataFrame(_lines)
_fig, _axes = plt.subplots(1, len(_names), figsize=(5.2, 3.2), sharey=True, squeeze=False)
for _ax, _name in zip(_axes[0], _names, strict=True):
    drawing.groups(_ax, looking[looking["question"] == _kind(_name)], "tower", "mass", list(MASSES.values()), "value")
    _ax.set(title=_kind(_name), ylim=(0, None))
    plt.setp(_ax.get_xticklabels(), rotation=30, ha="right")
_axes[0][0].set_ylabel("share of visual mass")
drawing.legend_below(_fig, _axes[0], ncols=2)
report.figure(
    _fig,
    "looking",
    f"Share of the last prompt token's attention to the image that falls on patches which decide the answer, mean over layers and heads, {_n_look} items a "
    "benchmark, 95 % intervals.",
    "Points for each model and kind of question, beside the share that evenly spread attention would give.",
    data=looking,
)

# %% [markdown]
# ## Questions that need no picture
#
# The other way to redundancy is a benchmark that hardly needs the picture. The scenes of mini-mathvista have sums beside counts; {numref}`fig-mixture`
# weighs the two so that a growing share of the questions can be answered without the image.

# %% tags=["hide-input"]
SHARES = np.linspace(0, 1, 11)
_lines = []
_mixed = next((name for name in _names if _kind(name) == "how many"), None)  # who asks for sums too
for _of in _models if _mixed else ():
    _was, _is = before[_of, _mixed], after[_of, _mixed, "gaussian"]
    _change, _cluster = (_is["correct"] - _was["correct"]).to_numpy(), _was["cluster"].to_numpy()
    _picture = _was["picture"].to_numpy()
    for _share in SHARES:
        _parts = [(_change[p], np.ones(p.sum()), _cluster[p]) for p in (_picture, ~_picture)]
        _lines.append({"tower": _short[_of], "share": _share, **stats.combined(_parts, [1 - _share, _share])._asdict()})
mixture = pd.DataFrame(_lines, columns=["tower", "share", "value", "low", "high"])
_fig, _ax = plt.subplots(figsize=(5.2, 3.2))
for _j, _of in enumerate(_models):
    _part = mixture[mixture["tower"] == _short[_of]]
    _ax.plot(100 * _part["share"], _part["value"], marker=drawing.MARKERS[_j], ms=4, label=_short[_of])
    _ax.fill_between(100 * _part["share"], _part["low"], _part["high"], alpha=0.2, lw=0)
_ax.axhline(0, color="black", lw=0.8)
_ax.set(xlabel="questions that need no picture (percent)", ylabel="change of accuracy")
_ax.legend()
report.figure(
    _fig,
    "mixture",
    "Change of accuracy under gaussian weights on image tokens in mixtures of counts and sums, 95 % bands: the same model, the same "
    "intervention, and a benchmark that depends on the picture more or less.",
    "Lines that rise as the share of questions without need of the picture grows.",
    data=mixture,
)
if len(mixture):
    _line = mixture[mixture["tower"] == (_short.get(model) or _short[_models[0]])].set_index("share")
    report.say("mixture_none", *_line.iloc[0][["value", "low", "high"]])
    report.say("mixture_most", *_line.iloc[-2][["value", "low", "high"]])
    report.say("mixture_sums", *_line.iloc[-1][["value", "low", "high"]])

# %% [markdown]
# Where all questions are counts, noise changes {num}`mixture_none:+.3f:ci`; with nine questions in ten that need no
# picture, {num}`mixture_most:+.3f:ci`. Sums alone change by {num}`mixture_sums:+.3f:ci`: the replacement also disturbs what never needed the
# image, so the line does not end at zero. A benchmark average says little about attention unless one knows how many of its
# questions need the picture at all.

# %% [markdown]
# ## The answer in three lines
#
# 1. In the models whose tokens each tell their own patch, whether patches can look at one another or not, learned weights are needed: noise in all rows and layers takes
#    nearly everything that is above chance.
# 2. In the model whose tokens each tell the answer, they are still needed for what the decoder learned to *find*, and half as much for what it counts.
#    There, information in each token was no redundancy, because the decoder was not trained to take it from just anywhere.
# 3. Where we made all tokens alike, replaced weights cost {num}`copies_worst_noise:+.3f` at worst. Where the question needs no picture there is little to lose, and a
#    replacement can cost even that ({numref}`fig-mixture`).
#
# ## What could fool us
#
# - **A probe reads what is there, not what is used.** A fact can be in a token and the model may never have learned to read it. The axis
#   is about what *could* be read from anywhere.
# - **Linear probes.** What a linear map does not find, an MLP might. The order of the towers is what counts, not the values.
# - **Models differ in more than their towers.** Their baselines differ ({numref}`tab-towers-baseline`), which is why {numref}`fig-regimes`
#   counts what is above chance.
# - **Still and moving towers.** The broadcast tower stands still while the decoder learns the questions, the others go on learning with it. What is
#   put down to broadcasting may in part be due to that.
# - **One seed a tower.** Intervals are over items and draws of noise; each tower was trained once. How far trainings of one recipe lie apart shows
#   {numref}`fig-trainings` for a smaller model.
# - **Few points.** Twelve points, two of them to the right, show that the condition is not sufficient. They cannot show how the share that is kept
#   grows between.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. A check never looks at how you do it, only at what comes out;
# it can be run as often as you like.

# %%
from lostlib import teach

# %% [markdown]
# ### Exercise 1: where the count is
#
# *Objective:* read a probe's table · *Minutes:* 3 · *Difficulty:* easy
#
# In {numref}`tab-known`, from which reading can the default model's *how many* questions be answered best? Answer with the heading of the
# column. Before you run the check, say why the tokens that show the counted things do so badly.

# %% tags=["exercise"]
column = ...

# %% tags=["check"]
teach.check_reading("where-the-count-is", column, known)

# %% tags=["solution", "hide-cell"]
_default = known[(known["tower"] == known["tower"].iloc[0]) & (known["question"] == "how many")]
column = _default.set_index("read from")["value"].idxmax() if len(_default) else ...
teach.check_reading("where-the-count-is", column, known)

# %% [markdown]
# ### Exercise 2: the mean of all
#
# *Objective:* see what uniform attention hands on · *Minutes:* 4 · *Difficulty:* medium
#
# Attention with uniform weights hands on the mean of the values. In a tower whose patches know nothing of one another, a probe of the
# *mean* token can still count the circles although no single token can. Which fact about the scene gets lost in the mean: `"how many"`,
# `"where"` or `"whether"`?

# %% tags=["exercise"]
lost = ...

# %% tags=["check"]
teach.check_reading("lost-in-the-mean", lost)

# %% tags=["solution", "hide-cell"]
lost = "where"  # sums of indicators survive a mean; which token had which is gone
teach.check_reading("lost-in-the-mean", lost)

# %% [markdown]
# ### Exercise 3: diluted
#
# *Objective:* take a benchmark average apart · *Minutes:* 3 · *Difficulty:* easy
#
# Noise costs sixty points on questions about the picture and nothing on questions that need none. By how many points does the average fall on a
# benchmark in which three questions of four need no picture?

# %% tags=["exercise"]
points = ...

# %% tags=["check"]
teach.check_reading("diluted", points)

# %% tags=["solution", "hide-cell"]
share = 1 / 4  # of the questions need the picture and can be hurt
points = round(60 * share)
teach.check_reading("diluted", points)

# %% [markdown]
# ### Exercise 4: what would refute it
#
# *Objective:* say in advance what counts against a hypothesis · *Minutes:* 5 · *Difficulty:* hard
#
# Which observation would speak most clearly against "attention is redundant where every token tells the answer"?
#
# - `"a"`: a model with a local tower loses everything under noise;
# - `"b"`: a model each of whose tokens tells the answer, by a probe, loses everything under noise;
# - `"c"`: a model each of whose tokens tells the answer puts most of its attention on the right patch.

# %% tags=["exercise"]
against = ...

# %% tags=["check"]
teach.check_reading("what-would-refute", against)

# %% tags=["solution", "hide-cell"]
against = "b"  # the condition is met and the consequence fails; c says where it looks, not whether it has to
teach.check_reading("what-would-refute", against)

# %% tags=["hide-input"]
results.close("regimes", obtain.read)
