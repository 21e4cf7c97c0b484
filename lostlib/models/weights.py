"""The matrix of a projection, also of one that keeps its weights packed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def matrix(projection: nn.Module, dtype: torch.dtype) -> Tensor:
    """What a linear layer multiplies with (out, in).

    Quantized layers keep it in forms of their own, often not under the name `weight`. Each tells it when asked for the
    unit vectors, which are handed over in `dtype`. Weights that are not in memory are an error.
    """
    weight = getattr(projection, "weight", None)
    if isinstance(weight, Tensor) and weight.is_floating_point() and weight.element_size() > 1:
        if weight.is_meta:
            raise ValueError(f"the weights of {type(projection).__name__} are not in memory but offloaded")
        return weight.detach()
    width = getattr(projection, "in_features", None)
    held = next((t for t in (*projection.parameters(), *projection.buffers()) if t.numel()), None)
    if width is None or held is None:
        raise ValueError(f"{type(projection).__name__} has neither floating-point weights nor in_features to ask with")
    units = torch.eye(width, dtype=dtype, device=held.device)
    told = projection.forward(units)
    bias = getattr(projection, "bias", None)
    return (told if bias is None else told - bias).T
