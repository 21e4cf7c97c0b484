"""Linear probes of visual tokens: how much of the answer does a single one carry?

Attention can only matter where it looks if there is something to choose. Where every visual token tells the whole
scene, any mixture of them does; where each tells its own patch only, the right one must be found. So each visual token,
as the language model gets it, is asked the benchmark's questions by linear probes that were fitted on other scenes.
Beside the single tokens stands their mean: what attention with uniform weights would hand on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from lostlib.benchmarks.items import Item
from lostlib.experiments.rows import gather
from lostlib.miniworld.questions import LOOKS, plural
from lostlib.miniworld.render import render
from lostlib.miniworld.scenes import COLORS, MAX_OBJECTS, SHAPES, TOKENS, Scene, Thing, generator, sample_scene
from lostlib.models import LostModel
from lostlib.models.stream import seen, watch

STREAM = 77  # of train scenes that no mini model was trained on
RIDGES = (1e-4, 1e-2, 1.0)  # of standardised features, a share of the number of scenes
FITTED = 0.8  # of the probe's scenes; the others choose the ridge
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}

NAMED: dict[str, Callable[[Thing], bool]] = {  # how questions refer to objects
    **{f"{c} {s}": lambda t, c=c, s=s: (t.color, t.shape) == (c, s) for c, s in LOOKS},  # type: ignore[misc]
    **{f"{c} object": lambda t, c=c: t.color == c for c in COLORS},  # type: ignore[misc]
    **{s: lambda t, s=s: t.shape == s for s in SHAPES},  # type: ignore[misc]
}
COUNTED = {
    "objects": lambda thing: True,
    **{plural("color", c): NAMED[f"{c} object"] for c in COLORS},
    **{plural("shape", s): NAMED[s] for s in SHAPES},
}


@dataclass(frozen=True)
class Asked:
    """What a question wants to know of the scene: facts, and how they become an answer."""

    facts: tuple[str, ...]  #: names of facts, see `facts_of`
    answer: Callable[[Sequence[float]], str]  #: from values of these facts to the answer


def asked(item: Item) -> Asked | None:
    """What an item wants to know; None where that is no question about one scene.

    >>> from lostlib import load_benchmark
    >>> question = asked(load_benchmark("mini-pope", n=1).items[0])
    >>> question.facts, question.answer([0.8])
    (('there: green square',), 'yes')
    """
    text = item.prompt
    if found := re.match(r"Is there an? (.+) in the image\?", text):
        return Asked((f"there: {found[1]}",), lambda values: "yes" if values[0] > 0.5 else "no")
    if found := re.match(r"How many (.+) are there(?: plus (\d+))?\?", text):
        plus = int(found[2] or 0)
        return Asked((f"count: {found[1]}",), lambda v: str(min(max(round(v[0]), 0), MAX_OBJECTS) + plus))
    if (found := re.match(r"Where is the (.+) relative to the (.+)\?", text)) and item.options:
        options = dict(item.options)

        def nearest(values: Sequence[float]) -> str:
            across, along = values[0] - values[1], values[2] - values[3]
            score = {a: across * DIRECTIONS[d][0] + along * DIRECTIONS[d][1] for a, d in options.items()}
            return max(score, key=lambda letter: score[letter])

        return Asked((*(f"column: {n}" for n in found.groups()), *(f"row: {n}" for n in found.groups())), nearest)
    return None


def facts_of(scenes: Sequence[Scene]) -> Callable[[str], np.ndarray]:
    """Fact -> its value in each scene, NaN where the scene has none.

    ``there: red circle`` is 1 or 0, ``count: circles`` a number, ``column: red object`` and ``row: …`` the place (from
    0) of the only object that is called so.
    """

    def place(thing: list[Thing], axis: str) -> float:
        return float(getattr(thing[0], axis)) if len(thing) == 1 else float("nan")

    def values(fact: str) -> np.ndarray:
        kind, name = fact.split(": ")
        meant = COUNTED[name] if kind == "count" else NAMED[name]
        found = [[thing for thing in scene.things if meant(thing)] for scene in scenes]
        if kind in ("column", "row"):
            return np.array([place(things, kind) for things in found])
        return np.array([float(bool(things) if kind == "there" else len(things)) for things in found])

    return values


def probe_rows(
    model: LostModel, items: Sequence[Item], scenes: int = 3000, batch_size: int = 64, work: Path | None = None
) -> pd.DataFrame:
    """Which questions each visual token can answer on its own, through linear probes.

    A probe of a fact is a ridge regression on the visual tokens at one place of the picture, as they enter the first
    decoder layer; its penalty is chosen on scenes that it was not fitted to. Whether something is there is fitted to
    as many scenes with it as without. The facts are turned into the item's answer: yes if over one half, the next whole
    number, the option in whose direction the two places differ most.

    Parameters
    ----------
    model : LostModel
        With one visual token for each patch of the mini world's pictures.
    items : sequence of Item
        Of mini-pope, mini-realworldqa or mini-mathvista; others, sums and charts have no rows.
    scenes : int
        To fit to, from the split that models are trained on, in a stream of their own.

    Returns
    -------
    pandas.DataFrame
        One row an item and token: item, cluster, token (place in raster order; -1: the mean of all tokens), right
        (bool), relevant (bool: is the token one that decides the answer).
    """
    wanted = {item.uid: question for item in items if len(item.images) == 1 and (question := asked(item))}
    if not wanted:
        raise ValueError("no item asks for a fact that probes know: whether, how many, or where, in one picture")
    chosen = [item for item in items if item.uid in wanted]
    facts = {fact for question in wanted.values() for fact in question.facts}
    read = _fitted(model, facts, scenes, batch_size)

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        values, rows = read(_visual_tokens(model, part)), []
        for i, item in enumerate(part):
            question = wanted[item.uid]
            known = np.stack([values[fact][i] for fact in question.facts], axis=-1)  # (tokens + 1, facts)
            for token, one in enumerate(known, start=-1):
                right = question.answer(one.tolist()) == item.answer
                rows.append((item.uid, token, right, token in (item.relevant or ())))
        return pd.DataFrame(rows, columns=["item", "token", "right", "relevant"])

    return gather(chosen, measured, batch_size, f"probes of {model.name}", work)


def _posed(scenes: Iterable[Scene]) -> list[Item]:
    """Scenes as items; what is asked comes after the picture, so that its tokens do not know."""
    return [Item(str(i), (render(scene),), "Describe", "", "open") for i, scene in enumerate(scenes)]


def _visual_tokens(model: LostModel, items: Sequence[Item]) -> Tensor:
    """(items, 1 + visual tokens, H) float32: the visual tokens as they enter the first layer, after their mean."""
    batch = model.encode(items)
    if not (batch.visual.sum(1) == TOKENS).all():
        raise ValueError(f"{model.name} has not one visual token for each of {TOKENS} patches; probes need that")
    with watch(model, layers=[0]) as stream:
        model.forward(batch)
    tokens = seen(stream[0].resid_pre)[batch.visual].unflatten(0, (len(items), TOKENS)).float()
    return torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1).cpu()


Reader = Callable[[Tensor], dict[str, np.ndarray]]  # tokens (items, tokens + 1, H) -> fact -> (items, tokens + 1)


def _fitted(model: LostModel, facts: Iterable[str], scenes: int, batch_size: int) -> Reader:
    """Probes fitted to so many scenes of the training world."""
    drawn = [sample_scene("train", generator("train", STREAM, i), least=2) for i in range(scenes)]
    starts = tqdm(range(0, scenes, batch_size), desc=f"scenes for the probes of {model.name}", disable=None)
    posed = _posed(drawn)
    told = torch.cat([_visual_tokens(model, posed[start : start + batch_size]) for start in starts])
    return _fit(told, facts_of(drawn), facts)


def _fit(told: Tensor, values: Callable[[str], np.ndarray], facts: Iterable[str]) -> Reader:
    """Probes fitted to tokens that were `told` and to the facts' `values`."""
    mean, scale = told.mean(0), told.std(0) + 1e-6

    def scaled(tokens: Tensor) -> Tensor:
        return torch.cat([(tokens - mean) / scale, torch.ones(*tokens.shape[:2], 1)], dim=-1)

    told, weights = scaled(told), {}
    for fact in sorted(facts):
        y = torch.from_numpy(values(fact)).float()
        at = _balanced(y) if fact.startswith("there") else y.isfinite().nonzero()[:, 0]
        weights[fact] = _ridge(told[at].transpose(0, 1), y[at])  # (tokens + 1, H + 1)
    return lambda tokens: {fact: torch.einsum("ith,th->it", scaled(tokens), w).numpy() for fact, w in weights.items()}


def _balanced(y: Tensor) -> Tensor:
    """Indices of as many scenes with 1 as with 0, in the scenes' order."""
    yes, no = y.nonzero()[:, 0], (y == 0).nonzero()[:, 0]
    count = min(len(yes), len(no))
    return torch.cat([yes[:count], no[:count]]).sort().values


def _ridge(x: Tensor, y: Tensor) -> Tensor:
    """(tokens, H) weights of ridge regressions of y (N,) on each token's x (tokens, N, H), the best of `RIDGES`."""
    cut = int(FITTED * len(y))
    if cut < 2 or cut == len(y):
        raise ValueError(f"{len(y)} scenes show what a probe is to tell: too few, ask for more scenes")
    fitted, kept = x[:, :cut], x[:, cut:]
    gram, target = fitted.mT @ fitted, fitted.mT @ y[:cut]
    tried = [torch.linalg.solve(gram + r * cut * torch.eye(x.shape[-1]), target) for r in RIDGES]
    errors = torch.stack([(torch.einsum("tnh,th->tn", kept, w) - y[cut:]).square().mean(1) for w in tried])
    return torch.stack(tried)[errors.argmin(0), torch.arange(len(x))]
