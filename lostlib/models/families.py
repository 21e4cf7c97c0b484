"""What differs between families of models, with and without eyes: one row each, and what a row cannot say.

That is which image tokens are patches (LLaVA-NeXT puts a newline after every row of its tiles), a processor that needs
torchvision for videos we never show it (Qwen2.5-VL), and language models, which have a tokenizer and no processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches
from transformers.models.qwen2_5_vl import processing_qwen2_5_vl

Inputs = Mapping[str, Any]  # keyword arguments of a call of the model


def anyres_patches(hf: Any, inputs: Inputs) -> Tensor:
    """Which of a call's image tokens (in reading order, all images after another) are patches and not newlines.

    The model's own packing says so: it is given tiles of ones and a newline of zero. `generate` encodes the images
    before it calls the model and hands on features without sizes; a newline there is what equals the newline parameter.

    Returns
    -------
    Tensor
        (image tokens,) bool.
    """
    newline = hf.model.image_newline
    if (encoded := (inputs.get("mm_encoder_outputs") or {}).get("image")) is not None:
        features = torch.cat(list(encoded.pooler_output))  # (image tokens, H)
        return (features != newline.to(features)).any(-1)
    sizes, config, vision = inputs["image_sizes"], hf.config, hf.config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2  # of one tile
    tiles = [
        torch.ones(image_size_to_num_patches(size, config.image_grid_pinpoints, vision.image_size), tokens, 1)
        for size in sizes
    ]
    packed, _ = hf.model.pack_image_features(
        tiles, sizes, config.vision_feature_select_strategy, image_newline=torch.zeros(1)
    )
    return torch.cat(packed)[:, 0].bool()


@dataclass(frozen=True)
class Family:
    """Where a family of transformers models keeps what we watch and change; names inside a decoder layer are alike."""

    layers: str = "model.language_model.layers"
    attention: str = "self_attn"
    mid_norm: str = "post_attention_layernorm"  #: its input is resid_mid
    mlp: str = "mlp"
    image_token: str | None = "image_token_id"  #: in the config; if None, the model sees no pictures
    patches: Callable[[Any, Inputs], Tensor] | None = None  #: which image tokens are patches; all if None
    videos: bool = False  #: the processor has a video part

    @property
    def sees(self) -> bool:
        """Does it take pictures."""
        return self.image_token is not None

    @property
    def kind(self) -> Any:
        """The class of transformers that loads it."""
        return AutoModelForImageTextToText if self.sees else AutoModelForCausalLM


TEXT = Family(layers="model.layers", image_token=None)
FAMILIES = {
    "llava": Family(),
    "llava_next": Family(patches=anyres_patches),
    "qwen2_5_vl": Family(videos=True),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "smollm3"), TEXT),
}


class TextProcessor:
    """A language model's tokenizer behind a processor's face: turns are text, and there are no pictures.

    Without a chat template, as base models have none, a turn is its text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def apply_chat_template(self, messages: list[dict], **options: Any) -> str:
        """Turns of parts of text, as `encode` makes them, in the tokenizer's own form."""
        turns = [{**turn, "content": "".join(part.get("text", "") for part in turn["content"])} for turn in messages]
        if self.tokenizer.chat_template is None:
            return "".join(turn["content"] for turn in turns)
        return self.tokenizer.apply_chat_template(turns, tokenize=False, **options)

    def __call__(self, text: list[str], images: None = None, **options: Any) -> Any:
        """Token ids and mask of texts."""
        return self.tokenizer(text, **options)

    def batch_decode(self, *args: Any, **options: Any) -> list[str]:
        """As the tokenizer's."""
        return self.tokenizer.batch_decode(*args, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """The tokenizer's files."""
        self.tokenizer.save_pretrained(folder)


class Qwen2_5_VLProcessor(processing_qwen2_5_vl.Qwen2_5_VLProcessor):
    """Qwen2.5-VL's processor without its video part, which needs torchvision; it bears the name it is saved under."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **kwargs: Any):
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)


def load_processor(source: str | Path, family: Family, revision: str | None = None, offline: bool = False) -> Any:
    """The processor of a folder or hub id (`offline`: if it was fetched); without torchvision, for images only."""
    given = {"revision": revision, "trust_remote_code": False, "local_files_only": offline}
    if not family.sees:
        return TextProcessor(AutoTokenizer.from_pretrained(source, **given))
    images_only = family.videos and find_spec("torchvision") is None
    kind: Any = Qwen2_5_VLProcessor if images_only else AutoProcessor
    return kind.from_pretrained(source, **given)


def limit_pixels(processor: Any, least: int | None, most: int | None) -> None:
    """Let a processor of a family with dynamic resolution scale pictures to areas within these limits.

    A limit of None stays as it is; the names that transformers keeps the two under are those of other things.
    """
    if least is None and most is None:
        return
    images = processor.image_processor
    low = images.size["shortest_edge"] if least is None else least
    high = images.size["longest_edge"] if most is None else most
    side = images.patch_size * images.merge_size
    if low > high or high < side**2:
        raise ValueError(
            f"min_pixels {low} and max_pixels {high} leave no size for a picture: a visual token is {side} x {side} "
            f"= {side**2} pixels, and the most must not be below the least"
        )
    images.size = type(images.size)(shortest_edge=low, longest_edge=high)
