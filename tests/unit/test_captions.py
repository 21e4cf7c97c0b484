"""mini-captions: one object described, everything that is said must be true, and nothing is to be had blindly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

import lostlib
from lostlib import catalog
from lostlib.benchmarks import captions
from lostlib.miniworld.captions import describe
from lostlib.miniworld.scenes import COLORS, SHAPES, SIZES, generator, sample_scene


@pytest.fixture(scope="module")
def made():
    return lostlib.load_benchmark("mini-captions", n=120)


def test_what_is_expected_is_in_the_picture(made):
    for item in made.items:
        index, number = map(int, item.uid.split("-")[1:])
        rng = generator("test", captions.STREAM, index)
        scene = sample_scene("test", rng, least=2)
        line = describe(scene, rng)[number]
        (thing,) = (scene.things[i] for i in line.things)
        said = f"{thing.size} {thing.color} {thing.shape} row {thing.row + 1} column {thing.column + 1}"
        assert (item.answer, item.begun) == (said, line.reference)
        assert item.cluster == f"test-0-{index}"
        known = item.begun.removesuffix(":").removesuffix(" object").split()
        assert set(known) <= {thing.color, thing.shape}
        assert item.meta["called"] == ("by colour and shape" if len(known) == 2 else "by colour or shape")
        assert 0 < len(item.relevant) < len(item.objects) <= item.patches


def test_more_items_only_add_and_seeds_differ(made):
    assert [i.uid for i in lostlib.load_benchmark("mini-captions", n=10).items] == [i.uid for i in made.items[:10]]
    other = lostlib.load_benchmark("mini-captions", n=120, seed=1)
    assert not {item.uid for item in made.items} & {item.uid for item in other.items}
    assert [item.answer for item in other.items] != [item.answer for item in made.items]


def test_the_expected_answers_score_one_and_no_guess_earns_much(made):
    score = made.score(made.items, [f"{item.answer} ," for item in made.items])
    assert score["accuracy"].value == score["words"].value == 1
    best = Counter(item.answer for item in made.items).most_common(1)[0][1] / len(made.items)
    assert made.chance == 0
    assert best < 0.05

    def guess(item):
        """Say again what the question says, and guess the rest."""
        color, shape = (next((w for w in words if w in item.begun), words[0]) for words in ([*COLORS], SHAPES))
        return f"small {color} {shape} row 1 column 1"

    assert 0 < made.score(made.items, [guess(item) for item in made.items])["words"].value < 0.7
    assert made.score(made.items, [guess(item) for item in made.items])["accuracy"].value < 0.1


@pytest.mark.parametrize(
    ("said", "parsed"),
    [
        ("small red circle row 1 column 2", "small red circle row 1 column 2"),
        ("Small red circle row 1 column 2 ,", "small red circle row 1 column 2"),
        ("small red circle row 1 column 2,", "small red circle row 1 column 2"),
        ("small red circle row 1", None),
        ("small red circle row 1 column 2 , large", None),
        ("small red circle row 1 column 5", None),
        ("red circle", None),
        ("", None),
    ],
)
def test_a_phrase_is_read_whole_or_not_at_all(made, said, parsed):
    item = replace(made.items[0], answer="small red circle row 1 column 2")
    assert made.mark([item], [said])[0] == (parsed, parsed is not None)


@pytest.mark.parametrize(
    ("word", "place"), [(word, place) for place, word in enumerate(["large", "blue", "cross", "2", "4"])]
)
def test_each_of_five_things_counts(made, word, place):
    """Wrong in one thing is wrong, and four fifths of the words are right."""
    item = replace(made.items[0], answer="small red circle row 1 column 2")
    words = item.answer.split()
    words[[0, 1, 2, 4, 6][place]] = word
    score = made.score([item], [" ".join(words)])
    assert (score["accuracy"].value, score["words"].value) == (0, 0.8)


def test_the_model_is_given_the_first_words(tiny):
    one = lostlib.load_benchmark("mini-captions", n=1).items[0]
    asked, images = tiny.template(one)
    assert asked == f"{tiny.template(replace(one, begun=''))[0]} {one.begun}"
    assert len(images) == 1
    ids = tiny.encode(one).tensors["input_ids"][0]
    assert tiny.processor.tokenizer.decode(ids).replace(" ", "").endswith(f"ASSISTANT:{one.begun}".replace(" ", ""))


def test_items_that_begin_otherwise_are_no_twins(tiny, made):
    from lostlib.experiments.answers import answers

    pair = replace(made, items=(made.items[0], replace(made.items[0], uid="other", begun="square:")))
    found = answers(tiny, pair, max_new_tokens=4)
    assert found["prompt_tokens"].nunique() == 2 or found["raw"].nunique() == 2
    assert catalog.experiment("answers").asked


def test_words_are_those_of_the_world():
    assert all(captions._SAID.fullmatch(f"{s} {c} {f} row 4 column 1") for s in SIZES for c in COLORS for f in SHAPES)
