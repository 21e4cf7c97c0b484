"""Checks of functions that students write, by the properties that the library's own are tested with.

Students' functions take numpy arrays and may give back numbers, numpy arrays or torch tensors. What is compared with
the library needs torch; without it a check says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lostlib.teach.outcome import Outcome, Properties, Student, check, close

Matrix = NDArray[np.float64]

SIMILAR = 1e-4  # where squared singular values are a fair way to compute, they keep half of the digits


def normal(*shape: int, seed: int = 0) -> Matrix:
    """Standard normal numbers."""
    return np.random.default_rng(seed).normal(size=shape)


def rotation(size: int, seed: int = 1) -> Matrix:
    """A random orthogonal matrix."""
    return np.linalg.qr(normal(size, size, seed=seed))[0]


def spectrum(rows: int, columns: int, last: float, seed: int = 2) -> Matrix:
    """A random matrix whose singular values fall from 1 to `last` in even steps of their logarithm."""
    n = min(rows, columns)
    return rotation(rows, seed)[:, :n] * np.geomspace(1, last, n) @ rotation(columns, seed + 1)[:n]


X = normal(4, 6)  # what most properties are tried on
ORDER = [2, 0, 3, 1]


# ---- complexity ------------------------------------------------------------------------------------------------------


def _measures_dimensions(f: Student) -> Properties:
    """What every count of used directions has."""
    yield "one number comes back", lambda: f.one_number(X)
    yield "a matrix of rank one uses one direction", lambda: f.gives((np.outer([1.0, 2, -1], [1.0, 0, 2, 1]),), 1)
    yield "the identity uses all of its directions", lambda: f.gives((np.eye(4),), 4)
    yield "k equal singular values count as k", lambda: f.gives((np.diag([3.0, 3, 0, 0]) @ rotation(4),), 2)
    yield "it lies between 1 and the smaller side", lambda: f.between((X,), 1, 4)
    yield "the scale of X does not matter", lambda: f.same((X,), (1000 * X,))
    yield "the order of the tokens does not matter", lambda: f.same((X,), (X[ORDER],))
    yield "a rotation of the hidden space does not matter", lambda: f.same((X,), (X @ rotation(6),))
    yield "X and its transpose use as many", lambda: f.same((X,), (X.T,))
    yield "a row of zeros does not matter", lambda: f.same((X,), (np.vstack([X, np.zeros(6)]),))


def check_effective_rank(function: Any) -> Outcome:
    """Check a student's `erank(X)`: one number for X of shape (S, H).

    Tried: bounds, rank one, the identity, invariance under scale, rotation, order and transposition, zero rows, and
    agreement with `lostlib.effective_rank` on well- and ill-conditioned matrices.

    >>> check_effective_rank(lambda X: ...).state
    'not yet'
    >>> check_effective_rank(lambda X: np.linalg.matrix_rank(X)).failed
    'it is eRank: flat spectra count more than steep ones'
    """

    def properties(f: Student) -> Properties:
        from lostlib import metrics

        def agrees(A: Matrix) -> Callable[[], str | None]:
            return lambda: f.gives((A,), float(metrics.effective_rank(A)), SIMILAR)

        yield from _measures_dimensions(f)
        yield "it is eRank: flat spectra count more than steep ones", agrees(spectrum(4, 5, 0.01))
        yield "it agrees with the library on a tall matrix", agrees(normal(6, 3, seed=5))
        yield "it agrees with the library on a badly conditioned matrix", agrees(spectrum(5, 6, 1e-7))

    return check("Effective rank", function, properties, ("X",))


def check_participation_ratio(function: Any) -> Outcome:
    """Check a student's participation ratio (Σ λ)² / Σ λ², λ the squared singular values of X of shape (S, H).

    Tried: all that effective rank is tried with, since it counts directions as well; then its own values.
    """

    def properties(f: Student) -> Properties:
        yield from _measures_dimensions(f)
        two = np.diag([2.0, 1.0]) @ rotation(2)
        yield "it weighs a direction by its energy, the squared singular value", lambda: f.gives((two,), 25 / 17)
        yield "it has the right value on a random matrix", lambda: f.gives((X,), _ratio(X))

    return check("Participation ratio", function, properties, ("X",))


def _ratio(A: Matrix) -> float:
    return float(np.sum(A * A) ** 2 / np.sum((A @ A.T) ** 2))


# ---- innovation ------------------------------------------------------------------------------------------------------


def check_noise_update(function: Any) -> Outcome:
    """Check a student's Noise Δ `noise(update, seed)`: Gaussian noise of the update's shape and Frobenius norm."""

    def properties(f: Student) -> Properties:
        yield "it has the update's shape", lambda: _shape(f.array(X, 0), X)
        yield "it has the update's Frobenius norm", lambda: _norm(f, X)
        yield "it follows the update's size", lambda: _norm(f, 1000 * X)
        yield "the same seed gives the same noise", lambda: _equal(f.array(X, 7), f.array(X, 7))
        yield "another seed gives other noise", lambda: _differ(f.array(X, 8), f.array(X, 7))
        yield "it knows nothing of the update's direction", lambda: _blind(f)
        yield "it is Gaussian: neither flat nor of equal sizes", lambda: _gaussian(f)

    return check("Noise Δ", function, properties, ("update", "seed"))


def _norm(f: Student, update: Matrix) -> str | None:
    """The Frobenius norm of what it gives must be the update's."""
    found, expected = np.linalg.norm(f.array(update, 0)), np.linalg.norm(update)
    return None if close(found, expected) else f"its norm is {found:.6g}, the update's is {expected:.6g}"


def _blind(f: Student) -> str | None:
    update = np.ones((20, 20))
    cosine = float(np.mean(f.array(update, 3))) * 20 / float(np.linalg.norm(f.array(update, 3)))
    return None if abs(cosine) < 0.25 else f"its cosine with the update is {cosine:.2f}, and should be about 0"


def _gaussian(f: Student) -> str | None:
    noise = f.array(np.ones((60, 60)), 4)
    kurtosis = float(np.mean(noise**4) / np.mean(noise**2) ** 2)  # 3 for Gaussian numbers, 1.8 for flat ones
    return None if abs(kurtosis - 3) < 0.6 else "the sizes of its entries are not spread like those of Gaussian numbers"


PARTS = ("delta_s", "delta_d_column", "delta_d_row")


def check_rid(function: Any) -> Outcome:
    """Check a student's `rid(X, X_new)`: the three parts (ΔS, ΔD column, ΔD row) for the `numerical` rank.

    Tried: no update gives none, scale and rotation, mixing of tokens leaves the row part at 0, new directions do not,
    and agreement with `lostlib.rid` part by part on wide, tall and low-rank matrices.
    """
    low = np.outer([1.0, 1, 2], [1.0, 0, 1, 0, 1]) + np.outer([0.0, 1, 1], [0.0, 1, 0, 1, 0])

    def properties(f: Student) -> Properties:
        from lostlib import metrics

        def agrees(A: Matrix, B: Matrix) -> Callable[[], str | None]:
            parts = metrics.rid(A, B)
            return lambda: _parts(f, A, B, [float(getattr(parts, name)) for name in PARTS])

        mixed = np.tril(np.ones((4, 4))) @ X
        yield "three numbers come back", lambda: _shape(f.array(X, X), np.zeros(3))
        yield "no update brings nothing", lambda: _parts(f, X, X, [0, 0, 0])
        yield "another scale brings nothing", lambda: _parts(f, X, 3 * X, [0, 0, 0])
        yield "mixing tokens brings no direction: the row part stays 0", lambda: _part(f, X, mixed, 2, 0)
        yield (
            "a wide matrix of full rank has all token patterns: the column part is 0",
            agrees(X, X + normal(4, 6, seed=3)),
        )
        yield "a tall one has all directions: the row part is 0", agrees(X.T, X.T + normal(6, 4, seed=3))
        yield "of a low-rank matrix both can be left", agrees(low, low + 0.5 * normal(3, 5, seed=4))
        yield "a small update brings little", agrees(low, low + 0.001 * normal(3, 5, seed=5))

    return check("RID", function, properties, ("X", "X_new"))


def _part(f: Student, A: Matrix, B: Matrix, index: int, expected: float) -> str | None:
    found = f.array(A, B)
    right = close(found[index], expected, SIMILAR)
    return None if right else f"{PARTS[index]} is {found[index]:.6g}, and should be {expected:.6g}"


def _parts(f: Student, A: Matrix, B: Matrix, expected: list[float]) -> str | None:
    problems = [_part(f, A, B, index, value) for index, value in enumerate(expected)]
    return next((problem for problem in problems if problem), None)


# ---- mixing ----------------------------------------------------------------------------------------------------------

OPPOSITE = np.array([[1.0, 2], [2, 4], [-1, -2], [-3, -6]])


def _is_mixing(f: Student) -> Properties:
    yield "one number comes back", lambda: f.one_number(X)
    yield (
        "tokens of one direction are mixed as widely as can be: ln S",
        lambda: f.gives((np.ones((4, 3)),), math.log(4)),
    )
    yield (
        "two opposite directions are mixed as little as can be: ln S − ln 2",
        lambda: f.gives((OPPOSITE,), math.log(2)),
    )
    yield "one token has entropy 0", lambda: f.gives((np.array([[1.0, 2]]),), 0)
    yield "it lies between ln S − ln 2 and ln S", lambda: f.between((X,), math.log(2), math.log(4))
    lengths = np.array([[1.0], [10], [0.1], [3]])
    yield "a token's length does not matter, only its direction", lambda: f.same((X,), (lengths * X,))
    yield "a rotation of the hidden space does not matter", lambda: f.same((X,), (X @ rotation(6),))
    yield "the order of the tokens does not matter", lambda: f.same((X,), (X[ORDER],))


def check_token_mixing_entropy(function: Any) -> Outcome:
    """Check a student's `tme(X)` in nats: one number for X of shape (S, H).

    Tried: both bounds and who attains them, one token, invariance under length, rotation and order, agreement with
    `lostlib.token_mixing_entropy`.
    """

    def properties(f: Student) -> Properties:
        from lostlib import metrics

        def agrees(A: Matrix) -> Callable[[], str | None]:
            return lambda: f.gives((A,), float(metrics.token_mixing_entropy(A)))

        yield from _is_mixing(f)
        yield "it agrees with the library on random tokens", agrees(X)
        yield "it agrees with the library on nearly equal tokens", agrees(1 + 1e-3 * normal(5, 3, seed=6))

    return check("Token mixing entropy", function, properties, ("X",))


# ---- attention -------------------------------------------------------------------------------------------------------


def attention_rows(
    heads: int = 2, tokens: int = 5, image: tuple[int, int] = (1, 4)
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Causal attention weights (heads, Q, K) and the block (Q, K): image tokens that a row sees."""
    scores = normal(heads, tokens, tokens, seed=9)
    seen = np.tril(np.ones((tokens, tokens), dtype=bool))
    weights = np.exp(scores) * seen
    block = seen & np.isin(np.arange(tokens), np.arange(*image))
    return weights / weights.sum(-1, keepdims=True), block


def check_attention_replacement(function: Any) -> Outcome:
    """Check a student's own rule `replace(weights, block)` that puts something else in attention's place.

    `weights` (heads, Q, K) are what a model computed, rows sum to 1; `block` (Q, K) marks the image tokens each row
    sees. Tried: shape, no negative or missing numbers, causal zeros, row sums, weights outside the block untouched,
    rows without a block untouched, something really replaced, and a single row as in generation.
    """
    weights, block = attention_rows()
    hidden = np.triu(np.ones(block.shape, dtype=bool), 1)

    def properties(f: Student) -> Properties:
        def new() -> Matrix:
            return f.array(weights, block)

        yield "the shape stays", lambda: _shape(new(), weights)
        yield "all numbers are finite and none is negative", lambda: _weights(new())
        yield "no row looks ahead: causal zeros stay zero", lambda: _untouched(new(), weights, hidden)
        yield "weights outside the block stay as they were", lambda: _untouched(new(), weights, ~block)
        yield "every row still sums to one", lambda: _sums(new())
        yield "inside the block something else stands there", lambda: _differ(new()[:, block], weights[:, block])
        one = weights[:, -1:], block[-1:]
        yield (
            "it works on a single row, as in generation",
            lambda: _shape(f.array(*one), one[0]) or _sums(f.array(*one)),
        )
        none = np.zeros_like(block)
        yield "without image tokens nothing changes", lambda: _untouched(f.array(weights, none), weights, ~none)

    return check("Your own attention", function, properties, ("weights", "block"))


# ---- sinks -----------------------------------------------------------------------------------------------------------


def sink_stream() -> Matrix:
    """Six tokens with eight dimensions; the second and the fifth are huge in dimension 3."""
    hidden = normal(6, 8, seed=11)
    hidden[1, 3], hidden[4, 3] = 40.0, -25.0
    return hidden


def check_sink_tokens(function: Any) -> Outcome:
    """Check a student's `sinks(hidden, dims, tau)`: a boolean for each token of hidden (S, H).

    Tried: planted sinks, sign and scale, the other tokens' say, any dimension in the list, the threshold, agreement
    with `lostlib.sinks.phi`.
    """
    hidden = sink_stream()
    planted = np.array([False, True, False, False, True, False])

    def properties(f: Student) -> Properties:
        import torch

        from lostlib import sinks

        def mask(*arguments: Any) -> Matrix:
            return f.array(*arguments)

        def agrees(tau: float) -> Callable[[], str | None]:
            found = sinks.phi(torch.from_numpy(hidden), [0, 5]) >= tau
            return lambda: _equal(mask(hidden, [0, 5], tau), found.numpy())

        yield "one truth value comes back for each token", lambda: _shape(mask(hidden, [3], 2.5), hidden[:, 0])
        yield "the planted sinks are found, and no other", lambda: _equal(mask(hidden, [3], 2.5), planted)
        yield "the sign does not matter", lambda: _equal(mask(-hidden, [3], 2.5), planted)
        yield "the scale of a token does not matter", lambda: _equal(mask(100 * hidden, [3], 2.5), planted)
        yield "what other tokens are does not matter", lambda: _equal(mask(hidden[:2], [3], 2.5), planted[:2])
        yield "one sink dimension of several is enough", lambda: _equal(mask(hidden, [0, 3], 2.5), planted)
        yield "dimensions that are not listed do not count", lambda: _equal(mask(hidden, [0], 2.5), 0 * planted)
        yield "it agrees with the library at a low threshold", agrees(0.5)
        yield "it agrees with the library at a higher one", agrees(1.5)

    return check("Sink tokens", function, properties, ("hidden", "dims", "tau"))


def massive_layer(height: float, token: int = 0, tokens: int = 24, hidden: int = 48) -> tuple[Matrix, Matrix, Matrix]:
    """The stream before a layer, after its attention and after its FFN, which adds `height` to one token's entry 7."""
    before = normal(tokens, hidden)
    mid = before + 0.2 * np.tril(normal(tokens, tokens, seed=3)) @ before / math.sqrt(tokens)
    mid = mid + 0.1 * normal(tokens, hidden, seed=4)
    after = mid + 0.2 * normal(tokens, hidden, seed=5)
    after[token, 7] += height
    return before, mid, after


def check_massive_activations(function: Any) -> Outcome:
    """Check a student's `massive(X)`: pairs (token, dimension) of the entries of X (S, H) that are massive activations.

    Those are larger than 100, and a thousand times as large as the median of the whole stream, both in magnitude.
    """
    plain, planted = massive_layer(0)[2], massive_layer(-23_000, token=3)[2]
    wide = planted.copy()
    wide[3] += 60 * np.sign(wide[3])  # a token all of whose entries are large, as it is in real models
    two = planted.copy()
    two[20, 40] = 9_000.0

    def properties(f: Student) -> Properties:
        def finds(X: Matrix, *pairs: tuple[int, int]) -> Callable[[], str | None]:
            return lambda: _pairs(f(X), pairs)

        yield "a stream without any has none", finds(plain)
        yield "a planted one is found", finds(-planted, (3, 7))
        yield "a negative one, too", finds(planted, (3, 7))
        yield "two are found in two tokens", finds(two, (3, 7), (20, 40))
        yield "what is massive only beside tiny numbers is not: it must exceed 100", finds(planted / 1000)
        yield "what is large only in a stream of large numbers is not: the median counts", finds(planted + 40)
        yield "the median is that of the stream, not of the token alone", finds(wide, (3, 7))

    return check("Massive activations", function, properties, ("X",))


def _pairs(found: Any, expected: tuple[tuple[int, int], ...]) -> str | None:
    try:
        given = {(int(token), int(dimension)) for token, dimension in found}
    except (TypeError, ValueError):
        return f"it gave {found!r}, and should give pairs (token, dimension)"
    return None if given == set(expected) else f"it gave {sorted(given)[:5]}, and should give {sorted(expected)}"


def check_ratio_without_token(function: Any) -> Outcome:
    """Check a student's `ratio_without(pre, mid, post, token)`: FFN's RID over attention's, one token left out.

    The three are the stream (S, H) before a layer, after its attention and after its FFN.
    """

    def properties(f: Student) -> Properties:
        from lostlib.metrics import rid

        def expected(token: int, *layer: Matrix) -> float:
            pre, mid, post = (np.delete(x, token, axis=0) for x in layer)
            return float(rid(mid, post).total / rid(pre, mid).total)

        def agrees(token: int, *layer: Matrix) -> Callable[[], str | None]:
            return lambda: f.gives((*layer, token), expected(token, *layer), SIMILAR)

        layer, other = massive_layer(2000), massive_layer(2000, token=5)
        garbled = [x.copy() for x in layer]
        for x in garbled:
            x[0] = 7.0
        yield "one number comes back", lambda: f.one_number(*layer, 0)
        yield "what was in the token's row does not matter", lambda: f.same((*layer, 0), (*garbled, 0))
        yield "it is FFN over attention, without the first token", agrees(0, *layer)
        yield "the scale of the stream does not matter", lambda: f.same((*layer, 0), (*(9 * x for x in layer), 0))
        yield "the massive token may be another one", agrees(5, *other)
        yield "a token that is not massive may be left out", agrees(5, *layer)
        yield "the last one, too", agrees(23, *layer)

    return check("The ratio without a token", function, properties, ("pre", "mid", "post", "token"))


def check_redistribution(function: Any) -> Outcome:
    """Check a student's `move(row, sinks, visual, p)`: one attention row after p of the sinks' weight went elsewhere.

    `row` (K,) sums to 1, `sinks` and `visual` (K,) are boolean. Tried: nothing moved for p = 0, the sum, what sinks
    keep, text left alone, proportions among receivers, agreement with `lostlib.sinks.redistribute`.
    """
    row = np.array([0.30, 0.05, 0.20, 0.10, 0.05, 0.15, 0.10, 0.05])
    sinks, visual = np.zeros(8, dtype=bool), np.zeros(8, dtype=bool)
    sinks[[0, 2]], visual[2:6] = True, True
    receivers, text = visual & ~sinks, ~visual & ~sinks

    def properties(f: Student) -> Properties:
        def new(p: float) -> Matrix:
            return f.array(row, sinks, visual, p)

        yield "the shape stays", lambda: _shape(new(0.6), row)
        yield "with p = 0 nothing moves", lambda: _equal(new(0.0), row)
        yield "the row still sums to one", lambda: _sums(new(0.6))
        yield "sinks keep 1 − p of their weight, text sinks too", lambda: _equal(new(0.6)[sinks], 0.4 * row[sinks])
        yield "text that is no sink stays as it was", lambda: _equal(new(0.6)[text], row[text])
        yield "image tokens receive in proportion to what they had", lambda: _proportional(new(0.6), row, receivers)
        yield "with p = 1 sinks are left with nothing", lambda: _equal(new(1.0)[sinks], 0 * row[sinks])
        yield "it agrees with the library", lambda: _equal(new(0.35), _library_row(row, sinks, visual, 0.35))

    return check("Redistribution", function, properties, ("row", "sinks", "visual", "p"))


def _library_row(row: Matrix, sinks: NDArray[np.bool_], visual: NDArray[np.bool_], p: float) -> Matrix:
    import torch

    from lostlib.sinks import redistribute

    held, seen = (torch.from_numpy(mask)[None] for mask in (sinks, visual))
    everywhere = torch.ones(1, 1, dtype=torch.bool)
    new, _ = redistribute(torch.from_numpy(row)[None, None, None], held, seen, everywhere, p=p, min_mass=0, rho=0)
    return new.flatten().numpy()


# ---- properties of arrays, as messages -------------------------------------------------------------------------------


def _shape(found: Matrix, like: Matrix) -> str | None:
    return None if found.shape == like.shape else f"its shape is {found.shape}, and should be {like.shape}"


def _equal(found: Matrix, expected: Matrix) -> str | None:
    if problem := _shape(found, expected):
        return problem
    right = close(found, expected)
    return (
        None
        if right
        else f"it gave {np.round(found, 4).tolist()}, and should give {np.round(expected * 1.0, 4).tolist()}"
    )


def _differ(found: Matrix, other: Matrix) -> str | None:
    return "it gave the same numbers again" if close(found, other) else None


def _weights(found: Matrix) -> str | None:
    if not np.isfinite(found).all():
        return f"{int((~np.isfinite(found)).sum())} numbers are NaN or infinite"
    return f"the smallest weight is {found.min():.3g}" if found.min() < 0 else None


def _sums(found: Matrix) -> str | None:
    sums = np.atleast_1d(found.sum(-1)).ravel()
    worst = sums[np.argmax(np.abs(sums - 1))]
    return None if close(worst, 1) else f"a row sums to {worst:.6g}"


def _untouched(found: Matrix, before: Matrix, where: NDArray[np.bool_]) -> str | None:
    there = np.broadcast_to(where, before.shape)
    bad = np.argwhere(there & ~np.isclose(found, before, rtol=1e-6, atol=1e-9))
    if not len(bad):
        return None
    at = tuple(int(i) for i in bad[0])
    return f"the weight at [head, query, key] = {list(at)} was {before[at]:.4g} and is {found[at]:.4g}"


def _proportional(found: Matrix, row: Matrix, where: NDArray[np.bool_]) -> str | None:
    ratios = found[where] / row[where]
    return None if close(ratios, ratios[0]) else f"receivers grew by the factors {np.round(ratios, 3).tolist()}"
