"""How updates of the stream are measured: a rank rule for RID, a unit and causality for TME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lostlib import metrics


class Start(NamedTuple):
    """A sequence before an update, with what all its updates are compared with."""

    x: Tensor
    decomposed: metrics.Decomposition
    tme: float


@dataclass(frozen=True)
class Measures:
    """How updates are measured: RID's rank rule, TME's unit and causality."""

    rank: str | int
    unit: str
    causal: bool

    def start(self, x: Tensor) -> Start:
        """One sequence (S, H) without padding, prepared for any number of updates of it."""
        return Start(x, metrics.Decomposition(x), self.tme(x))

    def tme(self, x: Tensor) -> float:
        """In this unit and causality."""
        return float(metrics.token_mixing_entropy(x, unit=self.unit, causal=self.causal))

    def __call__(self, start: Start, x_new: Tensor) -> dict[str, float]:
        """All metrics of one update of one sequence."""
        x, before, after, tme = start.x, start.decomposed, metrics.Decomposition(x_new), self.tme(x_new)
        parts = metrics.rid(before, after, rank=self.rank)
        return {
            "rid": float(parts.total),
            "delta_s": float(parts.delta_s),
            "delta_d_column": float(parts.delta_d_column),
            "delta_d_row": float(parts.delta_d_row),
            "mixig": tme - start.tme,
            "tme": tme,
            "erank": float(metrics.effective_rank(after)),
            "erank_before": float(metrics.effective_rank(before)),
            "norm_ratio": float((x_new - x).norm() / x.norm()),
        }


def check_measures(rank: str | int, unit: str, causal: bool) -> Measures:
    """The measures that are asked for; a rule or unit that does not exist is an error."""
    if not isinstance(causal, bool):
        raise ValueError(f"causal must be true or false, got {causal!r}")
    measures, trial = Measures(rank, unit, causal), torch.ones(1, 1, dtype=torch.float64)
    measures(measures.start(trial), trial)  # rank and unit are checked where they are used
    return measures
