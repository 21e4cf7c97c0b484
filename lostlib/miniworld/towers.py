"""Stage 1 of training: what each patch of the vision tower is to say, for three kinds of tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lostlib.miniworld.charts import TALLEST, Bar
from lostlib.miniworld.conversations import looks
from lostlib.miniworld.render import Picture, coverage
from lostlib.miniworld.scenes import CELL, COLORS, GRID, IMAGE, PATCH, SHAPES, SIZES, TOKENS

BACKGROUND_LOSS = 0.2  # weight of a background patch against an object's


def patch_labels(picture: Picture) -> np.ndarray:
    """What each patch mostly shows: int (visual tokens, 1, 6), colour, shape, size, row, column, height of the bar.

    Row and column are the patch's; the others are 0 where fewer than 6 pixels are covered. A bar has a colour and a
    height, but no shape and no size.
    """
    covered = coverage(picture)
    owner = np.where(covered.max(axis=0) >= 6, covered.argmax(axis=0), -1)
    shown = [
        (list(COLORS).index(thing.color) + 1, 0, 0, thing.height)
        if isinstance(thing, Bar)
        else (*(value + 1 for value in looks(thing)), 0)
        for thing in picture.things
    ]
    cells = np.indices((IMAGE // PATCH, IMAGE // PATCH)).reshape(2, -1).T * PATCH // CELL
    seen = np.array([*shown, (0, 0, 0, 0)])[owner]
    return np.concatenate([seen[:, :3], cells, seen[:, 3:]], axis=1)[:, None]


def scene_labels(picture: Picture) -> np.ndarray:
    """The whole scene, for each patch anew: int (visual tokens, 16, 3), colour, shape and size of each cell.

    All three are 0 in an empty cell; bars lie in no cell.
    """
    labels = np.zeros((GRID**2, 3), dtype=np.int64)
    for thing in picture.things:
        if not isinstance(thing, Bar):
            labels[thing.row * GRID + thing.column] = np.array(looks(thing)) + 1
    return np.broadcast_to(labels, (TOKENS, *labels.shape))


LOOK_CLASSES = (len(COLORS) + 1, len(SHAPES) + 1, len(SIZES) + 1)
TOWERS = {  # what each patch is trained to say of a scene: labels, of how many objects, and classes of each answer
    "mixing": (patch_labels, 1, (*LOOK_CLASSES, GRID, GRID)),
    "local": (patch_labels, 1, (*LOOK_CLASSES, GRID, GRID)),
    "broadcast": (scene_labels, GRID**2, LOOK_CLASSES),
}


class TowerLoss(nn.Module):
    """Stage 1: linear read-outs of a scene from each patch of the layer LLaVA uses.

    Towers `mixing` and `local` read the colour, shape, size, row and column of what the patch itself shows, `broadcast`
    the look of what lies in each of the sixteen cells. In a `local` tower attention's output is held at zero, so that
    no patch learns of another. With `charts`, patches of a bar also say how high it is.
    """

    def __init__(self, model: Any, kind: str, charts: bool = False):
        super().__init__()
        self.tower, self.layer = model.model.vision_tower, model.config.vision_feature_layer
        self.labels, self.objects, self.classes = TOWERS[kind]
        if charts and self.labels is patch_labels:
            self.classes = (*self.classes, TALLEST + 1)
        self.head = nn.Linear(model.config.vision_config.hidden_size, self.objects * sum(self.classes))
        self.still = [p for name, p in self.tower.named_parameters() if kind == "local" and "out_proj" in name]
        for p in self.still:
            nn.init.zeros_(p)

    def targets(self, pictures: Sequence[Picture]) -> Tensor:
        """(B, visual tokens, objects, answers) int64."""
        return torch.from_numpy(np.stack([self.labels(picture) for picture in pictures]))

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, share of the objects read from each patch whose labels are all right)."""
        hidden = self.tower(images, output_hidden_states=True).hidden_states[self.layer][:, 1:]  # class token dropped
        heads = self.head(hidden).float().unflatten(-1, (self.objects, -1)).split(self.classes, dim=-1)
        present = labels[..., 0] > 0
        weights = torch.where(present, 1.0, BACKGROUND_LOSS).flatten()
        loss = torch.zeros((), device=images.device)
        for k, logits in enumerate(heads):
            losses = nn.functional.cross_entropy(logits.flatten(0, -2), labels[..., k].flatten(), reduction="none")
            loss = loss + (losses * weights).sum() / weights.sum()
        right = torch.stack([logits.argmax(-1) == labels[..., k] for k, logits in enumerate(heads)]).all(0)
        return loss, {"accuracy": right[present].float().mean()}
