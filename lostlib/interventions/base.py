"""What an intervention is: a frozen dataclass with a short text form, and two openings into a running model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lostlib.attention import Rows, Run
from lostlib.names import nearest

Numbers = tuple[int, ...] | None  # layers, heads or dimensions; None means all, or what fits the model
LISTS = {"layers": "n_layers", "heads": "n_heads", "dims": "hidden_size"}  # parameter -> how many a model has

KINDS: dict[str, type[Intervention]] = {}  # name -> class; every named subclass enters itself


def parse_numbers(text: str) -> Numbers:
    """`0+3+5-8` -> (0, 3, 5, 6, 7, 8); `all` -> None.

    >>> parse_numbers("0+3+5-8")
    (0, 3, 5, 6, 7, 8)
    """
    if text == "all":
        return None
    found: list[int] = []
    for part in text.split("+"):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise ValueError(f"{text!r} is no list of numbers; write for example 0+3+5-8")
        found += range(int(first), int(last if dash else first) + 1)
    return tuple(sorted(set(found)))


def format_numbers(numbers: Numbers) -> str:
    """The inverse of `parse_numbers`: runs of three or more become a range.

    >>> format_numbers((0, 1, 3, 4, 5))
    '0+1+3-5'
    """
    if numbers is None:
        return "all"
    parts: list[str] = []
    rest = list(numbers)
    while rest:
        run = next(n for n in range(len(rest), 0, -1) if rest[n - 1] == rest[0] + n - 1)
        run = run if run > 2 else 1
        parts.append(f"{rest[0]}-{rest[run - 1]}" if run > 1 else str(rest[0]))
        rest = rest[run:]
    return "+".join(parts)


@dataclass(frozen=True)
class Intervention:
    """Base class. Subclasses are frozen dataclasses; their fields are their parameters, in printed order."""

    name: ClassVar[str] = ""
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}  # parameter -> its named values
    printed: ClassVar[tuple[str, ...]] = ()  # printed also when they have their default value
    random: ClassVar[bool] = False  # does the seed matter

    def __init_subclass__(cls) -> None:
        if cls.name:
            KINDS[cls.name] = cls

    def __post_init__(self) -> None:
        for key, allowed in self.choices.items():
            if (given := getattr(self, key)) not in allowed:
                raise ValueError(
                    f"{self.name}: {key}={given!r} is not one of {', '.join(allowed)}{nearest(given, allowed)}"
                )
        for field in fields(self):
            if field.name in LISTS and (numbers := getattr(self, field.name)) is not None:
                object.__setattr__(self, field.name, tuple(sorted({int(n) for n in numbers})))

    def __str__(self) -> str:
        shown = {
            f.name: format_numbers(value) if f.name in LISTS else str(value)
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default or f.name in self.printed
        }
        return self.name + (":" + ",".join(f"{k}={v}" for k, v in shown.items()) if shown else "")

    @staticmethod
    def parse(text: str | Intervention) -> Intervention:
        """The intervention a text form names; an intervention is returned as it is.

        >>> from lostlib import Intervention
        >>> shuffled = Intervention.parse("sap:weights=permuted,layers=3-5")
        >>> shuffled.keys, shuffled.layers
        ('visual', (3, 4, 5))
        >>> str(shuffled)
        'sap:keys=visual,weights=permuted,layers=3-5'
        >>> Intervention.parse("sap:weights=gausian")
        Traceback (most recent call last):
        ValueError: sap: weights='gausian' is not one of gaussian, gaussian_abs, uniform, permuted, static, \
gaussian_logits, zero; did you mean 'gaussian'?
        """
        if isinstance(text, Intervention):
            return text
        parts = [_parse_one(part.strip()) for part in text.split("&")]
        return parts[0] if len(parts) == 1 else Together(tuple(parts))

    # -- what it does -------------------------------------------------------------------------------------------------

    def prepared(self, model: Any) -> Intervention:
        """The same intervention with what depends on the model filled in; called once, before anything is changed."""
        return self

    @property
    def edits(self) -> list[Callable[[Tensor, Tensor, Rows], Tensor]]:
        """Changes of attention weights, in order."""
        return []

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""
        return []

    def check(self, model: Any) -> None:
        """Refuse parameters this model cannot have, before anything runs."""
        for key, size in LISTS.items():
            numbers, count = getattr(self, key, None) or (), getattr(model, size)
            if numbers and max(numbers) >= count:
                raise ValueError(f"{self}: {key} goes up to {max(numbers)}, but {model.name} has {key} 0-{count - 1}")


@dataclass(frozen=True)
class Nothing(Intervention):
    """The baseline: everything runs through the same attention function, and nothing is changed."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True)
class Together(Intervention):
    """Several interventions, applied in order."""

    parts: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        for part in self.parts:
            if isinstance(part, Nothing | Together) or len(self.parts) < 2:
                raise ValueError(
                    f"only interventions other than 'none' can be joined by ' & ', got {[str(p) for p in self.parts]}"
                )

    def __str__(self) -> str:
        return " & ".join(str(part) for part in self.parts)

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Does the seed matter to one of them."""
        return any(part.random for part in self.parts)

    @property
    def edits(self) -> list[Callable[[Tensor, Tensor, Rows], Tensor]]:
        """Changes of attention weights, in order."""
        return [edit for part in self.parts for edit in part.edits]

    def prepared(self, model: Any) -> Intervention:
        """The same interventions with what depends on the model filled in."""
        return Together(tuple(part.prepared(model) for part in self.parts))

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""
        return [handle for part in self.parts for handle in part.attach(run)]

    def check(self, model: Any) -> None:
        """Refuse parameters this model cannot have."""
        for part in self.parts:
            part.check(model)


def chosen_layers(run: Run, numbers: Numbers) -> list[tuple[int, nn.Module]]:
    """(layer, attention module) of the chosen layers."""
    return [(i, module) for i, module in enumerate(run.model.attention_modules) if numbers is None or i in numbers]


def _parse_one(text: str) -> Intervention:
    name, _, rest = text.partition(":")
    if name not in KINDS:
        raise ValueError(
            f"unknown intervention {name!r} in {text!r}; there are {', '.join(KINDS)}{nearest(name, KINDS)}"
        )
    kind, values = KINDS[name], {}
    known = [f.name for f in fields(kind)]
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in known or not equals or key in values:
            raise ValueError(
                f"{name}: {part!r} is not one (new) key=value with a key of {', '.join(known) or 'none'}"
                f"{nearest(key, known)}"
            )
        values[key] = _value(key, value)
    return kind(**values)


def _value(key: str, text: str) -> Any:
    if key in LISTS:
        return parse_numbers(text)
    try:
        return float(text)
    except ValueError:
        return text
