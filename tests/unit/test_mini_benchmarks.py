"""The mini benchmarks against their namesakes' rules: counts, balance, nothing to be had from the text, scores."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

import lostlib
from lostlib import benchmarks
from lostlib.benchmarks import Benchmark, Item, mini
from lostlib.minimodels.conversations import finished
from lostlib.miniworld.scenes import COLORS, SHAPES, generator
from lostlib.miniworld.topics import TOPIC_OF, case

NAMES = [*benchmarks.NAMESAKES, mini.SCENES, mini.CHARTS]
LATER = [n for n in NAMES if n not in ("mini-pope", "mini-realworldqa", "mini-mathvista", mini.SCENES)]


@cache
def thousand(name: str, seed: int = 0) -> Benchmark:
    return lostlib.load_benchmark(name, seed=seed)


@cache
def some(name: str) -> Benchmark:
    """The first items: forty of each kind, where there are six; whole sets but perhaps for the last."""
    return lostlib.load_benchmark(name, n=240)


def kind(name: str, item: Item) -> str:
    keys = {"mini-3dsrbench": "category", "mini-mmmu": "subject", "mini-vmcbench": "category", mini.CHARTS: "task"}
    return item.meta[keys.get(name, "subcategory")]


def said(item: Item) -> str:
    """The expected answer as text."""
    return item.options[item.answer] if item.options else item.answer


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_items_and_a_prefix_for_every_n(name: str) -> None:
    whole, part = thousand(name), lostlib.load_benchmark(name, n=20)
    assert len(whole.items) == 1000 == len({item.uid for item in whole.items})
    for a, b in zip(part.items, whole.items[:20], strict=True):
        assert (a.uid, a.prompt, a.answer, a.relevant) == (b.uid, b.prompt, b.answer, b.relevant)
        assert [image.tobytes() for image in a.images] == [image.tobytes() for image in b.images]
    other = lostlib.load_benchmark(name, n=20, seed=1)
    assert not {item.uid for item in other.items} & {item.uid for item in whole.items}
    assert [item.prompt for item in other.items] != [item.prompt for item in part.items]


@pytest.mark.parametrize("name", NAMES)
def test_chance_is_what_guessing_earns(name: str) -> None:
    made, rng = some(name), np.random.default_rng(0)
    guesses = [
        str(rng.choice(list(item.options or (("yes", "no") if item.kind == "yesno" else "x")))) for item in made.items
    ]
    earned = made.score(made.items, guesses)["accuracy"].value
    told = sum(not item.images for item in made.items) / len(made.items)  # without its picture "x" is right as well
    assert told == 0 or name == "mini-hallusionbench"
    assert abs(earned - made.chance) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_the_expected_answers_score_one(name: str) -> None:
    made = some(name)
    score = made.score(made.items, [item.answer for item in made.items])
    assert score["accuracy"].value == 1
    assert score["n_unparsed"] == 0
    whole = ("accuracy", "f1", "circ_eval", "flip_circ_eval", "aAcc", "fAcc", "qAcc", "mean3")
    ones = [key for key in score if key.split("/")[0] in whole]
    assert all(score[key].value == 1 for key in ones)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_letter_or_word_wins(name: str) -> None:
    """One constant answer earns what the most frequent of several equally likely ones would, and no more."""
    made = thousand(name)
    for group in (made.items, *by_kind(name).values()):
        choices = [item for item in group if item.kind in ("mcq", "yesno")]
        if not choices:
            continue
        letters = [list(item.options or ("yes", "no")) for item in choices]
        for letter in sorted({one for offered in letters for one in offered}):
            expected = np.array([(letter in offered) / len(offered) for offered in letters])
            hits = sum(item.answer == letter for item in choices)
            error = np.sqrt((expected * (1 - expected)).sum())
            assert abs(hits - expected.sum()) <= 3.6 * error + 1


def by_kind(name: str, seed: int = 0) -> dict[str, list[Item]]:
    found = defaultdict(list)
    for item in thousand(name, seed).items:
        found[kind(name, item) if name in LATER else ""].append(item)
    return found


def plain(text: str) -> str:
    """A question without its options, every colour and shape as such."""
    words = text.split("\n")[0].replace("?", " ?").split()
    return " ".join("C" if w in COLORS else "S" if w.rstrip("es") in SHAPES or w in SHAPES else w for w in words)


def offered(item: Item, answers: list[str]) -> list[str]:
    """What one may answer, as text: the options, yes or no, else any answer that was right somewhere."""
    return list((item.options or {}).values()) or (["yes", "no"] if item.kind == "yesno" else answers)


def guesser(items: list[Item]):
    """(question, text) -> how often this text won among what was offered, for this question and for any."""
    answers, wins, offers = sorted({said(item) for item in items}), Counter(), Counter()
    for item in items:
        for text in offered(item, answers):
            for key in ((plain(item.prompt), text), ("", text)):
                wins[key] += text == said(item)
                offers[key] += 1

    def rate(item: Item, text: str) -> float:
        return sum((wins[key] + 1) / (offers[key] + 4) for key in ((plain(item.prompt), text), ("", text)))

    return answers, rate


@pytest.mark.slow
@pytest.mark.parametrize("name", LATER)
def test_the_text_alone_does_not_tell(name: str) -> None:
    """What won among the options of one seed, by question and by answer, is no better than guessing on another."""
    for one, items in by_kind(name).items():
        answers, rate = guesser(by_kind(name, seed=1)[one])
        guesses = [max(offered(item, answers), key=partial(rate, item)) for item in items]
        hits = sum(guess == said(item) for guess, item in zip(guesses, items, strict=True))
        chances = np.array([1 / len(offered(item, answers)) for item in items])
        alike = len(items) / len({item.cluster for item in items})  # rows of one question are right together
        spread = 3.5 * np.sqrt((chances * (1 - chances)).sum() * alike)
        assert hits - chances.sum() < spread + 2, (one, hits, chances.sum(), spread)


def test_every_kind_is_trained_as_it_is_asked() -> None:
    """The benchmarks' prompts are the words of training, so that a model meets no new form in a test."""
    asked = {"mini-3dsrbench": mini.SPACE_KINDS, "mini-mmmu": mini.EXAM_KINDS, "mini-vmcbench": mini.CHOICE_KINDS}
    asked[mini.CHARTS] = mini.BAR_KINDS
    for name, kinds in asked.items():
        prompts = [item.prompt.removeprefix("<image> ") for item in some(name).items]
        for number, one in enumerate(kinds):
            rng = generator("test", mini.STREAMS[name], number)
            question = case(one, "test", rng).question
            prompt = "".join(finished(question))
            assert prompt in prompts
    assert {one for kinds in asked.values() for one in kinds} <= set(TOPIC_OF)


def test_3dsrbench_has_every_rotation_and_the_mirror_image() -> None:
    made = some("mini-3dsrbench")
    bases = defaultdict(list)
    for item in made.items:
        bases[item.meta["base"]].append(item)
    whole = list(bases.values())[:-1]
    for items in whole:
        options = len(items[0].options)
        assert options in (2, 4)
        assert len(items) == 2 * options
        flipped = [item for item in items if "-flip" in item.uid]
        assert len(flipped) == options
        straight = [item for item in items if "-flip" not in item.uid]
        assert Counter(item.answer for item in straight) == Counter(list("ABCD")[:options])
        (before,), (after,) = {said(i) for i in straight}, {said(i) for i in flipped}
        assert (before != after) == ({before, after} == {"left", "right"})
        mirror = np.asarray(straight[0].images[0])[:, ::-1].astype(float)
        seen = np.asarray(flipped[0].images[0]).astype(float)
        assert np.median(np.abs(mirror[:, :-1] - seen[:, 1:])) < 15  # a picture's middle lies between two pixels
    assert {item.meta["group"] for item in made.items} == {"location", "height", "multi_object", "orientation"}
    constant = made.score(made.items, ["A"] * len(made.items))
    assert constant["accuracy"].value == pytest.approx(made.chance, abs=0.005)
    assert constant["circ_eval"].value < 0.01


def test_mmmu_shows_several_images_and_up_to_six_options() -> None:
    items = some("mini-mmmu").items
    assert {len(item.images) for item in items} == {1, 2, 3}
    assert {len(item.options) for item in items if item.options} == {3, 4, 5, 6}
    assert all(item.prompt.count("<image>") == len(item.images) for item in items)
    assert {item.kind for item in items} == {"mcq", "open"}
    assert set(Counter(item.meta["subject"] for item in items).values()) <= {40}
    among = [item for item in items if item.meta["subject"] == "which_image"]
    assert all(item.relevant[0] // 64 == "ABC".index(item.answer) for item in among)
    sums = Counter(item.answer for item in items if item.kind == "open")
    assert set(sums) == set("123456")
    assert max(sums.values()) < 0.28 * sum(sums.values())


def test_hallusionbench_asks_both_statements_of_both_pictures() -> None:
    made = some("mini-hallusionbench")
    sets = defaultdict(list)
    for item in made.items:
        sets[item.meta["set"]].append(item)
    for items in list(sets.values())[:-1]:
        shown = [item for item in items if item.images]
        assert len(shown) == 4
        assert len({item.images[0].tobytes() for item in shown}) == 2
        answers = {(item.prompt, item.meta["visual_input"]): item.answer for item in shown}
        texts = sorted({item.prompt for item in shown})
        assert all({answers[text, "1"], answers[text, "2"]} == {"yes", "no"} for text in texts)
        assert len(items) == (6 if items[0].meta["category"] == "VS" else 4)
    assert 0.1 <= np.mean([not item.images for item in made.items]) < 0.2
    constant = made.score(made.items, ["yes"] * 240)
    assert constant["aAcc"].value == pytest.approx(0.5, abs=0.02)
    assert constant["fAcc"].value < 0.005  # the last set may be cut in two
    assert constant["qAcc"].value < 0.005
    unknown = made.score(made.items, ["unknown"] * 240)
    assert unknown["aAcc"].value == pytest.approx(np.mean([not item.images for item in made.items]))


def test_vmcbench_takes_turns_among_its_kinds() -> None:
    items = some("mini-vmcbench").items
    assert Counter(item.meta["category"] for item in items) == dict.fromkeys(
        ("color", "shape", "size", "existence", "location", "direction", "count", "bar"), 30
    )
    assert {item.meta["group"] for item in items} == {"general", "reason", "doc"}
    assert all(len(item.options) == 4 == len(set(item.options.values())) for item in items)


def test_mathvista_reads_charts_with_every_type_of_answer() -> None:
    made = some(mini.CHARTS)
    types = {
        "bar": "integer",
        "bar_difference": "integer",
        "bar_mean": "float",
        "bar_list": "list",
        "bar_choice": "text",
    }
    assert Counter(item.meta["task"] for item in made.items) == dict.fromkeys(types, 48)
    assert {item.meta["task"]: item.meta["answer_type"] for item in made.items} == types
    assert {item.kind for item in made.items} == {"number", "list", "mcq"}
    assert made.version == "2+charts"
    (half,) = {item.meta["precision"] for item in made.items if item.meta["answer_type"] == "float"}
    assert half == "1"
    means = [item for item in made.items if item.meta["task"] == "bar_mean"]
    assert made.score(means, [f"It is {float(item.answer) + 0.02:.2f}." for item in means])["accuracy"].value == 1
    lists = [item for item in made.items if item.kind == "list"]
    assert made.score(lists, [item.answer.replace(",", ";") for item in lists])["accuracy"].value < 0.2
    assert made.score(lists, [item.answer.replace(" ", "") for item in lists])["accuracy"].value == 1


def test_mathvista_asks_sums_counts_and_bars_in_turn() -> None:
    made, scenes, charts = (some(name) for name in ("mini-mathvista", mini.SCENES, mini.CHARTS))
    assert made.version == "2"
    assert [item.uid for item in made.items[::2]] == [item.uid for item in scenes.items[:120]]
    assert [item.uid for item in made.items[1::2]] == [item.uid for item in charts.items[:120]]
    assert len({item.uid for item in made.items}) == len(made.items)
    tasks = Counter(item.meta["task"] for item in made.items)
    assert set(tasks) == {*mini.SCENE_KINDS, *mini.BAR_KINDS}
    assert min(tasks.values()) >= 24
    assert {item.meta["answer_type"] for item in made.items} == {"integer", "float", "list", "text"}
    sums = [item for item in scenes.items if item.meta["task"] == "arithmetic"]
    assert all(item.prompt.startswith("What is") for item in sums)
    assert len(sums) == 80
    assert {item.meta["answer_type"] for item in scenes.items} == {"integer"}


@pytest.mark.parametrize("profile", ["lmms", "vlmevalkit"])
@pytest.mark.parametrize("name", benchmarks.NAMESAKES)
def test_other_prompts_change_the_words_alone(name: str, profile: str) -> None:
    plain = lostlib.load_benchmark(name, n=6)
    made = lostlib.load_benchmark(f"{name}:prompt={profile}", n=6, family="llava")
    assert made.version == f"{benchmarks.RULES[name].version}+{profile}+llava"
    for item, other in zip(plain.items, made.items, strict=True):
        assert replace(other, prompt="", images=()) == replace(item, prompt="", images=())


def test_a_prompt_is_the_namesakes() -> None:
    (item,) = lostlib.load_benchmark("mini-pope:prompt=lmms", n=1).items
    assert item.prompt.endswith("in the image?\nAnswer the question using a single word or phrase.")
    (item,) = lostlib.load_benchmark("mini-realworldqa:prompt=vlmevalkit", n=1, family="llava").items
    assert item.prompt.endswith("\nAnswer with the option's letter from the given choices directly.")
    assert "Answer with the letter." not in item.prompt
