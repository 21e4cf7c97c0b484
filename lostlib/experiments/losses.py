"""How surprised a model is by a text: the loss it was trained on, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch.nn.functional import cross_entropy

from lostlib.benchmarks import Item
from lostlib.experiments.rows import gather
from lostlib.interventions import Intervention, intervene, parse_numbers
from lostlib.models import LostModel


def loss_rows(
    model: LostModel, items: Sequence[Item], intervention: str = "none", seed: int = 0,
    layers: Sequence[str] | None = None, batch_size: int = 8, work: Path | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Each prompt's loss: the mean over its tokens from the second on of ``-log p(token | those before it)``, in nats.

    With `layers`, such as ``["0", "1", "12-27"]``, the intervention acts in each of these sets of layers in turn, and
    rows have a column layers. Image tokens are not predicted and do not count.

    Returns
    -------
    pandas.DataFrame
        One row an item (and set of layers): item, cluster, layers (only where given), tokens (predicted), loss.
    """
    check_layers(layers)
    whole: Any = Intervention.parse(intervention)
    acting = {text: replace(whole, layers=parse_numbers(text)) for text in layers} if layers else {"": whole}
    for one in acting.values():
        one.check(model)

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        batch = model.encode(part)
        ids = batch.tensors["input_ids"]
        text = batch.real & (ids != model.image_token_id)
        rows = []
        for where, what in acting.items():
            with intervene(model, what, seed):
                logits = model.forward(batch).logits  # (B, S, V)
            for item, scores, tokens, mine, real in zip(part, logits, ids, text, batch.real, strict=True):
                asked = mine[1:] & real[:-1]
                if not asked.any():
                    raise ValueError(f"{item.uid} has no token after the first, so there is nothing to predict")
                loss = cross_entropy(scores[:-1][asked].float(), tokens[1:][asked])
                rows.append({"item": item.uid, "layers": where, "tokens": int(asked.sum()), "loss": float(loss)})
        frame = pd.DataFrame(rows)
        return frame if layers else frame.drop(columns="layers")

    return gather(items, measured, batch_size, f"losses of {model.name}", work)


def check_layers(layers: Sequence[str] | None) -> None:
    """Refuse sets of layers that are none."""
    if layers is None:
        return
    if isinstance(layers, str) or not isinstance(layers, Sequence) or not layers:
        raise ValueError(f'layers must be a list of sets such as ["0", "12-27"], got {layers!r}')
    for text in layers:
        parse_numbers(str(text))
