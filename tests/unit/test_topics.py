"""The wider mini world: charts, overlapping objects, edited pairs, several pictures; answers true of pixels."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lostlib.minimodels import conversations
from lostlib.miniworld import edits, render, statements, topics
from lostlib.miniworld.charts import BASE, UNIT, Chart, box
from lostlib.miniworld.scenes import COLORS, SHAPES, generator


def cases(kind: str, n: int, split: str = "test") -> list[topics.Case]:
    return [topics.case(kind, split, generator(split, 7, i)) for i in range(n)]


@pytest.mark.parametrize("kind", topics.TOPIC_OF)
def test_a_kind_is_a_function_of_its_generator_and_of_its_split(kind: str) -> None:
    assert cases(kind, 1) == cases(kind, 1)
    for split in ("train", "test"):
        assert {picture.split for one in cases(kind, 2, split) for picture in one.pictures} <= {split}


@pytest.mark.parametrize("kind", topics.TOPIC_OF)
def test_the_vocabulary_holds_every_word(kind: str) -> None:
    from lostlib.minimodels import bodies

    tokens = bodies.tokenizer("all")
    for one in cases(kind, 4):
        text = "".join(conversations.finished(one.question, shown=True)) + f" {one.question.answer}"
        assert tokens.unk_token_id not in tokens(text)["input_ids"], text


def test_decimals_are_one_token_and_old_ids_stay() -> None:
    from lostlib.minimodels import bodies

    tokens = bodies.tokenizer("all")
    assert tokens.tokenize("It is 2.5 and [3, 4].")[-6:] == ["[", "3", ",", "4", "]", "."]
    assert "2.5" in tokens.tokenize("It is 2.5")
    assert tokens.convert_tokens_to_ids(["USER", "40"]) == [5, 110]


def test_the_nearer_object_is_seen_whole_where_two_overlap() -> None:
    """In the pixels of the shared region one sees the colour of the object that the answer names."""
    for one in cases("nearer_by_overlap", 25):
        (scene,), question = one.pictures, one.question
        far, near = scene.things[-2:]
        assert question.options[question.answer] == near.name
        assert edits.overlap(far, near)
        covered = render.coverage(scene).sum(axis=1)
        alone = [render.coverage(type(scene)((t,), scene.background, scene.noise)).sum() for t in (far, near)]
        assert covered[-1] == alone[1]
        assert alone[0] - covered[-2] >= edits.HIDDEN
        mask = [np.asarray(render._paste(type(scene)((t,), 0, 0))[1]) > 0 for t in (far, near)]
        shared = render.pixels(scene)[mask[0] & mask[1]].astype(float)
        assert np.abs(np.median(shared, axis=0) - COLORS[near.color]).max() < 40


def test_mirroring_twice_is_nothing_and_keeps_who_is_nearer() -> None:
    for one in cases("side", 5):
        (scene,) = one.pictures
        mirror = edits.mirrored(scene)
        assert edits.mirrored(mirror) == scene
        assert [t.name for t in mirror.things] == [t.name for t in scene.things]
        assert mirror.split == scene.split == "test"


def test_bars_are_as_high_as_they_say() -> None:
    for one in cases("bar", 10):
        chart = one.pictures[0]
        assert isinstance(chart, Chart)
        seen = render.pixels(chart).astype(float)
        for bar in chart.things:
            left, top, right, bottom = box(chart, bar)
            column = seen[:, (left + right) // 2]
            like = np.abs(column - COLORS[bar.color]).max(axis=1) < 40
            assert like.sum() == UNIT * bar.height == bottom - top + 1
            assert like[BASE - 1]
            assert not like[BASE]
            assert render.coverage(chart)[bar.column].sum() == (bottom - top + 1) * (right - left + 1)


def test_tokens_of_several_pictures_are_numbered_on() -> None:
    for one in cases("which_image", 8):
        shown = "ABC".index(one.question.answer)
        tokens = render.tokens_of(one.pictures, one.question.things)
        scene = one.pictures[shown]
        first = sum(len(p.things) for p in one.pictures[:shown])
        (thing,) = one.question.things
        assert tokens == tuple(64 * shown + t for t in render.relevant_tokens(scene, (thing - first,)))
        assert one.question.text.endswith(f"{scene.things[thing - first].name}?")


@pytest.mark.parametrize("kind", statements.EDITS)
def test_an_edit_turns_both_answers(kind: str) -> None:
    rng, made = np.random.default_rng(0), 0
    while made < 12:
        picture = (topics.chart_of if kind in statements.CHART_EDITS else topics.scene_of)("train", rng)
        if (edit := statements.EDITS[kind](picture, rng)) is None:
            continue
        made += 1
        for shown, edited in ((picture, False), (edit.picture, True)):
            for question in edit.questions(kind, edited):
                assert question.answer == ("yes" if holds(kind, shown, question.text) else "no"), question.text


def holds(kind: str, picture: render.Picture, text: str) -> bool:
    """Is what a question asks true of the picture? Worked out again from the words."""
    words = text.rstrip("?").split()
    things = picture.things
    if kind == "is_higher":
        one, other = (next(b for b in things if b.color == c) for c in (words[2], words[-2]))
        return (one.height > other.height) == (words[4] == "higher")
    if kind == "is_height":
        return next(b for b in things if b.color == words[5]).height == int(words[-1])
    if kind == "is_there":
        return f"{words[3]} {words[4]}" in [t.name for t in things]
    if kind == "is_number":
        value = next(v for v in (*COLORS, *SHAPES) if v in text)
        return sum(value in (t.color, t.shape) for t in things) == int(words[-1])
    if kind == "is_beside":
        ways = "to the left of|to the right of|above|below"
        first, way, second = re.match(rf"Is the (.+?) ({ways}) the (.+)\?", text).groups()
        one, other = (next(t for t in things if fits(t, ref)) for ref in (first, second))
        return {"to the left of": one.column < other.column, "to the right of": one.column > other.column,
                "above": one.row < other.row, "below": one.row > other.row}[way]  # fmt: skip
    reference, value = re.match(r"Is the (.+?) (?:a )?(\w+)\?", text).groups()
    thing = next(t for t in things if fits(t, reference))
    return value in (thing.color, thing.shape, thing.size)


def fits(thing, reference: str) -> bool:
    return all(word in ("object", thing.color, thing.shape) for word in reference.split())


def test_wide_batches_hold_every_kind_of_read_out() -> None:
    from lostlib.minimodels import bodies, recipes

    body = bodies.body(recipes.Recipe(kinds="all"))
    tokens, talk = body.tokens, conversations.Conversations(body)
    drawn = conversations.drawn_for_step("instruct", 0, 0, 60, "all")
    batch = talk.batch("instruct", drawn, captioned=False)
    assert batch.pixels["pixel_values"].shape[0] == sum(len(one.pictures) for one in drawn) > 60
    image = tokens.convert_tokens_to_ids("<image>")
    assert (batch.ids == image).sum(1).tolist() == [64 * len(one.pictures) for one in drawn]
    words = [tokens.convert_ids_to_tokens(row.tolist()) for row in batch.ids]
    assert len(batch.bars) > 20
    for row, at, height in batch.bars.tolist():
        charts = [picture for picture in drawn[row].pictures if isinstance(picture, Chart)]
        assert words[row][at] == "bar"
        assert height + 1 in [b.height for chart in charts for b in chart.things if b.color == words[row][at - 1]]
    assert conversations.drawn_for_step("instruct", 0, 0, 3)[0].topic is None
