"""Every family through the same door: tiny random models of the real classes, loaded like hub models.

Checked against hand-counted positions (token roles), transformers' eager attention (`none`), the model itself in one
forward pass (cached decoding), itself one item at a time (batches), and what each intervention promises.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import tiny
import torch

import lostlib
from lostlib.experiments import attention
from lostlib.interventions import Intervention
from lostlib.models.attention import Run, running
from lostlib.models.families import Qwen2_5_VLProcessor

SAPS = [
    "sap:keys=visual,weights=gaussian",
    "sap:keys=text,weights=gaussian",
    "sap:keys=all,weights=permuted",
    "sap:keys=visual,queries=text,weights=gaussian_abs",
    "sap:keys=text,queries=visual,weights=uniform",
    "sap:keys=visual,weights=static",
    "sap:keys=visual,weights=gaussian_logits",
    "sap:keys=visual,weights=zero",
    "sap:keys=visual,weights=gaussian,mass=share,layers=0+2",
    "sap:keys=visual,weights=permuted,mass=0.25,heads=1+3",
]
SPLIT = [  # what prefill and decode do differently
    "sap:keys=visual,queries=last,weights=gaussian",
    "sap:keys=visual,weights=gaussian,phase=prefill",
    "sap:keys=visual,weights=gaussian,phase=decode",
]
OTHERS = ["noise_delta", "noise_delta:scale=token", "noise_delta:scale=unit", "noise_qkv", "no_rope", "no_rope & sap"]
ALL = ["none", *SAPS, *SPLIT, *OTHERS]


@pytest.fixture(scope="module", params=list(tiny.MAKERS))
def model(request, tmp_path_factory) -> lostlib.LostModel:
    return lostlib.load_model(tiny.make(request.param, tmp_path_factory.mktemp("hub") / request.param))


@pytest.fixture(scope="module")
def items() -> list:
    return tiny.items()


@pytest.fixture(scope="module")
def batch(model, items):
    return model.encode(items)


def kind(model) -> str:
    return model.hf.config.model_type


def logits(model, batch, text: str, seed: int = 0) -> torch.Tensor:
    with lostlib.intervene(model, text, seed):
        return model.forward(batch).logits


# ---- prompts and token roles ----------------------------------------------------------------------------------------

PROMPTS = {  # up to the first image, before and after each image, from the question on
    "llava": ("<s>USER: ", "", "\n", "{} ASSISTANT:"),
    "llava_next": ("<s>[INST] ", "", "\n", "{} [/INST]"),
    "qwen2_5_vl": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
        "<|vision_start|>",
        "<|vision_end|>",
        "{}<|im_end|>\n<|im_start|>assistant\n",
    ),
}
TILED = {(40, 30): (4, 6), (24, 24): (3, 4), (60, 20): (3, 9), (20, 50): (7, 3)}  # rows and columns once unpadded
CELLS = {(40, 30): 20, (24, 24): 9, (60, 20): 16, (20, 50): 12}


def image_roles(family: str, size: tuple[int, int]) -> list[bool]:
    """Of one image's tokens, by hand: LLaVA-NeXT's are the base view's 9 patches, then rows that end in a newline."""
    if family == "llava_next":
        rows, columns = TILED[size]
        return [True] * 9 + ([True] * columns + [False]) * rows
    return [True] * (CELLS[size] if family == "qwen2_5_vl" else 9)


def test_prompts_and_roles_are_exactly_these(model, items, batch) -> None:
    start, before, after, end = PROMPTS[kind(model)]
    words, mark = model.processor.tokenizer, model.processor.image_token
    for item, ids, real, visual in zip(items, batch.tensors["input_ids"], batch.real, batch.visual, strict=True):
        prompt, roles = start, [False] * len(words.encode(start, add_special_tokens=False))
        for image in item.images:
            for piece in (before, None, after):
                roles += image_roles(kind(model), image.size) if piece is None else [False] * len(words.tokenize(piece))
            prompt += before + mark * len(image_roles(kind(model), image.size)) + after
        roles += [False] * len(words.tokenize(end.format(item.prompt)))
        assert words.decode(ids[real]) == prompt + end.format(item.prompt)
        assert visual[real].tolist() == roles
        assert not visual[~real].any()


def test_newlines_are_where_the_newline_parameter_went(model, batch) -> None:
    """Independent of any counting: the first layer reads the newline parameter there, and nowhere else."""
    if kind(model) != "llava_next":
        assert torch.equal(batch.visual, batch.tensors["input_ids"] == model.image_token_id)
        return
    with lostlib.watch(model, layers=[0]) as stream:
        model.forward(batch)
    newline = (stream[0].resid_pre == model.hf.model.image_newline).all(-1)
    assert newline.sum() == 4 + 3 + 3 + 7
    assert torch.equal(newline, (batch.tensors["input_ids"] == model.image_token_id) & ~batch.visual)


def test_generation_sees_the_same_roles(model, items, batch) -> None:
    """generate encodes the images first and calls the model without their sizes."""
    seen = []

    def note(probs, scores, rows):
        if rows.layer == 0:
            seen.append(rows.visual)
        return probs

    with running(Run(model, edits=[note])):
        model.answer(items, max_new_tokens=3)
    width = batch.visual.shape[1]
    assert all(torch.equal(visual[:, :width], batch.visual) and not visual[:, width:].any() for visual in seen)


def test_a_generated_image_token_is_text(model) -> None:
    ids = torch.tensor([[5, model.image_token_id, 6]])
    assert not model.visual(ids, {}).any()


def test_right_padding_tokenizers_and_templates_with_their_own_first_token(model, batch) -> None:
    """The saved tokenizers pad on the right, and one chat template writes <s> itself."""
    assert (batch.tensors["attention_mask"].diff(dim=1) >= 0).all()
    if (bos := model.processor.tokenizer.bos_token_id) is not None:
        assert ((batch.tensors["input_ids"] == bos).sum(1) == 1).all()


def test_the_processor_takes_images_without_torchvision(model) -> None:
    if kind(model) == "qwen2_5_vl":
        assert isinstance(model.processor, Qwen2_5_VLProcessor) == (find_spec("torchvision") is None)
        assert type(model.processor).__name__ == "Qwen2_5_VLProcessor"


# ---- the same function, the same stream -----------------------------------------------------------------------------


def test_none_is_eager_bit_for_bit_and_the_vision_tower_is_left_alone(model, batch) -> None:
    vision = model.hf.config.vision_config._attn_implementation
    model.hf.set_attn_implementation({"text_config": "eager"})
    with torch.inference_mode():
        eager = model.hf(**batch.tensors, use_cache=False).logits
    model.hf.set_attn_implementation({"text_config": "sdpa"})
    with model.serving(batch.item_ids):
        assert model.hf.config.vision_config._attn_implementation == vision
    assert torch.equal(eager, model.forward(batch).logits)
    assert torch.equal(eager, logits(model, batch, "none"))


@pytest.mark.parametrize("text", ["none", "sap", "noise_delta", "noise_qkv", "no_rope"])
def test_the_stream_adds_up(model, batch, text: str) -> None:
    with lostlib.watch(model) as stream, lostlib.intervene(model, text):
        model.forward(batch)
    assert sorted(stream) == [0, 1, 2]
    for layer, at in stream.items():
        torch.testing.assert_close(at.resid_mid, at.resid_pre + at.attn_out, rtol=0, atol=1e-5)
        torch.testing.assert_close(at.resid_post, at.resid_mid + at.mlp_out, rtol=0, atol=1e-5)
        assert at.attn_out.norm() > 0
        assert at.mlp_out.norm() > 0
        assert layer == 0 or torch.equal(at.resid_pre, stream[layer - 1].resid_post)


# ---- interventions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ALL[1:])
def test_changes_something_and_leaves_nothing_behind(model, batch, text: str) -> None:
    weights = {name: p.clone() for name, p in model.hf.named_parameters()}
    before = model.forward(batch).logits
    changed = (logits(model, batch, text) - before).abs().amax(-1)
    if "decode" not in text:
        assert changed[batch.real].max() > 1e-4
    without_image = ~batch.visual.any(1)
    if text.startswith("sap:keys=visual"):
        assert (changed[without_image] == 0).all(), "an item without an image has no visual keys"
    assert torch.equal(model.forward(batch).logits, before)
    assert all(torch.equal(p, weights[name]) for name, p in model.hf.named_parameters())


@pytest.mark.parametrize("text", ALL)
def test_a_later_token_cannot_change_an_earlier_one(model, items, text: str) -> None:
    batch, other = model.encode(items[1:2]), model.encode(items[1:2])
    end = batch.tensors["input_ids"].shape[1] - 3
    other.tensors["input_ids"][0, end:] = torch.tensor(
        model.processor.tokenizer.encode("xyz", add_special_tokens=False)
    )
    same, changed = logits(model, batch, text), logits(model, other, text)
    torch.testing.assert_close(same[:, :end], changed[:, :end], rtol=0, atol=1e-5)
    assert (same[:, end:] - changed[:, end:]).abs().max() > 1e-3


@pytest.mark.parametrize("text", ALL)
def test_batch_and_padding_do_not_matter(model, items, batch, text: str) -> None:
    together = logits(model, batch, text)
    for i, item in enumerate(items):
        alone = logits(model, model.encode([item]), text)[0]
        torch.testing.assert_close(together[i, -len(alone) :], alone, rtol=0, atol=5e-5)


@pytest.mark.parametrize("text", [t for t in ALL if t not in SPLIT])
def test_cached_decoding_equals_one_forward_pass(model, batch, text: str) -> None:
    """Greedy decoding's logits, and those of one pass over prompt and answer (which must hold no stray image token)."""
    no_image = {"suppress_tokens": [model.image_token_id]}
    with lostlib.intervene(model, text), torch.inference_mode(), model.serving(batch.item_ids):
        out = model.hf.generate(
            **batch.tensors, min_new_tokens=4, max_new_tokens=4, do_sample=False, output_logits=True,
            return_dict_in_generate=True, **no_image,
        )  # fmt: skip
        longer = {**batch.tensors, "input_ids": out.sequences}
        for name, value in (("attention_mask", 1), ("mm_token_type_ids", 0)):
            if name in longer:
                longer[name] = torch.nn.functional.pad(longer[name], (0, 4), value=value)
        full = model.hf(**longer, use_cache=False).logits[:, -5:-1]
    torch.testing.assert_close(torch.stack(out.logits, 1), full, rtol=0, atol=1e-4)


@pytest.mark.parametrize("text", [*SPLIT, "sap", "noise_delta", "noise_qkv", "no_rope"])
def test_answers_do_not_depend_on_the_batch(model, items, text: str) -> None:
    with lostlib.intervene(model, text, seed=3):
        together = model.answer(items, max_new_tokens=4)
        assert [model.answer([item], max_new_tokens=4)[0] for item in items] == together


def test_without_rope_positions_say_nothing(model, batch) -> None:
    """Under no_rope any position ids give the same logits, on three axes for M-RoPE; with RoPE they do not."""
    axes = (3,) if kind(model) == "qwen2_5_vl" else ()
    shape = (*axes, *batch.visual.shape)
    some, other = (torch.randint(0, 90, shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for text, moves in (("no_rope", False), ("none", True)):
        with lostlib.intervene(model, text):
            first, second = (model.forward(batch, position_ids=ids).logits[batch.real] for ids in (some, other))
        assert ((first - second).abs().max() > 1e-3) == moves


@pytest.mark.parametrize("keys", ["visual", "text"])
@pytest.mark.parametrize("weights", ["gaussian", "uniform", "permuted", "static"])
def test_sap_moves_its_keys_and_no_others(model, items, batch, keys: str, weights: str) -> None:
    """Not the newlines, not padding, not the future; the block keeps its mass in every head of every group."""
    held = {}

    def note(probs, scores, rows):
        held[rows.layer] = probs
        return probs

    def compare(probs, scores, rows):
        block = (batch.visual if keys == "visual" else ~batch.visual)[:, None, None, :] & rows.visible
        before = held[rows.layer]
        assert probs.shape[1] == model.n_heads
        assert torch.equal(probs.masked_select(~block), before.masked_select(~block))
        torch.testing.assert_close((probs * block).sum(-1), (before * block).sum(-1), rtol=0, atol=1e-5)
        assert (probs != before)[block.sum(-1).expand(probs.shape[:3]) > 1].any()
        return probs

    sap = Intervention.parse(f"sap:keys={keys},weights={weights}")
    with running(Run(model, edits=[note, *sap.edits, compare])):
        model.forward(batch)
    assert sorted(held) == [0, 1, 2]


def test_noise_matrices_have_the_shape_of_shared_key_heads(model) -> None:
    shared = model.hf.config.get_text_config().num_key_value_heads
    assert shared == (4 if kind(model) == "llava" else 2)
    noise = lostlib.interventions.NoiseQKV.matrix(model.attention_modules[0].k_proj.weight, 0, "k_proj", 0)
    assert noise.shape == (16 * shared, 64)


# ---- measuring ------------------------------------------------------------------------------------------------------


def test_residual_metrics_agree_with_single_items(model, items) -> None:
    together = lostlib.residual_metrics(model, items)
    single = lostlib.residual_metrics(model, items[2:3])  # the one without an image
    assert len(together) == len(items) * 3 * (2 + 3)
    assert together["rid"].between(0, 2).all()
    part = together[together["item"] == "none"].reset_index(drop=True)
    for column in ("rid", "mixig", "erank", "norm_ratio"):
        torch.testing.assert_close(
            torch.tensor(part[column].to_numpy()), torch.tensor(single[column].to_numpy()), rtol=1e-3, atol=1e-3
        )
    assert len(lostlib.residual_metrics(model, items[:2], controls=("noise_qkv",), scope="model")) == 2 * 3 * 3


def test_attention_mass_of_items_with_and_without_images(model, items) -> None:
    rows = attention.attention_mass(model, items).set_index("item")
    assert (rows.loc["none", "visual"] == 0).all()
    assert rows.loc["none", "entropy"].isna().all()
    assert rows.drop("none")["visual"].between(0, 1, inclusive="neither").all()
    assert rows.drop("none")["entropy"].between(0, 1).all()
