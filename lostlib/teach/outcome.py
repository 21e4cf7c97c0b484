"""What an instant check says, and the student's function as a check calls it. No torch."""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MARKS = {"passed": "✓", "failed": "✗", "not yet": "○", "not here": "○"}
COLOURS = {"passed": "#009e73", "failed": "#d55e00", "not yet": "#767676", "not here": "#767676"}
TOLERANCE = 1e-6

Test = Callable[[], str | None]  # what is wrong, or None
Properties = Iterator[tuple[str, Test]]


@dataclass(frozen=True)
class Outcome:
    """What a check says; a notebook shows it, and as a truth value it is whether everything passed."""

    title: str  #: what was checked
    state: str  #: `passed`, `failed`, `not yet` (unanswered) or `not here` (something it needs is not installed)
    passed: tuple[str, ...] = ()  #: the properties that hold, in the order in which they were tried
    #: what does not hold, one line each; of a function the first property alone, since the check stops there
    failed: str = ""
    #: what is wrong with it and on which input, or what is to be done; after a pass, what is to be learned
    why: str = ""
    example: tuple[Any, ...] = ()  #: the arguments that show the failure

    def __bool__(self) -> bool:
        return self.state == "passed"

    def __str__(self) -> str:
        lines = [f"{MARKS[self.state]} {self.title}: {self.verdict}"]
        lines += [f"  {MARKS['passed']} {name}" for name in self.passed]
        lines += [f"  {MARKS['failed']} {line}" for line in self.failed.splitlines()]
        return "\n".join(lines + [f"    {line}" for line in self.why.splitlines()])

    __repr__ = __str__

    @property
    def verdict(self) -> str:
        """The state in words."""
        if self.state == "passed":
            return "passed"
        return {"failed": "not quite", "not yet": "not yet", "not here": "cannot be checked here"}[self.state]

    def _repr_html_(self) -> str:
        items = [f"<li>{MARKS['passed']} {html.escape(name)}</li>" for name in self.passed]
        items += [f"<li><b>{MARKS['failed']} {html.escape(line)}</b></li>" for line in self.failed.splitlines()]
        listed = f"<ul style='list-style:none;padding-left:0.5em;margin:0.3em 0'>{''.join(items)}</ul>" if items else ""
        why = f"<pre style='white-space:pre-wrap;margin:0.3em 0'>{html.escape(self.why)}</pre>" if self.why else ""
        return (
            f"<div class='lost-check' style='border-left:0.4em solid {COLOURS[self.state]};padding:0.2em 0.8em'>"
            f"<b>{MARKS[self.state]} {html.escape(self.title)}: {self.verdict}</b>{listed}{why}</div>"
        )


class Unanswered(Exception):
    """The student has not answered yet."""


class Raised(Exception):
    """The student's function raised; the message says what and where."""


UNWRITTEN = (
    "Write the function above, then run this cell again. "
    "(It gave back nothing: if it is written, is its `return` missing?)"
)


def unanswered(answer: Any) -> bool:
    """Is this what an empty cell gives: `...` or None."""
    return answer is None or answer is ...


class Student:
    """A student's function: its arguments are copies, its errors are caught, an empty body is noticed."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.arguments: tuple[Any, ...] = ()  # of the last call

    def __call__(self, *arguments: Any) -> Any:
        """What the function gives back for copies of the arguments."""
        self.arguments = arguments
        if unanswered(self.function):
            raise Unanswered
        if not callable(self.function):
            raise Raised(f"a function was expected, this is {type(self.function).__name__}")
        try:
            found = self.function(*(a.copy() if isinstance(a, np.ndarray) else a for a in arguments))
        except NotImplementedError:
            raise Unanswered from None
        except Exception as error:
            raise Raised(_what_was_raised(error)) from None
        if unanswered(found):
            raise Unanswered
        return found

    def array(self, *arguments: Any) -> NDArray[np.float64]:
        """What it gives back as an array of numbers."""
        found = self(*arguments)
        found = found.detach().cpu() if hasattr(found, "detach") else found
        try:
            return np.asarray(found, dtype=np.float64)
        except (TypeError, ValueError):
            raise Raised(f"it gave back {type(found).__name__}, where numbers were expected") from None

    def number(self, *arguments: Any) -> float:
        """What it gives back, which must be one number."""
        found = self.array(*arguments)
        if found.size != 1:
            raise Raised(f"it gave back an array of shape {found.shape}, where one number was expected")
        return float(found.reshape(()))

    # -- properties, as messages --------------------------------------------------------------------------------------

    def one_number(self, *arguments: Any) -> str | None:
        """One finite number."""
        found = self.number(*arguments)
        return None if np.isfinite(found) else f"it gave {found}"

    def gives(self, arguments: tuple, expected: float, tolerance: float = TOLERANCE) -> str | None:
        """One number, and this one."""
        found = self.number(*arguments)
        return None if close(found, expected, tolerance) else f"it gave {found:.6g}, and should give {expected:.6g}"

    def between(self, arguments: tuple, low: float, high: float) -> str | None:
        """One number between two bounds."""
        found = self.number(*arguments)
        inside = low - TOLERANCE <= found <= high + TOLERANCE
        return None if inside else f"it gave {found:.6g}, which is not in [{low:.6g}, {high:.6g}]"

    def same(self, before: tuple, after: tuple) -> str | None:
        """The same number for two inputs; the second is shown."""
        first, second = self.number(*before), self.number(*after)
        return None if close(second, first) else f"it gave {first:.6g} before and {second:.6g} after"


def close(found: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Equal up to rounding; never with a NaN."""
    return bool(np.allclose(found, expected, rtol=tolerance, atol=tolerance))


def check(title: str, function: Any, properties: Callable[[Student], Properties], names: tuple[str, ...]) -> Outcome:
    """Try the properties in order until one does not hold; `names` are those of the function's arguments."""
    student, name = Student(function), "it can be called"
    passed: list[str] = []
    try:
        for name, test in properties(student):
            if problem := test():
                return _failed(title, passed, name, problem, student, names)
            passed.append(name)
    except Unanswered:
        return Outcome(title, "not yet", why=UNWRITTEN)
    except Raised as error:
        return _failed(title, passed, name, str(error), student, names)
    except ImportError as error:
        return Outcome(title, "not here", why=f"{error.name} is not installed: pip install 'lostlib[measure]'")
    return Outcome(title, "passed", tuple(passed))


def _failed(
    title: str, passed: list[str], name: str, problem: str, student: Student, names: tuple[str, ...]
) -> Outcome:
    shown = "\n".join(f"{n} = {show(a)}" for n, a in zip(names, student.arguments, strict=False))
    return Outcome(title, "failed", tuple(passed), name, f"{problem}\nfor\n{shown}", student.arguments)


def show(value: Any) -> str:
    """An argument as a student can read it: small matrices in full, larger ones by their shape."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    if value.size > 64:
        return f"an array of shape {value.shape}"
    text = np.array2string(value, precision=3, suppress_small=True, separator=", ", max_line_width=100)
    return text if "\n" not in text else "\n" + text


def _what_was_raised(error: Exception) -> str:
    """Type and message of an error, and the student's own line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
    own = next((frame for frame in frames if "ipykernel" in frame.filename or "ipython" in frame.filename), None)
    own = own or (frames[0] if frames else None)
    where = f" in line {own.lineno}: {own.line}" if own and own.line else ""
    return f"it raised {type(error).__name__}: {error}{where}"
