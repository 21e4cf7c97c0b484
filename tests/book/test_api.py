"""The API reference: everything public is in it, once, and its examples are there to be run; what turns docstrings."""

import re
import sys
from collections import Counter
from importlib import import_module
from inspect import getdoc
from pathlib import Path

import pytest

import lostlib

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "book" / "api").glob("*.md"))
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from docstrings import process  # noqa: E402  no package


def entries(page: Path) -> list[tuple[str, str]]:
    """(module, name) of everything that a page documents."""
    found, module = [], ""
    for line in page.read_text().splitlines():
        if given := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = given[1]
        elif given := re.fullmatch(r"\.\. (?:autofunction|autoclass|autoexception|py:data):: (\S+)", line):
            found.append((module, given[1]))
    return found


ENTRIES = [entry for page in PAGES for entry in entries(page)]


def test_every_name_is_there_and_documented_once():
    assert [entry for entry, count in Counter(ENTRIES).items() if count > 1] == []
    for module, name in ENTRIES:
        thing = getattr(import_module(module), name)
        assert not callable(thing) or getdoc(thing), f"{module}.{name} has no docstring"


def test_everything_public_is_in_the_reference():
    documented = {name for _, name in ENTRIES}
    wanted = set(lostlib._HOME) | {"EXTRACTORS", "PRESETS"} | set(import_module("lostlib.metrics").__all__)
    for module in ("sinks", "report", "teach", "stats"):
        names = vars(import_module(f"lostlib.{module}"))
        wanted |= {n for n, v in names.items() if n[0] != "_" and getattr(v, "__module__", "").startswith("lostlib.")}
    assert wanted - documented == set()


@pytest.mark.parametrize("module", ["metrics", "stats"])
def test_examples_are_where_numbers_are_computed(module):
    functions = [name for home, name in ENTRIES if home == f"lostlib.{module}" and name[0].islower()]
    assert functions
    for name in functions:
        assert ">>>" in getdoc(getattr(import_module(f"lostlib.{module}"), name)), name


def processed(text: str) -> str:
    lines = text.splitlines()
    process(None, "function", "name", None, None, lines)
    return "\n".join(lines)


def test_bars_outside_of_code_are_bars():
    assert processed("|x| of ``|y|`` and `|z|`") == r"\|x\| of ``|y|`` and `|z|`"
    assert processed(">>> a | b") == ">>> a | b"


def test_fields_in_two_columns_become_definitions():
    text = "About it.\nname   what it\n       means\nother  more\n\nThe end."
    assert processed(text) == "About it.\n\nname\n    what it\n    means\nother\n    more\n\nThe end."


def test_an_example_after_a_section_gets_a_heading():
    text = "It.\n\nReturns\n-------\nint\n\n>>> 1\n1"
    assert processed(text) == "It.\n\nReturns\n-------\nint\n\nExamples\n--------\n>>> 1\n1"
    assert processed("It.\n\n>>> 1\n1") == "It.\n\n>>> 1\n1"


def test_the_teaching_page_adds_up_the_exercises():
    page = (ROOT / "book" / "teaching.md").read_text()
    rows = {row[0]: int(row[-1]) for row in re.findall(r"\| \{ref\}`(ch-[\w-]+)` \|.*?\|.*?\|.*?\| (\d+) \|", page)}
    for source in sorted((ROOT / "notebooks").glob("*.py")):
        text = source.read_text()
        label = re.search(r"^# \((ch-[\w-]+)\)=$", text, flags=re.MULTILINE)[1]
        assert rows[label] == sum(map(int, re.findall(r"\*Minutes:\* (\d+)", text)))


def test_the_lesson_plans_lead_to_what_they_mean():
    page = (ROOT / "book" / "teaching.md").read_text()
    where = [row.strip(" |").split("|")[-1].strip() for row in page.splitlines() if re.match(r"\| \d+–\d+ \|", row)]
    assert len(where) >= 15
    link = r"\{(num)?ref\}`[\w-]+`"
    assert [cell for cell in where if not re.fullmatch(rf"{link}(, {link})*", cell)] == ["Break"]
