"""Rows of the mini benchmarks: test scenes of the mini world, in the columns of the benchmark each is named after.

A row is a function of (seed, index), so a larger n only adds rows, and another seed gives other scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, count

import numpy as np

from lostlib.benchmarks import hallusionbench, mathvista, mmmu, pope, realworldqa, threedsr, vmcbench
from lostlib.benchmarks.hub import Row
from lostlib.benchmarks.prompts import direct
from lostlib.benchmarks.rules import Rules
from lostlib.miniworld.edits import mirrored
from lostlib.miniworld.questions import KINDS, NEGATIVES, Question, exists, negative
from lostlib.miniworld.render import Picture, render, tokens_of
from lostlib.miniworld.scenes import Scene, generator, sample_scene
from lostlib.miniworld.statements import CHART_EDITS, EDITS, SCENE_EDITS, Edit
from lostlib.miniworld.topics import Case, case, chart_of, scene_of

SCENES, CHARTS = "mini-mathvista:variant=scenes", "mini-mathvista:variant=charts"
STREAMS = {  # every benchmark has scenes of its own
    "mini-pope": 1, "mini-realworldqa": 2, SCENES: 3, "mini-3dsrbench": 4, "mini-mmmu": 5,
    "mini-vmcbench": 6, "mini-hallusionbench": 7, CHARTS: 8,
}  # fmt: skip
SCENE_KINDS = ("arithmetic", "count", "count_plus")
BAR_KINDS = {  # kind -> MathVista's type of its answer
    "bar": "integer", "bar_difference": "integer", "bar_mean": "float", "bar_list": "list", "bar_choice": "text",
}  # fmt: skip
SPACE_KINDS = {  # kind -> the category of 3DSRBench it stands for
    "nearer_by_overlap": "location_closer_to_camera", "nearer_by_size": "location_closer_to_camera",
    "highest": "height_higher", "next_to": "location_next_to", "closer_to": "multi_object_closer_to",
    "side": "orientation_on_the_left",
}  # fmt: skip
EXAM_KINDS = {  # kind -> its discipline
    "highest_bar": "charts", "as_high": "charts", "more": "comparison", "change": "comparison",
    "which_image": "search", "total": "counting",
}  # fmt: skip
CHOICE_KINDS = {  # kind -> its group, by VMCBench's names
    "color_choice": "general", "shape_choice": "general", "size_choice": "general", "existence_choice": "general",
    "location_choice": "reason", "direction_choice": "reason", "count_choice": "reason", "bar_choice": "doc",
}  # fmt: skip


def test_scenes(name: str, seed: int, least: int) -> Iterator[tuple[int, Scene, np.random.Generator]]:
    """Endless (index, scene, generator) of one benchmark and seed."""
    index = 0
    while True:
        rng = generator("test", 100 * seed + STREAMS[name], index)
        yield index, sample_scene("test", rng, least), rng
        index += 1


def told(pictures: Sequence[Picture], things: Sequence[int]) -> Row:
    """Which visual tokens show these objects, and which show any, over all pictures."""
    everything = range(sum(len(picture.things) for picture in pictures))
    return {"relevant": list(tokens_of(pictures, things)), "objects": list(tokens_of(pictures, everything))}


def _pope_questions(scene: Scene, category: str, rng: np.random.Generator) -> list[Question] | None:
    """Three present and three absent looks, none twice; None when the scene shows fewer than three looks."""
    looks = sorted({(t.color, t.shape) for t in scene.things})
    if len(looks) < 3:
        return None
    absent: list[tuple[str, str]] = []
    while len(absent) < 3:
        if (look := negative(scene, category, rng)) not in absent:
            absent.append(look)
    present = [looks[i] for i in rng.permutation(len(looks))[:3]]
    return [exists(scene, look, category) for pair in zip(present, absent, strict=True) for look in pair]


def pope_rows(seed: int) -> Iterator[Row]:
    """Six questions an image, three of them "yes"; the images take turns among the kinds of negatives."""
    number, images = 0, 0
    for index, scene, rng in test_scenes("mini-pope", seed, least=3):
        category = NEGATIVES[images % len(NEGATIVES)]
        if (questions := _pope_questions(scene, category, rng)) is None:
            continue
        images += 1
        image = render(scene)
        for question in questions:
            yield {
                "id": str(number), "question_id": f"{seed}-{number}", "category": category, "image": image,
                "question": question.text, "answer": question.answer, "image_source": f"test-{seed}-{index}",
                **told((scene,), question.things),
            }  # fmt: skip
            number += 1


def realworldqa_rows(seed: int) -> Iterator[Row]:
    """One multiple-choice question about the relation of two objects per image."""
    for index, scene, rng in test_scenes("mini-realworldqa", seed, least=2):
        if (question := KINDS["relation_choice"](scene, rng)) is not None:
            yield {
                "uid": f"{seed}-{index}", "image": render(scene), "question": question.text, "answer": question.answer,
                "image_path": f"test-{seed}-{index}", **told((scene,), question.things),
            }  # fmt: skip


def mathvista_rows(seed: int) -> Iterator[Row]:
    """Sums and counts, and every second row bars: the rows of the two variants in turn."""
    return chain.from_iterable(zip(scene_rows(seed), chart_rows(seed), strict=True))


def scene_rows(seed: int) -> Iterator[Row]:
    """Sums without a picture's help, counts, and counts plus a number, in turn; all integers."""
    for index, scene, rng in test_scenes(SCENES, seed, least=1):
        question = KINDS[SCENE_KINDS[index % len(SCENE_KINDS)]](scene, rng)
        assert question is not None  # these kinds admit every scene
        yield _math_row(f"{seed}-{index}", scene, question, "integer")


def _math_row(pid: str, picture: Picture, question: Question, answer_type: str) -> Row:
    """Options stand in the query, and the answer is a text, as in MathVista."""
    options = question.options or {}
    return {
        "pid": pid, "question": question.text, "query": direct(question.text, options) if options else question.text,
        "answer": options.get(question.answer, question.answer), "image": f"test-{pid}",
        "decoded_image": render(picture), "choices": list(options.values()) or None, "unit": None,
        "precision": 1.0 if answer_type == "float" else None,
        "question_type": "multi_choice" if options else "free_form", "answer_type": answer_type,
        "metadata": {"task": question.kind, "category": "mini", "language": "english"},
        **told((picture,), question.things),
    }  # fmt: skip


# ---- the later ones: one question a draw, every answer equally likely -----------------------------------------------


def chart_rows(seed: int) -> Iterator[Row]:
    """Bars read, compared, averaged, listed and chosen, in turn: integers, decimals, lists and letters."""
    for index, kind, one in _cases(CHARTS, seed, list(BAR_KINDS)):
        yield _math_row(f"{seed}-chart-{index}", one.pictures[0], one.question, BAR_KINDS[kind])


def _cases(name: str, seed: int, kinds: Sequence[str]) -> Iterator[tuple[int, str, Case]]:
    """Endless (index, kind, case); the kinds take turns."""
    for index in count():
        kind = kinds[index % len(kinds)]
        yield index, kind, case(kind, "test", generator("test", 100 * seed + STREAMS[name], index))


def threedsr_rows(seed: int) -> Iterator[Row]:
    """Every question with its options in every rotation, about the picture and about its mirror image."""
    number = 0
    for index, kind, one in _cases("mini-3dsrbench", seed, list(SPACE_KINDS)):
        base = np.base_repr(seed * 10**6 + index, 36).zfill(8)  # eight characters, as the namesake's
        (scene,), asked = one.pictures, one.question
        flips = {"": (scene, asked), "-flip": (mirrored(scene), _flipped(asked))}  # type: ignore[arg-type]
        for flip, (picture, question) in flips.items():
            image, shown = render(picture), told((picture,), question.things)
            texts = list((question.options or {}).values())
            for turn in range(len(texts)):
                moved = texts[turn:] + texts[:turn]
                right = moved.index((question.options or {})[question.answer])
                yield {
                    "index": str(number), "qid": base + flip + (f"-{turn}" if turn else ""), "question": question.text,
                    **dict.fromkeys("ABCD"), **dict(zip("ABCD", moved, strict=False)), "answer": "ABCD"[right],
                    "category": SPACE_KINDS[kind], "image": image, "image_source": f"test-{seed}-{index}",
                    "image_url": None, **shown,
                }  # fmt: skip
                number += 1


def _flipped(question: Question) -> Question:
    """The same question about the mirror image: of all answers, only left and right change."""
    options = question.options or {}
    if set(options.values()) != {"left", "right"}:
        return question
    return replace(question, answer=next(letter for letter in options if letter != question.answer))


def mmmu_rows(seed: int) -> Iterator[Row]:
    """Charts and several images; two to six options, or none."""
    for index, kind, one in _cases("mini-mmmu", seed, list(EXAM_KINDS)):
        question, pictures = one.question, one.pictures
        images = {f"image_{k + 1}": render(picture) for k, picture in enumerate(pictures)}
        options = list((question.options or {}).values())
        placed = "<image 1>" in question.text + "".join(options)
        yield {
            "id": f"test_{kind}_{seed}-{index}",
            "question": question.text if placed else f"<image 1> {question.text}",
            "options": repr(options), "explanation": "", **dict.fromkeys(f"image_{k}" for k in range(1, 8)), **images,
            "img_type": "['Diagrams']", "answer": question.answer, "topic_difficulty": "Easy",
            "question_type": "multiple-choice" if options else "open", "subfield": EXAM_KINDS[kind],
            "discipline": EXAM_KINDS[kind], **told(pictures, question.things),
        }  # fmt: skip


def vmcbench_rows(seed: int) -> Iterator[Row]:
    """Four options about anything that the mini world asks about one picture."""
    for index, kind, one in _cases("mini-vmcbench", seed, list(CHOICE_KINDS)):
        question = one.question
        yield {
            "index": f"{seed}-{index}", "question": question.text, **(question.options or {}),
            "answer": question.answer, "category": kind.removesuffix("_choice"), "group": CHOICE_KINDS[kind],
            "image": render(one.pictures[0]), **told(one.pictures, question.things),
        }  # fmt: skip


def _edited(kind: str, rng: np.random.Generator) -> tuple[Picture, Edit]:
    """An original and its edit, both of test."""
    while True:
        picture = (chart_of if kind in CHART_EDITS else scene_of)("test", rng)
        edit = EDITS[kind](picture, rng)
        if edit is not None and edit.picture.split == "test":
            return picture, edit


def hallusionbench_rows(seed: int) -> Iterator[Row]:
    """Two statements about an original and an edited picture, each true of one; of charts also without a picture.

    Asked without its picture, a statement has the answer that holds of the original.
    """
    kinds = list(SCENE_EDITS) + list(CHART_EDITS)
    for index in count():
        kind, rng = kinds[index % len(kinds)], generator("test", 100 * seed + STREAMS["mini-hallusionbench"], index)
        picture, edit = _edited(kind, rng)
        chart = kind in CHART_EDITS
        order = rng.permutation(2)
        figures = [("0", None, False)] * chart + [("1", picture, False), ("2", edit.picture, True)]
        for visual_input, shown, edited in figures:
            questions = edit.questions(kind, edited)
            for number, k in enumerate(order):
                question = questions[k]
                yield {
                    "category": "VS" if chart else "VD", "subcategory": kind.removeprefix("is_"),
                    "visual_input": visual_input, "set_id": f"{seed}-{index}", "figure_id": visual_input,
                    "sample_note": kind, "question_id": str(number), "question": question.text,
                    "gt_answer_details": question.answer, "gt_answer": str(int(question.answer == "yes")),
                    "filename": "", "image": shown and render(shown),
                    **told((shown,) if shown else (), question.things if shown else ()),
                }  # fmt: skip


def _namesake(rules: Rules, version: str = "1", **rows: Callable[[int], Iterator[Row]]) -> Rules:
    """A benchmark's rules with rows of the mini world, where every answer is short."""
    return replace(rules, version=version, tokens={"default": 8}, sources={}, expected={}, rows=rows, mini=True)


RULES = (
    _namesake(pope.RULES, all=pope_rows),
    _namesake(threedsr.RULES, all=threedsr_rows),
    _namesake(realworldqa.RULES, all=realworldqa_rows),
    _namesake(mmmu.RULES, all=mmmu_rows),
    _namesake(vmcbench.RULES, all=vmcbench_rows),
    _namesake(mathvista.RULES, "2", all=mathvista_rows, scenes=scene_rows, charts=chart_rows),
    _namesake(hallusionbench.RULES, all=hallusionbench_rows),
)
