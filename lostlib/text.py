"""Names and numbers as people give them: how they are written, what a mistyped one was meant to be, which there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral
from typing import Any

MOST = 10**9  # of anything that is counted
LAST_SEED = 2**32 - 1  # what every generator of random numbers takes, ours, numpy's and torch's


def nearest(given: object, valid: Iterable[str]) -> str:
    """The end of an error message: `; did you mean 'x'?`, or nothing, also where the name is a valid one.

    >>> nearest("gausian", ["gaussian", "uniform"])
    "; did you mean 'gaussian'?"
    """
    valid = list(valid)
    found = [] if str(given) in valid else get_close_matches(str(given), valid, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def check(what: str, given: object, valid: Iterable[str]) -> None:
    """Refuse a name that there is not.

    >>> check("fruit", "aple", ["apple", "pear"])
    Traceback (most recent call last):
    ValueError: unknown fruit 'aple'; there are apple, pear; did you mean 'apple'?
    """
    valid = list(valid)
    if given not in valid:
        raise ValueError(f"unknown {what} {given!r}; there are {among(given, valid)}")


def check_choice(name: str, given: object, allowed: Iterable[str]) -> None:
    """Refuse a value that a parameter cannot have.

    >>> check_choice("scope", "layers", ["layer", "model"])
    Traceback (most recent call last):
    ValueError: scope 'layers' is not one of layer, model; did you mean 'layer'?
    """
    allowed = list(allowed)
    if given not in allowed:
        raise ValueError(f"{name} {given!r} is not one of {among(given, allowed)}")


def among(given: object, valid: Iterable[str]) -> str:
    """The names there are, and the nearest one.

    >>> among("gausian", ["gaussian", "uniform"])
    "gaussian, uniform; did you mean 'gaussian'?"
    """
    valid = list(valid)
    return (", ".join(valid) or "none") + nearest(given, valid)


def slug(text: str) -> str:
    """Small letters, digits and single underscores, as the keys of told numbers are written.

    >>> slug("mathvista (scenes)")
    'mathvista_scenes'
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def parse(
    text: str, keys: Callable[[str], Iterable[str]], *, bare: str = "", held: str = ""
) -> tuple[str, dict[str, str]]:
    """What `name:key=value,key=value` says: the name, and its values by key. Blanks around the parts do not count.

    Parameters
    ----------
    keys : callable
        ``keys(name)``: what may be set of that name; it refuses a name that there is not.
    bare : str
        The key of a value that stands without one; by default none may.
    held : str
        The beginning of the text that is the name, where it holds signs of its own.

    Raises
    ------
    ValueError
        An unknown key, a value that is empty, a key that comes twice, or a part without an equals sign.

    Examples
    --------
    >>> parse("sap: keys = text, layers=0+2", lambda name: ["keys", "layers"])
    ('sap', {'keys': 'text', 'layers': '0+2'})
    """
    head, colon, rest = text[len(held) :].partition(":")
    name, found = held or head.strip(), dict[str, str]()
    known = list(keys(name))
    for part in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if bare and not equals:
            key, equals, value = bare, "=", key
        if not equals:
            raise ValueError(f"{text}: {key!r} is not key=value; of keys there are {among(key, known)}")
        check(f"key of {name}", key, known)
        if not value:
            raise ValueError(f"{text}: {key} is empty")
        if key in found:
            raise ValueError(f"{text}: {key} is given twice, as {found[key]} and {value}")
        found[key] = value
    return name, found


def joined(text: str, found: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """What a text says and what is given beside it; an error where they differ."""
    for key, value in more.items():
        if key in found and str(found[key]) != str(value):
            raise ValueError(f"{text}: {key} is given twice, as {found[key]} and {value}")
    return {**more, **found}


def write(name: str, values: Mapping[str, object]) -> str:
    """The inverse of `parse`.

    >>> write("sap", {"keys": "text"}), write("pool", {})
    ('sap:keys=text', 'pool')
    """
    return name + (":" + ",".join(f"{key}={value}" for key, value in values.items()) if values else "")


def check_count(name: str, given: object) -> None:
    """Refuse a number of items, tokens or the like that is none."""
    _check_whole(name, given, 1, MOST)


def check_seed(given: object) -> None:
    """Refuse a seed that is none."""
    _check_whole("seed", given, 0, LAST_SEED)


def _check_whole(name: str, given: object, low: int, high: int) -> None:
    if not isinstance(given, Integral) or isinstance(given, bool) or int(given) < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {given!r}")
    if int(given) > high:
        raise ValueError(f"{name} must be at most {high}, got {given}")
