"""SAP, stochastic attention probing: learned attention weights give way to predefined ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lostlib import forms
from lostlib.interventions.base import Intervention
from lostlib.models import keyed_random
from lostlib.models.attention import Rows


def within(scores: Tensor, block: Tensor) -> Tensor:
    """Softmax over the block's keys only: rows sum to 1 over the block, 0 elsewhere (and where a row has no block)."""
    return torch.softmax(scores.masked_fill(~block, -torch.inf), dim=-1).nan_to_num(0.0)


class Sap(Intervention, forms.Sap):
    """Stochastic attention probing: learned attention weights on a block of keys give way to predefined ones."""

    @property
    def on_pictures(self) -> bool:  # type: ignore[override]
        """Does it do nothing without image tokens."""
        return "visual" in (self.keys, self.queries)

    @property
    def edits(self) -> list[Callable[[Tensor, Tensor, Rows], Tensor]]:
        """Changes of attention weights, in order."""
        return [self.edit]

    def edit(self, probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
        """(B, heads, Q, K) weights -> weights, float32."""
        if (self.layers is not None and rows.layer not in self.layers) or self.phase == (
            "prefill" if rows.decoding else "decode"
        ):
            return probs
        block = self._block(rows)  # (B, 1, Q, K)
        chosen = self._rows(rows, probs.shape[1]) & block.any(-1, keepdim=True)  # (B, heads, Q, 1)
        return torch.where(chosen, self._replaced(probs, scores, block, rows), probs)

    def _block(self, rows: Rows) -> Tensor:
        keys = {"visual": rows.visual, "text": ~rows.visual, "all": torch.ones_like(rows.visual)}[self.keys]
        return keys[:, None, None, :] & rows.visible

    def _rows(self, rows: Rows, heads: int) -> Tensor:
        position = rows.query_positions
        wanted = {
            "all": torch.ones_like(rows.query_visual),
            "visual": rows.query_visual,
            "text": ~rows.query_visual & (position > rows.first_visual[:, None]),
            "last": position >= rows.prompt[:, None] - 1,
        }[self.queries]
        head = torch.arange(heads, device=position.device)
        named = (
            torch.ones_like(head, dtype=torch.bool)
            if self.heads is None
            else torch.isin(head, torch.tensor(self.heads, device=head.device))
        )
        return wanted[:, None, :, None] & named[None, :, None, None]

    def _replaced(self, probs: Tensor, scores: Tensor, block: Tensor, rows: Rows) -> Tensor:
        outside = rows.visible & ~block
        if self.weights == "zero":
            return torch.where(outside.any(-1, keepdim=True), within(scores, outside), probs)
        if self.weights == "gaussian_logits":
            return within(torch.where(block, self._like_learned(scores, block, rows), scores), rows.visible)
        spread = self._spread(probs, block, rows)  # sums to 1 over the block
        if self.mass == "keep":
            return torch.where(block, spread * (probs * block).sum(-1, keepdim=True), probs)
        mass = self._mass(block, rows)
        return torch.where(outside.any(-1, keepdim=True), mass * spread + (1 - mass) * within(scores, outside), spread)

    def _mass(self, block: Tensor, rows: Rows) -> Tensor | float:
        if self.mass == "share":
            return block.sum(-1, keepdim=True) / rows.visible.sum(-1, keepdim=True).clamp_min(1)
        return float(self.mass)

    def _spread(self, probs: Tensor, block: Tensor, rows: Rows) -> Tensor:
        if self.weights == "uniform":
            return within(torch.zeros_like(probs), block)
        noise = keyed_random.normal(self._hashes(rows, probs.shape[1]))  # (B or 1, heads or 1, Q, K)
        if self.weights == "gaussian_abs":
            absolute = noise.abs() * block
            return absolute / absolute.sum(-1, keepdim=True).clamp_min(1e-30)
        if self.weights == "permuted":
            shuffled = _shuffle(probs, block, noise)
            return shuffled / shuffled.sum(-1, keepdim=True).clamp_min(1e-30)
        return within(noise.expand_as(probs), block)

    def _like_learned(self, scores: Tensor, block: Tensor, rows: Rows) -> Tensor:
        count = block.sum(-1, keepdim=True).clamp_min(1)
        inside = scores.masked_fill(~block, 0.0)
        mean = inside.sum(-1, keepdim=True) / count
        std = (((inside - mean) * block).square().sum(-1, keepdim=True) / count).sqrt()
        return mean + std * keyed_random.normal(self._hashes(rows, scores.shape[1]))

    def _hashes(self, rows: Rows, heads: int) -> Tensor:
        """(B, heads, Q, K) hashes of (seed, item, layer, head, query, key); `static` drops item, layer and head."""
        device = rows.visual.device
        queries, keys = rows.query_positions[:, None, :, None], rows.key_positions[:, None, None, :]
        if self.weights == "static":
            return keyed_random.chain(rows.seed, queries, keys, device=device)
        head = torch.arange(heads, device=device)[None, :, None, None]
        return keyed_random.chain(
            rows.seed, rows.items[:, None, None, None], rows.layer, head, queries, keys, device=device
        )


def _shuffle(probs: Tensor, block: Tensor, noise: Tensor) -> Tensor:
    """Each row's weights on the block, dealt out to the block's keys in the order of the noise; 0 elsewhere."""
    block = block.expand_as(probs)
    source = noise.expand_as(probs).masked_fill(~block, torch.inf).argsort(dim=-1)  # block keys first, in random order
    target = (~block).to(torch.uint8).argsort(dim=-1, stable=True)  # block keys first, in their own order
    return torch.zeros_like(probs).scatter(-1, target, (probs * block).gather(-1, source)) * block
