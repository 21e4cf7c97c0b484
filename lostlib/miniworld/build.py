"""Tokenizer, processor and untrained model of a mini LVLM: the real transformers classes at a small size.

A mini model is one `Recipe` row. What `build` returns is saved with `save_pretrained` in full hub format and loaded
again by the same code as a hub model.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lostlib.miniworld.scenes import IMAGE, PATCH
from lostlib.miniworld.words import vocabulary

WORD = r"\d+\.\d+|\w+|[^\w\s]"
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {% else %}ASSISTANT: {% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'user' %} {% else %}</s>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """Sizes, vision tower and training length of one mini model.

    tower   `mixing`: each patch is trained to say what it shows, and may look at the others to know it (the default);
            `local`: the same, but patches cannot look at one another; `broadcast`: each patch is also trained to
            say what is anywhere in the scene
    """

    layers: int = 6
    hidden: int = 128
    heads: int = 4
    mlp: int = 384
    tower: str = "mixing"
    vision_layers: int = 4
    vision_hidden: int = 128
    vision_heads: int = 4
    vision_mlp: int = 384
    batch: int = 32  # images a step
    tower_steps: int = 800
    captions_steps: int = 1000
    instruct_steps: int = 4000
    learning_rate: float = 1.5e-3
    kinds: str = "first"  # of questions: "first", about one scene; "all", with charts and several images
    base: str = ""  # the shipped model to start from, its words first in the vocabulary; none: from random weights


RECIPES = {
    "mini-llava-1.5": Recipe(),
    "mini-llava-1.5-local": Recipe(tower="local"),
    "mini-llava-1.5-broadcast": Recipe(tower="broadcast", tower_steps=3000),
    "mini-llava-1.5-wide": Recipe(
        kinds="all", base="mini-llava-1.5", tower_steps=800, captions_steps=400, instruct_steps=3500, learning_rate=1e-3
    ),
}


def tokenizer(kinds: str) -> PreTrainedTokenizerFast:
    """One token per word, number or sign; unknown words become <unk>. `kinds` of questions, see `Recipe`."""
    vocab = {token: i for i, token in enumerate([*SPECIAL, *vocabulary(kinds)])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=2048,
    )


def processor(kinds: str = "first") -> LlavaProcessor:
    """LLaVA's processor for our pictures: no resizing is needed, 64 visual tokens each."""
    square = {"height": IMAGE, "width": IMAGE}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=square, crop_size=square),
        tokenizer=tokenizer(kinds),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class token, dropped again by the "default" strategy
        chat_template=CHAT_TEMPLATE,
    )


def model(recipe: Recipe, tokens: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """The untrained model in float32; set torch's seed first."""
    vision = CLIPVisionConfig(
        hidden_size=recipe.vision_hidden,
        intermediate_size=recipe.vision_mlp,
        num_hidden_layers=recipe.vision_layers,
        num_attention_heads=recipe.vision_heads,
        image_size=IMAGE,
        patch_size=PATCH,
        projection_dim=recipe.vision_hidden,
    )
    text = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=2048,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=int(tokens.convert_tokens_to_ids("<image>")),  # type: ignore[arg-type]
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=(IMAGE // PATCH) ** 2,
        tie_word_embeddings=False,
    )
    built = LlavaForConditionalGeneration(config)
    built.generation_config.pad_token_id = tokens.pad_token_id
    built.generation_config.eos_token_id = tokens.eos_token_id
    return built.float()
