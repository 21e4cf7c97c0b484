"""Watching the residual stream: streaming, and metrics against a plain recomputation (its sums: test_families)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import lostlib
from lostlib import spectra
from lostlib.experiments import measure
from lostlib.sinks import sink_dimensions


def test_watching_changes_nothing_and_leaves_no_hook(tiny, items) -> None:
    batch = tiny.encode(items)
    before = tiny.forward(batch).logits
    hooked = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in tiny.hf.modules())
    with lostlib.watch(tiny) as stream:
        assert torch.equal(tiny.forward(batch).logits, before)
    assert stream[0].resid_pre.shape == (*batch.tensors["input_ids"].shape, 64)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in tiny.hf.modules()) == hooked


def test_streaming_visits_layers_in_order_and_keeps_none(tiny, items) -> None:
    seen = []
    with lostlib.watch(tiny, each=lambda layer, at: seen.append((layer, at.resid_post.shape))) as stream:
        tiny.forward(tiny.encode(items))
    assert [layer for layer, _ in seen] == [0, 1, 2]
    assert not stream


def test_asking_for_a_layer_that_was_not_watched(tiny, items) -> None:
    with pytest.raises(ValueError, match="layers 0-2"), lostlib.watch(tiny, layers=[3]):
        pass
    with lostlib.watch(tiny, layers=[1]) as stream:
        tiny.forward(tiny.encode(items))
    with pytest.raises(KeyError, match=r"there are \[1\]"):
        stream[0]


def test_residual_metrics_are_the_metrics_of_the_stream(tiny, items) -> None:
    rows = lostlib.residual_metrics(tiny, items, seed=1)
    assert len(rows) == len(items) * 3 * (2 + 3)
    assert list(rows["item"].drop_duplicates()) == [item.uid for item in items]
    for number in (0, 4):
        with lostlib.watch(tiny) as stream:
            tiny.forward(tiny.encode([items[number]]))
        for layer, at in stream.items():
            for module, before, after in (
                ("attn", at.resid_pre[0], at.resid_mid[0]),
                ("ffn", at.resid_mid[0], at.resid_post[0]),
            ):
                row = rows[
                    (rows["item"] == items[number].uid)
                    & (rows["layer"] == layer)
                    & (rows["module"] == module)
                    & (rows["control"] == "none")
                ].iloc[0]
                assert row["tokens"] == len(before)
                assert row["rid"] == pytest.approx(float(lostlib.rid(before, after).total), abs=1e-4)
                assert row["mixig"] == pytest.approx(float(lostlib.mixing_information_gain(before, after)), abs=1e-5)
                assert row["erank"] == pytest.approx(float(lostlib.effective_rank(after)), rel=1e-4)
                assert row["norm_ratio"] == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)
                assert row["rid"] == pytest.approx(row["delta_s"] + row["delta_d_column"] + row["delta_d_row"])


def test_what_updates_share_is_decomposed_once(tiny, items, monkeypatch) -> None:
    """Three controls: five new matrices a layer, resid_mid, resid_post, three controls, and what enters the first."""
    once, calls = spectra.Matrix.factorise, list[int]()
    monkeypatch.setattr(spectra.Matrix, "factorise", lambda self: calls.append(self.n) or once(self))
    lostlib.residual_metrics(tiny, items)
    calls = [n for n in calls if n > 1]  # of the parameters' check, a number
    assert len(calls) == len(items) * (5 * tiny.n_layers + 1)


def test_controls(tiny, items) -> None:
    """noise_delta has the true update's norm; the noise controls depend on the seed and nothing else does."""
    rows = lostlib.residual_metrics(tiny, items, seed=1)
    wide = rows[rows["module"] == "attn"].pivot(index=["item", "layer"], columns="control", values="norm_ratio")
    np.testing.assert_allclose(wide["noise_delta"], wide["none"], rtol=1e-4)
    other = lostlib.residual_metrics(tiny, items, seed=2)
    same = rows.merge(other, on=["item", "layer", "module", "control"], suffixes=("", "_other"))
    moved = same[same["rid"] != same["rid_other"]]["control"].unique()
    assert set(moved) == {"noise_delta", "noise_qkv"}


@pytest.mark.parametrize("scope", ["layer", "model"])
def test_draws_of_matrices_are_the_seeds_that_follow(tiny, items, scope) -> None:
    """Each draw is the control of its own seed to the digit, and all else is there once, as of the first."""
    asked = {"model": tiny, "items": items[:2], "scope": scope}
    rows = lostlib.residual_metrics(**asked, controls=("noise_delta", "noise_qkv"), draws=3, seed=4)
    assert set(rows.loc[rows["control"] != "noise_qkv", "draw"]) == {0}
    for draw in range(3):
        alone = lostlib.residual_metrics(**asked, controls=("noise_delta", "noise_qkv"), seed=4 + draw)
        assert "draw" not in alone
        chosen = alone if draw == 0 else alone[alone["control"] == "noise_qkv"]
        own = rows[(rows["draw"] == draw)].drop(columns="draw")
        pd.testing.assert_frame_equal(own.reset_index(drop=True), chosen.reset_index(drop=True), rtol=1e-9)
    assert rows[rows["control"] == "noise_qkv"].groupby(["item", "layer"])["rid"].nunique().min() == 3


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"draws": 0}, "draws must be a whole number of at least 1, got 0"),
        ({"draws": 2, "controls": ["no_rope"]}, r"draws=2 are of noise_qkv, .* not among the controls \['no_rope'\]"),
    ],
)
def test_draws_of_nothing_are_refused(given, problem) -> None:
    with pytest.raises(ValueError, match=problem):
        measure.check_parameters("residual", given)


def test_scope_layer_agrees_with_an_intervention_on_that_layer_alone(tiny, items) -> None:
    """noise_qkv and no_rope on one layer of the running model write the same update as the control of that layer."""
    rows = lostlib.residual_metrics(tiny, items[:1], controls=("noise_qkv", "no_rope"), seed=5)
    batch = tiny.encode(items[:1])
    with lostlib.watch(tiny) as true:
        tiny.forward(batch)
    for name in ("noise_qkv", "no_rope"):
        with lostlib.watch(tiny) as stream, lostlib.intervene(tiny, f"{name}:layers=1", seed=5):
            tiny.forward(batch)
        before, after = (
            (stream[1].resid_pre, stream[1].resid_mid)
            if name == "noise_qkv"
            else (stream[1].resid_mid, true[1].resid_mid)
        )
        row = rows[(rows["layer"] == 1) & (rows["control"] == name)].iloc[0]
        assert row["rid"] == pytest.approx(float(lostlib.rid(before[0], after[0]).total), abs=1e-4)


def test_scope_model_propagates(tiny, items) -> None:
    """In the first layer both scopes agree (frobenius apart, which must not look ahead); later noise has propagated."""
    controls = ("noise_delta:scale=token", "noise_qkv", "no_rope")
    layer, model = (lostlib.residual_metrics(tiny, items[:2], controls=controls, scope=s) for s in ("layer", "model"))
    both = layer.merge(model, on=["item", "layer", "module", "control"], suffixes=("", "_model"))
    assert len(both) == len(layer) == len(model)
    apart = (both["rid"] - both["rid_model"]).abs()
    assert apart[(both["layer"] == 0) | (both["control"] == "none")].max() < 1e-5
    assert apart[(both["layer"] == 2) & (both["control"] != "none")].min() > 1e-4


def plainly(before: torch.Tensor, after: torch.Tensor) -> tuple[float, float]:
    return float(lostlib.rid(before, after).total), float(lostlib.mixing_information_gain(before, after))


@pytest.mark.parametrize("without", ["dimensions", "tokens"])
def test_what_massive_activations_reach_is_left_out(without: str) -> None:
    """Against a plain recomputation on what is left, in a model that has them; the model itself runs as ever."""
    model = lostlib.load_model("mini-llava-1.5-sinks")
    asked = [*lostlib.load_benchmark("mini-pope", n=1).items, *lostlib.load_benchmark("mini-mathvista", n=1).items]
    rows = lostlib.residual_metrics(model, asked, controls=("noise_delta",), without=without)
    massive = list(sink_dimensions(model))
    dims = [d for d in range(128) if d not in massive]
    for item in asked:
        with lostlib.watch(model) as stream:
            model.forward(model.encode([item]))
        for layer, at in stream.items():
            pre, mid, post = (x[0].double() for x in (at.resid_pre, at.resid_mid, at.resid_post))
            shares = [x[:, massive].square().amax(1) / x.square().sum(1) for x in (pre, post)]
            chosen = (shares[0] < 0.1) & (shares[1] < 0.1)
            if without == "tokens":
                pre, mid, post = pre[chosen], mid[chosen], post[chosen]
            else:
                pre, mid, post = pre[:, dims], mid[:, dims], post[:, dims]
            own = rows[(rows["item"] == item.uid) & (rows["layer"] == layer)].set_index(["module", "control"])
            assert (own["tokens"] == len(pre)).all()
            for module, pair in (("attn", (pre, mid)), ("ffn", (mid, post))):
                assert tuple(own.loc[(module, "none"), ["rid", "mixig"]]) == pytest.approx(plainly(*pair), abs=1e-4)
    everything = lostlib.residual_metrics(model, asked, controls=())
    fewer = rows["tokens"].min() < everything["tokens"].min()
    assert fewer == (without == "tokens")


def test_unknown_control(tiny, items) -> None:
    with pytest.raises(ValueError, match="did you mean 'noise_delta'"):
        lostlib.residual_metrics(tiny, items, controls=("noise_dleta",))
