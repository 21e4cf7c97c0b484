"""How updates of the stream are measured: a rank rule for RID, a unit and causality for TME.

Almost all of the time goes into singular values, so each sequence is prepared once, whatever it is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lostlib import metrics
from lostlib.spectra import factorise


class State:
    """One sequence (S, H) in float64, without padding, prepared for any number of comparisons, for which it is kept."""

    def __init__(self, x: Tensor, measures: Measures) -> None:
        self.x, self.measures = x, measures
        self.decomposed = metrics.Decomposition(x, copy=False)

    @cached_property
    def tme(self) -> float:
        """In the unit and causality of the measures."""
        unit, causal = self.measures.unit, self.measures.causal
        return float(metrics.token_mixing_entropy(self.decomposed, unit=unit, causal=causal))

    @cached_property
    def norm(self) -> float:
        """Frobenius."""
        return float(self.x.norm())

    def holds(self, x: Tensor) -> bool:
        """Is it this very sequence? Where numbers differ they do so early, so the answer comes at once."""
        return self.x.shape == x.shape and self.x.device == x.device and torch.equal(self.x, x)


@dataclass(frozen=True)
class Measures:
    """How updates are measured: RID's rank rule, TME's unit and causality."""

    rank: str | int
    unit: str
    causal: bool

    def states(self, sequences: Sequence[Tensor], known: State | None = None) -> list[State]:
        """Several sequences prepared side by side; one that is `known` already is not prepared again."""
        found = [known if known and known.holds(x) else State(x, self) for x in sequences]
        factorise([matrix for state in found for matrix in state.decomposed.matrices])
        return found

    def __call__(self, before: State, after: State) -> dict[str, float]:
        """All metrics of one update of one sequence."""
        parts = metrics.rid(before.decomposed, after.decomposed, rank=self.rank)
        return {
            "rid": float(parts.total),
            "delta_s": float(parts.delta_s),
            "delta_d_column": float(parts.delta_d_column),
            "delta_d_row": float(parts.delta_d_row),
            "mixig": after.tme - before.tme,
            "tme": after.tme,
            "erank": float(metrics.effective_rank(after.decomposed)),
            "erank_before": float(metrics.effective_rank(before.decomposed)),
            "norm_ratio": float((after.x - before.x).norm()) / before.norm,
        }


def check_measures(rank: str | int, unit: str, causal: bool) -> Measures:
    """The measures that are asked for; a rule or unit that does not exist is an error."""
    if not isinstance(causal, bool):
        raise ValueError(f"causal must be true or false, got {causal!r}")
    measures = Measures(rank, unit, causal)
    [trial] = measures.states([torch.ones(1, 1, dtype=torch.float64)])
    measures(trial, trial)  # rank and unit are checked where they are used
    return measures
