"""Null models and spans: they agree with the single steps they extend, and with the stream itself."""

from __future__ import annotations

import pytest

import lostlib
from lostlib import metrics
from lostlib.experiments.nulls import null_metrics
from lostlib.experiments.spans import span_metrics

METRICS = ["rid", "delta_s", "delta_d_column", "delta_d_row", "mixig", "tme", "erank", "norm_ratio", "tokens"]


@pytest.fixture(scope="module")
def model():
    return lostlib.load_model("mini-llava-1.5")


@pytest.fixture(scope="module")
def items():
    return lostlib.load_benchmark("mini-mathvista", n=5).items  # prompts of several lengths


@pytest.fixture(scope="module")
def nulls(model, items):
    return null_metrics(model, items, seed=3)


def of(frame, **wanted):
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame.reset_index(drop=True)


def test_the_true_rows_are_those_of_residual_metrics(model, items, nulls) -> None:
    steps = lostlib.residual_metrics(model, items, controls=())
    for module in ("attn", "ffn"):
        ours, theirs = of(nulls, module=module, control="none"), of(steps, module=module)
        assert list(ours["item"]) == list(theirs["item"])
        assert abs(ours[METRICS] - theirs[METRICS]).to_numpy().max() < 1e-5  # x + dx against the model's own float32


def test_null_updates_have_the_size_of_the_true_one_and_another_effect(nulls) -> None:
    for module in ("attn", "ffn"):
        true = of(nulls, module=module, control="none")
        for control in ("gaussian", "shuffled"):
            null = of(nulls, module=module, control=control)
            assert abs(null["norm_ratio"] / true["norm_ratio"] - 1).max() < 1e-6
            assert (abs(null["rid"] - true["rid"]) > 1e-6).all()


def test_null_models_depend_on_seed_and_item_not_on_the_batch(model, items, nulls) -> None:
    alone = null_metrics(model, items[2:3], seed=3, batch_size=1)
    same = of(nulls, item=items[2].uid)
    assert abs(alone[METRICS] - same[METRICS]).to_numpy().max() < 1e-5
    other = null_metrics(model, items[2:3], seed=4)
    for control, differ in (("none", False), ("gaussian", True), ("shuffled", True)):
        change = abs(of(other, control=control)["rid"] - of(same, control=control)["rid"])
        assert (change > 1e-7).all() == differ


def test_a_span_is_the_stream_after_it_and_a_step_is_the_step(model, items) -> None:
    spans = span_metrics(model, items[:2])
    last = model.n_layers - 1
    assert len(spans) == 2 * 3 * model.n_layers * (model.n_layers + 1) // 2
    batch = model.encode(items[:2])
    with lostlib.watch(model) as stream:
        model.forward(batch)
    for first, end in ((0, last), (1, 3)):
        for i, item in enumerate(items[:2]):
            real = batch.real[i]
            wanted = metrics.rid(stream[first].resid_pre[i][real], stream[end].resid_post[i][real]).total
            row = of(spans, item=item.uid, first=first, last=end, module="both")
            assert row["rid"].item() == pytest.approx(float(wanted), abs=1e-5)
    steps = of(lostlib.residual_metrics(model, items[:2], controls=()), module="attn")
    single = of(spans[spans["first"] == spans["last"]], module="attn").sort_values(["item", "first"])
    assert abs(single["rid"].to_numpy() - steps.sort_values(["item", "layer"])["rid"].to_numpy()).max() < 1e-5


def test_blocks_bound_the_spans(model, items) -> None:
    spans = span_metrics(model, items[:1], blocks=2)
    half = model.n_layers // 2
    assert set(zip(spans["first"], spans["last"], strict=True)) == {
        (0, half - 1), (0, model.n_layers - 1), (half, model.n_layers - 1),
    }  # fmt: skip
    with pytest.raises(ValueError, match="blocks must be"):
        span_metrics(model, items[:1], blocks=0)
