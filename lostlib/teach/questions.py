"""Questions with an instant answer: reading a figure or thinking it over, and predicting what an experiment does.

The right answer to a reading is computed from the chapter's own data, so that it is right for any model. The right
prediction is what the experiment shows when it is run, and it is run only after everything has been predicted. What
students read is in `readings.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lostlib.teach.outcome import Outcome, unanswered
from lostlib.teach.predictions import EXPERIMENTS, Change
from lostlib.text import among

Rule = Callable[[Any], Any]  # of the figure's data
ANSWERS = ("falls", "stays", "rises")


@dataclass(frozen=True)
class Reading:
    """A question about a figure's data, or about nothing but the text."""

    #: what may be answered, computed from the data where they are its labels; a number if there are none
    options: tuple[Any, ...] | Rule
    right: Any | Rule  #: the answer
    why: str  #: what is to be learned, shown after the right answer
    hint: str  #: where to look, shown after a wrong one


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


FIGURES: dict[str, tuple[tuple[Any, ...] | Rule | None, Rule]] = {  # options that are the data's, and what is right
    "raises-effective-rank": (None, _steps),
    "share-of-directions": (SHARES, _share),
    "largest-part": (lambda parts: tuple(parts.index), lambda parts: parts.idxmax()),
    "no-cost-from-layer": (
        lambda where: (*dict.fromkeys(str(layer) for layer in where["layer"]), "none"), _free_from
    ),
    "harder-rival": (None, _rival),
    "largest-step": (
        lambda spans: tuple(_single_layers(spans).index), lambda spans: _single_layers(spans).idxmax()
    ),
    "what-innovation-did": (None, lambda ranks: "rises" if ranks["after"] > ranks["before"] else "falls"),
    "false-alarms": (None, lambda p: round(0.05 * p.notna().sum())),
    "sign-without-size": (None, lambda found: int(((found["sign"] == "yes") & (found["size"] == "no")).sum())),
    "where-the-count-is": (lambda known: tuple(_counting(known).index), lambda known: _counting(known).idxmax()),
    "most-flips": (
        lambda flips: tuple(flips["family"]), lambda flips: flips.set_index("family")["flipped"].idxmax()
    ),
}  # fmt: skip


def _reading(name: str, text: dict[str, Any]) -> Reading:
    options, right = FIGURES.get(name, (None, None))
    given = tuple(text.get("options", ())) if options is None else options
    return Reading(given, text["right"] if right is None else right, text["why"], text["hint"])


TEXTS = Path(__file__).with_name("readings.toml")
READINGS = {name: _reading(name, text) for name, text in tomllib.loads(TEXTS.read_text("utf-8")).items()}


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
