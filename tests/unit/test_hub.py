"""Benchmarks of the hub, on Parquet files made here with the real columns and types: rows, prompts, marks, scores."""

from __future__ import annotations

import base64
import itertools
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets import Features, Image, List, Value
from PIL import Image as PILImage

import lostlib
from lostlib.benchmarks import Benchmark, hub, mathvista, mmmu
from lostlib.benchmarks.items import PLACE
from lostlib.experiments.answers import answers

TEXT = Value("string")


def picture(tone: int = 0, mode: str = "RGB") -> PILImage.Image:
    """A small picture whose red is its tone: neither palette nor an alpha channel must change it."""
    made = PILImage.new("RGB", (8, 6), (tone, 9, 9))
    if mode == "P":
        return made.quantize(4)
    if mode == "RGBA":
        made.putalpha(255)
    return made


def features(*texts: str, **others: Any) -> Features:
    return Features(dict.fromkeys(texts, TEXT) | others)


FEATURES = {
    "pope": features("id", "question_id", "question", "answer", "image_source", "category", image=Image()),
    "3dsrbench": features(
        "index", "qid", "question", *"ABCD", "answer", "category", "image_source", "image_url", image=Image()
    ),
    "realworldqa": features("question", "answer", image=Image()),
    "mmmu": features(
        "id", "question", "options", "explanation", "img_type", "answer", "topic_difficulty", "question_type",
        "subfield", **{f"image_{i}": Image() for i in range(1, 8)},
    ),
    "vmcbench": features("question", *"ABCD", "answer", "category", index=Value("int64"), image=Image()),
    "mathvista": features(
        "pid", "question", "image", "unit", "answer", "question_type", "answer_type", "query", decoded_image=Image(),
        choices=List(TEXT), precision=Value("float64"),
        metadata={
            **dict.fromkeys(("category", "context", "grade", "language", "source", "split", "task"), TEXT),
            "img_height": Value("int64"), "img_width": Value("int64"), "skills": List(TEXT),
        },
    ),
    "hallusionbench": features(
        "category", "subcategory", "visual_input", "set_id", "figure_id", "sample_note", "question_id", "question",
        "gt_answer_details", "gt_answer", "filename", image=Image(),
    ),
}  # fmt: skip
SPLITS = {"mmmu": "validation", "vmcbench": "dev", "mathvista": "testmini", "hallusionbench": "image"}


def pope_rows() -> list[dict]:
    return [
        {"id": str(i), "question_id": str(i % 6 + 1), "question": f" Is there a thing {i % 6} in the image? ",
         "answer": ("yes", "no")[i % 2], "image_source": f"COCO_{i // 2 % 3}", "category": category,
         "image": picture(i, ("RGB", "P", "RGBA")[i % 3])}
        for category in ("adversarial", "popular", "random") for i in range(6)
    ]  # fmt: skip


def srb_rows() -> list[dict]:
    two, four = {"A": "left", "B": "right", "C": None, "D": "nan"}, dict(zip("ABCD", "wxyz", strict=True))
    found = []
    for base, options, category in (("AAAA0001", two, "height_higher"), ("BBBB0002", four, "multi_object_facing")):
        turns = ("", "-1") if options is two else ("", "-1", "-2", "-3")
        found += [
            {"index": str(len(found) + i), "qid": base + flip + turn, "question": "Where?", "answer": "A",
             "category": category, "image_source": "coco", "image_url": "http://x", "image": picture(i), **options}
            for i, (flip, turn) in enumerate((flip, turn) for flip in ("", "-flip") for turn in turns)
        ]  # fmt: skip
    return found


def rwqa_rows() -> list[dict]:
    wish = "Please answer directly with only the letter of the correct option and nothing else."
    short = "Please answer directly with a single word or number."
    return [
        {"question": f"Where is the car?\nA. On the left.\nB. On the right.\nC. Ahead.\n{wish}", "answer": "B",
         "image": picture(1)},
        {"question": f"How many cars are there?\n{short}", "answer": "Two", "image": picture(2)},
        {"question": f"Does it go up or down?\n{short}", "answer": "Downhill", "image": picture(3, "P")},
    ]  # fmt: skip


def mmmu_row(name: str, question: str, options: str, answer: str, images: int, kind: str = "multiple-choice") -> dict:
    return {
        "id": name, "question": question, "options": options, "explanation": "", "img_type": "['Plots']",
        "answer": answer, "topic_difficulty": "Easy", "question_type": kind, "subfield": "x",
        **{f"image_{i}": picture(i, "P" if i == 2 else "RGB") if i <= images else None for i in range(1, 8)},
    }  # fmt: skip


def mmmu_rows() -> list[dict]:
    return [
        mmmu_row("validation_Accounting_1", "See <image 1>: what?", "['None', '$5', \"it's\"]", "A", 1),
        mmmu_row("validation_Art_Theory_2", "<image 2> or <image 1>, so <image 2>?", "['<image 3>', 'b']", "B", 3),
        mmmu_row("validation_Math_15", "Which <image 1>", str([f"o{i}" for i in range(9)]), "['I', 'C']", 1),
        mmmu_row("validation_Math_16", "How much is <image 1>?", "[]", "['1,200', '1.2e3 m']", 1, "open"),
        mmmu_row("validation_Chemistry_3", "Which letter? <image 1>", "[]", "C", 1, "open"),
    ]


def vmc_rows() -> list[dict]:
    return [
        {"index": i, "question": "What?", "A": "None", "B": "NA", "C": "null", "D": "12", "answer": "ABCD"[i % 4],
         "category": category, "image": picture(i)}
        for i, category in enumerate(["GQA", "GQA", "GQA", "MMMU", "OCRVQA", "DocVQA"])
    ]  # fmt: skip


def mv_row(pid: str, answer: str, kind: str, choices: list[str] | None = None, precision: float | None = None) -> dict:
    return {
        "pid": pid, "question": "How much?\r\n", "image": f"images/{pid}.jpg", "decoded_image": picture(3),
        "choices": choices, "unit": "g" if kind == "float" else None, "precision": precision, "answer": answer,
        "question_type": "multi_choice" if choices else "free_form", "answer_type": kind, "query": "Hint: … How much?",
        "metadata": {
            "category": "general-vqa", "context": "table", "grade": "college", "language": "english", "source": "x",
            "split": "testmini", "task": "figure question answering", "img_height": 6, "img_width": 8,
            "skills": ["arithmetic reasoning", "logical reasoning"] if kind == "float" else ["arithmetic reasoning"],
        },
    }  # fmt: skip


def mv_rows() -> list[dict]:
    return [
        mv_row("1", "right", "text", ["left", "right", "right"]),
        mv_row("2", "-3", "integer"),
        mv_row("3", "1.2", "float", precision=1.0),
        mv_row("4", "2.68", "float", precision=2.0),
        mv_row("5", "[2014, 2016]", "list"),
    ]


def hb_rows() -> list[dict]:
    """Two figures of one set, two questions each; one set of VS with the same names; nothing that is not shown."""
    return [
        {"category": category, "subcategory": "ocr", "visual_input": "12"[figure - 1], "set_id": "0",
         "figure_id": str(figure), "sample_note": "",
         "question_id": str(question), "question": "Is it?", "gt_answer_details": "It is.",
         "gt_answer": str(question), "filename": f"{figure}.png", "image": picture(figure)}
        for category in ("VD", "VS") for figure in (1, 2) for question in (0, 1)
    ]  # fmt: skip


ROWS = {
    "pope": pope_rows, "3dsrbench": srb_rows, "realworldqa": rwqa_rows, "mmmu": mmmu_rows, "vmcbench": vmc_rows,
    "mathvista": mv_rows, "hallusionbench": hb_rows,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    def write(name: str, rows: list[dict] | None = None) -> Path:
        made = datasets.Dataset.from_list(rows or ROWS[name](), features=FEATURES[name])
        place = tmp_path / name / "data"
        place.mkdir(parents=True, exist_ok=True)
        made.to_parquet(place / f"{SPLITS.get(name, 'test')}-00000-of-00001.parquet")
        return tmp_path / name

    return write


@pytest.fixture
def load(folder: Any) -> Any:
    return lambda name, rows=None, **given: lostlib.load_benchmark(
        name, folder=folder(name, rows), partial=True, **given
    )


def by_uid(benchmark: Benchmark) -> dict[str, Any]:
    return {item.uid: item for item in benchmark.items}


# ---- loading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_every_row_becomes_an_item(load: Any, name: str) -> None:
    made = load(name)
    assert len(made.items) == len(ROWS[name]()) == len(made.rows)
    assert set(made.rules.kinds) >= {item.kind for item in made.items}
    assert set(made.rules.breakdowns) <= {name for item in made.items for name in item.meta}
    for item in made.items:
        assert {made.rules.group, *made.rules.stratum, made.rules.unit or "answer"} <= {*item.meta, "answer"}
        assert len(item.images) >= 1
        assert all(image.mode == "RGB" and image.size == (8, 6) for image in item.images)
        assert item.options is None or item.answer in item.options
    score = made.score(made.items, ["nothing to be read"] * len(made.items))
    assert score["accuracy"].value == 0
    assert score["n"] == len(made.items)
    assert made.dataset.num_rows == len(made.items)
    assert made.dataset[0][made.rules.images[0]].size == (8, 6)


@pytest.mark.parametrize("name", ROWS)
def test_a_right_answer_is_right(load: Any, name: str) -> None:
    made = load(name)
    score = made.score(made.items, [f"The answer is {item.answer}" for item in made.items])
    assert score["accuracy"].value == 1
    assert score["n_unparsed"] == 0


def test_pictures_keep_their_colours(load: Any) -> None:
    for row in load("pope").rows:
        tone = int(row["id"])
        assert row["image"].open().getpixel((0, 0)) == (tone, 9, 9)


def test_images_by_address_and_as_text(folder: Any, tmp_path: Path) -> None:
    made = PILImage.new("RGB", (8, 6), (200, 0, 0))
    made.paste((0, 0, 200), (0, 0, 4, 6))  # blue on the left
    made.save(tmp_path / "x.png")
    rows = [
        {k: v for k, v in row.items() if k != "image"} | {"image_url": str(tmp_path / "x.png")} for row in srb_rows()
    ]
    place = folder("3dsrbench")
    datasets.Dataset.from_list(rows).to_parquet(place / "data" / "test-00000-of-00001.parquet")
    items = by_uid(lostlib.load_benchmark("3dsrbench", folder=place, variant="flip", partial=True))
    assert items["AAAA0001"].images[0].getpixel((0, 0)) == (0, 0, 200)
    assert items["AAAA0001-flip"].images[0].getpixel((0, 0)) == (200, 0, 0)  # the question is about the mirror image
    text = base64.b64encode((tmp_path / "x.png").read_bytes()).decode()
    assert hub.Stored(pa.chunked_array([[text]]), 0).open().getpixel((0, 0)) == (0, 0, 200)


def test_missing_rows_are_an_error_that_says_what_is_missing(folder: Any) -> None:
    with pytest.raises(
        ValueError, match=r"pope from .*items: 18 instead of 9000.*category=random: 6 instead of 3000.*partial"
    ):
        lostlib.load_benchmark("pope", folder=folder("pope"))
    with pytest.raises(FileNotFoundError, match="no file dev-"):
        lostlib.load_benchmark("vmcbench", folder=folder("pope"))
    with pytest.raises(ValueError, match="1 uids occur more than once"):
        lostlib.load_benchmark("vmcbench", folder=folder("vmcbench", [vmc_rows()[0]] * 2), partial=True)


@pytest.mark.parametrize("damage", ["empty", "cut", "a page"])
def test_a_damaged_file_is_named(folder: Any, damage: str) -> None:
    place = folder("pope")
    (file,) = place.rglob("*.parquet")
    held = file.read_bytes()
    other = file.with_name("test-00001-of-00002.parquet")
    middle = held[:100] + b"\xff" * 200 + held[300:]
    other.write_bytes({"empty": b"", "cut": held[:300], "a page": middle}[damage])
    with pytest.raises(ValueError, match=f"{re.escape(str(other))} is no whole Parquet file"):
        lostlib.load_benchmark("pope", folder=place, partial=True)


def test_complete_data_is_accepted_and_the_source_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stand_in(name: str, config: str | None, split: str, revision: str | None) -> datasets.Dataset:
        asked.append((name, config, split, revision))
        if name.startswith("xai-org"):
            raise ConnectionError("not today")
        rows = [{**rwqa_rows()[i % 3], "image": picture(i % 200)} for i in range(765)]
        made = datasets.Dataset.from_list(rows, features=FEATURES["realworldqa"])
        made.info.download_checksums = {f"hf://datasets/{name}@{'0a' * 20}/data/test.parquet": None}
        return made

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    made = lostlib.load_benchmark("realworldqa", n=1000)
    assert len(made.items) == 765
    assert made.origin == f"lmms-lab/RealWorldQA@{'0a' * 20} test"
    assert [one[0] for one in asked] == ["xai-org/RealworldQA", "lmms-lab/RealWorldQA"]
    other = lostlib.load_benchmark("realworldqa:revision=refs/pr/3", n=5)
    assert [item.uid for item in other.items] == [item.uid for item in made.items[:5]]
    assert [one[3] for one in asked] == [None, None, "refs/pr/3", "refs/pr/3"]
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: 1 / 0)
    with pytest.raises(OSError, match=r"(?s)xai-org/RealworldQA: ZeroDivisionError.*lmms-lab-encoder/RealWorldQA"):
        lostlib.load_benchmark("realworldqa")


def test_mistakes(folder: Any) -> None:
    with pytest.raises(ValueError, match="did you mean 'hallusionbench'"):
        lostlib.load_benchmark("halusionbench")
    with pytest.raises(ValueError, match="did you mean 'vlmevalkit'"):
        lostlib.load_benchmark("pope", prompt="vlmeval-kit")
    with pytest.raises(ValueError, match="did you mean 'llava_next'"):
        lostlib.load_benchmark("pope", family="llava-next")
    with pytest.raises(ValueError, match=r"no variant 'circle'; .*did you mean 'circular'"):
        lostlib.load_benchmark("3dsrbench", variant="circle")
    with pytest.raises(ValueError, match="'main' was asked for, but rows come from the local copy"):
        lostlib.load_benchmark("pope:revision=main", folder=folder("pope"))
    with pytest.raises(ValueError, match="mini-pope is made here, so it takes no folder or partial"):
        lostlib.load_benchmark("mini-pope", folder="x", partial=True)
    with pytest.raises(ValueError, match="mini-pope is made here, so it takes no revision"):
        lostlib.load_benchmark("mini-pope", revision="y")
    with pytest.raises(ValueError, match="prompt is given twice, as lmms and vlmevalkit"):
        lostlib.load_benchmark("pope:prompt=lmms", prompt="vlmevalkit")


@pytest.mark.parametrize("name", ROWS)
def test_an_empty_row_is_an_item_that_says_so(load: Any, tiny: Any, name: str) -> None:
    empty = dict.fromkeys(FEATURES[name])
    made = load(name, [*ROWS[name](), empty, empty])
    frame = answers(tiny, made, batch_size=4, max_new_tokens=2).set_index("item")
    assert len(frame) == len(made.items)
    faults = [item.uid for item in made.items if item.fault]
    assert len(faults) == 2
    assert frame.loc[faults, "error"].str.contains("is no question of this benchmark").all()
    assert frame["error"].notna().sum() == len(faults)
    assert not frame.loc[faults, "correct"].any()
    score = made.score(made.items, frame["raw"].tolist())
    assert score["n"] == len(made.items)
    assert score["n_unparsed"] >= len(faults)


def test_a_missing_picture_is_a_row_that_says_so(load: Any, tiny: Any) -> None:
    rows = pope_rows()
    rows[4] |= {"image": None}
    frame = answers(tiny, load("pope", rows), batch_size=4).set_index("item")
    assert frame["error"].dropna().to_dict() == {"adversarial/5": "picture 0 of 1 is missing from the data set"}


def test_rows_of_something_else(folder: Any) -> None:
    with pytest.raises(ValueError, match="holds nothing that this benchmark is made of: row 0 is no question"):
        lostlib.load_benchmark("pope", folder=folder("pope", [dict.fromkeys(FEATURES["pope"])] * 3), partial=True)


# ---- subsets --------------------------------------------------------------------------------------------------------


def test_a_subset_is_stratified_and_a_prefix_of_larger_ones() -> None:
    strata, units = ["ab"[i % 10 == 0] for i in range(500)], [str(i) for i in range(500)]
    order = hub.stratified("x", 0, strata, units)
    assert sorted(order) == list(range(500))
    for n in (10, 50, 123, 400):
        assert abs(sum(strata[i] == "b" for i in order[:n]) - n / 10) <= 1
    assert order == hub.stratified("x", 0, strata, units)
    assert order != hub.stratified("x", 1, strata, units) != hub.stratified("y", 1, strata, units)


def test_versions_of_a_question_stay_together(load: Any) -> None:
    whole = load("3dsrbench")
    bases = [item.meta["base"] for item in whole.items]
    assert sum(a != b for a, b in pairwise(bases)) == 1
    part = load("3dsrbench", n=5)
    assert [item.uid for item in part.items] == [item.uid for item in whole.items[:5]]
    assert len(part.rows) == 5


# ---- prompts --------------------------------------------------------------------------------------------------------


def test_prompts_of_choices(load: Any) -> None:
    uid = "AAAA0001"
    select = (
        "Question: Where?\nOptions:\nA. left\nB. right\nPlease select the correct answer from the options above. \n"
    )
    short = "Where?\nA. left\nB. right\nAnswer with the option's letter from the given choices directly."
    found = {
        given: by_uid(load("3dsrbench", prompt=given[0], family=given[1]))[uid].prompt
        for given in [("default", None), ("lmms", "llava"), ("vlmevalkit", "qwen2_5_vl"), ("vlmevalkit", "llava_next")]
    }
    assert list(found.values()) == [short, select, select, short]
    options = (
        "Question: What?\nOptions:\nA. None\nB. NA\nC. null\nD. 12\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert by_uid(load("vmcbench", prompt="lmms"))["0"].prompt == options + "\n"
    assert by_uid(load("vmcbench", prompt="vlmevalkit"))["0"].prompt == options + " \n"
    assert by_uid(load("vmcbench", prompt="vlmevalkit", family="llava"))["0"].prompt.startswith("What?\nA. None\n")
    assert load("vmcbench", prompt="vlmevalkit", family="llava").version == "1+vlmevalkit+llava"


def test_prompts_of_short_answers(load: Any) -> None:
    assert load("pope").items[0].prompt.startswith("Is there")
    assert (
        load("pope", prompt="lmms")
        .items[0]
        .prompt.endswith("image?\nAnswer the question using a single word or phrase.")
    )
    assert load("hallusionbench", prompt="lmms").items[0].prompt == "Is it?"
    stored = {row["question"] for row in rwqa_rows()}
    assert {item.prompt for item in load("realworldqa").items} == stored
    kit = by_uid(load("realworldqa", prompt="vlmevalkit"))["0"].prompt
    assert kit == (
        "Question: Where is the car?\nOptions:\nA. On the left.\nB. On the right.\nC. Ahead.\n"
        "Please select the correct answer from the options above. \n"
    )
    assert (
        load("mathvista").items[0].prompt
        == load("mathvista", prompt="vlmevalkit").items[0].prompt
        == "Hint: … How much?"
    )
    lmms = {uid: item.prompt for uid, item in by_uid(load("mathvista", prompt="lmms")).items()}
    assert lmms["1"].startswith("How much?\r\n\nA. left\nB. right\nC. right\nAnswer with the option's letter")
    assert (
        lmms["3"]
        == "How much?\r\n (Unit: g)\nAnswer the question using a single floating-point number with one decimal place."
    )
    assert lmms["4"].endswith("two decimal places.")
    assert load("realworldqa", prompt="lmms").max_new_tokens == 16


def test_images_stand_where_they_are_mentioned(load: Any) -> None:
    def shown(**given: Any) -> tuple[str, list[int]]:
        item = by_uid(load("mmmu", **given))["validation_Art_Theory_2"]
        return item.prompt, [image.getpixel((0, 0))[0] for image in item.images]

    letter = "Answer with the option's letter from the given choices directly."
    assert shown() == (f"{PLACE} or {PLACE}, so image 2?\nA. {PLACE}\nB. b\n{letter}", [2, 1, 3])
    prompt, tones = shown(prompt="vlmevalkit", family="qwen2_5_vl")
    assert prompt.startswith(f"Question: {PLACE} or {PLACE}, so {PLACE}?\nOptions:\nA. {PLACE}\n")
    assert tones == [2, 1, 2, 3]
    prompt, tones = shown(prompt="vlmevalkit", family="llava")
    assert prompt == f"<image 2> or <image 1>, so <image 2>?\nA. <image 3>\nB. b\n{letter}"
    assert tones == [1, 2, 3]
    # lmms-eval gives image 1 to the first mention, and what stands between surplus mentions is lost
    assert shown(prompt="lmms") == (f"{PLACE}or{PLACE}, so{PLACE}B. b\n\n{letter}", [1, 2, 3])


# ---- marks ----------------------------------------------------------------------------------------------------------


def test_rows_that_trip_loaders(load: Any) -> None:
    mixed = by_uid(load("mmmu"))
    nine = mixed["validation_Math_15"]
    assert list(nine.options) == list("ABCDEFGHI")
    assert (nine.answer, nine.aliases) == ("I", ("C",))
    assert mixed["validation_Accounting_1"].options["A"] == "None"
    assert mixed["validation_Art_Theory_2"].meta == {
        "discipline": "Art & Design", "subject": "Art_Theory", "form": "multiple-choice", "n_images": "several",
    }  # fmt: skip
    assert by_uid(load("vmcbench"))["0"].options == {"A": "None", "B": "NA", "C": "null", "D": "12"}
    assert by_uid(load("3dsrbench"))["AAAA0001"].options == {"A": "left", "B": "right"}
    world = by_uid(load("realworldqa"))
    assert [(world[i].kind, world[i].answer) for i in "012"] == [("mcq", "B"), ("number", "2"), ("open", "downhill")]
    asked, *others = rwqa_rows()
    for dot, blank in itertools.product(".:)", ("", " ", "  ")):
        spelt = asked | {"question": re.sub(r"(?m)^([A-C])\. ", rf"\1{dot}{blank}", asked["question"])}
        options = by_uid(load("realworldqa", [spelt, *others]))["0"].options
        assert options == {"A": "On the left.", "B": "On the right.", "C": "Ahead."}
    both = by_uid(load("mathvista"))["1"]
    assert (both.answer, both.aliases) == ("B", ("C",))


def test_a_right_answer_that_is_no_option_is_refused(load: Any) -> None:
    wrong = [row | {"answer": "D"} if row["answer"] == "B" else row for row in rwqa_rows()]
    with pytest.raises(ValueError, match="the right answer of '0' is 'D', its options are A, B, C"):
        load("realworldqa", wrong)


@pytest.mark.parametrize(
    ("pid", "answer", "right"),
    [
        ("1", "B", True), ("1", "(c)", True), ("1", "it is right", True), ("1", "A, no: C", None), ("1", "up", None),
        ("2", "-3", True), ("2", "it is 3", False), ("2", "-3.5", None), ("2", "so \\boxed{-3} of 7", True),
        ("3", "1.24", True), ("3", "1.2", True), ("3", "6/5", True), ("3", "1.26", False), ("3", "none", None),
        ("4", "2.675001", True), ("4", "2.7", False),
        ("5", "[2014,2016]", True), ("5", "from 2014 to 2016", True), ("5", "[2016, 2014]", False), ("5", "2014", None),
    ],
)  # fmt: skip
def test_mathvista_by_rule(load: Any, pid: str, answer: str, right: bool | None) -> None:
    mark = mathvista.mark(by_uid(load("mathvista"))[pid], answer)
    assert mark.right == bool(right)
    assert (mark.parsed is None) == (right is None)


def test_mathvista_by_a_judge(load: Any) -> None:
    made = load("mathvista")
    items = by_uid(made)
    asked = []

    def judge(item: Any, answer: str) -> str:
        asked.append(answer)
        return {"1": "(b) rite", "3": "1.249", "5": "[2014, 2016]"}.get(item.uid, "nothing")

    answers = {"1": "the second", "2": "-3", "3": "about 1.25", "4": "2.68", "5": "these years"}
    score = made.score(made.items, [answers[item.uid] for item in made.items], judge=judge)
    assert score["accuracy"].value == 1
    assert sorted(asked) == ["about 1.25", "the second", "these years"]
    assert mathvista.judged(items["1"], "", judge).parsed == "A"  # the shortest text is nearest to silence
    assert mathvista.judged(items["2"], "many", judge) == (None, False)
    with pytest.raises(ValueError, match="without a judge"):
        load("pope").score([], [], judge=judge)


def test_open_questions_of_mmmu(load: Any) -> None:
    items = by_uid(load("mmmu"))
    money, one = items["validation_Math_16"], items["validation_Chemistry_3"]
    assert mmmu.mark(money, "So x = 1,200.00 m").right
    assert mmmu.mark(money, "it is 1.2e3").right
    assert not mmmu.mark(money, "1,201").right
    assert mmmu.mark(money, "").parsed is None
    assert mmmu.mark(one, "The answer is C").right
    assert not mmmu.mark(one, "carbon").right
    assert mmmu.mark(money, "it is 1,200", "vk_can_infer").right
    assert not mmmu.mark(one, "C", "vk_can_infer").right  # its options are A and B
    assert not mmmu.mark(one, "The answer is C", "lmms_mmmu").right


def test_scores_under_another_extractor(load: Any) -> None:
    made = load("pope")
    silent = made.score(made.items, [""] * 18, extractor="pope_official")
    assert (silent["n_unparsed"], silent["yes_ratio"].value) == (0, 1)
    assert made.score(made.items, ["Yes."] * 18, extractor="lmms_pope")["n_unparsed"] == 18
    with pytest.raises(ValueError, match="did you mean 'vk_yorn'"):
        made.score(made.items, [""] * 18, extractor="vk_yor")
    with pytest.raises(ValueError, match="lmms_mcq does not read yesno answers; there are yes_no"):
        made.score(made.items, [""] * 18, extractor="lmms_mcq")
    world = load("realworldqa")
    said = {"0": "D", "1": "two.", "2": "It goes Downhill"}
    marks = dict(
        zip(
            (i.uid for i in world.items),
            world.mark(world.items, [said[i.uid] for i in world.items], "lmms_mcq"),
            strict=True,
        )
    )
    assert [marks[i].right for i in "012"] == [False, True, False]
    assert marks["0"].parsed == "D"  # lmms-eval reads A to D where there are three options


# ---- scores against counting by hand --------------------------------------------------------------------------------


def test_pope_by_category(load: Any) -> None:
    made = load("pope")
    rng = np.random.default_rng(0)
    said = rng.choice(["yes", "no", "perhaps"], 18)
    score = made.score(made.items, list(said))
    f1 = []
    for category in ("adversarial", "popular", "random"):
        at = [i for i, item in enumerate(made.items) if item.meta["category"] == category]
        yes, gold = said[at] == "yes", np.array([made.items[i].answer == "yes" for i in at])
        f1.append(2 * (yes & gold).sum() / (yes.sum() + gold.sum()))
        assert score[f"f1/{category}"].value == pytest.approx(f1[-1])
        assert score[f"yes_ratio/{category}"].value == pytest.approx(yes.mean())
        assert (score[f"n/{category}"], score[f"n_unparsed/{category}"]) == (6, (said[at] == "perhaps").sum())
    assert score["f1_mean3"].value == pytest.approx(np.mean(f1))
    assert score["f1_mean3"].low <= score["f1_mean3"].value <= score["f1_mean3"].high


def test_the_groups_of_3dsrbench(load: Any) -> None:
    made = load("3dsrbench")
    wrong = {"AAAA0001-1", "BBBB0002-flip-3"}
    score = made.score(made.items, ["B" if item.uid in wrong else "A" for item in made.items])
    assert score["vanilla"] == score["accuracy"]
    assert score["vanilla"].value == pytest.approx(10 / 12)
    assert score["flip_eval"].value == pytest.approx(4 / 6)  # A, A-1; B, B-1, B-2, B-3: wrong are A-1 and B-3
    assert score["circ_eval"].value == pytest.approx(2 / 4)  # A, A-flip, B, B-flip: wrong are A and B-flip
    assert score["flip_circ_eval"].value == 0
    assert score["flip_eval/height"].value == pytest.approx(1 / 2)
    assert score["circ_eval/category=multi_object_facing"].value == pytest.approx(1 / 2)
    plain = load("3dsrbench", [{**row, "qid": None} for row in srb_rows()])
    assert not [key for key in plain.score(plain.items, ["A"] * 12) if "circ" in key or "flip" in key]


def test_the_three_accuracies_of_hallusionbench(load: Any) -> None:
    made = load("hallusionbench")
    wrong = {"VD_ocr_2_0_2_1"}
    answers = [{"yes": "no", "no": "yes"}[i.answer] if i.uid in wrong else i.answer for i in made.items]
    score = made.score(made.items, answers)
    assert score["aAcc"].value == pytest.approx(7 / 8)
    assert score["fAcc"].value == pytest.approx(3 / 4)  # VD and VS both have an "ocr" set 0
    assert score["qAcc"].value == pytest.approx(3 / 4)
    assert score["mean3"].value == pytest.approx((7 / 8 + 3 / 4 + 3 / 4) / 3)
    assert score["fAcc/VS"].value == 1
    assert score["qAcc/subcategory=VD_ocr"].value == pytest.approx(1 / 2)
    assert (score["easy"].value, score["hard"].value) == (1, 3 / 4)
    assert score["yes_difference"].value == pytest.approx(-1 / 8)
    assert score["fp_ratio"].value == 0


def test_hallusionbench_without_pictures(folder: Any) -> None:
    place = folder("hallusionbench")
    row = {**hb_rows()[-1], "figure_id": "0", "visual_input": "0"}
    del row["image"]
    datasets.Dataset.from_list([row]).to_parquet(place / "data" / "non_image-00000-of-00001.parquet")
    made = lostlib.load_benchmark("hallusionbench", folder=place, variant="all", partial=True)
    assert made.version == "1+all"
    assert len(made.items) == 9
    bare = [item for item in made.items if not item.images]
    assert len(bare) == 1
    score = made.score(made.items, ["It is unclear." if not item.images else item.answer for item in made.items])
    assert score["aAcc"].value == 1  # the official rule for questions about a picture that is not shown
    assert score["n_unparsed"] == 1


def test_groups_of_vmcbench_by_rows_and_by_benchmarks(load: Any) -> None:
    made = load("vmcbench")
    score = made.score(made.items, [item.answer if item.meta["category"] == "MMMU" else "-" for item in made.items])
    assert score["accuracy/reason"].value == pytest.approx(1 / 4)
    assert score["macro/reason"].value == pytest.approx(1 / 2)
    assert score["accuracy/category=GQA"].value == 0


def test_breakdowns_of_mmmu_and_mathvista(load: Any) -> None:
    made = load("mmmu")
    score = made.score(made.items, [item.answer if item.kind == "mcq" else "" for item in made.items])
    assert score["accuracy/form=multiple-choice"].value == 1
    assert score["accuracy/Science"].value == pytest.approx(1 / 3)
    assert score["accuracy/n_images=several"].value == 1
    made = load("mathvista")
    score = made.score(made.items, [item.answer if item.meta["answer_type"] == "float" else "-" for item in made.items])
    assert score["accuracy/answer_type=float"].value == 1
    assert score["accuracy/skills=logical reasoning"].value == 1
    assert score["accuracy/skills=arithmetic reasoning"].value == pytest.approx(2 / 5)
