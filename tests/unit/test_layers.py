"""Which layers carry a difference, and what a change costs, on rows of which it is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lostlib.report import layers

KINDS = {("attn", "none"): 0.04, ("ffn", "none"): 0.08, ("attn", "no_rope"): 0.02}


def rows(items: int = 12, layers: int = 5, huge: dict[int, float] | None = None) -> pd.DataFrame:
    """RIDs that scale with the item's number; in `huge` layers the FFN has another one."""
    return pd.DataFrame(
        {
            "item": f"text-{i:02}",
            "cluster": f"text-{i:02}",
            "layer": layer,
            "module": module,
            "control": control,
            "rid": (1 + i / 10) * ((huge or {}).get(layer, rid) if module == "ffn" else rid),
        }
        for i in range(items)
        for layer in range(layers)
        for (module, control), rid in KINDS.items()
    )


def test_layers_are_chosen_on_other_items_than_those_that_are_reported():
    some = rows(huge={4: 0.8, 1: 0.5})
    assert layers.largest_layers(some, 2) == [4, 1]
    others = some["item"].isin(some["item"].unique()[1::2])
    some.loc[others & (some["layer"] == 2) & (some["module"] == "ffn"), "rid"] = 9.0  # in the other half alone
    left = layers.without_largest(some, 1)
    assert set(left["item"]) == set(some["item"].unique()[::2])
    assert set(left["layer"]) == {0, 1, 3, 4}


def losses(shift: float, items: range = range(8)) -> pd.DataFrame:
    names = [f"text-{i}" for i in items]
    values = 3.0 + np.array([i % 3 for i in items]) + shift * np.array([1 + i % 2 for i in items])
    return pd.DataFrame({"item": names, "cluster": names, "tokens": 90, "loss": values})


def test_what_a_change_costs_in_loss():
    found = layers.loss_change([losses(0.1), losses(0.3)], losses(0.0))
    assert found.value == pytest.approx(0.3)
    assert 0.2 <= found.low < 0.3 < found.high <= 0.4
    fewer = layers.loss_change([losses(0.2, range(4))], losses(0.0))
    assert fewer.value == pytest.approx(0.3)
