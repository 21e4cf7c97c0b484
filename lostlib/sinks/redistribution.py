"""What sinks contribute to other tokens, and moving the attention that they draw."""

from __future__ import annotations

import torch
from torch import Tensor

from lostlib.forms import TARGETS, settings
from lostlib.text import among


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

    Raises
    ------
    ValueError
        For shapes that do not fit, masks that are not bool, or an unknown target or preset.

    Examples
    --------
    >>> row = torch.tensor([0.30, 0.05, 0.20, 0.10, 0.05, 0.15, 0.10, 0.05])
    >>> sinks, visual = torch.zeros(1, 8).bool(), torch.zeros(1, 8).bool()
    >>> sinks[0, [0, 2]] = visual[0, 2:6] = True
    >>> new, selected = redistribute(row[None, None, None], sinks, visual, torch.ones(1, 1).bool())
    >>> print([round(x, 2) for x in new.flatten().tolist()])
    [0.12, 0.05, 0.08, 0.2, 0.1, 0.3, 0.1, 0.05]
    """
    rules = settings(preset, p=p, rho=rho, min_mass=min_mass)
    if target not in TARGETS:
        raise ValueError(f"target={target!r} is not one of {among(target, TARGETS)}")
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
