"""3DSRBench: where things are and how they face in three dimensions; every question mirrored and with options moved.

Ma et al., "3DSRBench: A Comprehensive 3D Spatial Reasoning Benchmark", 2024. Variants: `circular` (the published
number) has each question with its options in every rotation, original and mirrored; `flip` has no rotations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lostlib import stats
from lostlib.benchmarks.hub import Linked, Source
from lostlib.benchmarks.items import Item, known
from lostlib.benchmarks.prompts import DEFAULT, Style, direct, kit, select
from lostlib.benchmarks.rules import Rules
from lostlib.benchmarks.scoring import Mark, Scores, all_right, values

GROUPS = ("height", "location", "orientation", "multi_object")  # a category is named after its group
_QID = re.compile(r"(?P<base>.{8})(?P<flip>-flip)?(?P<turn>-\d)?")


def to_item(row: Mapping[str, Any], number: int = 0, style: Style = DEFAULT) -> Item:
    """A row with 3DSRBench's columns: index, qid (not everywhere), question, A … D, answer, category, image(_url).

    Questions with two options have null, an empty text or "nan" for C and D, and only here do these mean no option.
    """
    texts = {key: str(row[key]) for key in "ABCD" if row.get(key) is not None}
    options = {key: text for key, text in texts.items() if text.lower() not in ("", "nan")}
    qid = str(row.get("qid") or row["index"])
    parts = _QID.fullmatch(qid)
    question = row["question"]
    if style.profile == "vlmevalkit":
        prompt = kit(question, options, style)
    else:
        prompt = (select if style.profile == "lmms" else direct)(question, options)
    return Item(
        uid=qid,
        images=(row.get("image") or Linked(row["image_url"], mirrored="-flip" in qid),),
        prompt=prompt,
        answer=row["answer"],
        kind="mcq",
        options=options,
        cluster=parts["base"] if parts else qid,
        **known(row),
        meta={
            "group": next((group for group in GROUPS if row["category"].startswith(group)), "other"),
            "category": row["category"],
            "base": parts["base"] if parts else qid,
        },
    )


def extra_scores(items: Sequence[Item], marks: Sequence[Mark]) -> Scores:
    """A group of versions of one question is right when all of them are; four ways to group.

    ``vanilla`` (every row alone, the same as accuracy), ``flip_eval`` (a row and its mirror image), ``circ_eval`` (all
    rotations; the published number) and ``flip_circ_eval`` (everything), each also by group and category. Nothing but
    vanilla is given where the rows do not say which belong together.
    """
    right = np.array([m.right for m in marks])
    parts = [_QID.fullmatch(item.uid) for item in items]
    keys = {"vanilla": [item.uid for item in items]}
    if all(parts):
        known = [part for part in parts if part]
        keys["flip_eval"] = [part["base"] + (part["turn"] or "") for part in known]
        keys["circ_eval"] = [part["base"] + (part["flip"] or "") for part in known]
        keys["flip_circ_eval"] = [part["base"] for part in known]
    chosen = {"": np.full(len(items), True)}
    for name, start in {"group": "/", "category": "/category="}.items():
        chosen |= {f"{start}{value}": mask for value, mask in values(items, name).items()}
    clusters = [item.cluster for item in items]
    return {
        name + end: stats.mean(*all_right(right, key, clusters, mask))
        for name, key in keys.items()
        for end, mask in chosen.items()
    }


_REVISION = "5c90e422b68d0484d50a3ff06b3096ea7d288026"
RULES = Rules(
    label="3dsrbench",
    task="vision-centric",
    to_item=to_item,
    kinds=("mcq",),
    group="group",
    breakdowns=("category",),
    extra_scores=extra_scores,
    stratum=("category",),
    unit="base",
    tokens={"default": 128, "lmms": 4096},
    images=("image",),
    sources={
        "circular": (
            Source("oscarqjh/3DSRBench_lmmseval", configs=("3dsr_circular",)),
            Source("ccvl/3DSRBench", revision=_REVISION, file="3dsrbench_v1_vlmevalkit_circular.tsv"),
        ),
        "flip": (
            Source("oscarqjh/3DSRBench_lmmseval", configs=("3dsr",)),
            Source("ccvl/3DSRBench", revision=_REVISION, file="3dsrbench_v1_vlmevalkit.tsv"),
            Source("ccvl/3DSRBench", configs=("benchmark",), revision=_REVISION),  # images by address
        ),
    },
    expected={"circular": {"items": 11686, "distinct category": 12}, "flip": {"items": 5157, "distinct category": 12}},
)
