"""Training of a mini LVLM the way LLaVA is trained, from nothing, on two CPU cores or a GPU.

1. tower     the vision tower alone, on dense labels: which colour, shape and size does each patch show?
2. captions  projector and language model name and describe objects in random order; the tower stands still
3. instruct  everything; several questions per image in one sequence, one batch in eight starts with captions
4. relate    the same with more questions about relations, one batch in two starts with how objects lie to one another

Step s of a stage sees the train scenes number s*batch ... (s+1)*batch - 1 of that stage's own stream, so a run that is
stopped and started again sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from lostlib import paths
from lostlib.miniworld import build, cards
from lostlib.miniworld.questions import ask, caption, relations_caption
from lostlib.miniworld.render import coverage, pixels
from lostlib.miniworld.scenes import (
    CELL,
    COLORS,
    GRID,
    IMAGE,
    PATCH,
    SHAPES,
    SIZES,
    Scene,
    generator,
    sample_scene,
)
from lostlib.names import nearest

KIND_WEIGHTS = {
    "instruct": {
        "existence": 0.13, "color": 0.06, "shape": 0.06, "size": 0.05, "location": 0.12, "count": 0.13,
        "count_plus": 0.05, "arithmetic": 0.08, "relation": 0.18, "relation_choice": 0.14,
    },
    "relate": {
        "existence": 0.06, "color": 0.05, "shape": 0.05, "size": 0.12, "location": 0.04, "count": 0.14,
        "count_plus": 0.07, "arithmetic": 0.07, "relation": 0.22, "relation_choice": 0.18,
    },
}  # fmt: skip
QUESTIONS = 6  # a sequence
CAPTION_EVERY = {"captions": 1, "instruct": 8, "relate": 2}  # steps
CAPTION_LOSS = 0.2  # weight of a caption token against an answer token
MEAN, STD = (
    np.array(v, dtype=np.float32) for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)
BACKGROUND_LOSS = 0.2  # weight of a background patch against an object's
END_LOSS = 0.1  # weight of </s>, which is soon known
NOTE_EVERY, SAVE_EVERY = 50, 250  # steps between lines of the log and between saved states
CAPTIONS = {"captions": ("Describe the image.", caption), "relate": ("Where are the objects?", relations_caption)}
STAGES = ("tower", "captions", "instruct", "relate")


@dataclass
class Batch:
    """Token ids, loss weights of each target token, and pictures."""

    ids: Tensor  # (B, S) int64
    weights: Tensor  # (B, S), weight of predicting this token from the ones before it; 0 for prompts and padding
    images: Tensor  # (B, 3, H, W) normalised


def scenes_of_step(stage: str, seed: int, step: int, batch: int) -> list[tuple[Scene, np.random.Generator]]:
    """The training scenes of one step, each with a generator of its own."""
    rngs = (generator("train", seed * 10 + STAGES.index(stage), step * batch + i) for i in range(batch))
    return [(sample_scene("train", rng), rng) for rng in rngs]


def picture_tensor(scenes: list[Scene]) -> Tensor:
    """Pictures as the processor would hand them over: (B, 3, H, W) float32."""
    stacked = np.stack([pixels(scene) for scene in scenes]).astype(np.float32) / 255
    return torch.from_numpy((stacked - MEAN) / STD).permute(0, 3, 1, 2).contiguous()


class Conversations:
    """Turns scenes into token sequences: <s> USER: <image>… question ASSISTANT: answer </s> USER: …"""

    def __init__(self, tokens: PreTrainedTokenizerFast, visual_tokens: int):
        self.tokens, self.cache = tokens, {}  # type: ignore[var-annotated]
        self.image = [cast(int, tokens.convert_tokens_to_ids("<image>"))] * visual_tokens

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text; the mini world repeats itself, so each is encoded once."""
        if text not in self.cache:
            self.cache[text] = self.tokens.encode(text, add_special_tokens=False)
        return self.cache[text]

    def turns(
        self, stage: str, scene: Scene, rng: np.random.Generator, captioned: bool
    ) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """(request, reply) of each turn; a reply is pieces of text with their loss weights."""
        if captioned:
            request, describe = CAPTIONS.get(stage, CAPTIONS["captions"])
            weighted = [zip(pair, (0.0, CAPTION_LOSS), strict=True) for pair in describe(scene, rng)]
            yield request, [piece for pair in weighted for piece in pair]
        if stage in KIND_WEIGHTS:
            names, weights = list(KIND_WEIGHTS[stage]), np.array(list(KIND_WEIGHTS[stage].values()))
            for _ in range(QUESTIONS):
                question = ask(scene, rng, names, weights)
                yield question.text, [(question.answer, 1.0)]

    def sequence(
        self, stage: str, scene: Scene, rng: np.random.Generator, captioned: bool
    ) -> tuple[list[int], list[float]]:
        """Ids and loss weights of one conversation."""
        ids, weights = [self.tokens.bos_token_id], [0.0]

        def add(tokens: list[int], weight: float) -> None:
            ids.extend(tokens)
            weights.extend([weight] * len(tokens))

        for i, (request, reply) in enumerate(self.turns(stage, scene, rng, captioned)):
            add(self.encode("USER:") + (self.image if i == 0 else []) + self.encode(f"{request} ASSISTANT:"), 0.0)
            for text, weight in reply:
                add(self.encode(text), weight)
            add([cast(int, self.tokens.eos_token_id)], END_LOSS)
        return ids, weights

    def batch(self, stage: str, drawn: list[tuple[Scene, np.random.Generator]], captioned: bool) -> Batch:
        """A right-padded batch."""
        made = [self.sequence(stage, scene, rng, captioned) for scene, rng in drawn]
        longest = max(len(ids) for ids, _ in made)
        ids = torch.full((len(made), longest), self.tokens.pad_token_id)
        weights = torch.zeros(len(made), longest)
        for row, (tokens, loss) in enumerate(made):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            weights[row, : len(loss)] = torch.tensor(loss)
        return Batch(ids, weights, picture_tensor([scene for scene, _ in drawn]))


def patch_labels(scene: Scene) -> np.ndarray:
    """What each patch mostly shows, and where it is: int (visual tokens, 5) for colour, shape, size, row, column.

    The first three are 0 where fewer than 6 pixels are covered.
    """
    covered = coverage(scene)
    owner = np.where(covered.max(axis=0) >= 6, covered.argmax(axis=0), -1)
    looks = [
        (list(COLORS).index(t.color) + 1, SHAPES.index(t.shape) + 1, list(SIZES).index(t.size) + 1)
        for t in scene.things
    ]
    cells = np.indices((IMAGE // PATCH, IMAGE // PATCH)).reshape(2, -1).T * PATCH // CELL
    return np.concatenate([np.array([*looks, (0, 0, 0)])[owner], cells], axis=1)


class TowerLoss(nn.Module):
    """Stage 1: linear read-outs of colour, shape, size, row and column from each patch of the layer LLaVA uses."""

    def __init__(self, model: Any):
        super().__init__()
        self.tower, self.layer = model.model.vision_tower, model.config.vision_feature_layer
        self.classes = (len(COLORS) + 1, len(SHAPES) + 1, len(SIZES) + 1, GRID, GRID)
        self.head = nn.Linear(model.config.vision_config.hidden_size, sum(self.classes))

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, share of object patches whose labels are all right)."""
        hidden = self.tower(images, output_hidden_states=True).hidden_states[self.layer][:, 1:]  # class token dropped
        heads = self.head(hidden).float().split(self.classes, dim=-1)
        objects = labels[..., 0] > 0
        weights = torch.where(objects, 1.0, BACKGROUND_LOSS).flatten()
        loss = torch.zeros((), device=images.device)
        for k, logits in enumerate(heads):
            losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels[..., k].flatten(), reduction="none")
            loss = loss + (losses * weights).sum() / weights.sum()
        right = torch.stack([logits.argmax(-1) == labels[..., k] for k, logits in enumerate(heads)]).all(0)
        return loss, right[objects].float().mean()


def answer_loss(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, Tensor]:
    """(weighted next-token loss, share of answer tokens predicted right)."""
    mask = torch.ones_like(
        batch.ids
    )  # right padding needs no mask: what is padded carries no loss and nothing follows it
    logits = model(input_ids=batch.ids, pixel_values=batch.images, attention_mask=mask, use_cache=False).logits[:, :-1]
    targets, weights = batch.ids[:, 1:], batch.weights[:, 1:]
    wanted = weights > 0
    losses = nn.functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="none")
    right = (logits[wanted].argmax(-1) == targets[wanted]).float()
    answers = weights[wanted] == 1
    accuracy = right[answers].mean() if answers.any() else right.mean()
    return (losses * weights[wanted]).sum() / weights[wanted].sum(), accuracy


def schedule(step: int, steps: int, warmup: int = 100) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Trainer:
    """Runs the stages, writes a log line every 50 steps and a resumable state every 250."""

    def __init__(self, name: str, recipe: build.Recipe, seed: int, out: Path, device: str = "cpu"):
        torch.manual_seed(seed)
        self.name, self.recipe, self.seed, self.out, self.device = name, recipe, seed, out, torch.device(device)
        self.processor = build.processor()
        self.model: Any = cast(Any, build.model(recipe, self.processor.tokenizer)).to(self.device)
        self.model.set_attn_implementation("eager")  # faster than sdpa at this size
        if shutil.which("g++"):  # fused element-wise steps: about a third faster; needs a C++ compiler
            for layer in self.model.model.language_model.layers:
                layer.compile(dynamic=True)
        self.tower = TowerLoss(self.model).to(self.device)
        self.talk = Conversations(self.processor.tokenizer, self.model.config.image_seq_length)
        self.stage, self.step, self.seconds = STAGES[0], 0, 0.0
        self.log: list[dict] = []

    # -- the losses ----------------------------------------------------------------------------------------------------

    def loss(self, stage: str, step: int) -> tuple[Tensor, Tensor]:
        """(loss, accuracy) of one step's scenes."""
        drawn = scenes_of_step(stage, self.seed, step, self.recipe.batch)
        if stage == "tower":
            labels = torch.from_numpy(np.stack([patch_labels(scene) for scene, _ in drawn])).to(self.device)
            return self.tower(picture_tensor([scene for scene, _ in drawn]).to(self.device), labels)
        batch = self.talk.batch(stage, drawn, captioned=step % CAPTION_EVERY[stage] == 0)
        batch = Batch(*(t.to(self.device) for t in (batch.ids, batch.weights, batch.images)))
        return answer_loss(self.model, batch)

    def parameters(self, stage: str) -> list[nn.Parameter]:
        """What a stage trains."""
        tower = list(self.tower.parameters())
        if stage == "tower":
            return tower
        everything = list(self.model.parameters())
        if stage != "captions":
            return everything
        still = {id(p) for p in tower}
        return [p for p in everything if id(p) not in still]

    def steps(self, stage: str) -> int:
        """Length of a stage."""
        return getattr(self.recipe, f"{stage}_steps")

    def horizon(self, stage: str) -> int:
        """Length of a stage's learning-rate cosine."""
        return self.recipe.instruct_horizon if stage == "instruct" else self.steps(stage)

    # -- running and resuming -----------------------------------------------------------------------------------------

    def run(self, tell: Callable[[str], None] = print) -> LlavaForConditionalGeneration:
        """All stages, from where the saved state stopped."""
        saved = self._load()
        for stage in STAGES[STAGES.index(self.stage) :]:
            self._stage(stage, saved)
            saved = None
        tell(f"trained in {self.seconds / 60:.1f} minutes")
        return self.model

    def _stage(self, stage: str, saved: dict | None) -> None:
        optimizer = torch.optim.AdamW(self.parameters(stage), lr=0, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
        start = 0
        if saved is not None:
            optimizer.load_state_dict(saved["optimizer"])
            start = self.step
        self.stage, began, total = stage, time.monotonic(), self.steps(stage)
        recent: list[tuple[float, float]] = []
        self.model.train()
        for step in tqdm(range(start, total), initial=start, total=total, desc=stage, mininterval=10):
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * schedule(step, self.horizon(stage))
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                loss, accuracy = self.loss(stage, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(stage), 1.0)
            optimizer.step()
            recent.append((float(loss.detach()), float(accuracy)))
            self.step = step + 1
            if self.step % NOTE_EVERY == 0 or self.step == total:
                self.seconds, began = self.seconds + time.monotonic() - began, time.monotonic()
                self._note(recent)
                recent = []
            if self.step % SAVE_EVERY == 0 or self.step == total:
                self._save(optimizer)

    def _note(self, recent: list[tuple[float, float]]) -> None:
        loss, accuracy = np.mean(recent, axis=0)
        self.log.append(
            {
                "stage": self.stage,
                "step": self.step,
                "loss": round(float(loss), 4),
                "accuracy": round(float(accuracy), 4),
                "seconds": round(self.seconds),
            }
        )
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "training_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.log))

    def _key(self) -> str:
        return json.dumps([self.name, asdict(self.recipe), self.seed])

    def _state(self) -> Path:
        return self.out / "training_state.pt"

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        state = {
            "key": self._key(),
            "stage": self.stage,
            "step": self.step,
            "seconds": self.seconds,
            "log": json.dumps(self.log),
            "model": self.model.state_dict(),
            "head": self.tower.head.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        partial = self._state().with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self._state())

    def _load(self) -> dict | None:
        """The saved state, when it belongs to this model, recipe and seed."""
        if not self._state().exists():
            return None
        saved = torch.load(self._state(), weights_only=True, map_location=self.device)
        if saved["key"] != self._key():
            raise ValueError(f"{self._state()} belongs to another training run: {saved['key']}")
        self.model.load_state_dict(saved["model"])
        self.tower.head.load_state_dict(saved["head"])
        self.stage, self.step, self.seconds, self.log = (
            saved["stage"],
            saved["step"],
            saved["seconds"],
            json.loads(saved["log"]),
        )
        return saved


def train(name: str, seed: int = 0, device: str = "cpu", out: Path | None = None, work: Path | None = None) -> Path:
    """Train a mini model, examine it on held-out scenes, and save it in hub format with its card and training log.

    Parameters
    ----------
    name : str
        A row of `lostlib.miniworld.build.RECIPES`.
    seed : int
        Of the initial weights and of the training scenes.
    device : str
        ``"cpu"`` or ``"cuda"``.
    out : Path, optional
        Folder of models; the model becomes ``out/name``. `data/models` by default.
    work : Path, optional
        Where the resumable state is kept; ``_build/train`` by default.
    """
    if name not in build.RECIPES:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(build.RECIPES)}{nearest(name, build.RECIPES)}")
    trainer = Trainer(name, build.RECIPES[name], seed, (work or Path("_build/train")) / f"{name}-seed{seed}", device)
    trainer.run()
    return cards.publish(trainer, (out or paths.MODELS) / name)
