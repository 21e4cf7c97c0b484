"""A benchmark in one text: what is printed is what is parsed, and mistakes name what there is."""

from __future__ import annotations

import pytest

from lostlib import tables
from lostlib.benchmarks import HUB, NAMESAKES, Choice


@pytest.mark.parametrize("name", [*NAMESAKES, *HUB])
def test_a_plain_name_stays_plain(name: str) -> None:
    assert str(Choice.parse(name)) == name


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("pope:prompt=lmms", "pope:prompt=lmms"),
        ("3dsrbench:variant=flip , prompt=vlmevalkit", "3dsrbench:prompt=vlmevalkit,variant=flip"),
        ("3dsrbench:variant=circular,prompt=default", "3dsrbench"),
        ("mmmu:revision=refs/pr/3", "mmmu:revision=refs/pr/3"),
        ("mini-pope:prompt=lmms", "mini-pope:prompt=lmms"),
        ("mini-pope:prompt=default", "mini-pope"),
        ("mini-mathvista:variant=charts", "mini-mathvista:variant=charts"),
        ("mini-mathvista:variant=scenes", "mini-mathvista:variant=scenes"),
        ("mini-mathvista:variant=all", "mini-mathvista"),
        ("mini-mathvista:scenes", "mini-mathvista:variant=scenes"),
        ("3dsrbench:flip,prompt=vlmevalkit", "3dsrbench:prompt=vlmevalkit,variant=flip"),
    ],
)
def test_the_canonical_form(text: str, canonical: str) -> None:
    choice = Choice.parse(text)
    assert str(choice) == canonical
    assert str(Choice.parse(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("popes", "pope"),
        ("pope:prompts=lmms", "prompt, variant, revision; did you mean 'prompt'"),
        ("pope:revision=", "revision is empty"),
        ("mini-pope:revision=main", "takes no revision"),
        ("pope:prompt=lms", "lmms"),
        ("3dsrbench:variant=flipped", "flip"),
        ("mini-3dsrbench:variant=flip", "no variant 'flip'; there is only one"),
        ("mini-mathvista:variant=chart", "did you mean 'charts'"),
        ("mini-pope:prompt=lms", "lmms"),
        ("pope:variant=flip", "no variant"),
    ],
)
def test_mistakes_name_what_there_is(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Choice.parse(text)


def test_tables_of_different_prompts_lie_apart() -> None:
    keys = [tables.Key("answers", "m", "w", text, "1") for text in ("pope", "pope:prompt=lmms")]
    assert keys[0].path != keys[1].path
    assert ":" not in str(keys[1].path)
