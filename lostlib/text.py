"""Names: what a mistyped one was meant to be, and a name as part of a key."""

from __future__ import annotations

import re
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


def among(given: object, valid: Iterable[str]) -> str:
    """The names there are, and the nearest one.

    >>> among("gausian", ["gaussian", "uniform"])
    "gaussian, uniform; did you mean 'gaussian'?"
    """
    valid = list(valid)
    return ", ".join(valid) + nearest(given, valid)


def slug(text: str) -> str:
    """Small letters, digits and single underscores, as the keys of told numbers are written.

    >>> slug("mathvista (scenes)")
    'mathvista_scenes'
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
