"""The experiments: one row each says what it asks, which parameters it takes, and what else the others must know of it.

The loops themselves need torch and are in `lostlib.experiments.measure`. Whatever builds the key of a table asks
`canonical`, so one measurement has one name, however it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lostlib.checkpoints import is_mini
from lostlib.forms import Form, energy_share, format_numbers, parse_numbers
from lostlib.text import among, check, check_seed


@dataclass(frozen=True)
class Experiment:
    """One kind of measurement."""

    asks: str  #: what its table tells
    #: its own, which are part of a table's key, with their defaults
    parameters: Mapping[str, Any] = field(default_factory=dict)
    changed: bool = False  #: can it be measured under an intervention
    seeded: bool = False  #: does it draw something itself, for its controls
    looks: bool = True  #: does it look at attention weights, so that they must come from our own attention function
    shared: bool = False  #: can several processes share one table
    pictures: bool = False  #: does it tell nothing of a language model without pictures
    #: defaults of models that are no mini models, where they differ
    large: Mapping[str, Any] = field(default_factory=dict)
    #: does it ask, so that its loop takes the benchmark, by which answers are marked, and not its items alone
    asked: bool = False
    pilot: int = 0  #: by how many items of another seed it chooses something, so as not to choose by those it reports

    def usual(self, model: str | None = None) -> dict[str, Any]:
        """The parameters' defaults for a model, by its name; those of a mini model without one."""
        return {**self.parameters, **({} if model is None or is_mini(model) else self.large)}

    def is_random(self, intervention: Form) -> bool:
        """Does the seed matter?"""
        return self.seeded or (self.changed and bool(intervention.random))


COUNTS = {"batch_size", "max_new_tokens", "scenes", "seeds"}
HOW = ("batch_size",)  # changes no result, so it is no part of a key
_MEASURES = {"rank": "numerical", "unit": "nats", "causal": False}
_SINKS = {"tau": 20.0, "detector": "phi", "dims": None}

EXPERIMENTS: dict[str, Experiment] = {
    "answers": Experiment(
        "What the model answers to every item, and how probable the answer was.",
        {"max_new_tokens": None}, changed=True, looks=False, shared=True, asked=True,
    ),
    "readings": Experiment(
        "What the model answers under every reading of SAP on visual keys.",
        {"seeds": 5}, seeded=True, pictures=True, asked=True, pilot=200,
    ),
    "losses": Experiment(
        "How surprised the model is by each prompt, in nats per token.", {"layers": None}, changed=True, looks=False,
    ),
    "residual": Experiment(
        "What each module's update does to the residual stream, beside controls.",
        {
            "controls": ["noise_delta", "noise_qkv", "no_rope"], **_MEASURES, "scope": "layer", "without": "nothing",
            "draws": 1,
        },
        seeded=True, looks=False,
    ),
    "attention": Experiment("Where the last prompt token looks.", pictures=True),
    "maps": Experiment("The last prompt token's weight on each image patch.", changed=True, pictures=True),
    "sinks": Experiment(
        "Sink values, the attention that tokens get and what they contribute.",
        {**_SINKS, "rows": "tokens"}, large={"rows": "layers"},
    ),
    "heads": Experiment(
        "Which heads look at the image, and what VAR would move in them.",
        {"tau": None, "min_mass": None, "p": None, "rho": None, "detector": "phi", "dims": None, "preset": "paper"},
        pictures=True,
    ),
    "sinkmaps": Experiment("Where each head looks in the image.", _SINKS, pictures=True),
    "nulls": Experiment("The true updates beside random ones of their size.", _MEASURES, seeded=True, looks=False),
    "writing": Experiment("Which neurons write the entry of the stream that each FFN makes grow most.", looks=False),
    "spans": Experiment("What several layers' updates bring together.", {**_MEASURES, "blocks": 8}, looks=False),
    "probes": Experiment("Which questions each visual token answers on its own.", {"scenes": 3000}, pictures=True),
}  # fmt: skip


def experiment(name: str) -> Experiment:
    """By name; one that does not exist is an error that names the nearest."""
    check("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]


def canonical(
    name: str, intervention: str = "none", seed: int = 0, parameters: Mapping[str, Any] | None = None,
    model: str | None = None,
) -> tuple[str, int, dict[str, Any]]:  # fmt: skip
    """(intervention, seed, parameters) as the key of a table has them, however they were written.

    The intervention is in its full form, the seed is 0 where nothing is random, and parameters are those that are not
    as usual for the model, in the order of their names. What does not exist is an error.

    >>> canonical("residual", "none", 3, {"rank": "erank", "unit": "nats"})
    ('none', 3, {'rank': 'erank'})
    >>> canonical("answers", "sap:weights=gaussian", 1)
    ('sap:keys=visual,weights=gaussian', 1, {})
    """
    asked, chosen = experiment(name), Form.parse(intervention)
    check_seed(seed)
    if not asked.changed and str(chosen) != "none":
        raise ValueError(f"{name} tables are of the untouched model, intervention {intervention!r} was given")
    usual = asked.usual(model)
    own = {}
    for key, value in sorted((parameters or {}).items()):
        if key in HOW:
            continue
        if key not in usual:
            known = [*usual, *HOW]
            raise ValueError(f"{name} has no parameter {key!r}; there are {among(key, known)}")
        if (plain := _plain(key, value)) != _plain(key, usual[key]):
            own[key] = plain
    if "layers" in own and not hasattr(chosen, "layers"):
        raise ValueError(f"layers={own['layers']} are of an intervention that has layers, {chosen} has none")
    return str(chosen), seed if asked.is_random(chosen) else 0, own


def _plain(name: str, value: Any) -> Any:
    """A parameter's value in its one way to be written; a value that means nothing stays, and is refused later."""
    try:
        if name == "controls":
            return [str(Form.parse(one)) for one in value]
        if name == "layers" and value is not None:
            return [format_numbers(parse_numbers(str(one))) for one in value]
        if name == "dims" and value is not None:
            return None if (numbers := parse_numbers(str(value))) is None else format_numbers(numbers)
        if name == "rank" and isinstance(value, str) and value.startswith("energy="):
            return f"energy={float(value.removeprefix('energy=')):g}"
        if name == "tau" and isinstance(value, str) and (share := energy_share(value)) is not None:
            return f"{100 * share:g}%"
        if name in ("tau", "min_mass", "p", "rho") and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
    except (ValueError, TypeError):
        pass
    return value
