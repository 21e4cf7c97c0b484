"""From what a model said to the answer it gave: `EXTRACTORS[name](answer, options)`.

The options map letters to texts, in order, or are None; an option whose text is None is not offered. The result is a
letter of the options, "yes" or "no", a number or a list as text, or None where nothing can be inferred; `vk_can_infer`
also returns "Z", the letter its harness gives to a refusal.

`own` has our robust extractors, one per kind of answer; `compat` has those of the harnesses under their rules, so that
the same raw answers can be scored as each harness would. None of them ever guesses.

>>> EXTRACTORS["yes_no"]("Yes, there is a red circle.", None)
'yes'
>>> EXTRACTORS["letter"]("The answer is (B).", {"A": "left", "B": "right"})
'B'
>>> EXTRACTORS["letter"]("I cannot tell.", {"A": "left", "B": "right"}) is None
True
"""

from __future__ import annotations

from lostlib.benchmarks.extractors import compat, own
from lostlib.benchmarks.extractors.compat import lmms_pope_correct
from lostlib.benchmarks.extractors.own import Extractor, Options

EXTRACTORS: dict[str, Extractor] = {
    "yes_no": own.yes_no,
    "letter": own.letter,
    "integer": own.integer,
    "float": own.decimal,
    "list": own.numbers,
    "phrase": own.phrase,
    "pope_official": compat.pope_official,
    "lmms_pope": compat.lmms_pope,
    "vk_yorn": compat.vk_yorn,
    "vk_can_infer": compat.vk_can_infer,
    "lmms_mcq": compat.lmms_mcq,
    "lmms_3dsr": compat.lmms_3dsr,
    "mmmu_official": compat.mmmu_official,
    "lmms_mmmu": compat.lmms_mmmu,
    "lmms_vmc": compat.lmms_vmc,
}

# kind of item -> the extractors that read its answers, ours first
KINDS: dict[str, tuple[str, ...]] = {
    "yesno": ("yes_no", "pope_official", "lmms_pope", "vk_yorn"),
    "mcq": ("letter", "vk_can_infer", "lmms_mcq", "lmms_3dsr", "mmmu_official", "lmms_mmmu", "lmms_vmc"),
    "number": ("integer", "float"),
    "list": ("list",),
    "open": ("phrase",),
}
