"""Limits in pixels on a family that sees pictures at their own size: tokens counted by hand, roles, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoModelForImageTextToText

import lostlib
from lostlib.checkpoints import DYNAMIC
from lostlib.experiments import measure
from lostlib.models.attention import Run, running
from lostlib.models.families import FAMILIES

# Visual tokens (rows, columns) of the pictures in `tiny.items`, cells of 8 x 8 pixels. Without a limit 30 x 40 pixels
# round to 32 x 40; at most 6 cells, 384 pixels, shrink them by sqrt(1200 / 384) to 17 x 22 and so to 2 x 2 cells.
FREE = {(40, 30): (4, 5), (24, 24): (3, 3), (60, 20): (2, 8), (20, 50): (6, 2)}
AT_MOST_6 = {(40, 30): (2, 2), (24, 24): (2, 2), (60, 20): (1, 4), (20, 50): (3, 1)}
AT_LEAST_30 = {(40, 30): (5, 7), (24, 24): (6, 6), (60, 20): (4, 10), (20, 50): (9, 4)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make("qwen2_5_vl", tmp_path_factory.mktemp("hub") / "qwen")


@pytest.fixture(scope="module")
def limited(folder: Path) -> lostlib.LostModel:
    return lostlib.load_model(folder, max_pixels=6 * tiny.CELL**2)


@pytest.mark.parametrize(
    ("limits", "cells"),
    [
        ({}, FREE),
        ({"max_pixels": 6 * 64}, AT_MOST_6),
        ({"min_pixels": 30 * 64}, AT_LEAST_30),
        ({"max_pixels": 64 * 64}, FREE),
    ],
    ids=str,
)
def test_tokens_and_roles_are_exactly_these(folder: Path, limits: dict[str, int], cells: dict) -> None:
    model, items = lostlib.load_model(folder, **limits), tiny.items()
    batch = model.encode(items)
    start, mark, end = (model.processor.tokenizer.convert_tokens_to_ids(token) for token in
                        ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"))  # fmt: skip
    grids = iter(batch.tensors["image_grid_thw"].tolist())
    for item, ids, visual in zip(items, batch.tensors["input_ids"], batch.visual, strict=True):
        shapes = [cells[image.size] for image in item.images]
        assert [next(grids) for _ in shapes] == [[1, 2 * rows, 2 * columns] for rows, columns in shapes]
        expected = [id for rows, columns in shapes for id in (start, *[mark] * (rows * columns), end)]
        assert [id for id in ids.tolist() if id in (start, mark, end)] == expected
        assert visual.tolist() == (ids == mark).tolist()
    assert model.pixels == (limits.get("min_pixels", 4 * 64), limits.get("max_pixels", 64 * 64))


def test_generation_single_items_and_interventions_know_the_same_tokens(limited: lostlib.LostModel) -> None:
    items, seen = tiny.items(), []
    batch = limited.encode(items)

    def note(probs, scores, rows):
        seen.append(rows.visual)
        return probs

    with running(Run(limited, edits=[note])):
        limited.answer(items, max_new_tokens=3)
    width = batch.visual.shape[1]
    assert all(torch.equal(visual[:, :width], batch.visual) and not visual[:, width:].any() for visual in seen)
    for text in ("none", "sap:keys=visual,weights=gaussian", "noise_delta", "knockout:keys=all_visual"):
        with lostlib.intervene(limited, text):
            together = limited.forward(batch).logits
            for i, item in enumerate(items):
                alone = limited.forward(limited.encode([item])).logits[0]
                torch.testing.assert_close(together[i, -len(alone) :], alone, rtol=0, atol=5e-5)
    rows = lostlib.residual_metrics(limited, items[:1])
    assert (rows["tokens"] == batch.real[0].sum().item()).all()


def test_the_limit_is_recorded_and_part_of_the_key(folder: Path) -> None:
    name = f"{folder}:max_pixels={6 * 64}"
    few, many = (measure.measure("answers", model=model, benchmark="mini-pope", n=3) for model in (name, str(folder)))
    assert (few.key.model, many.key.model) == (name, str(folder))
    assert (few.about["pixels"], many.about["pixels"]) == ([256, 384], [256, 4096])
    assert few.key.path != many.key.path
    assert (few.frame["prompt_tokens"] < many.frame["prompt_tokens"]).all()
    assert f"--model {name}" in few.about["command"]


def test_families_with_pictures_of_their_own_size() -> None:
    assert {name for name, family in FAMILIES.items() if family.videos} == set(DYNAMIC)


def test_limits_that_cannot_be(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", lambda *_, **__: pytest.fail("weights read"))
    with pytest.raises(ValueError, match=r"min_pixels 256 and max_pixels 255 leave no size.*8 x 8 = 64 pixels"):
        lostlib.load_model(folder, max_pixels=255)
    with pytest.raises(ValueError, match="min_pixels 5000 and max_pixels 4096 leave no size"):
        lostlib.load_model(folder, min_pixels=5000)
    with pytest.raises(ValueError, match="min_pixels 1 and max_pixels 63 leave no size"):
        lostlib.load_model(folder, min_pixels=1, max_pixels=63)
    for family in ("llava", "llava_next"):
        other = tiny.make(family, tmp_path / family)
        with pytest.raises(ValueError, match=f"of the family {family}, which scales every picture.*for qwen2_5_vl"):
            lostlib.load_model(other, max_pixels=5000)
