"""Prompt profiles: how a benchmark's questions are put to a model.

- `default`: ours, the same for every model;
- `lmms`: as lmms-eval asks (its chat classes, default prompts);
- `vlmevalkit`: as VLMEvalKit asks, which has prompts of its own for LLaVA's multiple-choice questions.

One word changes scores by points, so a profile is part of every result. Where images stand within a question and a
checkpoint's template cannot show them there, the text says "image 1" (see `lostlib.models.template`); lmms-eval leaves
a gap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from lostlib.text import check

PROFILES = ("default", "lmms", "vlmevalkit")
LLAVA = ("llava", "llava_next")
FAMILIES = (*LLAVA, "qwen2_5_vl")
SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."


class Style(NamedTuple):
    """A profile, and the model family where the profile has different prompts for different families."""

    profile: str = "default"
    family: str | None = None

    @property
    def kit_llava(self) -> bool:
        """Does VLMEvalKit use LLaVA's own prompts here?"""
        return self.profile == "vlmevalkit" and self.family in LLAVA


DEFAULT = Style()


def style(profile: str, family: str | None) -> Style:
    """Checked: a profile or family we do not have is an error that names the nearest one."""
    check("prompt profile", profile, PROFILES)
    if family is not None:
        check("model family", family, FAMILIES)
    return Style(profile, family)


def lines(options: Mapping[str, str]) -> str:
    r"""The options, one a line: "A. left\nB. right\n"."""
    return "".join(f"{letter}. {text}\n" for letter, text in options.items())


SELECT = "Please select the correct answer from the options above. \n"  # with a blank before the newline


def select(question: str, options: Mapping[str, str], last: str = SELECT) -> str:
    """Question, options and a last line, as both harnesses ask; without options the question alone.

    >>> print(select("Where?", {"A": "left", "B": "right"}, "Say A or B."))
    Question: Where?
    Options:
    A. left
    B. right
    Say A or B.
    """
    return f"Question: {question}\n" + (f"Options:\n{lines(options)}{last}" if options else "")


def direct(question: str, options: Mapping[str, str]) -> str:
    """LLaVA's form: the question, the options, and the wish for a letter alone.

    >>> print(direct("Where?", {"A": "left", "B": "right"}))
    Where?
    A. left
    B. right
    Answer with the option's letter from the given choices directly.
    """
    return f"{question}\n{lines(options)}{LETTER}"


def kit(question: str, options: Mapping[str, str], style: Style) -> str:
    """VLMEvalKit's prompt for a multiple-choice data set; LLaVA is asked in Chinese when the text is Chinese."""
    if not style.kit_llava:
        return select(question, options)
    chinese = re.search(r"[\u4e00-\u9fff]", question + "".join(options.values()))
    if not options:
        return f"{question}\n" + ("请直接回答问题。" if chinese else "Answer the question directly.")
    return f"{question}\n{lines(options)}请直接回答选项字母。" if chinese else direct(question, options)
