"""The matrix of a projection, also of one that keeps its weights packed or elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def matrix(projection: nn.Module, dtype: torch.dtype) -> Tensor:
    """What a linear layer multiplies with (out, in).

    Quantized layers keep it in forms of their own, often not under the name `weight`, and offloaded ones have it only
    while they compute. Both tell it when they are asked for the unit vectors, which are handed over in `dtype`.
    """
    weight = getattr(projection, "weight", None)
    if isinstance(weight, Tensor) and weight.is_floating_point() and weight.element_size() > 1 and not weight.is_meta:
        return weight.detach()
    width, bias = getattr(projection, "in_features", None), getattr(projection, "bias", None)
    if width is None:
        raise RuntimeError(
            f"{type(projection).__name__} has neither floating-point weights nor in_features to ask with"
        )
    held = [*projection.parameters(), *projection.buffers()]
    if any(part.is_meta for part in held) and not hasattr(projection, "_hf_hook"):  # with accelerate's they come
        raise RuntimeError(
            f"the weights of {type(projection).__name__} are not in memory, and nothing brings them there"
        )
    units = torch.eye(width, dtype=dtype, device=next((part.device for part in held if not part.is_meta), None))
    if bias is not None:  # some are so large that nothing would be left of the weights beside them
        projection.bias = None  # type: ignore[assignment]
    try:
        return projection.forward(units).T
    finally:
        if bias is not None:
            projection.bias = bias
