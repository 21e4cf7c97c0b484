"""Visual attention sinks: which tokens are sinks.

A sink token holds a large part of its energy in the model's few sink dimensions (see `dimensions`) and draws much
attention. VAR takes a share of that attention, in the heads that look at the image, and gives it to the other visual
tokens. Kang, Kim, Kim and Hwang, "See What You Are Told: Visual Attention Sink in Large Multimodal Models", ICLR 2025.

Everything here works on masks, never on (start, length): samples of a batch have offsets of their own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lostlib.forms import energy_share
from lostlib.models.attention import Rows, Run
from lostlib.models.stream import module_input
from lostlib.sinks.dimensions import MASSIVE, RATIO, SinkWarning

EPS = 1e-6  # inside phi's root, as in the published code; not the model's own
CROWDED = 0.2  # share of visual tokens beyond which "sink" says little


# ---- which tokens are sinks -----------------------------------------------------------------------------------------


def phi(hidden: Tensor, dims: Iterable[int]) -> Tensor:
    """The sink dimension value: how much the strongest sink dimension stands out of a token's residual stream.

    ``phi(x) = max over d in dims of |x[d]| / sqrt(mean(x^2) + 1e-6)``, without the layer norm's gain. It ignores scale
    and sign of x and lies in [0, sqrt(H)]; phi^2 / H is the share of the token's energy in that dimension.

    Parameters
    ----------
    hidden : Tensor (..., H)
        The residual stream entering a layer (resid_pre), any floating dtype; computed in float32.
    dims : iterable of int
        The model's sink dimensions, in any order.

    Returns
    -------
    Tensor (...), float32

    Examples
    --------
    >>> phi(torch.tensor([[3.0, 0.0, 0.0, 0.0], [1.0, -1.0, 1.0, 1.0]]), [0])
    tensor([2.0000, 1.0000])
    """
    chosen, size = list(dims), hidden.shape[-1]
    if not chosen or min(chosen) < 0 or max(chosen) >= size:
        raise ValueError(f"sink dimensions {chosen} do not fit a hidden state of shape {tuple(hidden.shape)}")
    x = hidden.float()
    return x[..., chosen].abs().amax(-1) * torch.rsqrt(x.square().mean(-1) + EPS)


def threshold(tau: float | str, hidden_size: int) -> float:
    """tau for phi at this hidden size: a share s of the energy is ``sqrt(s H)``; warns where phi cannot reach tau.

    >>> round(threshold("9.8%", 4096), 1)
    20.0
    """
    share = energy_share(tau)
    value = float(tau) if share is None else math.sqrt(share * hidden_size)
    if value > math.sqrt(hidden_size) * (1 + 1e-6):
        warnings.warn(
            f"no token can be a sink at tau={value:g}: with {hidden_size} dimensions phi is at most "
            f"{math.sqrt(hidden_size):.1f}; give tau as a share of the token's energy, for example 10%",
            SinkWarning,
            stacklevel=2,
        )
    return value


@dataclass(frozen=True)
class Detector:
    """Which tokens are sinks of a layer, by the residual stream entering it."""

    dims: tuple[int, ...] = ()  #: the sink dimensions, for kind `phi`
    tau: float = 20.0  #: phi from which on a token is a sink (see `threshold`)
    strict: bool = False  #: phi must exceed tau
    #: `phi`; or `massive`, the criterion of Sun et al. on any dimension, that the largest ``|x[d]|`` is at least 100
    #: and at least 1000 times the median ``|x|``
    kind: str = "phi"
    generated: bool = True  #: can tokens that the model generates be sinks

    def mask(self, hidden: Tensor) -> Tensor:
        """(..., H) residual stream -> (...) bool."""
        if self.kind == "massive":
            size = hidden.float().abs()
            return (size.amax(-1) >= MASSIVE) & (size.amax(-1) >= RATIO * size.median(-1).values)
        value = phi(hidden, self.dims)
        return value > self.tau if self.strict else value >= self.tau

    def follow(self, run: Run, layers: Iterable[int]) -> list[RemovableHandle]:
        """Hooks that keep these layers' sink masks (B, K) in the run's memory, with a column a decoded token.

        A token's residual stream never changes once computed, so a mask is extended and not computed again. Padding is
        never a sink. Warns once when more than a fifth of a layer's visual tokens are sinks.
        """
        told: list[int] = []

        def before(layer: int) -> Callable:
            def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
                held = run.memory.get((self, layer))
                if held is not None and held.shape == run.visual.shape:  # another intervention follows the same sinks
                    return
                new = self.mask(module_input(args, kwargs)) & (run.query_positions() >= 0)  # (B, Q)
                if held is None:
                    run.memory[self, layer] = new
                    if not told and warn_if_crowded(new & run.visual, run.visual, layer):
                        told.append(layer)
                else:
                    run.memory[self, layer] = torch.cat([held, new & self.generated], dim=1)

            return hook

        return [run.model.layers[layer].register_forward_pre_hook(before(layer), with_kwargs=True) for layer in layers]

    def found(self, rows: Rows) -> Tensor:
        """(B, K) bool: the sinks among the keys of these attention rows, text and visual."""
        return rows.memory[self, rows.layer]


def warn_if_crowded(sinks: Tensor, visual: Tensor, layer: int) -> bool:
    """Warn when more than a fifth of the visual tokens are sinks; did it."""
    share = float(sinks.sum() / visual.sum().clamp_min(1))
    if share > CROWDED:
        warnings.warn(
            f"{share:.0%} of the visual tokens are sinks at layer {layer}; a sink is meant to be an exception, so "
            "raise tau or look at another detector",
            SinkWarning,
            stacklevel=3,
        )
    return share > CROWDED
