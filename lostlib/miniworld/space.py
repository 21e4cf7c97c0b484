"""Questions about space: what is nearer, higher, next to, closer to what; with two or four options.

Things are thought of as equally large and seen from the front: what looks larger is nearer, and so is what covers
another thing. Each kind is a function (scene, rng) -> Question, or None when the scene does not admit one.
"""

from __future__ import annotations

import numpy as np

from lostlib.miniworld.edits import overlap
from lostlib.miniworld.questions import Question, choice, unique
from lostlib.miniworld.scenes import Scene

APART = 12  # pixels by which one distance is larger than the other where distances are compared


def _named(scene: Scene, rng: np.random.Generator) -> list[int]:
    """The objects one can refer to, in random order."""
    return rng.permutation(unique(scene, "name")).astype(int).tolist()


def _either(kind: str, scene: Scene, rng: np.random.Generator, words: str, right: int, wrong: int, *about: int):
    """Which of two objects? They are named in the question, in random order, and offered."""
    first, second = (right, wrong) if rng.random() < 0.5 else (wrong, right)
    names = [scene.things[i].name for i in (*about, first, second)]
    offered = [scene.things[i].name for i in (right, wrong)]
    return choice(kind, words.format(*names), offered, (*about, first, second), rng)


def nearer_by_overlap(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Which is closer to the camera? Of two that overlap and are equally large, the one that covers the other."""
    named = set(unique(scene, "name"))
    pairs = [
        (i, j) for j in sorted(named) for i in range(j) if i in named and overlap(scene.things[i], scene.things[j])
    ]
    if not pairs:
        return None
    far, near = pairs[int(rng.integers(len(pairs)))]  # painted later is nearer
    words = "Which is closer to the camera, the {} or the {}?"
    return _either("nearer_by_overlap", scene, rng, words, near, far)


def nearer_by_size(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Which is closer to the camera? The larger one."""
    order = _named(scene, rng)
    large = next((i for i in order if scene.things[i].size == "large"), None)
    small = next((i for i in order if scene.things[i].size == "small"), None)
    if large is None or small is None:
        return None
    words = "Which is closer to the camera, the {} or the {}?"
    return _either("nearer_by_size", scene, rng, words, large, small)


def highest(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Which of these is the highest? Two or four objects, one of them in a row above the others."""
    order = _named(scene, rng)[: 2 if rng.random() < 0.5 else 4]
    order.sort(key=lambda i: scene.things[i].row)
    if len(order) not in (2, 4) or scene.things[order[0]].row == scene.things[order[1]].row:
        return None
    names = [scene.things[i].name for i in order]
    return choice("highest", "Which of these is the highest?", names, tuple(order), rng)


def next_to(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Is the red circle next to the blue square? Cells that touch, also at a corner; half of them do."""
    order, wanted = _named(scene, rng), rng.random() < 0.5
    for i, j in ((i, j) for i in order for j in order if i != j):
        one, other = scene.things[i], scene.things[j]
        if (max(abs(one.row - other.row), abs(one.column - other.column)) == 1) == wanted:
            text = f"Is the {one.name} next to the {other.name}?"
            return choice("next_to", text, ["yes", "no"] if wanted else ["no", "yes"], (i, j), rng)
    return None


def closer_to(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Which is closer to the red circle, the blue square or the white cross? By a clear difference."""
    order = _named(scene, rng)[:3]
    if len(order) < 3:
        return None
    middle, *others = order
    centers = np.array([scene.things[i].center for i in order], dtype=float)
    distances = np.linalg.norm(centers[1:] - centers[0], axis=1)
    if abs(distances[0] - distances[1]) < APART:
        return None
    near, far = others if distances[0] < distances[1] else others[::-1]
    return _either("closer_to", scene, rng, "Which is closer to the {}, the {} or the {}?", near, far, middle)


def side(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Is the red circle on the left or on the right of the blue square?"""
    order = _named(scene, rng)[:2]
    if len(order) < 2 or scene.things[order[0]].column == scene.things[order[1]].column:
        return None
    one, other = (scene.things[i] for i in order)
    right, wrong = ("left", "right") if one.column < other.column else ("right", "left")
    text = f"Is the {one.name} on the left or on the right of the {other.name}?"
    return choice("side", text, [right, wrong], tuple(order), rng)
