# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# (ch-residual-stream)=
# # What is in the residual stream?
#
# A vision-language model turns a picture and a question into one sequence of tokens. Each token is a vector, and all
# vectors of a sequence together are a matrix that every layer reads and adds to: the **residual stream**. This chapter
# (RQ1) asks what that matrix holds, before the next two ask who puts it there.
#
# ## The paper's claim
#
# {cite:t}`lost2026` measure two things of such a matrix $X \in \mathbb{R}^{S \times H}$ with $S$ tokens and $H$ hidden
# dimensions: how many directions it really uses (its *complexity*, the effective rank of
# {cite:t}`roy2007effective`), and which directions these are (its *support*, two projectors). Their claim about
# modules, that attention reconfigures and the FFN innovates, is a claim about these two.
#
# (rq1-prediction)=
# ## Your prediction
#
# Before you scroll: our model has {num}`hidden:d` hidden dimensions and reads about {num}`tokens:.0f` tokens, most of them
# image patches. How many directions does the stream really use at the input of the first layer? Does the number rise or
# fall with depth?

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

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lostlib import results, stats
from lostlib.benchmarks import load_benchmark
from lostlib.checkpoints import ModelChoice
from lostlib.report import drawing

# %% [markdown]
# ## What the model sees
#
# The default model is small enough to be trained on a laptop, and its world is simple enough that we know the right
# answer *and* which image patches decide it. {numref}`fig-scenes` shows three questions. The white frames are the visual
# tokens that show the objects asked about; everything else could be thrown away.

# %% tags=["hide-input"]
obtain = results.Reader(model=model, benchmark=benchmark, n=n_items, device=device)
answered = obtain("answers")
_shown = {}  # one question a picture, about something that is there where that is known
for _item in sorted(load_benchmark(benchmark, n=n_items).items, key=lambda item: not item.relevant):
    if _item.images:
        _shown.setdefault(_item.cluster, _item)
_items = list(_shown.values())[:3]
_said = dict(zip(answered["item"], answered["raw"], strict=True))

_fig, _axes = plt.subplots(
    max(1, len(_items)), 2, figsize=(5.2, 1.6 * max(1, len(_items))), squeeze=False, width_ratios=(2, 3)
)
for (_ax, _words), _item in zip(_axes, _items, strict=False):
    _picture = np.asarray(_item.images[0])
    _side = _picture.shape[0] // 8
    _ax.imshow(_picture)
    for _token in (token for token in _item.relevant or () if token < _side**2):  # of the first image
        _ax.add_patch(
            plt.Rectangle(
                (_token % _side * 8 - 0.5, _token // _side * 8 - 0.5), 8, 8, fill=False, color="white", lw=0.8
            )
        )
    _lines = [textwrap.fill(textwrap.shorten(line, 90), 30) for line in _item.prompt.splitlines()[:6]]
    _lines += [
        "",
        *(
            textwrap.shorten(f"{who}: {said}", 30)
            for who, said in (("model", _said.get(_item.uid, "")), ("truth", _item.answer))
        ),
    ]
    _words.text(0, 0.5, "\n".join(_lines).replace("$", r"\$"), va="center")
    _ax.set_axis_off()
    _words.set_axis_off()
report.figure(
    _fig,
    "scenes",
    f"Questions of {benchmark} with the model's answers. White frames: the visual tokens that decide the answer.",
    "Pictures of coloured shapes on a dark background, each with its question, the model's answer and the truth beside it; "
    "the image patches of the objects asked about are framed in white.",
    data=pd.DataFrame(
        [
            {
                "item": i.uid,
                "question": i.prompt,
                "model": _said.get(i.uid),
                "truth": i.answer,
                "tokens": "+".join(map(str, i.relevant or ())),
            }
            for i in _items
        ]
    ),
)

# %% [markdown]
# The model answers {num}`baseline_accuracy:.3f:ci` of these questions correctly (all intervals in this book are 95 %,
# from a bootstrap that resamples images; where all answers are right, the exact one). How it was trained and how good it is at each kind of question is on its
# {ref}`card <model-card>`.
#
# ## Complexity: the effective rank
#
# Write the singular values of $X$ as $\sigma_1 \ge \sigma_2 \ge \dots$ and let $p_i = \sigma_i / \sum_j \sigma_j$. Then
#
# $$
# \begin{aligned}
# \mathrm{eRank}(X) &= \exp\Big(-\sum_i p_i \ln p_i\Big) \\
# &\in [1, \min(S, H)] .
# \end{aligned}
# $$ (eq-erank)
#
# :::{margin}
# **Singular values**: how far $X$ stretches its directions. Large ones are directions with much energy.
# :::
#
# It is the exponential of an entropy: $k$ equal singular values give $k$, one dominating value gives nearly 1. In code,
# with a model at hand:
#
# ```python
# import lostlib
#
# m = lostlib.load_model("mini-llava-1.5")
# b = lostlib.load_benchmark("mini-pope", n=4)
# with lostlib.watch(m) as stream:
#     m.forward(m.encode(b.items[:1]))
# for layer in stream:
#     print(layer, lostlib.effective_rank(stream[layer].resid_pre))
# ```
#
# The chapter itself reads a table of the same numbers for {num}`n_residual:d` items, measured once and shipped, or
# measured now when you ask for another model or more items.

# %% tags=["hide-input"]
rows = obtain("residual", seed=seed).query("control == 'none'")
_choice = ModelChoice.parse(model)
if _choice.card:
    _hidden = _choice.card.hidden
else:
    from transformers import AutoConfig

    _config = AutoConfig.from_pretrained(_choice.folder or _choice.name, revision=_choice.wanted_revision)
    _hidden = _config.get_text_config().hidden_size
report.say("baseline_accuracy", stats.mean(answered["correct"], answered["cluster"]))
report.say("n_residual", rows["item"].nunique())
report.say("tokens", rows["tokens"].mean())
report.say("hidden", _hidden)

attn, ffn = (rows[rows["module"] == name] for name in ("attn", "ffn"))
_sites = [
    attn.assign(site=attn["layer"], value=attn["erank_before"]),
    attn.assign(site=attn["layer"] + 0.5, value=attn["erank"]),
    ffn[ffn["layer"] == ffn["layer"].max()].assign(site=ffn["layer"].max() + 1, value=lambda f: f["erank"]),
]
profile = stats.summary(pd.concat(_sites), ["site"], "value")

_fig, _ax = plt.subplots()
_ax.fill_between(profile["site"], profile["low"], profile["high"], alpha=0.25, lw=0)
_ax.plot(profile["site"], profile["mean"], lw=1.2)
_pre = profile["site"] % 1 == 0
_ax.plot(profile["site"][_pre], profile["mean"][_pre], "o", ms=5, label="resid_pre (before attention)")
_ax.plot(profile["site"][~_pre], profile["mean"][~_pre], "s", ms=5, label="resid_mid (before the FFN)")
_ax.set(xlabel="layer", ylabel="eRank", ylim=(0, None), xticks=sorted(profile["site"][_pre].astype(int)))
_ax.legend()
report.figure(
    _fig,
    "erank",
    f"Effective rank of the residual stream through the layers of {model}; mean over {rows['item'].nunique()} items with "
    "95 % band. The last point is the output of the last layer.",
    "Line of the effective rank against depth, with markers before attention and before the FFN of each layer.",
    data=profile,
)

# %% tags=["hide-input"]
_first, _last = profile.iloc[0], profile.iloc[-1]
report.say("erank_first", _first["mean"], _first["low"], _first["high"])
report.say("erank_last", _last["mean"], _last["low"], _last["high"])
_peak = profile.loc[profile["mean"].idxmax()]
report.say("erank_peak", _peak["mean"], _peak["low"], _peak["high"])
report.say("erank_peak_site", float(_peak["site"]))

# %% [markdown]
# The first layer's input has an effective rank of {num}`erank_first:.1f:ci`, the last layer's output
# {num}`erank_last:.1f:ci`; the highest value is {num}`erank_peak:.1f:ci`, at position {num}`erank_peak_site:.1f` of
# {numref}`fig-erank` (whole numbers are layer inputs, halves lie between attention and FFN). All of them are far below
# the {num}`tokens:.0f` that as many tokens could span: most of the energy lies in few directions.
#
# ## Support: which directions
#
# With a rank $r$, the first $r$ left and right singular vectors of $X$ span its column space (which combinations of
# tokens occur) and its row space (which semantic directions occur); $P_C$ and $P_R$ are the projectors on them. They
# need a rule for $r$, and the paper names none. The rule `numerical` counts every singular value above
# $\max(S,H)\,\varepsilon_{64}\,\sigma_1$, which is faithful to the formula and has a consequence worth knowing: with
# fewer tokens than dimensions, linearly independent, *every* combination of tokens occurs, $P_C$ is the identity, and
# nothing can ever be new in it. In our model $S$ is smaller than $H$, so novelty shows in the row space only; with a long
# sequence in a narrow model it is the other way round. The next chapter shows how much hangs on the rule.
#
# ## How large are the updates?
#
# Each layer adds `attn_out` and then `mlp_out`. {numref}`fig-norm` compares their size with what was there.

# %% tags=["hide-input"]
norms = stats.summary(rows, ["module", "layer"], "norm_ratio")
_fig, _ax = plt.subplots(figsize=(5.2, 2.9))
drawing.curves(_ax, norms, "layer", "module", {"attn": "attention", "ffn": "FFN"})
_ax.set(xlabel="layer", ylabel="relative norm of update", ylim=(0, None))
_ax.legend()
report.figure(
    _fig,
    "norm",
    "Frobenius norm of each module's update relative to the stream it is added to, layer by layer, with 95 % bands.",
    "Two lines, attention and FFN, of the relative norm of their updates against the layer.",
    data=norms,
)

# %% [markdown]
# ## What could fool us
#
# - **One matrix per item.** A spectrum depends on how many tokens there are. Numbers of different $S$ and $H$ cannot be
#   compared without a null model: noise of the same size in {ref}`the next chapter <ch-rq2>`, more of them {ref}`later <ch-beyond>`.
# - **Repeated words.** The embedding of a word is the same wherever it stands, so the input of the first layer has
#   identical rows and a lower rank than it has tokens. Attention is what tells them apart.
# - **Massive activations.** A few huge entries pull $\sigma_1$ up and eRank down without any change elsewhere.
# - **A small world.** This model has seen coloured shapes and nothing else. What holds here need not hold in a large
#   model; the same chapter runs on one by changing a parameter.

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
# *Objective:* read complexity off a curve · *Minutes:* 3 · *Difficulty:* easy
#
# In {numref}`fig-erank` a step from a circle to the next square is attention's, a step from a square to the next circle is the
# FFN's. Which of the two, `"attention"` or `"FFN"`, raises the effective rank more in all? And how much of what the tokens could
# span is used where the curve is highest: `"less than a fifth"`, `"about a half"` or `"nearly all"`?

# %% tags=["exercise"]
raises_more = ...
used = ...

# %% tags=["check"]
teach.check_reading("raises-effective-rank", raises_more, profile)

# %% tags=["check"]
teach.check_reading("share-of-directions", used, profile.assign(tokens=rows["tokens"].mean()))

# %% tags=["solution", "hide-cell"]
_steps = profile["mean"].diff()  # from each position to the next: attention, FFN, attention, ...
raises_more = "attention" if _steps[1::2].sum() > _steps[2::2].sum() else "FFN"
teach.check_reading("raises-effective-rank", raises_more, profile)

# %% tags=["solution", "hide-cell"]
_highest = profile["mean"].max() / rows["tokens"].mean()
used = "less than a fifth" if _highest < 1 / 5 else "about a half" if _highest < 3 / 4 else "nearly all"
teach.check_reading("share-of-directions", used, profile.assign(tokens=rows["tokens"].mean()))

# %% [markdown]
# (rq1-exercise-2)=
# ### Exercise 2: write the effective rank
#
# *Objective:* turn a formula into code and know what it ignores · *Minutes:* 10 · *Difficulty:* medium
#
# Write {eq}`eq-erank` for one matrix of shape $(S, H)$. Before you do: which of these leave the effective rank as it is: a rotation
# of the hidden space, another order of the tokens, another scale, a row of zeros, the transpose? The check tries them all.


# %% tags=["exercise"]
def my_erank(X):
    """The effective rank of a numpy array X of shape (S, H)."""
    ...


# %% tags=["check"]
teach.check_effective_rank(my_erank)


# %% tags=["solution", "hide-cell"]
def my_erank(X):
    sigma = np.linalg.svd(X, compute_uv=False)
    p = sigma / sigma.sum()
    p = p[p > 0]  # 0 ln 0 is 0
    return np.exp(-np.sum(p * np.log(p)))


teach.check_effective_rank(my_erank)

# %% [markdown]
# (rq1-exercise-3)=
# ### Exercise 3: change the stream and predict
#
# *Objective:* tell which changes complexity sees · *Minutes:* 8 · *Difficulty:* medium
#
# Take the residual stream of one question in the middle of the mini model. Predict for each change whether its effective rank
# `"falls"`, `"stays"` or `"rises"`; the check then makes the changes and shows what happens.
#
# - `larger`: all numbers times seven
# - `twice`: every token stands there twice
# - `spike`: a single entry becomes a thousand times as large as any other
# - `noise`: Gaussian noise of the stream's own norm is added
# - `average`: every token becomes the mean of all tokens

# %% tags=["exercise"]
predictions = {"larger": ..., "twice": ..., "spike": ..., "noise": ..., "average": ...}

# %% tags=["check"]
teach.check_predictions("spectrum", predictions)

# %% tags=["solution", "hide-cell"]
predictions = {"larger": "stays", "twice": "stays", "spike": "falls", "noise": "rises", "average": "falls"}
# Complexity sees the shape of the spectrum and nothing else.
# Noise has the highest: it is not the same as information.
teach.check_predictions("spectrum", predictions)

# %% [markdown]
# ### Exercise 4: another measure, the same questions
#
# *Objective:* carry properties over to a measure you have not met · *Minutes:* 10 · *Difficulty:* hard
#
# Physicists count directions by the *participation ratio* $(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2$ with $\lambda_i = \sigma_i^2$.
# Write it. Which properties of the effective rank do you expect it to share? Can you do without a singular value decomposition?


# %% tags=["exercise"]
def my_participation_ratio(X):
    """The participation ratio of a numpy array X of shape (S, H)."""
    ...


# %% tags=["check"]
teach.check_participation_ratio(my_participation_ratio)


# %% tags=["solution", "hide-cell"]
def my_participation_ratio(X):
    gram = X @ X.T  # its eigenvalues are the lambdas; the trace is their sum
    return np.trace(gram) ** 2 / np.sum(gram**2)  # the squared entries add up to the sum of their squares


teach.check_participation_ratio(my_participation_ratio)

# %% tags=["hide-input"]
results.close("residual_stream", obtain.read)
