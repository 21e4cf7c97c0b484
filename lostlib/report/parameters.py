"""A chapter's parameters: known names, values in range, or a plain error. No torch."""

import re
from collections.abc import Mapping
from typing import Any

from lostlib.text import LAST_SEED, MOST, nearest

Spec = type | list | tuple | re.Pattern  # what a parameter may be: type, choices, (type, low, high) or a pattern
COMMON: dict[str, Spec] = {
    "model": str,
    "benchmark": str,
    "n_items": (int, 1, MOST),
    "seed": (int, 0, LAST_SEED - 100),  # chapters count on from it
    "device": re.compile(r"auto|cpu|mps|cuda(:\d+)?"),
}
BENCHMARKS = re.compile(r"[\w.:=,-]+(\+[\w.:=,-]+)*")  # a chapter's parameter `benchmarks`: several, joined by a plus
CURRENT: dict[str, Any] = {}  # of this run, for the command that `provenance` prints


class ParameterError(ValueError):
    """A chapter was given a parameter that it does not have, or a value out of range."""


def check_parameters(namespace: dict[str, Any], **own: Spec) -> dict[str, Any]:
    """Stop the run unless every parameter is known and in range; give back the parameters.

    Call it as `check_parameters(globals(), rho=(float, 0, 1))` right after the parameters cell: papermill injects a
    misspelt name with no more than a warning, so whatever plain value is there by then must be a parameter.
    """
    allowed = COMMON | own
    given = _plain_values(namespace) if "_lost_checked" not in namespace else {}  # a second call sees the whole chapter
    for name in given.keys() - allowed.keys():
        raise ParameterError(
            f"{name} is not a parameter of this chapter{nearest(name, allowed)} (there are: {', '.join(allowed)})"
        )
    checked = {name: namespace[name] for name in allowed if name in namespace}
    for name, value in checked.items():
        if problem := _problem(value, allowed[name]):
            raise ParameterError(f"{name} = {value!r} is not possible: it must be {problem}")
    namespace["_lost_checked"] = True
    CURRENT.clear()
    CURRENT.update(checked)
    return checked


def _plain_values(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """What a parameters cell can hold: no private names, no modules and functions, nothing of IPython's own."""
    shell = namespace.get("get_ipython", lambda: None)()
    hidden = set(getattr(shell, "user_ns_hidden", ())) | {"In", "Out"}
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    return {k: v for k, v in namespace.items() if k[0] != "_" and k not in hidden and isinstance(v, plain)}


def _problem(value: Any, spec: Spec) -> str | None:
    """What the value should have been, or None where it is fine."""
    if isinstance(spec, list):
        return None if value in spec else f"one of {', '.join(map(str, spec))}{nearest(value, map(str, spec))}"
    if isinstance(spec, re.Pattern):
        return None if isinstance(value, str) and spec.fullmatch(value) else f"a text like {spec.pattern}"
    kind, low, high = spec if isinstance(spec, tuple) else (spec, None, None)
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if fits and (low is None or value >= low) and (high is None or value <= high):
        return None
    bounds = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
    return f"of type {kind.__name__}" + (f", {' and '.join(bounds)}" if bounds else "")
