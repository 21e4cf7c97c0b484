"""Knock-out and VAR: attention that some keys draw is cut off, or goes elsewhere.

Both need to know which tokens are sinks. A sink is seen in the residual stream that enters a layer, so hooks on the
decoder layers keep the sink masks in the run's memory, and the edit of the attention weights reads them there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lostlib import draws, sinks
from lostlib.attention import Rows, Run
from lostlib.interventions.base import Intervention, Numbers
from lostlib.interventions.sap import within


class OnSinks(Intervention):
    """What knock-out and VAR share: finding sinks. Subclasses have the fields tau, detector, dims and layers."""

    tau: float | str | None
    detector: str
    dims: Numbers
    layers: Numbers

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), int):
                object.__setattr__(self, field.name, float(value))
        if self.tau is not None and (share := sinks.energy_share(self.tau)) is not None:
            object.__setattr__(self, "tau", f"{100 * share:g}%")

    @property
    def rules(self) -> sinks.Preset:
        """Thresholds and what else a preset settles."""
        return sinks.settings(tau=self.tau)

    @property
    def finder(self) -> sinks.Detector:
        """Of a prepared intervention: how sinks are found."""
        if self.dims is None or not isinstance(self.tau, float):
            raise RuntimeError(f"{self} has not been prepared for a model; use it through `intervene`")
        rules = self.rules
        return sinks.Detector(self.dims, self.tau, rules.strict, self.detector, rules.generated)

    def prepared(self, model: Any) -> Self:
        """With the model's sink dimensions, phi's threshold at its hidden size, and its layers."""
        dims, tau = self.dims or (), float(sinks.MASSIVE)
        if self.detector == "phi":
            dims, tau = dims or sinks.sink_dimensions(model), sinks.threshold(self.rules.tau, model.hidden_size)
        layers = tuple(range(model.n_layers)) if self.layers is None else self.layers
        filled: dict[str, Any] = {"dims": dims, "tau": tau, "layers": layers}
        return replace(self, **filled)

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on decoder layers."""
        return self.finder.follow(run, self.layers or ())

    @property
    def edits(self) -> list[Callable[[Tensor, Tensor, Rows], Tensor]]:
        """Changes of attention weights, in order."""
        return [self.edit]

    def edit(self, probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
        """(B, heads, Q, K) weights -> weights, float32."""
        raise NotImplementedError


def _text_queries(rows: Rows) -> Tensor:
    """(B, Q) bool: text tokens, no padding. Those before the image see none of it."""
    return ~rows.query_visual & (rows.query_positions >= 0)


@dataclass(frozen=True)
class Knockout(OnSinks):
    """Attention from text tokens to some visual keys is cut.

    keys      `sinks`: the visual sinks of the layer; `random`: as many visual tokens of the sample, drawn once per
              item; `all_visual`
    flavour   `renormalise`: the cut keys' scores are -inf, so that the other weights grow; `zero`: the weights become 0
              and nothing grows, rows then sum to 1 - what was cut
    per       what `random` draws once for: `item`, so that all layers cut the same tokens (as far as they cut as many),
              or `layer`
    tau       sinks have phi >= tau; a share of the token's energy as `10%`
    detector  `phi` or `massive`, see `lostlib.sinks.Detector`
    dims      sink dimensions; the model's own where none are given
    layers    all by default
    """

    name: ClassVar[str] = "knockout"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "keys": ("sinks", "random", "all_visual"),
        "flavour": ("renormalise", "zero"),
        "per": ("item", "layer"),
        "detector": sinks.DETECTORS,
    }
    printed: ClassVar[tuple[str, ...]] = ("keys",)
    keys: str = "sinks"
    flavour: str = "renormalise"
    per: str = "item"
    tau: float | str | None = 20.0
    detector: str = "phi"
    dims: Numbers = None
    layers: Numbers = None

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Does the seed matter."""
        return self.keys == "random"

    def prepared(self, model: Any) -> Self:
        """See `OnSinks`; without sinks to find there is nothing to look up."""
        if self.keys != "all_visual":
            return super().prepared(model)
        return replace(self, layers=tuple(range(model.n_layers)) if self.layers is None else self.layers)

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on decoder layers."""
        return [] if self.keys == "all_visual" else super().attach(run)

    def edit(self, probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
        """(B, heads, Q, K) weights -> weights, float32."""
        if rows.layer not in (self.layers or ()):
            return probs
        cut = self.cut(rows)[:, None, None, :]
        changed = _text_queries(rows)[:, None, :, None] & (cut & rows.visible).any(-1, keepdim=True)  # (B, 1, Q, 1)
        left = probs.masked_fill(cut, 0.0)
        if self.flavour == "renormalise":
            total = left.sum(-1, keepdim=True)  # 0 where float32 left nothing beside the cut keys
            left = torch.where(total > 0, left / total, within(scores, rows.visible & ~cut))
        return torch.where(changed, left, probs)

    def cut(self, rows: Rows) -> Tensor:
        """(B, K) bool: the keys that are cut in this layer."""
        if self.keys == "all_visual":
            return rows.visual
        found = self.finder.found(rows) & rows.visual
        if self.keys == "sinks":
            return found
        layer = rows.layer if self.per == "layer" else 0
        seed = draws.chain(rows.seed, draws.text_key(self.name), layer, device=rows.visual.device)
        drawn = draws.chain(seed, rows.items[:, None], rows.key_positions, device=rows.visual.device)  # (B, K)
        order = drawn.masked_fill(~rows.visual, torch.iinfo(torch.int64).max).argsort(dim=1).argsort(dim=1)
        return rows.visual & (order < found.sum(1, keepdim=True))


@dataclass(frozen=True)
class Var(OnSinks):
    """VAR: in image-centric heads, text tokens' attention on sinks goes to the other visual tokens.

    tau, min_mass, p, rho  see `lostlib.sinks.Preset`; the preset's where not given. tau may be a share of the token's
                           energy, as `10%`
    target    who receives: `visual`, `text` or `both`
    detector  `phi` or `massive`, see `lostlib.sinks.Detector`
    dims      sink dimensions; the model's own where none are given
    require   `visual`: samples without a visual sink stay as they are; `any`: a text sink is enough
    layers    all but the last by default (preset `official_code`: all but the first two)
    preset    `paper` or `official_code`
    """

    name: ClassVar[str] = "var"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "target": sinks.TARGETS,
        "detector": sinks.DETECTORS,
        "require": ("visual", "any"),
        "preset": tuple(sinks.PRESETS),
    }
    tau: float | str | None = None
    min_mass: float | None = None
    p: float | None = None
    rho: float | None = None
    target: str = "visual"
    detector: str = "phi"
    dims: Numbers = None
    require: str = "visual"
    layers: Numbers = None
    preset: str = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("min_mass", "p", "rho"):
            if isinstance(value := getattr(self, key), str):
                raise ValueError(f"var: {key}={value!r} is not a number")
        _ = self.rules  # refuses what is out of range

    @property
    def rules(self) -> sinks.Preset:
        """The preset with what was given in place of its own."""
        return sinks.settings(self.preset, tau=self.tau, min_mass=self.min_mass, p=self.p, rho=self.rho)

    def prepared(self, model: Any) -> Self:
        """See `OnSinks`; the preset says which layers."""
        last = model.n_layers if self.rules.last_layer else model.n_layers - 1
        chosen = tuple(range(self.rules.first_layer, last)) if self.layers is None else self.layers
        return replace(super().prepared(model), layers=chosen)

    def edit(self, probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
        """(B, heads, Q, K) weights -> weights, float32."""
        if rows.layer not in (self.layers or ()):
            return probs
        new, _ = sinks.redistribute(
            probs,
            self.finder.found(rows),
            rows.visual,
            _text_queries(rows),
            p=self.p,
            rho=self.rho,
            min_mass=self.min_mass,
            target=self.target,
            preset=self.preset,
            require_visual_sink=self.require == "visual",
        )
        return new
