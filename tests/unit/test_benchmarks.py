"""Mini benchmarks: size, balance, determinism, rows as `datasets`, scores against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import lostlib
from lostlib import benchmarks
from lostlib.benchmarks.extractors import EXTRACTORS

NAMES = list(benchmarks.NAMESAKES)


@pytest.mark.parametrize("name", NAMES)
def test_objects_are_where_the_picture_is_not_background(name: str) -> None:
    """The background is one grey level with a little noise: patches of it vary less than those that show an object."""
    for item in lostlib.load_benchmark(name, n=24).items:
        assert set(item.relevant) <= set(item.objects)
        for number, image in enumerate(item.images):  # tokens are numbered on from image to image
            objects = [token - 64 * number for token in item.objects if token // 64 == number]
            assert objects
            if len(objects) == 64:  # a chart full of bars
                continue
            patches = np.asarray(image, dtype=float).reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, -1, 3)
            plain = np.delete(patches, objects, axis=0).reshape(-1, 3)
            strange = (np.abs(patches - np.median(plain, axis=0)).max(axis=2) > 30).sum(axis=1)
            assert strange[objects].min() > 0
            assert np.delete(strange, objects).max() < 8  # the soft rim of an object, less than three whole pixels
        assert max(item.objects, default=-1) < 64 * len(item.images)


def test_benchmarks_share_no_pictures() -> None:
    made = [lostlib.load_benchmark(name, n=30).items for name in NAMES]
    pictures = [{image.tobytes() for item in items for image in item.images} for items in made]
    assert len(set().union(*pictures)) == sum(map(len, pictures))


def test_mini_pope_is_built_like_pope() -> None:
    items = lostlib.load_benchmark("mini-pope", n=240).items
    assert np.mean([item.answer == "yes" for item in items]) == 0.5
    assert {item.meta["category"] for item in items} == {"random", "popular", "adversarial"}
    by_image: dict[str, list] = {}
    for item in items:
        by_image.setdefault(item.cluster, []).append(item)
    for group in by_image.values():
        assert len(group) == 6
        assert len({item.prompt for item in group}) == 6
        assert all(bool(item.relevant) == (item.answer == "yes") for item in group)


def test_one_option_is_true_and_letters_are_spread() -> None:
    items = lostlib.load_benchmark("mini-realworldqa", n=240).items
    assert all(item.answer in item.options for item in items)
    assert {len(item.options) for item in items} == {2, 3, 4}
    two = [item.answer for item in items if len(item.options) == 2]
    assert 0.38 < np.mean([answer == "A" for answer in two]) < 0.62


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_datasets_rows(name: str) -> None:
    made = lostlib.load_benchmark(name, n=6)
    table = made.dataset
    assert table.num_rows == 6
    again = [made.rules.to_item(row) for row in table]
    assert all(isinstance(image, Image.Image) for item in again for image in item.images)
    for a, b in zip(made.items, again, strict=True):
        assert (a.uid, a.prompt, a.answer, a.relevant) == (b.uid, b.prompt, b.answer, b.relevant)
        assert [image.tobytes() for image in a.images] == [image.tobytes() for image in b.images]


def test_scores_against_counting() -> None:
    made = lostlib.load_benchmark("mini-pope", n=120)
    rng = np.random.default_rng(0)
    answers = [str(rng.choice(["Yes.", "no", "I cannot tell"])) for _ in made.items]
    said = np.array([{"Yes.": 1, "no": 0, "I cannot tell": -1}[a] for a in answers])
    gold = np.array([item.answer == "yes" for item in made.items])
    score = made.score(made.items, answers)
    hits = ((said == 1) & gold).sum()
    assert score["n"] == 120
    assert score["n_unparsed"] == (said == -1).sum()
    assert score["accuracy"].value == pytest.approx((said == gold).mean())
    assert score["precision"].value == pytest.approx(hits / (said == 1).sum())
    assert score["recall"].value == pytest.approx(hits / gold.sum())
    assert score["f1"].value == pytest.approx(2 * hits / ((said == 1).sum() + gold.sum()))
    assert score["yes_ratio"].value == pytest.approx((said == 1).mean())
    assert score["accuracy"].low < score["accuracy"].value < score["accuracy"].high
    with pytest.raises(ValueError, match="120 items but 3 answers"):
        made.score(made.items, answers[:3])


@pytest.mark.parametrize(
    ("name", "answer", "options", "expected"),
    [
        ("yes_no", "Yes", None, "yes"),
        ("yes_no", "no.", None, "no"),
        ("yes_no", "**NO**", None, "no"),
        ("yes_no", "", None, None),
        ("yes_no", "I cannot tell", None, None),
        ("yes_no", "yes and no", None, None),
        ("yes_no", "Is it? The answer is yes.", None, "yes"),
        ("letter", "B", {"A": "left", "B": "right"}, "B"),
        ("letter", "(B)", {"A": "left", "B": "right"}, "B"),
        ("letter", "B. right", {"A": "left", "B": "right"}, "B"),
        ("letter", "right", {"A": "left", "B": "right"}, "B"),
        ("letter", "A car is on the right, so B", {"A": "left", "B": "right"}, "B"),
        ("letter", "A or B", {"A": "left", "B": "right"}, None),
        ("letter", "BECAUSE", {"A": "left", "B": "right"}, None),
        ("letter", "C", {"A": "left", "B": "right"}, None),
        ("integer", "7", None, "7"),
        ("integer", "There are 3, and 2 more make 5.", None, "5"),
        ("integer", "1,200", None, "1200"),
        ("integer", "-4", None, "-4"),
        ("integer", "2.5", None, None),
        ("integer", "many", None, None),
    ],
)
def test_extractors(name: str, answer: str, options: dict | None, expected: str | None) -> None:
    assert EXTRACTORS[name](answer, options) == expected


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="did you mean 'mini-pope'"):
        lostlib.load_benchmark("minipope")
    with pytest.raises(ValueError, match="at least 1"):
        lostlib.load_benchmark("mini-pope", n=0)
