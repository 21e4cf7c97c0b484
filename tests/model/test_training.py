"""Training a mini model: a stopped run goes on as if it had not stopped, foreign states are refused, products load."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import lostlib
from lostlib.minimodels import (
    bodies,
    cards,
    conversations,
    exam,
    make,
    recipes,
    towers,
    training,
)
from lostlib.minimodels.exam import EXAM
from lostlib.miniworld import render
from lostlib.miniworld.captions import relate
from lostlib.miniworld.questions import LOOKS, NOUNS, OPPOSITE, directions
from lostlib.miniworld.scenes import COLORS, SHAPES, generator

TINY = recipes.Recipe(
    layers=1, hidden=32, heads=2, mlp=32, vision_layers=2, vision_hidden=32, vision_heads=2, vision_mlp=32,
    batch=2, tower_steps=3, captions_steps=3, instruct_steps=4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch) -> None:
    """Compiling would take longer than these few steps; states are saved often enough to be interrupted."""
    monkeypatch.setattr(training.shutil, "which", lambda name: None)
    monkeypatch.setattr(training, "SAVE_EVERY", 2)
    monkeypatch.setattr(training, "NOTE_EVERY", 1)


@pytest.fixture
def trained(tmp_path: Path) -> training.Trainer:
    """A finished run of the tiny recipe, in a folder of its own."""
    trainer = training.Trainer("tiny", TINY, 0, tmp_path / "trained")
    trainer.run(tell=lambda _: None)
    return trainer


def weights(trainer: training.Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_a_stopped_run_goes_on_where_it_was(trained, tmp_path: Path, monkeypatch) -> None:
    original = training.Trainer.losses

    def stop(self, stage, step):
        if stage == "instruct" and step == 2:
            raise KeyboardInterrupt
        return original(self, stage, step)

    monkeypatch.setattr(training.Trainer, "losses", stop)
    with pytest.raises(KeyboardInterrupt):
        training.Trainer("tiny", TINY, 0, tmp_path / "stopped").run()
    monkeypatch.setattr(training.Trainer, "losses", original)
    again = training.Trainer("tiny", TINY, 0, tmp_path / "stopped")
    again.run(tell=lambda _: None)
    torch.testing.assert_close(weights(again), weights(trained), rtol=0, atol=1e-6)
    logs = [[(line["stage"], line["step"], line["loss"]) for line in t.log] for t in (trained, again)]
    assert logs[0] == logs[1]
    with pytest.raises(ValueError, match="another training run"):
        training.Trainer("tiny", replace(TINY, layers=2), 0, trained.out).run()


def test_a_damaged_state_is_named_and_training_starts_again(trained, capsys) -> None:
    state = trained.out / "training_state.pt"
    held = state.read_bytes()
    damaged = [b"", held[: len(held) // 2], held[:5000] + bytes(b ^ 255 for b in held[5000:5100]) + held[5100:]]
    for content in ([1, 2], {"key": trained._key()}):  # no state, and a state with less
        torch.save(content, state)
        damaged.append(state.read_bytes())
    for content in damaged:
        state.write_bytes(content)
        again = training.Trainer("tiny", TINY, 0, trained.out)
        again.run(tell=lambda _: None)
        assert f"{state} is damaged, training starts again" in capsys.readouterr().err
        assert torch.equal(weights(again), weights(trained))
        assert [line["step"] for line in again.log] == [line["step"] for line in trained.log]


def test_two_trainings_into_one_folder_leave_the_model_of_one(trained, tmp_path: Path, monkeypatch) -> None:
    """The second is published while the first is being examined; the first then takes its place, whole."""
    first, second = trained, training.Trainer("tiny", TINY, 0, trained.out)
    second.run(tell=lambda _: None)
    folder, original = tmp_path / "models" / "tiny", cards._examine

    def examine(trainer, partial, name, n):
        if trainer is first:
            cards.publish(second, folder, n)
        original(trainer, partial, name, n)

    monkeypatch.setattr(cards, "_examine", examine)
    cards.publish(first, folder, n=2)
    assert {"model.safetensors", "README.md", "exam.json"} <= {file.name for file in folder.iterdir()}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    lostlib.load_model(folder)


def test_seeds_differ_and_training_learns(tmp_path: Path) -> None:
    one, two = (training.Trainer("tiny", TINY, seed, tmp_path / str(seed)) for seed in (0, 1))
    assert not torch.equal(weights(one), weights(two))
    longer = training.Trainer("tiny", replace(TINY, tower_steps=60), 0, tmp_path / "longer")
    longer._stage("tower", None)
    assert longer.log[-1]["loss"] < 0.7 * longer.log[0]["loss"]


def visual_tokens(trainer: training.Trainer, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return trainer.body.seen(trainer.model, {"pixel_values": images})


@pytest.mark.parametrize(("kind", "mixes"), [("mixing", True), ("local", False)])
def test_only_a_local_tower_keeps_patches_apart(tmp_path: Path, kind: str, mixes: bool) -> None:
    """A changed pixel reaches the tokens of other patches, or none of them; still so after all stages."""
    trainer = training.Trainer("tiny", replace(TINY, tower=kind), 0, tmp_path)
    trainer.run(tell=lambda _: None)
    images = trainer.body.pixels(training.drawn_for_step("tower", 0, 0, 1)[0].pictures)["pixel_values"]
    changed = images.clone()
    changed[..., 0, 0] += 1
    moved = (visual_tokens(trainer, images) - visual_tokens(trainer, changed)).abs().amax(dim=(0, 2)) > 0
    assert moved[0]
    assert moved[1:].any() == mixes


def test_a_broadcast_tower_learns_the_scene_and_then_stands_still(tmp_path: Path) -> None:
    trainer = training.Trainer("tiny", replace(TINY, tower="broadcast"), 0, tmp_path)
    scenes = [one.pictures[0] for one in training.drawn_for_step("tower", 0, 0, 20)]
    labels = trainer.tower.targets(scenes)[..., 5:]  # after what the patch itself shows
    for scene, of_patches in zip(scenes, labels, strict=True):
        assert (of_patches == of_patches[0]).all()
        there, counts = of_patches[0].split((len(LOOKS), len(COLORS) + len(SHAPES)))
        assert {LOOKS[i] for i in there.nonzero().flatten()} == {(t.color, t.shape) for t in scene.things}
        assert counts[: len(COLORS)].sum() == counts[len(COLORS) :].sum() == len(scene.things)
    trainer._stage("tower", None)
    before = [p.detach().clone() for p in trainer.tower.tower.parameters()]
    trainer._stage("captions", None)
    trainer._stage("instruct", None)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.tower.tower.parameters(), strict=True))


def test_the_product_is_a_hub_folder_with_card_exam_and_log(tmp_path: Path) -> None:
    trainer = training.Trainer("tiny", TINY, 1, tmp_path / "work")
    trainer.run(tell=lambda _: None)
    folder = cards.publish(trainer, tmp_path / "models" / make.named("tiny", 1), n=3)
    assert {p.name for p in folder.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "README.md",
        "exam.json",
        "training_log.jsonl",
    }
    model = lostlib.load_model(folder)
    assert model.dtype == torch.float32
    marks = json.loads((folder / "exam.json").read_text())
    assert set(marks) == set(EXAM)
    assert all(mark["n"] == 3 for mark in marks.values())
    card = (folder / "README.md").read_text()
    assert "# tiny-s1\n" in card
    assert "lostlib train tiny --seed 1 --out retrained" in card
    lines = (folder / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines] == ["tower"] * 3 + ["captions"] * 3 + ["instruct"] * 4


FAMILIES = {
    "llava": replace(TINY, layers=2),
    "llava_next": replace(TINY, layers=2, family="llava_next"),
    "qwen2_5_vl": replace(TINY, layers=2, family="qwen2_5_vl"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_each_family_is_trained_on_what_it_will_be_asked(family: str, tmp_path: Path) -> None:
    """What the processor makes of a question and its pictures is what the model saw in training, token for token."""
    trainer = training.Trainer("tiny", replace(FAMILIES[family], kinds="all"), 0, tmp_path / "work")
    trainer.run(tell=lambda _: None)
    model = lostlib.load_model(cards.publish(trainer, tmp_path / "tiny", n=1))
    assert model.hf.config.model_type == family
    for kind in ("existence", "relation_choice", "total", "which_image"):
        (item,) = exam.items(kind, 1)
        index = int(item.uid.rsplit("-", 1)[1])  # the first that admits such a question
        rng = generator("test", 1000 + exam.STREAM + exam.ALL.index(kind), index)
        case = exam._case(kind, "test", rng)
        batch = model.encode([item])
        pixels = trainer.body.pixels(case.pictures)
        assert set(pixels) <= set(batch.tensors)
        assert all(torch.equal(value, batch.tensors[name]) for name, value in pixels.items())
        assert batch.tensors["input_ids"][0].tolist() == written(trainer.talk, case)
        assert batch.visual.sum() == len(case.pictures) * (80 if family == "llava_next" else 64)


def written(talk: conversations.Conversations, case) -> list[int]:
    """One question as training writes it, up to where the answer begins."""
    text, after = conversations.finished(case.question)
    placed = conversations.PLACE in text + after
    parts = [
        [talk.tokens.bos_token_id] if talk.chat.bos else [], talk.encode(talk.chat.user),
        [] if placed else talk.image * len(case.pictures), talk.with_images(text),
        talk.with_images(f"{after} {talk.chat.assistant}"),
    ]  # fmt: skip
    return [token for part in parts for token in part]


def colors_of(body, pixels: dict[str, torch.Tensor]) -> torch.Tensor:
    """(visual tokens, 3): the mean colour, normalised, of what each visual token of one picture is made of."""
    values = pixels["pixel_values"]
    if body.recipe.family == "qwen2_5_vl":
        return values.reshape(64, 4, 3, -1).mean((1, 3))
    views = values.reshape(-1, 3, values.shape[-2] // 8, 8, values.shape[-1] // 8, 8)
    return views.mean((3, 5)).permute(0, 2, 3, 1).reshape(-1, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_visual_token_is_told_what_its_own_pixels_show(family: str) -> None:
    body = bodies.body(FAMILIES[family])
    scene = training.drawn_for_step("tower", 0, 3, 1)[0].pictures[0]
    grid = torch.from_numpy(render.pixels(scene) / 255.0).reshape(8, 8, 8, 8, 3)
    fine = grid.mean((1, 3)).reshape(64, 3)
    coarse = grid.reshape(4, 16, 4, 16, 3).mean((1, 3)).reshape(16, 3)
    labels = torch.zeros(80, 6, dtype=torch.int64)
    labels[:, 0] = torch.arange(80)  # a label that says which patch, or which cell, it is of
    told = body.arranged(labels[:64].numpy(), labels[64:].numpy())[:, 0]
    images = body.processor.image_processor
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (images.image_mean, images.image_std))
    expected = (torch.cat([fine, coarse])[told] - mean) / std
    assert (colors_of(body, body.pixels([scene])) - expected).abs().max() < 0.1
    assert expected.std(0).max() > 0.2  # the order matters


@pytest.mark.parametrize(("family", "places"), [("llava", 4), ("llava_next", 2), ("qwen2_5_vl", 1)])
def test_no_patch_is_asked_for_a_place_that_its_tower_cannot_know(family: str, places: int) -> None:
    """A tile of LLaVA-NeXT's does not know which it is, and Qwen's tower has places relative to one another alone."""
    body = bodies.body(FAMILIES[family])
    labels = towers.TowerLoss(body.model(), body).targets(training.drawn_for_step("tower", 0, 3, 1)[0].pictures)[0]
    ends = labels[-64:, 3:5].max(0).values.tolist()
    assert ends == [places - 1] * 2


def test_a_model_may_start_from_a_shipped_one(tmp_path: Path) -> None:
    """What the base knows is taken over; words that it has not keep their random embeddings."""
    recipe = recipes.RECIPES["mini-llava-1.5-wide"]
    trainer = training.Trainer("wide", recipe, 0, tmp_path)
    base = lostlib.load_model(recipe.base)
    old, new = base.hf.state_dict(), trainer.model.state_dict()
    for name, weight in new.items():
        assert torch.equal(weight[: len(old[name])] if weight.ndim else weight, old[name]), name
    words = len(base.processor.tokenizer)
    rows = new["model.language_model.embed_tokens.weight"][words:]
    assert len(rows) == len(trainer.processor.tokenizer) - words > 0
    assert rows.std() > 0


def test_references_mark_the_noun_and_the_object_it_means() -> None:
    """Read back from the tokens: the marked noun fits the labels, and a pair's signs are its directions."""
    body = bodies.body(TINY)
    processor, talk = body.processor, conversations.Conversations(body)
    drawn = conversations.drawn_for_step("instruct", 0, 0, 40)
    batch = talk.batch("instruct", drawn, captioned=True)
    words = [processor.tokenizer.convert_ids_to_tokens(row.tolist()) for row in batch.ids]
    assert len(batch.references) > 400
    assert not len(batch.places)  # this tower knows them
    assert len(batch.pairs) > 100
    for row, at, color, shape, _, line, column in batch.references.tolist():
        noun, before = words[row][at], words[row][at - 1]
        assert noun in NOUNS
        assert noun in ("object", SHAPES[shape])
        assert before not in COLORS or before == list(COLORS)[color]
        fitting = [t for t in drawn[row].pictures[0].things if (t.row, t.column) == (line, column)]
        assert [(t.color, t.shape) for t in fitting] == [(list(COLORS)[color], SHAPES[shape])]
    place = {(row, at): (line, column) for row, at, *_, line, column in batch.references.tolist()}
    for row, at, across, along in batch.pairs.tolist():
        first = max(k for r, k in place if r == row and k < at)
        one, other = (
            next(t for t in drawn[row].pictures[0].things if (t.row, t.column) == place[row, k]) for k in (first, at)
        )
        said = {("left", None, "right")[across], ("above", None, "below")[along]} - {None}
        assert said == directions(one, other)


def test_a_model_that_is_there_is_not_overwritten_in_silence(tmp_path: Path) -> None:
    for name in ("mini-llava-1.5", "mini-llava-1.5-sinks"):
        with pytest.raises(ValueError, match=f"{re.escape(name)} is there already: say `--out`"):
            make.train(name, work=tmp_path)
    (tmp_path / "mini-llava-1.5-s2").mkdir()
    with pytest.raises(ValueError, match=r"mini-llava-1\.5-s2 is there already"):
        make.train("mini-llava-1.5", seed=2, out=tmp_path, work=tmp_path)


def test_visual_tokens_are_asked_their_places_where_the_tower_cannot_know() -> None:
    """Of each of several pictures, line by line, also in the wider world."""
    body = bodies.body(replace(FAMILIES["qwen2_5_vl"], kinds="all"))
    drawn = conversations.drawn_for_step("instruct", 0, 0, 40, "all")
    assert max(len(one.pictures) for one in drawn) > 1
    batch = conversations.Conversations(body).batch("instruct", drawn, captioned=False)
    down, right = np.indices((8, 8)).reshape(2, -1) // 2
    places = batch.places.numpy()
    assert (batch.ids[places[:, 0], places[:, 1]] == body.image_id).all()
    assert len(places) == (batch.ids == body.image_id).sum()
    for row, one in enumerate(drawn):
        here = places[places[:, 0] == row]
        assert (np.diff(here[:, 1]) > 0).all()
        assert (here[:, 2:] == np.tile(np.stack([down, right], axis=1), (len(one.pictures), 1))).all()


def test_what_a_caption_says_of_pairs_is_true() -> None:
    ways = set()
    for (scene,), rng, _ in conversations.drawn_for_step("captions", 0, 0, 30):
        for line in relate(scene, rng):
            true = directions(*(scene.things[k] for k in line.things))
            said, options = line.reply.rstrip(","), re.search("A (.+) B (.+):", line.reference)
            asked = {word for word in line.reference.split() if word in OPPOSITE}
            ways.add(said if said in ("yes", "no", "A", "B") else "open")
            if options:
                assert {options["AB".index(said) + 1]} == {option for option in options.groups() if option in true}
            elif asked:
                assert (said == "yes") == (asked <= true)
            else:
                assert set(said.split()) == true
    assert ways == {"yes", "no", "A", "B", "open"}
