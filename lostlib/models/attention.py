"""The one place that changes attention weights.

`lost_attention` is transformers' eager attention with one opening: between softmax and the product with the values, the
weights of the active run's interventions are put in. With nothing to put in, it computes what eager computes, bit for
bit. It is registered under the name "lost" together with eager's mask function (without one, transformers would
silently drop the causal mask).

A `Run` knows what the weights mean: which keys are visual, how many columns are padding, which items are in the batch.
It reads this from each call of the whole model, in a forward pre-hook, and extends it while decoding with a cache.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from lostlib.models import keyed_random

BACKEND = "lost"


@dataclass(frozen=True)
class Rows:
    """What is known about the attention rows of one layer in one call."""

    layer: int
    seed: int
    items: Tensor  #: (B,) int64 keys of the item ids
    visual: Tensor  #: (B, K) bool, is this key an image patch
    visible: Tensor  #: (B, 1, Q, K) bool, causal and not padding
    query_positions: Tensor  #: (B, Q) counted without padding; negative where the query is padding
    key_positions: Tensor  #: (B, K)
    query_visual: Tensor  #: (B, Q) bool
    first_visual: Tensor  #: (B,) position of the first image patch; -1 without one
    prompt: Tensor  #: (B,) tokens in the prompt
    decoding: bool  #: one token on top of a cache
    memory: dict = field(default_factory=dict, repr=False)  #: the run's, see there

    def some(self, queries: slice) -> Rows:
        """The same for some of the queries."""
        return replace(
            self,
            visible=self.visible[:, :, queries],
            query_positions=self.query_positions[:, queries],
            query_visual=self.query_visual[:, queries],
        )


Edit = Callable[[Tensor, Tensor, Rows], Tensor]  # weights in float32, scores in the model's dtype -> weights
BLOCKS = {"cpu": 1 << 19, "cuda": 1 << 23}  # weights changed at a time: few enough for a core's cache, enough for a GPU


def by_rows(change: Edit, probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
    """The weights after a change that looks at each row for itself, made to a few queries' rows at a time.

    What the change needs beside the weights is then small however many keys there are. `probs` is overwritten, unless
    it is small anyway or gradients flow through it. A change that returns the very weights it was given leaves them.
    """
    queries, entries = probs.shape[2], BLOCKS.get(probs.device.type, BLOCKS["cuda"])
    step = max(1, entries * queries // probs.numel())
    if step >= queries or probs.requires_grad:
        return change(probs, scores.float(), rows)
    for start in range(0, queries, step):
        part = slice(start, start + step)
        before = probs[:, :, part]
        after = change(before, scores[:, :, part].float(), rows.some(part))
        if after is not before:
            before.copy_(after)
    return probs


@dataclass
class Run:
    """One intervention on one model: its edits of the weights, its seed, and what is known about the present batch."""

    model: Any  #: a LostModel, of which .hf, .attention_modules, .visual and .item_ids are used
    edits: Sequence[Edit] = ()
    seed: int = 0
    #: what an intervention carries from prefill to decode; emptied at each prefill
    memory: dict = field(default_factory=dict)
    items: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    visual: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.bool))
    padding: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    prompt: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    length: int = 0  #: queries in the present call

    def observe(self, hf: nn.Module, args: tuple, kwargs: dict) -> None:
        """Forward pre-hook of the whole model: take note of the batch."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:
            raise ValueError(
                "call the model with input_ids: from inputs_embeds alone, visual and text tokens look the same"
            )
        cache = kwargs.get("past_key_values")
        visual = self.model.visual(ids, kwargs)  # (B, Q)
        self.length = ids.shape[1]
        if cache is None or cache.get_seq_length() == 0:
            self._begin(ids, kwargs.get("attention_mask"), visual)
        else:
            self.visual = torch.cat([self.visual, visual], dim=1)

    def _begin(self, ids: Tensor, mask: Tensor | None, visual: Tensor) -> None:
        self.memory.clear()
        names = self.model.item_ids or self._batch_indices(len(ids))
        if len(names) != len(ids):
            raise ValueError(f"{len(names)} item ids were given for a batch of {len(ids)} sequences")
        real = torch.ones_like(ids) if mask is None else mask
        self.items = torch.tensor([keyed_random.text_key(name) for name in names], device=ids.device)
        self.padding = (real.cumsum(1) == 0).sum(1)  # columns before the first real token
        self.prompt, self.visual = real.sum(1), visual

    def _batch_indices(self, count: int) -> list[str]:
        if not self.model.told_about_ids:
            self.model.told_about_ids = True
            warnings.warn(
                "the model was called without item ids, so random draws are keyed by the index in the batch; "
                "m.forward(batch) and m.answer(items) pass them along",
                stacklevel=2,
            )
        return [str(i) for i in range(count)]

    def on(self, device: torch.device) -> Run:
        """This run as a layer on another device sees it (a large model may be spread over several)."""
        if self.visual.device == device:
            return self
        return replace(self, **{k: getattr(self, k).to(device) for k in ("items", "visual", "padding", "prompt")})

    def query_positions(self) -> Tensor:
        """(B, Q) positions of the present call's tokens, counted without padding."""
        return self._key_positions()[:, -self.length :]

    def _key_positions(self) -> Tensor:
        columns = torch.arange(self.visual.shape[1], device=self.visual.device)
        return columns - self.padding[:, None]

    def rows(self, layer: int, visible: Tensor) -> Rows:
        """The description of one layer's attention rows."""
        positions = self._key_positions()
        queries = visible.shape[-2]  # the last ones of the call, where a run goes on from a kept prompt
        if visible.shape[-1] != positions.shape[1] or queries > self.length:
            raise RuntimeError(
                f"attention of shape (queries, keys) {tuple(visible.shape[-2:])} does not fit {self.length} queries "
                f"and {positions.shape[1]} keys of this call; call the whole model, not a part of it"
            )
        found = self.visual.any(1)
        first = positions.gather(1, self.visual.int().argmax(1, keepdim=True))[:, 0]
        return Rows(
            layer=layer,
            seed=self.seed,
            items=self.items,
            visual=self.visual,
            visible=visible,
            query_positions=positions[:, -queries:],
            key_positions=positions,
            query_visual=self.visual[:, -queries:],
            first_visual=torch.where(found, first, -1),
            prompt=self.prompt,
            decoding=self.length == 1 and positions.shape[1] > 1,
            memory=self.memory,
        )

    def edit(self, layer: int, probs: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
        """The weights after all edits: (B, heads, Q, K) float32, rows sum to 1; `probs` may be overwritten."""
        visible = torch.ones_like(probs[:, :1], dtype=torch.bool) if mask is None else mask >= 0
        rows = self.on(probs.device).rows(layer, visible)
        for edit in self.edits:
            probs = edit(probs, scores, rows)
        return probs


_RUNS: WeakKeyDictionary[nn.Module, Run] = WeakKeyDictionary()  # attention module -> the run it takes part in


def lost_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Eager attention whose weights the active run may edit; q (B, heads, Q, d), k and v (B, kv heads, K, d)."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling  # (B, heads, Q, K)
    if attention_mask is not None:
        scores = scores + attention_mask
    probs = torch.softmax(scores, dim=-1, dtype=torch.float32)
    run = _RUNS.get(module)
    if run is not None and run.edits:
        probs = run.edit(module.layer_idx, probs, scores, attention_mask)
    probs = nn.functional.dropout(probs.to(query.dtype), p=dropout, training=module.training)
    return torch.matmul(probs, value).transpose(1, 2).contiguous(), probs


AttentionInterface.register(BACKEND, lost_attention)
AttentionMaskInterface.register(BACKEND, eager_mask)


@contextmanager
def backend(hf: Any, name: str = BACKEND) -> Iterator[None]:
    """Let the language model attend through `lost_attention` or a named one, not the vision tower; then as before."""
    former = hf.config.get_text_config()._attn_implementation
    if former == name:
        yield
        return
    _attend(hf, name)
    try:
        yield
    finally:
        _attend(hf, former)


def _attend(hf: Any, name: str) -> None:
    hf.set_attn_implementation({"text_config": name} if "text_config" in hf.config.sub_configs else name)
    if hf.config.get_text_config()._attn_implementation != name:
        raise RuntimeError(f"{type(hf).__name__} does not let its attention be computed by {name}")


def check_changeable(name: str, backend: str) -> None:
    """Refuse a model whose attention weights are out of our reach."""
    if backend != BACKEND:
        raise ValueError(
            f"{name} was asked for with backend={backend}, where attention weights can be neither seen nor changed; "
            "leave the backend out"
        )


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Make a run the active one of its model."""
    modules = run.model.attention_modules
    if run.edits:
        check_changeable(run.model.name, run.model.backend)
    if any(module in _RUNS for module in modules):
        raise RuntimeError("an intervention is already active on this model; join several with ' & ' in one text")
    handle = run.model.hf.register_forward_pre_hook(run.observe, with_kwargs=True, prepend=True)
    _RUNS.update(dict.fromkeys(modules, run))
    try:
        with backend(run.model.hf, run.model.backend):
            yield run
    finally:
        handle.remove()
        for module in modules:
            _RUNS.pop(module, None)
