"""Attention maps: what the token that the answer is read from gives to each image patch, head by head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor

from lostlib.attention import Rows
from lostlib.benchmarks import Item
from lostlib.interventions import intervene
from lostlib.loops import batches, in_order
from lostlib.models import LostModel


def map_rows(
    model: LostModel, items: Sequence[Item], intervention: str = "none", seed: int = 0, batch_size: int = 32
) -> pd.DataFrame:
    """The last prompt token's attention weights on the image, as the model uses them under an intervention.

    Columns: item, cluster, layer, head, patch (0, 1, … in reading order of the image tokens), weight (in [0, 1]; the
    whole row, text included, sums to 1).
    """
    parts: list[pd.DataFrame] = []
    for part in batches(items, batch_size, f"attention maps of {model.name}"):

        def look(probs: Tensor, scores: Tensor, at: Rows, part: Sequence[Item] = part) -> Tensor:
            for item, weights, visual in zip(part, probs[:, :, -1], at.visual, strict=True):
                parts.append(per_patch(item, at.layer, {"weight": weights[:, visual].double()}))
            return probs

        with intervene(model, intervention, seed) as run:
            run.edits = [*run.edits, look]  # after the intervention's own: the weights that are used
            model.forward(model.encode(part))
    return in_order(pd.concat(parts, ignore_index=True), items)


def per_patch(item: Item, layer: int, columns: Mapping[str, Tensor]) -> pd.DataFrame:
    """One row a head and patch, from columns of shape (heads, patches)."""
    heads, patches = next(iter(columns.values())).shape
    index = pd.MultiIndex.from_product([range(heads), range(patches)], names=["head", "patch"])
    rows = index.to_frame(index=False).assign(**{name: c.cpu().numpy().ravel() for name, c in columns.items()})
    return pd.DataFrame({"item": item.uid, "cluster": item.cluster, "layer": layer}, index=rows.index).join(rows)
