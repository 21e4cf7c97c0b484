"""From what a model said to the answer it gave; None where nothing can be inferred.

Every extractor is called `(answer, options)`, options an ordered mapping letter -> text, or None. These are our own,
one per answer kind: they never guess, and what they cannot read is counted as unparsed and as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Options = Mapping[str, str | None] | None
_FINAL = re.compile(r"(?:answer\s*(?:is|:)|\\boxed)", re.IGNORECASE)


def _final(answer: str) -> str:
    """What follows the last "answer is", "answer:" or "\\boxed", else everything."""
    found = list(_FINAL.finditer(answer))
    return answer[found[-1].end() :] if found else answer


def yes_no(answer: str, options: Options = None) -> str | None:
    """The only one of yes and no that occurs as a word; None when both or neither do.

    >>> yes_no("**No**, there is not."), yes_no("yes or no")
    ('no', None)
    """
    words = set(re.findall(r"[a-z]+", _final(answer).lower()))
    said = [word for word in ("yes", "no") if word in words]
    return said[0] if len(said) == 1 else None


def letter(answer: str, options: Options = None) -> str | None:
    """The option's letter, when exactly one is named; else the only option whose text occurs.

    >>> letter("(B) right", {"A": "left", "B": "right"}), letter("It is on the left.", {"A": "left", "B": "right"})
    ('B', 'A')
    """
    letters = list(options or "ABCD")
    text = _final(answer)
    named = {found for found in re.findall(r"(?<![A-Za-z])([A-Z])(?![A-Za-z'])", text) if found in letters}
    if "A" in named and re.search(r"\bA (?!or\b|and\b)[a-z]", text):  # the article, not the option
        named.discard("A")
    if len(named) == 1:
        return named.pop()
    said = [
        key
        for key, value in (options or {}).items()
        if value and re.search(rf"\b{re.escape(value)}\b", text, re.IGNORECASE)
    ]
    return said[0] if len(said) == 1 and not named else None


def integer(answer: str, options: Options = None) -> str | None:
    """The last number of the final answer, when it is whole: thousands commas, % and $ are ignored.

    >>> integer("3 + 4 = 7"), integer("about 1,200."), integer("2.5")
    ('7', '1200', None)
    """
    found = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3}\b)", "", _final(answer)))
    if not found or float(found[-1]) != int(float(found[-1])):
        return None
    return str(int(float(found[-1])))


Extractor = Callable[[str, Options], str | None]
EXTRACTORS: dict[str, Extractor] = {"yes_no": yes_no, "letter": letter, "integer": integer}
