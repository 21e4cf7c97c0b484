"""Every word of the mini world."""

from __future__ import annotations

from lostlib.miniworld.questions import NUMBERS
from lostlib.miniworld.scenes import COLORS, GRID, SHAPES


def vocabulary() -> list[str]:
    """Every word the mini world can say or ask, in a fixed order."""
    words = (
        "USER ASSISTANT : ? . , Is is there a an in the image What color shape size object objects Where where row "
        "column How many are plus minus to of left right above below relative Answer with letter A B C D yes no "
        "Describe small large"
    )
    plurals = [f"{s}es" if s == "cross" else f"{s}s" for s in SHAPES]
    numbers = [str(n) for n in range(max(2 * NUMBERS - 1, GRID))]
    return list(dict.fromkeys([*words.split(), *COLORS, *SHAPES, *plurals, *numbers]))
