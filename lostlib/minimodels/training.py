"""Training of a mini LVLM the way LLaVA is trained, from nothing, on two CPU cores or a GPU.

1. tower     the vision tower alone, on dense labels: which colour, shape and size does each patch show, and where?
2. captions  projector and language model describe objects and say how they lie to one another; the tower stands still
3. instruct  everything; several questions per image in one sequence, one batch in eight with captions first

In stages 2 and 3 a linear read-out asks the residual stream what each reference refers to ("the red object": its
colour, shape, size, row and column), and what lies where at the second of two references. Without it, questions about
two objects stay at chance for hours: a model must find two things and compare them before the first right answer.

A recipe with all kinds of questions mixes in the wider mini world (`topics`): charts, of which a third read-out tells
the height of a bar, and several images in one sequence. It may start from a model that knows the first kinds.

Step s of a stage sees the train scenes number s*batch ... (s+1)*batch - 1 of that stage's own stream, so a run that is
stopped and started again sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from lostlib import paths
from lostlib.machine import keep_memory
from lostlib.minimodels import bodies, cards, recipes
from lostlib.minimodels.bodies import Body
from lostlib.minimodels.conversations import STAGES, Batch, Conversations, drawn_for_step
from lostlib.minimodels.towers import TowerLoss
from lostlib.miniworld.charts import TALLEST
from lostlib.miniworld.scenes import COLORS, GRID, SHAPES, SIZES

CAPTION_EVERY = 8  # steps of the last stage
PARTS = 4  # of a batch, sequences of about one length in each: else a third of the work would be on padding
READOUT_LOSS = 0.5  # weight of each read-out against the answers
SAVED = {"key", "stage", "step", "seconds", "log", "model", "heads", "optimizer"}  # what a state holds
NOTE_EVERY, SAVE_EVERY = 50, 100  # steps between lines of the log and between saved states


class ReadOut(nn.Module):
    """Linear read-outs of the residual stream: which object a reference means, and where it lies from another one.

    Of a bar in a chart its height is read. Objects are read in the middle of the decoder, pairs one layer later, so
    that later layers can use them. Where the tower does not know places, visual tokens are asked theirs one layer
    earlier: the decoder has to find them out before it can say where an object lies.
    """

    def __init__(self, config: Any):
        super().__init__()
        text = config.text_config
        self.middle = text.num_hidden_layers // 2  # as many layers lie before
        self.object_classes, self.pair_classes = (len(COLORS), len(SHAPES), len(SIZES), GRID, GRID), (3, 3)
        self.objects = self._head(text.hidden_size, self.object_classes)
        self.pairs = self._head(text.hidden_size, self.pair_classes)
        self.bars = self._head(text.hidden_size, (TALLEST,))
        self.places = self._head(text.hidden_size, (GRID, GRID))

    @staticmethod
    def _head(width: int, classes: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, sum(classes)))

    def forward(self, hidden: tuple[Tensor, ...], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, shares of references, pairs, bars and places that are read right in all respects)."""
        loss, right = torch.zeros((), device=batch.ids.device), {}
        for name, head, classes, layer, marks in (
            ("objects", self.objects, self.object_classes, self.middle, batch.references),
            ("pairs", self.pairs, self.pair_classes, self.middle + 1, batch.pairs),
            ("bars", self.bars, (TALLEST,), self.middle, batch.bars),
            ("places", self.places, (GRID, GRID), self.middle - 1, batch.places),
        ):
            if len(marks):
                read = head(hidden[layer][marks[:, 0], marks[:, 1]]).float().split(classes, dim=-1)
                labels = marks[:, 2:].unbind(1)
                for logits, label in zip(read, labels, strict=True):
                    loss = loss + nn.functional.cross_entropy(logits, label)
                right[name] = torch.stack([a.argmax(-1) == b for a, b in zip(read, labels, strict=True)]).all(0)
        return loss, {name: values.float().mean() for name, values in right.items()}


def run_batch(model: Any, body: Body, batch: Batch, **asked: bool) -> Any:
    """The model's output for a batch, with hidden states; `asked` may name more."""
    mask = torch.ones_like(batch.ids)  # right padding needs no mask: it carries no loss and nothing follows it
    given = {"input_ids": batch.ids, "attention_mask": mask, **batch.pixels, **body.given(batch.ids)}
    return model(**given, use_cache=False, output_hidden_states=True, **asked)


def answer_loss(out: Any, read_out: ReadOut, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """(weighted next-token loss with that of the read-outs, shares predicted right: answer tokens and read-outs)."""
    logits, targets, weights = out.logits[:, :-1], batch.ids[:, 1:], batch.weights[:, 1:]
    wanted = weights > 0
    losses = nn.functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="none")
    right = (logits[wanted].argmax(-1) == targets[wanted]).float()
    answers = weights[wanted] == 1
    read_loss, read_right = read_out(cast(tuple[Tensor, ...], out.hidden_states), batch)
    loss = (losses * weights[wanted]).sum() / weights[wanted].sum() + READOUT_LOSS * read_loss
    return loss, {"accuracy": right[answers].mean() if answers.any() else right.mean(), **read_right}


def schedule(step: int, steps: int, warmup: int = 100) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Trainer:
    """Runs the stages, writes a log line every 50 steps and a resumable state every 100."""

    stages: tuple[str, ...] = STAGES
    compiles = True
    card = cards.CARD

    def __init__(self, name: str, recipe: recipes.Recipe, seed: int, out: Path, device: str = "cpu"):
        torch.manual_seed(seed)
        self.name, self.recipe, self.seed, self.out, self.device = name, recipe, seed, out, torch.device(device)
        self.body = bodies.body(recipe)
        self.processor = self.body.processor
        self.model: Any = self.body.model().to(self.device)
        if recipe.base:
            self._start_from(recipe.base)
        self.model.set_attn_implementation("eager")  # faster than sdpa at this size
        if self.compiles and shutil.which("g++"):  # fused element-wise steps: a third faster; needs a C++ compiler
            for layer in self.model.model.language_model.layers:
                layer.compile(dynamic=True)
        self.tower = TowerLoss(self.model, self.body, charts=recipe.kinds == "all").to(self.device)
        self.read_out = ReadOut(self.model.config).to(self.device)
        self.talk = Conversations(self.body)
        self.stage, self.step, self.seconds = self.stages[0], 0, 0.0
        self.log: list[dict] = []

    @torch.no_grad()
    def _start_from(self, base: str) -> None:
        """Take a shipped model's weights; words that it does not know keep their random embeddings."""
        known = type(self.model).from_pretrained(paths.MODELS / base, dtype=torch.float32).state_dict()
        for name, weight in self.model.state_dict().items():
            weight[: len(known[name])].copy_(known[name]) if weight.ndim else weight.copy_(known[name])

    # -- the losses ----------------------------------------------------------------------------------------------------

    def losses(self, stage: str, step: int) -> Iterator[tuple[float, Tensor, dict[str, Tensor]]]:
        """(share of the step, loss, shares of what was right) on each part of one step's scenes."""
        drawn = drawn_for_step(stage, self.seed, step, self.recipe.batch, self.recipe.kinds)
        if stage == "tower":
            pictures = [one.pictures[0] for one in drawn]
            pixels = {name: value.to(self.device) for name, value in self.body.pixels(pictures).items()}
            yield 1.0, *self.tower(pixels, self.tower.targets(pictures).to(self.device))
            return
        captioned = stage == "captions" or step % CAPTION_EVERY == 0
        parts = self.talk.batches(stage, drawn, captioned, PARTS)
        total = sum(float(part.weights.sum()) for part in parts)
        for part in parts:
            batch = part.to(self.device)
            yield (
                float(part.weights.sum()) / total,
                *answer_loss(run_batch(self.model, self.body, batch), self.read_out, batch),
            )

    def parameters(self, stage: str) -> list[nn.Parameter]:
        """What a stage trains."""
        still = {id(p) for p in self.tower.still}
        tower = list(self.tower.parameters())
        if stage == "tower":
            return [p for p in tower if id(p) not in still]
        if stage == "captions" or self.recipe.tower_stands_still:
            still |= {id(p) for p in self.body.still(self.model)}
        return [p for p in (*self.model.parameters(), *self.read_out.parameters()) if id(p) not in still]

    def steps(self, stage: str) -> int:
        """Length of a stage."""
        return getattr(self.recipe, f"{stage}_steps")

    # -- running and resuming -----------------------------------------------------------------------------------------

    def run(self, tell: Callable[[str], None] = print) -> Any:
        """All stages, from where the saved state stopped."""
        keep_memory()
        saved = self._load()
        for stage in self.stages[self.stages.index(self.stage) :]:
            self._stage(stage, saved)
            saved = None
        tell(f"trained in {self.seconds / 60:.1f} minutes")
        return self.model

    def _stage(self, stage: str, saved: dict | None) -> None:
        trained = self.parameters(stage)
        moving = {id(p) for p in trained}
        for p in (*self.model.parameters(), *self.tower.head.parameters(), *self.read_out.parameters()):
            p.requires_grad_(id(p) in moving)  # what stands still costs no backward pass
        optimizer = torch.optim.AdamW(trained, lr=0, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
        start = 0
        if saved is not None:
            optimizer.load_state_dict(saved["optimizer"])
            start = self.step
        self.stage, began, total = stage, time.monotonic(), self.steps(stage)
        recent: list[dict[str, float]] = []
        self.model.train()
        for step in tqdm(range(start, total), initial=start, total=total, desc=stage, mininterval=10):
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * schedule(step, total)
            optimizer.zero_grad(set_to_none=True)
            recent.append(self._backward(stage, step))
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            self.step = step + 1
            if self.step % NOTE_EVERY == 0 or self.step == total:
                self.seconds, began = self.seconds + time.monotonic() - began, time.monotonic()
                self._note(recent)
                recent = []
            if self.step % SAVE_EVERY == 0 or self.step == total:
                self._save(optimizer)

    def _backward(self, stage: str, step: int) -> dict[str, float]:
        """Gradients of one step, and the means of its parts for the log."""
        sums, shares = dict[str, float](), dict[str, float]()
        parts = self.losses(stage, step)
        while True:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                part = next(parts, None)
            if part is None:
                return {name: total / shares[name] for name, total in sums.items()}
            share, loss, right = part
            (share * loss).backward()
            for name, value in {"loss": loss.detach(), **right}.items():
                sums[name] = sums.get(name, 0.0) + share * float(value)
                shares[name] = shares.get(name, 0.0) + share

    def _note(self, recent: list[dict[str, float]]) -> None:
        means = {name: round(float(np.mean([r[name] for r in recent if name in r])), 4) for name in recent[-1]}
        self.log.append({"stage": self.stage, "step": self.step, **means, "seconds": round(self.seconds)})
        with paths.replacing(self.out / "training_log.jsonl") as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in self.log))

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
            "heads": [head.state_dict() for head in (self.tower.head, self.read_out)],
            "optimizer": optimizer.state_dict(),
        }
        with paths.replacing(self._state()) as partial:
            torch.save(state, partial)

    def _load(self) -> dict | None:
        """The saved state, when it is whole; one of another model, recipe or seed is an error."""
        if not self._state().exists():
            return None
        try:
            saved = torch.load(self._state(), weights_only=True, map_location=self.device)
            if lacking := SAVED - saved.keys():
                raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever torch and pickle make of a file that was cut off
            said = f"{type(error).__name__}: {error}".partition("\n")[0]
            print(f"{self._state()} is damaged, training starts again ({said})", file=sys.stderr)
            return None
        if saved["key"] != self._key():
            raise ValueError(f"{self._state()} belongs to another training run: {saved['key']}")
        self.model.load_state_dict(saved["model"])
        for head, state in zip((self.tower.head, self.read_out), saved["heads"], strict=True):
            head.load_state_dict(state)
        self.stage, self.step, self.seconds, self.log = (
            saved["stage"],
            saved["step"],
            saved["seconds"],
            json.loads(saved["log"]),
        )
        return saved
