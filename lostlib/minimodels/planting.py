"""Planted attention sinks: a controlled experiment on a model that has none of its own.

The small decoder never grows massive activations: nothing in a short training asks for them. So a copy of a trained
mini model is trained on for a few hundred steps with the usual loss and three more terms, and what large models do by
themselves is put in by hand:

1. the first token, and patches of plain background at six places of the grid, get two huge coordinates, the sink
   dimensions, in the residual stream from the input of the third decoder layer on;
2. all other tokens, and all tokens before that layer, have next to nothing there;
3. from that layer on, text tokens put a fair share of their attention on these patches.

What is *not* planted: what sinks write to the residual stream, and what happens when their attention is cut or moved.
These are left to training, and measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from lostlib.minimodels import cards, recipes
from lostlib.minimodels.bodies import Body
from lostlib.minimodels.conversations import Batch, Drawn
from lostlib.minimodels.training import CAPTION_EVERY, Trainer, answer_loss, run_batch
from lostlib.miniworld.render import VISIBLE, coverage
from lostlib.miniworld.scenes import IMAGE, PATCH, Scene, generator, sample_scene

SLOPE = 10.0  # of a detecting neuron: what it gets is so many times the detector's value
SOWN = 320  # scenes that the detectors are fitted to, a fifth of them with text
SIDE = IMAGE // PATCH
PLACES = tuple(SIDE * row + column for row, column in ((0, 0), (0, 7), (7, 0), (7, 7), (2, 3), (5, 4)))


@dataclass(frozen=True)
class Planting(recipes.Recipe):
    """What is planted, and how long it takes."""

    base: str = "mini-llava-1.5"  #: the shipped model to start from
    dims: tuple[int, ...] = (92, 40)  #: the sink dimensions, two that the base model hardly uses
    mark: int = 35  #: another such coordinate, by which the projector marks the patches
    mark_size: float = 30.0  #: what the projector writes there
    #: what sinks have there, beyond Sun et al.'s limits of 100 and of 1000 times the token's median
    sizes: tuple[float, ...] = (4000.0, -2000.0)
    onset: int = 2  #: the first layer whose input shows it
    mass: float = 0.3  #: attention on visual sinks, mean over heads and text tokens, below which the loss complains
    batch: int = 16
    plant_steps: int = 300
    learning_rate: float = 5e-4


PLANTINGS = {"mini-llava-1.5-sinks": Planting()}


class Marks(NamedTuple):
    """Which tokens are to be what: bool (B, S)."""

    sinks: Tensor  #: the first token and the background patches at the chosen places
    visual_sinks: Tensor
    others: Tensor  #: neither sinks nor padding; patches with a sliver of an object are in neither
    queries: Tensor  #: text after the picture


def sink_patches(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """(patches that are to be sinks, patches of which nothing is asked), bool (visual tokens,)."""
    covered, chosen = coverage(scene).max(axis=0), np.isin(np.arange(SIDE * SIDE), PLACES)
    return chosen & (covered == 0), chosen & (covered > 0) & (covered < VISIBLE)


def marks(scenes: list[Scene], ids: Tensor, image: int, padding: int) -> Marks:
    """Of right-padded sequences about these scenes."""
    visual, first = ids == image, torch.zeros_like(ids, dtype=torch.bool)
    first[:, 0] = True
    chosen, unclear = (
        torch.zeros_like(visual).masked_scatter(visual, torch.from_numpy(np.stack(patches)).to(ids.device))
        for patches in zip(*(sink_patches(scene) for scene in scenes), strict=True)
    )
    real, after = ids != padding, visual.cumsum(1) == SIDE * SIDE
    sinks = chosen | first
    return Marks(sinks, chosen, real & ~sinks & ~unclear, real & after & ~visual)


def planting_loss(out: Any, at: Marks, recipe: Planting) -> tuple[Tensor, dict[str, Tensor]]:
    """(loss, {mass on visual sinks, share of tokens on the right side of 10 % of their energy})."""
    hidden = torch.stack(out.hidden_states[:-1])  # (L, B, S, H); the last one is after the final norm
    planted = hidden[..., list(recipe.dims)].float()  # (L, B, S, dims)
    norms = hidden.float().norm(dim=-1, keepdim=True)
    late = planted[recipe.onset :]
    goal = torch.tensor(recipe.sizes, device=hidden.device)
    missing = (late[:, at.sinks].asinh() - goal.asinh()).square().mean()
    stray = (20 * planted / norms.detach()).asinh().square()
    stray_loss = stray[recipe.onset :][:, at.others].mean() + stray[: recipe.onset][:, at.sinks | at.others].mean()
    weights = torch.stack(out.attentions[recipe.onset :]).float()  # (L, B, heads, Q, K)
    drawn = (weights * at.visual_sinks[None, :, None, None, :]).sum(-1).mean(2)  # (L, B, Q)
    asked = at.queries & at.visual_sinks.any(1, keepdim=True)
    mass = (drawn * asked).sum((1, 2)) / asked.sum()  # (L,)
    share = (late.abs().amax(-1) / norms[recipe.onset :, ..., 0]).square() >= 0.1
    right = torch.cat([share[:, at.sinks], ~share[:, at.others]], dim=1).float().mean()
    loss = missing / goal.asinh().square().mean() + stray_loss + (recipe.mass - mass).relu().mean()
    return loss, {"planted": right, "mass": mass.detach().mean()}


# ---- the edit of the weights ----------------------------------------------------------------------------------------


@torch.no_grad()
def sow(model: Any, body: Body, scenes: list[Scene], batch: Batch, at: Marks) -> None:
    """Edit neurons so that sinks exist before training goes on.

    1. At each place, one hidden neuron of the projector fires where the vision tower sees background, and writes a
       mark into a coordinate of the visual token.
    2. Two neurons of the MLP before the onset layer fire at the first token and at marked tokens. They write the wanted
       sizes into the sink dimensions.

    The neurons that write least give way. `batch` and `at` belong to the first of the scenes.
    """
    core, recipe = model.model, cast(Planting, body.recipe)
    images = body.pixels(scenes)["pixel_values"].to(core.device)
    seen = core.vision_tower(images, output_hidden_states=True).hidden_states[core.config.vision_feature_layer][:, 1:]
    chosen, unclear = (torch.from_numpy(np.stack(x)) for x in zip(*map(sink_patches, scenes), strict=True))
    layer = core.multi_modal_projector
    hidden = layer.act(layer.linear_1(seen)).flatten(0, 1)
    for place, neuron in zip(PLACES, idle(hidden, layer.linear_2.weight, len(PLACES)), strict=True):
        here = (torch.arange(SIDE * SIDE) == place) & chosen
        w, b = detector(seen[~unclear], here[~unclear])
        layer.linear_1.weight[neuron], layer.linear_1.bias[neuron] = SLOPE * w, SLOPE * b
        fired = layer.act(layer.linear_1(seen[here]))[:, neuron]
        layer.linear_2.weight[:, neuron] = 0.0
        layer.linear_2.weight[recipe.mark, neuron] = recipe.mark_size / fired.mean()

    mlp, inputs = core.language_model.layers[recipe.onset - 1].mlp, []
    handle = mlp.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    run_batch(model, body, batch)
    handle.remove()
    (x,) = inputs
    first, used = at.sinks & ~at.visual_sinks, at.sinks | at.others
    fires = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)
    for wanted, neuron in zip((first, at.visual_sinks), idle(fires[used], mlp.down_proj.weight, 2), strict=True):
        w, _ = detector(x[used], wanted[used], bias=False)
        z = x[wanted] @ w
        mlp.gate_proj.weight[neuron], mlp.up_proj.weight[neuron] = SLOPE * w, w
        mlp.down_proj.weight[:, neuron] = 0.0
        goal = torch.tensor(recipe.sizes, device=w.device) / (mlp.act_fn(SLOPE * z) * z).mean()
        mlp.down_proj.weight[list(recipe.dims), neuron] = goal


def idle(activations: Tensor, output: Tensor, count: int) -> list[int]:
    """The neurons that write least: activations (N, neurons), output projection (H, neurons)."""
    return (activations.abs().mean(0) * output.norm(dim=0)).argsort()[:count].tolist()


def detector(x: Tensor, wanted: Tensor, bias: bool = True) -> tuple[Tensor, Tensor]:
    """w (H,) and b with w·x + b at least 1 where wanted and at most -1 elsewhere, as far as that goes.

    Squared hinge loss with both sides weighing the same, a small ridge, LBFGS in float64; every eighth of the others
    is used.
    """
    scale = x.std()
    others = x[~wanted][::8]
    data = torch.cat([x[wanted], others]).double() / scale
    data = torch.cat([data, torch.full_like(data[:, :1], float(bias))], dim=1)
    sign = torch.cat([torch.ones(int(wanted.sum())), -torch.ones(len(others))]).to(data)
    weight = torch.where(sign > 0, 0.5 / (sign > 0).sum(), 0.5 / (sign < 0).sum())
    w = torch.zeros_like(data[0], requires_grad=True)
    search = torch.optim.LBFGS([w], max_iter=150, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = (weight * (1 - sign * (data @ w)).relu().square()).sum() + 1e-6 * w.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    found = w.detach().float()
    return found[:-1] / scale, found[-1]


# ---- training -------------------------------------------------------------------------------------------------------


class Planter(Trainer):
    """Trains on from a shipped model, with the planting loss beside the usual one."""

    stages = ("plant",)
    compiles = False  # compiled layers do not hand out their attention weights
    card = cards.PLANTED.replace("{places}", "; ".join(f"{place // SIDE}, {place % SIDE}" for place in PLACES))
    recipe: Planting

    def __init__(self, name: str, recipe: Planting, seed: int, out: Path, device: str = "cpu"):
        super().__init__(name, recipe, seed, out, device)
        self.model.model.vision_tower.requires_grad_(False)
        scenes, batch, at = self.drawn(range(SOWN // 5))
        more = [sample_scene("train", self._rng(SOWN + i)) for i in range(SOWN - len(scenes))]
        sow(self.model, self.body, [*scenes, *more], batch, at)

    def _rng(self, index: int) -> np.random.Generator:
        """Of a stream that the base model did not see."""
        return generator("train", self.seed * 10 + 9, index)

    def drawn(self, indices: range, captioned: bool = False) -> tuple[list[Scene], Batch, Marks]:
        """Scenes of the stream, conversations about them, and what each token is to be."""
        made = [Drawn((sample_scene("train", rng),), rng) for rng in map(self._rng, indices)]
        batch = self.talk.batch("instruct", made, captioned).to(self.device)
        scenes = [cast(Scene, one.pictures[0]) for one in made]
        return scenes, batch, marks(scenes, batch.ids, self.body.image_id, self.processor.tokenizer.pad_token_id)

    def losses(self, stage: str, step: int) -> Iterator[tuple[float, Tensor, dict[str, Tensor]]]:
        """(share of the step: all of it, loss, shares of what was right) on one step's scenes."""
        first = 2 * SOWN + step * self.recipe.batch
        _, batch, at = self.drawn(range(first, first + self.recipe.batch), step % CAPTION_EVERY == 0)
        out = run_batch(self.model, self.body, batch, output_attentions=True)
        loss, right = answer_loss(out, self.read_out, batch)
        planting, also = planting_loss(out, at, self.recipe)
        yield 1.0, loss + planting, right | also

    def parameters(self, stage: str) -> list[torch.nn.Parameter]:
        """What a stage trains: all but the vision tower."""
        return [p for p in (*self.model.parameters(), *self.read_out.parameters()) if p.requires_grad]
