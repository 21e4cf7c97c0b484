"""The API reference: everything public is in it, once, and its examples are there to be run."""

import re
from collections import Counter
from importlib import import_module
from inspect import getdoc, isclass
from pathlib import Path

import pytest
from sphinx.pycode import ModuleAnalyzer

import lostlib

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "book" / "api").glob("*.md"))


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


def explained(thing: type) -> dict[str, str]:
    """A class's fields and properties, and the first line about each: after `#:`, or in its docstring."""
    comments = ModuleAnalyzer.for_module(thing.__module__).find_attr_docs()
    fields = {field: lines[0] for (home, field), lines in comments.items() if home == thing.__qualname__}
    documented = {n: getdoc(v) for n, v in vars(thing).items() if isinstance(v, property)}
    return fields | {n: text.splitlines()[0] for n, text in documented.items() if text}


def test_fields_are_shown_and_nothing_said_of_them_is_read_as_a_type():
    """Napoleon takes what stands before a colon for the type, in the first line about a field or property."""
    pages = "".join(page.read_text() for page in PAGES)
    for module, name in ENTRIES:
        if isclass(thing := getattr(import_module(module), name)):
            told, shown = explained(thing), f".. autoclass:: {name}\n   :members:" in pages
            assert shown or not told.keys() & thing.__annotations__.keys(), name
            for field, line in told.items():
                assert not re.search(r"(?<!:):(?!:)", re.sub(r"`+[^`]+`+", "", line)), f"{name}.{field}: {line}"


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
