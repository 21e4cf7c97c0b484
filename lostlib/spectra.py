"""Matrices and their singular values: the engine of eRank, support and RID, fast and exact.

1. Turn each matrix so that n = min(S, H) is its number of rows ("column" and "row" are given their names back at the
   end), and scale it by a power of two where squares might overflow or vanish. Of k identical rows one is kept, √k
   times as long, and none of zeros: that leaves the singular values above 0 and the span of the rows as they are.
2. Take σ² as the eigenvalues λ of the n×n Gram matrix. Squaring halves the digits, so λ is trusted only down to
   max(S, H) · eps · λ_1, the rounding of an inner product. eRank comes from λ if the smallest lies above; a rank does
   if moving all λ down and up by that much leaves it the same. Otherwise both come from the singular value
   decomposition of the matrix itself.
3. At full rank every direction of the short side is taken already and its part of RID is exactly 0; with identical
   rows it is what sets them apart from their mean in X', since all other patterns are taken. On the long side
   the span of X is subtracted from X' − X rather than from X', whose bulk would cancel. The n×n arithmetic answers if
   its own error estimate is below 1e-6 of the answer; otherwise an explicit orthonormal basis does.
4. At lower rank both sides are projected with explicit bases: eigenvectors of the Gram matrix if the gap behind the
   last of them fixes their span to 1e-8, singular vectors otherwise.
"""

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from jaxtyping import Float64, Int64
from threadpoolctl import ThreadpoolController
from torch import Tensor

from lostlib.text import check

# Arguments carry no shape or dtype on purpose: a runtime type checker would answer before our own, clearer, errors.
Array = Tensor | np.ndarray
RankRule = str | int | np.integer

EPS = torch.finfo(torch.float64).eps
RANK_EPS = {"numerical": EPS, "numerical32": torch.finfo(torch.float32).eps}
RANK_RULES = (*RANK_EPS, "energy=0.99", "erank")
SIDE_BY_SIDE = 200  # rows from which matrices are worth a thread each
MANY = 1024  # rows from which torch's LAPACK finds eigenvalues sooner than NumPy's, by a third
VANISHED = 2.0**-1000  # squares below it have lost digits
SAMPLE = 64  # entries of each row in which identical rows are looked for at first


class Decomposition:
    """X prepared once, to be used in several calls in place of X.

    `effective_rank`, `support`, `token_mixing_entropy` and both arguments of `rid` accept it, so that one X can be
    compared with many X', and the X' of one update can be the X of the next, without factorising anything twice. Work
    is done on first use and kept, next to one float64 copy of X; with ``copy=False``, next to X itself where that is a
    float64 tensor, which then must not change. `name` is what errors call the matrix.

    >>> from lostlib.metrics import rid
    >>> X = Decomposition(torch.eye(2, 3))
    >>> [rid(X, torch.eye(2, 3) * scale).total.item() for scale in (1.0, 7.0)]
    [0.0, 0.0]
    """

    def __init__(self, X: Array, name: str = "X", copy: bool = True) -> None:
        x = as_float64(X, name, check=False, copy=copy)
        self.name, self.shape, self.device = name, x.shape, x.device
        self.tall = x.shape[-2] > x.shape[-1]
        flat = x.reshape(-1, *x.shape[-2:])
        # matrix by matrix: along a dimension, aminmax takes twenty times as long
        peaks = torch.stack([torch.stack(torch.aminmax(one)).abs().amax() for one in flat]).tolist()
        if not all(map(math.isfinite, peaks)):
            raise _not_finite(x, name)
        if 0.0 in peaks:
            where = f" (matrix {peaks.index(0.0)} of {len(peaks)})" if len(peaks) > 1 else ""
            raise ValueError(f"{name} of shape {tuple(x.shape)} is all zeros{where}: it has no spectrum to measure")
        self.matrices = [
            Matrix(matrix.mT if self.tall else matrix, peak) for matrix, peak in zip(flat, peaks, strict=True)
        ]

    @property
    def x(self) -> Tensor:
        """X, each matrix up to a power of two."""
        return self.collect(one.x.mT if self.tall else one.x for one in self.matrices)

    def collect(self, values: Iterable[Tensor | int]) -> Tensor:
        """Stack one value per matrix and restore the batch dimensions."""
        stacked = torch.stack([torch.as_tensor(value, device=self.device) for value in values])
        return stacked.reshape((*self.shape[:-2], *stacked.shape[1:]))


def numerical_rank(
    singular_values: Array, shape: tuple[int, ...], rule: RankRule = "numerical"
) -> Int64[Tensor, "*batch"]:
    """How many singular values count as support, by a named rule.

    Parameters
    ----------
    singular_values : Tensor or array (..., min(S, H))
        In any order.
    shape : tuple of int
        (S, H), of which only the larger matters.
    rule : str or int
        ``"numerical"``: σ_i > max(S, H) · eps · σ_1 with float64's eps; ``"numerical32"``: the same with float32's eps,
        which ignores the rounding noise of float32 activations; ``"energy=η"`` (0 < η <= 1): the smallest r whose
        σ_1², …, σ_r² hold the share η of Σ σ_i², up to float64 rounding; ``"erank"``: ⌈eRank⌉; an integer r >= 1: r, or
        the numerical rank where that is smaller, since X does not determine further directions.

    Returns
    -------
    Tensor (...), int64
        Range [1, min(S, H)].

    Raises
    ------
    ValueError
        For an unknown rule, and for negative or all-zero values.

    Examples
    --------
    >>> numerical_rank(torch.tensor([1.0, 0.1, 1e-9]), (3, 3), "numerical32").item()
    2
    """
    kind, value = parse_rank(rule)
    s = as_float64(singular_values, "singular_values", dims=1).sort(descending=True).values
    if s[..., -1].min() < 0 or s[..., 0].min() == 0:
        raise ValueError(f"singular_values of shape {tuple(s.shape)}: expected none below 0 and some above 0")
    s, n = s / s[..., :1], s.shape[-1]  # (..., n), range [0, 1]
    if kind == "energy":
        energy = s.square().cumsum(-1)
        # n·EPS: the last bits of a sum must not decide a tie
        return ((energy < value * (1 - n * EPS) * energy[..., -1:]).sum(-1) + 1).clamp(max=n)
    if kind == "erank":
        return (_erank(s) - 1e-9).ceil().long().clamp(1, n)  # 1e-9: two equal σ give 2, not 3
    if kind == "fixed":
        return numerical_rank(s, shape).clamp(max=int(value))
    return (s > max(shape[-2:]) * value).sum(-1)


class Matrix:
    """One matrix with n rows <= m columns and a largest entry in [2^-65, 2^64); factorised once, on demand."""

    def __init__(self, x: Float64[Tensor, "n m"], peak: float) -> None:
        # a power of two scales without rounding; ±1000 keeps it finite for float64's tiniest numbers
        exponent = max(-1000, min(1000, math.frexp(peak)[1]))
        self.exponent = exponent if abs(exponent) > 64 else 0
        self.x = x * 2.0**-exponent if self.exponent else x
        self.n, self.m = x.shape
        self.repeats = _repeats(self.x)
        self.core = self.repeats.core(self.x) if self.repeats else self.x  # (k, m), what is factorised
        self.k = len(self.core)
        self.factors: tuple[Tensor, Tensor] | None = None  # see `gram` and `eigenvalues`
        self._bases: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def gram(self) -> Float64[Tensor, "k k"]:
        """Inner products of the core's rows, lower triangle only: all that LAPACK reads."""
        return self._factors[0]

    @property
    def eigenvalues(self) -> Float64[Tensor, " k"]:
        """σ² of the core, descending, each off by rounding noise relative to the first."""
        return self._factors[1]

    @property
    def _factors(self) -> tuple[Tensor, Tensor]:
        if self.factors is None:
            factorise([self])
        assert self.factors is not None
        return self.factors

    def factorise(self) -> None:
        """Phase 2's Gram matrix and its eigenvalues."""
        gram = lower_gram(self.core)
        by_numpy = gram.device.type == "cpu" and self.k < MANY
        found = torch.from_numpy(np.linalg.eigvalsh(gram.numpy())) if by_numpy else torch.linalg.eigvalsh(gram)
        self.factors = gram, found.flip(0).clamp(min=0)

    def cosines(self) -> Float64[Tensor, "n n"] | None:
        """Between rows, from the Gram matrix, lower triangle; None where its squares vanish, as for rows of zeros."""
        squares = self.gram.diagonal()
        if squares.min() < VANISHED or (self.repeats and (self.repeats.entry == 0).any()):
            return None
        cosines = self.gram * squares.rsqrt()[:, None] * squares.rsqrt()
        if self.repeats is None:
            return cosines
        whole = cosines.tril() + cosines.tril(-1).mT
        return whole[self.repeats.group][:, self.repeats.group]

    @cached_property
    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """The accurate and slow way: U (k×k), σ (k) and Vᵀ (k×m) of the core."""
        return torch.linalg.svd(self.core, full_matrices=False)

    @cached_property
    def noise(self) -> Tensor:
        """The classical bound on rounding in an inner product of m terms, for λ."""
        return self.m * EPS * self.eigenvalues[0]

    @cached_property
    def norm(self) -> Tensor:
        """Frobenius."""
        return self.gram.trace().sqrt() if self.factors else self.core.norm()

    @property
    def slow(self) -> bool:
        """Whether the singular vectors are there already, so that nothing less accurate is worth using."""
        return "svd" in vars(self)

    @cached_property
    def effective_rank(self) -> Tensor:
        """Phase 2 for eRank."""
        if self.slow:
            return _erank(self.svd[1])
        resolved = self.eigenvalues[-1] > self.noise
        return _erank(self.eigenvalues.sqrt() if resolved else torch.linalg.svdvals(self.core))

    def rank(self, rule: RankRule) -> int:
        """Phase 2 for a rank."""
        shifted = torch.stack([self.eigenvalues - self.noise, self.eigenvalues + self.noise]).clamp(min=0).sqrt()
        low, high = numerical_rank(shifted, (self.n, self.m), rule).tolist()
        return low if low == high else int(numerical_rank(self.svd[1], (self.n, self.m), rule))

    def bases(self, r: int) -> tuple[Tensor, Tensor]:
        """Orthonormal bases (n×r) and (m×r) of the spans of the first r singular vectors; r comes from `rank`."""
        if r not in self._bases:
            short, long = self._find_bases(r)
            self._bases[r] = (self.repeats.spread(short) if self.repeats else short), long
        return self._bases[r]

    def _find_bases(self, r: int) -> tuple[Tensor, Tensor]:
        """Phase 4, and the explicit basis of phase 3, of the core."""
        if not self.slow and r == self.k:
            return torch.eye(r, dtype=self.x.dtype, device=self.x.device), torch.linalg.qr(self.core.mT).Q
        if not self.slow and self.noise <= 1e-8 * (self.eigenvalues[r - 1] - self.eigenvalues[r]):
            short = torch.linalg.eigh(self.gram).eigenvectors[:, -r:]
            return short, torch.linalg.qr(self.core.mT @ short).Q
        u, _, vh = self.svd
        return u[:, :r], vh[:r].mT

    @cached_property
    def _cholesky(self) -> Tensor | None:
        factor, failed = torch.linalg.cholesky_ex(self.gram)
        return None if failed else factor

    def innovation(self, d: Float64[Tensor, "n m"], size: Tensor) -> Tensor:
        """Phase 3: ‖d (I − P)‖, P the projector on the row space of the core, whose rank is k < m; `size` is ‖d‖."""
        if not self.slow and self._cholesky is not None:
            products = (d @ self.core.mT).mT  # in the order of columns, as LAPACK wants it
            half = torch.linalg.solve_triangular(self._cholesky, products, upper=False)  # ‖d P‖ = ‖half‖
            outside = size.square() - half.norm().square()
            # To first order, with d P = weightsᵀ x; signs vary, so the rounding of m products adds up like √m here,
            # with room to spare. "outside" is a square: half its relative error remains.
            noise = math.sqrt(self.m) / 4 * EPS
            for weights in (self._largest_weights, self._weights):  # the bound costs nothing and is often enough
                error = noise * (weights(half) * self.eigenvalues[0].sqrt() + size) ** 2
                if error <= 2e-6 * outside:
                    return outside.sqrt()
        return _residual(d, self.bases(self.k)[1])

    def _weights(self, half: Tensor) -> Tensor:
        """‖(x xᵀ)⁻¹ x dᵀ‖ from what the triangular solve has left."""
        assert self._cholesky is not None
        return torch.linalg.solve_triangular(self._cholesky.mT, half, upper=True).norm()

    def _largest_weights(self, half: Tensor) -> Tensor:
        """An upper bound of it: no direction grows by more than 1 / σ_n. Infinite where σ_n is not resolved."""
        return half.norm() / (self.eigenvalues[-1] - self.noise).clamp(min=0).sqrt()


@dataclass(frozen=True)
class Repeats:
    """Which rows of a matrix are identical or zero, and the n×k matrix E of its k kept rows: X = E · core, EᵀE = 1."""

    first: Int64[Tensor, " k"]  #: of each kept row, a place where it stands
    times: Float64[Tensor, " k"]  #: how many there are of it
    group: Int64[Tensor, " n"]  #: which kept row each row is; any for rows of zeros
    entry: Float64[Tensor, " n"]  #: the one entry of E's row, 1 / √times; 0 for rows of zeros

    def core(self, x: Float64[Tensor, "n m"]) -> Float64[Tensor, "k m"]:
        """Each kept row once, √times as long."""
        return x[self.first] * self.times.sqrt()[:, None]

    def spread(self, short: Float64[Tensor, "k r"]) -> Float64[Tensor, "n r"]:
        """E · short: what a basis of the core's columns is for the whole matrix."""
        return short[self.group] * self.entry[:, None]

    def apart(self, x: Float64[Tensor, "n m"]) -> Tensor:
        """‖(I − E Eᵀ) x‖: how far x's rows are from their mean wherever rows are identical here."""
        sums = x.new_zeros(len(self.first), x.shape[1]).index_add_(0, self.group, x * self.entry[:, None])
        return (x - self.spread(sums)).norm()


def _repeats(x: Float64[Tensor, "n m"]) -> Repeats | None:
    """Rows that are identical bit by bit, or zero; None where there are none.

    Rows are told apart by a sum over their bits, of a few entries at first, which nearly always is enough, then of all.
    Equal sums are no proof, so the rows are compared in the end.
    """
    n, m = x.shape
    for step in sorted({max(1, m // SAMPLE), 1}, reverse=True):
        bits = x[:, ::step].contiguous().view(torch.int64)
        key = (bits * _odd(bits.shape[1], x.device)).sum(1)  # wraps around, as it may
        _, group, times = torch.unique(key, return_inverse=True, return_counts=True)
        if len(times) == n and key.all():
            return None
        first = torch.empty_like(times).scatter_(0, group, torch.arange(n, device=x.device))
        if not torch.equal(x[first][group], x):
            continue
        kept = x[first].any(1)
        if kept.all() and len(times) == n:
            return None
        entry = torch.where(kept, times.to(x.dtype).rsqrt(), 0.0)[group]
        return Repeats(first[kept], times[kept].to(x.dtype), (kept.cumsum(0) - 1).clamp(min=0)[group], entry)
    return None


def _odd(n: int, device: torch.device) -> Int64[Tensor, " n"]:
    """Odd numbers without a pattern."""
    mixed = torch.arange(1, n + 1, device=device) * 0x1E3779B97F4A7C15
    return (mixed ^ (mixed >> 29)) * 0x3F58476D1CE4E5B9 | 1


def factorise(matrices: list[Matrix]) -> None:
    """Factorise what is not yet, large matrices at once, each on cores of its own.

    A second core gains little in finding eigenvalues, so that two matrices side by side take little longer than one.
    NumPy's LAPACK takes 16 ms for 600 x 600 on one core where torch's takes 24, if it is held to one: its threads
    would go on waiting for work on cores that torch needs.
    """
    todo = [one for one in matrices if one.factors is None and not one.slow]
    if not todo:
        return
    threads, one = torch.get_num_threads(), todo[0]
    at_once = min(threads, len(todo)) if one.k >= SIDE_BY_SIDE and one.x.device.type == "cpu" else 1

    def work(matrix: Matrix) -> None:
        torch.set_num_threads(threads // at_once)  # of this worker alone
        matrix.factorise()

    with _blas().limit(limits=1, user_api="blas"):
        if at_once > 1:
            list(_workers(at_once).map(work, todo))
        else:
            for matrix in todo:
                matrix.factorise()


@cache
def _blas() -> ThreadpoolController:
    """NumPy's threads; to look for them takes milliseconds."""
    return ThreadpoolController()


@cache
def _workers(number: int) -> ThreadPoolExecutor:
    """Threads that are kept: each starts threads of its own."""
    return ThreadPoolExecutor(number, thread_name_prefix="lostlib-metrics")


def lower_gram(x: Float64[Tensor, "*batch n m"]) -> Float64[Tensor, "*batch n n"]:
    """Lower triangle of x xᵀ (above it lie some zeros): five block rows take 3/5 of the multiplications."""
    n = x.shape[-2]
    gram, step = x.new_zeros((*x.shape[:-1], n)), -(-n // 5)
    for i in range(0, n, step):
        gram[..., i : i + step, : i + step] = x[..., i : i + step, :] @ x[..., : i + step, :].mT
    return gram


def outside(before: Matrix, after: Matrix, rule: RankRule) -> Float64[Tensor, "2"]:
    """Share of ‖X'‖ outside the span of X: on the short side, on the long side."""
    r, x, size = before.rank(rule), after.x, after.norm
    if r < before.k:
        short, long = before.bases(r)
        parts = torch.stack([_residual(x.mT, short), _residual(x, long)])
    elif r < before.m:
        # X' − X and X' have the same innovation: take the smaller. Beyond 2^±200 the choice is clear without digits
        shift = max(-200, min(200, before.exponent - after.exponent))
        update = x - (before.x * 2.0**shift if shift else before.x)
        smaller, its_size = min((update, update.norm()), (x, size), key=lambda one: one[1].item())
        apart = before.repeats.apart(x) if before.repeats else x.new_zeros(())
        parts = torch.stack([apart, before.innovation(smaller, its_size)])
    else:
        parts = x.new_zeros(2)
    return parts / size


def _residual(d: Float64[Tensor, "k m"], basis: Float64[Tensor, "m r"]) -> Tensor:
    return (d - (d @ basis) @ basis.mT).norm()


def _erank(s: Float64[Tensor, "*batch n"]) -> Float64[Tensor, "*batch"]:
    p = s / s.sum(-1, keepdim=True)  # (..., n), rows sum to 1
    return torch.special.entr(p).sum(-1).exp()  # entr(p) = −p ln p, 0 at p = 0


def parse_rank(rule: RankRule) -> tuple[str, float]:
    """(kind, number) of a rank rule; ValueError or TypeError where there is no such rule."""
    if isinstance(rule, int | np.integer) and not isinstance(rule, bool):
        if rule < 1:
            raise ValueError(f"rank {rule}: a fixed rank must be at least 1")
        return "fixed", float(rule)
    if not isinstance(rule, str):
        raise TypeError(f"rank {rule!r}: expected a rule's name or an integer, got {type(rule).__name__}")
    if rule.startswith("energy="):
        share = _number(rule.removeprefix("energy="))
        if not 0 < share <= 1:
            raise ValueError(f"rank {rule!r}: expected energy=η with 0 < η <= 1, such as 'energy=0.99'")
        return "energy", share
    check("rank rule", rule, RANK_RULES)
    return ("erank", 0.0) if rule == "erank" else ("numerical", RANK_EPS[rule])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def as_float64(X: Array, name: str, dims: int = 2, check: bool = True, copy: bool = True) -> Tensor:
    """A float64 version of a legal argument, where float64 exists; an error that shows the data for any other.

    `check` that all values are finite, unless the caller does.
    """
    if not isinstance(X, Tensor | np.ndarray):
        raise TypeError(f"{name}: expected a torch tensor or a numpy array, got {type(X).__name__}")
    if isinstance(X, Tensor) and (X.layout != torch.strided or X.is_nested):
        kind = "a nested one" if X.is_nested else f"one of layout {X.layout}"
        raise TypeError(f"{name}: expected a dense tensor, got {kind}; {name}.to_dense() may be what you mean")
    given = f"{name} of shape {tuple(X.shape)}"
    if not (X.is_floating_point() if isinstance(X, Tensor) else np.issubdtype(X.dtype, np.floating)):
        raise TypeError(f"{given}: expected floating-point numbers, got {X.dtype}")
    if X.ndim < dims or 0 in X.shape:
        expected = "(..., tokens, hidden)" if dims == 2 else "(..., values)"
        raise ValueError(f"{given}: expected {expected} with every size at least 1")
    if isinstance(X, np.ndarray):
        x = torch.from_numpy(np.array(X, dtype=np.float64))
    else:
        x = X.detach()
        x = (x.cpu() if x.device.type == "mps" else x).to(torch.float64, copy=copy)  # Apple's GPUs have no float64
    if check and not all(torch.isfinite(end) for end in torch.aminmax(x)):  # NaN reaches both; twenty times cheaper
        raise _not_finite(x, name)
    return x


def _not_finite(x: Tensor, name: str) -> ValueError:
    bad = (~torch.isfinite(x)).nonzero()
    where = f"the first at index {bad[0].tolist()}"
    return ValueError(f"{name} of shape {tuple(x.shape)} has {len(bad)} NaN or infinite value(s), {where}")
