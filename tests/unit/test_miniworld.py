"""The mini world: determinism, disjoint splits, questions that are true of their scenes, tokens that show them."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np
import pytest

from lostlib.miniworld import captions, questions, render, scenes
from lostlib.miniworld.scenes import Scene, Thing


def draw(split: str, n: int, seed: int = 0) -> list[tuple[Scene, np.random.Generator]]:
    return list(islice(scenes.stream(split, seed), n))


def test_a_seed_is_a_world() -> None:
    first, again = ([scene for scene, _ in draw("test", 20)] for _ in range(2))
    assert first == again
    assert first != [scene for scene, _ in draw("test", 20, seed=1)]
    assert np.array_equal(render.pixels(first[0]), render.pixels(again[0]))


def test_splits_share_no_content() -> None:
    """By construction: content decides the split; jitter, background and noise are not content."""
    contents = {}
    for split in scenes.SPLITS:
        drawn = [scene for scene, _ in draw(split, 300)]
        assert {scene.split for scene in drawn} == {split}
        contents[split] = {tuple((t.row, t.column, t.color, t.shape, t.size) for t in scene.things) for scene in drawn}
    assert not contents["train"] & contents["test"]
    assert not contents["train"] & contents["validation"]
    thing = Thing(1, 2, "red", "circle", "small")
    moved = Thing(1, 2, "red", "circle", "small", dx=1, dy=-1)
    assert Scene((thing,), 40, 1).split == Scene((moved,), 80, 2).split


def test_every_cell_look_and_number_of_objects_occurs() -> None:
    things = [thing for scene, _ in draw("train", 600) for thing in scene.things]
    assert {(t.row, t.column) for t in things} == {(r, c) for r in range(4) for c in range(4)}
    assert {(t.color, t.shape) for t in things} == set(questions.LOOKS)
    assert {len(scene.things) for scene, _ in draw("train", 600)} == set(range(1, 7))


def test_tokens_show_their_object() -> None:
    """Erasing the relevant tokens must erase the object, and other tokens must not show it."""
    scene = Scene((Thing(0, 0, "red", "square", "large"), Thing(2, 3, "blue", "circle", "small")), 50, 3)
    covered = render.coverage(scene)
    assert covered.shape == (2, scenes.TOKENS)
    for i in (0, 1):
        tokens = list(render.relevant_tokens(scene, (i,)))
        assert covered[i, tokens].sum() > 0.95 * covered[i].sum()
    assert set(render.relevant_tokens(scene, (0,))) >= {0, 1, 8, 9}
    assert render.relevant_tokens(scene, ()) == ()


def truth(scene: Scene, question: questions.Question) -> str:
    """The answer, worked out again from the question's words alone."""
    words = question.text.replace("?", " ").replace(".", " ").split()
    looks = [f"{t.color} {t.shape}" for t in scene.things]
    if question.kind == "existence":
        return "yes" if f"{words[3]} {words[4]}" in looks else "no"
    if question.kind == "color":
        return next(t.color for t in scene.things if t.shape == words[4])
    if question.kind == "shape":
        return next(t.shape for t in scene.things if t.color == words[4])
    if question.kind in ("size", "location"):
        thing = meant(scene, " ".join(words[-2:]))
        return thing.size if question.kind == "size" else f"row {thing.row + 1} column {thing.column + 1}"
    if question.kind.startswith("count"):
        group = words[2:-2] if question.kind == "count" else words[2:-4]
        wanted = [
            t
            for t in scene.things
            if group == ["objects"] or t.color == group[0] or f"{t.shape}s" == group[0] or f"{t.shape}es" == group[0]
        ]
        return str(len(wanted) + (int(words[-1]) if question.kind == "count_plus" else 0))
    if question.kind == "arithmetic":
        return str(int(words[2]) + (1 if words[3] == "plus" else -1) * int(words[4]))
    first, second = re.fullmatch(
        r"(?:Is|Where is) the (.+?) (?:to the .+? of|above|below|relative to) the (.+?)\?.*", question.text, re.DOTALL
    ).groups()
    true = questions.directions(meant(scene, first), meant(scene, second))
    if question.kind == "relation":
        asked = next(w for w in words if w in questions.OPPOSITE)
        return "yes" if asked in true else "no"
    (letter,) = [key for key, value in question.options.items() if value in true]
    return letter


def meant(scene: Scene, words: str) -> Thing:
    """The one object that fits the words: "red circle", "the circle" or "red object"."""
    words = words.removeprefix("the ")
    fitting = [t for t in scene.things if words in (f"{t.color} {t.shape}", t.shape, f"{t.color} object")]
    assert len(fitting) == 1, (words, scene)
    return fitting[0]


@pytest.mark.parametrize("kind", list(questions.KINDS))
def test_answers_are_true(kind: str) -> None:
    asked = 0
    for scene, rng in draw("test", 150):
        question = questions.KINDS[kind](scene, rng)
        if question is not None:
            asked += 1
            assert truth(scene, question) == question.answer, question
    assert asked > 50


@pytest.mark.parametrize("kind", ["existence", "relation"])
def test_yes_and_no_are_balanced(kind: str) -> None:
    answers = [q.answer for scene, rng in draw("test", 400) if (q := questions.KINDS[kind](scene, rng)) is not None]
    assert 0.42 < np.mean([a == "yes" for a in answers]) < 0.58


def test_held_out_sums_are_never_trained_on() -> None:
    kind = questions.KINDS["arithmetic"]
    trained, tested = ({kind(scene, rng).text for scene, rng in draw(split, 400)} for split in ("train", "test"))
    assert not trained & tested
    assert len(tested) > 30


def test_adversarial_negatives_keep_the_company_of_what_is_there() -> None:
    _, together = questions.world_statistics()
    company = {category: [] for category in questions.NEGATIVES}
    for scene, rng in draw("test", 150):
        present = [questions.LOOKS.index((t.color, t.shape)) for t in scene.things]
        for category, found in company.items():
            look = questions.negative(scene, category, rng)
            assert look not in [(t.color, t.shape) for t in scene.things]
            found.append(together[present].sum(0)[questions.LOOKS.index(look)])
    assert np.mean(company["adversarial"]) > np.mean(company["popular"]) > np.mean(company["random"])


def test_the_vocabulary_holds_every_word() -> None:
    from lostlib.minimodels import bodies

    tokens = bodies.tokenizer("first")
    makers = (captions.describe, captions.relate)
    lines = [line for scene, rng in draw("train", 100) for make in makers for line in make(scene, rng)]
    texts = [f"{line.reference} {line.reply}" for line in lines]
    texts.append("USER: Describe the image. ASSISTANT:")
    for scene, rng in draw("train", 100):
        texts += [f"{q.text} {q.answer}" for make in questions.KINDS.values() if (q := make(scene, rng)) is not None]
    for text in texts:
        assert tokens.unk_token_id not in tokens(text)["input_ids"], text
