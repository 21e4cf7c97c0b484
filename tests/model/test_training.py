"""Training a mini model: a stopped run goes on as if it had not stopped, foreign states are refused, products load."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lostlib
from lostlib.miniworld import build, cards, conversations, train
from lostlib.miniworld.captions import relate
from lostlib.miniworld.exam import EXAM
from lostlib.miniworld.questions import LOOKS, NOUNS, OPPOSITE, directions
from lostlib.miniworld.scenes import COLORS, SHAPES

TINY = build.Recipe(
    layers=1, hidden=32, heads=2, mlp=32, vision_layers=2, vision_hidden=32, vision_heads=2, vision_mlp=32,
    batch=4, tower_steps=5, captions_steps=5, instruct_steps=6,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch) -> None:
    """Compiling would take longer than these few steps; states are saved often enough to be interrupted."""
    monkeypatch.setattr(train.shutil, "which", lambda name: None)
    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    monkeypatch.setattr(train, "NOTE_EVERY", 1)


def weights(trainer: train.Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch) -> None:
    whole = train.Trainer("tiny", TINY, 0, tmp_path / "whole")
    whole.run(tell=lambda _: None)

    original = train.Trainer.losses

    def stop(self, stage, step):
        if stage == "instruct" and step == 3:
            raise KeyboardInterrupt
        return original(self, stage, step)

    monkeypatch.setattr(train.Trainer, "losses", stop)
    with pytest.raises(KeyboardInterrupt):
        train.Trainer("tiny", TINY, 0, tmp_path / "stopped").run()
    monkeypatch.setattr(train.Trainer, "losses", original)
    again = train.Trainer("tiny", TINY, 0, tmp_path / "stopped")
    again.run(tell=lambda _: None)
    torch.testing.assert_close(weights(again), weights(whole), rtol=0, atol=1e-6)
    logs = [[(line["stage"], line["step"], line["loss"]) for line in t.log] for t in (whole, again)]
    assert logs[0] == logs[1]


def test_a_state_of_another_recipe_is_refused(tmp_path: Path) -> None:
    train.Trainer("tiny", TINY, 0, tmp_path).run(tell=lambda _: None)
    with pytest.raises(ValueError, match="another training run"):
        train.Trainer("tiny", replace(TINY, layers=2), 0, tmp_path).run()


def test_seeds_differ_and_training_learns(tmp_path: Path) -> None:
    one, two = (train.Trainer("tiny", TINY, seed, tmp_path / str(seed)) for seed in (0, 1))
    assert not torch.equal(weights(one), weights(two))
    longer = train.Trainer("tiny", replace(TINY, tower_steps=60), 0, tmp_path / "longer")
    longer._stage("tower", None)
    assert longer.log[-1]["loss"] < 0.7 * longer.log[0]["loss"]


def visual_tokens(trainer: train.Trainer, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return trainer.tower.tower(images, output_hidden_states=True).hidden_states[trainer.tower.layer][:, 1:]


@pytest.mark.parametrize(("kind", "mixes"), [("mixing", True), ("local", False)])
def test_only_a_local_tower_keeps_patches_apart(tmp_path: Path, kind: str, mixes: bool) -> None:
    """A changed pixel reaches the tokens of other patches, or none of them; still so after all stages."""
    trainer = train.Trainer("tiny", replace(TINY, tower=kind), 0, tmp_path)
    trainer.run(tell=lambda _: None)
    images = train.picture_tensor(train.drawn_for_step("tower", 0, 0, 1)[0].pictures)
    changed = images.clone()
    changed[..., 0, 0] += 1
    moved = (visual_tokens(trainer, images) - visual_tokens(trainer, changed)).abs().amax(dim=(0, 2)) > 0
    assert moved[0]
    assert moved[1:].any() == mixes


def test_a_broadcast_tower_learns_the_scene_and_then_stands_still(tmp_path: Path) -> None:
    trainer = train.Trainer("tiny", replace(TINY, tower="broadcast"), 0, tmp_path)
    scenes = [one.pictures[0] for one in train.drawn_for_step("tower", 0, 0, 20)]
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
    trainer = train.Trainer("tiny", TINY, 0, tmp_path / "work")
    trainer.run(tell=lambda _: None)
    folder = cards.publish(trainer, tmp_path / "models" / "tiny", n=3)
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
    assert "lostlib train tiny --seed 0" in (folder / "README.md").read_text()
    lines = (folder / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines] == ["tower"] * 5 + ["captions"] * 5 + ["instruct"] * 6


def test_references_mark_the_noun_and_the_object_it_means() -> None:
    """Read back from the tokens: the marked noun fits the labels, and a pair's signs are its directions."""
    processor = build.processor()
    talk = conversations.Conversations(processor.tokenizer, 64)
    drawn = conversations.drawn_for_step("instruct", 0, 0, 40)
    batch = talk.batch("instruct", drawn, captioned=True)
    words = [processor.tokenizer.convert_ids_to_tokens(row.tolist()) for row in batch.ids]
    assert len(batch.references) > 400
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
