"""HallusionBench: yes or no about pictures, illusions and charts, in groups that share a picture or a question.

Guan et al., "HallusionBench", CVPR 2024. Variants: `image` (951 rows with a picture, what is usually reported) and
`all` (1,129 rows; the others ask without a picture). Published numbers are judged by a model or read by rule; never
compare the one with the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lostlib import stats
from lostlib.benchmarks import scoring
from lostlib.benchmarks.hub import Source
from lostlib.benchmarks.items import Item, known
from lostlib.benchmarks.prompts import DEFAULT, Style
from lostlib.benchmarks.rules import Rules
from lostlib.benchmarks.scoring import Mark, Scores, all_right, values

Mask = NDArray[np.bool_]


def to_item(row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item:
    """A row with HallusionBench's columns: category, subcategory, visual_input, set_id, figure_id, question_id, …

    The question is asked as it is, in every profile. VD and VS both have an "ocr", so keys hold the category.
    """
    subcategory = f"{row['category']}_{row['subcategory']}"
    group = f"{subcategory}_{row['set_id']}"
    image = row.get("image")
    return Item(
        uid=f"{subcategory}_{row['visual_input']}_{row['set_id']}_{row['figure_id']}_{row['question_id']}",
        images=() if image is None else (image,),
        prompt=row["question"],
        answer={"0": "no", "1": "yes"}[str(row["gt_answer"])],
        kind="yesno",
        cluster=f"{group}_{row['figure_id']}",
        **known(row),
        meta={
            "category": row["category"],
            "subcategory": subcategory,
            "set": group,
            "figure": f"{group}_{row['figure_id']}",
            "question": f"{group}_{row['question_id']}",
            "visual_input": str(row["visual_input"]),
        },
    )


def mark(item: Item, answer: str, extractor: str | None = None) -> Mark:
    """As usual; a question about a picture that is not shown is also right when it is answered neither yes nor no."""
    found = scoring.mark(item, answer, extractor)
    return found._replace(right=found.right or (_without_picture(item) and found.parsed is None))


def _without_picture(item: Item) -> bool:
    return item.meta["category"] == "VS" and item.meta["figure"] == f"{item.meta['set']}_0"


def extra_scores(items: Sequence[Item], marks: Sequence[Mark]) -> Scores:
    """The three accuracies and what the official script prints besides.

    - ``aAcc`` of answers; ``fAcc`` of figures whose questions are all right (only real pictures); ``qAcc`` of questions
      that are right on every figure; each also by category and subcategory; ``mean3`` their mean (the leaderboards').
    - ``easy`` and ``hard``: qAcc on original and on edited pictures.
    - ``yes_difference``: share of "yes" said minus share expected, and ``fp_ratio``: share of expected "no" among the
      wrong answers. Both take a wrong answer for the opposite one.

    Intervals resample pictures where answers are counted, and sets of pictures that share questions elsewhere.
    """
    right = np.array([m.right for m in marks])
    gold = np.array([item.answer == "yes" for item in items])
    said = np.where(right, gold, ~gold)
    held = {key: np.array([item.meta[key] for item in items]) for key in ("set", "figure", "question", "visual_input")}
    shown, hard = np.array([not _without_picture(item) for item in items]), held["visual_input"] == "2"

    def figures(mask: Mask) -> tuple[Mask, NDArray[Any]]:
        return all_right(right, held["figure"], held["set"], mask & shown)

    def questions(mask: Mask) -> tuple[Mask, NDArray[Any]]:
        return all_right(right, held["question"], held["set"], mask)

    everything = np.full(len(items), True)
    masks = {"": everything} | {f"/{value}": mask for value, mask in values(items, "category").items()}
    masks |= {f"/subcategory={value}": mask for value, mask in values(items, "subcategory").items()}
    scores: Scores = {}
    for end, mask in masks.items():
        scores[f"aAcc{end}"] = stats.mean(right[mask], held["figure"][mask])
        scores[f"fAcc{end}"] = stats.mean(*figures(mask))
        scores[f"qAcc{end}"] = stats.mean(*questions(mask))
    three = [(right, held["set"]), figures(everything), questions(everything)]
    return scores | {
        "mean3": stats.combined([(hit, np.ones(len(hit)), where) for hit, where in three], [1 / 3] * 3),
        "easy": stats.mean(*questions(~hard)),
        "hard": stats.mean(*questions(hard)),
        "yes_difference": stats.difference(said, gold, held["figure"]),
        "fp_ratio": stats.ratio(~right & ~gold, ~right, held["figure"]),
    }


_IDS = ("lmms-lab/HallusionBench", "lmms-lab-encoder/HallusionBench")
RULES = Rules(
    label="hallusionbench",
    task="hallucination",
    to_item=to_item,
    kinds=("yesno",),
    mark=mark,
    group="category",
    breakdowns=("subcategory",),
    extra_scores=extra_scores,
    stratum=("subcategory",),
    unit="set",
    tokens={"default": 128},
    images=("image",),
    sources={
        "image": tuple(Source(name, ("image",)) for name in _IDS),
        "all": tuple(Source(name, ("image", "non_image")) for name in _IDS),
    },
    expected={
        "image": {"items": 951, "answer=yes": 401, "answer=no": 550, "category=VD": 591, "category=VS": 360,
                  "distinct figure": 346, "distinct question": 455},
        "all": {"items": 1129, "answer=yes": 484, "answer=no": 645, "category=VD": 591, "category=VS": 538,
                "distinct figure": 403, "distinct question": 455},
    },
)  # fmt: skip
