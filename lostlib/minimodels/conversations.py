"""What a mini model is trained on: scenes of each step, as conversations about pictures and as dense labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from lostlib.benchmarks.items import PLACE
from lostlib.benchmarks.prompts import SHORT, direct
from lostlib.minimodels.bodies import SIDE, Body
from lostlib.miniworld.captions import Line, captions_of
from lostlib.miniworld.charts import Bar
from lostlib.miniworld.questions import NOUNS, Question, ask
from lostlib.miniworld.render import Picture
from lostlib.miniworld.scenes import COLORS, GRID, SHAPES, SIZES, Scene, Thing, generator, sample_scene
from lostlib.miniworld.topics import TOPICS, Topic

STAGES = ("tower", "captions", "instruct")
KIND_WEIGHTS = {
    "existence": 0.08, "color": 0.04, "shape": 0.04, "size": 0.06, "location": 0.06, "count": 0.13,
    "count_plus": 0.07, "arithmetic": 0.14, "relation": 0.22, "relation_choice": 0.16,
}  # fmt: skip
QUESTIONS = 6  # a sequence about the first kinds
FIRST_SHARE = 0.4  # of the sequences when all kinds are trained
SINGLE = ("objects", "space", "chart")  # topics of one picture
CAPTION_LOSS = 0.2  # weight of a caption token against an answer token
END_LOSS = 0.1  # weight of </s>, which is soon known


@dataclass
class Batch:
    """Token ids, loss weights of each target token, pictures, and which token refers to what."""

    ids: Tensor  #: (B, S) int64
    weights: Tensor  #: (B, S), weight of predicting this token from the ones before it; 0 for prompts and padding
    #: the pictures as the processor hands them over, in the order in which the sequences show them
    pixels: dict[str, Tensor]
    references: Tensor  #: (R, 7) int64 of sequence, token, then colour, shape, size, row and column of the object
    #: (P, 4) int64 of sequence, token of a second reference, then on which side of it the first lies (0 left, 1 in the
    #: same column, 2 right; 0 above, 1 in the same row, 2 below)
    pairs: Tensor
    bars: Tensor  #: (K, 3) int64 of sequence, token, then height of the bar referred to, from 0
    #: (V, 4) int64 of sequence, visual token, then row and column of the cell it shows part of; none where the vision
    #: tower knows places
    places: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        pixels = {name: value.to(device) for name, value in self.pixels.items()}
        rest = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "pixels"}
        return Batch(pixels=pixels, **rest)


@dataclass(frozen=True)
class Piece:
    """Words of a conversation, the loss weight of their tokens, and the objects they refer to, in order."""

    words: str
    weight: float = 0.0
    things: tuple[int, ...] = ()


class Drawn(NamedTuple):
    """What one sequence is about."""

    pictures: tuple[Picture, ...]
    rng: np.random.Generator
    topic: Topic | None = None  #: the first kinds of questions, about one scene, if None


Sequenced = tuple[list[int], list[float], list[tuple[int, tuple[int, ...]]]]  # ids, loss weights, references


def drawn_for_step(stage: str, seed: int, step: int, batch: int, kinds: str = "first") -> list[Drawn]:
    """The training pictures of one step, each sequence's with a generator of its own.

    With all kinds, the first ones keep two sequences in five; captions and dense labels are of single pictures only.
    """
    rngs = [generator("train", seed * 10 + STAGES.index(stage), step * batch + i) for i in range(batch)]
    if kinds == "first":
        return [Drawn((sample_scene("train", rng),), rng) for rng in rngs]
    topics = list(TOPICS.values()) if stage == "instruct" else [TOPICS[name] for name in SINGLE]
    return [_drawn(topics, rng) for rng in rngs]


def _drawn(topics: list[Topic], rng: np.random.Generator) -> Drawn:
    if rng.random() < FIRST_SHARE:
        return Drawn((sample_scene("train", rng),), rng)
    shares = np.array([topic.share for topic in topics])
    topic = topics[int(rng.choice(len(topics), p=shares / shares.sum()))]
    return Drawn(topic.draw("train", rng), rng, topic)


def finished(question: Question, shown: bool = False) -> tuple[str, str]:
    """A question as it is asked: its text, and what follows it (options and wishes); `PLACE` where an image goes.

    Images that were shown before are only named: "image 2".
    """
    after = ""
    if question.form == "choice":
        after = direct("", question.options or {})
    elif question.form == "short":
        after = f"\n{SHORT}"
    place = r"image \1" if shown else PLACE
    text, after = (re.sub(r"<image (\d)>", place, part) for part in (question.text, after))
    return text, after


class Conversations:
    """Turns scenes into token sequences: <s> USER: <image>… question ASSISTANT: answer </s> USER: …

    The words between are the body's: this is how LLaVA's are.
    """

    def __init__(self, body: Body):
        self.body, self.tokens, self.chat = body, body.tokens, body.chat
        self.cache: dict[str, list[int]] = {}
        before, after = (self.encode(text) for text in self.chat.around)
        self.image = [*before, *[body.image_id] * body.image_tokens, *after]
        self.nouns = set(cast(list[int], self.tokens.convert_tokens_to_ids([*NOUNS, "bar"])))

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text; the mini world repeats itself, so each is encoded once."""
        if text not in self.cache:
            self.cache[text] = self.tokens.encode(text, add_special_tokens=False)
        return self.cache[text]

    def turns(self, stage: str, drawn: Drawn, captioned: bool) -> Iterator[list[Piece]]:
        """The request and the reply of each turn, in pieces; the images stand before the first turn or in it."""
        pictures, rng, topic = drawn
        shown = captioned and len(pictures) == 1
        for request, make in captions_of(pictures[0]).items() if shown else ():
            lines: list[Line] = make(pictures[0], rng)
            said = [(Piece(a.reference, things=a.things), Piece(a.reply, CAPTION_LOSS)) for a in lines]
            yield [Piece(f"{request} {self.chat.assistant}"), *(piece for pair in said for piece in pair)]
        if stage != "instruct":
            return
        names, weights = list(KIND_WEIGHTS), np.array(list(KIND_WEIGHTS.values()))
        for number in range(topic.questions if topic else QUESTIONS):
            if topic:
                question = topic.ask(pictures, rng)
            else:
                question = ask(cast(Scene, pictures[0]), rng, names, weights)
            text, after = finished(question, shown or number > 0)
            yield [
                Piece(text, things=question.things),
                Piece(f"{after} {self.chat.assistant}"),
                Piece(question.answer, 1.0),
            ]

    def sequence(self, stage: str, drawn: Drawn, captioned: bool) -> Sequenced:
        """Ids and loss weights of one conversation, and (token, objects referred to so far in this piece)."""
        ids, weights, references = list[int](), list[float](), list[tuple[int, tuple[int, ...]]]()

        def add(tokens: list[int], weight: float) -> None:
            ids.extend(tokens)
            weights.extend([weight] * len(tokens))

        add([] if self.chat.bos is None else [cast(int, self.tokens.bos_token_id)], 0.0)
        for i, turn in enumerate(self.turns(stage, drawn, captioned)):
            add(self.encode(self.chat.user), 0.0)
            if i == 0 and not any(PLACE in piece.words for piece in turn):
                add(self.image * len(drawn.pictures), 0.0)
            for piece in turn:
                tokens = self.with_images(piece.words)
                nouns = [len(ids) + k for k, token in enumerate(tokens) if token in self.nouns]
                if len(nouns) == len(piece.things):  # "Is there a red circle?" may mean none or several
                    references += [(at, piece.things[: k + 1]) for k, at in enumerate(nouns)]
                add(tokens, piece.weight)
            add([cast(int, self.tokens.eos_token_id)], END_LOSS)
        return ids, weights, references

    def with_images(self, words: str) -> list[int]:
        """Token ids, an image's for each place of one."""
        first, *others = words.split(PLACE)
        return [*self.encode(first), *(token for text in others for token in (*self.image, *self.encode(text)))]

    def batches(self, stage: str, drawn: list[Drawn], captioned: bool, parts: int) -> list[Batch]:
        """Right-padded batches of sequences of about one length, the shortest first."""
        made = sorted(((self.sequence(stage, one, captioned), one) for one in drawn), key=lambda pair: len(pair[0][0]))
        cuts = [round(i * len(made) / parts) for i in range(parts + 1)]
        return [self._batch(*zip(*made[a:b], strict=True)) for a, b in pairwise(cuts) if b > a]

    def batch(self, stage: str, drawn: list[Drawn], captioned: bool) -> Batch:
        """A right-padded batch."""
        return self._batch([self.sequence(stage, one, captioned) for one in drawn], drawn)

    def _batch(self, made: Sequence[Sequenced], drawn: Sequence[Drawn]) -> Batch:
        longest = max(len(ids) for ids, _, _ in made)
        ids = torch.full((len(made), longest), self.tokens.pad_token_id)
        weights = torch.zeros(len(made), longest)
        references, pairs, bars = [], [], []
        for row, ((tokens, loss, referred), one) in enumerate(zip(made, drawn, strict=True)):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            weights[row, : len(loss)] = torch.tensor(loss)
            things = [(k, thing) for k, picture in enumerate(one.pictures) for thing in picture.things]
            for at, meant in referred:
                where, thing = things[meant[-1]]
                if isinstance(thing, Bar):
                    bars.append((row, at, thing.height - 1))
                    continue
                references.append((row, at, *looks(thing), *cell(thing)))
                if len(meant) == 2 and things[meant[0]][0] == where:
                    (up, left), (down, right) = (cell(cast(Thing, things[k][1])) for k in meant)
                    pairs.append((row, at, 1 + int(np.sign(left - right)), 1 + int(np.sign(up - down))))
        return Batch(
            ids,
            weights,
            self.body.pixels([picture for one in drawn for picture in one.pictures]),
            torch.tensor(references, dtype=torch.int64).reshape(-1, 7),
            torch.tensor(pairs, dtype=torch.int64).reshape(-1, 4),
            torch.tensor(bars, dtype=torch.int64).reshape(-1, 3),
            self._places(ids),
        )

    def _places(self, ids: Tensor) -> Tensor:
        at = (ids == self.body.image_id).nonzero()
        if self.body.tower_knows_places:
            at = at[:0]
        number = torch.arange(len(at)) % self.body.image_tokens
        side, cell = SIDE, SIDE // GRID  # of a picture and of a cell, in tokens
        return torch.stack([*at.T, number // side // cell, number % side // cell], dim=1)


def looks(thing: Thing) -> tuple[int, int, int]:
    """Colour, shape and size as numbers from 0."""
    return list(COLORS).index(thing.color), SHAPES.index(thing.shape), list(SIZES).index(thing.size)


def cell(thing: Thing) -> tuple[int, int]:
    """Row and column from 0."""
    return thing.row, thing.column
