"""Counter-based draws: a reference value of splitmix64, moments, independence of neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from lostlib.interventions.sap import order
from lostlib.models import keyed_random


def splitmix64(x: int) -> int:
    """The published finaliser, in Python integers."""
    mask = (1 << 64) - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_mix_is_splitmix64() -> None:
    values = [0, 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15]
    signed = torch.tensor(np.array(values, dtype=np.uint64).view(np.int64))
    mixed = keyed_random.mix(signed.clone()).numpy().view(np.uint64)
    assert mixed.tolist() == [splitmix64(v) for v in values]


def test_normal_is_normal_and_neighbours_are_independent() -> None:
    drawn = keyed_random.normal(keyed_random.chain(7, torch.arange(300)[:, None], torch.arange(300)[None, :])).double()
    assert torch.isfinite(drawn).all()
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3
    for shifted in (drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1]):
        assert abs(np.corrcoef(shifted[0].flatten(), shifted[1].flatten())[0, 1]) < 0.015


def test_normal_is_box_and_muller_of_the_two_halves() -> None:
    state = keyed_random.chain(3, torch.arange(5000).reshape(50, 100))
    unsigned = state.numpy().view(np.uint64)
    high, low = ((half.astype(np.float64) + 0.5) / 2**32 for half in (unsigned >> np.uint64(32), unsigned % 2**32))
    wanted = np.sqrt(-2 * np.log(high)) * np.cos(2 * np.pi * low)
    drawn = keyed_random.normal(state)
    assert np.abs(drawn.numpy() - wanted).max() < 1e-4
    assert torch.equal(keyed_random.normal(state.T), drawn.T)
    assert keyed_random.normal(state[3, 4]) == drawn[3, 4]


def test_order_of_arguments_matters_and_broadcasting_does_not() -> None:
    assert keyed_random.chain(1, 2) != keyed_random.chain(2, 1)
    table = keyed_random.chain(5, torch.arange(4)[:, None], torch.arange(6)[None, :])
    assert table[2, 3] == keyed_random.chain(5, 2, 3)


@pytest.mark.parametrize("width", [1, 5, 16, 17, 64, 333])
def test_draws_are_put_in_one_order_on_every_machine(width) -> None:
    """Equal ones stay in the order of their places, which torch promises of its slower sort only."""
    drawn = torch.randn(3, 4, width, generator=torch.Generator().manual_seed(width))
    tied = (4 * drawn).round() / 4  # zeros of both signs among them
    infinite = tied.masked_fill(drawn.abs() > 1, torch.inf)
    for values in (drawn, tied, infinite, -infinite, torch.zeros(2, width) * -1):
        wanted = np.argsort(values.numpy(), axis=-1, kind="stable")
        assert (order(values).numpy() == wanted).all()
        assert (torch.argsort(values, dim=-1, stable=True).numpy() == wanted).all()  # as it is made elsewhere
