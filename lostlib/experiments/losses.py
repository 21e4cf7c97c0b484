"""How surprised a model is by a text: the loss it was trained on, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch.nn.functional import cross_entropy

from lostlib.benchmarks import Item
from lostlib.experiments.rows import gather
from lostlib.interventions import intervene
from lostlib.models import LostModel


def loss_rows(
    model: LostModel, items: Sequence[Item], intervention: str = "none", seed: int = 0, batch_size: int = 8,
    work: Path | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Each prompt's loss: the mean over its tokens from the second on of -log p(token | those before it), in nats.

    Image tokens are not predicted and do not count. Columns: item, cluster, tokens (predicted), loss.
    """

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        batch = model.encode(part)
        with intervene(model, intervention, seed):
            logits = model.forward(batch).logits  # (B, S, V)
        ids = batch.tensors["input_ids"]
        text = batch.real & (ids != model.image_token_id)
        rows = []
        for item, scores, tokens, mine, real in zip(part, logits, ids, text, batch.real, strict=True):
            asked = mine[1:] & real[:-1]
            if not asked.any():
                raise ValueError(f"{item.uid} has no token after the first, so there is nothing to predict")
            loss = cross_entropy(scores[:-1][asked].float(), tokens[1:][asked])
            rows.append({"item": item.uid, "tokens": int(asked.sum()), "loss": float(loss)})
        return pd.DataFrame(rows)

    return gather(items, measured, batch_size, f"losses of {model.name}", work)
