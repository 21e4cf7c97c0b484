"""MathVista: mathematics in pictures, answered by an option, a number or a list.

Lu et al., "MathVista", ICLR 2024. The published numbers have a judge model read the answers. Ours are read by rule, so
they are "rule-based, not judge-comparable"; pass a judge to follow the published procedure.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from typing import Any

from lostlib.benchmarks import scoring
from lostlib.benchmarks.extractors import EXTRACTORS
from lostlib.benchmarks.hub import Source
from lostlib.benchmarks.items import Item, known
from lostlib.benchmarks.prompts import DEFAULT, LETTER, Style, lines
from lostlib.benchmarks.rules import Rules
from lostlib.benchmarks.scoring import Judge, Mark

_META = ("category", "context", "grade", "language", "source")


def to_item(row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item:
    """A row with MathVista's columns: pid, query, image (path), decoded_image, answer, answer_type, metadata …

    The prompt is the stored query, as in the official code and VLMEvalKit; lmms-eval builds a short one of its own. An
    expected choice is stored as text; here it is its letter, and where a text is offered twice both letters are right.
    """
    choices = row["choices"] or []
    options = {chr(ord("A") + i): text for i, text in enumerate(choices)}
    letters = [letter for letter, text in options.items() if text == row["answer"]]
    about = row["metadata"]
    precision = row.get("precision")  # a float64 column: 1.0, 2.0 or missing
    return Item(
        uid=row["pid"],
        images=(row["decoded_image"],),
        prompt=_lmms_prompt(row, options) if style.profile == "lmms" else row["query"],
        answer=letters[0] if letters else row["answer"],
        kind="mcq" if options else "list" if row["answer_type"] == "list" else "number",
        options=options or None,
        cluster=row["image"],
        **known(row),
        meta={name: about[name] for name in ("task", *_META) if about.get(name) is not None}
        | {"question_type": row["question_type"], "answer_type": row["answer_type"]}
        | ({"skills": tuple(about["skills"])} if about.get("skills") else {})
        | ({"precision": str(int(precision))} if precision is not None and not math.isnan(precision) else {}),
        aliases=tuple(letters[1:]),
    )


def _lmms_prompt(row: Mapping[str, Any], options: Mapping[str, str]) -> str:
    """lmms-eval's `mathvista_testmini_format`: question, unit, choices, and one line that says what is wanted."""
    places = {1.0: "one", 2.0: "two"}.get(row.get("precision") or 0, "")
    wish = {
        "text": LETTER,
        "integer": "Answer the question using a single integer number.",
        "float": f"Answer the question using a single floating-point number with {places} decimal "
        f"place{'s' * (places == 'two')}.",
        "list": "Answer the question using a Python list.",
    }[row["answer_type"]]
    unit = f" (Unit: {row['unit']})" if row["unit"] else ""
    return f"{row['question']}{unit}\n{lines(options)}{wish}".strip()


# ---- by rule --------------------------------------------------------------------------------------------------------


def mark(item: Item, answer: str, extractor: str | None = None) -> Mark:
    """Read by rule: choices as everywhere, numbers and lists by our extractors; compared as numbers.

    A decimal number is rounded to the places the question asks for. A named extractor is used for choices.
    """
    if item.kind == "mcq":
        return scoring.mark(item, answer, extractor)
    parsed = EXTRACTORS[item.meta["answer_type"]](answer, None)
    return Mark(parsed, parsed is not None and _equal(item, parsed))


def _equal(item: Item, parsed: str) -> bool:
    if item.kind == "list":
        return _numbers(parsed) == _numbers(item.answer) is not None
    if item.meta["answer_type"] == "float":
        return round(float(parsed), int(item.meta.get("precision", 0))) == float(item.answer)
    return parsed == item.answer


def _numbers(text: str) -> list[float] | None:
    """The numbers of a list; None when it holds anything else."""
    try:
        return [float(one) for one in ast.literal_eval(text)]
    except (ValueError, TypeError, SyntaxError):
        return None


# ---- by a judge -----------------------------------------------------------------------------------------------------


def judged(item: Item, answer: str, judge: Judge) -> Mark:
    """The published procedure: an answer that is plainly one is taken, any other goes to the judge; then normalised.

    What the judge says about a choice counts for the nearest option text by edit distance, however far.
    """
    said = answer.strip()
    plain = said == "" or _plain(item, said)
    extraction = said if plain else judge(item, said)
    if item.kind == "mcq":
        parsed: str | None = nearest_choice(extraction, item.options or {})
        return Mark(parsed, parsed in (item.answer, *item.aliases))
    parsed = _normalised(item, extraction)
    return Mark(parsed, parsed is not None and parsed.strip() == item.answer.strip())


def _plain(item: Item, said: str) -> bool:
    if item.kind == "mcq":
        return said in (item.options or {}).values()
    read = {"integer": int, "float": float}.get(item.meta["answer_type"])
    try:
        return read is not None and read(said) is not None
    except ValueError:
        return False


def _normalised(item: Item, extraction: str) -> str | None:
    try:
        if item.meta["answer_type"] == "integer":
            return str(int(float(extraction)))
        if item.meta["answer_type"] == "float":
            return str(round(float(extraction), int(item.meta.get("precision", 0))))
    except (ValueError, OverflowError):
        return None
    return extraction


def nearest_choice(text: str, options: Mapping[str, str | None]) -> str:
    """The letter in brackets or alone, else that of the nearest option text by edit distance, the first of equals.

    >>> nearest_choice("rigth", {"A": "left", "B": "right"})
    'B'
    """
    text = text.strip()
    bracketed = re.findall(r"\(([a-zA-Z])\)", text)
    text = bracketed[0].upper() if bracketed else text
    if text in options:
        return text
    return min(options, key=lambda letter: edit_distance(text, options[letter] or ""))


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's: the least number of letters put in, taken out or changed that turns a into b.

    >>> edit_distance("kitten", "sitting")
    3
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


RULES = Rules(
    label="mathvista",
    sums="arithmetic",
    to_item=to_item,
    kinds=("mcq", "number", "list"),
    mark=mark,
    judged=judged,
    group="task",
    breakdowns=("question_type", "answer_type", "category", "context", "grade", "language", "skills", "source"),
    stratum=("question_type", "answer_type", "task"),
    tokens={"default": 1024, "lmms": 16384},
    images=("decoded_image",),
    sources={"testmini": (Source("AI4Math/MathVista", ("testmini",)),)},
    expected={
        "testmini": {"items": 1000, "question_type=multi_choice": 540, "question_type=free_form": 460,
                     "answer_type=integer": 418, "answer_type=float": 40, "answer_type=list": 2},
    },
)  # fmt: skip
