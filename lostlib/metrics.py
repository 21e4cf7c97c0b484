"""What one update of the residual stream does, in numbers: eRank, support, RID, TME, MixIG.

X is (..., S, H): S tokens (rows, no padding) of H hidden dimensions, a torch tensor of any float dtype or a numpy
array. Results are float64 tensors of shape (...) on X's device (on the CPU where the device has no float64), computed
on a float64 copy without gradients. Pure functions: no model, no files.

How the singular-value metrics stay fast and exact:

1. Turn each matrix so that n = min(S, H) is its number of rows ("column" and "row" are given their names back at the
   end), and scale it by a power of two where squares might overflow or vanish.
2. Take σ² as the eigenvalues λ of the n×n Gram matrix. Squaring halves the digits, so λ is trusted only down to
   max(S, H) · eps · λ_1, the rounding of an inner product. eRank comes from λ if the smallest lies above; a rank does
   if moving all λ down and up by that much leaves it the same. Otherwise both come from the singular value
   decomposition of the matrix itself.
3. At full rank every direction of the short side is taken already and its part of RID is exactly 0. On the long side
   the span of X is subtracted from X' − X rather than from X', whose bulk would cancel. The n×n arithmetic answers if
   its own error estimate is below 1e-6 of the answer; otherwise an explicit orthonormal basis does.
4. At lower rank both sides are projected with explicit bases: eigenvectors of the Gram matrix if the gap behind the
   last of them fixes their span to 1e-8, singular vectors otherwise.

Sources: O. Roy and M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007 (eRank);
"Large Vision-Language Models Get Lost in Attention", arXiv 2605.05668 (RID, TME, MixIG).
"""

import difflib
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

__all__ = [
    "RID",
    "Decomposition",
    "Support",
    "effective_rank",
    "mixing_information_gain",
    "numerical_rank",
    "rid",
    "support",
    "token_mixing_entropy",
]

# Arguments carry no shape or dtype on purpose: a runtime type checker would answer before our own, clearer, errors.
Array = Tensor | np.ndarray
RankRule = str | int | np.integer

EPS = torch.finfo(torch.float64).eps
RANK_EPS = {"numerical": EPS, "numerical32": torch.finfo(torch.float32).eps}
RANK_RULES = (*RANK_EPS, "energy=0.99", "erank")
UNITS = ("nats", "bits", "normalized")
SIDE_BY_SIDE = 200  # rows from which matrices are worth a thread each


@dataclass(frozen=True)
class RID:
    """Residual innovation of X' over X, in three parts that add up. No unit; see `rid`."""

    delta_s: Float64[Tensor, "*batch"]
    """Change of complexity, |eRank(X') − eRank(X)| / min(S, H), range [0, 1)."""
    delta_d_column: Float64[Tensor, "*batch"]
    """Part of X' outside X's column space (new associations between tokens), range [0, 1/2]."""
    delta_d_row: Float64[Tensor, "*batch"]
    """Part of X' outside X's row space (new semantic directions), range [0, 1/2]."""

    @property
    def total(self) -> Float64[Tensor, "*batch"]:
        """RID itself: the sum of the three parts, range [0, 2)."""
        return self.delta_s + self.delta_d_column + self.delta_d_row


@dataclass(frozen=True)
class Support:
    """The subspaces a matrix lives in, as orthonormal bases; see `support`."""

    rank: Int64[Tensor, "*batch"]
    """Number of dimensions, per matrix."""
    column: Float64[Tensor, "*batch tokens r"]
    """Basis U of the column space; P_C = U Uᵀ. Where ranks differ within a batch, U ends with columns of zeros."""
    row: Float64[Tensor, "*batch hidden r"]
    """Basis V of the row space; P_R = V Vᵀ. Padded like `column`."""


class Decomposition:
    """X prepared once, to be used in several calls in place of X.

    `effective_rank`, `support` and both arguments of `rid` accept it, so that one X can be compared with many X', and
    the X' of one update can be the X of the next, without factorising anything twice. Work is done on first use and
    kept, next to one float64 copy of X. `name` is what errors call the matrix.

    >>> X = Decomposition(torch.eye(2, 3))
    >>> [rid(X, torch.eye(2, 3) * scale).total.item() for scale in (1.0, 7.0)]
    [0.0, 0.0]
    """

    def __init__(self, X: Array, name: str = "X") -> None:
        x = _float64(X, name, check=False)
        self.shape, self.device = x.shape, x.device
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
            _Matrix(matrix.mT if self.tall else matrix, peak) for matrix, peak in zip(flat, peaks, strict=True)
        ]

    def collect(self, values: Iterable[Tensor | int]) -> Tensor:
        """Stack one value per matrix and restore the batch dimensions."""
        stacked = torch.stack([torch.as_tensor(value, device=self.device) for value in values])
        return stacked.reshape((*self.shape[:-2], *stacked.shape[1:]))


def effective_rank(X: Array | Decomposition) -> Float64[Tensor, "*batch"]:
    """How many directions X really uses, if a direction counts by its share of the singular values.

    eRank(X) = exp(−Σ p_i ln p_i) with p_i = σ_i / Σ_j σ_j (Roy & Vetterli 2007). Equal singular values give their
    number; one dominating singular value gives nearly 1. Range [1, min(S, H)], no unit. Neither scale nor rotation
    of X matters. One token, or any rank-1 matrix, has eRank 1; zero rows are harmless.

    X: (..., S, H). Returns (...). Raises ValueError for an all-zero matrix, whose p_i would be 0/0, and for NaN,
    infinite or empty input; TypeError for anything but floats. The shape is in the message.

    >>> round(effective_rank(torch.diag(torch.tensor([3.0, 3.0, 3.0, 0.0]))).item(), 9)
    3.0
    """
    x = _decomposed(X, "X")
    _factorise(x.matrices)
    return x.collect(matrix.effective_rank for matrix in x.matrices)


def numerical_rank(
    singular_values: Array, shape: tuple[int, ...], rule: RankRule = "numerical"
) -> Int64[Tensor, "*batch"]:
    """How many singular values count as support, by a named rule.

    `numerical`: σ_i > max(S, H) · eps · σ_1 with float64's eps. `numerical32`: the same with float32's eps, which
    ignores the rounding noise of float32 activations. `energy=η` (0 < η <= 1): the smallest r whose σ_1², …, σ_r²
    hold the share η of Σ σ_i², up to float64 rounding. `erank`: ⌈eRank⌉. An integer r >= 1: r, or the `numerical`
    rank where that is smaller, since X does not determine further directions.

    singular_values: (..., min(S, H)), in any order; shape: (S, H), of which only the larger matters. Returns int64
    of shape (...), range [1, min(S, H)]. Raises ValueError for an unknown rule, negative or all-zero values.

    >>> numerical_rank(torch.tensor([1.0, 0.1, 1e-9]), (3, 3), "numerical32").item()
    2
    """
    kind, value = _parse_rank(rule)
    s = _float64(singular_values, "singular_values", dims=1).sort(descending=True).values
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


def support(X: Array | Decomposition, rank: RankRule = "numerical") -> Support:
    """The subspaces X lives in: which token patterns (columns) and which hidden directions (rows) it can express.

    Orthonormal bases U (S×r) and V (H×r) of the spans of the first r singular vectors, with r from `rank` (see
    `numerical_rank`); the projectors are P_C = U Uᵀ and P_R = V Vᵀ. The bases need not be the singular vectors
    themselves. At full rank the short side's projector is the identity. Part of RID's definition, arXiv 2605.05668.

    X: (..., S, H). Errors as for `effective_rank` and `numerical_rank`.

    >>> s = support(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    >>> s.rank.item(), tuple(s.column.shape), tuple(s.row.shape)
    (1, (2, 1), (3, 1))
    """
    _parse_rank(rank)
    x = _decomposed(X, "X")
    ranks = [matrix.rank(rank) for matrix in x.matrices]
    bases = [matrix.bases(r) for matrix, r in zip(x.matrices, ranks, strict=True)]
    # one tensor per side: smaller ranks are padded with zero columns, which leave the projector as it is
    padded = [[_pad(basis, max(ranks)) for basis in pair] for pair in bases]
    short, long = (x.collect(side) for side in zip(*padded, strict=True))
    column, row = (long, short) if x.tall else (short, long)
    return Support(x.collect(ranks), column, row)


def rid(X: Array | Decomposition, X_new: Array | Decomposition, rank: RankRule = "numerical") -> RID:
    """How much an update brings that was not there: new complexity, new token associations, new directions.

    RID(X'|X) = ΔS + ΔD (arXiv 2605.05668) with
    ΔS = |eRank(X') − eRank(X)| / min(S, H),
    ΔD = ( ‖(I − P_C) X'‖ + ‖X' (I − P_R)‖ ) / ( 2 ‖X'‖ ), Frobenius norms, P_C and P_R from X's `support`.
    No unit, range [0, 2). At full rank the short side is complete, so one part of ΔD is exactly 0 and RID < 1.5.
    Moving information between tokens, X' = A X, leaves the row part at 0. A rule that counts fewer directions than X
    has (`energy=0.99`, `erank`, an integer) makes even RID(X|X) positive: what X has beyond them counts as new.

    X, X_new: (..., S, H) of the same shape, S and H at least 1. Either may be a `Decomposition`; prepare X as one to
    compare it with several X_new. Returns an `RID` of tensors (...). Errors as for `effective_rank` and
    `numerical_rank`, also if shapes or devices differ.

    >>> parts = rid(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    >>> parts.delta_s.item(), parts.delta_d_column.item(), round(parts.delta_d_row.item(), 6)
    (0.0, 0.0, 0.353553)
    """
    _parse_rank(rank)
    before, after = _decomposed(X, "X"), _decomposed(X_new, "X_new")
    _require_same(before, after)
    _factorise([*before.matrices, *after.matrices])
    pairs = list(zip(before.matrices, after.matrices, strict=True))
    outside = before.collect(_outside(a, b, rank) for a, b in pairs)  # (..., 2): short side, long side
    column, row = outside.flip(-1).unbind(-1) if before.tall else outside.unbind(-1)
    change = before.collect((b.effective_rank - a.effective_rank).abs() / a.n for a, b in pairs)
    return RID(change, column / 2, row / 2)


def token_mixing_entropy(X: Array, unit: str = "nats", causal: bool = False) -> Float64[Tensor, "*batch"]:
    """How evenly a token's similarity is spread over the tokens of its sequence, averaged over tokens.

    With cosines c_tj between tokens, P_tj = (1 + c_tj) / Σ_j (1 + c_tj), the token itself included;
    TME(X) = (1/S) Σ_t H(P_t), Shannon entropy (arXiv 2605.05668). `causal` restricts row t to j <= t.

    Range in nats: [ln S − ln 2, ln S], the minimum only for two opposite directions shared evenly, the maximum for
    one direction shared by all; causal: [0, ln(S!) / S]. `bits` divides by ln 2, `normalized` by ln S. One token
    has TME 0 in every unit.

    X: (..., S, H). Returns (...). Raises ValueError for an unknown unit, a zero row (it has no direction), and
    NaN, infinite or empty input; TypeError for anything but floats.

    >>> round(token_mixing_entropy(torch.ones(8, 3), unit="bits").item(), 9)
    3.0
    """
    x = _float64(X, "X")
    return _mean_entropy(x, "X", causal) * _per_nat(unit, x.shape[-2])


def mixing_information_gain(
    X: Array, X_new: Array, unit: str = "nats", causal: bool = False
) -> Float64[Tensor, "*batch"]:
    """How much more widely tokens are mixed after an update than before; negative if less widely.

    MixIG = TME(X') − TME(X) (arXiv 2605.05668). Since TME lies in [ln S − ln 2, ln S], |MixIG| <= ln 2 nats whatever
    the update; with `causal` only |MixIG| <= ln(S!) / S is certain. To compare one X with many X', subtract one
    `token_mixing_entropy(X)` yourself.

    X, X_new: (..., S, H) of the same shape. Returns (...). Errors as for `token_mixing_entropy`.

    >>> opposite, same = torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [1.0]])
    >>> round(mixing_information_gain(opposite, same, unit="bits").item(), 9)
    1.0
    """
    x, x_new = _float64(X, "X"), _float64(X_new, "X_new")
    _require_same(x, x_new)
    gain = _mean_entropy(x_new, "X_new", causal) - _mean_entropy(x, "X", causal)
    return gain * _per_nat(unit, x.shape[-2])


class _Matrix:
    """One matrix with n rows <= m columns and a largest entry in [2^-65, 2^64); factorised once, on demand."""

    def __init__(self, x: Float64[Tensor, "n m"], peak: float) -> None:
        # a power of two scales without rounding; ±1000 keeps it finite for float64's tiniest numbers
        exponent = max(-1000, min(1000, math.frexp(peak)[1]))
        self.exponent = exponent if abs(exponent) > 64 else 0
        self.x = x * 2.0**-exponent if self.exponent else x
        self.n, self.m = x.shape
        self.factors: tuple[Tensor, Tensor] | None = None  # see `gram` and `eigenvalues`
        self._bases: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def gram(self) -> Float64[Tensor, "n n"]:
        """Inner products of rows, lower triangle only: all that LAPACK reads."""
        return self._factors[0]

    @property
    def eigenvalues(self) -> Float64[Tensor, " n"]:
        """σ², descending, each off by rounding noise relative to the first."""
        return self._factors[1]

    @property
    def _factors(self) -> tuple[Tensor, Tensor]:
        if self.factors is None:
            _factorise([self])
        assert self.factors is not None
        return self.factors

    def factorise(self) -> None:
        """Phase 2's Gram matrix and its eigenvalues."""
        gram = _gram(self.x)
        on_cpu = gram.device.type == "cpu"
        found = torch.from_numpy(np.linalg.eigvalsh(gram.numpy())) if on_cpu else torch.linalg.eigvalsh(gram)
        self.factors = gram, found.flip(0).clamp(min=0)

    @cached_property
    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """The accurate and slow way: U (n×n), σ (n) and Vᵀ (n×m)."""
        return torch.linalg.svd(self.x, full_matrices=False)

    @cached_property
    def noise(self) -> Tensor:
        """The classical bound on rounding in an inner product of m terms, for λ."""
        return self.m * EPS * self.eigenvalues[0]

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
        return _erank(self.eigenvalues.sqrt() if resolved else torch.linalg.svdvals(self.x))

    def rank(self, rule: RankRule) -> int:
        """Phase 2 for a rank."""
        shifted = torch.stack([self.eigenvalues - self.noise, self.eigenvalues + self.noise]).clamp(min=0).sqrt()
        low, high = numerical_rank(shifted, (self.n, self.m), rule).tolist()
        return low if low == high else int(numerical_rank(self.svd[1], (self.n, self.m), rule))

    def bases(self, r: int) -> tuple[Tensor, Tensor]:
        """Orthonormal bases (n×r) and (m×r) of the spans of the first r singular vectors; r comes from `rank`."""
        if r not in self._bases:
            self._bases[r] = self._find_bases(r)
        return self._bases[r]

    def _find_bases(self, r: int) -> tuple[Tensor, Tensor]:
        """Phase 4, and the explicit basis of phase 3."""
        if not self.slow and r == self.n:
            return torch.eye(r, dtype=self.x.dtype, device=self.x.device), torch.linalg.qr(self.x.mT).Q
        if not self.slow and self.noise <= 1e-8 * (self.eigenvalues[r - 1] - self.eigenvalues[r]):
            short = torch.linalg.eigh(self.gram).eigenvectors[:, -r:]
            return short, torch.linalg.qr(self.x.mT @ short).Q
        u, _, vh = self.svd
        return u[:, :r], vh[:r].mT

    @cached_property
    def _cholesky(self) -> Tensor | None:
        factor, failed = torch.linalg.cholesky_ex(self.gram)
        return None if failed else factor

    def innovation(self, d: Float64[Tensor, "n m"], size: Tensor) -> Tensor:
        """Phase 3: ‖d (I − P)‖, P the projector on the row space of x, which must have rank n < m; `size` is ‖d‖."""
        if not self.slow and self._cholesky is not None:
            half = torch.linalg.solve_triangular(self._cholesky, self.x @ d.mT, upper=False)  # ‖d P‖ = ‖half‖
            outside = size.square() - half.norm().square()
            # To first order, with d P = weightsᵀ x; signs vary, so the rounding of m products adds up like √m here,
            # with room to spare. "outside" is a square: half its relative error remains.
            noise = math.sqrt(self.m) / 4 * EPS
            for weights in (self._largest_weights, self._weights):  # the bound costs nothing and is often enough
                error = noise * (weights(half) * self.eigenvalues[0].sqrt() + size) ** 2
                if error <= 2e-6 * outside:
                    return outside.sqrt()
        return _residual(d, self.bases(self.n)[1])

    def _weights(self, half: Tensor) -> Tensor:
        """‖(x xᵀ)⁻¹ x dᵀ‖ from what the triangular solve has left."""
        assert self._cholesky is not None
        return torch.linalg.solve_triangular(self._cholesky.mT, half, upper=True).norm()

    def _largest_weights(self, half: Tensor) -> Tensor:
        """An upper bound of it: no direction grows by more than 1 / σ_n. Infinite where σ_n is not resolved."""
        return half.norm() / (self.eigenvalues[-1] - self.noise).clamp(min=0).sqrt()


def _factorise(matrices: list[_Matrix]) -> None:
    """Factorise what is not yet, large matrices at once, each on cores of its own.

    A second core gains little in finding eigenvalues, so that two matrices side by side take little longer than one.
    NumPy's LAPACK takes 16 ms for 600 x 600 on one core where torch's takes 24, if it is held to one: its threads
    would go on waiting for work on cores that torch needs.
    """
    todo = [one for one in matrices if one.factors is None and not one.slow]
    if not todo:
        return
    threads, one = torch.get_num_threads(), todo[0]
    at_once = min(threads, len(todo)) if one.n >= SIDE_BY_SIDE and one.x.device.type == "cpu" else 1

    def work(matrix: _Matrix) -> None:
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


def _gram(x: Float64[Tensor, "*batch n m"]) -> Float64[Tensor, "*batch n n"]:
    """Lower triangle of x xᵀ (above it lie some zeros): five block rows take 3/5 of the multiplications."""
    n = x.shape[-2]
    gram, step = x.new_zeros((*x.shape[:-1], n)), -(-n // 5)
    for i in range(0, n, step):
        gram[..., i : i + step, : i + step] = x[..., i : i + step, :] @ x[..., : i + step, :].mT
    return gram


def _outside(before: _Matrix, after: _Matrix, rule: RankRule) -> Float64[Tensor, "2"]:
    """Share of ‖X'‖ outside the span of X: on the short side, on the long side."""
    r, x, size = before.rank(rule), after.x, after.x.norm()
    if r < before.n:
        short, long = before.bases(r)
        parts = torch.stack([_residual(x.mT, short), _residual(x, long)])
    elif r < before.m:
        # X' − X and X' have the same innovation: take the smaller. Beyond 2^±200 the choice is clear without digits
        shift = max(-200, min(200, before.exponent - after.exponent))
        update = x - (before.x * 2.0**shift if shift else before.x)
        smaller, its_size = min((update, update.norm()), (x, size), key=lambda one: one[1].item())
        parts = torch.stack([x.new_zeros(()), before.innovation(smaller, its_size)])
    else:
        parts = x.new_zeros(2)
    return parts / size


def _residual(d: Float64[Tensor, "k m"], basis: Float64[Tensor, "m r"]) -> Tensor:
    return (d - (d @ basis) @ basis.mT).norm()


def _erank(s: Float64[Tensor, "*batch n"]) -> Float64[Tensor, "*batch"]:
    p = s / s.sum(-1, keepdim=True)  # (..., n), rows sum to 1
    return torch.special.entr(p).sum(-1).exp()  # entr(p) = −p ln p, 0 at p = 0


def _mean_entropy(x: Float64[Tensor, "*batch tokens hidden"], name: str, causal: bool) -> Float64[Tensor, "*batch"]:
    cosines = _gram(_unit_rows(x, name))  # lower triangle
    k = ((cosines + 1) / 2).clamp(0, 1).tril(-1)
    if not causal:
        k = k + k.mT
    k.diagonal(dim1=-2, dim2=-1).fill_(1)  # (..., S, S), range [0, 1]; a token is similar to itself exactly
    total = k.sum(-1)  # (..., S), range [1, S]
    # H(k/d) = ln d − (Σ k ln k) / d, which saves normalising; entr(k) = −k ln k, 0 at k = 0
    return (total.log() + torch.special.entr(k).sum(-1) / total).mean(-1)


def _unit_rows(x: Float64[Tensor, "*batch tokens hidden"], name: str) -> Float64[Tensor, "*batch tokens hidden"]:
    peaks = x.abs().amax(-1, keepdim=True)
    zero = (peaks[..., 0] == 0).nonzero().tolist()
    if zero:
        where = f"{len(zero)} zero row(s), the first at index {zero[0]}"
        raise ValueError(f"{name} of shape {tuple(x.shape)} has {where}: a zero token has no direction")
    unit = x / peaks  # first, so that squares neither overflow nor vanish
    return unit.mul_(1 / unit.norm(dim=-1, keepdim=True))


def _per_nat(unit: str, tokens: int) -> float:
    if unit not in UNITS:
        raise _unknown("unit", unit, UNITS)
    if unit == "normalized":
        return 1 / math.log(tokens) if tokens > 1 else 0.0
    return 1 / math.log(2) if unit == "bits" else 1.0


def _parse_rank(rule: RankRule) -> tuple[str, float]:
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
    if rule in RANK_EPS:
        return "numerical", RANK_EPS[rule]
    if rule == "erank":
        return "erank", 0.0
    raise _unknown("rank rule", rule, RANK_RULES)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _unknown(what: str, given: object, valid: tuple[str, ...]) -> ValueError:
    near = difflib.get_close_matches(str(given), valid, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {given!r}{hint} Expected one of: {', '.join(valid)}")


def _pad(basis: Float64[Tensor, "side r"], columns: int) -> Tensor:
    return torch.nn.functional.pad(basis, (0, columns - basis.shape[1]))


def _decomposed(X: Array | Decomposition, name: str) -> Decomposition:
    return X if isinstance(X, Decomposition) else Decomposition(X, name)


def _require_same(x: Tensor | Decomposition, x_new: Tensor | Decomposition) -> None:
    if x.shape != x_new.shape:
        raise ValueError(f"X and X_new must have the same shape, got {tuple(x.shape)} and {tuple(x_new.shape)}")
    if x.device != x_new.device:
        raise ValueError(f"X and X_new must be on the same device, got {x.device} and {x_new.device}")


def _float64(X: Array, name: str, dims: int = 2, check: bool = True) -> Tensor:
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
        x = (x.cpu() if x.device.type == "mps" else x).to(torch.float64, copy=True)  # Apple's GPUs have no float64
    if check and not all(torch.isfinite(end) for end in torch.aminmax(x)):  # NaN reaches both; twenty times cheaper
        raise _not_finite(x, name)
    return x


def _not_finite(x: Tensor, name: str) -> ValueError:
    bad = (~torch.isfinite(x)).nonzero()
    where = f"the first at index {bad[0].tolist()}"
    return ValueError(f"{name} of shape {tuple(x.shape)} has {len(bad)} NaN or infinite value(s), {where}")
