"""Instant checks: right answers pass, each wrong one is told what it breaks, nothing a student does raises."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lostlib import teach
from lostlib.teach.predictions import EXPERIMENTS, Change
from lostlib.teach.questions import READINGS


def erank(X):
    p = np.linalg.svd(X, compute_uv=False)
    p = p[p > 0] / p.sum()
    return np.exp(-(p * np.log(p)).sum())


def squared_erank(X):
    p = np.linalg.svd(X, compute_uv=False) ** 2
    p = p[p > 0] / p.sum()
    return np.exp(-(p * np.log(p)).sum())


def participation(X):
    energy = np.linalg.svd(X, compute_uv=False) ** 2
    return energy.sum() ** 2 / (energy**2).sum()


def noise(update, seed):
    drawn = np.random.default_rng(seed).normal(size=update.shape)
    return drawn * np.linalg.norm(update) / np.linalg.norm(drawn)


def rid(X, Y):
    u, s, vt = np.linalg.svd(X, full_matrices=False)
    r = int((s > max(X.shape) * np.finfo(float).eps * s[0]).sum())
    column, row = Y - u[:, :r] @ u[:, :r].T @ Y, Y - Y @ vt[:r].T @ vt[:r]
    size = 2 * np.linalg.norm(Y)
    return abs(erank(Y) - erank(X)) / min(X.shape), np.linalg.norm(column) / size, np.linalg.norm(row) / size


def tme(X):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    p = np.maximum(unit @ unit.T + 1, 0)
    p = p / p.sum(1, keepdims=True)
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(1).mean()


def uniform(weights, block):
    mass = (weights * block).sum(-1, keepdims=True)
    even = block / np.maximum(block.sum(-1, keepdims=True), 1)
    return np.where(block, mass * even, weights)


def sink_tokens(hidden, dims, tau):
    return np.abs(hidden[:, dims]).max(1) / np.sqrt((hidden**2).mean(1)) >= tau


def move(row, sinks, visual, p):
    receivers = visual & ~sinks
    return np.where(sinks, (1 - p) * row, row + p * row[sinks].sum() * row * receivers / row[receivers].sum())


def in_place(weights, block):
    weights[:, block] = 0.5
    return weights


CASES = [
    (teach.check_effective_rank, erank, (1, 2)),
    (teach.check_participation_ratio, participation, (1, 2)),
    (teach.check_noise_update, noise, (1, 2)),
    (teach.check_rid, rid, (1, 2)),
    (teach.check_token_mixing_entropy, tme, (1, 2)),
    (teach.check_attention_replacement, uniform, (1, 2)),
    (teach.check_sink_tokens, sink_tokens, (1, 2)),
    (teach.check_redistribution, move, (1, 2)),
]
IDS = [case[0].__name__ for case in CASES]


@pytest.mark.parametrize(("check", "right", "_"), CASES, ids=IDS)
def test_a_right_function_passes(check, right, _):
    outcome = check(right)
    assert outcome, str(outcome)
    assert len(outcome.passed) >= 7


@pytest.mark.parametrize(("check", "right", "_"), CASES, ids=IDS)
def test_an_empty_cell_is_not_yet(check, right, _):
    def raising(*_):
        raise NotImplementedError

    for empty in (..., None, lambda *_: None, lambda *_: ..., raising):
        outcome = check(empty)
        assert outcome.state == "not yet"
        assert not outcome.passed


@pytest.mark.parametrize(("check", "right", "_"), CASES, ids=IDS)
@pytest.mark.parametrize(
    "broken",
    [
        lambda *_: 1 / 0,
        lambda *_: "text",
        lambda *_: [[1], [2, 3]],
        lambda *_: np.full((2, 3, 4), np.nan),
        lambda *_: float("nan"),
        lambda: 1,
        7,
        "erank",
    ],
    ids=["raises", "text", "ragged", "nan array", "nan", "no arguments", "number", "name"],
)
def test_nothing_a_student_does_raises(check, right, _, broken):
    outcome = check(broken)
    assert outcome.state == "failed"
    assert outcome.why
    assert outcome.failed in str(outcome)


@pytest.mark.parametrize(
    ("check", "wrong", "failed"),
    [
        (teach.check_effective_rank, squared_erank, "it is eRank: flat spectra count more than steep ones"),
        (teach.check_effective_rank, np.linalg.matrix_rank, "it is eRank: flat spectra count more than steep ones"),
        (teach.check_effective_rank, lambda X: np.linalg.norm(X), "a matrix of rank one uses one direction"),
        (teach.check_participation_ratio, erank, "it weighs a direction by its energy, the squared singular value"),
        (teach.check_noise_update, lambda u, s: u, "another seed gives other noise"),
        (
            teach.check_noise_update,
            lambda u, s: np.sign(noise(u, s)) * np.linalg.norm(u) / u.size**0.5,
            "it is Gaussian: neither flat nor of equal sizes",
        ),
        (teach.check_noise_update, lambda u, s: noise(u, s) + 0.5 * u, "it has the update's Frobenius norm"),
        (teach.check_rid, lambda X, Y: (rid(X, Y)[0], *rid(X.T, Y.T)[1:]), None),
        (teach.check_rid, lambda X, Y: rid(Y, X), None),
        (teach.check_token_mixing_entropy, lambda X: tme(X) / np.log(2), None),
        (teach.check_token_mixing_entropy, lambda X: np.log(len(X)), None),
        (teach.check_attention_replacement, lambda w, b: w, "inside the block something else stands there"),
        (teach.check_attention_replacement, lambda w, b: np.where(b, 0.0, w), "every row still sums to one"),
        (
            teach.check_attention_replacement,
            lambda w, b: np.full_like(w, 1 / w.shape[-1]),
            "no row looks ahead: causal zeros stay zero",
        ),
        (teach.check_attention_replacement, in_place, "every row still sums to one"),
        (teach.check_sink_tokens, lambda h, d, t: h[:, d[0]] > t, "the planted sinks are found, and no other"),
        (teach.check_sink_tokens, lambda h, d, t: np.abs(h[:, d]).max(1) > 10 * t, None),
        (teach.check_redistribution, lambda r, s, v, p: move(r, s, v, 1 - p), "with p = 0 nothing moves"),
        (
            teach.check_redistribution,
            lambda r, s, v, p: np.where(s, (1 - p) * r, r) / np.where(s, (1 - p) * r, r).sum(),
            "sinks keep 1 − p of their weight, text sinks too",
        ),
    ],
)  # fmt: skip
def test_a_wrong_function_is_told_what_it_breaks(check, wrong, failed):
    outcome = check(wrong)
    assert outcome.state == "failed"
    assert failed is None or outcome.failed == failed, str(outcome)
    assert outcome.example


def test_a_failure_shows_its_input_and_the_students_line():
    def mine(X):
        return X.nothing

    outcome = teach.check_effective_rank(mine)
    assert "AttributeError" in outcome.why
    assert "return X.nothing" in outcome.why
    assert "X = \n[[" in outcome.why
    assert outcome.example[0].shape == (4, 6)
    page = outcome._repr_html_()
    assert "not quite" in page
    assert "/tests/" not in page


def test_what_a_student_says_is_escaped():
    def mine(X):
        raise ValueError("<script>")

    assert "<script>" not in teach.check_effective_rank(mine)._repr_html_()


def test_the_students_input_is_a_copy():
    def spoils(X):
        value = erank(X)
        X[:] = 0
        return value

    assert teach.check_effective_rank(spoils)


PROFILE = pd.DataFrame({"site": [0, 0.5, 1, 1.5, 2], "mean": [2, 4, 4.5, 6, 6.5], "tokens": 70})
WHERE = pd.DataFrame(
    {
        "layer": ["0", "1", "2", "0", "1", "2"],
        "kind": ["this layer alone"] * 3 + ["this layer and all above"] * 3,
        "high": [0, 0, 0, -0.3, -0.1, 0.0],
    }
)
NULLS = pd.DataFrame(
    [
        ("rid", "attn", "none", 0.1),
        ("rid", "attn", "gaussian", 0.3),
        ("rid", "attn", "shuffled", 0.15),
        ("rid", "ffn", "shuffled", 0.9),
        ("mixig", "attn", "gaussian", 0.1),
    ],
    columns=["value", "module", "control", "mean"],
)
SPANS = pd.DataFrame(
    [("both", 0, 0, 0.1), ("both", 0, 1, 0.9), ("both", 1, 1, 0.2), ("attn", 0, 0, 0.8)],
    columns=["module", "first", "last", "mean"],
)
KNOWN = pd.DataFrame(
    [
        ("one", "how many", "a single token", 0.6),
        ("one", "how many", "the mean token", 0.9),
        ("one", "whether", "a single token", 0.95),
        ("other", "how many", "a single token", 1.0),
    ],
    columns=["tower", "question", "read from", "value"],
)
DATA = {
    "raises-effective-rank": (PROFILE, "attention"),
    "share-of-directions": (PROFILE, "less than a fifth"),
    "largest-part": (pd.Series({"delta_s": 0.3, "delta_d_row": 0.1}), "delta_s"),
    "always-zero": (None, "delta_d_row"),
    "no-cost-from-layer": (WHERE, "2"),
    "what-follows": (None, "b"),
    "which-run-tells": (None, "permuted"),
    "smallest-hidden-size": (None, 400),
    "harder-rival": (NULLS, "shuffled"),
    "largest-step": (SPANS, "1"),
    "together-and-apart": (None, "smaller"),
    "products-left": (None, 10),
    "where-the-count-is": (KNOWN, "the mean token"),
    "lost-in-the-mean": (None, "where"),
    "diluted": (None, 15),
    "what-would-refute": (None, "b"),
    "false-alarms": (pd.Series([0.01] * 40 + [None] * 9), 2),
    "at-chance": (None, "not measurable"),
    "sign-without-size": (pd.DataFrame({"sign": ["yes", "yes", "no"], "size": ["no", "yes", "no"]}), 1),
    "wide-interval": (None, "undecided"),
    "most-flips": (pd.DataFrame({"family": ["noise", "rank rule", "prompt"], "flipped": [0, 4, 2]}), "rank rule"),
    "turned-by-a-unit": (None, "none"),
    "wrong-baseline": (None, 1),
    "half-the-width": (None, 200),
    "all-paths": (None, 128),
}


@pytest.mark.parametrize("question", READINGS)
def test_readings(question):
    data, right = DATA[question]
    assert teach.check_reading(question, ..., data).state == "not yet"
    assert teach.check_reading(question, right, data)
    wrong = teach.check_reading(question, "free-form", data)
    assert wrong.state == "failed"
    options = READINGS[question].options
    options = options(data) if callable(options) else options
    for option in set(options) - {right}:
        told = teach.check_reading(question, option, data)
        assert told.state == "failed"
        assert READINGS[question].why not in str(told)


def test_an_unknown_question_is_an_authors_error():
    with pytest.raises(ValueError, match="'always-zero'"):
        teach.check_reading("always-zer", 1)
    with pytest.raises(ValueError, match="'layers'"):
        teach.check_predictions("layer", {})


def test_predictions_are_wanted_in_full_and_in_words():
    assert "elsewhere" in str(teach.check_predictions("sink-value", {"scale": "stays", "sign": "stays"}))
    all_wrong = dict.fromkeys(("scale", "sign", "elsewhere", "wider"), "grows")
    assert "no prediction" in teach.check_predictions("sink-value", all_wrong).failed


def test_predictions_meet_what_happens():
    right = {"scale": "stays", "sign": "stays", "elsewhere": "falls", "wider": "rises"}
    assert teach.check_predictions("sink-value", right)
    wrong = teach.check_predictions("sink-value", right | {"wider": "falls"})
    assert wrong.state == "failed"
    assert len(wrong.passed) == 3
    assert "you said falls, it rises" in wrong.failed


def test_each_failed_prediction_has_a_line():
    wrong = teach.check_predictions("sink-value", dict.fromkeys(("scale", "sign", "elsewhere", "wider"), "stays"))
    crossed = [line.strip() for line in str(wrong).splitlines() if line.startswith("  ✗")]
    assert [line.split(":")[0] for line in crossed] == ["✗ elsewhere", "✗ wider"]
    assert wrong._repr_html_().count("<li><b>✗") == 2


def test_a_change_stays_when_its_interval_holds_zero():
    kinds = [Change("x", 1, 1, low, high).kind for low, high in ((-0.2, 0.1), (0, 0.1), (-0.2, -0.1), (0.1, 0.2))]
    assert kinds == ["stays", "stays", "falls", "rises"]


def test_without_torch_checks_say_so():
    changes = ("scale", "sign", "elsewhere", "wider")
    script = (
        "import sys; sys.modules['torch'] = None; from lostlib import teach\n"
        "print(teach.check_effective_rank(lambda X: 1.0).state, teach.check_reading('what-follows', 'b').state,\n"
        f"      teach.check_predictions('sink-value', dict.fromkeys({changes}, 'stays')).state,\n"
        "      teach.try_attention_replacement(lambda w, b: w).state)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[0] == "not here passed not here failed", done.stderr


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_finds_what_it_asks_for(name):
    _, changes, run = EXPERIMENTS[name]
    assert tuple(run()) == changes


def test_a_students_own_attention_answers():
    outcome = teach.try_attention_replacement(uniform)
    assert outcome, str(outcome)
    assert "40 questions of mini-pope" in outcome.passed[-1]
    assert "it falls" in outcome.passed[-1]
    assert teach.try_attention_replacement(...).state == "not yet"


def test_a_rule_that_only_works_on_small_matrices_is_told_so():
    def brittle(weights, block):
        if weights.shape[-1] > 20:
            raise IndexError("only small ones")
        return uniform(weights, block)

    outcome = teach.try_attention_replacement(brittle)
    assert outcome.state == "failed"
    assert "only small ones" in outcome.why
    wrong_shape = teach.try_attention_replacement(lambda w, b: uniform(w, b)[..., :20])
    assert "it gave back an array of shape" in wrong_shape.why


@pytest.mark.parametrize("answer", [[1], {}, np.ones(3), len, np.float64(3), "x"], ids=repr)
def test_no_answer_raises(answer):
    assert teach.check_reading("always-zero", answer).state == "failed"
    assert teach.check_reading("smallest-hidden-size", answer).state == "failed"
    assert teach.check_predictions("sink-value", answer).state in ("failed", "not yet")
    changes = ("scale", "sign", "elsewhere", "wider")
    assert teach.check_predictions("sink-value", dict.fromkeys(changes, answer)).state == "failed"
    assert teach.check_predictions("sink-value", ...).state == "not yet"
