"""SAP, stochastic attention probing: learned attention weights give way to predefined ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lostlib import forms
from lostlib.interventions.base import Intervention
from lostlib.models import keyed_random
from lostlib.models.attention import Rows, by_rows


def within(scores: Tensor, block: Tensor) -> Tensor:
    """Softmax over the block's keys only: rows sum to 1 over the block, 0 elsewhere (and where a row has no block)."""
    outside = torch.zeros_like(block, dtype=scores.dtype).masked_fill_(~block, -torch.inf)  # one for all heads
    found = torch.softmax(scores + outside, dim=-1)
    return found if block.any(-1).all() else found.nan_to_num(0.0)


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

    def begins(self, visual: Tensor) -> tuple[int, int]:
        """The first layer and the first column of a prompt that may change; `visual` (B, S) tells image tokens.

        No token before the image sees visual keys. Padding is on the left, so the last token is in the last column.
        """
        length = visual.shape[1]
        if self.phase == "decode":
            return 0, length
        if self.keys != "visual":
            return min(self.layers or (0,)), 0
        seen = visual.cumsum(1) > 0
        changed = {"all": seen, "visual": visual, "text": seen & ~visual}.get(self.queries)
        columns = None if changed is None else changed.any(0).nonzero()
        first = length - 1 if columns is None or not len(columns) else int(columns[0])
        return min(self.layers or (0,)), first

    def edit(self, probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
        """(B, heads, Q, K) weights -> weights, float32."""
        if (self.layers is not None and rows.layer not in self.layers) or self.phase == (
            "prefill" if rows.decoding else "decode"
        ):
            return probs
        return by_rows(self._changed, probs, scores, rows)

    def _changed(self, probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
        block = self._block(rows)  # (B, 1, Q, K)
        chosen = self._queries(rows)[:, None, :, None] & block.any(-1, keepdim=True)  # (B, 1, Q, 1)
        if not chosen.any():
            return probs
        if self.heads is None:
            heads = torch.arange(probs.shape[1], device=probs.device)
            new, there = self._replaced(probs, scores, block, rows, heads)
            return torch.where(chosen & there, new, probs)
        heads = torch.tensor(self.heads, device=probs.device)
        new, there = self._replaced(probs[:, heads], scores[:, heads], block, rows, heads)
        return probs.index_copy(1, heads, torch.where(chosen & there, new, probs[:, heads]))

    def _block(self, rows: Rows) -> Tensor:
        keys = {"visual": rows.visual, "text": ~rows.visual, "all": torch.ones_like(rows.visual)}[self.keys]
        if self.spare == "first":
            keys = keys & (rows.key_positions != 0)
        return keys[:, None, None, :] & rows.visible

    def _queries(self, rows: Rows) -> Tensor:
        """(B, Q) bool."""
        position = rows.query_positions
        return {
            "all": torch.ones_like(rows.query_visual),
            "visual": rows.query_visual,
            "text": ~rows.query_visual & (position > rows.first_visual[:, None]),
            "last": position >= rows.prompt[:, None] - 1,
        }[self.queries]

    def _replaced(
        self, probs: Tensor, scores: Tensor, block: Tensor, rows: Rows, heads: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New weights, and where they are to stand (bool; both broadcast to the old ones)."""
        outside = rows.visible & ~block
        if self.weights == "zero":
            return within(scores, outside), outside.any(-1, keepdim=True)
        everywhere = torch.ones_like(block[..., :1])
        if self.weights == "gaussian_logits":
            drawn = self._like_learned(scores, block, self._noise(rows, block, heads))
            return within(torch.where(block, drawn, scores), rows.visible), everywhere
        spread = self._spread(probs, block, rows, heads)  # sums to 1 over the block
        if self.mass == "keep":
            return spread * (probs * block).sum(-1, keepdim=True), block
        mass = self._mass(block, rows)
        mixed = mass * spread + (1 - mass) * within(scores, outside)
        return torch.where(outside.any(-1, keepdim=True), mixed, spread), everywhere

    def _mass(self, block: Tensor, rows: Rows) -> Tensor | float:
        if self.mass == "share":
            return block.sum(-1, keepdim=True) / rows.visible.sum(-1, keepdim=True).clamp_min(1)
        return float(self.mass)

    def _spread(self, probs: Tensor, block: Tensor, rows: Rows, heads: Tensor) -> Tensor:
        """(B, heads or 1, Q, K): what is the same for all heads is computed once."""
        if self.weights == "uniform":
            return within(torch.zeros_like(block, dtype=probs.dtype), block)
        if self.weights == "permuted":
            at, shuffled = _reach(block), torch.zeros_like(probs)  # keys that no row may see need no sorting
            shuffled[..., at] = _shuffle(probs[..., at], block[..., at], self._drawn(rows, at, heads))
            return shuffled.div_(shuffled.sum(-1, keepdim=True).clamp_min_(1e-30))
        noise = self._noise(rows, block, heads)
        if self.weights == "gaussian_abs":
            absolute = noise.abs() * block
            return absolute.div_(absolute.sum(-1, keepdim=True).clamp_min_(1e-30))
        return within(noise, block)

    def _like_learned(self, scores: Tensor, block: Tensor, noise: Tensor) -> Tensor:
        count = block.sum(-1, keepdim=True).clamp_min(1)
        inside = scores.masked_fill(~block, 0.0)
        mean = inside.sum(-1, keepdim=True) / count
        std = (inside.sub_(mean).mul_(block).square_().sum(-1, keepdim=True) / count).sqrt()
        return noise * std + mean

    def _noise(self, rows: Rows, block: Tensor, heads: Tensor) -> Tensor:
        """(B, heads, Q, K) standard normal, drawn from the first to the last key of the block and 0 elsewhere."""
        at = _reach(block)
        return nn.functional.pad(self._drawn(rows, at, heads), (at.start, block.shape[-1] - at.stop))

    def _drawn(self, rows: Rows, at: slice, heads: Tensor) -> Tensor:
        """(B, heads, Q, keys) standard normal, for these keys only.

        Keyed by (seed, item, layer, head, query, key); `static` drops item, layer and head (and the axis of heads).
        """
        queries, keys = rows.query_positions[:, None, :, None], rows.key_positions[:, None, None, at]
        source: tuple[int | Tensor, ...] = (rows.seed,)
        if self.weights != "static":
            source = (*source, rows.items[:, None, None, None], rows.layer, heads[None, :, None, None])
        return keyed_random.normals(*source, queries, keys, device=keys.device)


def _reach(block: Tensor) -> slice:
    """From the first to the last key of the block, in whatever row."""
    columns = block.flatten(0, 2).any(0).nonzero()
    return slice(int(columns[0]), int(columns[-1]) + 1)


def order(values: Tensor) -> Tensor:
    """(…, K) float32 -> int64: the places of each row's values from small to large, equal ones in their own order."""
    if values.device.type != "cpu":
        return torch.argsort(values, dim=-1, stable=True)
    bits = (values + 0.0).view(torch.int32)  # no -0
    bits ^= (bits >> 31) & 0x7FFFFFFF  # as signed integers in the values' order
    packed = bits.to(torch.int64).bitwise_left_shift_(32).bitwise_or_(torch.arange(values.shape[-1]))
    packed.numpy().sort(axis=-1)  # eight times as fast as torch, which sorts values and places apart
    return packed.bitwise_and_(0xFFFFFFFF)


def _shuffle(probs: Tensor, block: Tensor, noise: Tensor) -> Tensor:
    """Each row's weights on the block, dealt out to the block's keys in the order of the noise; 0 elsewhere."""
    source = order(noise.expand_as(probs).masked_fill(~block, torch.inf))  # block keys first, in random order
    dealt = probs.gather(-1, source)
    if (block[..., 1:] > block[..., :-1]).any():  # somewhere a key of the block follows one that is not
        target = (~block).to(torch.uint8).argsort(dim=-1, stable=True)  # block keys first: the same in all heads
        dealt = torch.zeros_like(probs).scatter(-1, target.expand_as(probs), dealt)
    return dealt.mul_(block)
