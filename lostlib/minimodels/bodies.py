"""The families that mini models are built of: the real transformers classes at a small size.

A body says how pictures and words become what its model is called with, which part of it is the vision tower, and what
each visual token is to say in the first stage of training. What is saved with `save_pretrained` is in full hub format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lostlib.miniworld.render import Picture, render
from lostlib.miniworld.scenes import CELL, IMAGE, PATCH
from lostlib.miniworld.vocabulary import vocabulary
from lostlib.models.families import Qwen2_5_VLProcessor

if TYPE_CHECKING:
    from lostlib.minimodels.recipes import Recipe

WORD = r"\d+\.\d+|\w+|[^\w\s]"
SIDE = IMAGE // PATCH  # patches in a row of a picture


@dataclass(frozen=True)
class Chat:
    """How a conversation is written: `user` question `assistant` answer `end`, after `bos` where there is one."""

    special: tuple[str, ...]  #: the special tokens, padding first
    user: str
    assistant: str
    end: str
    image: str  #: what stands for one visual token
    around: tuple[str, str] = ("", "")  #: the words around an image
    bos: str | None = None
    words: tuple[str, ...] = ()

    @property
    def template(self) -> str:
        """The same as a Jinja template, for `apply_chat_template`."""
        shown = f"{self.around[0]}{self.image}{self.around[1]}\n"
        return (
            "{% for message in messages %}"
            f"{{% if message['role'] == 'user' %}}{self.user} {{% else %}}{self.assistant} {{% endif %}}"
            "{% if message['content'] is string %}{{ message['content'] }}"
            "{% else %}{% for part in message['content'] %}"
            f"{{% if part['type'] == 'image' %}}{shown}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
            "{% endfor %}{% endif %}"
            f"{{% if message['role'] == 'user' %}} {{% else %}}{self.end}{{% endif %}}"
            f"{{% endfor %}}{{% if add_generation_prompt %}}{self.assistant}{{% endif %}}"
        )


VICUNA = Chat(
    ("<pad>", "<s>", "</s>", "<unk>", "<image>"), "USER:", "ASSISTANT:", "</s>", "<image>", bos="<s>"
)  # fmt: skip
CHATML = Chat(
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
     "<|video_pad|>"),
    "<|im_start|>user", "<|im_end|><|im_start|>assistant", "<|im_end|>", "<|image_pad|>",
    around=("<|vision_start|>", "<|vision_end|>"), words=("user", "assistant"),
)  # fmt: skip


def tokenizer(kinds: str, chat: Chat = VICUNA) -> PreTrainedTokenizerFast:
    """One token per word, number or sign; unknown words become <unk>. `kinds` of questions, see `Recipe`."""
    vocab = {token: i for i, token in enumerate([*chat.special, *vocabulary(kinds), *chat.words])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in chat.special])
    if chat.bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{chat.bos} $A", special_tokens=[(chat.bos, vocab[chat.bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=chat.special[0],
        bos_token=chat.bos,
        eos_token=chat.end,
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": chat.image},
        model_max_length=2048,
    )


class Body:
    """LLaVA-1.5: a CLIP tower whose last layer but one is used, an MLP, a Llama decoder; 64 visual tokens an image."""

    chat: ClassVar[Chat] = VICUNA
    image_tokens: ClassVar[int] = SIDE * SIDE  # that stand for one picture in a sequence
    tower_knows_places: ClassVar[bool] = True  # by embeddings of absolute places
    parts: ClassVar[str] = "CLIP-style vision tower, MLP projector, Llama decoder"
    cut: ClassVar[str] = "64 an image (64 x 64 pixels, patch 8)"

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.tokens = tokenizer(recipe.kinds, self.chat)
        self.processor = self._processor()
        self.image_id = int(self.tokens.convert_tokens_to_ids(self.chat.image))  # type: ignore[arg-type]

    # -- what it is made of -------------------------------------------------------------------------------------------

    def _processor(self) -> Any:
        square = {"height": IMAGE, "width": IMAGE}
        return LlavaProcessor(
            image_processor=CLIPImageProcessorPil(size=square, crop_size=square),
            tokenizer=self.tokens,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,  # CLIP's class token, dropped again by the "default" strategy
            chat_template=self.chat.template,
        )

    def model(self) -> Any:
        """The untrained model in float32; set torch's seed first."""
        built = self._model().float()
        built.generation_config.pad_token_id = self.tokens.pad_token_id
        built.generation_config.eos_token_id = self.tokens.eos_token_id
        return built

    def _model(self) -> Any:
        return LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=self._clip(IMAGE),
                text_config=LlamaConfig(num_key_value_heads=self.recipe.heads, **self._text()),
                image_token_index=self.image_id,
                vision_feature_layer=-2,
                vision_feature_select_strategy="default",
                image_seq_length=self.image_tokens,
                tie_word_embeddings=False,
            )
        )

    def _clip(self, side: int) -> CLIPVisionConfig:
        recipe = self.recipe
        return CLIPVisionConfig(
            hidden_size=recipe.vision_hidden,
            intermediate_size=recipe.vision_mlp,
            num_hidden_layers=recipe.vision_layers,
            num_attention_heads=recipe.vision_heads,
            image_size=side,
            patch_size=PATCH,
            projection_dim=recipe.vision_hidden,
        )

    def _text(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "vocab_size": len(self.tokens),
            "hidden_size": recipe.hidden,
            "intermediate_size": recipe.mlp,
            "num_hidden_layers": recipe.layers,
            "num_attention_heads": recipe.heads,
            "max_position_embeddings": 2048,
            "bos_token_id": self.tokens.bos_token_id,
            "eos_token_id": self.tokens.eos_token_id,
            "pad_token_id": self.tokens.pad_token_id,
        }

    # -- what it is called with ---------------------------------------------------------------------------------------

    def pixels(self, pictures: Sequence[Picture]) -> dict[str, Tensor]:
        """Pictures as the processor hands them over."""
        if not pictures:
            return {}
        return dict(self.processor.image_processor(images=[render(one) for one in pictures], return_tensors="pt"))

    def given(self, ids: Tensor) -> dict[str, Tensor]:
        """What else the model has to know of these token ids."""
        return {}

    # -- its vision tower ---------------------------------------------------------------------------------------------

    def tower(self, model: Any) -> torch.nn.Module:
        """What the first stage trains."""
        return model.model.vision_tower

    def still(self, model: Any) -> list[torch.nn.Parameter]:
        """What of it stands still in the second stage."""
        return list(self.tower(model).parameters())

    def seen(self, model: Any, pixels: dict[str, Tensor]) -> Tensor:
        """(pictures, visual tokens, width): what the tower says of each patch."""
        hidden = self.tower(model)(pixels["pixel_values"], output_hidden_states=True).hidden_states
        return hidden[model.config.vision_feature_layer][:, 1:]  # the class token is dropped

    @property
    def seen_width(self) -> int:
        """Of what the tower says."""
        return self.recipe.vision_hidden

    def arranged(self, own: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """What each visual token is to say, from what patches (8 x 8) and cells (4 x 4) show: (tokens, answers)."""
        return own


class LlavaNext(Body):
    """LLaVA-NeXT: the picture at half its size and four tiles of it, a newline after each row; Mistral, shared keys.

    Tiles of 32 x 32 pixels: 16 visual tokens of the whole picture, then 64 of the tiles in raster order, which with
    8 newlines are 88 image tokens. The tower sees one tile at a time and cannot know which, so that rows and columns
    are those within the tile.
    """

    TILE = IMAGE // 2
    image_tokens = (TILE // PATCH) ** 2 + SIDE * (SIDE + 1)
    parts = (
        "CLIP-style vision tower on the whole picture and its tiles, MLP projector, Mistral decoder with shared keys"
    )
    cut = "16 of the whole picture and 64 of its four tiles, 8 newlines between them"

    def _processor(self) -> Any:
        square, pinpoints = {"height": self.TILE, "width": self.TILE}, [[IMAGE, IMAGE]]
        return LlavaNextProcessor(
            image_processor=LlavaNextImageProcessorPil(
                size={"shortest_edge": self.TILE}, crop_size=square, image_grid_pinpoints=pinpoints
            ),
            tokenizer=self.tokens,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=self.chat.template,
        )

    def _model(self) -> Any:
        text = MistralConfig(num_key_value_heads=self.recipe.heads // 2, sliding_window=None, **self._text())
        return LlavaNextForConditionalGeneration(
            LlavaNextConfig(
                vision_config=self._clip(self.TILE),
                text_config=text,
                image_token_index=self.image_id,
                image_grid_pinpoints=[[IMAGE, IMAGE]],
                vision_feature_layer=-2,
                vision_feature_select_strategy="default",
                tie_word_embeddings=False,
            )
        )

    def seen(self, model: Any, pixels: dict[str, Tensor]) -> Tensor:
        """(pictures, 80, width): 16 of the whole picture, then 16 of each tile."""
        views = pixels["pixel_values"]
        found = super().seen(model, {"pixel_values": views.flatten(0, 1)})
        return found.unflatten(0, views.shape[:2]).flatten(1, 2)

    def arranged(self, own: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Cells for the whole picture, then the patches of each tile."""
        half = SIDE // 2
        tiles = own.reshape(2, half, 2, half, -1).transpose(0, 2, 1, 3, 4).reshape(SIDE * SIDE, -1).copy()
        tiles[:, 3:5] %= self.TILE // CELL
        return np.concatenate([coarse, tiles])


class Qwen(Body):
    """Qwen2.5-VL: patches of 4 pixels, four merged into a visual token, windows in every other layer, M-RoPE."""

    THETA = 100.0  # at 10,000 columns turn by a fiftieth of a radian, at 10 words too much to be found at a distance
    chat = CHATML
    tower_knows_places = False  # it turns by relative ones only
    parts = "vision tower with windows, merger, Qwen2.5 decoder with M-RoPE and shared keys"
    cut = "64 an image of 64 x 64 pixels (patch 4, four merged into one); larger images have more"

    def _processor(self) -> Any:
        images = Qwen2VLImageProcessorPil(patch_size=PATCH // 2, min_pixels=IMAGE**2, max_pixels=4 * IMAGE**2)
        return Qwen2_5_VLProcessor(images, self.tokens, chat_template=self.chat.template)

    def _model(self) -> Any:
        recipe, width = self.recipe, self.recipe.hidden // self.recipe.heads // 2
        time, rows = width // 8, width // 4  # the quickest turn for time, the next for rows
        sections = [time, rows, width - time - rows]
        rope = {"rope_type": "default", "rope_theta": self.THETA, "mrope_section": sections}
        return Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
                text_config=self._text() | {"num_key_value_heads": recipe.heads // 2, "rope_parameters": rope},
                vision_config={
                    "depth": recipe.vision_layers,
                    "hidden_size": recipe.vision_hidden,
                    "intermediate_size": recipe.vision_mlp,
                    "num_heads": recipe.vision_heads,
                    "patch_size": PATCH // 2,
                    "window_size": IMAGE // 2,
                    "fullatt_block_indexes": list(range(1, recipe.vision_layers, 2)),
                    "out_hidden_size": recipe.hidden,
                },
                image_token_id=self.image_id,
                video_token_id=int(self.tokens.convert_tokens_to_ids("<|video_pad|>")),  # type: ignore[arg-type]
                vision_start_token_id=int(self.tokens.convert_tokens_to_ids("<|vision_start|>")),  # type: ignore[arg-type]
                vision_end_token_id=int(self.tokens.convert_tokens_to_ids("<|vision_end|>")),  # type: ignore[arg-type]
                tie_word_embeddings=False,
            )
        )

    def given(self, ids: Tensor) -> dict[str, Tensor]:
        """Which tokens are visual: M-RoPE counts their rows and columns."""
        return {"mm_token_type_ids": (ids == self.image_id).int()}

    def tower(self, model: Any) -> torch.nn.Module:
        """With the merger, which is also what hands its visual tokens to the decoder."""
        return model.model.visual

    def still(self, model: Any) -> list[torch.nn.Parameter]:
        """All but the merger."""
        return [p for name, p in self.tower(model).named_parameters() if not name.startswith("merger.")]

    def seen(self, model: Any, pixels: dict[str, Tensor]) -> Tensor:
        """(pictures, 64, decoder's width)."""
        grid = pixels["image_grid_thw"]
        merged = self.tower(model)(pixels["pixel_values"], grid_thw=grid).pooler_output
        return merged.unflatten(0, (len(grid), -1))

    @property
    def seen_width(self) -> int:
        """That of the decoder."""
        return self.recipe.hidden

    def arranged(self, own: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Without rows and columns: the tower has only relative places, so that no patch can know its own."""
        own = own.copy()
        own[:, 3:5] = 0
        return own


BODIES: dict[str, type[Body]] = {"llava": Body, "llava_next": LlavaNext, "qwen2_5_vl": Qwen}


def body(recipe: Recipe) -> Body:
    """The family's body at the recipe's sizes: tokenizer, processor, and what makes the untrained model."""
    return BODIES[recipe.family](recipe)
