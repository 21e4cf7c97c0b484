"""Questions in the forms of real chat templates: images in their places or named, documented system lines, too long."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText

import lostlib
from lostlib.benchmarks import Item, mmmu
from lostlib.benchmarks.items import PLACE
from lostlib.checkpoints import SYSTEMS, ModelChoice
from lostlib.experiments import answers, residual, sinks
from lostlib.experiments.rows import LEFT_OUT
from lostlib.models.families import FAMILIES, load_processor
from lostlib.models.template import Template
from lostlib.models.weights import matrix

YI = (  # images first, each text on a line of its own
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (  # every text ends the turn
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + '<|eot_id|>' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
VICUNA = tiny.USER_ASSISTANT.replace(
    "{{ message['role'].upper() + ': ' }}",
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}",
)
MISTRAL = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<<SYS>>\n' + message['content'][0]['text'] + '\n<</SYS>>\n\n' }}{% elif message['role'] == 'user' %}"
    "{{ '[INST] ' }}{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{{ ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'][0]['text'] + '</s>' }}{% endif %}{% endfor %}"
)
SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
LLAMA3_USER, LLAMA3_END = (
    "<|start_header_id|>user<|end_header_id|>\n\n",
    ("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
)
CHATML_END, QWEN_SYSTEM = (
    "<|im_end|>\n<|im_start|>assistant\n",
    ("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"),
)
TEMPLATES = {  # name: template, what is before a user's images, an image, what is between images and text, the end
    "vicuna": (VICUNA, "USER: ", "<image>\n", "", " ASSISTANT:"),
    "mistral": (MISTRAL, "[INST] ", "<image>\n", "", " [/INST]"),
    "yi": (YI, "<|im_start|>user\n", "<image>", "\n", "<|im_end|><|im_start|>assistant\n"),
    "llama3": (LLAMA3, LLAMA3_USER, "<image>\n", "", LLAMA3_END),
    "qwen": (tiny.CHATML, QWEN_SYSTEM, SEEN, "", CHATML_END),
}
IMAGES_FIRST = ("vicuna", "mistral", "yi", "llama3")
PICTURES = tuple(Image.new("RGB", (24, 24), (shade, 0, 0)) for shade in (1, 2, 3))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: tiny.make(family, tmp_path_factory.mktemp("hub") / family) for family in tiny.MAKERS}


@pytest.fixture
def template(folders: dict[str, Path]):
    def made(name: str, system: str | None = None) -> Template:
        family = "qwen2_5_vl" if name == "qwen" else "llava_next"
        processor = load_processor(folders[family], FAMILIES[family])
        processor.chat_template = TEMPLATES[name][0]
        return Template(processor, system)

    return made


def asked(prompt: str, images: int, numbers: tuple[int, ...] | None = None) -> Item:
    return Item("x", PICTURES[:images], prompt, "", "open", numbers=numbers)


WORDS = [  # prompt, images, their numbers, the text where images come first
    ("What is it?", 1, None, "What is it?"),
    ("How many legs has a spider?", 0, None, "How many legs has a spider?"),
    ("What is it?", 2, None, "What is it?"),
    (f"{PLACE}\nWhat is it?", 1, None, "What is it?"),
    (f"{PLACE} {PLACE} Which is older?", 2, None, "Which is older?"),
    (f"What is it? {PLACE}", 1, None, "What is it?"),
    (f"What is in {PLACE}?", 1, None, "What is in image 1?"),
    (f"Which of {PLACE} and {PLACE} is older?", 2, None, "Which of image 1 and image 2 is older?"),
    (f"Which of {PLACE} and {PLACE} is older?", 2, (1, 2), "Which of image 1 and image 2 is older?"),
    (f"{PLACE} is a cat.\nWhat is {PLACE}?", 2, (1, 2), "image 1 is a cat.\nWhat is image 2?"),
    (f"Is{PLACE}or{PLACE}older?", 2, (1, 2), "Is image 1 or image 2 older?"),
    (f"{PLACE} or {PLACE}, so image 2?", 2, (2, 1), "image 2 or image 1, so image 2?"),
]  # fmt: skip


@pytest.mark.parametrize("name", IMAGES_FIRST)
@pytest.mark.parametrize(("prompt", "images", "numbers", "text"), WORDS)
def test_images_first_and_one_text_that_names_them(template, name, prompt, images, numbers, text) -> None:
    _, start, image, between, end = TEMPLATES[name]
    said, shown = template(name)(asked(prompt, images, numbers))
    assert said == start + image * images + between + text + end
    shades = [picture.getpixel((0, 0))[0] for picture in shown]
    assert shades == ([2, 1] if numbers == (2, 1) else [1, 2, 3][:images])


@pytest.mark.parametrize(("prompt", "images", "numbers", "text"), WORDS)
def test_images_in_their_places(template, prompt, images, numbers, text) -> None:
    _, start, image, _, end = TEMPLATES["qwen"]
    said, shown = template("qwen")(asked(prompt, images, numbers))
    placed = prompt.replace(PLACE, image) if PLACE in prompt else image * images + prompt
    assert said == start + placed + end
    assert [picture.getpixel((0, 0))[0] for picture in shown] == [1, 2, 3][:images]


def test_more_places_than_images_are_text(template) -> None:
    assert template("qwen")(asked(f"One {PLACE}, two shown", 2))[0].count(SEEN + SEEN + f"One {PLACE}, two") == 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_question_of_mmmu_with_images_in_any_order(template, name: str) -> None:
    row = {
        "id": "validation_Art_1", "question": "<image 2> or <image 1>, so <image 2>?", "options": "['<image 3>', 'b']",
        "answer": "A", "question_type": "multiple-choice",
    } | {f"image_{i + 1}": picture for i, picture in enumerate(PICTURES)}  # fmt: skip
    said, shown = template(name)(mmmu.to_item(row))
    shades = [picture.getpixel((0, 0))[0] for picture in shown]
    if name == "qwen":
        assert f"{SEEN} or {SEEN}, so image 2?\nA. {SEEN}\nB. b\n" in said
        assert shades == [2, 1, 3]
    else:
        assert "image 2 or image 1, so image 2?\nA. image 3\nB. b\n" in said
        assert shades == [1, 2, 3]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_form_is_what_the_template_says(template, name: str) -> None:
    _, start, image, between, end = TEMPLATES[name]
    assert template(name).form == start + image + between + "…" + end


# ---- system lines ---------------------------------------------------------------------------------------------------

LINE = SYSTEMS["lmms"]
FORMS = {  # as model cards and harnesses write them
    "vicuna": f"{LINE} USER: <image>\n… ASSISTANT:",
    "mistral": f"<<SYS>>\n{LINE}\n<</SYS>>\n\n[INST] <image>\n… [/INST]",
    "yi": f"<|im_start|>system\n\n{LINE}<|im_end|><|im_start|>user\n<image>\n…<|im_end|><|im_start|>assistant\n",
    "llama3": f"<|start_header_id|>system<|end_header_id|>\n\n{LINE}<|eot_id|>{LLAMA3_USER}<image>\n…{LLAMA3_END}",
    "qwen": f"<|im_start|>system\n{LINE}<|im_end|>\n<|im_start|>user\n{SEEN}…{CHATML_END}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_documented_forms_with_a_system_line(template, name: str) -> None:
    made = template(name, LINE)
    assert made.form == FORMS[name]
    assert made.in_place == template(name).in_place


def test_a_template_without_a_place_for_it_refuses_a_system_line(template, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", lambda *_, **__: pytest.fail("weights read"))
    for name in ("mini-llava-1.5", "mini-qwen2.5-vl"):  # they would put it as the model's own words
        with pytest.raises(ValueError, match=r"no place for a system line; 'You are a helpful assistant\.' was given"):
            lostlib.load_model(name, system="qwen")
    processor = template("vicuna").processor
    for wrong in (
        tiny.INST.replace("{{ bos_token }}", ""),  # a user's words
        MISTRAL.replace("'<<SYS>>\n'", "message['content'][0]['text']"),  # twice
    ):
        processor.chat_template = wrong
        with pytest.raises(ValueError, match="no place for a system line"):
            Template(processor, "Be brief.") if "SYS" in wrong else Template(processor, "Be [/INST] brief.")
    processor.chat_template = (
        "{% for m in messages %}{% if m['role'] != 'user' %}{{ raise_exception('users only') }}{% endif %}{% endfor %}"
    )
    with pytest.raises(ValueError, match=r"takes no system line .*users only"):
        Template(processor, "Be brief.")


def test_the_system_line_is_part_of_the_name(folders: dict[str, Path]) -> None:
    name = str(folders["qwen2_5_vl"])
    for given in ("lmms", LINE):
        assert str(ModelChoice.parse(name, system=given)) == f"{name}:system=lmms"
    own = ModelChoice.parse(name, system="Answer in French, not: English/German = no, 100%.")
    assert str(own) == f"{name}:system=Answer in French%2C not%3A English%2FGerman %3D no%2C 100%25."
    assert ModelChoice.parse(str(own)) == own
    model = lostlib.load_model(str(own))
    assert model.template.form.startswith(f"<|im_start|>system\n{own.system_line}<|im_end|>\n")
    with pytest.raises(ValueError, match=r"'lmm' is one word and none of lmms, .*did you mean 'lmms'"):
        ModelChoice.parse(name, system="lmm")
    with pytest.raises(ValueError, match="system is empty"):
        ModelChoice.parse(name, system=" ")


# ---- encoding -------------------------------------------------------------------------------------------------------


def test_named_images_are_encoded_in_the_order_of_their_numbers(folders: dict[str, Path]) -> None:
    model = lostlib.load_model(folders["llava"])
    one = asked(f"{PLACE} or {PLACE}?", 2, (2, 1))
    other = Item("x", PICTURES[1::-1], "image 2 or image 1?", "", "open")
    first, second = model.encode([one]), model.encode([other])
    assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in second.tensors)


def test_a_prompt_longer_than_the_positions_is_refused_before_the_forward_pass(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, items = lostlib.load_model(folders["llava"]), tiny.items()
    most = max(lengths := model.encode(items).real.sum(1).tolist())
    longest = items[lengths.index(most)].uid
    monkeypatch.setattr(model.hf.config.text_config, "max_position_embeddings", most + 3)
    assert len(model.answer(items, max_new_tokens=3)) == len(items)
    monkeypatch.setattr(model.hf, "forward", lambda *_, **__: pytest.fail("a forward pass"))
    message = f"{longest} has {most} tokens, and its answer may have 4, but llava has {most + 3} positions"
    with pytest.raises(ValueError, match=message):
        model.answer(items, max_new_tokens=4)
    monkeypatch.setattr(model.hf.config.text_config, "max_position_embeddings", most - 1)
    with pytest.raises(ValueError, match=f"{longest} has {most} tokens, but llava has {most - 1} positions"):
        model.encode(items)


def test_any_number_of_items_that_are_too_long_is_left_out(tiny: lostlib.LostModel, monkeypatch) -> None:
    benchmark = lostlib.load_benchmark("mini-pope", n=4)
    most = int(tiny.encode(benchmark.items).real.sum(1).max()) + 8
    monkeypatch.setattr(tiny.hf.config.text_config, "max_position_embeddings", most)
    long = [
        Item(f"long {i}", benchmark.items[0].images, "is there a circle? " * 40, "yes", "yesno", meta={"category": "x"})
        for i in range(20)
    ]
    mixed = lostlib.benchmarks.Benchmark("mini-pope", "1", 0, [], (*long, *benchmark.items), benchmark.rules)
    said = answers.answers(tiny, mixed, batch_size=8)
    assert said["item"].tolist() == [item.uid for item in benchmark.items]
    assert sorted(said.attrs[LEFT_OUT]) == sorted(item.uid for item in long)
    assert all(f"but {tiny.name} has {most} positions" in why for why in said.attrs[LEFT_OUT].values())
    rows = residual.residual_metrics(tiny, mixed.items, controls=())
    assert sorted(set(rows["item"])) == sorted(item.uid for item in benchmark.items)


def test_a_tokenizer_without_a_pad_token_pads_with_the_end(folders: dict[str, Path]) -> None:
    model, items = lostlib.load_model(folders["qwen2_5_vl"]), tiny.items()
    expected = model.answer(items, max_new_tokens=4)
    processor = load_processor(folders["qwen2_5_vl"], FAMILIES["qwen2_5_vl"])
    processor.tokenizer.pad_token = None
    assert lostlib.wrap(model.hf, processor).answer(items, max_new_tokens=4) == expected
    processor.tokenizer.pad_token = processor.tokenizer.eos_token = None
    with pytest.raises(ValueError, match="neither a pad_token nor an eos_token"):
        lostlib.wrap(model.hf, processor)


def test_one_item_alone_and_what_is_no_item(tiny: lostlib.LostModel, items: list) -> None:
    assert tiny.answer(items[0]) == tiny.answer(items[:1])
    assert tiny.encode(items[0]).item_ids == (items[0].uid,)
    assert tiny.answer(iter(items)) == tiny.answer(items)
    assert lostlib.residual_metrics(tiny, items[0]).equals(lostlib.residual_metrics(tiny, items[:1]))
    for wrong in ("Is there a cat?", 3, [items[0], "x"], lostlib.load_benchmark("mini-pope", n=1)):
        with pytest.raises(TypeError, match=r"expected items, such as load_benchmark\('mini-pope'\).items, got"):
            tiny.answer(wrong)


# ---- packed weights -------------------------------------------------------------------------------------------------


class Packed(nn.Module):
    """A linear layer of 8-bit numbers and a scale a row, without `weight`, as quantized checkpoints have them."""

    def __init__(self, dense: nn.Linear):
        super().__init__()
        self.in_features, self.bias = dense.in_features, dense.bias
        self.register_buffer("scales", dense.weight.detach().abs().amax(1, keepdim=True) / 127)
        self.register_buffer("qweight", (dense.weight.detach() / self.scales).round().to(torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, (self.qweight * self.scales).to(x.dtype), self.bias)


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])  # without biases, and with
def test_packed_projections_are_noised_and_measured_like_dense_ones(folders: dict[str, Path], family: str) -> None:
    dense, packed, items = lostlib.load_model(folders[family]), lostlib.load_model(folders[family]), tiny.items()
    for mine, other in zip(dense.attention_modules, packed.attention_modules, strict=True):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            held = Packed(getattr(other, name))
            getattr(mine, name).weight.data = held.qweight * held.scales
            setattr(other, name, held)
            torch.testing.assert_close(matrix(held, torch.float32), matrix(getattr(mine, name), torch.float32))
    said = []
    for model in (dense, packed):
        with lostlib.intervene(model, "noise_qkv", seed=1):
            said.append(model.forward(model.encode(items)).logits)
    torch.testing.assert_close(*said, rtol=0, atol=1e-4)
    rows = [sinks.sink_rows(model, items[:1], dims="1+2", tau=0.1) for model in (dense, packed)]
    torch.testing.assert_close(*(torch.tensor(one["contribution"].to_numpy()) for one in rows), rtol=1e-3, atol=1e-4)


def test_weights_beside_a_large_bias_and_offloaded_ones() -> None:
    dense = nn.Linear(8, 6)
    dense.bias.data.fill_(300.0)
    packed = Packed(dense)
    assert torch.equal(matrix(packed, torch.bfloat16), (packed.qweight * packed.scales).bfloat16())
    assert packed.bias is dense.bias
    weight = dense.weight.detach().clone()
    assert torch.equal(matrix(pytest.importorskip("accelerate").cpu_offload(dense), torch.float32), weight)
    assert dense.weight.is_meta


def test_weights_that_cannot_be_had_are_named() -> None:
    with pytest.raises(RuntimeError, match="weights of Linear are not in memory"):
        matrix(nn.Linear(2, 3, device="meta"), torch.float32)
    with pytest.raises(RuntimeError, match="ReLU has neither floating-point weights nor in_features"):
        matrix(nn.ReLU(), torch.float32)
