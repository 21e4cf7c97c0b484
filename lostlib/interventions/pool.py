"""Visual tokens that are copies of one another: the far end of a vision tower that tells every token everything."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lostlib import forms
from lostlib.interventions.base import Intervention
from lostlib.models.attention import Run
from lostlib.models.stream import module_input


def pooled(hidden: Tensor, visual: Tensor) -> Tensor:
    """Each visual token (visual (B, S) bool) as the mean of its sequence's visual tokens; hidden is (B, S, H).

    >>> import torch
    >>> x = torch.tensor([[[1.0], [3.0], [7.0]]])
    >>> pooled(x, torch.tensor([[True, True, False]])).flatten().tolist()
    [2.0, 2.0, 7.0]
    """
    chosen = visual[..., None]
    mean = (hidden * chosen).sum(1, keepdim=True) / chosen.sum(1, keepdim=True).clamp_min(1)
    return hidden.where(~chosen, mean.to(hidden.dtype))


class Pool(Intervention, forms.Pool):
    """Every visual token enters the first decoder layer as the mean of the item's visual tokens."""

    on_pictures = True

    def attach(self, run: Run) -> list[RemovableHandle]:
        """A hook on the first decoder layer."""

        def replace(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            hidden = module_input(args, kwargs)
            changed = pooled(hidden, run.on(hidden.device).visual[:, -run.length :])
            return ((changed, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": changed})

        return [run.model.layers[0].register_forward_pre_hook(replace, with_kwargs=True, prepend=True)]
