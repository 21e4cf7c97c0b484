"""VMCBench: twenty benchmarks recast as questions with four options. Its parts overlap with our other benchmarks.

Zhang et al., "Automated Generation of Challenging Multiple-Choice Questions for Vision Language Model Evaluation",
2025. Scored on `dev`; the answers of `test` are withheld.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lostlib import stats
from lostlib.benchmarks.hub import Source
from lostlib.benchmarks.items import Item, known
from lostlib.benchmarks.prompts import DEFAULT, LETTER, Style, direct, kit, select
from lostlib.benchmarks.rules import Rules
from lostlib.benchmarks.scoring import Mark, Scores, values

GROUPS = {
    "general": ("SEEDBench", "MMStar", "A-OKVQA", "VizWiz", "MMVet", "VQAv2", "OKVQA"),
    "reason": ("MMMU", "MathVista", "ScienceQA", "RealWorldQA", "GQA", "MathVision"),
    "ocr": ("TextVQA", "OCRVQA"),
    "doc": ("AI2D", "ChartQA", "DocVQA", "InfoVQA", "TableVQABench"),
}


def to_item(row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item:
    """A row with VMCBench's columns: index, question, A, B, C, D, answer, category, image.

    "None" and "NA" are texts of options here, not missing values. Rows of the mini world say their group
    themselves. The harnesses' prompts differ in one blank.
    """
    options = {key: row[key] for key in "ABCD" if row[key] is not None}
    prompt = direct(row["question"], options)
    if style.profile != "default" and not style.kit_llava:
        prompt = select(row["question"], options, f"{LETTER} \n" if style.profile == "vlmevalkit" else f"{LETTER}\n")
    elif style.kit_llava:
        prompt = kit(row["question"], options, style)
    return Item(
        uid=str(row["index"]),
        images=(row["image"],),
        prompt=prompt,
        answer=row["answer"],
        kind="mcq",
        options=options,
        cluster=str(row["index"]),
        **known(row),
        meta={
            "group": row.get("group")
            or next((group for group, names in GROUPS.items() if row["category"] in names), "other"),
            "category": row["category"],
        },
    )


def extra_scores(items: Sequence[Item], marks: Sequence[Mark]) -> Scores:
    """``macro/<group>``: the mean of the accuracies of the group's benchmarks, as VLMEvalKit counts groups."""
    right, clusters = np.array([m.right for m in marks]), np.array([item.cluster for item in items])
    masks = values(items, "category")
    scores: Scores = {}
    for group, names in GROUPS.items():
        if held := [masks[name] for name in names if name in masks]:
            parts = [(right[mask], mask[mask], clusters[mask]) for mask in held]
            scores[f"macro/{group}"] = stats.combined(parts, [1 / len(held)] * len(held))
    return scores


RULES = Rules(
    label="vmcbench",
    to_item=to_item,
    kinds=("mcq",),
    group="group",
    breakdowns=("category",),
    extra_scores=extra_scores,
    stratum=("category",),
    tokens={"default": 128},
    images=("image",),
    sources={"dev": (Source("suyc21/VMCBench", ("dev",)),)},
    expected={"dev": {"items": 1000, "distinct category": 20}},
)
