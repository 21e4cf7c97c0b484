"""The table of checkpoints against the real classes, and loading: what a user gets wrong is found before weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from transformers import AutoModelForImageTextToText, LlamaConfig, LlavaConfig, LlavaNextConfig, Qwen2_5_VLConfig
from typer.testing import CliRunner

import lostlib
from lostlib import checkpoints, machine, models, paths, tables
from lostlib.checkpoints import ModelChoice
from lostlib.cli import app
from lostlib.models import loading
from lostlib.models.families import FAMILIES
from lostlib.results import obtain

HUB = [card for card in checkpoints.CARDS.values() if "/" in card.id]
CLIP_L = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip


def config(card: checkpoints.Card):
    """The full-size configuration that a row of the table describes."""
    text = {
        "hidden_size": card.hidden, "intermediate_size": card.mlp, "num_hidden_layers": card.layers,
        "num_attention_heads": card.heads, "num_key_value_heads": card.kv_heads, "vocab_size": card.vocab,
    }  # fmt: skip
    if card.family == "llama":
        return LlamaConfig(**text, tie_word_embeddings=True)
    if card.family == "qwen2_5_vl":
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
        mlp = 3420 if card.hidden < 5000 else 3456
        vision = {"hidden_size": 1280, "intermediate_size": mlp, "out_hidden_size": card.hidden}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings="3B" in card.id)
    kind = "mistral" if "mistral" in card.id else "qwen2" if "72b" in card.id or "110b" in card.id else "llama"
    family = LlavaConfig if card.family == "llava" else LlavaNextConfig
    return family(text_config={"model_type": kind, **text}, vision_config=CLIP_L)


def test_the_table_has_every_checkpoint() -> None:
    plain = [card for card in HUB if card.quantization is None]
    assert [sum(card.family == family for card in plain) for family in FAMILIES][:4] == [2, 7, 4, 1]
    assert {card.id for card in HUB if card.quantization} == {
        f"{card.id}-AWQ" for card in plain if card.family == "qwen2_5_vl"
    }
    assert all(set(card.unconfirmed) <= set(checkpoints.Card.__dataclass_fields__) for card in HUB)


@pytest.mark.parametrize("card", [card for card in HUB if card.quantization is None], ids=lambda card: card.id)
def test_parameters_are_those_of_the_real_classes(card: checkpoints.Card) -> None:
    assert loading._size(config(card), torch.bfloat16) == 2 * card.parameters
    assert card.gigabytes == 2 * card.parameters / 1e9


@pytest.mark.parametrize("name", models.shipped())
def test_a_shipped_model_is_its_row(name: str) -> None:
    card, held = checkpoints.CARDS[name], json.loads((paths.MODELS / name / "config.json").read_text())
    text = held["text_config"]
    assert held["model_type"] == card.family
    for ours, theirs in (
        ("layers", "num_hidden_layers"), ("heads", "num_attention_heads"), ("kv_heads", "num_key_value_heads"),
        ("hidden", "hidden_size"), ("mlp", "intermediate_size"), ("vocab", "vocab_size"),
    ):  # fmt: skip
        assert getattr(card, ours) == text[theirs]
    model = lostlib.load_model(name)
    assert sum(p.numel() for p in model.hf.parameters()) == card.parameters
    assert model.dtype == loading.DTYPES[card.dtype]


def test_memory_of_four_bits_lies_between_a_quarter_and_a_half() -> None:
    for card in HUB:
        if card.quantization:
            full = checkpoints.CARDS[card.id.removesuffix("-AWQ")]
            assert 0.25 < card.gigabytes / full.gigabytes < 0.5


def test_what_fits() -> None:
    card = checkpoints.CARDS["Qwen/Qwen2.5-VL-7B-Instruct"]  # 16.6 GB of weights
    awq = checkpoints.CARDS["Qwen/Qwen2.5-VL-7B-Instruct-AWQ"]
    assert machine.fits(card, {"cpu": 64, "cuda:0": 24}) == "one GPU"
    assert machine.fits(card, {"cpu": 64, "cuda:0": 12, "cuda:1": 12}) == "all GPUs"
    assert machine.fits(card, {"cpu": 24, "cuda:0": 8}) == "cpu"
    assert machine.fits(card, {"cpu": 8}) == "no"
    assert machine.fits(awq, {"cpu": 64}) == "no"
    assert machine.fits(awq, {"cpu": 8, "cuda:0": 10}) == "one GPU"


def test_the_command_lists_all_of_it() -> None:
    shown = CliRunner().invoke(app, ["models"])
    assert shown.exit_code == 0
    assert all(card.id in shown.output for card in HUB)
    assert "80?" in shown.output
    row = next(line for line in shown.output.splitlines() if line.startswith("mini-llava-1.5 "))
    assert row.endswith(r"USER: <image>\n… ASSISTANT:")
    assert "fits" in CliRunner().invoke(app, ["models", "--help"]).output


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading weights fails this test."""
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", lambda *_, **__: pytest.fail("weights read"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.make("qwen2_5_vl", tmp_path / "tiny-qwen")


@pytest.mark.usefixtures("no_weights")
def test_names_that_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no model 'mini-lava'.*did you mean 'mini-llava-1\.5'"):
        lostlib.load_model("mini-lava")

    def offline(*_, **__):
        raise OSError("We couldn't connect\nto anything")

    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", offline)
    with pytest.raises(ValueError, match=r"did you mean 'Qwen/Qwen2\.5-VL-7B-Instruct'\? \(We couldn't connect\)"):
        lostlib.load_model("Qwen/Qwen2.5-VL-7B-Instuct")


@pytest.mark.usefixtures("no_weights")
def test_folders_that_cannot_be_loaded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no \*\.safetensors"):
        lostlib.load_model(folder)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    with pytest.raises(ValueError, match="'qwen2_vl' are not known here; there are llava, llava_next, qwen2_5_vl"):
        lostlib.load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="no configuration"):
        lostlib.load_model(folder)


@pytest.mark.usefixtures("no_weights")
def test_parameters_that_cannot_be(folder: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'bfloat16'"):
        lostlib.load_model(folder, dtype="bfloat6")
    with pytest.raises(ValueError, match="not to be had here"):
        lostlib.load_model(folder, device="cuda:99")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What the weights were asked for with; nothing is read."""
    found: dict = {}

    def read(source, **kwargs):
        found.update(kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", read)
    return found


def test_what_needs_accelerate_says_so_or_hands_it_on(
    folder: Path, asked: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quantized weights and models larger than a GPU: an error without accelerate, a map with it."""
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="quantized weights need the package accelerate: pip install accelerate"):
        lostlib.load_model(folder, quantization=SimpleNamespace())
    assert not asked
    monkeypatch.setattr(loading, "find_spec", lambda name: name)
    given = SimpleNamespace()
    with pytest.raises(KeyboardInterrupt):
        lostlib.load_model(folder, quantization=given)
    assert asked["quantization_config"] is given
    assert asked["device_map"] == {"": torch.device("cpu")}
    assert asked["use_safetensors"] is True
    assert asked["trust_remote_code"] is False
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 1000))
    cuda = torch.device("cuda:0")
    _, held = loading._config(ModelChoice.parse(folder))
    assert loading._spread("auto", cuda, held, torch.bfloat16, False) == "auto"
    assert loading._spread("cuda:0", cuda, held, torch.bfloat16, False) is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
    assert loading._spread("auto", cuda, held, torch.bfloat16, False) is None


def test_weights_are_packed_by_name(folder: Path, asked: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line names it: with the model; refused before weights are read where it cannot be."""
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    for name, given in ((f"{folder}:quantization=4bit", None), (folder, "4bit")):
        with pytest.raises(ImportError, match="4bit needs the package bitsandbytes: pip install bitsandbytes"):
            lostlib.load_model(name, quantization=given)
    monkeypatch.setattr(loading, "find_spec", lambda name: name)
    for name, four in (("4bit", True), ("8bit", False)):
        with pytest.raises(KeyboardInterrupt):
            lostlib.load_model(f"{folder}:quantization={name},dtype=bfloat16")
        config = asked["quantization_config"]
        assert (config.load_in_4bit, config.load_in_8bit) == (four, not four)
        assert config.bnb_4bit_compute_dtype == torch.bfloat16
    held = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(held | {"quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(ValueError, match="quantized already; 4bit was given"):
        lostlib.load_model(f"{folder}:quantization=4bit")
    result = CliRunner().invoke(app, ["run", "answers", "--model", f"{folder}:quantization=4bit", "--n", "1"])
    assert result.exit_code == 2
    assert "quantized already" in result.output


def test_paths_below_home(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no shell has put the home for `~`, as in --out=~/tables: the command line, models, benchmarks."""
    monkeypatch.setenv("HOME", str(tmp_path))
    model = lostlib.load_model(f"~/{folder.name}")
    assert model.name == folder.name
    asked = ["run", "answers", f"--model=~/{folder.name}", "--n=2", "--out=~/tables", "--set=max_new_tokens=2"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    (table,) = (tmp_path / "tables").rglob("*.parquet")
    assert tables.read(table).about["prompt"] == model.template.form
    assert "there are no tables in" in CliRunner().invoke(app, ["check", "--folder=~/none"]).output
    monkeypatch.setenv("LOST_RESULTS", "~/tables")
    key = tables.read_key(table)
    assert obtain("answers", model=key.model, benchmark="mini-pope", n=2, max_new_tokens=2).origin == "shipped"
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/pope has no file"):
        lostlib.load_benchmark("pope", folder="~/pope")
    (tmp_path / "data" / "pope").mkdir(parents=True)
    monkeypatch.setenv("LOST_DATA", "~/data")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/data/pope has no file"):
        lostlib.load_benchmark("pope")


def test_loading_in_bfloat16_and_wrapping(folder: Path) -> None:
    model = lostlib.load_model(folder, dtype="bfloat16", device="auto")
    assert model.dtype == torch.bfloat16
    assert model.name == "tiny-qwen"
    assert model.weights == paths.weights_hash(folder)
    again = lostlib.wrap(model.hf, model.processor, "mine")
    items = tiny.items()
    batch = model.encode(items)
    assert torch.equal(again.forward(batch).logits, model.forward(batch).logits)
    assert model.forward(batch).logits.isfinite().all()


def test_the_estimate_of_time_is_operations_over_speed() -> None:
    """7.06 billion parameters, 656 tokens, 1,000 items."""
    estimate = machine.minutes(checkpoints.CARDS["llava-hf/llava-1.5-7b-hf"])
    assert estimate == pytest.approx(2 * 7_063_427_072 * 656 * 1000 / (0.4 * 312e12) / 60)
    assert all(0 < machine.minutes(card) < 200 for card in checkpoints.CARDS.values())
