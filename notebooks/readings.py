# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   lost: {data: [data/results/readings, data/chance.json, data/models/*/model.safetensors]}
# ---

# %% [markdown]
# (ch-readings)=
# # In which readings does C7 hold?
#
# The first paper replaces the learned attention weights on image tokens by noise and finds that models answer as well as before
# ({ref}`claim C7 <claim-c7>`). The sources that we could read do not say where the noise comes: in which tokens' rows, in which layers,
# in the prompt or in the answer. This chapter tries each of these readings, in every model of this book that has been measured.
#
# :::{margin}
# **Reading**: one way to fill in what a recipe leaves open. Here: which rows, which layers, which phase, and how much mass the image gets.
# :::
#
# ## The answer

# %% tags=["parameters"]
model = "mini-llava-1.5"
benchmark = "mini-pope"
n_items = 300
seed = 0
device = "cpu"
models = "shipped"
benchmarks = "mini-pope+mini-realworldqa+mini-mathvista+mini-captions"
seeds = 5

# %% tags=["hide-input"]
import re as _re

from lostlib import report
from lostlib.report.parameters import BENCHMARKS

report.check_parameters(globals(), models=_re.compile(r"[^+]+(\+[^+]+)*"), benchmarks=BENCHMARKS, seeds=(int, 1, 20))
report.style()

import matplotlib.pyplot as plt
import pandas as pd

from lostlib import claims, results
from lostlib.claims import readings, scorecard
from lostlib.report import drawing, notebook
from lostlib.report.readings import readings as _picture

# %% tags=["hide-input"]
obtain = results.Reader(seed=seed, device=device, **({"seeds": seeds} if seeds != 5 else {}))
names = benchmarks.split("+")
shelf = scorecard.Shelf()
pairs = [
    (of, name)
    for of in (shelf.every("readings") if models == "shipped" else models.split("+"))
    for name in (shelf.benchmarks("readings", of) if models == "shipped" else names)
    if name in names
]
pairs += [(model, name) for name in names if model not in [of for of, _ in pairs]]
half = max(1, n_items // 2)  # long answers take longer
cells = pd.concat(
    [
        readings.cells(
            obtain("readings", model=of, benchmark=name, n=half if "captions" in name else n_items), of, name
        )
        for of, name in pairs
    ],
    ignore_index=True,
)
columns = list(dict.fromkeys(of for of, _ in pairs))
gaussian = cells[cells["weights"] == "gaussian"]
report.figure(
    _picture(gaussian, columns),
    "readings",
    "Where noise on the image is free (green), and where it costs accuracy (pink, orange). A row is a reading, a column a model, a panel a benchmark. "
    "Green: C7 certainly holds, for the loss is below two points and below a tenth of the room above chance. Pink or orange: it certainly "
    "does not, and the stronger the colour, the less of the room is left. Grey: these items cannot tell; again, darker means that less is "
    "left. ○: the model can read none of these questions, or has less than ten points of room. =: a reading that repeats another by construction. "
    "An empty place: not measured. "
    f"Gaussian weights, {seeds} seeds, {n_items} questions a benchmark ({half} long answers).",
    "Four grids of coloured cells, readings against models.",
    data=gaussian.drop(columns="reason"),
)
_said = " ".join(readings.answer(cells))
notebook.show({"text/plain": _said, "text/markdown": _said, notebook.BOOK: {"markdown": report.escape(_said)}})

# %% tags=["hide-input"]
_own = gaussian[gaussian["same"] == ""]
_able = _own[_own["status"].isin(claims.TOLD)]
report.say("readings_models", len(columns))
report.say("readings_cells", len(_able))
report.say("readings_hold", int((_able["status"] == claims.HOLDS).sum()))
report.say("readings_lost", int(_able["status"].isin([claims.FAILS, claims.OPPOSITE]).sum()))
report.say("readings_undecided", int((_able["status"] == claims.UNDECIDED).sum()))
_long = _able[(_able["benchmark"] == "mini-captions") & (_able["reading"] == "decoding")]
report.say("readings_decoding_models", len(_long))
report.say("readings_decoding_left", _long["left"].mean())
report.say("readings_decoding_most", _long["left"].max())

# %% [markdown]
# In brackets: in how many of the cells with room C7 certainly holds (in the second sentence: certainly does not).
#
# In the picture are {num}`readings_models:d` models. Of {num}`readings_cells:d` cells with room to lose, C7 certainly holds in
# {num}`readings_hold:d`, certainly does not in {num}`readings_lost:d`, and {num}`readings_undecided:d` are undecided. These are small
# models, trained in this project; for real models the table is still to be measured ({ref}`real-models`).
#
# ## Your prediction
#
# Noise while the answer is generated cannot change an answer of one token, because it comes too late. But what does it do to a
# description such as *large red circle row 1 column 2*? Write down how much of the accuracy you expect to be left.
#
# ## What is left open
#
# | choice | readings |
# |---|---|
# | rows: who looks at the image | all; text tokens after the image; image tokens; only the last token of the prompt and those generated |
# | layers | all; the lower half; the upper half; the layers from which on each can be replaced for nothing |
# | phase | prompt and answer; prompt alone; answer alone |
# | mass: how much the image gets in all | as much as learned; an even share |
# | pairs | text rows, image rows and the last row, each in one half of the layers |
#
# The layers that are *free one by one* are found on other questions: the first layer from which on replacing any single
# layer certainly costs less than two points. That each is free does not say that all of them together are.
#
# ## Minimal code
#
# ```python
# from lostlib import results
# from lostlib.claims import readings
#
# rows = results.obtain("readings", model="mini-llava-1.5", benchmark="mini-pope", n=100).frame
# found = readings.cells(rows, "mini-llava-1.5", "mini-pope")
# print(found[["reading", "left", "status"]].head(8))
# print(*readings.answer(found), sep="\n")
# ```
#
# ## One model, with intervals
#
# {numref}`fig-readings-one` takes one column out of each panel. An interval covers pictures and seeds.

# %% tags=["hide-input"]
_one = gaussian[(gaussian["model"] == model) & gaussian["left"].notna() & (gaussian["same"] == "")]
_kinds = [name for name in names if name in set(_one["benchmark"])]
_fig, _ax = plt.subplots(figsize=(drawing.WIDTH, 1.6 + 0.42 * max(1, _one["reading"].nunique())))
for _at in (0, 1):
    _ax.axvline(_at, color="black", lw=0.8)
drawing.groups(
    _ax, _one.fillna({"low": _one["left"], "high": _one["left"]}), "reading", "benchmark", _kinds, "left", lying=True
)
_ax.set(xlabel="share of the room that is left")
if _kinds:
    drawing.legend_below(_fig, [_ax], 2)
report.figure(
    _fig,
    "readings-one",
    f"{model}, reading by reading: the share of the room above chance that is left under gaussian weights on the image, with 95 % intervals. "
    "1: the model answers as if untouched. 0: it guesses.",
    "A forest plot: a line for each reading, a point for each benchmark.",
    data=_one.drop(columns="reason"),
)

# %% [markdown]
# ## Long answers
#
# In `mini-captions` a model describes an object that it is named: size, colour, shape, row and column, all of which must be right.
# With noise in the generated tokens alone, {num}`readings_decoding_left:.2f` of the room is left on average over
# {num}`readings_decoding_models:d` models, and {num}`readings_decoding_most:.2f` in the model that keeps most. That decode-only noise
# is free for yes-or-no questions is a fact about the questions, not about attention.
#
# ## Every cell
#
# :::{dropdown} All readings, models and benchmarks, with intervals

# %% tags=["hide-input"]
report.table(
    cells[
        [
            "model",
            "benchmark",
            "reading",
            "weights",
            "same",
            "seeds",
            "untouched",
            "left",
            "low",
            "high",
            "status",
            "reason",
        ]
    ],
    "readings",
    "Every reading in every model: the share of the room that is left, its 95 % interval over pictures and seeds, and the verdict of C7. "
    "Permuted weights were drawn with one seed, so their verdicts stay undecided. *same*: the run that a reading repeats by construction.",
    dict.fromkeys(("untouched", "left", "low", "high"), ".2f"),
    look="lost-sortable",
)

# %% [markdown]
# :::
#
# ## What could fool us
#
# - **The room.** Shares are of the accuracy above chance in the groups of questions that the untouched model can read. Ten points of
#   room are little: there an interval is wide, and the cell is often undecided.
# - **Few items.** A loss that is certainly below two points needs answers that hardly change; a true loss of one point stays undecided here.
#   Where no answer changes at all, the interval has no width. By the rule of three a loss of three in so many questions is then still
#   possible: one point of three hundred, two of one hundred and fifty.
# - **One kind of noise.** The verdicts are of gaussian weights. Permuted weights, which keep each row's distribution, stand in {numref}`tab-readings`.
# - **Not the whole product.** Choices are made differently one at a time, and in pairs of rows and layers. Other combinations were not measured.
# - **Our models.** Small decoders that see one picture of sixty-four to eighty tokens. Where a real model reads its image, early or late, only measuring it can say.

# %% tags=["hide-input"]
results.close("readings", obtain.read)
