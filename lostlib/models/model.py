"""A model that can be watched and changed: encoding with token roles, answering."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from lostlib.benchmarks.items import Item, several
from lostlib.checkpoints import DYNAMIC
from lostlib.models import attention
from lostlib.models.families import FAMILIES, Inputs
from lostlib.models.template import Template
from lostlib.text import among


@dataclass(frozen=True)
class Batch:
    """Encoded items, left-padded."""

    tensors: dict[str, Tensor]  #: what the model's forward takes, as input_ids (B, S), attention_mask and pixel_values
    item_ids: tuple[str, ...]  #: in the order of the batch
    visual: Tensor  #: (B, S) bool, is this token an image patch

    @property
    def real(self) -> Tensor:
        """(B, S) bool, is this token no padding."""
        return self.tensors["attention_mask"].bool()


class Reply(NamedTuple):
    """A greedy answer."""

    raw: str  #: what the model said
    logprob: float  #: natural logarithm of the answer's probability, its end token included
    prompt_tokens: int  #: image tokens included, padding not
    answer_tokens: int  #: the end token included


class TooLong(ValueError):
    """A prompt, with the answer to come, of more tokens than the model has positions."""


class LostModel:
    """A vision-language model, or a language model, that can be watched and changed.

    Attributes: `hf` the transformers model, `processor`, `name`, `family`, `weights` (hash or revision, for tables),
    `backend` (through which function the decoder attends), `decoding` (`greedy` or `checkpoint`, see `generation`),
    `template` (how questions are put).
    """

    def __init__(
        self, hf: Any, processor: Any, name: str, weights: str = "unknown", backend: str = attention.BACKEND,
        decoding: str = "greedy", template: Template | None = None,
    ):  # fmt: skip
        kind = hf.config.model_type
        if kind not in FAMILIES:
            raise ValueError(f"models of type {kind!r} are not known here; there are {among(kind, FAMILIES)}")
        self.hf, self.processor, self.name, self.weights, self.backend = hf.eval(), processor, name, weights, backend
        self.family, self.decoding = FAMILIES[kind], decoding
        self.layers: list[nn.Module] = list(attrgetter(self.family.layers)(hf))
        self.attention_modules = [getattr(layer, self.family.attention) for layer in self.layers]
        image = self.family.image_token
        self.image_token_id: int = getattr(hf.config, image) if image else -1  # which is no token's
        self.item_ids: tuple[str, ...] = ()  # of the batch being served
        self.told_about_ids = False
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token is None:  # as many language models have it; padding is masked anyway
            if processor.tokenizer.eos_token is None:
                raise ValueError(f"the tokenizer of {name} has neither a pad_token nor an eos_token to pad with")
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        self.template = template or Template(processor)

    def __repr__(self) -> str:
        return f"LostModel({self.name}, {self.n_layers} layers, {self.n_heads} heads, {self.device}, {self.dtype})"

    @property
    def n_layers(self) -> int:
        """Decoder layers."""
        return len(self.layers)

    @property
    def n_heads(self) -> int:
        """Query heads of a decoder layer."""
        return self.hf.config.get_text_config().num_attention_heads

    @property
    def hidden_size(self) -> int:
        """Dimensions of the decoder's residual stream."""
        return self.hf.config.get_text_config().hidden_size

    @property
    def sees(self) -> bool:
        """Does it take pictures; a language model alone does not."""
        return self.family.sees

    @property
    def device(self) -> torch.device:
        """Where inputs go, the device of the token embeddings (a large model may be spread over several)."""
        return self.hf.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.hf.dtype

    def visual(self, ids: Tensor, inputs: Inputs) -> Tensor:
        """(B, S) bool, which of these token ids are image patches; `inputs` is what else the model is called with.

        Without images in the call none are: an image token that the model has generated is text.
        """
        image = torch.eq(ids, self.image_token_id)
        if not image.any() or (inputs.get("pixel_values") is None and not inputs.get("mm_encoder_outputs")):
            return torch.zeros_like(image)
        if self.family.patches is None:
            return image
        return image.masked_scatter(image, self.family.patches(self.hf, inputs).to(ids.device))

    # -- items in, answers out ----------------------------------------------------------------------------------------

    @property
    def positions(self) -> int | None:
        """How many tokens the decoder was made for; None where its configuration does not say."""
        return getattr(self.hf.config.get_text_config(), "max_position_embeddings", None)

    def encode(self, items: Sequence[Item] | Item) -> Batch:
        """Items as tensors on the model's device, left-padded, with their ids and token roles.

        Raises
        ------
        ValueError
            Without items, for a faulty item, or for pictures that a language model cannot see.
        TooLong
            For an item of more tokens than the model has positions.
        """
        if not (items := several(items)):
            raise ValueError("no items to encode: expected at least one")
        if faults := [item.fault for item in items if item.fault]:
            raise ValueError(faults[0])
        if not self.sees and (blind := [item.uid for item in items if item.images]):
            raise ValueError(f"{self.name} is a language model and sees no pictures, item {blind[0]} has some")
        texts, shown = zip(*map(self.template, items), strict=True)
        images = [image for some in shown for image in some] or None
        bos = self.processor.tokenizer.bos_token  # written by some chat templates, else to be added
        encoded = self.processor(
            text=list(texts),
            images=images,
            return_tensors="pt",
            padding=True,
            add_special_tokens=not (bos and texts[0].startswith(bos)),
        )
        encoded.pop("token_type_ids", None)
        tensors = {
            k: v.to(self.device, self.dtype) if v.is_floating_point() else v.to(self.device) for k, v in encoded.items()
        }
        batch = Batch(tensors, tuple(item.uid for item in items), self.visual(tensors["input_ids"], tensors))
        self._check_length(batch)
        return batch

    def _check_length(self, batch: Batch, new: int = 0) -> None:
        most = self.positions
        for uid, count in zip(batch.item_ids, batch.real.sum(1).tolist(), strict=True):
            if most and count + new > most:
                answer = f", and its answer may have {new}" if new else ""
                raise TooLong(f"{uid} has {count} tokens{answer}, but {self.name} has {most} positions")

    @torch.inference_mode()
    def forward(self, batch: Batch, **kwargs: Any) -> Any:
        """One forward pass through the model's backend, with whatever intervention is active; transformers' output.

        `kwargs` go to the model as they are; no cache is kept unless they say so.
        """
        with self.serving(batch.item_ids):
            return self.hf(**batch.tensors, **{"use_cache": False, **kwargs})

    def answer(self, items: Sequence[Item] | Item, max_new_tokens: int = 8, batch_size: int = 64) -> list[str]:
        """Greedy answers, one text an item, in the items' order.

        Parameters
        ----------
        items : sequence of Item, or one
        max_new_tokens : int
            Where an answer is cut off, if it has not ended; a benchmark knows how many it needs.
        batch_size : int
            Items at once.

        Raises
        ------
        ValueError
            As for `encode`; an answer must fit, too.
        """
        items = several(items)
        parts = (items[i : i + batch_size] for i in range(0, len(items), batch_size))
        return [reply.raw for part in parts for reply in self.reply(part, max_new_tokens)]

    @torch.inference_mode()
    def reply(self, items: Sequence[Item] | Item | Batch, max_new_tokens: int = 8) -> list[Reply]:
        """Greedy answers of one batch, encoded already or not, with their probabilities."""
        batch = items if isinstance(items, Batch) else self.encode(items)
        self._check_length(batch, max_new_tokens)
        with self.serving(batch.item_ids), self._decoding():
            out = self.hf.generate(
                **batch.tensors, max_new_tokens=max_new_tokens, return_dict_in_generate=True, output_scores=True
            )
        new = out.sequences[:, batch.tensors["input_ids"].shape[1] :]
        ends = torch.isin(new, torch.tensor(self._end_ids, device=new.device))
        said = ends.cumsum(1) - ends.int() == 0  # (B, T): up to the end token, which counts
        chosen = self.hf.compute_transition_scores(  # of the rule that chose: after whatever has changed the logits
            out.sequences, out.scores, getattr(out, "beam_indices", None), normalize_logits=True
        )  # (B, T)
        texts = self.processor.batch_decode(new, skip_special_tokens=True)
        sums = (chosen.where(said, 0).sum(1), batch.real.sum(1), said.sum(1))
        return [Reply(text.strip(), *row) for text, *row in zip(texts, *(v.tolist() for v in sums), strict=True)]

    @contextmanager
    def seeing_once(self) -> Iterator[None]:
        """A batch that is served several times inside the block passes the vision tower once."""
        if not self.sees:
            yield
            return
        body, look = self.hf.model, self.hf.model.get_image_features
        seen: list[Any] = [None, None]  # the pixels, as the very tensor, and what was seen in them

        @wraps(look)  # transformers asks for its signature
        def remembered(pixel_values: Tensor, *args: Any, **kwargs: Any) -> Any:
            if seen[0] is not pixel_values:
                seen[:] = pixel_values, look(pixel_values, *args, **kwargs)
            return seen[1]

        body.get_image_features = remembered
        try:
            yield
        finally:
            del body.get_image_features

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Least and most pixels of a picture, for a family that sees it at its own size; else None."""
        if self.hf.config.model_type not in DYNAMIC:
            return None
        size = self.processor.image_processor.size
        return size["shortest_edge"], size["longest_edge"]

    @property
    def generation(self) -> GenerationConfig:
        """How answers are decoded, greedily by the logits alone, or (decoding `checkpoint`) as the checkpoint says.

        Nothing is ever sampled. Many checkpoints bring a repetition penalty, beams or forbidden tokens, which change
        some answers and make their probabilities those of another rule; so they are a choice, and part of a model's
        name in tables.
        """
        own = self.hf.generation_config
        if self.decoding == "checkpoint":
            kept = copy.deepcopy(own)
            kept.do_sample, kept.temperature, kept.top_p, kept.top_k = False, None, None, None
            return kept
        ids = {name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        return GenerationConfig(do_sample=False, num_beams=1, **ids)

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """Inside, the checkpoint's settings give way: whatever a call leaves open, transformers takes from them."""
        former = self.hf.generation_config
        self.hf.generation_config = self.generation
        try:
            yield
        finally:
            self.hf.generation_config = former

    @property
    def _end_ids(self) -> list[int]:
        ends = self.hf.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    @contextmanager
    def serving(self, item_ids: tuple[str, ...]) -> Iterator[None]:
        """Attention runs through the model's backend, and random draws are keyed by these items, inside the block."""
        former, self.item_ids = self.item_ids, item_ids
        try:
            with attention.backend(self.hf, self.backend):
                yield
        finally:
            self.item_ids = former
