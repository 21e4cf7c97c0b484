"""Extractors: ours on what models say, the harnesses' on the cases where they are known to disagree and on corners."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lostlib.benchmarks.extractors import EXTRACTORS, KINDS, lmms_pope_correct

SIDES = {"A": "left", "B": "right"}
NINE = {letter: f"text {letter}" for letter in "ABCDEFGHI"}


# ---- ours -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "answer", "options", "expected"),
    [
        ("yes_no", "Yes, but the answer is no.", None, "no"),
        ("yes_no", "yesterday", None, None),
        ("yes_no", "Is it there? The final answer is:", None, None),
        ("letter", "b", SIDES, "B"),
        ("letter", "(b).", SIDES, "B"),
        ("letter", "c", SIDES, None),
        ("letter", "\\boxed{B} and not A", SIDES, "B"),
        ("letter", "\\boxed{\\text{B}}", SIDES, "B"),
        ("letter", "A. left\nB. right\nAnswer: B", SIDES, "B"),
        ("letter", "**Answer:** B", SIDES, "B"),
        ("letter", "A car is on the left, so A", {"A": "north", "B": "south"}, "A"),
        ("letter", "A is correct", {"A": "north", "B": "south"}, "A"),
        ("letter", "I think it is a dog", NINE | {"C": "a dog"}, "C"),
        ("letter", "I'm sure: I", NINE, "I"),
        ("letter", "it is far left", {"A": "left", "B": "far left"}, "B"),
        ("letter", "it is left or right", SIDES, None),
        ("letter", "12", {"A": "2", "B": "12"}, "B"),
        ("letter", "2.5", {"A": "2", "B": "5"}, None),
        ("letter", "答案是红色", {"A": "红色", "B": "蓝色"}, "A"),
        ("letter", "same", {"A": "same", "B": "same"}, "A"),
        ("letter", "none", {"A": "None", "B": None}, "A"),
        ("letter", "", SIDES, None),
        ("integer", "between 2014-2016", None, None),
        ("integer", "10-3 = -7", None, "-7"),
        ("integer", "the area is 12 cm^2", None, "12"),
        ("integer", "the area is 12 cm2", None, "12"),
        ("integer", "$1,234,567", None, "1234567"),
        ("integer", "50%", None, "50"),
        ("integer", "seven", None, "7"),
        ("integer", "one of the 3", None, "3"),
        ("integer", "5.0", None, "5"),
        ("integer", "\\boxed{42}, as 7 x 6", None, "42"),
        ("float", "-0.5", None, "-0.5"),
        ("float", "\\frac{1}{4}", None, "0.25"),
        ("float", "1/0", None, None),
        ("float", ".75 of it", None, "0.75"),
        ("list", "[1, 2, 3] or so [x]", None, "[1, 2, 3]"),
        ("list", "in 2014 and 2016", None, "[2014, 2016]"),
        ("list", "2014-2016", None, "[2014, 2016]"),
        ("list", "1, 2, 3 and 4.5", None, "[1, 2, 3, 4.5]"),
        ("list", "7", None, None),
        ("phrase", "Downhill.", None, "downhill"),
        ("phrase", "\n Three \nbecause", None, "3"),
        ("phrase", " . ", None, None),
    ],
)
def test_ours(name: str, answer: str, options: dict | None, expected: str | None) -> None:
    assert EXTRACTORS[name](answer, options) == expected


# ---- the harnesses, where they disagree -----------------------------------------------------------------------------

LETTERS = ("lmms_mcq", "lmms_3dsr", "lmms_vmc", "lmms_mmmu", "vk_can_infer")


# answer, then what each of LETTERS reads; where the original draws at random, None
DISAGREEMENTS = [
    ("B", "B", "B", "B", "B", "B"),
    ("B.", "B", "B", "B", "B", "B"),
    ("(B)", "B", "B", "B", "B", "B"),
    ("b", None, None, None, None, None),
    ("**B**", "B", "B", None, None, "B"),
    ("B) right", "B", "B", None, None, "B"),
    ("\\boxed{B}", "B", "B", None, None, "B"),
    ("right", None, None, None, None, "B"),
    ("A car is on the right, so B", "A", "A", "B", "B", None),
    ("I think A or B", "B", "A", "B", "B", None),
    ("A. left\nB. right\nAnswer: B", "A", "A", "A", "B", None),
    ("BECAUSE", "A", None, None, None, None),
    ("It is A. or B. I think B. ok", "B", "A", "A", "A", None),
    ("The answer is B", "B", "B", "B", "B", "B"),
]


@pytest.mark.parametrize("case", DISAGREEMENTS, ids=lambda case: case[0])
def test_letters_of_the_harnesses(case: tuple) -> None:
    assert {name: EXTRACTORS[name](case[0], SIDES) for name in LETTERS} == dict(zip(LETTERS, case[1:], strict=True))


def test_vlmevalkit_reads_the_word_where_the_options_are_long_enough() -> None:
    """Its text rule looks at answers of up to twice the options' length: 18 characters for left and right.

    With two more options it reads "right" in the answer that names two letters, and all else stays as above.
    """
    four = SIDES | {"C": "front", "D": "behind"}
    expected = {answer: letters[-1] for answer, *letters in DISAGREEMENTS}
    expected["A car is on the right, so B"] = "B"
    assert {answer: EXTRACTORS["vk_can_infer"](answer, four) for answer in expected} == expected


@pytest.mark.parametrize(
    ("name", "answer", "options", "expected"),
    [
        # VLMEvalKit: the letter must be among the last four words, whichever time it occurs first
        ("vk_can_infer", "B one two three", SIDES, "B"),
        ("vk_can_infer", "B one two three four", SIDES, None),
        ("vk_can_infer", "B one two three B", SIDES, None),
        ("vk_can_infer", "B one two three four. The answer is **B**.", SIDES, "B"),
        ("vk_can_infer", "the answer is a long story about nothing at all", SIDES, "A"),
        ("vk_can_infer", "the answer is C", SIDES, None),
        ("vk_can_infer", "Z", SIDES, "Z"),
        ("vk_can_infer", "A Z", SIDES, "A"),
        ("vk_can_infer", "Cannot determine the answer, so B", SIDES, "Z"),
        ("vk_can_infer", "Failed to obtain answer via API right", SIDES | {"C": "long" * 20}, "B"),
        ("vk_can_infer", "it is right there", SIDES, "B"),
        ("vk_can_infer", "it is right there, in the distance", SIDES, None),  # longer than twice the texts
        ("vk_can_infer", "none of it", {"A": "None", "B": None, "C": "all the others"}, "A"),
        ("vk_can_infer", "C", {"A": "left", "B": "right", "C": None}, None),
        ("vk_can_infer", "A car is on the right, so B", {"A": "on the left", "B": "on the right"}, "B"),
        ("vk_can_infer", "H", NINE, "H"),
        ("vk_can_infer", "left", None, None),
        # VLMEvalKit's punctuation: beside a blank anywhere, a mark vanishes everywhere
        ("vk_yorn", "yes,indeed", None, "yes"),
        ("vk_yorn", "yes,indeed, so", None, None),
        ("vk_yorn", "yes/maybe 1,000", None, None),
        ("vk_yorn", "no:", None, None),
        ("vk_yorn", "'no'", None, None),
        ("vk_yorn", "yes.no", None, None),
        ("vk_yorn", "x. " * 32 + "yes", None, "yes"),
        ("vk_yorn", "x. " * 32 + "yes.", None, None),  # only the first 32 full stops are removed
        ("pope_official", "No, there is", None, "no"),
        ("pope_official", "Yes. No", None, "yes"),
        ("pope_official", "no\nproof", None, "yes"),
        ("pope_official", ".no", None, "yes"),
        ("lmms_mcq", "I choose B over A", SIDES, "A"),
        ("lmms_mcq", "USA. is", SIDES, "A"),
        ("lmms_mcq", "정답은 B 입니다", SIDES, "B"),
        ("lmms_mcq", "B: no, (A) it is", SIDES, "B"),
        ("lmms_mcq", "I", NINE, "I"),
        ("lmms_mcq", "I", None, None),
        ("lmms_mcq", " . ", SIDES, None),
        ("lmms_3dsr", "A dog", SIDES, "A"),
        ("lmms_3dsr", "Answer: D", SIDES, "D"),
        ("lmms_3dsr", "xB.", SIDES, "B"),
        ("lmms_3dsr", "answer Because (C)", SIDES, "B"),
        ("lmms_mmmu", "USA is it", SIDES, "A"),
        ("lmms_mmmu", "xA yB", SIDES, "A"),
        ("lmms_mmmu", "xB.yes", SIDES, "B"),
        ("lmms_vmc", "USA is it", SIDES, None),
        ("lmms_vmc", "(A) or (B) or (A)", SIDES, "A"),
        ("lmms_vmc", "(B) or A. x", SIDES, "B"),
        ("lmms_vmc", "it is on the left or right side", SIDES, "B"),
        ("lmms_vmc", "on the right side", SIDES, None),  # four words
        ("lmms_vmc", "one two three four five six", {"A": None, "B": "five"}, "B"),
        ("mmmu_official", "so it is B or A then", SIDES, "A"),
        ("mmmu_official", "B,.", SIDES, None),  # marks are stripped in order: the comma first, then the full stop
    ],
)  # fmt: skip
def test_corners_of_the_harnesses(name: str, answer: str, options: dict | None, expected: str | None) -> None:
    assert EXTRACTORS[name](answer, options) == expected


@settings(max_examples=100, deadline=None)
@given(st.text(), st.sampled_from([None, SIDES, NINE, {"A": None, "B": "", "C": "No"}]))
def test_no_text_breaks_an_extractor(answer: str, options: dict | None) -> None:
    for kind, names in KINDS.items():
        for name in names:
            found = EXTRACTORS[name](answer, options)
            assert found is None or isinstance(found, str)
            if found is not None and kind == "mcq":
                assert found in (*(options or "ABCDEFGH"), *"ABCDZ")
            if found is not None and kind == "yesno":
                assert found in ("yes", "no")


def test_every_extractor_has_a_kind() -> None:
    assert {name for names in KINDS.values() for name in names} == set(EXTRACTORS)
    with pytest.raises(ValueError, match="'maybe' is neither"):
        lmms_pope_correct("yes", "maybe")


# ---- yes or no ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "official", "lmms", "yorn"),
    [
        ("Yes", "yes", "yes", "yes"),
        ("No", "no", "no", "no"),
        ("Yes.", "yes", None, "yes"),
        ("No.", "no", None, "no"),
        ("There is not a dog", "no", None, None),
        ("NO", "yes", "no", "no"),
        ("**No**", "yes", None, None),
        ("", "yes", None, None),
        ("I cannot tell", "yes", None, None),
        ("Yes\n\nNo", "yes", None, None),
    ],
)
def test_yes_and_no_of_the_harnesses(answer: str, official: str, lmms: str | None, yorn: str | None) -> None:
    assert EXTRACTORS["pope_official"](answer, None) == official
    assert EXTRACTORS["vk_yorn"](answer, None) == yorn
    assert EXTRACTORS["lmms_pope"](answer, None) == lmms
    assert [lmms_pope_correct(answer, gold) for gold in ("yes", "no")] == [lmms == "yes", lmms == "no"]
