"""Knock-out and VAR: attention that some keys draw is cut off, or goes elsewhere.

Both need to know which tokens are sinks. A sink is seen in the residual stream that enters a layer, so hooks on the
decoder layers keep the sink masks in the run's memory, and the edit of the attention weights reads them there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lostlib import forms, sinks
from lostlib.interventions.base import Intervention
from lostlib.interventions.sap import within
from lostlib.models import keyed_random
from lostlib.models.attention import Rows, Run, by_rows


class OnSinks(Intervention, forms.OnSinks):
    """What knock-out and VAR share: finding sinks."""

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


class Knockout(OnSinks, forms.Knockout):
    """Attention from text tokens to some keys is cut."""

    @property
    def on_pictures(self) -> bool:  # type: ignore[override]
        """Does it do nothing without image tokens."""
        return self.among == "visual"

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

        def changed(probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
            here = _text_queries(rows)[:, None, :, None] & (cut & rows.visible).any(-1, keepdim=True)  # (B, 1, Q, 1)
            if not here.any():
                return probs
            left = probs.masked_fill(cut, 0.0)
            if self.flavour == "renormalise":
                others = rows.visible & ~cut
                here = here & others.any(-1, keepdim=True)
                total = left.sum(-1, keepdim=True)  # 0 where float32 left nothing beside the cut keys
                left = torch.where(total > 0, left / total, within(scores, others))
            return torch.where(here, left, probs)

        return by_rows(changed, probs, scores, rows)

    def cut(self, rows: Rows) -> Tensor:
        """(B, K) bool: the keys that are cut in this layer."""
        if self.keys == "all_visual":
            return rows.visual
        real = rows.key_positions >= 0
        among = {"visual": rows.visual, "text": real & ~rows.visual, "all": real}[self.among]
        found = self.finder.found(rows) & among
        if self.keys == "sinks":
            return found
        layer = rows.layer if self.per == "layer" else 0
        seed = keyed_random.chain(rows.seed, keyed_random.text_key(self.name), layer, device=rows.visual.device)
        drawn = keyed_random.chain(seed, rows.items[:, None], rows.key_positions, device=rows.visual.device)  # (B, K)
        order = drawn.masked_fill(~among, torch.iinfo(torch.int64).max).argsort(dim=1).argsort(dim=1)
        return among & (order < found.sum(1, keepdim=True))


class Var(OnSinks, forms.Var):
    """VAR: in image-centric heads, text tokens' attention on sinks goes to the other visual tokens."""

    @property
    def on_pictures(self) -> bool:  # type: ignore[override]
        """Does it do nothing without image tokens."""
        return self.among == "visual"

    def prepared(self, model: Any) -> Self:
        """See `OnSinks`; the preset says which layers."""
        last = model.n_layers if self.rules.last_layer else model.n_layers - 1
        chosen = tuple(range(self.rules.first_layer, last)) if self.layers is None else self.layers
        return replace(super().prepared(model), layers=chosen)

    def edit(self, probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
        """(B, heads, Q, K) weights -> weights, float32."""
        if rows.layer not in (self.layers or ()):
            return probs
        found = self.finder.found(rows)
        about = rows.visual if self.among == "visual" else ~rows.visual & (rows.key_positions >= 0)

        def moved(probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
            if not (queries := _text_queries(rows)).any():
                return probs
            return sinks.redistribute(
                probs,
                found,
                about,
                queries,
                p=self.p,
                rho=self.rho,
                min_mass=self.min_mass,
                target=self.target,
                preset=self.preset,
                require_visual_sink=self.require == "visual",
            )[0]

        return by_rows(moved, probs, scores, rows)
