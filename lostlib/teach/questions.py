"""Questions with an instant answer: reading a figure or thinking it over, and predicting what an experiment does.

The right answer to a reading is computed from the chapter's own data, so that it is right for any model. The right
prediction is what the experiment shows when it is run, and it is run only after everything has been predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lostlib.teach.outcome import Outcome, unanswered
from lostlib.teach.predictions import EXPERIMENTS, Change
from lostlib.text import among

Rule = Callable[[Any], Any]  # of the figure's data
ANSWERS = ("falls", "stays", "rises")


@dataclass(frozen=True)
class Reading:
    """A question about a figure's data, or about nothing but the text.

    options   what may be answered; from the data where they are its labels; none: a number
    right     the answer
    why       what is to be learned, shown after the right answer
    hint      where to look, shown after a wrong one
    """

    options: tuple[Any, ...] | Rule
    right: Any | Rule
    why: str
    hint: str


def _steps(profile: pd.DataFrame) -> str:
    """Which module's steps add up to more, from eRank by position (whole: layer input, half: before the FFN)."""
    ordered = profile.sort_values("site")
    step = ordered["mean"].diff()
    after_attention = ordered["site"] % 1 != 0
    return "attention" if step[after_attention].sum() > step[~after_attention].sum() else "FFN"


SHARES = ("less than a fifth", "about a half", "nearly all")


def _share(profile: pd.DataFrame) -> str:
    """eRank at its highest among what the tokens could span (column `tokens`)."""
    share = profile["mean"].max() / profile["tokens"].iloc[0]
    return SHARES[0 if share < 0.2 else 1 if share < 0.75 else 2]


def _free_from(where: pd.DataFrame) -> str:
    """The first layer from which on shuffling costs nothing that the interval shows; `where` of one benchmark."""
    upper = where[where["kind"] == "this layer and all above"]
    free = upper[upper["high"] >= 0]["layer"]
    return str(free.iloc[0]) if len(free) else "none"


def _rival(means: pd.DataFrame) -> str:
    """The null model whose RID is nearest to the true attention update's."""
    rid = means[(means["value"] == "rid") & (means["module"] == "attn")].set_index("control")["mean"]
    return str((rid.drop("none") - rid["none"]).abs().idxmin())


def _single_layers(spans: pd.DataFrame) -> pd.Series:
    """RID of both modules by layer, from spans of one layer or run of layers."""
    both = spans[spans["module"] == "both"]
    shortest = both.loc[both.groupby("first")["last"].idxmin()]
    return shortest.set_index(shortest["first"].astype(str))["mean"]


def _counting(known: pd.DataFrame) -> pd.Series:
    """Share of the first model's `how many` questions that a probe answers, by what it reads from."""
    asked = known[(known["tower"] == known["tower"].iloc[0]) & (known["question"] == "how many")]
    return asked.set_index("read from")["value"]


READINGS: dict[str, Reading] = {
    "raises-effective-rank": Reading(
        ("attention", "FFN"), _steps,
        "Summed over the layers, this module's updates raise the effective rank more. That is not yet innovation: "
        "energy can be spread over directions that were there already, so the next chapter needs a second part.",
        "Compare the steps from a circle to the next square with those from a square to the next circle.",
    ),
    "share-of-directions": Reading(
        SHARES, _share,
        "As many directions as tokens are there in exact arithmetic, but a few of them hold most of the energy.",
        "Divide the highest point of the curve by the number of tokens.",
    ),
    "largest-part": Reading(
        lambda parts: tuple(parts.index), lambda parts: parts.idxmax(),
        "RID adds three parts of different kinds; two updates of one RID can be new in different ways.",
        "Find the longest segment of this bar.",
    ),
    "always-zero": Reading(
        ("delta_s", "delta_d_column", "delta_d_row"), "delta_d_row",
        "With more independent tokens than dimensions every direction is taken: nothing can be new in the row space. "
        "In mini-llava-1.5 it is the other way round. Numbers of models with different S and H do not compare.",
        "Which of the two projectors is the identity when the rows of X span the whole hidden space?",
    ),
    "no-cost-from-layer": Reading(
        lambda where: (*dict.fromkeys(str(layer) for layer in where["layer"]), "none"), _free_from,
        "From there on it does not matter which image token gets which weight, in this benchmark: what the answer "
        "needs has been fetched. Redundant here is not useless everywhere.",
        "Follow the line “this layer and all above” from the right until an interval leaves zero.",
    ),
    "what-follows": Reading(
        ("a", "b", "c"), "b",
        "The run changed which image token gets which weight in these layers, and nothing else. Their attention to "
        "text, the mass on the image as a whole and all earlier layers stayed as learned: they were not tested.",
        "What exactly did the run change, and what did it leave as learned?",
    ),
    "which-run-tells": Reading(
        ("more items", "another seed", "permuted"), "permuted",
        "Shuffled rows hold the very numbers of the learned rows, so they look as usual but for their places. More "
        "items or seeds make the same interval narrower and leave both readings open.",
        "Which run removes the unusual look and keeps the loss of place?",
    ),
    "smallest-hidden-size": Reading(
        (), 400,
        "phi is at most the square root of H: a token whose whole energy lies in one dimension. A threshold that is "
        "carried over from a large model can be out of reach in a small one, so give tau as a share of the energy.",
        "phi is largest for a token with all its energy in one dimension. What is it then, in terms of H?",
    ),
    "harder-rival": Reading(
        ("gaussian", "shuffled"), _rival,
        "The more a null model keeps of the true update, the less is left to explain by what it does not keep.",
        "Which of the two points is nearer to the circle of attention?",
    ),
    "largest-step": Reading(
        lambda spans: tuple(_single_layers(spans).index), lambda spans: _single_layers(spans).idxmax(),
        "A mean over layers would not have shown that one layer stands out.",
        "Compare the cells of the diagonal in the panel of both modules.",
    ),
    "together-and-apart": Reading(
        ("smaller", "equal", "larger"), "smaller",
        "Together they bring nothing, and each step alone counts. Spans ask what layers bring together; a sum of steps "
        "also counts what is undone. Mind that RID is no additive quantity: an update that is written twice can count "
        "more as one than as two steps.",
        "What is the difference between the stream before the first and after the second of the two?",
    ),
    "false-alarms": Reading(
        (), lambda p: round(0.05 * p.notna().sum()),
        "A p below one in twenty comes up by chance in one test of twenty, whatever is tested. Holm's adjustment asks "
        "more of the smallest p the more tests there are, so that even one false alarm on the whole page is rare.",
        "How many p values does the table hold, and what share of them falls below the threshold by chance?",
    ),
    "at-chance": Reading(
        ("holds", "opposite", "not measurable"), "not measurable",
        "A model that guesses has nothing to lose. That noise changes nothing is then no finding about attention, "
        "however narrow the interval.",
        "What would the change of accuracy be if attention mattered a lot, in a model that guesses?",
    ),
    "sign-without-size": Reading(
        (), lambda found: int(((found["sign"] == "yes") & (found["size"] == "no")).sum()),
        "The sign is what a claim says, the size what a number in the paper says. A small model in a small world can "
        "share the one and not the other, and a table that prints only ticks would hide which.",
        "Count the rows of the model whose sign is “yes” and whose size is “no”.",
    ),
    "wide-interval": Reading(
        ("holds", "opposite", "undecided"), "undecided",
        "Neither is certain: no loss at all and a loss of more than two points both lie in the interval. More items "
        "would narrow it.",
        "Is a loss of two points ruled out? Is a loss of nothing ruled out?",
    ),
    "products-left": Reading(
        (), 10,
        "A tenth of the products, and yet the layer gets much less than ten times faster: products of queries and keys "
        "are a small part of what it computes.",
        "Each query meets the text keys only; there are as many queries as before.",
    ),
    "where-the-count-is": Reading(
        lambda known: tuple(_counting(known).index), lambda known: _counting(known).idxmax(),
        "A patch knows what it shows, not how often the like is shown elsewhere. A sum over patches counts, and the "
        "mean is a sum up to a factor.",
        "Compare the columns in the row of the first model and of “how many”.",
    ),
    "lost-in-the-mean": Reading(
        ("how many", "where", "whether"), "where",
        "A mean over tokens keeps sums: how often something is there, and so whether it is. Which token said so is "
        "gone, unless the tokens themselves name their place.",
        "Think of a code that is one where a circle is and zero elsewhere. What does its sum over patches tell?",
    ),
    "diluted": Reading(
        (), 15,
        "The same model, the same intervention: three quarters of the benchmark never needed what was broken. An "
        "average without this share cannot tell redundant attention from a test that does not test it.",
        "Only one question of four can be hurt.",
    ),
    "what-would-refute": Reading(
        ("a", "b", "c"), "b",
        "The condition is met and the consequence fails. In a, the condition is not met; c is about where a model "
        "looks, which does not say whether it has to.",
        "Which one meets the condition of the hypothesis and contradicts what it says will follow?",
    ),
    "most-flips": Reading(
        lambda flips: tuple(flips["family"]), lambda flips: flips.set_index("family")["flipped"].idxmax(),
        "Where a choice carries a verdict, a study has to name the choice; where it carries none, naming it is a "
        "courtesy.",
        "Count the black frames between one bold name and the next.",
    ),
    "turned-by-a-unit": Reading(
        ("C3", "C4", "none"), "none",
        "A verdict by sign and order cannot know the unit. One that asks for a size, such as a value above one half, "
        "could.",
        "What happens to the ends of an interval when all values are divided by one positive number?",
    ),
    "wrong-baseline": Reading(
        (), 1,
        "Two of the three points that seem lost belong to the change of function, and the noise has even gained one. "
        "The baseline of an intervention goes through the same function, with nothing changed.",
        "Which two runs differ in the noise and in nothing else?",
    ),
    "half-the-width": Reading(
        (), 200,
        "The width falls with the root of the number: four times the items for half of the interval.",
        "The standard error of a mean is the spread divided by the root of the number of items.",
    ),
    "all-paths": Reading(
        (), 128,
        "Some of so many paths lead anywhere. That is why rules and defaults are fixed before one looks, and why what "
        "was tried is reported in full.",
        "The second choice doubles the ways that the first one leaves.",
    ),
}  # fmt: skip


def check_reading(question: str, answer: Any, data: pd.DataFrame | pd.Series | None = None) -> Outcome:
    """Check the answer to a question of `READINGS`; `data` is what the figure shows.

    >>> print(check_reading("always-zero", ...))
    ○ Always zero: not yet
        Answer with one of: 'delta_s', 'delta_d_column', 'delta_d_row'
    >>> check_reading("always-zero", "delta_s").state
    'failed'
    """
    if question not in READINGS:
        raise ValueError(f"no question {question!r}; there are {among(question, READINGS)}")
    asked = READINGS[question]
    options = asked.options(data) if callable(asked.options) else asked.options
    expected = f"Answer with one of: {', '.join(map(repr, options))}" if options else "Answer with a number."
    title = question.replace("-", " ").capitalize()
    if unanswered(answer):
        return Outcome(title, "not yet", why=expected)
    answer = next((o for o in options if str(o).lower() == str(answer).strip().lower()), answer)
    if not isinstance(answer, str | int | float) or (options and answer not in options):
        return Outcome(question, "failed", failed=f"{answer!r} is no answer", why=expected)
    right = asked.right(data) if callable(asked.right) else asked.right
    if answer != right:
        return Outcome(title, "failed", failed=f"{answer!r} is not it", why=f"Look again: {asked.hint}")
    return Outcome(title, "passed", (f"{answer!r}",), why=asked.why)


def check_predictions(experiment: str, predictions: Any) -> Outcome:
    """Run an experiment of `EXPERIMENTS` once everything is predicted, and set each prediction beside what happens.

    `predictions` has for each change `"falls"`, `"stays"` or `"rises"`. It stays when the 95 % interval of the change
    holds zero. An experiment on a model takes seconds.

    >>> print(check_predictions("sink-value", {"sign": ...}))
    ○ Sink value: not yet
        Predict 'falls', 'stays' or 'rises' for: scale, sign, elsewhere, wider
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"no experiment {experiment!r}; there are {among(experiment, EXPERIMENTS)}")
    title, changes, run = EXPERIMENTS[experiment]
    if not isinstance(predictions, Mapping):
        predictions = dict.fromkeys(changes, None if unanswered(predictions) else predictions)
    if missing := [name for name in changes if unanswered(predictions.get(name))]:
        return Outcome(title, "not yet", why=f"Predict 'falls', 'stays' or 'rises' for: {', '.join(missing)}")
    if wrong := [name for name in changes if str(predictions[name]) not in ANSWERS]:
        given = predictions[wrong[0]]
        why = f"Predict one of: {among(given, ANSWERS)}"
        return Outcome(title, "failed", failed=f"{wrong[0]}: {given!r} is no prediction", why=why)
    try:
        found = run()
    except ImportError as error:
        return Outcome(title, "not here", why=f"{error.name} is not installed: pip install 'lostlib[measure]'")
    return _compared(title, predictions, found)


def _compared(title: str, predictions: Mapping[str, str], found: Mapping[str, Change]) -> Outcome:
    lines = {
        name: f"{name}: you said {predictions[name]}, it {change.kind} ({change})" for name, change in found.items()
    }
    right = tuple(line for name, line in lines.items() if predictions[name] == found[name].kind)
    wrong = [line for name, line in lines.items() if predictions[name] != found[name].kind]
    if not wrong:
        return Outcome(title, "passed", right)
    why = "A prediction that fails is worth more than one that holds: what did you take for granted?"
    return Outcome(title, "failed", right, "\n".join(wrong), why)
