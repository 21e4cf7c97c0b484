"""The extractors of the evaluation harnesses, by their rules and with their surprises.

They exist to score our raw answers as a harness would, so an odd rule here is the harness's and stays. Where a harness
draws an answer at random, ours is None. Rules read in POPE's `evaluate.py`, in VLMEvalKit at e8e78f05 (`vk_…`), in
lmms-eval at 75571cfe (`lmms_…`) and in MMMU's `eval_utils.py` (`mmmu_official`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lostlib.benchmarks.extractors.own import Options

# ---- yes or no ------------------------------------------------------------------------------------------------------


def pope_official(answer: str, options: Options = None) -> str | None:
    """POPE: "no" when No, not or no is a word before the first full stop; everything else, even silence, is "yes".

    >>> pope_official("There is not a dog"), pope_official("NO"), pope_official("")
    ('no', 'yes', 'yes')
    """
    words = answer.partition(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def lmms_pope(answer: str, options: Options = None) -> str | None:
    """lmms-eval's POPE: the answer must be yes or no and nothing else, not even a full stop; case does not matter.

    >>> lmms_pope(" Yes\\n"), lmms_pope("Yes.")
    ('yes', None)
    """
    said = answer.lower().strip()
    return said if said in ("yes", "no") else None


def lmms_pope_correct(answer: str, gold: str) -> bool:
    """Is this answer right by lmms-eval's rule for POPE, with gold yes or no?

    >>> lmms_pope_correct("NO", "no"), lmms_pope_correct("No.", "no")
    (True, False)
    """
    gold = gold.lower().strip()
    if gold not in ("yes", "no"):
        raise ValueError(f"gold {gold!r} is neither yes nor no")
    return lmms_pope(answer) == gold


_VK_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_VK_STOPS = 32  # the harness passes re.UNICODE, which is 32, where re.sub takes the count


def vk_yorn(answer: str, options: Options = None) -> str | None:
    """VLMEvalKit: yes or no when one of them is a word and the other is not; its "Unknown" is None.

    A punctuation mark vanishes if it stands beside a blank anywhere in the answer, or if the answer has a number with a
    comma; otherwise it becomes a blank. Full stops vanish (the first 32); asterisks and colons stay, so "**No**" is
    Unknown.

    >>> vk_yorn("Yes, there is."), vk_yorn("**No**"), vk_yorn("Yes, or no?")
    ('yes', None, None)
    """
    text = answer.lower()
    cleaned, with_comma = text, re.search(r"\d,\d", text)
    for mark in _VK_MARKS:
        vanishes = with_comma or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if vanishes else " ")
    words = re.sub(r"(?<!\d)\.(?!\d)", "", cleaned, count=_VK_STOPS).split()
    said = [word for word in ("yes", "no") if word in words]
    return said[0] if len(said) == 1 else None


# ---- letters --------------------------------------------------------------------------------------------------------

_VK_FAILED = "Failed to obtain answer via API"
_VK_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_VK_BLANKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_VK_SAID = re.compile(r"answer\s+is\s+\**([A-D])", re.IGNORECASE)


def vk_can_infer(answer: str, options: Options = None) -> str | None:
    """VLMEvalKit: a lone letter among the last four words, else "answer is X", else the only option text that occurs.

    A refusal is "Z". Options without text are not offered.

    >>> options = {"A": "left", "B": "right"}
    >>> vk_can_infer("I say (B)", options), vk_can_infer("right", options), vk_can_infer("A or B", options)
    ('B', 'B', None)
    >>> vk_can_infer("Cannot determine the answer", options)
    'Z'
    """
    answer = str(answer)
    texts = {key: str(text) for key, text in (options or {}).items() if text is not None}
    return _vk_option(answer, list(texts)) or _vk_text(answer, texts)


def _vk_option(answer: str, letters: Sequence[str]) -> str | None:
    if _VK_FAILED in answer:
        return None
    if any(refusal in answer for refusal in _VK_REFUSALS):
        return "Z"
    words = answer.translate(_VK_BLANKS).split()
    named = [letter for letter in letters if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    if not named and "Z" in words:
        return "Z"
    said = _VK_SAID.search(answer)
    return said[1].upper() if said and said[1].upper() in letters else None


def _vk_text(answer: str, texts: dict[str, str]) -> str | None:
    answer = answer.lower()
    if len(answer) > 2 * sum(len(text) for text in texts.values()):
        return None
    found = [letter for letter, text in texts.items() if text.lower() in answer]
    return found[0] if len(found) == 1 else None


_LMMS_PHRASES = (
    *("the correct answer is", "correct answer is", "the best answer is", "best answer is"),
    *("the correct option is", "correct option is", "the best option is", "best option is"),
    *("the answer is", "answer is", "the choice is", "choice is", "the correct choice is", "correct choice is"),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)  # fmt: skip
_LMMS_FORMS = (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2))  # pattern, priority


def lmms_mcq(answer: str, options: Options = None) -> str | None:
    """lmms-eval's shared extractor: of all readings the one with the highest priority, and of those the last.

    Start of the text 10, end 9, after an answer phrase 7, "(X)" 6, "X." 5, "X:" 4, "X)" 3, "X " 2, anywhere 0. Letters
    are A to H without options.

    >>> lmms_mcq("The answer is B"), lmms_mcq("BECAUSE", {"A": "left", "B": "right"}), lmms_mcq("right")
    ('B', 'A', None)
    """
    letters = list(options or "ABCDEFGH")
    text = f" {_stripped(answer.strip(), ',.!?;:' + chr(39) + chr(34))} "
    core, lower = text.strip(), text.lower()
    readings = []  # (priority, position, letter)
    for letter in letters:
        for form, priority in _LMMS_FORMS:
            if (place := text.rfind(form.format(letter))) >= 0:
                readings.append((priority, place, letter))
        for phrase in _LMMS_PHRASES:
            if (begin := lower.find(phrase)) >= 0 and (place := text.find(letter, begin + len(phrase))) >= 0:
                readings.append((7, place, letter))
        if core.startswith(letter) and not core[1:2].isalpha():
            readings.append((10, 0, letter))
        if core.endswith(letter) and not core[-2:-1].isalpha():
            readings.append((9, len(text) - 1, letter))
    readings = readings or [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(readings, key=lambda reading: reading[:2])[2] if readings else None


def _stripped(text: str, marks: str) -> str:
    """Each mark stripped from both ends, one mark after the other."""
    for mark in marks:
        text = text.strip(mark)
    return text


_3DSR = [
    re.compile(pattern)
    for pattern in (
        r"^([A-D])[.\s)]",
        r"^([A-D])$",
        r"[Aa]nswer[:\s]+([A-D])",
        r"[Tt]he answer is[:\s]+([A-D])",
        r"[Mm]y answer is[:\s]+([A-D])",
        r"\(([A-D])\)",
        r"([A-D])\.",
        r"\b([A-D])\b",
    )
]


def lmms_3dsr(answer: str, options: Options = None) -> str | None:
    """lmms-eval's 3DSRBench: the first pattern that matches; a text that starts with the word "A" is an A.

    >>> lmms_3dsr("A car is on the right, so B"), lmms_3dsr("The answer is B"), lmms_3dsr("right")
    ('A', 'B', None)
    """
    found = next((match for pattern in _3DSR if (match := pattern.search(answer.strip()))), None)
    return found[1] if found else None


# ---- the parser of MMMU and its relatives ---------------------------------------------------------------------------


def _mmmu_family(answer: str, options: Options, bracketed: Sequence[str], plain: Sequence[str]) -> str | None:
    """Letters in brackets, else plain letters form by form, else (more than 5 words) option texts; the last one counts.

    The last one by "(X)" where letters were bracketed and by " X " where they were plain; a letter found in another
    form is nowhere by that measure, and of letters that are nowhere the first counts.
    """
    texts = dict(options) if options is not None else dict.fromkeys("ABCD")
    text = f" {_stripped(str(answer), ',.!?;:' + chr(39))} "
    for forms, place in [(bracketed, "({})"), *(((form,), " {} ") for form in plain)]:
        if found := [letter for letter in texts if any(form.format(letter) in text for form in forms)]:
            return max(found, key=lambda letter: text.rfind(place.format(letter)))
    lower = text.lower()
    places = {letter: lower.rfind(said.lower()) for letter, said in texts.items() if said is not None}
    said = [letter for letter, where in places.items() if where >= 0]
    return max(said, key=lambda letter: places[letter]) if said and len(text.split()) > 5 else None


def mmmu_official(answer: str, options: Options = None) -> str | None:
    """MMMU's own parser: "(X)", else " X ", else option texts; None where it would draw a letter at random.

    >>> mmmu_official("I think A or B", {"A": "left", "B": "right"}), mmmu_official("**B**")
    ('B', None)
    """
    return _mmmu_family(answer, options, ("({})",), (" {} ",))


def lmms_mmmu(answer: str, options: Options = None) -> str | None:
    """lmms-eval's MMMU: as the official one, but plain letters are "X " and then "X.", so that "USA is" names A.

    >>> lmms_mmmu("USA is it"), lmms_mmmu("A. left\\nB. right\\nAnswer: B"), lmms_mmmu("right")
    ('A', 'B', None)
    """
    return _mmmu_family(answer, options, ("({})",), ("{} ", "{}."))


def lmms_vmc(answer: str, options: Options = None) -> str | None:
    """VMCBench in both harnesses: "X. " counts as bracketed, and where only that occurs the first letter wins.

    >>> lmms_vmc("It is A. or B. I think B. ok"), lmms_vmc("The answer is B"), lmms_vmc("B) right")
    ('A', 'B', None)
    """
    return _mmmu_family(answer, options, ("({})", "{}. "), (" {} ",))
