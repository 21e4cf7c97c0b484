"""What an untouched run leaves behind of a prompt, so that a run with a change begins where the change does.

A decoder looks back only. A change of some layers leaves the layers below as they were, and a change of some tokens'
rows the tokens before them. So their keys, values and outputs are put where the untouched run had them, and a layer
computes the other tokens alone. This is the same arithmetic on fewer rows: answers are the same but for near ties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Forward = Callable[..., Tensor]


@dataclass
class KeptPrompt:
    """Each layer's output (B, S, H), keys and values (B, heads, S, d) of one batch's prompt."""

    model: Any  #: a LostModel
    kept: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Inside the block, runs are as always, and what they make of the prompt is kept."""

        def whole(layer: int, forward: Forward, hidden: Tensor, **call: Any) -> Tensor:
            cache, made = call["past_key_values"], forward(hidden, **call)
            self.kept[layer] = made, cache.layers[layer].keys, cache.layers[layer].values
            return made

        with self._instead(whole):
            yield

    @contextmanager
    def from_where(self, layer: int, column: int) -> Iterator[None]:
        """Inside the block, runs compute the prompt from this layer and column on only; all before is as it was."""

        def rest(number: int, forward: Forward, hidden: Tensor, **call: Any) -> Tensor:
            made, *pair = self.kept[number]
            start = column if number >= layer else made.shape[1]
            if not start:
                return forward(hidden, **call)
            call["past_key_values"].update(*(one[:, :, :start] for one in pair), number)
            if start == made.shape[1]:
                return made
            call["attention_mask"] = call["attention_mask"][:, :, start:]
            call["position_embeddings"] = tuple(one[..., start:, :] for one in call["position_embeddings"])
            if call.get("position_ids") is not None:
                call["position_ids"] = call["position_ids"][..., start:]
            return torch.cat([made[:, :start], forward(hidden[:, start:], **call)], dim=1)

        with self._instead(rest):
            yield

    @contextmanager
    def _instead(self, do: Callable[..., Tensor]) -> Iterator[None]:
        """Of the prompt's call of each layer; tokens that are generated one by one are computed as always."""

        def put(number: int, forward: Forward) -> Forward:
            def called(hidden_states: Tensor, **call: Any) -> Tensor:
                if call["past_key_values"].get_seq_length(number):
                    return forward(hidden_states, **call)
                return do(number, forward, hidden_states, **call)

            return called

        layers = self.model.layers
        for number, layer in enumerate(layers):
            layer.forward = put(number, layer.forward)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward
