"""Sinks on bare tensors: phi, detectors, the choice of sink dimensions, and redistribution.

Redistribution is held against a plain float64 loop over rows, against a case worked out by hand, and against what it
promises: sums, zeros, identity, equivariance, and what happens at the thresholds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lostlib import sinks
from lostlib.sinks import dimensions

quick = settings(max_examples=60, deadline=None, derandomize=True)


class Map(NamedTuple):
    """What `redistribute` takes."""

    probs: Tensor
    sinks: Tensor
    visual: Tensor
    queries: Tensor

    def to(self, dtype: torch.dtype) -> Map:
        return self._replace(probs=self.probs.to(dtype))

    def index(self, *, batch: Tensor | slice = slice(None), heads: Tensor | slice = slice(None)) -> Map:
        return Map(self.probs[batch][:, heads], *(t[batch] for t in self[1:]))


def random_map(seed: int, batch: int = 3, heads: int = 4, keys: int = 24, queries: int = 24, pad: str = "left") -> Map:
    """Causal attention with padding; a text prefix, an image, text; sinks draw more than others, some rows little."""
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(batch, heads, queries, keys, generator=g) * 2
    visual, sink, real = (torch.zeros(batch, keys, dtype=torch.bool) for _ in range(3))
    for b in range(batch):
        length = keys - int(torch.randint(0, 6, (1,), generator=g))
        start = keys - length if pad == "left" else 0
        real[b, start : start + length] = True
        image = start + int(torch.randint(1, 4, (1,), generator=g))
        visual[b, image : image + int(torch.randint(3, 10, (1,), generator=g))] = True
        sink[b] = real[b] & (torch.rand(keys, generator=g) < 0.2)
    scores = scores + 1.5 * sink[:, None, None, :]
    causal = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    seen = causal & real[:, None, :]
    scores = scores.masked_fill(~seen[:, None], torch.finfo(torch.float32).min)
    probs = scores.softmax(-1) * seen.any(-1)[:, None, :, None]
    own = real[:, -queries:]
    return Map(probs * seen[:, None], sink, visual, own & ~visual[:, -queries:])


def by_hand(m: Map, p=0.6, rho=0.5, min_mass=0.2, target="visual", official=False, require=True) -> tuple:
    """A plain loop in float64."""
    a, selected = m.probs.double().clone(), torch.zeros(m.probs.shape[:3], dtype=torch.bool)
    for b, h, q in torch.cartesian_prod(*(torch.arange(n) for n in m.probs.shape[:3])).tolist():
        row, sink, vis = a[b, h, q].clone(), m.sinks[b], m.visual[b]
        receive = {"visual": vis & ~sink, "text": ~vis & ~sink, "both": ~sink}[target]
        v, n = row[vis].sum(), row[vis & ~sink].sum()
        if official:
            central = row[vis & sink].sum() / (row[vis] + 1e-6).sum() <= 1 - rho
        else:
            central = v > 0 and n / v >= rho
        if not (m.queries[b, q] and v >= min_mass and v > 0 and central and row[receive].sum() > 0):
            continue
        if require and not (sink & vis).any():
            continue
        selected[b, h, q] = True
        budget = p * row[sink].sum()
        a[b, h, q][sink] = (1 - p) * row[sink]
        a[b, h, q][receive] += budget * row[receive] / row[receive].sum()
    return a, selected


GOLDEN = Map(
    torch.tensor([0.30, 0.05, 0.20, 0.10, 0.05, 0.15, 0.10, 0.05])[None, None, None],
    torch.tensor([1, 0, 1, 0, 0, 0, 0, 0]).bool()[None],
    torch.tensor([0, 0, 1, 1, 1, 1, 0, 0]).bool()[None],
    torch.ones(1, 1).bool(),
)

seeds = st.integers(0, 2**31)
fractions = st.sampled_from([0.0, 0.25, 0.4, 0.6, 1.0])
thresholds = st.sampled_from([0.0, 0.2, 0.5, 0.8])


# ---- redistribution -------------------------------------------------------------------------------------------------


def test_the_case_worked_out_by_hand() -> None:
    """V = .5, r = .6, Omega = .6 (.3 + .2) = .3, shared as 10 : 5 : 15."""
    moved = torch.tensor([0.12, 0.05, 0.08, 0.20, 0.10, 0.30, 0.10, 0.05])
    new, selected = sinks.redistribute(*GOLDEN)
    torch.testing.assert_close(new.flatten(), moved, rtol=0, atol=1e-7)
    assert selected.tolist() == [[[True]]]
    torch.testing.assert_close(sinks.redistribute(*GOLDEN, preset="official_code", p=0.6)[0].flatten(), moved)
    kept = torch.tensor([0.18, 0.05, 0.12, 1 / 6, 1 / 12, 0.25, 0.10, 0.05])
    torch.testing.assert_close(sinks.redistribute(*GOLDEN, preset="official_code")[0].flatten(), kept)
    unmoved, selected = sinks.redistribute(*GOLDEN, rho=0.61)
    assert torch.equal(unmoved, GOLDEN.probs)
    assert not selected.any()


@quick
@given(seeds, fractions, thresholds, thresholds, st.sampled_from(sinks.TARGETS), st.booleans(), st.booleans())
def test_against_a_plain_loop(seed, p, rho, m, target, official, require) -> None:
    made = random_map(seed, batch=2, heads=2, keys=18, queries=18)
    new, selected = sinks.redistribute(
        *made, p=p, rho=rho, min_mass=m, target=target, require_visual_sink=require,
        preset="official_code" if official else "paper",
    )  # fmt: skip
    wanted, rows = by_hand(made, p, rho, m, target, official, require)
    assert torch.equal(selected, rows)
    torch.testing.assert_close(new.double(), wanted, rtol=0, atol=1e-6)


def test_most_maps_have_selected_rows_and_others() -> None:
    """The tests below would say little otherwise."""
    shares = [float(sinks.redistribute(*random_map(seed))[1].float().mean()) for seed in range(20)]
    assert 0.05 < sum(shares) / 20 < 0.6


@quick
@given(seeds, fractions, st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]))
def test_sums_zeros_and_rows_that_are_not_selected(seed, p, dtype) -> None:
    made = random_map(seed).to(dtype)
    new, selected = sinks.redistribute(*made, p=p)
    assert new.dtype == dtype
    room = {torch.float32: 1e-6, torch.float64: 1e-12, torch.float16: 4e-4, torch.bfloat16: 4e-3}[dtype]
    assert (new.double().sum(-1) - made.probs.double().sum(-1)).abs().max() <= room
    assert new.isfinite().all()
    assert (new >= 0).all()
    assert torch.equal(new[~selected], made.probs[~selected])
    assert not selected.masked_select(~made.queries[:, None].expand_as(selected)).any()
    gone, zero = (new == 0) & (made.probs != 0), made.probs == 0
    assert (new[zero] == 0).all()
    if p == 1:
        assert (made.sinks[:, None, None] & selected[..., None]).expand_as(gone)[gone].all()
    elif dtype in (torch.float32, torch.float64):
        assert not gone.any()


@quick
@given(seeds, fractions)
def test_what_changes_in_a_selected_row(seed, p) -> None:
    made = random_map(seed).to(torch.float64)
    old, (new, selected) = made.probs, sinks.redistribute(*made, p=p)
    sink, visual = (t[:, None, None].expand_as(old) for t in (made.sinks, made.visual))
    rows = selected[..., None].expand_as(old)
    torch.testing.assert_close(new[rows & sink], (1 - p) * old[rows & sink])
    assert torch.equal(new[rows & ~visual & ~sink], old[rows & ~visual & ~sink])
    given = rows & visual & ~sink  # receivers keep their proportions: one factor a row
    factor = (new * given).sum(-1, keepdim=True) / (old * given).sum(-1, keepdim=True)
    torch.testing.assert_close(new[given], (old * factor)[given])
    mass = {k: (t * visual).sum(-1)[selected] for k, t in (("old", old), ("new", new))}
    text_sinks = (old * (sink & ~visual)).sum(-1)[selected]
    torch.testing.assert_close(mass["new"], mass["old"] + p * text_sinks)
    shares = [((t * (visual & ~sink)).sum(-1) / (t * visual).sum(-1))[selected] for t in (old, new)]
    assert (shares[1] >= shares[0] - 1e-12).all()
    assert sinks.redistribute(*made._replace(probs=new), p=p)[1][selected].all()  # selected rows stay selected


def test_moving_everything_and_moving_twice() -> None:
    made = random_map(5)
    new, selected = sinks.redistribute(*made, p=1.0)
    assert selected.any()
    assert (new.masked_select(selected[..., None] & made.sinks[:, None, None]) == 0).all()
    once = sinks.redistribute(*made, p=0.5)[0]
    twice = sinks.redistribute(*made._replace(probs=once), p=0.5)[0]
    quarter = sinks.redistribute(*made, p=0.75)[0]
    assert (twice - once).abs().max() > 1e-3
    torch.testing.assert_close(twice[selected], quarter[selected], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "case", ["p=0", "rho>1", "min_mass>1", "no sinks", "no visual", "text sinks only", "no queries", "only sinks seen"]
)
def test_identity(case: str, dtype: torch.dtype) -> None:
    made = random_map(11).to(dtype)
    values: dict[str, float] = {}
    if case == "no sinks":
        made = made._replace(sinks=torch.zeros_like(made.sinks))
    elif case == "no visual":
        made = made._replace(visual=torch.zeros_like(made.visual))
    elif case == "text sinks only":
        made = made._replace(sinks=made.sinks & ~made.visual)
        assert sinks.redistribute(*made, require_visual_sink=False)[1].any()
    elif case == "no queries":
        made = made._replace(queries=torch.zeros_like(made.queries))
    elif case == "only sinks seen":  # all visual mass on sinks: nothing can receive
        made, values = made._replace(sinks=made.sinks | made.visual), {"rho": 0.0}
    else:
        values = {"p=0": {"p": 0.0}, "rho>1": {"rho": 1.01}, "min_mass>1": {"min_mass": 1.01}}[case]
    for preset in sinks.PRESETS:
        new, _ = sinks.redistribute(*made, preset=preset, **values)
        assert torch.equal(new, made.probs)


@quick
@given(seeds, st.sampled_from(["left", "right"]))
def test_order_of_heads_and_samples_batching_and_chunks_do_not_matter(seed, pad) -> None:
    made = random_map(seed, pad=pad)
    new, selected = sinks.redistribute(*made)
    heads, samples = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    assert torch.equal(sinks.redistribute(*made.index(heads=heads))[0], new[:, heads])
    assert torch.equal(sinks.redistribute(*made.index(batch=samples))[0], new[samples])
    for b in range(3):
        columns = made.probs[b].sum((0, 1)) > 0  # without its padding
        alone = Map(
            made.probs[b : b + 1, ..., columns], *(t[b : b + 1, columns] for t in made[1:3]), made.queries[b : b + 1]
        )
        torch.testing.assert_close(sinks.redistribute(*alone)[0][0], new[b][..., columns], rtol=0, atol=1e-6)
    parts = [
        sinks.redistribute(made.probs[:, :, q], made.sinks, made.visual, made.queries[:, q])
        for q in (slice(0, 7), slice(7, 24))
    ]
    assert torch.equal(torch.cat([part[1] for part in parts], 2), selected)
    torch.testing.assert_close(torch.cat([part[0] for part in parts], 2), new, rtol=0, atol=1e-7)


def test_at_the_thresholds() -> None:
    """V = .25 and r = .75 exactly: the paper's >= takes the row; 1e-6 a key loosens the released code's ratio."""
    row = torch.tensor([0.5, 0.0625, 0.0625, 0.125, 0.25])[None, None, None]
    case = Map(
        row, torch.tensor([1, 1, 0, 0, 0]).bool()[None], torch.tensor([0, 1, 1, 1, 0]).bool()[None], GOLDEN.queries
    )
    for preset, above in (("paper", False), ("official_code", True)):
        assert sinks.redistribute(*case, rho=0.75, min_mass=0.25, preset=preset)[1].all()
        assert not sinks.redistribute(*case, rho=0.75, min_mass=0.2500001, preset=preset)[1].any()
        assert sinks.redistribute(*case, rho=0.75 + 2e-6, preset=preset)[1].all() == above
        assert not sinks.redistribute(*case, rho=0.76, preset=preset)[1].any()


def test_rows_without_visual_mass_and_tiny_masses() -> None:
    row = torch.tensor([1.0, 0.0, 0.0, 0.0])[None, None, None]
    case = Map(row, torch.tensor([1, 1, 0, 0]).bool()[None], torch.tensor([0, 1, 1, 0]).bool()[None], GOLDEN.queries)
    for target in sinks.TARGETS:
        new, selected = sinks.redistribute(*case, min_mass=0.0, rho=0.0, target=target)
        assert torch.equal(new, row)
        assert not selected.any()
    faint = torch.tensor([1.0, 1e-38, 1e-38, 0.0])[None, None, None]
    new, selected = sinks.redistribute(*case._replace(probs=faint), min_mass=0.0, rho=0.0)
    assert selected.all()
    torch.testing.assert_close(new.flatten(), torch.tensor([0.4, 0.0, 0.6, 0.0]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"p": 1.2}, "p=1.2"),
        ({"p": -0.1}, "p=-0.1"),
        ({"p": math.nan}, "p=nan"),
        ({"rho": math.nan}, "rho=nan"),
        ({"rho": -0.5}, "rho=-0.5"),
        ({"min_mass": -1.0}, "min_mass=-1"),
        ({"min_mass": math.nan}, "min_mass=nan"),
        ({"target": "visul"}, "did you mean 'visual'"),
        ({"preset": "offical_code"}, "did you mean 'official_code'"),
    ],
)
def test_values_out_of_range(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sinks.redistribute(*GOLDEN, **values)


def test_shapes_and_types_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 8\), \(1, 7\)"):
        sinks.redistribute(GOLDEN.probs, GOLDEN.sinks[:, :7], GOLDEN.visual, GOLDEN.queries)
    with pytest.raises(ValueError, match="must be bool"):
        sinks.redistribute(GOLDEN.probs, GOLDEN.sinks.int(), GOLDEN.visual, GOLDEN.queries)


# ---- phi and detectors ----------------------------------------------------------------------------------------------

X = torch.randn(5, 7, 64, generator=torch.Generator().manual_seed(0))


@quick
@given(st.floats(1e-1, 1e4), st.sampled_from([-1, 1]))
def test_phi_ignores_scale_and_sign(scale: float, sign: int) -> None:
    torch.testing.assert_close(sinks.phi(X * scale * sign, (3, 9)), sinks.phi(X, (3, 9)), rtol=1e-4, atol=0)


def test_phi_is_its_formula_bounded_and_about_its_dimensions_only() -> None:
    wanted = X[..., [9, 3]].abs().amax(-1).double() / (X.double().square().mean(-1) + 1e-6).sqrt()
    torch.testing.assert_close(sinks.phi(X, (3, 9)).double(), wanted, rtol=1e-6, atol=0)
    assert torch.equal(sinks.phi(X, (9, 3)), sinks.phi(X, (3, 9)))
    assert (
        sinks.phi(X[..., torch.randperm(64, generator=torch.Generator().manual_seed(1))], (3, 9)) - wanted
    ).abs().max() > 0.5
    alone = torch.zeros(64)
    alone[3] = 5e4  # its square is no float16
    assert float(sinks.phi(alone.half(), (3,))) == pytest.approx(8.0)
    assert float(sinks.phi(torch.zeros(64), (3,))) == 0
    for dims in ((64,), (-1,), ()):
        with pytest.raises(ValueError, match="do not fit"):
            sinks.phi(X, dims)


def test_thresholds() -> None:
    assert sinks.threshold(20, 4096) == 20
    assert sinks.threshold("25%", 64) == pytest.approx(4.0)
    with pytest.warns(sinks.SinkWarning, match="at most 8.0"):
        sinks.threshold(20, 64)
    for tau in ("x%", "0%", "120%", "10", "10%%", 0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="tau="):
            sinks.threshold(tau, 64)


def test_detectors() -> None:
    x = torch.full((1, 4, 64), 0.05)
    x[0, 1, 7], x[0, 2, 7], x[0, 3, 8] = 160.0, 99.0, 160.0
    assert sinks.Detector((7,), 4.0).mask(x).tolist() == [[False, True, True, False]]
    assert sinks.Detector(kind="massive").mask(x).tolist() == [[False, True, False, True]]
    assert sinks.Detector(kind="massive").mask(x + 1).tolist() == [[False] * 4]  # large, but not beside its median
    unit = torch.tensor([2.0, 0.0, 0.0, 0.0])
    on = float(sinks.phi(unit, (0,)))
    assert sinks.Detector((0,), on).mask(unit)
    assert not sinks.Detector((0,), on, strict=True).mask(unit)


# ---- sink dimensions ------------------------------------------------------------------------------------------------


def first_tokens(onset: int, size: float, dims: tuple[int, ...], layers: int = 6) -> Tensor:
    """Absolute values of first tokens (layers, 3 items, 64), about 0.1, with `size` in `dims` from the onset on."""
    x = torch.randn(layers, 3, 64, generator=torch.Generator().manual_seed(2)).abs() * 0.1
    x[onset : layers - 1, :, dims] = size
    return x


def test_rules_of_the_finder() -> None:
    assert dimensions._choose(first_tokens(2, 300.0, (9, 40)), 20.0)[:2] == ((9, 40), "sun")
    assert dimensions._choose(first_tokens(2, 300.0, (9, 40)), 20.0).onset == 2
    assert dimensions._choose(first_tokens(3, 5.0, (9, 40)), 4.0)[:2] == ((9, 40), "tau")
    assert dimensions._choose(first_tokens(3, 5.0, (9, 40)), 4.0).onset == 3
    weak = dimensions._choose(first_tokens(1, 1.5, (9, 40, 41)), 20.0)
    assert weak[:2] == ((9, 40, 41), "gap")
    assert all(1 < s < 8 for s in weak.strength)


def test_the_published_table() -> None:
    assert sinks.published("llava-hf/llava-1.5-13b-hf", 5120).dims == (2100, 4743)
    assert sinks.published("liuhaotian/llava-v1.5-7b", 4096).dims == (1415, 2533)
    assert sinks.published("Qwen/Qwen2-VL-7B-Instruct", 3584).evidence == "figure"
    assert sinks.published("Qwen/Qwen2.5-VL-3B-Instruct", 2048).evidence == "reported"
    assert sinks.published("llava-hf/llava-1.5-7b-hf", 128) is None
    assert sinks.published("mini-llava-1.5", 4096) is None
    for row in dimensions.PUBLISHED:
        assert max(row.dims) < row.hidden
        assert list(row.dims) == sorted(row.dims)
        assert row.evidence in ("code", "figure", "inferred", "reported")
