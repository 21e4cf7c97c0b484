"""What an intervention does: it has two openings into a running model. How it is written is in `lostlib.forms`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lostlib import forms
from lostlib.forms import LISTS, Form, Numbers
from lostlib.models.attention import Rows, Run


class Intervention(Form):
    """Base class of what acts; parameters and text form are those of the form in `lostlib.forms` that it inherits."""

    kinds: ClassVar[dict[str, type[Form]]] = {}
    on_pictures: ClassVar[bool] = False  # does it do nothing without image tokens

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
        """Refuse what this model cannot have, before anything runs."""
        if self.on_pictures and not model.sees:
            raise ValueError(f"{self} changes what image tokens do, and {model.name} sees no pictures")
        for key, size in LISTS.items():
            numbers, count = getattr(self, key, None) or (), getattr(model, size)
            if numbers and max(numbers) >= count:
                raise ValueError(f"{self}: {key} goes up to {max(numbers)}, but {model.name} has {key} 0-{count - 1}")


class Nothing(Intervention, forms.Nothing):
    """The baseline: everything runs through the same attention function, and nothing is changed."""


class Together(Intervention, forms.Together):
    """Several interventions, applied in order."""

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
