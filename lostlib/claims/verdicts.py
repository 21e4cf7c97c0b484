"""What a claim comes to: estimates beside what was published, and a status.

A status is one of

- *holds*: every condition of the claim is certain;
- *opposite*: the reverse of the claimed direction is certain;
- *fails*: a condition is certainly violated, without being the reverse;
- *undecided*: the data cannot tell;
- *not measurable*: the rows cannot be asked, and the reason says why; a baseline that is not above chance is the common
  one, and such a cell is never called unaffected;
- *not run*: there are no rows.

Certain is what the 95 % interval says, and an interval covers everything that was drawn at random for the figure:
pictures, and where there were some, seeds and matrices.

Beside it stand two judgements that do not depend on it: `sign`, has the measured value the published sign, and `size`,
has it the published size?
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lostlib.claims.catalog import CLAIMS
from lostlib.stats import Estimate

HOLDS, OPPOSITE, FAILS, UNDECIDED, UNMEASURABLE, NOT_RUN = STATUSES = (
    "holds", "opposite", "fails", "undecided", "not measurable", "not run",
)  # fmt: skip
CERTAIN = STATUSES[:3]  # the data tell
TOLD = STATUSES[:4]  # something was measured
COMBINED = (
    "Of several benchmarks those that can tell decide: the claim holds where it holds on all of them, is opposite "
    "where it is opposite on all, and fails where they differ. Where none can tell it is undecided."
)


@dataclass(frozen=True)
class Part:
    """One estimate that a verdict rests on."""

    name: str  #: what it is
    value: Estimate  #: with its 95 % interval
    published: float | None = None  #: the same quantity in the paper, in the same unit; None where no figure is known
    #: 1 or -1, the side of `null` on which the claim has it, where no figure is known; 0 if it only stands beside
    expected: int = 1
    null: float = 0.0  #: the value that says nothing, 0 for a difference, 1 for a ratio, one half for a majority
    #: two-sided, of the claim's own null, that it equals `null` or the margin of a claim about size; nan where the
    #: verdict does not rest on it, and for an equivalence
    p: float = math.nan
    spec: str = "+.3f"  #: how it is printed

    @property
    def sign(self) -> str:
        """Is it on the same side of `null` as published? "yes" or "no" by the interval; "unclear" if that holds `null`.

        An order is the sign of a difference: that the FFN's RID is above attention's, and so on.
        """
        wanted = self.expected if self.published is None else np.sign(self.published - self.null)
        if not wanted:
            return "no figure"
        side = 1 if self.value.low > self.null else -1 if self.value.high < self.null else 0
        return "unclear" if side == 0 else "yes" if side == wanted else "no"

    @property
    def size(self) -> str:
        """ "yes" when the published value lies in the measured 95 % interval, else "no"; "no figure" without one.

        The published values have no intervals, so ours alone has to hold them: a narrow interval says "no" to a value
        that the paper itself may not have meant to the last digit.
        """
        if self.published is None:
            return "no figure"
        if math.isnan(self.value.low):
            return "unclear"
        return "yes" if self.value.low <= self.published <= self.value.high else "no"

    @property
    def side(self) -> str:
        """Where the interval lies, in words."""
        side = "above" if self.value.low > self.null else "below" if self.value.high < self.null else "not clear of"
        return f"{self.name}: {side} {self.null:g}"

    @property
    def interval(self) -> str:
        """The value with its interval, as it is printed."""
        if math.isnan(self.value.low) and not math.isnan(self.value.value):
            return f"{self.value.value:{self.spec}} (one draw: no interval)"
        return format(self.value, self.spec)

    def __str__(self) -> str:
        return f"{self.name} {self.interval}"


@dataclass(frozen=True)
class Verdict:
    """A claim's status for one model on one benchmark, or over several (`benchmark` joins them with a plus)."""

    claim: str
    status: str
    reason: str
    parts: tuple[Part, ...] = ()
    model: str = ""
    benchmark: str = ""

    def of(self, model: str, benchmark: str = "") -> Verdict:
        """The same, of this model."""
        return replace(self, model=model, benchmark=benchmark)

    @property
    def published(self) -> str:
        """What the paper prints."""
        return CLAIMS[self.claim].published

    @property
    def measured(self) -> str:
        """The estimates in one line, or why there are none."""
        return "; ".join(map(str, self.parts)) or self.reason

    @property
    def p(self) -> float:
        """Of the weakest part, as all must differ from what says nothing (intersection-union test); nan without any."""
        found = [part.p for part in self.parts if not math.isnan(part.p)]
        return max(found, default=math.nan)

    @property
    def sign(self) -> str:
        """Have all parts the published sign? "no" when one certainly has not."""
        return _together(part.sign for part in self.parts)

    @property
    def size(self) -> str:
        """Have all parts with a published figure its size?"""
        return _together(part.size for part in self.parts)

    @property
    def box(self) -> tuple[str, str, str, str, str, str]:
        """What `report.verdict` takes; a verdict of nowhere in particular has no box."""
        if not (self.model and self.benchmark):
            raise ValueError(f"a box says on which model and benchmarks {self.claim} rests: give it by `of`")
        claim, on = CLAIMS[self.claim], ", ".join(self.benchmark.split("+"))
        rests = f"{self.model} on {on}"
        return f"{self.claim}: {claim.text}", self.published, self.measured, self.status, claim.rule, rests


def _together(answers: Iterable[str]) -> str:
    """ "no" before "unclear" before "yes" before "no figure"; "–" of nothing."""
    found = set(answers)
    return next((answer for answer in ("no", "unclear", "yes", "no figure") if answer in found), "–")


def together(conditions: Iterable[str]) -> str:
    """One status of a claim's conditions, which must all hold.

    >>> together(["holds", "holds"]), together(["holds", "undecided"]), together(["opposite", "opposite"])
    ('holds', 'undecided', 'opposite')
    >>> together(["holds", "opposite"]), together(["undecided", "fails"])
    ('fails', 'fails')
    """
    found = set(conditions)
    if len(found) == 1:
        return found.pop()
    return FAILS if found & {OPPOSITE, FAILS} else UNDECIDED


def combined(cells: Sequence[Verdict]) -> Verdict:
    """One model's verdict from its benchmarks, as `COMBINED` says.

    Cells that are undecided, not measurable or not run have no say, and are named in the reason, unless it is the same
    for all.
    """
    if len(cells) == 1:
        return cells[0]
    told = [cell for cell in cells if cell.status in TOLD]
    reasons = dict.fromkeys(cell.reason for cell in cells if cell not in told)
    silent = [f"{', '.join(c.benchmark for c in cells if c not in told and c.reason == r)}: {r}" for r in reasons]
    if not told:
        silent = list(reasons) if len(reasons) == 1 else silent
        rest = [cell for cell in cells if cell.status == UNMEASURABLE] or cells
        return replace(rest[0], reason="; ".join(silent), benchmark="+".join(cell.benchmark for cell in rest))
    found = {status: [cell.benchmark for cell in told if cell.status == status] for status in TOLD}
    words = [f"{status} on {', '.join(names)}" for status, names in found.items() if names]
    status = together([cell.status for cell in told if cell.status in CERTAIN] or [UNDECIDED])
    parts = tuple(part for cell in told for part in cell.parts)
    reason = "; ".join(words + silent)
    return replace(told[0], status=status, reason=reason, parts=parts, benchmark="+".join(c.benchmark for c in told))


def not_run(claim: str, model: str = "", benchmark: str = "") -> Verdict:
    """Where nothing was measured."""
    return Verdict(claim, NOT_RUN, "no table", (), model, benchmark)
