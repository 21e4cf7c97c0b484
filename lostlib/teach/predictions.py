"""Experiments of the exercises: small runs of the mini model, seconds each. torch is imported when one is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lostlib.teach.functions import check_attention_replacement, massive_layer, normal, rotation, sink_stream
from lostlib.teach.outcome import Outcome, Raised, Student, Unanswered

if TYPE_CHECKING:
    from lostlib.models import LostModel

MODEL, BENCHMARK, ITEMS, LAYER = "mini-llava-1.5", "mini-pope", 40, 2


class Change(NamedTuple):
    """A number before and after a change, and the 95 % interval of the difference (a point where nothing is random)."""

    what: str
    before: float
    after: float
    low: float
    high: float

    @property
    def kind(self) -> str:
        """falls, rises, or stays where the interval holds zero."""
        noise = 1e-9 * max(abs(self.before), abs(self.after))
        return "falls" if self.high < -noise else "rises" if self.low > noise else "stays"

    def __str__(self) -> str:
        text = f"{self.what} {self.before:.3g} → {self.after:.3g}"
        return text if self.low == self.high else f"{text}, change [{self.low:+.3f}, {self.high:+.3f}]"


def exactly(what: str, before: float, after: float) -> Change:
    """A change of a number that is not an estimate."""
    return Change(what, before, after, after - before, after - before)


@cache
def mini() -> LostModel:
    """The shipped model, loaded once."""
    from lostlib.models import load_model

    return load_model(MODEL)


@cache
def update() -> tuple[np.ndarray, np.ndarray]:
    """The residual stream before and after one layer's attention, for one question: (S, H) each."""
    from lostlib.benchmarks import load_benchmark
    from lostlib.models.stream import seen, watch

    model = mini()
    with watch(model, layers=[LAYER]) as stream:
        model.forward(model.encode(load_benchmark(BENCHMARK, n=1).items))
    before, after = (seen(x)[0].double().numpy() for x in (stream[LAYER].resid_pre, stream[LAYER].resid_mid))
    return before, after


def spectrum() -> dict[str, Change]:
    """What changes of a residual stream do to its effective rank."""
    from lostlib.metrics import effective_rank

    X = update()[0]
    spike = X.copy()
    spike[3, 5] = 1000 * np.abs(X).max()
    noise = normal(*X.shape)
    changed = {
        "larger": 7 * X,
        "twice": np.repeat(X, 2, axis=0),
        "spike": spike,
        "noise": X + noise * np.linalg.norm(X) / np.linalg.norm(noise),
        "average": np.tile(X.mean(0), (len(X), 1)),
    }
    before = float(effective_rank(X))
    return {name: exactly("eRank", before, float(effective_rank(Y))) for name, Y in changed.items()}


def innovation() -> dict[str, Change]:
    """What changes of attention's update do to its RID."""
    from lostlib.metrics import rid

    X, Y = update()
    delta, turn = Y - X, rotation(X.shape[1])
    noise = normal(*X.shape)
    changed = {
        "half": (X, X + delta / 2),
        "turned": (X @ turn, Y @ turn),
        "noise": (X, X + noise * np.linalg.norm(delta) / np.linalg.norm(noise)),
        "larger": (100 * X, 100 * Y),
    }
    before = float(rid(X, Y).total)
    after = {name: float(rid(A, B).total) for name, (A, B) in changed.items()}
    return {
        name: exactly("RID", before, value if abs(value - before) > 1e-6 else before) for name, value in after.items()
    }


def layers() -> dict[str, Change]:
    """What shuffling the weights on image tokens in a part of the model does to accuracy."""
    shuffled = "weights=permuted"
    runs = {
        "lower": f"sap:keys=visual,{shuffled},layers=0-2",
        "upper": f"sap:keys=visual,{shuffled},layers=3-5",
        "last": f"sap:keys=visual,queries=last,{shuffled}",
        "text": f"sap:keys=visual,queries=text,{shuffled}",
    }
    return {name: accuracy(text) for name, text in runs.items()}


def sink_value() -> dict[str, Change]:
    """What changes of a token do to its sink value."""
    import torch

    from lostlib.sinks import phi

    token = sink_stream()[1]
    elsewhere = token.copy()
    elsewhere[6] = 60.0
    changed = {"scale": 9 * token, "sign": -token, "elsewhere": elsewhere, "wider": np.append(token, np.zeros(8))}
    before = float(phi(torch.from_numpy(token), [3]))
    found = {name: float(phi(torch.from_numpy(t), [3])) for name, t in changed.items()}
    return {name: exactly("phi", before, x if abs(x - before) > 1e-4 else before) for name, x in found.items()}


def massive() -> dict[str, Change]:
    """What becomes of FFN's RID over attention's, where the FFN has made one entry of the first token massive."""
    from lostlib.metrics import rid

    def ratio(pre: np.ndarray, mid: np.ndarray, post: np.ndarray) -> float:
        return float(rid(mid, post).total / rid(pre, mid).total)

    layer, more = massive_layer(2000), massive_layer(20000)
    found = {
        "first": ratio(*(np.delete(x, 0, axis=0) for x in layer)),
        "last": ratio(*(x[:-1] for x in layer)),
        "dimension": ratio(*(np.delete(x, 7, axis=1) for x in layer)),
        "ten": ratio(*more),
    }
    before = ratio(*layer)
    same = {name: before if abs(value / before - 1) < 0.1 else value for name, value in found.items()}
    return {name: exactly("FFN / attention", before, value) for name, value in same.items()}


EXPERIMENTS: Mapping[str, tuple[str, tuple[str, ...], Callable[[], dict[str, Change]]]] = {
    "spectrum": ("Effective rank of a changed stream", ("larger", "twice", "spike", "noise", "average"), spectrum),
    "innovation": ("RID of a changed update", ("half", "turned", "noise", "larger"), innovation),
    "layers": ("Shuffled attention in a part of the model", ("lower", "upper", "last", "text"), layers),
    "massive": ("The ratio with one massive token", ("first", "last", "dimension", "ten"), massive),
    "sink-value": ("Sink value", ("scale", "sign", "elsewhere", "wider"), sink_value),
}


# ---- answers under an intervention -----------------------------------------------------------------------------------


@cache
def _marks(intervention: str) -> np.ndarray:
    from lostlib.interventions import intervene

    with intervene(mini(), intervention):
        return _right()


def _right() -> np.ndarray:
    """1 for each of the first items that the model gets right as it is now."""
    from lostlib.benchmarks import load_benchmark

    asked = load_benchmark(BENCHMARK, n=ITEMS)
    return np.array([mark.right for mark in asked.mark(asked.items, mini().answer(asked.items))], dtype=float)


def accuracy(intervention: str) -> Change:
    """Accuracy of the mini model on its first items without and with an intervention, paired."""
    return _paired(_marks(intervention))


def _paired(after: np.ndarray) -> Change:
    from lostlib import stats
    from lostlib.benchmarks import load_benchmark

    clusters = [item.cluster for item in load_benchmark(BENCHMARK, n=ITEMS).items]
    before = _marks("none")
    found = stats.difference(after, before, clusters)
    return Change("accuracy", float(before.mean()), float(after.mean()), found.low, found.high)


def try_attention_replacement(function: Any) -> Outcome:
    """Let the mini model answer with a student's own attention, see `check_attention_replacement`.

    The function is called for every layer and question, in the prompt and while answering. What it does to accuracy is
    told with its interval; that is a finding, not a mark.
    """
    checked = check_attention_replacement(function)
    if not checked:
        return checked
    try:
        change = _paired(_own_attention(Student(function)))
    except (Raised, Unanswered) as error:
        return Outcome(
            "Your own attention in the model", "failed", checked.passed, "the model can answer with it", f"{error}"
        )
    except ImportError as error:
        return Outcome(checked.title, "not here", why=f"{error.name} is not installed: pip install 'lostlib[measure]'")
    said = f"{ITEMS} questions of {BENCHMARK}: {change}, it {change.kind}"
    return Outcome("Your own attention in the model", "passed", (*checked.passed, said))


def _own_attention(student: Student) -> np.ndarray:
    import torch

    from lostlib.models.attention import Rows, Run, running

    def edit(probs: torch.Tensor, scores: torch.Tensor, rows: Rows) -> torch.Tensor:
        block = (rows.visual[:, None, None, :] & rows.visible)[:, 0].numpy()  # (B, Q, K)
        new = [student.array(w.double().numpy(), b) for w, b in zip(probs, block, strict=True)]
        if wrong := [x.shape for x in new if x.shape != probs.shape[1:]]:
            raise Raised(f"for weights of shape {tuple(probs.shape[1:])} it gave back an array of shape {wrong[0]}")
        return torch.from_numpy(np.stack(new)).to(probs.dtype)

    with running(Run(mini(), edits=[edit])):
        return _right()
