"""Names and numbers as people give them: what a mistyped one was meant to be, which numbers there are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral

MOST = 10**9  # of anything that is counted
LAST_SEED = 2**32 - 1  # what every generator of random numbers takes, ours, numpy's and torch's


def nearest(given: object, valid: Iterable[str]) -> str:
    """The end of an error message: `; did you mean 'x'?`, or nothing, also where the name is a valid one.

    >>> nearest("gausian", ["gaussian", "uniform"])
    "; did you mean 'gaussian'?"
    """
    valid = list(valid)
    found = [] if str(given) in valid else get_close_matches(str(given), valid, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def slug(text: str) -> str:
    """Small letters, digits and single underscores, as the keys of told numbers are written.

    >>> slug("mathvista (scenes)")
    'mathvista_scenes'
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def check_count(name: str, given: object) -> None:
    """Refuse a number of items, tokens or the like that is none."""
    _check_whole(name, given, 1, MOST)


def check_seed(given: object) -> None:
    """Refuse a seed that is none."""
    _check_whole("seed", given, 0, LAST_SEED)


def _check_whole(name: str, given: object, low: int, high: int) -> None:
    if not isinstance(given, Integral) or isinstance(given, bool) or int(given) < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {given!r}")
    if int(given) > high:
        raise ValueError(f"{name} must be at most {high}, got {given}")
