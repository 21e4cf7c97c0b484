"""Where the token that the answer is read from looks: mass on the image by layer, weight on each patch by head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from lostlib.benchmarks import Item
from lostlib.experiments.rows import gather
from lostlib.interventions import intervene
from lostlib.models import LostModel
from lostlib.models.attention import Rows, Run, running


def attention_mass(
    model: LostModel, items: Sequence[Item], batch_size: int = 32, work: Path | None = None
) -> pd.DataFrame:
    """Where the last prompt token (which predicts the answer) looks, averaged over heads, layer by layer.

    Columns: item, cluster, layer, visual (mass on visual keys), relevant (mass on the visual keys that decide the
    answer; null where the item has none), expected (mass they would get if the visual mass were spread evenly),
    entropy (of the visual mass, normalised to [0, 1]).
    """

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        rows = list[dict]()

        def look(probs: Tensor, scores: Tensor, at: Rows) -> Tensor:
            for item, weights, visual in zip(part, probs[:, :, -1].mean(1), at.visual, strict=True):
                rows.append({"item": item.uid, "layer": at.layer, **_looking(weights[visual].double(), item)})
            return probs

        with running(Run(model, edits=[look])):
            model.forward(model.encode(part))
        return pd.DataFrame(rows)

    return gather(items, measured, batch_size, f"attention of {model.name}", work)


def _looking(weights: Tensor, item: Item) -> dict[str, float]:
    if not len(weights):  # an item without an image
        return {"visual": 0.0} | dict.fromkeys(("relevant", "expected", "entropy"), float("nan"))
    mass = float(weights.sum())
    share = weights / mass
    relevant = list(item.relevant or ()) if item.located(len(weights)) else []
    return {
        "visual": mass,
        "relevant": float(weights[relevant].sum()) if relevant else float("nan"),
        "expected": mass * len(relevant) / len(weights) if relevant else float("nan"),
        "entropy": float(torch.special.entr(share).sum() / torch.log(torch.tensor(float(len(weights))))),
    }


def map_rows(
    model: LostModel, items: Sequence[Item], intervention: str = "none", seed: int = 0, batch_size: int = 32,
    work: Path | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The last prompt token's attention weights on the image, as the model uses them under an intervention.

    Columns: item, cluster, layer, head, patch (0, 1, … in reading order of the image tokens), weight (in [0, 1]; the
    whole row, text included, sums to 1).
    """

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        parts = list[pd.DataFrame]()

        def look(probs: Tensor, scores: Tensor, at: Rows) -> Tensor:
            for item, weights, visual in zip(part, probs[:, :, -1], at.visual, strict=True):
                parts.append(per_patch(item, at.layer, {"weight": weights[:, visual].double()}))
            return probs

        with intervene(model, intervention, seed) as run:
            run.edits = [*run.edits, look]  # after the intervention's own: the weights that are used
            model.forward(model.encode(part))
        return pd.concat(parts, ignore_index=True)

    return gather(items, measured, batch_size, f"attention maps of {model.name}", work)


def per_patch(item: Item, layer: int, columns: Mapping[str, Tensor]) -> pd.DataFrame:
    """One row a head and patch, from columns of shape (heads, patches)."""
    heads, patches = next(iter(columns.values())).shape
    index = pd.MultiIndex.from_product([range(heads), range(patches)], names=["head", "patch"])
    rows = index.to_frame(index=False).assign(**{name: c.cpu().numpy().ravel() for name, c in columns.items()})
    return pd.DataFrame({"item": item.uid, "cluster": item.cluster, "layer": layer}, index=rows.index).join(rows)
