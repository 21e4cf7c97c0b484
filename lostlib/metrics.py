"""What one update of the residual stream does, in numbers: eRank, support, RID, TME, MixIG.

X is (..., S, H): S tokens (rows, no padding) of H hidden dimensions, a torch tensor of any float dtype or a numpy
array. Results are float64 tensors of shape (...) on X's device (on the CPU where the device has no float64), computed
on a float64 copy without gradients. Pure functions: no model, no files. How singular values are found is in
`lostlib.spectra`.

Sources: O. Roy and M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007 (eRank);
"Large Vision-Language Models Get Lost in Attention", arXiv 2605.05668 (RID, TME, MixIG).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lostlib.spectra import (
    Array,
    Decomposition,
    RankRule,
    as_float64,
    factorise,
    lower_gram,
    numerical_rank,
    outside,
    parse_rank,
)
from lostlib.text import check

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

UNITS = ("nats", "bits", "normalized")


@dataclass(frozen=True)
class RID:
    """Residual innovation of X' over X, in three parts that add up. No unit; see `rid`."""

    delta_s: Float64[Tensor, "*batch"]  #: change of complexity, ``|eRank(X') − eRank(X)| / min(S, H)``, range [0, 1)
    #: part of X' outside X's column space (new associations between tokens), range [0, 1/2]
    delta_d_column: Float64[Tensor, "*batch"]
    #: part of X' outside X's row space (new semantic directions), range [0, 1/2]
    delta_d_row: Float64[Tensor, "*batch"]

    @property
    def total(self) -> Float64[Tensor, "*batch"]:
        """RID itself, the sum of the three parts, range [0, 2)."""
        return self.delta_s + self.delta_d_column + self.delta_d_row


@dataclass(frozen=True)
class Support:
    """The subspaces a matrix lives in, as orthonormal bases; see `support`."""

    rank: Int64[Tensor, "*batch"]  #: number of dimensions, per matrix
    #: basis U of the column space, P_C = U Uᵀ; where ranks differ within a batch, U ends with columns of zeros
    column: Float64[Tensor, "*batch tokens r"]
    row: Float64[Tensor, "*batch hidden r"]  #: basis V of the row space, P_R = V Vᵀ; padded like `column`


def effective_rank(X: Array | Decomposition) -> Float64[Tensor, "*batch"]:
    """How many directions X really uses, if a direction counts by its share of the singular values.

    eRank(X) = exp(−Σ p_i ln p_i) with p_i = σ_i / Σ_j σ_j (Roy & Vetterli 2007). Equal singular values give their
    number; one dominating singular value gives nearly 1. Neither scale nor rotation of X matters. One token, or any
    rank-1 matrix, has eRank 1; zero rows are harmless.

    Parameters
    ----------
    X : Tensor, array or Decomposition (..., S, H)

    Returns
    -------
    Tensor (...), float64
        No unit, range [1, min(S, H)].

    Raises
    ------
    ValueError
        For an all-zero matrix, whose p_i would be 0/0, and for NaN, infinite or empty input, with the shape.
    TypeError
        For anything but floats.

    Examples
    --------
    >>> round(effective_rank(torch.diag(torch.tensor([3.0, 3.0, 3.0, 0.0]))).item(), 9)
    3.0
    """
    x = _decomposed(X, "X")
    factorise(x.matrices)
    return x.collect(matrix.effective_rank for matrix in x.matrices)


def support(X: Array | Decomposition, rank: RankRule = "numerical") -> Support:
    """The subspaces X lives in: which token patterns (columns) and which hidden directions (rows) it can express.

    Orthonormal bases U (S×r) and V (H×r) of the spans of the first r singular vectors, with r from `rank` (see
    `numerical_rank`); the projectors are P_C = U Uᵀ and P_R = V Vᵀ. The bases need not be the singular vectors
    themselves. At full rank the short side's projector is the identity. Part of RID's definition, arXiv 2605.05668.

    Parameters
    ----------
    X : Tensor, array or Decomposition (..., S, H)
    rank : str or int
        A rule of `numerical_rank`.

    Raises
    ------
    ValueError, TypeError
        As for `effective_rank` and `numerical_rank`.

    Examples
    --------
    >>> s = support(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    >>> s.rank.item(), tuple(s.column.shape), tuple(s.row.shape)
    (1, (2, 1), (3, 1))
    """
    parse_rank(rank)
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

    By arXiv 2605.05668, with Frobenius norms, and P_C and P_R from X's `support`::

        RID(X'|X) = ΔS + ΔD
        ΔS = |eRank(X') − eRank(X)| / min(S, H)
        ΔD = ( ‖(I − P_C) X'‖ + ‖X' (I − P_R)‖ ) / ( 2 ‖X'‖ )

    At full rank the short side is complete, so one part of ΔD is exactly 0 and RID < 1.5. Moving information between
    tokens, X' = A X, leaves the row part at 0. A rule that counts fewer directions than X has (`energy=0.99`, `erank`,
    an integer) makes even ``RID(X|X)`` positive: what X has beyond them counts as new.

    Parameters
    ----------
    X, X_new : Tensor, array or Decomposition (..., S, H)
        Before and after, of the same shape. Prepare X as a `Decomposition` to compare it with several X_new.
    rank : str or int
        A rule of `numerical_rank`.

    Returns
    -------
    RID
        Of tensors (...). No unit, range [0, 2).

    Raises
    ------
    ValueError, TypeError
        As for `effective_rank` and `numerical_rank`, and if shapes or devices differ.

    Examples
    --------
    >>> parts = rid(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    >>> parts.delta_s.item(), parts.delta_d_column.item(), round(parts.delta_d_row.item(), 6)
    (0.0, 0.0, 0.353553)
    """
    parse_rank(rank)
    before, after = _decomposed(X, "X"), _decomposed(X_new, "X_new")
    _require_same(before, after)
    factorise([*before.matrices, *after.matrices])
    pairs = list(zip(before.matrices, after.matrices, strict=True))
    shares = before.collect(outside(a, b, rank) for a, b in pairs)  # (..., 2): short side, long side
    column, row = shares.flip(-1).unbind(-1) if before.tall else shares.unbind(-1)
    change = before.collect((b.effective_rank - a.effective_rank).abs() / a.n for a, b in pairs)
    return RID(change, column / 2, row / 2)


def token_mixing_entropy(
    X: Array | Decomposition, unit: str = "nats", causal: bool = False
) -> Float64[Tensor, "*batch"]:
    """How evenly a token's similarity is spread over the tokens of its sequence, averaged over tokens.

    With cosines c_tj between tokens, P_tj = (1 + c_tj) / Σ_j (1 + c_tj), the token itself included;
    TME(X) = (1/S) Σ_t H(P_t), Shannon entropy (arXiv 2605.05668). `causal` restricts row t to j <= t.

    Parameters
    ----------
    X : Tensor, array or Decomposition (..., S, H)
    unit : str
        ``"nats"``; ``"bits"`` divides by ln 2, ``"normalized"`` by ln S.
    causal : bool
        Does a token see only itself and those before it.

    Returns
    -------
    Tensor (...), float64
        Range in nats [ln S − ln 2, ln S], the minimum only for two opposite directions shared evenly, the maximum for
        one direction shared by all; if causal, [0, ln(S!) / S]. One token has TME 0 in every unit.

    Raises
    ------
    ValueError
        For an unknown unit, a zero row (it has no direction), and NaN, infinite or empty input.
    TypeError
        For anything but floats.

    Examples
    --------
    >>> round(token_mixing_entropy(torch.ones(8, 3), unit="bits").item(), 9)
    3.0
    """
    x = X if isinstance(X, Decomposition) else as_float64(X, "X")
    return _mean_entropy(_cosines(x, "X"), causal) * _per_nat(unit, x.shape[-2])


def mixing_information_gain(
    X: Array, X_new: Array, unit: str = "nats", causal: bool = False
) -> Float64[Tensor, "*batch"]:
    """How much more widely tokens are mixed after an update than before; negative if less widely.

    MixIG = TME(X') − TME(X) (arXiv 2605.05668). To compare one X with many X', subtract one `token_mixing_entropy(X)`
    yourself.

    Parameters
    ----------
    X, X_new : Tensor or array (..., S, H)
        Before and after, of the same shape.
    unit, causal
        As for `token_mixing_entropy`.

    Returns
    -------
    Tensor (...), float64
        Range in nats [−ln 2, ln 2] whatever the update, since TME lies in [ln S − ln 2, ln S]; if causal, only
        [−ln(S!) / S, ln(S!) / S] is certain.

    Raises
    ------
    ValueError, TypeError
        As for `token_mixing_entropy`, and if shapes or devices differ.

    Examples
    --------
    >>> opposite, same = torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [1.0]])
    >>> round(mixing_information_gain(opposite, same, unit="bits").item(), 9)
    1.0
    """
    x, x_new = as_float64(X, "X"), as_float64(X_new, "X_new")
    _require_same(x, x_new)
    gain = _mean_entropy(_cosines(x_new, "X_new"), causal) - _mean_entropy(_cosines(x, "X"), causal)
    return gain * _per_nat(unit, x.shape[-2])


def _cosines(x: Tensor | Decomposition, name: str) -> Float64[Tensor, "*batch tokens tokens"]:
    """Between tokens, lower triangle; of a decomposition from the Gram matrix, where that is between tokens."""
    if not isinstance(x, Decomposition):
        return lower_gram(_unit_rows(x, name))
    known = [None] if x.tall else [one.cosines() for one in x.matrices]
    if any(one is None for one in known):
        return lower_gram(_unit_rows(x.x, x.name))
    return x.collect(one for one in known if one is not None)


def _mean_entropy(cosines: Float64[Tensor, "*batch tokens tokens"], causal: bool) -> Float64[Tensor, "*batch"]:
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
    check("unit", unit, UNITS)
    if unit == "normalized":
        return 1 / math.log(tokens) if tokens > 1 else 0.0
    return 1 / math.log(2) if unit == "bits" else 1.0


def _pad(basis: Float64[Tensor, "side r"], columns: int) -> Tensor:
    return torch.nn.functional.pad(basis, (0, columns - basis.shape[1]))


def _decomposed(X: Array | Decomposition, name: str) -> Decomposition:
    return X if isinstance(X, Decomposition) else Decomposition(X, name)


def _require_same(x: Tensor | Decomposition, x_new: Tensor | Decomposition) -> None:
    if x.shape != x_new.shape:
        raise ValueError(f"X and X_new must have the same shape, got {tuple(x.shape)} and {tuple(x_new.shape)}")
    if x.device != x_new.device:
        raise ValueError(f"X and X_new must be on the same device, got {x.device} and {x_new.device}")
