"""Noise in place of the attention module's update or its matrices, and attention without position encoding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lostlib import forms
from lostlib.interventions.base import Intervention, chosen_layers
from lostlib.models import keyed_random
from lostlib.models.attention import Run
from lostlib.models.weights import matrix


def noise_like(update: Tensor, items: Tensor, positions: Tensor, layer: int, seed: int) -> Tensor:
    """Standard normal numbers (B, S, H) keyed by (seed, item, layer, token position, channel)."""
    channels = torch.arange(update.shape[-1], device=update.device)
    rows = keyed_random.chain(
        seed, keyed_random.text_key("noise_delta"), items[:, None], layer, positions, device=update.device
    )  # (B, S)
    return keyed_random.normal(keyed_random.chain(rows[..., None], channels, device=update.device))


class NoiseDelta(Intervention, forms.NoiseDelta):
    """Gaussian noise in place of attn_out, the attention module's update."""

    def scaled(self, noise: Tensor, update: Tensor) -> Tensor:
        """The noise at the wanted scale for one finished update (..., S, H), as residual metrics use it."""
        if self.scale == "unit":
            return noise
        dims = (-1,) if self.scale == "token" else (-2, -1)
        return noise * (update.norm(dim=dims, keepdim=True) / noise.norm(dim=dims, keepdim=True))

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""

        def replace(layer: int) -> Callable:
            def hook(module: nn.Module, args: tuple, output: tuple) -> tuple:
                here = run.on(output[0].device)
                update, positions = output[0].float(), here.query_positions()
                noise = noise_like(update, here.items, positions, layer, run.seed)
                noise = (
                    self._causal(noise, update, run, layer, positions)
                    if self.scale == "frobenius"
                    else self.scaled(noise, update)
                )
                return torch.where((positions >= 0)[..., None], noise.to(output[0].dtype), output[0]), *output[1:]

            return hook

        return [module.register_forward_hook(replace(i), prepend=True) for i, module in chosen_layers(run, self.layers)]

    def _causal(self, noise: Tensor, update: Tensor, run: Run, layer: int, positions: Tensor) -> Tensor:
        squares = torch.stack([update.square().sum(-1), noise.square().sum(-1)]) * (positions >= 0)  # (2, B, S)
        sums = squares.cumsum(-1) + run.memory.get((self, layer), 0.0)
        run.memory[self, layer] = sums[..., -1:]
        return noise * torch.sqrt(sums[0] / sums[1].clamp_min(1e-30))[..., None]


class NoiseQKV(Intervention, forms.NoiseQKV):
    """Gaussian matrices in place of W_Q, W_K and W_V, each with its matrix's own mean and standard deviation."""

    @staticmethod
    def matrix(weight: Tensor, layer: int, which: str, seed: int) -> Tensor:
        """The noise matrix for one weight matrix (out, in)."""
        rows, columns = (torch.arange(n, device=weight.device) for n in weight.shape)
        drawn = keyed_random.normal(
            keyed_random.chain(seed, keyed_random.text_key(which), layer, rows[:, None], columns, device=weight.device)
        )
        wide = weight.detach().float()
        return (wide.mean() + wide.std() * drawn).to(weight.dtype)

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""

        def replace(noise: Tensor) -> Callable:
            return lambda module, args, output: nn.functional.linear(args[0], noise, module.bias)

        handles = []
        for i, attention in chosen_layers(run, self.layers):
            for which in ("q_proj", "k_proj", "v_proj"):
                projection = getattr(attention, which)
                noise = self.matrix(matrix(projection, run.model.dtype), i, which, run.seed)
                handles.append(projection.register_forward_hook(replace(noise), prepend=True))
        return handles


def without_rotation(position_embeddings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """(cos, sin) of no rotation at all."""
    cos, sin = position_embeddings
    return torch.ones_like(cos), torch.zeros_like(sin)


class NoRope(Intervention, forms.NoRope):
    """No rotary position encoding: every layer's (cos, sin) is replaced by (1, 0)."""

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""

        def still(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            return args, {**kwargs, "position_embeddings": without_rotation(kwargs["position_embeddings"])}

        return [
            module.register_forward_pre_hook(still, with_kwargs=True) for _, module in chosen_layers(run, self.layers)
        ]
