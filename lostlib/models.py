"""Models: where a family keeps its modules (data), loading, encoding with token roles, answering.

`load_model` takes the name of a shipped mini model, a folder in hub format or a hub id, and treats all three alike.
`wrap` takes a model you already hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from lostlib import attention, paths
from lostlib.benchmarks.items import Item
from lostlib.names import nearest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Family:
    """Where a family of transformers models keeps what we watch and change; names inside a decoder layer are alike."""

    layers: str = "model.language_model.layers"
    attention: str = "self_attn"
    mid_norm: str = "post_attention_layernorm"  # its input is resid_mid
    mlp: str = "mlp"
    image_token: str = "image_token_id"  # in the config


FAMILIES = {"llava": Family()}


@dataclass(frozen=True)
class Batch:
    """Encoded items, left-padded."""

    tensors: dict[str, Tensor]  # what the model's forward takes: input_ids (B, S), attention_mask, pixel_values …
    item_ids: tuple[str, ...]
    visual: Tensor  # (B, S) bool: is this token an image patch

    @property
    def real(self) -> Tensor:
        """(B, S) bool: is this token no padding."""
        return self.tensors["attention_mask"].bool()


class LostModel:
    """A vision-language model that can be watched and changed.

    Attributes: `hf` the transformers model, `processor`, `name`, `family`, `weights` (hash or revision, for tables).
    """

    def __init__(self, hf: Any, processor: Any, name: str, weights: str = "unknown"):
        kind = hf.config.model_type
        if kind not in FAMILIES:
            raise ValueError(
                f"models of type {kind!r} are not known here; there are {', '.join(FAMILIES)}{nearest(kind, FAMILIES)}"
            )
        self.hf, self.processor, self.name, self.weights = hf.eval(), processor, name, weights
        self.family = FAMILIES[kind]
        self.layers: list[nn.Module] = list(attrgetter(self.family.layers)(hf))
        self.attention_modules = [getattr(layer, self.family.attention) for layer in self.layers]
        self.image_token_id: int = getattr(hf.config, self.family.image_token)
        self.item_ids: tuple[str, ...] = ()  # of the batch being served
        self.told_about_ids = False
        processor.tokenizer.padding_side = "left"

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
    def device(self) -> torch.device:
        """Where the model is."""
        return self.hf.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.hf.dtype

    # -- items in, answers out ----------------------------------------------------------------------------------------

    def encode(self, items: Sequence[Item]) -> Batch:
        """Items as tensors on the model's device, left-padded, with their ids and token roles."""
        if not items:
            raise ValueError("no items to encode: expected at least one")
        texts = [self.processor.apply_chat_template(_messages(item), add_generation_prompt=True) for item in items]
        images = [image for item in items for image in item.images] or None
        encoded = self.processor(text=texts, images=images, return_tensors="pt", padding=True)
        encoded.pop("token_type_ids", None)
        tensors = {
            k: v.to(self.device, self.dtype) if v.is_floating_point() else v.to(self.device) for k, v in encoded.items()
        }
        return Batch(tensors, tuple(item.uid for item in items), tensors["input_ids"] == self.image_token_id)

    @torch.inference_mode()
    def forward(self, batch: Batch, **kwargs: Any) -> Any:
        """One forward pass through `lost_attention`, with whatever intervention is active; transformers' output."""
        with self.serving(batch.item_ids):
            return self.hf(**batch.tensors, **{"use_cache": False, **kwargs})

    @torch.inference_mode()
    def answer(self, items: Sequence[Item], max_new_tokens: int = 8, batch_size: int = 64) -> list[str]:
        """Greedy answers, one text an item, in the items' order."""
        answers: list[str] = []
        for start in range(0, len(items), batch_size):
            batch = self.encode(items[start : start + batch_size])
            with self.serving(batch.item_ids):
                out = self.hf.generate(**batch.tensors, max_new_tokens=max_new_tokens, do_sample=False)
            new = out[:, batch.tensors["input_ids"].shape[1] :]
            answers += [text.strip() for text in self.processor.batch_decode(new, skip_special_tokens=True)]
        return answers

    @contextmanager
    def serving(self, item_ids: tuple[str, ...]) -> Iterator[None]:
        """Attention runs through our function, and random draws are keyed by these items, inside the block."""
        former, self.item_ids = self.item_ids, item_ids
        try:
            with attention.backend(self.hf):
                yield
        finally:
            self.item_ids = former


def _messages(item: Item) -> list[dict]:
    """One user turn: the images, then the text."""
    images = [{"type": "image"} for _ in item.images]
    return [{"role": "user", "content": [*images, {"type": "text", "text": item.prompt}]}]


# ---- loading --------------------------------------------------------------------------------------------------------


def shipped() -> list[str]:
    """Names of the mini models in this checkout or package."""
    return sorted(folder.parent.name for folder in paths.MODELS.glob("*/config.json"))


def check_device(device: str) -> torch.device:
    """The device (`auto`: the best there is), or an error that says what there is."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        there = [
            "cpu",
            *(f"cuda:{i}" for i in range(torch.cuda.device_count())),
            *(["mps"] if torch.backends.mps.is_available() else []),
        ]
        raise ValueError(f"device {device!r} is not to be had here; there are {', '.join(there)}") from error
    return chosen


def load_model(name: str | Path, device: str = "cpu", dtype: str = "float32") -> LostModel:
    """Load a model.

    Parameters
    ----------
    name : str or Path
        A shipped mini model (``"mini-llava-1.5"``), a folder in hub format, or a hub id. Weights come from safetensors
        only, and no code that comes with a model is run.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
    dtype : str
        ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}{nearest(dtype, DTYPES)}")
    place = check_device(device)
    folder = paths.MODELS / str(name) if str(name) in shipped() else Path(name)
    if not folder.is_dir() and "/" not in str(name):
        there = ", ".join(shipped()) or "none"
        raise ValueError(
            f"no model {str(name)!r}: neither shipped ({there}), nor a folder, nor a hub id{nearest(name, shipped())}"
        )
    source = folder if folder.is_dir() else str(name)
    kind = AutoConfig.from_pretrained(source).model_type
    if kind not in FAMILIES:
        raise ValueError(f"{name}: models of type {kind!r} are not known here; there are {', '.join(FAMILIES)}")
    hf: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=DTYPES[dtype], use_safetensors=True)
    weights = (
        paths.weights_hash(folder) if folder.is_dir() else str(getattr(hf.config, "_commit_hash", None) or "unknown")
    )
    return LostModel(
        hf.to(place), AutoProcessor.from_pretrained(source), folder.name if folder.is_dir() else str(name), weights
    )


def wrap(hf_model: Any, processor: Any, name: str | None = None) -> LostModel:
    """Watch and change a transformers model you already hold; it is used as it is, on its device, in its dtype."""
    return LostModel(
        hf_model, processor, name or getattr(hf_model.config, "name_or_path", "") or type(hf_model).__name__
    )
