"""The readings of "+ Vis. Attn.": what SAP leaves open on visual keys, choice by choice. No torch.

The paper replaces learned attention weights on visual keys, and our sources do not say in which rows, in which layers,
when, or how much mass the image then gets. `FAMILY` has each of these choices alone, everything else as usual, and the
pairs of rows and layers that tell most. A reading is written as the intervention that it is; its name here is the same
for all models, whatever their number of layers.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lostlib import stats
from lostlib.forms import Form, format_numbers
from lostlib.text import write

MARGIN = 0.02  # accuracy: a loss that is smaller counts as none
UNTOUCHED, USUAL, PREFILL, DECODING = "untouched", "as usual", "prompt", "decoding"
FREE = "free layers"
WEIGHTS = ("gaussian", "permuted")
JOIN = " = "  # between names of one and the same reading

# name -> parameters of SAP that are not as usual; layers by a word, see `layers_of`
FAMILY: dict[str, dict[str, str]] = {
    USUAL: {},
    "text rows": {"queries": "text"},
    "image rows": {"queries": "visual"},
    "last row": {"queries": "last"},
    "first half": {"layers": "first half"},
    "second half": {"layers": "second half"},
    FREE: {"layers": FREE},
    "share": {"mass": "share"},
    "text rows, first half": {"queries": "text", "layers": "first half"},
    "text rows, second half": {"queries": "text", "layers": "second half"},
    "image rows, second half": {"queries": "visual", "layers": "second half"},
    "last row, second half": {"queries": "last", "layers": "second half"},
    PREFILL: {"phase": "prefill"},
    DECODING: {"phase": "decode"},
}


def layers_of(word: str, layers: int, free: int | None) -> tuple[int, ...] | None:
    """Which of a model's layers a word means; None where there is no telling.

    >>> layers_of("second half", 6, None), layers_of("free layers", 6, 4), layers_of("free layers", 6, None)
    ((3, 4, 5), (4, 5), None)
    """
    if word == FREE:
        return None if free is None else tuple(range(free, layers))
    return tuple(range(layers // 2)) if word == "first half" else tuple(range(layers // 2, layers))


def family(layers: int, free: int | None = None, short: bool = False) -> dict[str, str]:
    """The readings of a model, with gaussian weights: text of the intervention -> its name, or names.

    Parameters
    ----------
    layers : int
        How many the model has.
    free : int, optional
        The layer from which on replacement is free, see `first_free`; without one there is no such reading.
    short : bool
        Are all answers of one token? Replacement while decoding then comes too late to change any: it is the untouched
        run, and replacement in the prompt alone is the usual one. Neither is a run of its own.

    Examples
    --------
    >>> family(6, free=3)["sap:keys=visual,weights=gaussian,layers=3-5"]
    'second half = free layers'
    """
    named: dict[str, list[str]] = {"none": [UNTOUCHED]}
    for name, chosen in FAMILY.items():
        parameters = dict(chosen)
        if "layers" in parameters:
            found = layers_of(parameters.pop("layers"), layers, free)
            if found is None:
                continue
            if len(found) < layers:
                parameters["layers"] = format_numbers(found)
            text = _sap(parameters) if found else "none"
        elif short and "phase" in parameters:
            text = "none" if name == DECODING else _sap({})
        else:
            text = _sap(parameters)
        named.setdefault(text, []).append(name)
    return {text: JOIN.join(names) for text, names in named.items()}


def _sap(parameters: Mapping[str, str]) -> str:
    return str(Form.parse(write("sap", {"keys": "visual", "weights": WEIGHTS[0], **parameters})))


def single(layer: int) -> str:
    """Replacement in one layer alone.

    >>> single(2)
    'sap:keys=visual,weights=gaussian,layers=2'
    """
    return _sap({"layers": str(layer)})


def first_free(rows: pd.DataFrame, layers: int) -> int | None:
    """The first layer from which on every single layer's replacement certainly costs less than `MARGIN`.

    Parameters
    ----------
    rows : DataFrame
        Answers of other items than those that are reported: item, cluster, reading, correct, for the untouched model
        and each `single` layer.
    layers : int
        How many the model has.

    Returns
    -------
    int or None
        None where replacing the last layer alone may cost more already.
    """
    runs = {text: part.set_index("item") for text, part in rows.groupby("reading", sort=False)}
    before, found = runs["none"], None
    for layer in reversed(range(layers)):
        after = runs[single(layer)].loc[before.index]
        change = stats.difference(after["correct"], before["correct"], before["cluster"])
        if change.low <= -MARGIN:
            break
        found = layer
    return found
