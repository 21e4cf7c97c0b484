"""Our own extractors, one per kind of answer.

They look at the final answer where one is announced ("the answer is", "Answer:", "final answer", "\\boxed{}"), and at
everything else only when none is. They never guess: what they cannot read is None, counted as unparsed and as wrong.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence

Options = Mapping[str, str | None] | None
Extractor = Callable[[str, Options], str | None]

_FINAL = re.compile(
    r"\\boxed\s*\{(?P<boxed>(?:[^{}]|\{[^{}]*\})*)\}|final answer(?!\W*\bis\b|\s*:)|answer\**\s*(?:is\b|:)",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\b[AI](?= (?!(?:or|and|is|because|since|as)\b)[a-z])")  # the words, not the options
_NUMBER = re.compile(r"(?<![A-Za-z\d^])(?<!\^\{)-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?")
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
WORDS = {word: str(i) for i, word in enumerate(_NAMES)}


def final(answer: str) -> str:
    """The content of the last "\\boxed{}" or what follows the last "answer is", "answer:" or "final answer".

    Everything, where nothing is announced or nothing follows.

    >>> final("3 + 4 = 7. The final answer is 7."), final("So \\\\boxed{7} of 9.")
    (' 7.', '7')
    """
    found = list(_FINAL.finditer(answer))
    if not found:
        return answer
    said = found[-1]["boxed"] if found[-1]["boxed"] is not None else answer[found[-1].end() :]
    return said if re.search(r"\w", said) else answer


def yes_no(answer: str, options: Options = None) -> str | None:
    """The only one of yes and no that occurs as a word; None when both or neither do.

    >>> yes_no("**No**, there is not."), yes_no("yes or no")
    ('no', None)
    """
    words = set(re.findall(r"[a-z]+", final(answer).lower()))
    said = [word for word in ("yes", "no") if word in words]
    return said[0] if len(said) == 1 else None


def letter(answer: str, options: Options = None) -> str | None:
    """The option's letter, when exactly one is named; else the only option whose text occurs.

    Letters are A to D without options. A capital A or I that is a word of the sentence names no option; a small letter
    names one only when it stands alone.

    >>> letter("(B) right", {"A": "left", "B": "right"}), letter("It is on the left.", {"A": "left", "B": "right"})
    ('B', 'A')
    """
    letters = list(options or "ABCD")
    text = final(answer)
    if alone := re.fullmatch(r"[\W_]*([A-Za-z])[\W_]*", text):
        return alone[1].upper() if alone[1].upper() in letters else None
    if found := set(named(text, letters)):
        return found.pop() if len(found) == 1 else None
    return by_text(text, options or {})


def named(text: str, letters: Sequence[str]) -> list[str]:
    """The options' letters that stand alone in a text, in order: capitals, and small ones in brackets.

    >>> named("(b), not A: a Dog", "ABCD")
    ['B', 'A']
    """
    found = re.findall(r"\(([A-Za-z])\)|(?<![A-Za-z])([A-Z])(?![A-Za-z'’])", _PRONOUN.sub("", text))
    return [letter for pair in found if (letter := "".join(pair).upper()) in letters]


def by_text(text: str, options: Mapping[str, str | None]) -> str | None:
    """The letter of the option whose text occurs, where one does; of texts inside one another the longest counts.

    >>> by_text("on the far left", {"A": "left", "B": "far left", "C": "right"})
    'B'
    """
    said = {key: value.lower() for key, value in options.items() if value and _occurs(value, text)}
    texts = set(said.values())
    longest = {text for text in texts if not any(text in other for other in texts - {text})}
    return next(key for key, value in said.items() if value in longest) if len(longest) == 1 else None


def _occurs(value: str, text: str) -> bool:
    """As words or whole numbers: "2" does not occur in "12" or "2.5". Scripts without blanks need no word ends."""
    pattern = rf"(?<![A-Za-z0-9])(?<!\d\.){re.escape(value)}(?![A-Za-z0-9])(?!\.\d)"
    return re.search(pattern, text, re.IGNORECASE) is not None


def _plain(text: str) -> str:
    """Without thousands commas, with one kind of minus, and with digits for number words where there are no digits."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text).replace("−", "-")
    if re.search(r"\d", text):
        return text
    return re.sub(r"[a-z]+", lambda word: WORDS.get(word[0], word[0]), text.lower())


def integer(answer: str, options: Options = None) -> str | None:
    """The last number of the final answer, when it is whole: thousands commas, %, $ and units are ignored.

    >>> integer("3 + 4 = 7"), integer("about 1,200 cm^2."), integer("2.5")
    ('7', '1200', None)
    """
    found = _NUMBER.findall(_plain(final(answer)))
    if not found or not float(found[-1]).is_integer():
        return None
    return str(int(float(found[-1])))


def decimal(answer: str, options: Options = None) -> str | None:
    """The last number of the final answer as a decimal number; a fraction a/b counts as one number.

    >>> decimal("Answer: 3/4"), decimal("It is 1.50 m."), decimal("unclear")
    ('0.75', '1.5', None)
    """
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", _plain(final(answer)))
    found = list(re.finditer(rf"({_NUMBER.pattern})(?:\s*/\s*({_NUMBER.pattern}))?", text))
    if not found:
        return None
    top, bottom = float(found[-1][1]), float(found[-1][2] or 1)
    return str(top / bottom) if bottom else None


def numbers(answer: str, options: Options = None) -> str | None:
    """A list of numbers as Python writes it: the last "[…]", else the last run of numbers joined by and, to or a dash.

    >>> numbers("The list is [1, 2.50]."), numbers("from 2014 to 2016"), numbers("3, 4")
    ('[1, 2.5]', '[2014, 2016]', None)
    """
    text = final(answer)
    for literal in reversed(re.findall(r"\[[^\[\]]*\]", text)):
        try:
            read = ast.literal_eval(literal)
        except (ValueError, SyntaxError):
            continue
        return str(read)
    joints = r"(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+to\s+|\s*[-–]\s*)"
    runs = re.findall(rf"{_NUMBER.pattern}(?:{joints}{_NUMBER.pattern})+", text)
    runs = [run for run in runs if re.search(r"and|to|\d\s*[-–]", run)]
    if not runs:
        return None
    parts = [float(part) for part in _NUMBER.findall(runs[-1])]
    return str([int(part) if part.is_integer() else part for part in parts])


def phrase(answer: str, options: Options = None) -> str | None:
    """The first line of the final answer in small letters, without the punctuation around it, number words as digits.

    >>> phrase("The answer is: Two."), phrase("**Downhill**"), phrase("")
    ('2', 'downhill', None)
    """
    lines = [line for line in final(answer).lower().splitlines() if re.search(r"\w", line)]
    if not lines:
        return None
    text = lines[0].strip(" \t.,:;!?*_\"'`()[]")
    return WORDS.get(text, text) or None
