"""Every word of the mini world."""

from __future__ import annotations

from lostlib.miniworld.charts import TALLEST
from lostlib.miniworld.questions import NUMBERS
from lostlib.miniworld.scenes import COLORS, GRID, SHAPES


def vocabulary(kinds: str = "all") -> list[str]:
    """Every word of the first kinds of questions or of all kinds, in a fixed order."""
    words = (
        "USER ASSISTANT : ? . , Is is there a an in the image What color shape size object objects Where where row "
        "column How many are plus minus to of left right above below relative Answer with letter A B C D yes no "
        "Describe small large"
    )
    later = (  # ids never change: what came later stands at the end
        "E F on or Which these highest lowest closer camera next than higher lower height heights bar bars mean and "
        "much from changed place nothing same number more show shows together do question option ' s given choices "
        "directly using single word phrase high as unknown [ ]"
    )
    plurals = [f"{s}es" if s == "cross" else f"{s}s" for s in SHAPES]
    numbers = [str(n) for n in range(max(2 * NUMBERS - 1, GRID))]
    halves = [str(n / 2) for n in range(2, 2 * TALLEST + 1)]
    first = [*words.split(), *COLORS, *SHAPES, *plurals, *numbers]
    return list(dict.fromkeys(first if kinds == "first" else [*first, *later.split(), *halves]))
