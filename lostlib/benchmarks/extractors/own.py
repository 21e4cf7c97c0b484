"""Our own extractors, one per kind of answer.

An answer that is announced ("the answer is", "Answer:", "\\boxed{}") or leads the response ends the reading there. What
is not announced is read from everything, if it can be read in one way only. They never guess: what cannot be known is
None, counted as unparsed and as wrong. All are linear in the length of the answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal

Options = Mapping[str, str | None] | None
Extractor = Callable[[str, Options], str | None]

_FINAL = re.compile(
    r"\\boxed\s{0,9}\{(?P<boxed>(?:[^{}]|\{[^{}]{0,99}\}){0,999})\}"
    r"|final answer(?!\W{0,9}\bis\b|\s{0,9}:)"
    r"|answer(?: to [^.:\n]{1,99}?)?\**\s{0,9}(?:is\b|:)"
    r"|final (?:value|result|count|number|total)\**\s{0,9}(?:is\b|:)",
    re.IGNORECASE,
)
_NEXT = re.compile(r"^\W{0,9}(?:question|q\d{0,3}|user|human)\W{0,3}:", re.IGNORECASE | re.MULTILINE)
_ASKED_AGAIN = re.compile(rf"{_NEXT.pattern}|^\W{{0,9}}(?:choices|options)\W{{0,3}}:", re.IGNORECASE | re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w^])(?<!\^\{)(?<!\w\.)-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?")
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
WORDS = {word: str(i) for i, word in enumerate(_NAMES)}


def final(answer: str) -> str:
    """The content of the last "\\boxed{}" or what follows the last "answer is", "answer:" or "final answer".

    Everything, where nothing is announced or nothing follows. What comes after a new question does not count.

    >>> final("3 + 4 = 7. The final answer is 7."), final("So \\\\boxed{7} of 9.")
    (' 7.', '7')
    """
    answer = _before_another_question(answer)
    return next((said for said in _announced(answer) if re.search(r"\w", said)), answer)


def _announced(answer: str) -> Iterator[str]:
    """What is announced, the last time only: the rest of the answer, or of a box its content."""
    answer = _before_another_question(answer)
    if found := list(_FINAL.finditer(answer)):
        yield found[-1]["boxed"] if found[-1]["boxed"] is not None else answer[found[-1].end() :]


def _before_another_question(answer: str) -> str:
    """Some models go on and ask themselves the next question; what they say after that is no answer to the first."""
    first = _FINAL.search(answer)
    start = first.end() if first else len(answer) - len(answer.lstrip()) + 1
    again = (_ASKED_AGAIN if first else _NEXT).search(answer, start)
    return answer[: again.start()] if again else answer


def yes_no(answer: str, options: Options = None) -> str | None:
    """The only one of yes and no that occurs as a word; None when both or neither do.

    >>> yes_no("**No**, there is not."), yes_no("yes or no")
    ('no', None)
    """
    words = set(re.findall(r"[a-z]+", final(answer).lower()))
    said = [word for word in ("yes", "no") if word in words]
    return said[0] if len(said) == 1 else None


# ---- letters --------------------------------------------------------------------------------------------------------

_OPEN, _CLOSE = r"[\s*_\"“'`$({\[<:>]{0,9}(?:\\text\{)?", r"[*_\"”'`$)}\]>]{0,9}"
_ALONE = re.compile(rf"{_OPEN}([A-Za-z]){_CLOSE}[\s.,:;!]{{0,9}}")
_FIRST = re.compile(
    rf"{_OPEN}(?:(?:option|choice|letter|alternative)\s{{1,9}}{_OPEN})?(?P<letter>[A-Za-z])(?P<mark>{_CLOSE}[.):;\]}}*]?)"
    r"(?P<rest>\s{0,9}(?P<word>[^\s.,;:!?]*))",
    re.IGNORECASE,
)
_HEAD = re.compile(r"[*_\s(\[]{0,9}([A-Za-z])[.):\]](?:[\s*_]|$)")
_GOES_ON = {"because", "since", "as", "is", "and", "or", "for", "which", "that"}
_NOT_IT = re.compile(r"\s{0,9}(?:is|are|was|were)?\s{0,9}(?:not|wrong|incorrect|false)\b", re.IGNORECASE)
_TWO = re.compile(  # A or B
    rf"\s{{0,9}}(?:,?\s{{0,9}}(?:and|or)\b|[/&,])\s{{0,9}}(?:option\s{{1,9}})?{_OPEN}[A-Z]\b(?![’'])"
)
# words after which a single capital is an option; after any other word it is part of a name: sample A, vitamin C
_BEFORE = (
    "option|options|choice|choices|answer|letter|alternative|is|be|are|was|it's|choose|chose|choosing|select|selected|pick"
    "|picked|so|therefore|thus|hence|or|and|not|either|neither|both|to|with|as|think|believe|say|guess|would|rather|than"
    "|over|only|probably|likely|definitely|then|but|correct|right"
)
_STRAY = re.compile(
    rf"\((?P<round>[A-Za-z])\)(?![A-Za-z0-9°_^])"
    rf"|(?:(?<=^)|(?<=[\n.!?:;,*\"“\[{{—–])|(?<=[.!?:;,*&\"“—–\n] )|\b(?:{_BEFORE})[\s:*\"“(\[]{{1,4}})"
    r"(?P<bare>[A-Z])(?![A-Za-z0-9°_^/'’=+&%²³]|-\w|\.[A-Za-z]| [A-Z]\b(?!\.))",
    re.IGNORECASE,
)
_NAMED_WITH_LETTERS = re.compile(
    r"\\[A-Za-z]+(?:\s[A-Z]\b)+|(?:\b[A-Z]\.\s?){2,}|\b[A-Z](?:\s[A-Z]\b)+|[∠△▲∆Δ]\s?[A-Z]+|\$[^$\n]{1,99}\$|\d\s?°?\s?[A-Z]\b"
)
_ARTICLE = re.compile(r"\b[AaI] (?=(?P<word>[A-Za-z][\w’'-]*))")


def letter(answer: str, options: Options = None) -> str | None:
    """The letter of the option that is meant: announced, or leading the answer, or the only one named, or its text.

    Letters are A to D without options; small letters are as good as capitals where they stand for an option. Letters
    inside units, symbols, formulas and names are none: 22°C, △ D E F, C4H6O4, sample A, "A Sunday".

    >>> letter("(B) right", {"A": "left", "B": "right"}), letter("It is on the left.", {"A": "left", "B": "right"})
    ('B', 'A')
    >>> letter("The answer is (B) 40°. So the angle at D is 40°.", {"A": "30°", "B": "40°", "C": "50°", "D": "60°"})
    'B'
    """
    offered = dict(options) if options else dict.fromkeys("ABCD")
    answer = re.sub(r"\b([A-Z])(?:\s\1\b)+", r"\1", answer)  # a degenerate "A A A"
    for said in _announced(answer):
        if (found := _first(said, offered)) or (alone := _ALONE.fullmatch(said)):
            return found or (alone[1].upper() if alone and alone[1].upper() in offered else None)
    text = final(answer)
    if alone := _ALONE.fullmatch(text):
        return alone[1].upper() if alone[1].upper() in offered else None
    if exact := _whole(text, offered):
        return exact
    if not _lists(text, offered) and (found := _first(text, offered)):
        return found
    plain = _NAMED_WITH_LETTERS.sub(" ", _without(text, offered))
    strays = set(named(plain, list(offered)))
    if strays:
        return strays.pop() if len(strays) == 1 else None
    return by_text(text, offered)


def _first(text: str, offered: Mapping[str, str | None]) -> str | None:
    """The letter that a text begins with, unless it is a word or part of one."""
    found = _FIRST.match(text)
    if not found or (letter := found["letter"].upper()) not in offered:
        return None
    after, own = text[found.end("letter") :], offered[letter]
    if own and text[found.end("mark") :].lstrip(" *").lower().startswith(own.lower()):
        return letter
    if re.match(r"[A-Za-z0-9°_^/'’=+&%²³-]|\.[A-Za-z]\b|\.\s[A-Z]\.|[ \t][A-Z]\b", after):
        return None  # part of a word, a unit, a formula or initials
    if _NOT_IT.match(text, found.end("mark")) or _TWO.match(text, found.end("mark")):
        return None
    if found["mark"] or re.match(r"[ \t]*(?:\n|$)|,? (?:because|since)\b", after):
        return letter
    return letter if found["letter"].isupper() and found["word"].lower() in _GOES_ON else None


def _lists(text: str, offered: Mapping[str, str | None]) -> bool:
    """Do several lines begin with different letters: the options told again, which chooses none of them?"""
    heads = (_HEAD.match(line) for line in text.splitlines())
    return len({head[1].upper() for head in heads if head} & set(offered)) > 1


def _whole(text: str, offered: Mapping[str, str | None]) -> str | None:
    """The option whose text is all that is said; a single letter is a letter."""
    said = text.strip(" \t\n.,:;!?*_\"'`“”()[]").lower()
    same = [key for key, value in offered.items() if value and value.strip(" \t\n.,:;!?*_\"'`“”()[]").lower() == said]
    return same[0] if same and len(said) > 1 else None


def _without(text: str, offered: Mapping[str, str | None]) -> str:
    """A text without the options' own texts, the longest first."""
    values = sorted({value for value in offered.values() if value and len(value) > 1}, key=len, reverse=True)
    pattern = "|".join(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])" for value in values)
    return re.sub(pattern, " ", text, flags=re.IGNORECASE) if values else text


def named(text: str, letters: Sequence[str]) -> list[str]:
    """The options' letters that stand for an option, in order: capitals, and small ones in brackets.

    >>> named("(b), not A: a Dog, sample C", "ABCD")
    ['B', 'A']
    """
    words = _ARTICLE.sub(lambda m: m[0] if m["word"].lower() in _GOES_ON else " ", text.strip())
    found = [(m["round"] or m["bare"]) for m in _STRAY.finditer(words) if m["round"] or m["bare"].isupper()]
    return [one.upper() for one in found if one.upper() in letters]


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


# ---- numbers --------------------------------------------------------------------------------------------------------

_REFUSAL = re.compile(
    r"\b(?:can(?:no|')t|cannot|can not|unable|impossible|insufficient|unclear|unknown|not enough|no information"
    r"|(?:do|does|did|is|are)(?:n't| not) (?:\w+ )?(?:say|state|show|give|provide|mention|specify|tell|contain|include"
    r"|possible|provided|given|stated|shown|visible|clear|known|mentioned|specified|sure|able|enough|have))\b",
    re.IGNORECASE,
)
_PART = re.compile(  # numbers that are parts of something else: times, dates, exponents
    r"\b\d{1,2}:\d\d(?::\d\d)?\b|\b\d{1,4}[/-]\d{1,2}[/-]\d{1,4}\b|\^\s?\{?-?\d+\}?|[×x*]\s?10\s?\^\s?\{?-?\d+\}?"
)
_FRACTION = re.compile(rf"({_NUMBER.pattern})\s{{0,3}}/\s{{0,3}}({_NUMBER.pattern})(?![\d/])")
_ANY = re.compile(rf"{_FRACTION.pattern}|{_NUMBER.pattern}")
_STATES = re.compile(
    r"(?:=|\b(?:is|are|was|were|has|have|had|equals?|be|shows?|gives?|makes?|left|remains?|total))(?![\w'])",
    re.IGNORECASE,
)
_RESULT = re.compile(rf"\b(?:makes?|equals?|gives?|leaves?|comes? to|adds? up to)\s{{1,9}}({_ANY.pattern})")
_FILLER = (
    r"[\s:*_\"“'`$(\[{≈~=]{0,12}(?:(?:about|approximately|exactly|equal to|only|therefore|text\{)[\s*$]{0,4}){0,2}"
)


def _plain(text: str) -> str:
    """Without thousands commas, with one kind of minus, fractions on a line, words as digits ("one" if alone)."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text).replace("−", "-").replace("\\$", "").replace("$", "")
    text = re.sub(r"\\[dt]?frac\{([^{}]{0,99})\}\{([^{}]{0,99})\}", r"\1/\2", text)
    text = re.sub(
        r"[A-Za-z]+", lambda word: WORDS.get(w, word[0]) if (w := word[0].lower()) != "one" else word[0], text
    )
    return text if re.search(r"\d", text) else re.sub(r"\bone\b", "1", text, flags=re.IGNORECASE)


def _stated(answer: str, fractions: bool) -> Decimal | None:
    """The number that is stated as the answer; None where there is none, or more than one and none of them is stated.

    Announced, or in bold, or after the last "=" or "makes", or leading the answer, or the only number; else the first
    after the verb of the first sentence that has one.
    """
    for said in map(_plain, _announced(answer)):
        if first := re.match(rf"{_FILLER}({_ANY.pattern})", said):
            return None if _PART.match(said, first.start(1)) else _value(first[1], fractions)
    text = _plain(final(answer))
    if _REFUSAL.search(text):
        return None
    text = _PART.sub(" ", text)
    if len(bold := set(re.findall(rf"\*\*\s?({_NUMBER.pattern})[^*\n]{{0,20}}\*\*", text))) == 1:
        return _value(bold.pop(), fractions)
    if results := re.findall(rf"=\s?({_ANY.pattern})", text):
        return _value(results[-1][0], fractions)
    if results := _RESULT.findall(text):
        return _value(results[-1][0], fractions)
    found = list(_ANY.finditer(text))
    values = [_value(one[0], fractions) for one in found]
    if len(set(values)) <= 1:
        return values[0] if values else None
    if not re.search(r"\w", text[: found[0].start()]) and not re.match(r"\s?[-–+×*/]", text[found[0].end() :]):
        return values[0]
    return _of_the_main_clause(text, fractions)


def _of_the_main_clause(text: str, fractions: bool) -> Decimal | None:
    """The first number after the verb of the first sentence that has a number."""
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", text):
        if _ANY.search(sentence):
            verb = _STATES.search(sentence)
            number = _ANY.search(sentence, verb.end()) if verb else None
            return _value(number[0], fractions) if number else None
    return None


def _value(text: str, fractions: bool) -> Decimal | None:
    """A number, or of a fraction its value where fractions count; None if it is not finite or absurdly long."""
    if len(text) > 60:
        return None
    top, slash, bottom = text.replace(" ", "").partition("/")
    if slash and not fractions:
        return None
    value = Decimal(top) / Decimal(bottom) if slash and Decimal(bottom) else None if slash else Decimal(top)
    return value if value is not None and value.is_finite() and abs(value.adjusted()) < 60 else None


def integer(answer: str, options: Options = None) -> str | None:
    """The number that is stated as the answer, when it is whole as written; thousands commas, %, $, units do not count.

    Numbers of a refusal, of a fraction, of a time and exponents are not read.

    >>> integer("3 + 4 = 7"), integer("about 1,200 cm^2."), integer("2.5"), integer("There are 3 bars below 40.")
    ('7', '1200', None, '3')
    """
    value = _stated(answer, fractions=False)
    return str(int(value)) if value is not None and value == value.to_integral_value() else None


def decimal(answer: str, options: Options = None) -> str | None:
    """The number that is stated as the answer as a decimal number; a fraction a/b counts as one number.

    >>> decimal("Answer: 3/4"), decimal("It is 1.50 m."), decimal("unclear")
    ('0.75', '1.5', None)
    """
    value = _stated(answer, fractions=True)
    return None if value is None else str(float(value))


def numbers(answer: str, options: Options = None) -> str | None:
    """A list of numbers as Python writes it: the last "[…]", else the last run of numbers joined by and, to or a dash.

    >>> numbers("The list is [1, 2.50]."), numbers("from 2014 to 2016"), numbers("3, 4")
    ('[1, 2.5]', '[2014, 2016]', None)
    """
    text = final(answer)
    one = r"-?(?:\d+(?:\.\d+)?|\.\d+)"
    if lists := re.findall(rf"\[\s{{0,9}}{one}(?:\s{{0,9}},\s{{0,9}}{one}){{0,999}}\s{{0,9}}\]", text):
        return _listed(lists[-1])
    joints = r"(?:\s{0,9},\s{0,9}(?:and\s{1,9})?|\s{1,9}and\s{1,9}|\s{1,9}to\s{1,9}|\s{0,9}[-–]\s{0,9})"
    runs = re.findall(rf"{_NUMBER.pattern}(?:{joints}{one}(?!\w)){{1,999}}", text)
    runs = [run for run in runs if re.search(r"and|to|\d\s*[-–]", run)]
    return _listed(re.sub(r"(?<=\d)\s*[-–]", ",", runs[-1])) if runs else None


def _listed(text: str) -> str | None:
    parts = [float(part) for part in re.findall(r"-?(?:\d+(?:\.\d+)?|\.\d+)", text)]
    if not all(map(math.isfinite, parts)):
        return None
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
