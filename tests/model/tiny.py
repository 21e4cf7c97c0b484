"""Tiny random models of each family, made of the real transformers classes and saved as the hub has them.

Real are the model, image processor and processor classes, the special tokens, the form of the chat templates, and the
files of the folder. Small are the sizes; the words are bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lostlib.benchmarks.items import Item

TILE, PATCH = 24, 8  # a CLIP picture has 3 x 3 patches
PINPOINTS = [[24, 48], [48, 24], [48, 48], [72, 24], [24, 72]]  # as LLaVA-NeXT's, for tiles of 24 and not 336
CELL = 8  # Qwen: a visual token is a cell of 2 x 2 patches of 4 pixels
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}

USER_ASSISTANT = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
INST = (  # this one writes the begin-of-text token itself
    "{{ bos_token }}{% for message in messages %}{{ '[INST] ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{{ ' [/INST]' }}"
    "{% endfor %}"
)
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(special: list[str], pad: str, eos: str, bos: str | None = None) -> PreTrainedTokenizerFast:
    """A token per byte, after the special ones; `bos`, where there is one, is put before every text."""
    vocab = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    inner = Tokenizer(models.BPE(vocab, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if bos:
        inner.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, vocab[bos])])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=pad, eos_token=eos, bos_token=bos, padding_side="right"
    )  # fmt: skip


def _save(folder: Path, model: torch.nn.Module, words, pictures, kind: str, template: str, **processor) -> None:
    """The folder of a hub model: processors under the names they have there, the chat template in a file of its own."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():  # attention far from uniform, and no module without effect
        if "language_model" in name and "self_attn" in name:
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator) / (weight.shape[-1] / 64) ** 0.5
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = words.pad_token_id, words.eos_token_id
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    pictures.save_pretrained(folder)
    _edit(folder / "preprocessor_config.json", image_processor_type=kind[0], processor_class=kind[1])
    _edit(folder / "chat_template.json", chat_template=template)
    if processor:
        _edit(folder / "processor_config.json", processor_class=kind[1], **processor)


def _edit(path: Path, **values) -> None:
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(held | values))


def _clip() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=TILE,
        patch_size=PATCH, projection_dim=32,
    )  # fmt: skip


CLIP_TOKENS = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


def llava(folder: Path) -> None:
    """LLaVA-1.5: CLIP and LLaMA; 9 visual tokens an image."""
    words = tokenizer(["<unk>", "<s>", "</s>", "<image>", "<pad>"], "<pad>", "</s>", "<s>")
    text = LlamaConfig(vocab_size=len(words), **SIZES)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=_clip(),
            text_config=text,
            image_token_index=words.convert_tokens_to_ids("<image>"),
            image_seq_length=9,
        )
    )
    square = {"height": TILE, "width": TILE}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": TILE}, crop_size=square)
    _save(folder, model, words, pictures, ("CLIPImageProcessor", "LlavaProcessor"), USER_ASSISTANT, **CLIP_TOKENS)


def llava_next(folder: Path) -> None:
    """LLaVA-NeXT: CLIP on a base view and tiles, Mistral with two query heads to a key head."""
    words = tokenizer(["<unk>", "<s>", "</s>", "<image>", "<pad>"], "<pad>", "</s>", "<s>")
    text = MistralConfig(vocab_size=len(words), num_key_value_heads=2, sliding_window=None, **SIZES)
    image = words.convert_tokens_to_ids("<image>")
    config = LlavaNextConfig(
        vision_config=_clip(), text_config=text, image_token_index=image, image_grid_pinpoints=PINPOINTS
    )
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, image_grid_pinpoints=PINPOINTS
    )
    kind = ("LlavaNextImageProcessor", "LlavaNextProcessor")
    _save(folder, LlavaNextForConditionalGeneration(config), words, pictures, kind, INST, **CLIP_TOKENS)


def qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL: a vision tower with windows, M-RoPE, two query heads to a key head, biases."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    words = tokenizer([*special, "<|video_pad|>"], "<|endoftext|>", "<|im_end|>")
    ids = dict(zip(special[3:], words.convert_tokens_to_ids(special[3:]), strict=True))
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        text_config={"vocab_size": len(words), "num_key_value_heads": 2, "rope_parameters": rope, **SIZES},
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": CELL // 2,
            "window_size": 2 * CELL, "fullatt_block_indexes": [1], "out_hidden_size": SIZES["hidden_size"],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=words.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    pictures = Qwen2VLImageProcessorPil(patch_size=CELL // 2, min_pixels=4 * CELL**2, max_pixels=64 * CELL**2)
    kind = ("Qwen2VLImageProcessor", "Qwen2_5_VLProcessor")
    _save(folder, Qwen2_5_VLForConditionalGeneration(config), words, pictures, kind, CHATML)


MAKERS: dict[str, Callable[[Path], None]] = {"llava": llava, "llava_next": llava_next, "qwen2_5_vl": qwen2_5_vl}


def make(family: str, folder: Path) -> Path:
    """Save the tiny model of a family into a folder."""
    torch.manual_seed(0)
    MAKERS[family](folder)
    return folder


def picture(width: int, height: int) -> Image.Image:
    """Noise of a size, the same every time."""
    return Image.fromarray(np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8))


def items() -> list[Item]:
    """One image, two of different sizes, none, and one again with a longer question."""
    asked = [
        ("one", [(40, 30)], "Is there a cat?"),
        ("two", [(24, 24), (60, 20)], "Which one?"),
        ("none", [], "How many legs has a spider?"),
        ("long", [(20, 50)], "Is the left one larger than the right one? Answer yes or no."),
    ]
    return [
        Item(uid, tuple(picture(*size) for size in sizes), prompt, "yes", "yesno", cluster=uid)
        for uid, sizes, prompt in asked
    ]
