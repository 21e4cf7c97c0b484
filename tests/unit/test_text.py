"""The grammar `name:key=value,…`: read and refused alike wherever it is used, and what is written is read again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lostlib.benchmarks import Choice
from lostlib.checkpoints import ModelChoice
from lostlib.forms import Form
from lostlib.text import parse, write


@dataclass(frozen=True)
class User:
    """One that reads the grammar: a name it knows, and values of its keys that go together."""

    read: Callable[[str], Any]
    name: str
    values: dict[str, tuple[str, ...]]


USERS = (
    User(Choice.parse, "3dsrbench", {"prompt": ("lmms", "default"), "variant": ("flip",), "revision": ("refs/pr/3",)}),
    User(
        ModelChoice.parse,
        "Qwen/Qwen2.5-VL-7B-Instruct",
        {"dtype": ("float16", "auto"), "max_pixels": ("7056",), "decoding": ("checkpoint",), "backend": ("sdpa",)},
    ),
    User(Form.parse, "sap", {"keys": ("text", "all"), "layers": ("0+2-4", "all"), "weights": ("permuted",)}),
    User(Form.parse, "var", {"rho": ("0.9", ".5"), "dims": ("3+1",), "tau": ("10%", "20"), "preset": ("paper",)}),
)
users = st.sampled_from(USERS)
blanks = st.sampled_from(["", " ", "  ", "\t"])


@st.composite
def written(draw: st.DrawFn) -> tuple[User, list[tuple[str, str]]]:
    """A user and some of its keys, in any order, each with a value."""
    user = draw(users)
    keys = draw(st.lists(st.sampled_from(list(user.values)), unique=True, min_size=1))
    return user, [(key, draw(st.sampled_from(user.values[key]))) for key in keys]


@given(written(), st.data())
def test_blanks_and_order_say_nothing(asked: tuple[User, list[tuple[str, str]]], data: st.DataObject) -> None:
    user, pairs = asked
    plain = user.read(write(user.name, dict(pairs)))
    turned = data.draw(st.permutations(pairs))
    spaced = (data.draw(blanks).join(["", key, "=", value, ""]) for key, value in turned)
    before, after = data.draw(blanks), data.draw(blanks)
    assert user.read(f"{before}{user.name}{after}:{','.join(spaced)}") == plain
    assert user.read(str(plain)) == plain
    assert str(user.read(str(plain))) == str(plain)


@given(written(), st.data())
def test_all_refuse_alike(asked: tuple[User, list[tuple[str, str]]], data: st.DataObject) -> None:
    user, pairs = asked
    key, value = data.draw(st.sampled_from(pairs))
    parts, at = [f"{k}={v}" for k, v in pairs], data.draw(st.integers(0, len(pairs)))
    wrong = {
        f"{key}s={value}": rf"unknown key of {user.name} '{key}s'; there are .*\b{key}\b.*; did you mean '{key}'\?",
        f"={value}": f"unknown key of {user.name} ''; there are ",
        f"{key}_=": f"unknown key of {user.name} '{key}_'",
        f"{key}={value}": f"{key} is given twice, as {re.escape(value)} and {re.escape(value)}",
    }
    for part, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            user.read(f"{user.name}:{','.join([*parts[:at], part, *parts[at:]])}")
    unsaid = next(one for one in user.values if one != key)
    with pytest.raises(ValueError, match=f"{unsaid} is empty"):
        user.read(f"{user.name}:{key}={value}, {unsaid} = ")


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
@pytest.mark.parametrize("rest", ["", " ", ",", "{0}", "{0}={1},", ",{0}={1}", "{0}={1},,", "{1}"])
def test_a_part_without_an_equals_sign_is_refused(user: User, rest: str) -> None:
    """A benchmark's variant may stand alone; what stands there is one, or empty, or comes twice."""
    key, (value, *_) = next(iter(user.values.items()))
    alone = "has no variant|variant is empty"
    with pytest.raises(ValueError, match=alone if user.read == Choice.parse else "is not key=value; of keys there are"):
        user.read(f"{user.name}:{rest.format(key, value)}")


def test_what_takes_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="unknown key of pool 'keys'; there are none"):
        Form.parse("pool:keys=all")


words = st.text("abcXYZ019_./+-%@&() ", min_size=1).filter(lambda word: word == word.strip())


@given(words, st.dictionaries(words, words))
def test_what_is_written_is_read_again(name: str, values: dict[str, str]) -> None:
    assert parse(write(name, values), lambda name: values) == (name, values)
