"""What a mini model is trained on: scenes of each step, as conversations about pictures and as dense labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lostlib.miniworld.captions import Line, describe, relate
from lostlib.miniworld.questions import NOUNS, ask
from lostlib.miniworld.render import coverage, pixels
from lostlib.miniworld.scenes import CELL, COLORS, IMAGE, PATCH, SHAPES, SIZES, Scene, Thing, generator, sample_scene

STAGES = ("tower", "captions", "instruct")
KIND_WEIGHTS = {
    "existence": 0.08, "color": 0.04, "shape": 0.04, "size": 0.06, "location": 0.06, "count": 0.13,
    "count_plus": 0.07, "arithmetic": 0.14, "relation": 0.22, "relation_choice": 0.16,
}  # fmt: skip
QUESTIONS = 6  # a sequence
CAPTION_LOSS = 0.2  # weight of a caption token against an answer token
END_LOSS = 0.1  # weight of </s>, which is soon known
MEAN, STD = (
    np.array(v, dtype=np.float32) for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)
CAPTIONS = {"Describe the image.": describe, "Where are the objects?": relate}


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
