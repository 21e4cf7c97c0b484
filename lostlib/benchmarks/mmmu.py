"""MMMU: questions of college exams in thirty subjects, with up to nine options or none, and sometimes several images.

Yue et al., "MMMU: A Massive Multi-discipline Multimodal Understanding and Reasoning Benchmark", CVPR 2024. Scored on
`validation`; the answers of `test` are hidden.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lostlib.benchmarks import scoring
from lostlib.benchmarks.extractors import EXTRACTORS
from lostlib.benchmarks.hub import Source
from lostlib.benchmarks.items import PLACE, Item, known
from lostlib.benchmarks.prompts import (
    DEFAULT,
    LETTER,
    SHORT,
    Style,
    kit,
    lines,
)
from lostlib.benchmarks.rules import Rules
from lostlib.benchmarks.scoring import Mark

DISCIPLINES = {
    "Art & Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health & Medicine": (
        "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy",
        "Public_Health",
    ),
    "Humanities & Social Science": ("History", "Literature", "Sociology", "Psychology"),
    "Tech & Engineering": (
        "Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power",
        "Materials", "Mechanical_Engineering",
    ),
}  # fmt: skip
SUBJECTS = {subject: discipline for discipline, subjects in DISCIPLINES.items() for subject in subjects}
_TOKEN = re.compile(r"<image (\d)>")


def to_item(row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item:
    """A row with MMMU's columns: id, question, options (a Python list as text), answer, question_type, image_1 … 7.

    An answer that starts with a bracket is a list of right answers. Rows of the mini world say their discipline
    themselves.
    """
    texts = ast.literal_eval(row["options"])
    options = {chr(ord("A") + i): str(text) for i, text in enumerate(texts)}
    golds = ast.literal_eval(row["answer"]) if row["answer"].startswith("[") else [row["answer"]]
    multiple = row["question_type"] == "multiple-choice"
    prompt, shown = _prompt(row["question"], options if multiple else {}, style)
    there = {i: image for i in range(1, 8) if (image := row.get(f"image_{i}")) is not None}
    prompt, numbers = _placed(prompt, list(there), shown)
    subject = row["id"].split("_", 1)[1].rpartition("_")[0]
    return Item(
        uid=row["id"],
        images=[there[i] for i in numbers],
        prompt=prompt,
        answer=str(golds[0]),
        kind="mcq" if multiple else "open",
        options=options if multiple else None,
        cluster=row["id"],
        **known(row),
        meta={
            "discipline": row.get("discipline") or SUBJECTS.get(subject, "other"),
            "subject": subject,
            "form": "multiple-choice" if multiple else "open",
            "n_images": "one" if len(numbers) == 1 else "several" if numbers else "none",
        },
        aliases=tuple(str(gold) for gold in golds[1:]),
        numbers=tuple(numbers),
    )


def _prompt(question: str, options: Mapping[str, str], style: Style) -> tuple[str, str]:
    """The text with its "<image N>" tokens, and how they are to be shown: once, always, in_order, or first."""
    if style.profile == "vlmevalkit":
        return kit(question, options, style), "first" if style.kit_llava else "always"
    if style.profile == "lmms":
        return f"{question}\n{lines(options)}\n{LETTER}" if options else f"{question}\n\n{SHORT}", "in_order"
    return f"{question}\n{lines(options)}{LETTER}" if options else f"{question}\n{SHORT}", "once"


def _placed(prompt: str, there: Sequence[int], shown: str) -> tuple[str, list[int]]:
    """The text with places for the images that are there, and which images stand in them.

    - `once`: at the first mention; later ones become "image N" (ours);
    - `always`: at every mention, so an image may be shown twice (VLMEvalKit);
    - `in_order`: image 1 at the first mention of any image, and so on, as lmms-eval does; text between surplus mentions
      is lost, as it is there;
    - `first`: all before the text, which keeps its tokens (VLMEvalKit's LLaVA).
    """
    mentions = [int(i) for i in _TOKEN.findall(prompt) if int(i) in there]
    if shown == "first" or not mentions:
        return prompt, list(there)
    if shown == "in_order":
        ordered = sorted(set(mentions))
        *pieces, last = (piece.strip() for piece in _TOKEN.split(prompt)[::2])
        pieces += [""] * len(ordered)
        return "".join(piece + PLACE for piece in pieces[: len(ordered)]) + last, ordered
    seen: list[int] = []

    def place(token: re.Match[str]) -> str:
        i = int(token[1])
        if i not in there or (shown == "once" and i in seen):
            return f"image {i}"
        seen.append(i)
        return PLACE

    return _TOKEN.sub(place, prompt), seen


def mark(item: Item, answer: str, extractor: str | None = None) -> Mark:
    """Letters as usual; open answers by MMMU's own rule, or by that of the harness whose extractor is named.

    VLMEvalKit makes a choice of the open question, between the expected answer and "Other Answers". lmms-eval has given
    no point for any open question since June 2025.
    """
    if item.kind == "mcq":
        return scoring.mark(item, answer, extractor)
    if extractor == "vk_can_infer":
        parsed = EXTRACTORS[extractor](answer, {"A": item.answer, "B": "Other Answers"})
        target = item.answer if re.fullmatch("[A-Z]", item.answer) else "A"
        return Mark(parsed, parsed == target)
    tails, candidates = open_candidates(answer)
    right = extractor != "lmms_mmmu" and open_right(candidates, (item.answer, *item.aliases))
    return Mark(" | ".join(tails) or None, right)


# ---- open answers ---------------------------------------------------------------------------------------------------

_BEFORE = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",  # 1,234
    r"-?(?<!\d)\d+(?:\.\d+)?[eE][+-]?\d+",  # 1.2e-3; within a run of digits no other number begins
    r"-?(?:(?<!\d)\d+\.\d+|\.\d+|(?<!\d)\d+\b)(?![eE][+-]?\d+)(?![,\d])",  # the others
)


def open_candidates(answer: str) -> tuple[list[str], set[str | float]]:
    """What MMMU's rule takes for the answer: the tails of the lines, and these and the numbers in them, normalised.

    A line's tail is the shortest text after one of a few words such as "is" (in the last line also "="); without any,
    it is the whole answer.

    >>> open_candidates("The answer is 4.567 m.")[0]
    ['4.567 m']
    >>> open_candidates("The answer is 4.567 m.")[1] == {"4.567 m", 4.57}
    True
    """
    whole = answer.strip().strip(".").lower()
    *others, last = whole.split("\n")
    found = [_tail(line, _BEFORE) for line in others] + [_tail(last, (*_BEFORE, "="))]
    tails = [tail for tail in found if tail and tail not in tuple(":,.!?;'")] or [whole]
    said = tails + [number for tail in tails for pattern in _NUMBERS for number in re.findall(pattern, tail)]
    return [tail for tail in tails if tail], {form for text in said for form in normalised(text)}


def _tail(line: str, words: Sequence[str]) -> str:
    shortest = ""
    for word in words:
        if word in line:
            tail = line.rsplit(word, 1)[1].strip()
            shortest = tail if not shortest or len(tail) < len(shortest) else shortest
    return shortest


def normalised(text: str) -> list[str | float]:
    """A number rounded to two decimals, or the text in small letters; one letter must have a blank beside it.

    >>> normalised("1,234.567"), normalised("C"), normalised("Blue ")
    ([1234.57], [' c', 'c '], ['blue'])
    """
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def open_right(candidates: set[str | float], golds: Sequence[str]) -> bool:
    """Does an expected text occur in a candidate, or is a candidate an expected number?"""
    wanted = [form for gold in golds for form in normalised(gold)]
    texts = [form for form in wanted if isinstance(form, str)]
    return any(
        any(text in candidate for text in texts) if isinstance(candidate, str) else candidate in wanted
        for candidate in candidates
    )


_SPLIT = ("validation",)
RULES = Rules(
    label="mmmu",
    to_item=to_item,
    kinds=("mcq", "open"),
    mark=mark,
    group="discipline",
    breakdowns=("subject", "form", "n_images"),
    stratum=("subject",),
    tokens={"default": 1024, "lmms": 128},
    images=tuple(f"image_{i}" for i in range(1, 8)),
    sources={
        "validation": (
            Source("lmms-lab/MMMU", _SPLIT),
            Source("lmms-lab-encoder/MMMU", _SPLIT),
            Source("MMMU/MMMU", _SPLIT, tuple(SUBJECTS)),
        )
    },
    expected={
        "validation": {"items": 900, "form=multiple-choice": 847, "form=open": 53}
        | {f"subject={subject}": 30 for subject in SUBJECTS}
    },
)
