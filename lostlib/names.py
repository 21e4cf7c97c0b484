"""Helping people who mistyped a name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(given: object, valid: Iterable[str]) -> str:
    """The end of an error message: `; did you mean 'x'?`, or nothing, also where the name is a valid one.

    >>> nearest("gausian", ["gaussian", "uniform"])
    "; did you mean 'gaussian'?"
    """
    valid = list(valid)
    found = [] if str(given) in valid else get_close_matches(str(given), valid, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
