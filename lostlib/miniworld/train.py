"""Training of a mini LVLM the way LLaVA is trained, from nothing, on two CPU cores or a GPU.

1. tower     the vision tower alone, on dense labels: which colour, shape and size does each patch show, and where?
2. captions  projector and language model describe objects and say how they lie to one another; the tower stands still
3. instruct  everything; several questions per image in one sequence, one batch in eight with captions first

In stages 2 and 3 a linear read-out asks the residual stream what each reference refers to ("the red object": its
colour, shape, size, row and column), and what lies where at the second of two references. Without it, questions about
two objects stay at chance for hours: a model must find two things and compare them before the first right answer.

Step s of a stage sees the train scenes number s*batch ... (s+1)*batch - 1 of that stage's own stream, so a run that is
stopped and started again sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import ctypes.util
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from lostlib import paths
from lostlib.miniworld import build, cards
from lostlib.miniworld.questions import NOUNS, Line, ask, describe, relate
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
    Thing,
    generator,
    sample_scene,
)
from lostlib.names import nearest

KIND_WEIGHTS = {
    "existence": 0.08, "color": 0.04, "shape": 0.04, "size": 0.06, "location": 0.06, "count": 0.13,
    "count_plus": 0.07, "arithmetic": 0.14, "relation": 0.22, "relation_choice": 0.16,
}  # fmt: skip
QUESTIONS = 6  # a sequence
CAPTION_EVERY = 8  # steps of the last stage
CAPTION_LOSS = 0.2  # weight of a caption token against an answer token
READOUT_LOSS = 0.5  # weight of each read-out against the answers
MEAN, STD = (
    np.array(v, dtype=np.float32) for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)
BACKGROUND_LOSS = 0.2  # weight of a background patch against an object's
END_LOSS = 0.1  # weight of </s>, which is soon known
NOTE_EVERY, SAVE_EVERY = 50, 250  # steps between lines of the log and between saved states
CAPTIONS = {"Describe the image.": describe, "Where are the objects?": relate}
STAGES = ("tower", "captions", "instruct")


@dataclass
class Batch:
    """Token ids, loss weights of each target token, pictures, and which token refers to what.

    ids         (B, S) int64
    weights     (B, S), weight of predicting this token from the ones before it; 0 for prompts and padding
    images      (B, 3, H, W) normalised
    references  (R, 7) int64: sequence, token, then colour, shape, size, row and column of the object referred to
    pairs       (P, 4) int64: sequence, token of a second reference, then on which side of it the first lies: 0 left,
                1 in the same column, 2 right; 0 above, 1 in the same row, 2 below
    """

    ids: Tensor
    weights: Tensor
    images: Tensor
    references: Tensor
    pairs: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class Piece:
    """Words of a conversation, the loss weight of their tokens, and the objects they refer to, in order."""

    words: str
    weight: float = 0.0
    things: tuple[int, ...] = ()


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
        self.nouns = set(cast(list[int], tokens.convert_tokens_to_ids(list(NOUNS))))

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text; the mini world repeats itself, so each is encoded once."""
        if text not in self.cache:
            self.cache[text] = self.tokens.encode(text, add_special_tokens=False)
        return self.cache[text]

    def turns(self, stage: str, scene: Scene, rng: np.random.Generator, captioned: bool) -> Iterator[list[Piece]]:
        """The request and the reply of each turn, in pieces."""
        for request, make in CAPTIONS.items() if captioned else ():
            lines: list[Line] = make(scene, rng)
            said = [(Piece(a.reference, things=a.things), Piece(a.reply, CAPTION_LOSS)) for a in lines]
            yield [Piece(f"{request} ASSISTANT:"), *(piece for pair in said for piece in pair)]
        if stage == "instruct":
            names, weights = list(KIND_WEIGHTS), np.array(list(KIND_WEIGHTS.values()))
            for _ in range(QUESTIONS):
                question = ask(scene, rng, names, weights)
                yield [Piece(f"{question.text} ASSISTANT:", things=question.things), Piece(question.answer, 1.0)]

    def sequence(
        self, stage: str, scene: Scene, rng: np.random.Generator, captioned: bool
    ) -> tuple[list[int], list[float], list[tuple[int, tuple[int, ...]]]]:
        """Ids and loss weights of one conversation, and (token, objects referred to so far in this piece)."""
        ids, weights, references = [self.tokens.bos_token_id], [0.0], []

        def add(tokens: list[int], weight: float) -> None:
            ids.extend(tokens)
            weights.extend([weight] * len(tokens))

        for i, turn in enumerate(self.turns(stage, scene, rng, captioned)):
            add(self.encode("USER:") + (self.image if i == 0 else []), 0.0)
            for piece in turn:
                tokens = self.encode(piece.words)
                nouns = [len(ids) + k for k, token in enumerate(tokens) if token in self.nouns]
                if len(nouns) == len(piece.things):  # "Is there a red circle?" may mean none or several
                    references += [(at, piece.things[: k + 1]) for k, at in enumerate(nouns)]
                add(tokens, piece.weight)
            add([cast(int, self.tokens.eos_token_id)], END_LOSS)
        return ids, weights, references

    def batch(self, stage: str, drawn: list[tuple[Scene, np.random.Generator]], captioned: bool) -> Batch:
        """A right-padded batch."""
        made = [self.sequence(stage, scene, rng, captioned) for scene, rng in drawn]
        longest = max(len(ids) for ids, _, _ in made)
        ids = torch.full((len(made), longest), self.tokens.pad_token_id)
        weights = torch.zeros(len(made), longest)
        references, pairs = [], []
        for row, ((tokens, loss, referred), (scene, _)) in enumerate(zip(made, drawn, strict=True)):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            weights[row, : len(loss)] = torch.tensor(loss)
            for at, things in referred:
                references.append((row, at, *looks(scene.things[things[-1]]), *cell(scene.things[things[-1]])))
                if len(things) == 2:
                    (up, left), (down, right) = (cell(scene.things[k]) for k in things)
                    pairs.append((row, at, 1 + int(np.sign(left - right)), 1 + int(np.sign(up - down))))
        return Batch(
            ids,
            weights,
            picture_tensor([scene for scene, _ in drawn]),
            torch.tensor(references, dtype=torch.int64).reshape(-1, 7),
            torch.tensor(pairs, dtype=torch.int64).reshape(-1, 4),
        )


def looks(thing: Thing) -> tuple[int, int, int]:
    """Colour, shape and size as numbers from 0."""
    return list(COLORS).index(thing.color), SHAPES.index(thing.shape), list(SIZES).index(thing.size)


def cell(thing: Thing) -> tuple[int, int]:
    """Row and column from 0."""
    return thing.row, thing.column


def patch_labels(scene: Scene) -> np.ndarray:
    """What each patch mostly shows, and where it is: int (visual tokens, 5) for colour, shape, size, row, column.

    The first three are 0 where fewer than 6 pixels are covered.
    """
    covered = coverage(scene)
    owner = np.where(covered.max(axis=0) >= 6, covered.argmax(axis=0), -1)
    shown = [tuple(value + 1 for value in looks(thing)) for thing in scene.things]
    cells = np.indices((IMAGE // PATCH, IMAGE // PATCH)).reshape(2, -1).T * PATCH // CELL
    return np.concatenate([np.array([*shown, (0, 0, 0)])[owner], cells], axis=1)


class TowerLoss(nn.Module):
    """Stage 1: linear read-outs of colour, shape, size, row and column from each patch of the layer LLaVA uses."""

    def __init__(self, model: Any):
        super().__init__()
        self.tower, self.layer = model.model.vision_tower, model.config.vision_feature_layer
        self.classes = (len(COLORS) + 1, len(SHAPES) + 1, len(SIZES) + 1, GRID, GRID)
        self.head = nn.Linear(model.config.vision_config.hidden_size, sum(self.classes))

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
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
        return loss, {"accuracy": right[objects].float().mean()}


class ReadOut(nn.Module):
    """Linear read-outs of the residual stream: which object a reference means, and where it lies from another one.

    Objects are read in the middle of the decoder, pairs one layer later, so that later layers can use them.
    """

    def __init__(self, config: Any):
        super().__init__()
        text = config.text_config
        self.middle = text.num_hidden_layers // 2  # as many layers lie before
        self.object_classes, self.pair_classes = (len(COLORS), len(SHAPES), len(SIZES), GRID, GRID), (3, 3)
        self.objects = self._head(text.hidden_size, self.object_classes)
        self.pairs = self._head(text.hidden_size, self.pair_classes)

    @staticmethod
    def _head(width: int, classes: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, sum(classes)))

    def forward(self, hidden: tuple[Tensor, ...], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, shares of references and of pairs that are read right in all respects)."""
        loss, right = torch.zeros((), device=batch.ids.device), {}
        for name, head, classes, layer, marks in (
            ("objects", self.objects, self.object_classes, self.middle, batch.references),
            ("pairs", self.pairs, self.pair_classes, self.middle + 1, batch.pairs),
        ):
            if len(marks):
                read = head(hidden[layer][marks[:, 0], marks[:, 1]]).float().split(classes, dim=-1)
                labels = marks[:, 2:].unbind(1)
                for logits, label in zip(read, labels, strict=True):
                    loss = loss + nn.functional.cross_entropy(logits, label)
                right[name] = torch.stack([a.argmax(-1) == b for a, b in zip(read, labels, strict=True)]).all(0)
        return loss, {name: values.float().mean() for name, values in right.items()}


def run_batch(model: LlavaForConditionalGeneration, batch: Batch, **asked: bool) -> Any:
    """The model's output for a batch, with hidden states; `asked` may name more."""
    mask = torch.ones_like(batch.ids)  # right padding needs no mask: it carries no loss and nothing follows it
    given = {"input_ids": batch.ids, "pixel_values": batch.images, "attention_mask": mask}
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


def keep_memory() -> None:
    """Have glibc keep freed memory: else the kernel zeroes large tensors anew in each step, half of the time."""
    libc = ctypes.util.find_library("c") if sys.platform == "linux" else None
    mallopt = getattr(ctypes.CDLL(libc), "mallopt", None) if libc else None  # other C libraries have none
    if mallopt:
        mallopt(-4, 0)  # M_MMAP_MAX: no allocation goes past the heap
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap is never given back


class Trainer:
    """Runs the stages, writes a log line every 50 steps and a resumable state every 250."""

    stages: tuple[str, ...] = STAGES
    compiles = True
    card = cards.CARD

    def __init__(self, name: str, recipe: build.Recipe, seed: int, out: Path, device: str = "cpu"):
        torch.manual_seed(seed)
        self.name, self.recipe, self.seed, self.out, self.device = name, recipe, seed, out, torch.device(device)
        self.processor = build.processor()
        self.model: Any = cast(Any, build.model(recipe, self.processor.tokenizer)).to(self.device)
        self.model.set_attn_implementation("eager")  # faster than sdpa at this size
        if self.compiles and shutil.which("g++"):  # fused element-wise steps: a third faster; needs a C++ compiler
            for layer in self.model.model.language_model.layers:
                layer.compile(dynamic=True)
        self.tower = TowerLoss(self.model).to(self.device)
        self.read_out = ReadOut(self.model.config).to(self.device)
        self.talk = Conversations(self.processor.tokenizer, self.model.config.image_seq_length)
        self.stage, self.step, self.seconds = self.stages[0], 0, 0.0
        self.log: list[dict] = []

    # -- the losses ----------------------------------------------------------------------------------------------------

    def loss(self, stage: str, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, shares of what was right) on one step's scenes."""
        drawn = scenes_of_step(stage, self.seed, step, self.recipe.batch)
        if stage == "tower":
            labels = torch.from_numpy(np.stack([patch_labels(scene) for scene, _ in drawn])).to(self.device)
            return self.tower(picture_tensor([scene for scene, _ in drawn]).to(self.device), labels)
        captioned = stage == "captions" or step % CAPTION_EVERY == 0
        batch = self.talk.batch(stage, drawn, captioned).to(self.device)
        return answer_loss(run_batch(self.model, batch), self.read_out, batch)

    def parameters(self, stage: str) -> list[nn.Parameter]:
        """What a stage trains."""
        tower = list(self.tower.parameters())
        if stage == "tower":
            return tower
        everything = [*self.model.parameters(), *self.read_out.parameters()]
        if stage != "captions":
            return everything
        still = {id(p) for p in tower}
        return [p for p in everything if id(p) not in still]

    def steps(self, stage: str) -> int:
        """Length of a stage."""
        return getattr(self.recipe, f"{stage}_steps")

    # -- running and resuming -----------------------------------------------------------------------------------------

    def run(self, tell: Callable[[str], None] = print) -> LlavaForConditionalGeneration:
        """All stages, from where the saved state stopped."""
        keep_memory()
        saved = self._load()
        for stage in self.stages[self.stages.index(self.stage) :]:
            self._stage(stage, saved)
            saved = None
        tell(f"trained in {self.seconds / 60:.1f} minutes")
        return self.model

    def _stage(self, stage: str, saved: dict | None) -> None:
        optimizer = torch.optim.AdamW(self.parameters(stage), lr=0, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
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
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                loss, right = self.loss(stage, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(stage), 1.0)
            optimizer.step()
            recent.append({"loss": float(loss.detach()), **{k: float(v) for k, v in right.items()}})
            self.step = step + 1
            if self.step % NOTE_EVERY == 0 or self.step == total:
                self.seconds, began = self.seconds + time.monotonic() - began, time.monotonic()
                self._note(recent)
                recent = []
            if self.step % SAVE_EVERY == 0 or self.step == total:
                self._save(optimizer)

    def _note(self, recent: list[dict[str, float]]) -> None:
        means = {name: round(float(np.mean([r[name] for r in recent if name in r])), 4) for name in recent[-1]}
        self.log.append({"stage": self.stage, "step": self.step, **means, "seconds": round(self.seconds)})
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
            "heads": [head.state_dict() for head in (self.tower.head, self.read_out)],
            "optimizer": optimizer.state_dict(),
        }
        with paths.replacing(self._state()) as partial:
            torch.save(state, partial)

    def _load(self) -> dict | None:
        """The saved state, when it belongs to this model, recipe and seed."""
        if not self._state().exists():
            return None
        saved = torch.load(self._state(), weights_only=True, map_location=self.device)
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


def train(name: str, seed: int = 0, device: str = "cpu", out: Path | None = None, work: Path | None = None) -> Path:
    """Train a mini model, examine it on held-out scenes, and save it in hub format with its card and training log.

    Parameters
    ----------
    name : str
        A row of `lostlib.miniworld.build.RECIPES` or of `lostlib.miniworld.plant.PLANTINGS`.
    seed : int
        Of the initial weights and of the training scenes.
    device : str
        ``"cpu"`` or ``"cuda"``.
    out : Path, optional
        Folder of models; the model becomes ``out/name``. `data/models` by default.
    work : Path, optional
        Where the resumable state is kept; ``_build/train`` by default.
    """
    from lostlib.miniworld import plant  # which imports this module

    recipes = build.RECIPES | plant.PLANTINGS
    if name not in recipes:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(recipes)}{nearest(name, recipes)}")
    kind = plant.Planter if name in plant.PLANTINGS else Trainer
    trainer = kind(name, recipes[name], seed, (work or Path("_build/train")) / f"{name}-seed{seed}", device)  # type: ignore[arg-type]
    trainer.run()
    return cards.publish(trainer, (out or paths.MODELS) / name)
