"""Attention maps: the weights the model uses, with and without an intervention."""

from __future__ import annotations

import numpy as np

import lostlib
from lostlib.experiments.attention import map_rows


def test_maps_are_what_attention_mass_sums(tiny, items) -> None:
    maps = map_rows(tiny, items, batch_size=4)
    assert list(maps["item"].drop_duplicates()) == [item.uid for item in items]
    mean = maps.groupby(["item", "layer"])["weight"].sum() / maps["head"].nunique()
    mass = lostlib.experiments.attention.attention_mass(tiny, items).set_index(["item", "layer"])["visual"]
    np.testing.assert_allclose(mean.sort_index(), mass.sort_index(), atol=1e-6)


def test_maps_under_an_intervention_are_the_replaced_weights(tiny, items) -> None:
    before = map_rows(tiny, items)
    after = map_rows(tiny, items, "sap:keys=visual,weights=uniform")
    first = [frame[frame["layer"] == 0].groupby(["item", "head"])["weight"] for frame in (before, after)]
    np.testing.assert_allclose(first[0].sum(), first[1].sum(), atol=1e-6)  # the mass on the image is kept
    assert (first[1].std() < 1e-7).all()
    assert (first[0].std() > 1e-4).any()
