"""Which verdicts flip: what the papers leave open, each choice made differently, one at a time. No torch.

1. `FAMILIES` has the choices, each family a function from a choice to verdicts; 2. `grid` lays all of them out as rows;
3. `flips` counts them by claim; 4. `sentence`, `moved` and `holding` say it, within what was tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lostlib import claims, stats
from lostlib.claims.study import BACKENDS, PROFILES, READERS, UNREAD_OUT, Study, Verdicts, said_of
from lostlib.claims.verdicts import Verdict
from lostlib.tables import NotThere

REFERENCE = "as in the chapters"
RANKS = ("numerical32", "energy=0.999", "energy=0.99", "energy=0.95", "energy=0.9", "erank")
RECIPES = ("gaussian_abs", "uniform", "permuted", "static", "gaussian_logits", "zero")
SIZES = (10, 25, 50, 100, 200, 500)
PLANTED = {"sinks planted": {}, "planted, dimensions out": {"without": "dimensions"},
           "planted, tokens out": {"without": "tokens"}}  # fmt: skip
OF_RID, OF_MIXING = ("C1", "C2a", "C2b", "C4", "C6"), ("C3", "C4", "C6")

# --- the choices ------------------------------------------------------------------------------------------------------


class Family(NamedTuple):
    """Choices of one kind, and the verdicts that one of them gives; none where it does not apply."""

    name: str
    choices: Callable[[Study], Iterable[str]]
    verdicts: Callable[[Study, str], Verdicts]


FAMILIES: list[Family] = []


def _family(name: str, choices: Iterable[str] | Callable[[Study], Iterable[str]]) -> Callable:
    def keep(verdicts: Callable[[Study, str], Verdicts]) -> Callable[[Study, str], Verdicts]:
        FAMILIES.append(Family(name, choices if callable(choices) else lambda _: choices, verdicts))
        return verdicts

    return keep


@_family(REFERENCE, [REFERENCE])
def _reference(study: Study, _: str) -> Verdicts:
    found = study.of_stream(study.whole) | study.of_drawn() | study.of_answers(*study.usual)
    for more in (study.of_sinks, study.of_cuts, study.of_var):
        try:
            found |= more()
        except NotThere:
            continue
    return found


@_family("rank rule", RANKS)
def _ranked(study: Study, rule: str) -> Verdicts:
    return study.of_stream(study.stream(rank=rule), OF_RID) | study.of_drawn(rank=rule)


@_family("tolerance", ["2 times ε(RoPE)", "5 times ε(RoPE)", "10 times ε(RoPE)", "ε of the whole model"])
def _tolerance(study: Study, choice: str) -> Verdicts:
    if choice.startswith("ε"):
        return study.of_stream(study.stream(scope="model"), ["C1"])
    rows, factor = study.whole, int(choice.split()[0])
    wider = rows["rid"].where(rows["control"] != "no_rope", factor * rows["rid"])
    return study.of_stream(rows.assign(rid=wider), ["C1"])


@_family("MixIG", ["bits", "normalised", "causal"])
def _mixing(study: Study, unit: str) -> Verdicts:
    if unit == "causal":
        return study.of_stream(study.stream(causal=True), OF_MIXING) | study.of_drawn(causal=True)

    def other(rows: pd.DataFrame) -> pd.DataFrame:
        by = math.log(2) if unit == "bits" else np.log(rows["tokens"])
        return rows.assign(mixig=rows["mixig"] / by).drop(columns="tme")  # the headroom only stands beside

    return study.of_stream(other(study.whole), OF_MIXING) | study.of_drawn(other)


@_family("layers", ["without the first"])
def _deep(study: Study, _: str) -> Verdicts:
    return study.of_stream(study.whole[study.whole["layer"] > 0]) | study.of_drawn(lambda rows: rows[rows["layer"] > 0])


@_family("noise", ["Noise Δ by token", "Noise Δ by unit", "in all layers at once", *(f"weights {w}" for w in RECIPES)])
def _noise(study: Study, choice: str) -> Verdicts:
    kind, _, what = choice.rpartition(" ")
    if kind == "weights":
        before, _, _ = study.usual
        return study.of_answers(before, {name: study.noisy(name, weights=what) for name in study.names})
    if choice == "in all layers at once":
        return study.of_stream(study.stream(scope="model"), ["C4"]) | study.of_drawn(scope="model")
    rows = study.stream(controls=["noise_delta", "noise_delta:scale=token", "noise_delta:scale=unit"])
    scaled = rows[rows["control"] != "noise_delta"].replace({"control": {f"noise_delta:scale={what}": "noise_delta"}})
    return study.of_stream(scaled, ["C4"])


def _measured(study: Study) -> list[str]:
    """Readings of the replacement beside the untouched model and the default, which is the reference."""
    others = study.readings.loc[study.readings["reading"] != "none", "reading"].unique()
    return [said for said in map(said_of, others) if said]


@_family("reading of the replacement", _measured)
def _reading(study: Study, reading: str) -> Verdicts:
    return study.of_readings(reading)


@_family("massive activations", ["strongest dimension out", *PLANTED])
def _massive(study: Study, choice: str) -> Verdicts:
    if choice not in PLANTED:
        return study.of_stream(study.stream(without="dimensions")) | study.of_drawn(without="dimensions")
    if study.sinks_in == study.model:
        return {}
    how: dict[str, Any] = {"of": study.sinks_in, **PLANTED[choice]}
    return study.of_stream(study.stream(**how)) | study.of_drawn(**how)


@_family("sinks", ["tau 5 %", "tau 20 %", "tau 50 %", "cut to zero", "rho 0.5", "rho 0.8", "rho 0.9"])
def _sinks(study: Study, choice: str) -> Verdicts:
    kind, _, number = choice.removesuffix(" %").rpartition(" ")
    if kind == "tau":
        return study.of_sinks(tau=float(number) / 100)
    if kind == "rho":
        return study.of_var(rho=float(number))
    return study.of_cuts(",flavour=zero")


@_family("other weights", lambda study: [f"{study.model}-{end}" for end in ("xs", "xs-s1", "xs-s2")])
def _weights(study: Study, of: str) -> Verdicts:
    if study.model != "mini-llava-1.5":  # the recipe of which there are several trainings is the smaller one's
        return {}
    return study.of_stream(study.stream(of=of, n=study.many)) | study.of_drawn(of=of) | study.of_model(of)


@_family("arithmetic", lambda study: study.computed)
def _arithmetic(study: Study, choice: str) -> Verdicts:
    of, n = study.computed[choice]
    if choice not in BACKENDS:
        return study.of_stream(study.stream(of=of)) | study.of_drawn(of=of) | study.of_model(of, n)
    _, noisy, text = study.usual
    before = {name: study.answers(name, of=of) for name in study.names}
    return study.of_stream(study.stream(of=of)) | study.of_answers(before, noisy, text)


@_family("prompt", PROFILES)
def _prompt(study: Study, profile: str) -> Verdicts:
    found: Verdicts = {}
    before, noisy, text = {}, {}, list[pd.DataFrame]()
    for name in study.names:
        if other := study.asked(name, profile):
            before[name], noisy[name] = study.answers(other), study.noisy(other)
            text = study.noisy(other, "text") if name == study.sums else text
            found |= study.of_stream(study.stream(on=other)) if name == study.benchmark else {}
    return found | study.of_answers(before, noisy, text)


@_family("reading", READERS)
def _reader(study: Study, how: str) -> Verdicts:
    before, noisy = study.read(how)
    text = [] if how == UNREAD_OUT else [study.reread(study.sums, run, how) for run in study.usual[2] if study.sums]
    return study.of_answers(before, noisy, [run for run in text if run is not None])


@_family("items", lambda study: [f"{n} items" for n in SIZES if n < study.n])
def _size(study: Study, choice: str) -> Verdicts:
    n = int(choice.split()[0])
    before, noisy, text = study.usual
    rows = study.whole
    first = rows["item"].drop_duplicates().head(n)
    found = study.of_stream(rows[rows["item"].isin(first)]) if n < study.many else {}
    if n < study.half:
        found |= study.of_drawn(lambda drawn: drawn[drawn["item"].isin(first)])
    return found | study.of_answers(
        {name: frame.head(n) for name, frame in before.items()},
        {name: [run.head(n) for run in runs] for name, runs in noisy.items()},
        [run.head(n) for run in text],
    )


# --- as tables --------------------------------------------------------------------------------------------------------

DECIDES = {"C3": 1, "C4": 1, "C5": 1, "C9": 1}  # of several estimates the one that decides
COLUMNS = ["family", "choice", "claim", "column", "status", "usual", "flipped", "value", "low", "high", "measured"]


def grid(study: Study) -> pd.DataFrame:
    """Every verdict under every choice for which there are tables, one row each; `flipped`: not what it usually is."""
    usual: Verdicts = {}
    rows = []
    for family in FAMILIES:
        for choice in family.choices(study):
            try:
                found = family.verdicts(study, choice)
            except NotThere:
                continue
            usual = usual or found  # the reference comes first
            rows += [_row(family.name, choice, c, v, usual[c].status) for c, v in found.items() if c in usual]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(family: str, choice: str, column: str, verdict: Verdict, usual: str) -> dict[str, object]:
    decides = DECIDES.get(verdict.claim, 0)
    value = verdict.parts[decides].value if len(verdict.parts) > decides else stats.UNKNOWN
    about = {"family": family, "choice": choice, "claim": verdict.claim, "column": column, "status": verdict.status}
    told = {"usual": usual, "flipped": verdict.status != usual, "measured": verdict.measured}
    return about | told | value._asdict()


def flips(rows: pd.DataFrame) -> pd.DataFrame:
    """By claim: `choices` that have a say in it, how many `flip` a verdict on it, and `where`, by family.

    A choice flips a claim when it flips one of its columns. `rows` are those of `grid`.
    """
    others = rows[rows["family"] != REFERENCE]
    each = others.groupby(["claim", "family", "choice"], sort=False)["flipped"].any().reset_index()
    found = []
    for claim in (claim for claim in claims.CLAIMS if claim in set(each["claim"])):
        own = each[each["claim"] == claim]
        counts = own.groupby("family", sort=False)["flipped"].agg(["sum", "size"])
        where = "; ".join(f"{name} ({n} of {of})" for name, (n, of) in counts.iterrows() if n)
        found.append({"claim": claim, "choices": len(own), "flip": int(own["flipped"].sum()), "where": where})
    return pd.DataFrame(found, columns=["claim", "choices", "flip", "where"])


def sentence(claim: str, counted: pd.DataFrame, of: str) -> str:
    """How firm a claim's verdict on the model `of` is, within what was tried.

    >>> told = pd.DataFrame([{"claim": "C3", "choices": 9, "flip": 2, "where": "layers (1 of 1); prompt (1 of 2)"}])
    >>> sentence("C3", told, "mini-llava-1.5")
    'C3 flips under 2 of the 9 choices tried on mini-llava-1.5: layers (1 of 1); prompt (1 of 2).'
    """
    (row,) = counted[counted["claim"] == claim].to_dict("records") or [{"choices": 0, "flip": 0, "where": ""}]
    if not row["choices"]:
        return f"No choice that bears on {claim} was tried on {of}."
    if not row["flip"]:
        return f"{claim} flips under none of the {_many(row['choices'], 'choice')} tried on {of}."
    return f"{claim} flips under {row['flip']} of the {_many(row['choices'], 'choice')} tried on {of}: {row['where']}."


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def holding(claim: str, rows: pd.DataFrame, of: str) -> str:
    """Under which of the choices tried on the model `of` a claim holds, and what those choices were.

    `rows` are those of `grid`.
    """
    own = rows[(rows["claim"] == claim) & rows["status"].isin(claims.TOLD)]
    held = own[own["status"] == claims.HOLDS]
    others = dict.fromkeys(own.loc[own["family"] != REFERENCE, "family"])
    count = f"{len(held) or 'none'} of the {_many(len(own), 'verdict')}"
    named = "; ".join(
        f"{one} ({', '.join(held.loc[held['choice'] == one, 'column'])})" for one in held["choice"].unique()
    )
    where = f": {named}" if named else ""
    return f"{claim} holds in {count} that {of} gives{where}. Varied were: {', '.join(others) or 'nothing'}."


def moved(family: str, rows: pd.DataFrame, of: str) -> str:
    """Which verdicts on the model `of` the choices of one family flip, and from what to what.

    `rows` are those of `grid`.
    """
    own = rows[rows["family"] == family]
    turned = own[own["flipped"]]
    if own.empty:
        return f"No choice that concerns {family} was tried on {of}."
    ways: dict[str, list[str]] = {}
    for row in turned.itertuples():
        ways.setdefault(f"{row.column} ({row.usual} → {row.status})", []).append(f"“{row.choice}”")
    count = f"{len(turned) or 'none'} of the {_many(len(own), 'verdict')} flip{'s' * (len(turned) < 2)}"
    told = "; ".join(f"{way} under {', '.join(under)}" for way, under in ways.items())
    told = f": {told}" if told else ""
    return f"Under the choices tried on {of} that concern {family}, {count}{told}."
