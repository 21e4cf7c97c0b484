"""Stage 1 of training: what each patch of the vision tower is to say, for three kinds of tower."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lostlib.minimodels.bodies import Body
from lostlib.minimodels.conversations import looks
from lostlib.miniworld.charts import TALLEST, Bar
from lostlib.miniworld.questions import LOOKS
from lostlib.miniworld.render import Picture, coverage
from lostlib.miniworld.scenes import COLORS, GRID, IMAGE, MAX_OBJECTS, PATCH, SHAPES, SIZES

BACKGROUND_LOSS = 0.2  # weight of a background patch against an object's
PATCH_CLASSES = (len(COLORS) + 1, len(SHAPES) + 1, len(SIZES) + 1, GRID, GRID)
SCENE_CLASSES = (*[2] * len(LOOKS), *[MAX_OBJECTS + 1] * (len(COLORS) + len(SHAPES)))


def patch_labels(picture: Picture, side: int = IMAGE // PATCH) -> np.ndarray:
    """What each of side x side patches mostly shows: int (patches, 6), colour, shape, size, row, column, bar's height.

    Row and column are the patch's cell; the others are 0 where fewer than 6 pixels are covered. A bar has a colour and
    a height, but no shape and no size.
    """
    covered, block = coverage(picture), IMAGE // PATCH // side
    covered = covered.reshape(-1, side, block, side, block).sum((2, 4)).reshape(len(covered), -1)
    owner = np.where(covered.max(axis=0) >= 6, covered.argmax(axis=0), -1)
    shown = [
        (list(COLORS).index(thing.color) + 1, 0, 0, thing.height)
        if isinstance(thing, Bar)
        else (*(value + 1 for value in looks(thing)), 0)
        for thing in picture.things
    ]
    cells = np.indices((side, side)).reshape(2, -1).T * GRID // side
    seen = np.array([*shown, (0, 0, 0, 0)])[owner]
    return np.concatenate([seen[:, :3], cells, seen[:, 3:]], axis=1)


def scene_labels(picture: Picture) -> np.ndarray:
    """The whole scene: for each of the 35 looks whether it is there, then how many objects of each colour and shape."""
    things = [thing for thing in picture.things if not isinstance(thing, Bar)]
    there = [any((t.color, t.shape) == look for t in things) for look in LOOKS]
    counts = [sum(t.color == c for t in things) for c in COLORS] + [sum(t.shape == s for t in things) for s in SHAPES]
    return np.array([*there, *counts], dtype=np.int64)


class TowerLoss(nn.Module):
    """Stage 1: linear read-outs of a scene from what the tower hands on of each patch.

    Every tower's patches say the colour, shape, size, row and column of what they show themselves. In a `mixing` tower
    they may look at the others to know it; in a `local` one attention's output is held at zero, so that no patch learns
    of another; in a `broadcast` tower each patch also says what is anywhere in the scene and how often. With `charts`,
    patches of a bar say how high it is.
    """

    def __init__(self, model: Any, body: Body, charts: bool = False):
        super().__init__()
        kind = body.recipe.tower
        self.tower, self.arranged = body.tower(model), body.arranged
        self.seen = partial(body.seen, model)  # not an attribute: the whole model is no part of this one
        self.own = (*PATCH_CLASSES, TALLEST + 1) if charts else PATCH_CLASSES
        self.scene = SCENE_CLASSES if kind == "broadcast" else ()
        self.head = nn.Linear(body.seen_width, sum(self.own) + sum(self.scene))
        self.still = [p for name, p in self.tower.named_parameters() if kind == "local" and "out_proj" in name]
        for p in self.still:
            nn.init.zeros_(p)

    def targets(self, pictures: Sequence[Picture]) -> Tensor:
        """(B, visual tokens, answers) int64."""
        both = [(patch_labels(picture), patch_labels(picture, GRID)) for picture in pictures]
        own = np.stack([self.arranged(fine, coarse)[:, : len(self.own)] for fine, coarse in both])
        if not self.scene:
            return torch.from_numpy(own)
        scenes = np.stack([scene_labels(picture) for picture in pictures])
        spread = np.broadcast_to(scenes[:, None], (*own.shape[:2], scenes.shape[1]))
        return torch.from_numpy(np.concatenate([own, spread], axis=-1))

    def forward(self, pixels: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, shares of object patches, and of patches asked for the scene, whose answers are all right)."""
        heads = self.head(self.seen(pixels)).float().split((*self.own, *self.scene), dim=-1)
        present = labels[..., 0] > 0
        weights, even = torch.where(present, 1.0, BACKGROUND_LOSS), torch.ones_like(present, dtype=torch.float32)
        loss = torch.zeros((), device=labels.device)
        for k, logits in enumerate(heads):
            losses = nn.functional.cross_entropy(logits.flatten(0, -2), labels[..., k].flatten(), reduction="none")
            weight = (weights if k < len(self.own) else even).flatten()
            loss = loss + (losses * weight).sum() / weight.sum()
        right = torch.stack([logits.argmax(-1) == labels[..., k] for k, logits in enumerate(heads)])
        shares = {"accuracy": right[: len(self.own)].all(0)[present].float().mean()}
        if self.scene:
            shares["scene"] = right[len(self.own) :].all(0).float().mean()
        return loss, shares
