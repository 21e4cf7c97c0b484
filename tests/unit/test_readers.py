"""Answers are read as people read them: hundreds of each kind, put together from small grammars; and in linear time."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from lostlib.benchmarks.extractors import EXTRACTORS

letter, integer, decimal = (EXTRACTORS[name] for name in ("letter", "integer", "float"))

# options whose texts hold letters, units, symbols and one another
SETS = [
    {"A": "30°", "B": "40°", "C": "50°", "D": "60°"},
    {"A": "1.2 A", "B": "2.1 A", "C": "2.86 A", "D": "3.4 A"},
    {"A": "neither", "B": "sample A", "C": "sample B", "D": "samples A and B"},
    {"A": "20°C", "B": "22°C", "C": "25°C", "D": "30°C"},
    {"A": "left", "B": "far left", "C": "right", "D": "far right"},
    {"A": "C4H6O4", "B": "C3H6O3", "C": "CH4", "D": "H2O"},
    {"A": "George Washington", "B": "A. Lincoln", "C": "J. F. Kennedy", "D": "T. E. Lawrence"},
    {"A": "B", "B": "C", "C": "D", "D": "A"},
]
CASES = [(options, key) for options in SETS for key in options]
ANNOUNCED = [
    "The answer is ({k}) {t}.",
    "The correct answer is {k}.",
    "Answer: {k}",
    "**Answer:** {k}. {t}",
    "answer is {k}: {t}",
    "The final answer is \\boxed{{{k}}}.",
    "So the answer is **{k}**.",
    "Final answer: ({k})",
    "\\boxed{{\\text{{{k}}}}}",
    "The answer is option {k}.",
    'The answer is "{k}".',
    "The answer is\n\n{k}) {t}",
]
LEADING = ["{k}", "{k}.", "({k})", "{k}. {t}", "{k}) {t}", "({k}) {t}", "{k}: {t}", "**{k}**", "**{k}.** {t}", " {k}\n"]
AFTER = [
    "",
    "\n\nSo the angle at point D is 40°.",
    " Its formula is C4H6O4.",
    "\n\nQuestion: Which one?\nChoices:\n(A) 3\n(B) 4",
    " In △ A B C this follows.",
    " A glance at figure B shows it.",
]


@pytest.mark.parametrize("template", ANNOUNCED + LEADING)
def test_an_announced_or_leading_letter_ends_the_reading(template):
    for (options, key), after in itertools.product(CASES, AFTER):
        if template[-1] == "}" and after[:1] == " ":
            continue  # no sentence goes on like that
        text = template.format(k=key, t=options[key]) + after
        assert letter(text, options) == key, text


@pytest.mark.parametrize("template", [t for t in (*ANNOUNCED, *LEADING) if "{t}" not in t])
def test_small_letters_are_as_good_as_capitals(template):
    for key in "ABCD":
        assert letter(template.format(k=key.lower()), SETS[0]) == key, template


SAID = ["It is {t}.", "I would say {t}", "It must be {t}, clearly.", "{t}", "The value is {t}"]
NOISE = ["", "In △ D E F, as $\\angle A$ shows: ", "By point C we see it. ", "With vitamin B and at 7 V: "]


@pytest.mark.parametrize(("said", "before"), list(itertools.product(SAID, NOISE)))
def test_letters_inside_texts_units_symbols_and_names_are_no_options(said, before):
    for options, key in CASES:
        if any(len(text) == 1 for text in options.values()) or (options[key] == "neither"):
            continue  # a single letter is a letter
        others = [text for other, text in options.items() if other != key]
        if any(text.lower() in before.lower() for text in others):
            continue
        text = before + said.format(t=options[key])
        assert letter(text, options) == key, text


@pytest.mark.parametrize(
    "text",
    [
        'His famous work "A Sunday on La Grande Jatte" used dots.',
        "A glance shows nothing.",
        "I cannot tell.",
        "It is A or B.",
        "A. left\nB. right\nC. front\nD. behind",
        "(A) is wrong, and so is (B).",
        "vitamin C",
        "The blood of group A",
        "in △ A B C",
        "at 5 A",
        "",
        "...",
        "Neither A nor B",
        "C4H6O4",
    ],
)
def test_what_cannot_be_known_is_none(text):
    assert letter(text, {"A": "by lines", "B": "by strokes", "C": "by colour", "D": "by dots"}) is None


VALUES = [0, 1, 2, 3, 7, 12, 40, 2019, 1200]
NUMBERS = [
    "{n}",
    "{n}.",
    "The answer is {n}.",
    "The answer is {n}, as 5 of 8 are sold.",
    "**{n}**",
    "\\boxed{{{n}}}",
    "There are {n} bars with values below 40.",
    "There are {n} objects preferred by more than 7 people.",
    "The final value is {n}. In 2008 and 2014 they were greater.",
    "The share is highest in **{n}**, with 25.8%.",
    "3 + 4 + 5 = {n}",
    "Answer: {n} (at 10:30)",
    "{n} people, of whom 5 are tall.",
    "It is {n} cm^2.",
    "It is {n} m3.",
    "So 2 x 3 gives 6, and the answer to the question is {n}.",
    "${n}$",
    "{n}%",
    "The total is {n}.0 dollars",
]


@pytest.mark.parametrize("template", NUMBERS)
def test_a_number_is_the_one_that_is_stated(template):
    for value in VALUES:
        assert integer(template.format(n=value), None) == str(value), template.format(n=value)
        assert float(decimal(template.format(n=value), None)) == value, template.format(n=value)


def test_number_words_and_thousands():
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    for value, word in enumerate(words):
        assert integer(f"The answer is {word}.", None) == str(value)
        assert integer(word.capitalize(), None) == str(value)
    assert integer("There are three objects preferred by more than 7 people.", None) == "3"
    assert integer("It is 1,234,567.", None) == "1234567"


@pytest.mark.parametrize(
    "text",
    [
        "I cannot determine the age gap between the two people.",
        "It is not possible to count the 3 boxes.",
        "The text does not say how many shipments had exactly 56 boxes.",
        "Unable to tell, at 5.",
        "between 2014 and 2016",
        "\\boxed{\\frac{1}{2}}",
        "The answer is 1/2.",
        "0.99999999999999999999",
        "at 10:30",
        "2.5",
        "x^2",
        "no number",
        "",
        "9" * 5000,
        "1e999",
    ],
)
def test_what_states_no_whole_number_is_none(text):
    assert integer(text, None) is None


def test_fractions_are_decimals():
    for top, bottom in itertools.product((1, 3, 7), (2, 4, 8)):
        for template in ("{a}/{b}", "The answer is {a}/{b}.", "\\boxed{{\\frac{{{a}}}{{{b}}}}}", "It is {a} / {b} m"):
            assert float(decimal(template.format(a=top, b=bottom), None)) == top / bottom


LONG = [
    "1" * 10**5,
    "[" * 10**5,
    "\\boxed{" * 14_000,
    "answer is " * 10**4,
    "A " * 50_000,
    "(A) " * 25_000,
    "1," * 50_000,
    "1/" * 50_000,
    "- " * 50_000,
    "**1" * 30_000,
    " " * 10**5,
    "$" * 10**5,
    "not " * 25_000,
    ". " * 50_000,
    "1 and " * 16_000,
]


@pytest.mark.parametrize("text", LONG, ids=lambda text: text[:8])
def test_a_hundred_thousand_characters_are_read_in_a_moment(text):
    """A reader that were quadratic would take minutes."""
    for name in ("letter", "integer", "float", "list", "phrase", "yes_no"):
        began = time.monotonic()
        EXTRACTORS[name](text, {"A": "left", "B": "right"} if name == "letter" else None)
        assert time.monotonic() - began < 5, name


def test_no_answer_can_break_a_reader():
    for text in (
        "[" + "-" * 3000 + "1]",
        "not " * 9999,
        "~" * 9999,
        "1+" * 9999,
        "{" * 9999,
        "[[" * 999 + "1",
        "1e5" * 999,
    ):
        for name in ("letter", "integer", "float", "list", "phrase", "yes_no"):
            found = EXTRACTORS[name](text, None)
            assert found is None or isinstance(found, str)


HUGE = [
    "9" * 400,
    f"1{'0' * 309}",
    f"-{'9' * 400}",
    f"{'9' * 400}.5",
    "1e400",
    "-1e400",
    "inf",
    "-inf",
    "infinity",
    "nan",
]
SAID = ["{}", "The answer is {}.", "= {}", "**{}**", "[1, {}]", "[{}]", "from {} to 2", "1 and {}", "{}/3", "3/{}"]


@pytest.mark.parametrize("name", ["integer", "float", "list"])
def test_what_is_read_is_a_finite_number(name: str) -> None:
    for number, said in itertools.product(HUGE, SAID):
        found = EXTRACTORS[name](said.format(number), None)
        assert found is None or not {"inf", "nan"} & set(re.findall("[a-z]+", found)), said.format(number[:9])


@pytest.mark.parametrize("joint", [" or ", " and ", ", ", " & ", ") or (", ". or ", ", or "])
@pytest.mark.parametrize(
    "frame", ["{}", "The answer is {}.", "It is either {}.", "Answer: {}", "Probably {}, I think."]
)
def test_two_letters_choose_none(joint, frame):
    options = dict(zip("ABCD", ("left", "right", "up", "down"), strict=True))
    for first, second in itertools.product("ABCD", repeat=2):
        said = frame.format(f"{'(' if joint[0] == ')' else ''}{first}{joint}{second}{')' if joint[0] == ')' else ''}")
        assert letter(said, options) == (first if first == second else None), said


@pytest.mark.parametrize("verb", ["make", "makes", "gives", "equals", "leaves", "comes to", "adds up to"])
@pytest.mark.parametrize(("one", "two", "result"), [(3, 2, 5), (12, 40, 52)])
def test_what_a_sum_comes_to_is_stated(verb, one, two, result):
    assert integer(f"There are {one}, and {two} more {verb} {result}.", None) == str(result)
    assert integer(f"{one} and {two} {verb} {result} in all.", None) == str(result)
