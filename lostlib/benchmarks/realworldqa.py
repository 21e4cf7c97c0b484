"""RealWorldQA (xAI 2024): spatial questions about an image; options stand in the question, a letter is the answer.

Some questions have no options but a word or a number for an answer. The data may not be redistributed in changed form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lostlib.benchmarks import scoring
from lostlib.benchmarks.extractors.own import phrase
from lostlib.benchmarks.hub import Source
from lostlib.benchmarks.items import Item, known
from lostlib.benchmarks.prompts import DEFAULT, Style, kit
from lostlib.benchmarks.rules import Rules
from lostlib.benchmarks.scoring import Mark

_OPTION = re.compile(r"^[ \t]*\(?([A-Z])[.:)][ \t]*(\S.*)$", re.MULTILINE)  # "A. left", "A: left", "A)left"
_WISH = re.compile(r"\n?(Please answer directly with [^\n]*|Answer with the letter\.)$")  # here; in the mini world


def to_item(row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item:
    """A row with RealWorldQA's columns: image, question, answer, and in some copies image_path.

    What is asked is the question as it is stored. VLMEvalKit's table has the options in columns of their own; here they
    are taken out of the question, which should give its prompt.
    """
    options = _options(row["question"])
    gold = row["answer"].strip()
    lettered = re.fullmatch("[A-D]", gold) is not None  # the wish at the question's end does not decide it
    question = row["question"]
    if style.profile == "vlmevalkit" and lettered and options:
        question = kit(_OPTION.sub("", _WISH.sub("", question)).strip(), options, style)
    elif style.profile == "lmms":
        question = question.strip()
    return Item(
        uid=str(row.get("uid", number)),
        images=(row["image"],),
        prompt=question,
        answer=gold if lettered else phrase(gold) or gold,
        kind="mcq" if lettered else "number" if re.fullmatch(r"-?\d+", phrase(gold) or "") else "open",
        options=options if lettered and options else None,
        cluster=row.get("image_path") or str(number),
        **known(row),
        meta={"n_options": str(len(options) if lettered else 0), "form": "letter" if lettered else "open"},
        aliases=() if lettered else (gold.lower(),),
    )


def _options(question: str) -> dict[str, str]:
    """The lines that begin with A, B, C … in this order."""
    found: dict[str, str] = {}
    for letter, text in _OPTION.findall(question):
        if letter == chr(ord("A") + len(found)):
            found[letter] = text.strip()
    return found


def mark(item: Item, answer: str, extractor: str | None = None) -> Mark:
    """As usual; lmms-eval reads letters A to D whatever the options are, and open answers must be equal."""
    if extractor != "lmms_mcq":
        return scoring.mark(item, answer, extractor)
    if item.kind == "mcq":
        parsed = scoring.EXTRACTORS["lmms_mcq"](answer, dict.fromkeys("ABCD"))
        return Mark(parsed, parsed == item.answer)
    said = answer.lower().strip().rstrip(".")
    return Mark(said or None, said in item.aliases)


RULES = Rules(
    label="realworldqa",
    task="vision-centric",
    to_item=to_item,
    kinds=("mcq", "number", "open"),
    mark=mark,
    group="n_options",
    breakdowns=("form",),
    stratum=("n_options", "form"),
    tokens={"default": 128, "lmms": 16},
    images=("image",),
    sources={
        "test": tuple(map(Source, ("xai-org/RealworldQA", "lmms-lab/RealWorldQA", "lmms-lab-encoder/RealWorldQA")))
    },
    expected={"test": {"items": 765}},
)
