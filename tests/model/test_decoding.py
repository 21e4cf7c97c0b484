"""Greedy is greedy: what a checkpoint says of decoding counts where it is asked for, and then in the table's name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import lostlib
from lostlib.checkpoints import ModelChoice
from lostlib.experiments import measure

SETTINGS = {
    "repetition_penalty": 1.5, "num_beams": 3, "no_repeat_ngram_size": 1, "suppress_tokens": [5, 6, 7, 8, 9],
    "begin_suppress_tokens": [10, 11], "min_new_tokens": 4, "bad_words_ids": [[12]], "length_penalty": 3.0,
    "do_sample": True, "temperature": 9.0, "exponential_decay_length_penalty": (1, 3.0), "forced_eos_token_id": 2,
}  # fmt: skip


def with_settings(folder: Path, place: Path, **settings: object) -> Path:
    shutil.copytree(folder, place)
    path = place / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return place


@pytest.mark.parametrize("name", SETTINGS)
def test_a_checkpoints_settings_change_nothing(tiny, tiny_folder, items, tmp_path, name):
    other = lostlib.load_model(with_settings(tiny_folder, tmp_path / "other", **{name: SETTINGS[name]}))
    assert other.reply(items, 6) == tiny.reply(items, 6)
    assert getattr(other.hf.generation_config, name) == SETTINGS[name] or name == "exponential_decay_length_penalty"


def test_all_together_neither_and_a_failure_leaves_them_in_place(tiny, tiny_folder, items, tmp_path, monkeypatch):
    other = lostlib.load_model(with_settings(tiny_folder, tmp_path / "other", **SETTINGS))
    assert other.reply(items, 6) == tiny.reply(items, 6)
    monkeypatch.setattr(other.hf, "generate", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        other.reply(items)
    assert other.hf.generation_config.repetition_penalty == 1.5


@pytest.mark.parametrize("settings", [{"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 1}, {"num_beams": 3}])
def test_a_checkpoints_own_decoding_is_a_choice(tiny_folder, items, tmp_path, settings):
    """The answers are those of transformers, and their probability is that of the rule that chose them."""
    folder = with_settings(tiny_folder, tmp_path / "other", **settings)
    own = lostlib.load_model(folder, decoding="checkpoint")
    batch = own.encode(items)
    with own.serving(batch.item_ids):
        out = own.hf.generate(**batch.tensors, max_new_tokens=6, output_scores=True, return_dict_in_generate=True)
    new = out.sequences[:, batch.tensors["input_ids"].shape[1] :]
    replies = own.reply(items, 6)
    assert [reply.raw for reply in replies] == [
        text.strip() for text in own.processor.batch_decode(new, skip_special_tokens=True)
    ]
    assert replies != lostlib.load_model(folder).reply(items, 6)
    if "num_beams" not in settings:
        log = torch.stack(out.scores, 1).float().log_softmax(-1).gather(-1, new[..., None])[..., 0]
        told = [row[: reply.answer_tokens].sum().item() for row, reply in zip(log, replies, strict=True)]
        assert [reply.logprob for reply in replies] == pytest.approx(told)


def test_greedy_is_the_most_probable_token_and_its_probability(tiny, items):
    """Against plain forward passes, token by token."""
    for item in items[:3]:
        (reply,) = tiny.reply([item], 4)
        tensors, said, total = dict(tiny.encode([item]).tensors), [], 0.0
        with tiny.serving((item.uid,)), torch.inference_mode():
            for _ in range(reply.answer_tokens):
                log = tiny.hf(**tensors, use_cache=False).logits[0, -1].float().log_softmax(-1)
                said.append(int(log.argmax()))
                total += float(log.max())
                tensors["input_ids"] = torch.cat([tensors["input_ids"], torch.tensor([said[-1:]])], 1)
                tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
        assert tiny.processor.decode(said, skip_special_tokens=True).strip() == reply.raw
        assert reply.logprob == pytest.approx(total, abs=1e-4)


def test_the_choice_is_part_of_the_key_and_the_settings_are_recorded(tiny_folder, tmp_path):
    folder = with_settings(tiny_folder, tmp_path / "other", repetition_penalty=1.5)
    plain, own = (
        measure.measure("answers", model=f"{folder}{how}", benchmark="mini-pope", n=2)
        for how in ("", ":decoding=checkpoint")
    )
    assert plain.key.model == str(folder) == str(ModelChoice.parse(f"{folder}:decoding=greedy"))
    assert own.key.model == f"{folder}:decoding=checkpoint"
    assert plain.about["decoding"] == {"rule": "greedy", "do_sample": False, "num_beams": 1}
    assert own.about["decoding"] == {"rule": "checkpoint", "do_sample": False, "repetition_penalty": 1.5}
    with pytest.raises(ValueError, match="did you mean 'checkpoint'"):
        ModelChoice.parse(f"{folder}:decoding=checkpoints")


def test_a_tokenizer_without_padding_pads_with_its_end(tiny_folder):
    model = lostlib.load_model(tiny_folder)
    model.processor.tokenizer.pad_token = None
    assert lostlib.wrap(model.hf, model.processor).processor.tokenizer.pad_token == model.processor.tokenizer.eos_token
