"""The metrics against float64 numpy written from the formulas, against their algebra, and against bad input.

Fast routes are checked on the inputs that break them: spectra over six decades, massive activations, exact rank
deficiency, duplicated tokens, rounded activations, tiny updates. In memory, no network, a few seconds:
pytest tests/unit/test_metrics.py
"""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lostlib import metrics, spectra
from lostlib.metrics import (
    Decomposition,
    effective_rank,
    mixing_information_gain,
    numerical_rank,
    rid,
    support,
    token_mixing_entropy,
)

ROOT = Path(__file__).parents[2]
SHAPES = [(40, 64), (64, 40), (48, 48), (2, 500), (130, 20)]
RULES = ["numerical", "numerical32", "energy=0.9", "energy=1", "erank", 1, 5]

# ---------------------------------------------------------------- references, straight from the formulas


def reference_erank(x):
    s = np.linalg.svd(x, compute_uv=False)
    p = s[s > 0] / s.sum()
    return math.exp(-(p * np.log(p)).sum())


def reference_rank(x, rule):
    s = np.linalg.svd(x, compute_uv=False)
    known = sum(v > max(x.shape) * np.finfo(np.float64).eps * s[0] for v in s)
    if rule == "numerical":
        return known
    if rule == "numerical32":
        return sum(v > max(x.shape) * np.finfo(np.float32).eps * s[0] for v in s)
    if rule == "erank":
        return math.ceil(reference_erank(x) - 1e-9)
    if isinstance(rule, int):
        return min(rule, known)
    share = float(rule.split("=")[1])
    return next(r for r in range(1, len(s) + 1) if (s[:r] ** 2).sum() >= share * (1 - 1e-13) * (s**2).sum())


def reference_rid(x, x_new, rule="numerical"):
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    r = reference_rank(x, rule)
    column = np.eye(x.shape[0]) - u[:, :r] @ u[:, :r].T
    row = np.eye(x.shape[1]) - vh[:r].T @ vh[:r]
    scale = 2 * np.linalg.norm(x_new)
    change = abs(reference_erank(x_new) - reference_erank(x)) / min(x.shape)
    return change, np.linalg.norm(column @ x_new) / scale, np.linalg.norm(x_new @ row) / scale


def reference_tme(x, causal=False):
    total = 0.0
    for t in range(len(x)):
        keys = x[: t + 1] if causal else x
        cosine = keys @ x[t] / np.linalg.norm(keys, axis=1) / np.linalg.norm(x[t])
        p = np.clip((cosine + 1) / 2, 0, None)
        p = p[p > 0] / p.sum()
        total -= (p * np.log(p)).sum()
    return total / len(x)


# ---------------------------------------------------------------- inputs


def with_spectrum(draw, rows, columns, s):
    u, v = (np.linalg.qr(draw.standard_normal((side, len(s))))[0] for side in (rows, columns))
    return (u * s) @ v.T


def massive(factor, shift=0.0):
    def build(draw, rows, columns):
        x = draw.standard_normal((rows, columns))
        x[:, :3] = factor * (x[:, :3] + shift)
        return x

    return build


def gaussian(draw, rows, columns):
    return draw.standard_normal((rows, columns))


def spread(decades):
    return lambda draw, r, c: with_spectrum(draw, r, c, np.logspace(0, -decades, min(r, c)))


def rounded(dtype, build):
    return lambda draw, r, c: torch.from_numpy(build(draw, r, c)).to(dtype).double().numpy()


def duplicated(draw, rows, columns):
    return draw.standard_normal((rows, columns))[np.arange(rows) % max(1, rows // 2)]


def low_rank(draw, rows, columns):
    r = max(1, min(rows, columns) // 3)
    return draw.standard_normal((rows, r)) @ draw.standard_normal((r, columns))


def zero_rows(draw, rows, columns):
    return draw.standard_normal((rows, columns)) * (np.arange(rows) % 4 > 0)[:, None]


FAMILIES = {
    "gaussian": gaussian,
    "spread over 4 decades": spread(4),
    "spread over 6 decades": spread(6),
    "spread over 8 decades": spread(8),
    "spread over 10 decades": spread(10),
    "massive 1e3": massive(1e3),
    "massive 1e5": massive(1e5),
    "massive with a mean 1e5": massive(1e5, shift=5.0),
    "positive": lambda draw, r, c: draw.random((r, c)),
    "constant rows, almost": lambda draw, r, c: draw.random((r, 1)) * np.ones(c) + 1e-6 * draw.standard_normal((r, c)),
    "constant rows": lambda draw, r, c: (1 + draw.random((r, 1))) * np.ones(c),
    "bfloat16": rounded(torch.bfloat16, gaussian),
    "bfloat16, massive": rounded(torch.bfloat16, massive(1e4)),
    "float32, 6 decades": rounded(torch.float32, spread(6)),
    "duplicated tokens": duplicated,
    "low rank": low_rank,
    "zero rows": zero_rows,
}

UPDATES = {
    "ordinary": lambda draw, x: x + 0.3 * rms(x) * draw.standard_normal(x.shape),
    "tiny": lambda draw, x: x + 1e-6 * rms(x) * draw.standard_normal(x.shape),
    "mixing": lambda draw, x: x + 0.2 * draw.standard_normal((len(x), len(x))) @ x / len(x) ** 0.5,
    "entry by entry": lambda draw, x: x * (1 + 0.3 * draw.standard_normal(x.shape)),
    "replaced": lambda draw, x: 1e-3 * rms(x) * draw.standard_normal(x.shape),
}


def rms(x):
    return np.sqrt((x**2).mean())


def example(family, shape, seed=0):
    return FAMILIES[family](np.random.default_rng(seed), *shape)


def tensor(x):
    return torch.from_numpy(np.ascontiguousarray(x))


def parts(result):
    return [float(part) for part in (result.delta_s, result.delta_d_column, result.delta_d_row)]


def rotation(draw, n):
    return np.linalg.qr(draw.standard_normal((n, n)))[0]


shapes = st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(0, 10_000))

# ---------------------------------------------------------------- fast against the formula


@pytest.mark.parametrize("family", FAMILIES)
def test_effective_rank_equals_the_formula(family):
    for shape in SHAPES:
        x = example(family, shape)
        assert float(effective_rank(tensor(x))) == pytest.approx(reference_erank(x), rel=1e-7, abs=1e-7), shape


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_rid_equals_the_formula(family, update):
    for shape in SHAPES:
        x = example(family, shape)
        x_new = UPDATES[update](np.random.default_rng(1), x)
        got = rid(tensor(x), tensor(x_new))
        assert parts(got) == pytest.approx(reference_rid(x, x_new), abs=1e-8), shape
        assert float(got.total) == pytest.approx(sum(parts(got)), abs=1e-15), shape


@pytest.mark.parametrize("family", ["gaussian", "massive 1e3", "spread over 4 decades", "low rank"])
def test_rid_of_a_tiny_update_keeps_its_relative_accuracy(family):
    x = example(family, (40, 64))
    x_new = UPDATES["tiny"](np.random.default_rng(1), x)
    got, want = rid(tensor(x), tensor(x_new)), reference_rid(x, x_new)
    assert 1e-8 < float(got.delta_d_row) < 1e-6
    assert float(got.delta_d_row) == pytest.approx(want[2], rel=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "family", ["gaussian", "massive 1e3", "spread over 6 decades", "duplicated tokens", "low rank"]
)
def test_every_rank_rule_equals_the_formula(family, rule):
    for shape in SHAPES:
        x = example(family, shape)
        x_new = UPDATES["ordinary"](np.random.default_rng(1), x)
        assert int(support(tensor(x), rule).rank) == reference_rank(x, rule), shape
        got = parts(rid(tensor(x), tensor(x_new), rule))
        assert got == pytest.approx(reference_rid(x, x_new, rule), abs=1e-7), shape


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "zero rows"])
def test_token_mixing_entropy_equals_the_formula(family, causal):
    for shape in SHAPES:
        x = example(family, shape)
        got = float(token_mixing_entropy(tensor(x), causal=causal))
        assert got == pytest.approx(reference_tme(x, causal), abs=1e-9), shape


def test_a_larger_matrix_with_massive_activations():
    x = example("bfloat16, massive", (150, 700))
    x_new = UPDATES["ordinary"](np.random.default_rng(1), x)
    assert parts(rid(tensor(x), tensor(x_new))) == pytest.approx(reference_rid(x, x_new), abs=1e-9)


def refuse(*args, **kwargs):
    raise AssertionError("the slow route was taken")


def without(monkeypatch, *names):
    for name in names:
        monkeypatch.setattr(torch.linalg, name, refuse)


@pytest.mark.parametrize("update", ["ordinary", "tiny"])
@pytest.mark.parametrize("family", ["gaussian", "spread over 4 decades", "massive 1e3", "bfloat16, massive"])
@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_well_resolved_matrices_need_no_svd_and_no_basis(monkeypatch, family, shape, update):
    x = example(family, shape)
    x_new = UPDATES[update](np.random.default_rng(1), x)
    without(monkeypatch, "svd", "svdvals", "qr")
    rid(tensor(x), tensor(x_new))


def newlines(draw, rows, columns):
    """A few rows many times, some at places of their own, and some of zeros: what stays is of full rank."""
    x = draw.standard_normal((rows, columns))
    x[draw.permutation(rows)[: rows // 3]] = x[0]
    x[draw.permutation(rows)[: rows // 5]] = x[1]
    x[draw.permutation(rows)[: rows // 8]] = 0
    return x


@pytest.mark.parametrize("size", [1, 1e-3])
@pytest.mark.parametrize("make", [duplicated, zero_rows, newlines])
@pytest.mark.parametrize("shape", [(40, 64), (48, 48), (90, 700)], ids=str)
def test_identical_rows_need_no_svd_and_are_exact(monkeypatch, make, shape, size):
    draw = np.random.default_rng(0)
    x = make(draw, *shape)
    x_new = x + size * draw.standard_normal(shape)
    want = [reference_rid(x, x_new, rule) for rule in ("numerical", "energy=1", 5)]
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    r = reference_rank(x, "numerical")
    projectors = u[:, :r] @ u[:, :r].T, vh[:r].T @ vh[:r]
    without(monkeypatch, "svd", "svdvals")
    got = [parts(rid(tensor(x), Decomposition(tensor(x_new)), rule)) for rule in ("numerical", "energy=1", 5)]
    assert np.abs(np.array(got) - np.array(want)).max() < 1e-9
    assert float(effective_rank(tensor(x))) == pytest.approx(reference_erank(x), rel=1e-9)
    found = support(tensor(x))
    for side, projector in zip((found.column, found.row), projectors, strict=True):
        assert np.abs((side @ side.mT).numpy() - projector).max() < 1e-9


def test_rows_that_only_begin_alike_are_told_apart():
    """In the entries that are looked at first; also numbers that differ in nothing but the last bit, and 0 and -0."""
    x = example("gaussian", (40, 1000))
    x[20:, ::15] = x[:20, ::15]
    x[1] = x[0]
    x[3] = np.nextafter(x[2], 9)
    x[5], x[6] = 0.0, -0.0
    x_new = x + np.random.default_rng(1).standard_normal(x.shape)
    assert parts(rid(tensor(x), tensor(x_new))) == pytest.approx(reference_rid(x, x_new), abs=1e-8)
    assert float(effective_rank(tensor(x))) == pytest.approx(reference_erank(x), rel=1e-9)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "zero rows"])
def test_mixing_of_a_decomposition_is_that_of_its_matrix(family, causal):
    for shape in SHAPES:
        x = tensor(example(family, shape))
        for scaled in (x, x * 1e-250, x * torch.logspace(-90, 90, shape[0], dtype=torch.float64)[:, None]):
            got = token_mixing_entropy(Decomposition(scaled), causal=causal)
            assert float(got) == pytest.approx(float(token_mixing_entropy(scaled, causal=causal)), abs=1e-11), shape


@pytest.mark.parametrize("shape", [(4, 5), (5, 4)])
def test_a_zero_row_of_a_decomposition_has_no_direction_either(shape):
    x = torch.ones(shape) * (torch.arange(shape[0]) != 2)[:, None]
    with pytest.raises(ValueError, match=r"X of shape \(., .\) has 1 zero row\(s\), the first at index \[2\]"):
        token_mixing_entropy(Decomposition(x))


@pytest.mark.parametrize("rule", ["energy=0.9", "erank", 5])
def test_a_subspace_behind_a_gap_needs_no_svd(monkeypatch, rule):
    x = example("gaussian", (40, 64))
    without(monkeypatch, "svd", "svdvals")
    rid(tensor(x), tensor(x), rule)


@pytest.mark.parametrize("family", ["spread over 8 decades", "low rank"])
def test_unresolved_matrices_are_not_read_off_the_gram_matrix(monkeypatch, family):
    without(monkeypatch, "svd", "svdvals")
    with pytest.raises(AssertionError, match="slow route"):
        effective_rank(tensor(example(family, (40, 64))))
    with pytest.raises(AssertionError, match="slow route"):
        support(tensor(example(family, (40, 64))))


# ---------------------------------------------------------------- algebra of eRank


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shapes)
def test_effective_rank_bounds_and_invariances(case):
    rows, columns, seed = case
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((rows, columns))
    value = float(effective_rank(tensor(x)))
    assert 1 - 1e-12 <= value <= min(rows, columns) + 1e-9
    turned = rotation(draw, rows) @ x @ rotation(draw, columns)
    shuffled = x[draw.permutation(rows)][:, draw.permutation(columns)]
    for same in (turned, shuffled, -3e5 * x, x.T):
        assert float(effective_rank(tensor(same))) == pytest.approx(value, rel=1e-7)


def test_effective_rank_of_known_spectra():
    draw = np.random.default_rng(0)
    assert float(effective_rank(torch.eye(7))) == pytest.approx(7)
    assert float(effective_rank(torch.eye(3, 9))) == pytest.approx(3)
    assert float(effective_rank(tensor(np.outer(draw.random(6), draw.random(9))))) == pytest.approx(1, abs=1e-9)
    assert float(effective_rank(tensor(draw.random((1, 9))))) == 1
    halves = with_spectrum(draw, 6, 9, np.array([0.5, 0.25, 0.25]))
    assert float(effective_rank(tensor(halves))) == pytest.approx(2**1.5, rel=1e-9)  # 1.5 bits


@pytest.mark.parametrize("scale", [1e-250, 1e-30, 1e30, 1e250])
def test_scale_of_both_never_matters(scale):
    x, x_new = (tensor(example("gaussian", (12, 20), seed)) for seed in (0, 1))
    assert float(effective_rank(x * scale)) == pytest.approx(float(effective_rank(x)), rel=1e-12)
    assert parts(rid(x * scale, x_new * scale)) == pytest.approx(parts(rid(x, x_new)), rel=1e-12)
    assert float(token_mixing_entropy(x * scale)) == pytest.approx(float(token_mixing_entropy(x)), rel=1e-12)


def test_subnormal_numbers_have_a_direction_too():
    x = torch.tensor([[5e-324, 0.0], [0.0, 5e-324]], dtype=torch.float64)
    assert float(effective_rank(x)) == pytest.approx(2)
    assert float(token_mixing_entropy(x)) == pytest.approx(reference_tme(np.eye(2)))


# ---------------------------------------------------------------- ranks and supports


def test_rank_rules_on_a_spectrum_that_tells_them_apart():
    s = torch.tensor([1.0, 0.5, 1e-3, 1e-6, 1e-12, 1e-17], dtype=torch.float64)
    shape = (6, 1000)  # numerical cuts at 2.2e-13, numerical32 at 1.2e-4
    want = {"numerical": 5, "numerical32": 3, "energy=0.79": 1, "energy=0.81": 2, "erank": 2, 1: 1, 4: 4, 6: 5}
    assert {rule: int(numerical_rank(s, shape, rule)) for rule in want} == want


def test_ties_and_whole_energy_do_not_hang_on_the_last_bit():
    for n in range(1, 30):
        equal = torch.full((n,), 0.1, dtype=torch.float64)
        assert int(numerical_rank(equal, (n, n), "erank")) == n
        assert int(numerical_rank(equal, (n, n), "energy=1")) == n
        assert int(numerical_rank(equal, (n, n), "energy=1.0")) == n
        assert int(support(torch.eye(n) * 0.1, "erank").rank) == n
    for k in range(1, 101):  # 0.07 · 100 is a little more than 7 in float64
        assert int(numerical_rank(torch.ones(100), (100, 100), f"energy={k / 100}")) == k


def test_numerical_rank_takes_batches_in_any_order():
    s = torch.tensor([[1e-20, 1.0, 1.0], [1.0, 2.0, 3.0]])
    assert numerical_rank(s, (3, 3)).tolist() == [2, 3]
    assert numerical_rank(s.numpy(), (3, 3), np.int64(1)).tolist() == [1, 1]
    assert numerical_rank(s, (3, 3)).dtype == torch.int64


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", ["gaussian", "massive 1e3", "spread over 6 decades", "low rank"])
def test_support_is_orthonormal_and_spans_the_leading_singular_vectors(family, rule):
    for shape in SHAPES:
        x = example(family, shape)
        found = support(tensor(x), rule)
        r = int(found.rank)
        u, _, vh = np.linalg.svd(x, full_matrices=False)
        for basis, want in ((found.column.numpy(), u[:, :r]), (found.row.numpy(), vh[:r].T)):
            assert basis.shape == want.shape, shape
            assert np.abs(basis.T @ basis - np.eye(r)).max() < 1e-12, shape
            assert np.abs(basis @ basis.T - want @ want.T).max() < 1e-7, shape


def test_supports_of_a_batch_are_padded_with_zeros():
    batch = np.stack([example("low rank", (9, 12)), example("gaussian", (9, 12))])
    found = support(tensor(batch))
    assert found.rank.tolist() == [3, 9]
    assert found.column.shape == (2, 9, 9)
    assert found.row.shape == (2, 12, 9)
    assert not found.row[0, :, 3:].any()
    projected = found.column @ found.column.mT @ tensor(batch) @ found.row @ found.row.mT
    assert (projected - tensor(batch)).abs().max() < 1e-12


# ---------------------------------------------------------------- algebra of RID


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shapes)
def test_rid_bounds_exact_zeros_and_invariances(case):
    rows, columns, seed = case
    draw = np.random.default_rng(seed)
    x, noise = draw.standard_normal((2, rows, columns))
    x_new = x + noise
    got = rid(tensor(x), tensor(x_new))
    assert 0 <= float(got.total) < 1.5
    assert float(got.delta_s) < 1
    assert max(parts(got)[1:]) <= 0.5 + 1e-12
    assert rows > columns or float(got.delta_d_column) == 0
    assert rows < columns or float(got.delta_d_row) == 0
    left, right = rotation(draw, rows), rotation(draw, columns)
    for pair in ((left @ x @ right, left @ x_new @ right), (-2 * x, -2 * x_new)):
        assert parts(rid(*map(tensor, pair))) == pytest.approx(parts(got), abs=1e-8)
    change, column, row = parts(rid(tensor(x.T), tensor(x_new.T)))
    assert (change, row, column) == pytest.approx(parts(got), abs=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_new_is_zero(family):
    for shape in SHAPES:
        x = tensor(example(family, shape))
        assert float(rid(x, x).total) < 1e-13, shape
        assert float(rid(x, -1e3 * x).total) < 1e-7, shape


def test_mixing_tokens_adds_no_direction_and_mixing_features_no_association():
    draw = np.random.default_rng(0)
    x = draw.standard_normal((20, 50))
    assert float(rid(tensor(x), tensor(draw.standard_normal((20, 20)) @ x)).delta_d_row) < 1e-13
    assert float(rid(tensor(x.T), tensor(x.T @ draw.standard_normal((20, 20)))).delta_d_column) < 1e-13


def test_rid_of_a_hand_computed_update():
    x = torch.tensor([[3.0, 0, 0, 0], [0, 0, 0, 0]])
    x_new = torch.tensor([[3.0, 0, 0, 0], [0, 4, 0, 0]])
    entropy = -(3 / 7) * math.log(3 / 7) - (4 / 7) * math.log(4 / 7)
    # one direction becomes two: σ = 3 and 4; both projectors miss the new entry 4 of norm 5
    assert parts(rid(x, x_new)) == pytest.approx([(math.exp(entropy) - 1) / 2, 0.4, 0.4], abs=1e-12)


def test_orthogonal_supports_reach_one():
    x, x_new = torch.zeros(4, 6), torch.zeros(4, 6)
    x[0, 0], x_new[1, 1] = 1, 1
    assert parts(rid(x, x_new)) == pytest.approx([0, 0.5, 0.5], abs=1e-15)


def test_a_rank_rule_below_the_full_rank_counts_the_rest_of_x_as_new():
    x = torch.diag(torch.tensor([2.0, 1.0, 1.0]))
    assert parts(rid(x, x, rank=1)) == pytest.approx([0, math.sqrt(2 / 6) / 2, math.sqrt(2 / 6) / 2], abs=1e-12)


def test_updates_far_larger_or_smaller_than_x():
    x, x_new = (tensor(example("gaussian", (12, 20), seed)) for seed in (0, 1))
    want = parts(rid(x, x_new))
    for factor in (1e-290, 1e-9, 1e9, 1e290):
        assert parts(rid(x, x_new * factor))[1:] == pytest.approx(want[1:], rel=1e-6)
    assert parts(rid(x * 1e200, x_new * 1e-200)) == pytest.approx(want, rel=1e-6)


# ---------------------------------------------------------------- algebra of TME and MixIG


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shapes, st.sampled_from(["normal", "signs", "clusters"]))
def test_token_mixing_entropy_bounds_and_invariances(case, kind):
    rows, columns, seed = case
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((rows, columns))
    if kind == "signs":
        x = np.sign(x)
    if kind == "clusters":
        x = np.sign(x[:, :1]) * (np.ones(columns) + 1e-3 * x)
    value = float(token_mixing_entropy(tensor(x)))
    assert max(0, math.log(rows) - math.log(2)) - 1e-9 <= value <= math.log(rows) + 1e-9
    longer = x * np.exp(5 * draw.standard_normal((rows, 1)))
    for same in (x @ rotation(draw, columns), x[draw.permutation(rows)], longer):
        assert float(token_mixing_entropy(tensor(same))) == pytest.approx(value, abs=1e-9)
    causal = float(token_mixing_entropy(tensor(x), causal=True))
    assert 0 <= causal <= math.lgamma(rows + 1) / rows + 1e-9


@pytest.mark.parametrize("tokens", [2, 4, 16, 34])
def test_two_antipodal_clusters_attain_the_minimum(tokens):
    sign = torch.tensor([1.0, -1.0]).repeat(tokens // 2)[:, None]
    x = sign * torch.tensor([[0.3, -0.2, 0.9]])
    assert float(token_mixing_entropy(x)) == pytest.approx(math.log(tokens) - math.log(2), abs=1e-12)
    same = torch.ones(tokens, 3)
    assert float(mixing_information_gain(x, same)) == pytest.approx(math.log(2), abs=1e-12)
    assert float(mixing_information_gain(same, x, unit="bits")) == pytest.approx(-1, abs=1e-12)


def test_one_direction_attains_the_maximum():
    x = torch.arange(1.0, 8.0)[:, None] * torch.tensor([[0.1, 0.7]])
    assert float(token_mixing_entropy(x)) == pytest.approx(math.log(7), abs=1e-12)
    assert float(token_mixing_entropy(x, causal=True)) == pytest.approx(math.log(math.factorial(7)) / 7, abs=1e-12)
    assert float(token_mixing_entropy(x, unit="bits")) == pytest.approx(math.log2(7), abs=1e-12)
    assert float(token_mixing_entropy(x, unit="normalized")) == pytest.approx(1, abs=1e-12)


def test_no_point_near_two_clusters_lies_below_the_proved_minimum():
    draw = np.random.default_rng(0)
    for _ in range(200):
        sign = np.where(draw.random((10, 1)) < 0.5, 1, -1)
        x = sign * np.ones(4) + 10.0 ** draw.uniform(-6, 0) * draw.standard_normal((10, 4))
        assert float(token_mixing_entropy(tensor(x))) >= math.log(5) - 1e-12


def test_causal_entropy_of_a_token_ignores_later_tokens():
    x = tensor(example("gaussian", (9, 5)))
    sums = [t * float(token_mixing_entropy(x[:t], causal=True)) for t in range(1, 10)]
    assert sums[0] == 0
    changed = torch.cat([x[:6], -x[6:]])
    assert 6 * float(token_mixing_entropy(changed[:6], causal=True)) == pytest.approx(sums[5], abs=1e-12)
    assert float(token_mixing_entropy(changed, causal=True)) != pytest.approx(sums[-1] / 9, abs=1e-6)


@pytest.mark.parametrize("unit", metrics.UNITS)
@pytest.mark.parametrize("causal", [False, True])
def test_gain_is_the_difference_of_entropies(unit, causal):
    x, x_new = torch.randn(2, 3, 9, 5, generator=torch.Generator().manual_seed(0))
    want = token_mixing_entropy(x_new, unit, causal) - token_mixing_entropy(x, unit, causal)
    got = mixing_information_gain(x, x_new, unit, causal)
    assert got.tolist() == pytest.approx(want.tolist(), abs=1e-12)
    assert mixing_information_gain(x_new, x, unit, causal).tolist() == pytest.approx((-want).tolist(), abs=1e-12)
    assert not mixing_information_gain(x, x, unit, causal).any()


@pytest.mark.parametrize("unit", metrics.UNITS)
@pytest.mark.parametrize("causal", [False, True])
def test_one_token(unit, causal):
    x, x_new = torch.tensor([[0.1, -0.7, 0.3]]), torch.tensor([[2.0, 0.0, 1.0]])
    assert float(token_mixing_entropy(x, unit, causal)) == 0
    assert float(mixing_information_gain(x, x_new, unit, causal)) == 0
    assert float(effective_rank(x)) == 1
    assert float(rid(x, x_new).delta_s) == 0


# ---------------------------------------------------------------- inputs: dtypes, numpy, batches, reuse


def everything(x, x_new):
    result = rid(x, x_new)
    mixed = [token_mixing_entropy(x), mixing_information_gain(x, x_new, causal=True)]
    return [effective_rank(x), result.delta_s, result.delta_d_column, result.delta_d_row, result.total, *mixed]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_dtype_is_computed_in_float64(dtype):
    x, x_new = (tensor(example("gaussian", (8, 12), seed)).to(dtype) for seed in (0, 1))
    for got, want in zip(everything(x, x_new), everything(x.double(), x_new.double()), strict=True):
        assert got.dtype == torch.float64
        assert got.shape == ()
        assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f8"])
def test_numpy_arrays_whatever_their_memory_layout(dtype):
    x, x_new = (example("gaussian", (8, 12), seed).astype(dtype) for seed in (0, 1))
    x_new.flags.writeable = False
    want = everything(tensor(x.astype(np.float64)), tensor(x_new.astype(np.float64)))
    assert [float(v) for v in everything(x, x_new)] == [float(v) for v in want]
    flipped = everything(x[::-1, ::2], x_new[::-1, ::2])
    want = everything(tensor(x.astype(np.float64)[::-1, ::2]), tensor(x_new.astype(np.float64)[::-1, ::2]))
    assert [float(v) for v in flipped] == [float(v) for v in want]


def test_inputs_are_left_alone_and_no_graph_is_kept():
    x = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x_new = x.detach() * 2
    kept = x.detach().clone()
    assert not any(value.requires_grad for value in everything(x, x_new))
    assert torch.equal(x.detach(), kept)
    assert torch.equal(x_new, kept * 2)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_a_batch_equals_a_loop(shape):
    kinds = ["gaussian", "duplicated tokens", "massive 1e3", "low rank", "gaussian", "spread over 8 decades"]
    x = tensor(np.stack([example(kind, shape) for kind in kinds]).reshape(2, 3, *shape))
    x_new = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for i, batched in enumerate(everything(x, x_new)):
        assert batched.shape == (2, 3)
        looped = [[everything(x[a, b], x_new[a, b])[i] for b in range(3)] for a in range(2)]
        assert torch.allclose(batched, torch.tensor(looped, dtype=torch.float64), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_matrices_side_by_side_are_what_they_are_alone(threads):
    kinds = ["gaussian", "massive 1e3", "duplicated tokens"]
    x = tensor(np.stack([example(kind, (spectra.SIDE_BY_SIDE, 240)) for kind in kinds]))
    x_new = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    alone = [everything(a, b) for a, b in zip(x, x_new, strict=True)]
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = everything(x, x_new)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(usual)
    for got, *want in zip(together, *alone, strict=True):
        assert torch.allclose(got, torch.stack(want), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", ["gaussian", "low rank", "massive with a mean 1e5"])
def test_a_decomposition_stands_for_its_matrix_and_is_computed_once(monkeypatch, family):
    x = tensor(example(family, (12, 30)))
    updates = [x + torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    want = [[parts(rid(x, new, rule)) for new in updates] for rule in RULES]
    eigvalsh, calls = np.linalg.eigvalsh, []
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda gram: calls.append(1) or eigvalsh(gram))
    before, after = Decomposition(x), [Decomposition(new) for new in updates]
    got = [[parts(rid(before, new, rule)) for new in after] for rule in RULES]
    assert np.abs(np.array(got) - np.array(want)).max() < 1e-8
    assert float(effective_rank(before)) == pytest.approx(float(effective_rank(x)), rel=1e-9)
    assert len(calls) == 1 + len(updates) + 1  # the last for effective_rank(x)
    assert torch.equal(support(before).rank, support(x).rank)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_cuda_equals_cpu(family):
    x = tensor(np.stack([example(family, (40, 64)), example("gaussian", (40, 64))]))
    x_new = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    on_gpu, on_cpu = rid(x.cuda(), x_new.cuda()).total, rid(x, x_new).total
    assert on_gpu.device.type == "cuda"
    assert on_gpu.tolist() == pytest.approx(on_cpu.tolist(), abs=1e-8)
    if family != "zero rows":
        on_gpu, on_cpu = token_mixing_entropy(x.cuda()), token_mixing_entropy(x)
        assert on_gpu.tolist() == pytest.approx(on_cpu.tolist(), abs=1e-9)


# ---------------------------------------------------------------- errors show the data


# Where a runtime type checker is switched on (pytest --jaxtyping-packages=…), it may refuse first, also by a TypeError.
CHECKER = "|^Type-check error"
FINE = torch.ones(3, 4) + torch.eye(3, 4)
BAD = {
    "not an array": ([[1.0]], TypeError, "expected a torch tensor or a numpy array, got list"),
    "integers": (
        torch.ones(3, 4).long(),
        TypeError,
        r"shape \(3, 4\): expected floating-point numbers, got torch.int64",
    ),
    "numpy integers": (np.ones((3, 4), int), TypeError, r"shape \(3, 4\): expected floating-point numbers, got int64"),
    "complex": (torch.ones(3, 4).cfloat(), TypeError, "complex64"),
    "bool": (torch.ones(3, 4).bool(), TypeError, "torch.bool"),
    "a vector": (torch.ones(4), ValueError, r"shape \(4,\): expected \(..., tokens, hidden\)"),
    "no tokens": (torch.ones(0, 4), ValueError, r"shape \(0, 4\): expected \(..., tokens, hidden\)"),
    "no features": (torch.ones(2, 3, 0), ValueError, r"shape \(2, 3, 0\)"),
    "no items": (torch.ones(0, 3, 4), ValueError, r"shape \(0, 3, 4\)"),
    "NaN": (FINE.where(FINE < 2, math.nan), ValueError, r"shape \(3, 4\) has 3 NaN or infinite .* index \[0, 0\]"),
    "inf": (FINE.where(torch.arange(4) < 3, -math.inf), ValueError, r"3 NaN or infinite .* index \[0, 3\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_matrices_are_refused_by_every_metric(case):
    bad, error, message = BAD[case]
    for call in (effective_rank, support, token_mixing_entropy, Decomposition):
        with pytest.raises(error, match=message + CHECKER):
            call(bad)
    for call in (rid, mixing_information_gain):
        with pytest.raises(error, match="^X.*" + message + CHECKER):
            call(bad, FINE)
        with pytest.raises(error, match="^X_new.*" + message + CHECKER):
            call(FINE, bad)


def test_shapes_must_agree():
    for call in (rid, mixing_information_gain):
        for other in (torch.ones(4, 3), torch.ones(1, 3, 4), torch.ones(2, 4)):
            with pytest.raises(ValueError, match=r"same shape, got \(3, 4\) and \(" + str(other.shape[0])):
                call(FINE, other)


def test_an_all_zero_matrix_has_no_spectrum():
    zero = torch.zeros(3, 4)
    for call in (effective_rank, support, lambda x: rid(x, FINE)):
        with pytest.raises(ValueError, match=r"^X of shape \(3, 4\) is all zeros: "):
            call(zero)
    with pytest.raises(ValueError, match=r"^X_new of shape \(3, 4\) is all zeros"):
        rid(FINE, zero)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\) is all zeros \(matrix 1 of 2\)"):
        effective_rank(torch.stack([FINE, zero]))


def test_a_zero_token_is_fine_for_rank_but_has_no_direction():
    x = FINE.clone()
    x[1] = 0
    assert 1 < float(effective_rank(x)) < 2
    assert float(rid(x, FINE).delta_d_column) > 0.1
    with pytest.raises(ValueError, match=r"^X of shape \(3, 4\) has 1 zero row\(s\), the first at index \[1\]"):
        token_mixing_entropy(x)
    with pytest.raises(
        ValueError, match=r"^X_new of shape \(2, 3, 4\) has 1 zero row\(s\), the first at index \[1, 1\]"
    ):
        mixing_information_gain(torch.stack([FINE, FINE]), torch.stack([FINE, x]))


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ("numeric", ValueError, "unknown rank rule 'numeric'; there are .*; did you mean 'numerical'"),
        ("Erank", ValueError, "did you mean 'erank'"),
        ("energy", ValueError, "did you mean 'energy=0.99'"),
        ("zzz", ValueError, "unknown rank rule 'zzz'; there are numerical, numerical32, energy=0.99, erank"),
        ("energy=0", ValueError, "'energy=0': expected energy=η with 0 < η <= 1"),
        ("energy=1.5", ValueError, "0 < η <= 1"),
        ("energy=most", ValueError, "0 < η <= 1"),
        ("energy=nan", ValueError, "0 < η <= 1"),
        (0, ValueError, "rank 0: a fixed rank must be at least 1"),
        (-2, ValueError, "at least 1"),
        (True, TypeError, "rank True: expected a rule's name or an integer, got bool"),
        (2.0, TypeError, "got float"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_unknown_rank_rules(rule, error, message):
    for call in (
        lambda: support(FINE, rule),
        lambda: rid(FINE, FINE, rule),
        lambda: numerical_rank(FINE[0], (3, 4), rule),
    ):
        with pytest.raises(error, match=message + CHECKER):
            call()


def test_bad_spectra_are_refused():
    for bad in (torch.tensor([1.0, -1.0]), torch.zeros(3)):
        with pytest.raises(ValueError, match="expected none below 0 and some above 0"):
            numerical_rank(bad, (3, 3))
    with pytest.raises(ValueError, match=r"shape \(0,\): expected \(..., values\)"):
        numerical_rank(torch.ones(0), (3, 3))


@pytest.mark.parametrize(("unit", "near"), [("nat", "nats"), ("bit", "bits"), ("normalised", "normalized")])
def test_unknown_units(unit, near):
    for call in (lambda: token_mixing_entropy(FINE, unit), lambda: mixing_information_gain(FINE, FINE, unit)):
        with pytest.raises(ValueError, match=f"unknown unit '{unit}'; there are .*; did you mean '{near}'"):
            call()


# ---------------------------------------------------------------- the benchmark runs


def test_the_benchmark_of_the_loop_prints_ratios_and_agrees(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["residual.py", "--sizes", "60x90", "90x60", "--layers", "2"])
    runpy.run_path(str(ROOT / "bench" / "residual.py"), run_name="__main__")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("loop", "alone", "textbook"))]
    assert len(rows) == 4 * 3
    assert all(float(row.split()[-1]) < 1e-9 for row in rows)


def test_the_benchmark_prints_ratios_and_agrees(monkeypatch, capsys):
    argv = ["metrics.py", "--sizes", "6x9", "9x6", "--repeats", "1", "--families", "gaussian", "duplicates"]
    monkeypatch.setattr("sys.argv", argv)
    runpy.run_path(str(ROOT / "bench" / "metrics.py"), run_name="__main__")
    rows = [line for line in capsys.readouterr().out.splitlines() if " x " in line and "ms" in line]
    assert len(rows) == 4 * 7
    assert all(float(row.split()[-1]) < 1e-6 for row in rows)


SPARSE = [torch.eye(3).to_sparse(), torch.eye(3).to_sparse_csr(), torch.eye(4).to_sparse_bsr((2, 2))]
NESTED = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)])


@pytest.mark.parametrize("given", [*SPARSE, NESTED], ids=lambda x: str(x.layout))
@pytest.mark.parametrize(
    "ask",
    [
        metrics.effective_rank,
        metrics.support,
        metrics.token_mixing_entropy,
        metrics.Decomposition,
        lambda x: metrics.rid(torch.eye(3), x),
        lambda x: metrics.rid(x, torch.eye(3)),
        lambda x: metrics.mixing_information_gain(torch.eye(3), x),
        lambda x: metrics.numerical_rank(x, (3, 3)),
    ],
)
def test_a_tensor_that_is_not_dense_is_named(ask, given: torch.Tensor) -> None:
    with pytest.raises(TypeError, match=r"expected a dense tensor, got (one of layout torch.sparse|a nested one)"):
        ask(given)
