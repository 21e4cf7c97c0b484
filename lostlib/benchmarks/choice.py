"""A benchmark and how it is asked, in one text."""

from __future__ import annotations

from typing import NamedTuple

from lostlib.benchmarks import prompts
from lostlib.benchmarks.registry import RULES
from lostlib.benchmarks.rules import Rules
from lostlib.text import check, joined, nearest, parse, slug, write


class Choice(NamedTuple):
    """A benchmark and how it is asked; as text `name`, `name:prompt=lmms,variant=flip,revision=main` or `name:flip`."""

    name: str
    prompt: str = "default"
    variant: str | None = None  #: the first if None
    revision: str | None = None  #: of the data set; the newest if None

    @classmethod
    def parse(cls, text: str, **more: str | None) -> Choice:
        """Of a text, and what is given beside it; what does not exist is an error that names the nearest.

        >>> str(Choice.parse("3dsrbench:flip, prompt=default"))
        '3dsrbench:variant=flip'
        """
        name, given = parse(text, cls._keys, bare="variant")
        given = joined(text, given, {key: value for key, value in more.items() if value not in (None, "default")})
        choice = cls(name, **given)
        prompts.style(choice.prompt, None)
        if choice.rules.rows and choice.revision:
            raise ValueError(f"{text}: {name} is made here, so it takes no revision")
        if choice.named_variant not in (known := choice.rules.variants):
            there = f"there are {', '.join(known)}" if len(known) > 1 else "there is only one"
            raise ValueError(f"{name} has no variant {choice.variant!r}; {there}{nearest(choice.variant, known)}")
        return choice

    @classmethod
    def _keys(cls, name: str) -> tuple[str, ...]:
        check("benchmark", name, RULES)
        return cls._fields[1:]

    @property
    def rules(self) -> Rules:
        """What is declared of the benchmark."""
        return RULES[self.name]

    @property
    def named_variant(self) -> str:
        """The variant, also where none was named."""
        return self.variant or self.rules.variants[0]

    @property
    def label(self) -> str:
        """Its name beside those of other mini benchmarks, what is not usual in brackets.

        >>> Choice.parse("mini-mathvista:variant=scenes").label
        'mathvista (scenes)'
        """
        return self.rules.label + (f" ({', '.join(self._unusual.values())})" if self._unusual else "")

    @property
    def slug(self) -> str:
        """The label as part of a key, see `lostlib.text.slug`.

        >>> Choice.parse("mini-mathvista:variant=scenes").slug
        'mathvista_scenes'
        """
        return slug(self.label)

    @property
    def _unusual(self) -> dict[str, str]:
        usual = {"prompt": "default", "variant": self.rules.variants[0], "revision": None}
        return {key: value for key in usual if (value := self._asdict()[key]) not in (None, usual[key])}

    def __str__(self) -> str:
        return write(self.name, self._unusual)
