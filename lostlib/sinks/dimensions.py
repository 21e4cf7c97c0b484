"""Sink dimensions: the few coordinates of the residual stream in which a model's first token is huge.

They belong to the language backbone and not to the input (Sun et al. 2024, "Massive Activations in Large Language
Models"). `find_dimensions` measures them on any model with one short prompt: a first token sees nothing but itself, so
what follows it does not matter. `PUBLISHED` keeps what others have reported; where the report is the VAR paper's or its
code's own, it saves the measurement, everything else there is a candidate to compare with.
"""

from __future__ import annotations

import warnings
from fnmatch import fnmatch
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lostlib.benchmarks.items import Item
from lostlib.models.stream import LayerStream, seen, watch

MASSIVE = 100.0  # Sun et al.: a massive activation exceeds this ...
RATIO = 1000.0  # ... and is this many times the median magnitude of its token
MOST = 8  # dimensions, where only the largest gap decides
TRUSTED = ("code", "figure")


class SinkWarning(UserWarning):
    """Sink dimensions that are a guess, or a detector that finds no sinks in this model or too many."""


class Published(NamedTuple):
    """What has been reported about one backbone."""

    backbone: str
    hidden: int
    dims: tuple[int, ...]
    evidence: str  #: code is the VAR paper's, figure its Figure 7; inferred from the backbone; reported by others
    models: tuple[str, ...] = ()  #: patterns of the last part of a hub id, small letters


PUBLISHED = (
    Published("LLaMA-2-7B", 4096, (1415, 2533), "code", ("llava-*1.5-7b*", "vicuna-7b*", "llama-2-7b*")),
    Published("LLaMA-2-13B", 5120, (2100, 4743), "code", ("llava-*1.5-13b*", "llava-v1.6-vicuna-13b*", "llama-2-13b*")),
    Published("LLaMA-2-13B in VILA", 5120, (2100, 4743), "inferred", ("vila*13b*",)),
    Published("Qwen2-7B in Qwen2-VL", 3584, (458, 2570), "figure", ("qwen2-vl-7b*",)),
    Published("InternLM2.5-7B in InternVL2", 4096, (3584,), "figure", ("internvl2-8b*",)),
    Published("Qwen2.5-7B", 3584, (458, 2570), "reported", ("qwen2.5-vl-7b*", "qwen2.5-omni-7b*", "qwen2.5-7b*")),
    Published("Qwen2.5-3B", 2048, (318, 1819, 1874), "reported", ("qwen2.5-vl-3b*",)),
    Published("Qwen2.5-32B", 5120, (3094, 4675), "reported", ("qwen2.5-vl-32b*",)),
    Published("Qwen2-1.5B", 1536, (534, 940, 1073), "reported", ("qwen2-vl-2b*",)),
    Published("Qwen3-1.7B", 2048, (1401, 1793, 1999), "reported", ("qwen3-vl-2b*",)),
    Published("Qwen3-4B", 2560, (0, 4), "reported", ("qwen3-vl-4b*",)),
    Published("Qwen3-8B", 4096, (1838, 2276), "reported", ("qwen3-vl-8b*",)),
    Published("LLaMA-3-8B", 4096, (788, 1384, 4062), "reported", ("llama-3-8b*", "*llama-3.1-8b*", "meta-llama-3-8b*")),
    Published("LLaMA-3-70B", 8192, (1532, 6857, 7306), "reported", ("*llama-3-70b*",)),
    Published("Mistral-7B", 4096, (2070,), "reported", ("mistral-7b*",)),
    Published("Mixtral-8x7B", 4096, (2070, 3398), "reported", ("mixtral-8x7b*",)),
    Published("OPT-6.7B", 4096, (2394,), "reported", ("opt-6.7b*",)),
    Published("LLaMA-2-7B in OpenVLA", 4096, (1076, 1512), "reported", ("openvla-7b*",)),
)


def published(name: str, hidden: int) -> Published | None:
    """What has been reported about a model of this name (or hub id) and hidden size; None where nothing has.

    >>> published("llava-hf/llava-1.5-7b-hf", 4096).dims
    (1415, 2533)
    """
    last = name.rstrip("/").split("/")[-1].lower()
    rows = [row for row in PUBLISHED if row.hidden == hidden and any(fnmatch(last, pattern) for pattern in row.models)]
    return rows[0] if rows else None


class Found(NamedTuple):
    """Sink dimensions of a model and how they were found."""

    dims: tuple[int, ...]  #: in ascending order
    rule: str  #: sun, tau or gap, see `find_dimensions`
    #: of each dim, the mean of ``|x[d]| / RMS(x)`` over first tokens, at most sqrt(hidden size)
    strength: tuple[float, ...]
    onset: int  #: the first layer whose input shows them


def sink_dimensions(model: Any) -> tuple[int, ...]:
    """A model's sink dimensions: the VAR paper's or its code's where they name this model, else measured.

    Warns where the first token has no dimension that stands out, so that there may be no sinks to speak of.
    """
    row = published(model.name, model.hidden_size)
    if row is not None and row.evidence in TRUSTED:
        return row.dims
    found = find_dimensions(model)
    if found.rule == "gap":
        warnings.warn(
            f"{model.name} has no massive activations on its first token (the strongest dimension holds "
            f"{max(found.strength) ** 2 / model.hidden_size:.0%} of its energy), so the sink dimensions {found.dims} "
            "are a guess; give dims to choose others",
            SinkWarning,
            stacklevel=2,
        )
    return found.dims


def find_dimensions(model: Any, items: list[Item] | None = None, tau: float = 20.0) -> Found:
    """Measure a model's sink dimensions on first tokens.

    1. x is the first token's residual stream entering each layer.
    2. `sun`: the dimensions with ``|x[d]| > 100`` and ``|x[d]| >= 1000 median|x|`` in at least half of the layers from
       the first that has any, the last layer left out.
    3. Where there are none, dimensions are ranked by the mean of ``|x[d]| / RMS(x)`` over the layers from the first
       whose largest value reaches half of the maximum, the last left out. `tau`: those that reach tau.
    4. Where there are none either, `gap`: those before the largest drop (as a factor) among the first nine. There
       always is one, so judge by `strength` whether it means anything.

    Parameters
    ----------
    model : LostModel
    items : list of Item, optional
        What to ask; one short question without an image by default. Values are averaged over the items.
    tau : float
        Of step 3.
    """
    asked = items or [Item(uid="sink dimensions", images=(), prompt="What color is the sky?", answer="", kind="open")]
    batch = model.encode(asked)
    place = torch.arange(len(asked), device=model.device), batch.real.int().argmax(1)
    layers: list[Tensor] = []

    def visit(layer: int, stream: LayerStream) -> None:
        layers.append(seen(stream.resid_pre)[place].float().abs())

    with watch(model, each=visit):
        model.forward(batch)
    return _choose(torch.stack(layers).cpu(), tau)


def _choose(x: Tensor, tau: float) -> Found:
    """The rules of `find_dimensions` on ``|x|`` (layers, items, hidden) of first tokens."""
    relative = (x / x.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-30)).mean(1)  # (layers, hidden)
    massive = ((x > MASSIVE) & (x >= RATIO * x.median(-1, keepdim=True).values)).float().mean(1) > 0.5
    if massive.any():
        onset = int(massive.any(-1).int().argmax())
        dims, rule = _span(massive.float(), onset).ge(0.5).nonzero()[:, 0], "sun"
    else:
        peaks = relative.amax(-1)
        onset = int((peaks >= peaks.max() / 2).int().argmax())
        score = _span(relative, onset)
        dims, rule = (score >= tau).nonzero()[:, 0], "tau"
        if not len(dims):
            top = score.topk(min(MOST + 1, len(score)))
            drop = top.values[:-1] / top.values[1:].clamp_min(1e-30)
            dims, rule = top.indices[: int(drop.argmax()) + 1].sort().values, "gap"
    strength = _span(relative, onset)[dims]
    return Found(tuple(dims.tolist()), rule, tuple(strength.tolist()), onset)


def _span(values: Tensor, onset: int) -> Tensor:
    """The mean over layers from the onset to the last but one."""
    return values[onset : max(onset + 1, len(values) - 1)].mean(0)
