"""Visual attention sinks: which tokens are sinks, and moving the attention they draw (VAR).

A sink token holds a large part of its energy in the model's few sink dimensions (see `sinkdims.py`) and draws much
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

from lostlib.attention import Rows, Run
from lostlib.forms import PRESETS, TARGETS, Preset, energy_share, settings
from lostlib.names import nearest
from lostlib.residual import module_input
from lostlib.sinkdims import MASSIVE, RATIO, SinkWarning, find_dimensions, published, sink_dimensions

__all__ = [
    "PRESETS",
    "Detector",
    "Preset",
    "SinkWarning",
    "energy_share",
    "find_dimensions",
    "phi",
    "published",
    "redistribute",
    "settings",
    "sink_dimensions",
    "threshold",
    "value_norms",
]

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
    """Which tokens are sinks of a layer, by the residual stream entering it.

    dims       the sink dimensions, for kind `phi`
    tau        phi from which on a token is a sink (see `threshold`)
    strict     phi must exceed tau
    kind       `phi`; or `massive`, the criterion of Sun et al. on any dimension: the largest |x[d]| is at least 100 and
               at least 1000 times the median |x|
    generated  can tokens that the model generates be sinks
    """

    dims: tuple[int, ...] = ()
    tau: float = 20.0
    strict: bool = False
    kind: str = "phi"
    generated: bool = True

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


# ---- redistribution -------------------------------------------------------------------------------------------------


def redistribute(
    probs: Tensor,
    sinks: Tensor,
    visual: Tensor,
    queries: Tensor,
    *,
    p: float | None = None,
    rho: float | None = None,
    min_mass: float | None = None,
    target: str = "visual",
    preset: str | None = None,
    require_visual_sink: bool = True,
) -> tuple[Tensor, Tensor]:
    """Move attention from sinks to other tokens in the rows of image-centric heads.

    For each row (sample, head, query) with weights a over the keys:

    1. visual mass ``V = sum of a over visual keys``, non-sink mass N = the same without sinks, sink mass S = sum of a
       over all sinks, text and visual;
    2. the row is selected when its query is one of `queries`, ``V >= min_mass``, the visual non-sink share
       ``N / V >= rho``, something can receive, and the sample has a visual sink (see `require_visual_sink`);
    3. in selected rows sinks keep ``(1 - p) a``, and ``p S`` is shared among the target's keys in proportion to their
       own weights. All other weights, and all other rows, stay as they are, bit for bit.

    Rows keep their sums and zeros stay zero. Applying it again moves p of what is left.

    Parameters
    ----------
    probs : Tensor (B, heads, Q, K)
        Attention weights after the softmax, padding and future keys 0; computed in float32 at least.
    sinks, visual : bool Tensor (B, K)
        Which keys are sinks (text and visual; never padding), and which are image patches.
    queries : bool Tensor (B, Q)
        Which rows may be changed; in VAR the text tokens. Padding must not be among them.
    p : float
        Fraction of the sinks' attention that is moved, in [0, 1]; 0.6 by default. The published code's `p` is 1 - p.
    rho : float
        0.5 by default; the published code's `rho` is 1 - rho. Above 1 nothing is selected.
    min_mass : float
        0.2 by default.
    target : str
        Who receives: ``"visual"`` non-sink keys, ``"text"`` (non-visual) ones or ``"both"``.
    preset : str, optional
        ``"paper"`` (the defaults) or ``"official_code"``: p = 0.4, and the share is taken as
        ``(V - N) / sum of (a + 1e-6) <= 1 - rho``. An explicit value wins.
    require_visual_sink : bool
        False: a sample with text sinks only is changed, too.

    Returns
    -------
    (Tensor (B, heads, Q, K) of probs' dtype, bool Tensor (B, heads, Q) selected)

    >>> row = torch.tensor([0.30, 0.05, 0.20, 0.10, 0.05, 0.15, 0.10, 0.05])
    >>> sinks, visual = torch.zeros(1, 8).bool(), torch.zeros(1, 8).bool()
    >>> sinks[0, [0, 2]] = visual[0, 2:6] = True
    >>> new, selected = redistribute(row[None, None, None], sinks, visual, torch.ones(1, 1).bool())
    >>> print([round(x, 2) for x in new.flatten().tolist()])
    [0.12, 0.05, 0.08, 0.2, 0.1, 0.3, 0.1, 0.05]
    """
    rules = settings(preset, p=p, rho=rho, min_mass=min_mass)
    if target not in TARGETS:
        raise ValueError(f"target={target!r} is not one of {', '.join(TARGETS)}{nearest(target, TARGETS)}")
    _check_shapes(probs, sinks, visual, queries)
    a = probs if probs.dtype == torch.float64 else probs.float()

    def mass(keys: Tensor, each: float = 0.0) -> Tensor:  # (B, K) -> (B, heads, Q)
        return ((a + each) * keys[:, None, None, :]).sum(-1)

    total, other, drawn = mass(visual), mass(visual & ~sinks), mass(sinks)
    receivers = {"visual": visual & ~sinks, "text": ~visual & ~sinks, "both": ~sinks}[target]
    receiving = other if target == "visual" else mass(receivers)
    if rules.eps:
        central = mass(visual & sinks) / mass(visual, rules.eps) <= 1 - rules.rho
    else:
        central = other / total >= rules.rho  # no visual mass: 0 / 0 is not
    found = (sinks & visual).any(-1) if require_visual_sink else torch.ones_like(queries[:, 0])
    selected = queries[:, None, :] & found[:, None, None] & (total >= rules.min_mass) & central
    selected &= (total > 0) & (receiving > 0)

    share = a * receivers[:, None, None, :] / receiving.masked_fill(~selected, 1.0)[..., None]
    kept = a.new_ones(sinks.shape).masked_fill(sinks, 1 - rules.p)[:, None, None, :]
    moved = a * kept + (rules.p * drawn)[..., None] * share
    return torch.where(selected[..., None], moved.to(probs.dtype), probs), selected


def _check_shapes(probs: Tensor, sinks: Tensor, visual: Tensor, queries: Tensor) -> None:
    shapes = [tuple(t.shape) for t in (probs, sinks, visual, queries)]
    batch, _, rows, keys = probs.shape if probs.ndim == 4 else (-1, 0, 0, 0)
    if shapes[1:] != [(batch, keys), (batch, keys), (batch, rows)]:
        raise ValueError(
            "expected probs (B, heads, Q, K), sinks and visual (B, K), queries (B, Q), got shapes "
            + ", ".join(map(str, shapes))
        )
    if any(t.dtype != torch.bool for t in (sinks, visual, queries)):
        raise ValueError(f"sinks, visual and queries must be bool, got {sinks.dtype}, {visual.dtype}, {queries.dtype}")


# ---- what sinks contribute ------------------------------------------------------------------------------------------


def value_norms(values: Tensor, output: Tensor) -> Tensor:
    """How much each key would write to the residual stream at weight 1: ``|v W_O|`` per head.

    A key's contribution to a query is ``a |v W_O|`` for its attention weight a. The norm comes from the Gram matrix
    ``G = W_O^T W_O`` of a head's part of the output projection, ``|v W_O|^2 = v G v^T``, so no vector is formed.

    Parameters
    ----------
    values : Tensor (B, kv heads, K, d)
        Value vectors; query head h reads kv head h // (heads / kv heads).
    output : Tensor (H, heads * d)
        The output projection's weight.

    Returns
    -------
    Tensor (B, heads, K), float32
    """
    size, width = values.shape[-1], output.shape[-1]
    heads = width // size
    per_head = output.float().unflatten(1, (heads, size))  # (H, heads, d)
    gram = torch.einsum("zhd,zhe->hde", per_head, per_head)
    v = values.float().repeat_interleave(heads // values.shape[1], dim=1)
    return torch.einsum("bhkd,hde,bhke->bhk", v, gram, v).clamp_min(0).sqrt()
