"""The chapter on a pretrained language model: its estimates on rows with known answers, its figures as drawn."""

from __future__ import annotations

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lostlib.report import pretrained

LAYERS, ITEMS = 10, 6


def rows(peaks: dict[int, float], ffn: float = 0.2, attention: float = 0.1, tolerance: float = 0.05) -> pd.DataFrame:
    """Residual rows of some items: flat, but for the FFN in the layers of `peaks`; longer items have larger values."""
    made = []
    for item, layer in product(range(ITEMS), range(LAYERS)):
        for kind, rid in (("FFN", peaks.get(layer, ffn)), ("attention", attention), ("ε(RoPE)", tolerance)):
            rank = 20.0 + layer
            about = {"item": f"i{item}", "cluster": f"i{item}", "layer": layer, "kind": kind, "tokens": 10 * (item + 1)}
            made.append(about | {"rid": rid * (1 + item / 10), "erank_before": rank, "erank": rank + 1})
    return pd.DataFrame(made)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_layers_that_lead_are_those_far_above_attention():
    found = rows({3: 0.9, 8: 0.5, 9: 0.6})
    assert pretrained.leading(found) == [3, 9, 8]
    both = found.assign(rid=found["rid"].where(found["layer"] != 0, 5.0))  # large in both modules is no lead
    assert pretrained.leading(both, 1) == [3]
    share = pretrained.share_of_lead(found, [3, 9, 8])
    assert share.value == pytest.approx((0.8 + 0.5 + 0.4) / (0.8 + 0.5 + 0.4 + 7 * 0.1))
    assert pretrained.share_of_lead(found, range(LAYERS)).value == pytest.approx(1)


def test_layers_are_chosen_on_items_that_are_not_reported():
    chosen, reported = pretrained.halves(rows({}))
    assert set(chosen["item"]) == {"i1", "i3", "i5"}
    assert set(reported["item"]) == {"i0", "i2", "i4"}
    one = rows({})[lambda frame: frame["item"] == "i0"]
    assert all(set(half["item"]) == {"i0"} for half in pretrained.halves(one))


def test_ratios_and_their_paired_change():
    whole, without = rows({3: 0.9}), rows({})
    assert pretrained.ratio(whole).value == pytest.approx((0.9 + 9 * 0.2) / 10 / 0.1)
    assert pretrained.ratio(whole, pretrained.ATTENTION, pretrained.TOLERANCE).value == pytest.approx(2)
    change = pretrained.change_of_ratio(whole, without)
    assert change.value == pytest.approx(-0.7)
    assert change.high < 0
    found = pretrained.decoupling({"all": whole, "less": without}).set_index(["part", "ratio"])["mean"]
    assert found["less", "FFN / attention"] == pytest.approx(2)
    assert found["all", "attention / ε(RoPE)"] == pytest.approx(2)


def test_texts_of_about_one_length_are_put_together():
    parts = pretrained.by_length(rows({}), groups=3)
    assert list(parts) == ["10 to 20 tokens", "30 to 40 tokens", "50 to 60 tokens"]
    assert set(parts["30 to 40 tokens"]["item"]) == {"i2", "i3"}
    assert list(pretrained.by_length(rows({})[lambda frame: frame["item"] == "i4"])) == ["50 tokens"]


def test_the_answer_follows_the_intervals():
    high, flat, even = rows({3: 0.9, 9: 0.6}), rows({}), rows({}, ffn=0.1)
    said = pretrained.answer(high, flat, [3, 9], "this model")
    assert "3.1 times that of attention, well above, as in the paper" in said
    assert "layers 3 and 9 hold" in said
    assert "falls to 2.0" in said
    assert len([part for part in said.split(". ") if part]) == 3
    assert "rises to 3.1" in pretrained.answer(flat, high, [3], "m")
    said = pretrained.answer(even, even, [3], "m")
    assert "not what the paper reports" in said
    assert "layer 3 hold" in said
    assert "may be the same" in said


@pytest.mark.parametrize(
    ("named", "count", "layers"),
    [([11, 29, 28], 30, range(12, 28)), ([11], 30, range(12, 30)), ([4, 5], 6, range(6)), ([5, 2], 6, range(6))],
)
def test_quiet_layers_lie_between_those_that_lead(named, count, layers):
    assert pretrained.quiet(named, count) == layers


def test_sets_of_layers_grow_from_several_ends():
    found = pretrained.sets_of_layers(30, range(12, 28)).set_index(["where", "number"])["layers"]
    assert found["the first", 2] == "0+1"
    assert found["the last", 8] == "22-29"
    assert found["from layer 12", 4] == "12-15"
    assert found["up to layer 27", 8] == "20-27"
    few = pretrained.sets_of_layers(6, range(6))
    assert set(few["layers"]) == {"0+1", "0-3", "4+5", "2-5"}


def test_losses_of_each_set_of_layers_are_paired_with_the_untouched_ones():
    untouched = pd.DataFrame({"item": list("abc"), "cluster": list("abc"), "loss": [1.0, 2.0, 9.0]})
    changed = pd.DataFrame({"item": list("abab"), "layers": ["4", "4", "0+1", "0+1"], "loss": [1.5, 2.5, 4.0, 4.0]})
    found = pretrained.loss_by_set(changed.assign(cluster=changed["item"]), untouched)
    assert list(found["layers"]) == ["4", "0+1"]
    assert list(found["mean"]) == pytest.approx([0.5, 2.5])
    assert list(found["low"]) == pytest.approx([0.5, 2.0])


def test_writers_are_sorted_and_those_elsewhere_do_not_count():
    about = {"layer": 2, "token": 0, "dimension": 7, "after": 900.0}
    made = [
        {"item": item, "cluster": item, "neuron": neuron, "contribution": value, **about}
        for item, values in (("a", {5: 600.0, 1: 200.0, -1: 99.0}), ("b", {5: 500.0, 9: -300.0, -1: 700.0}))
        for neuron, value in values.items()
    ]
    stray = {"item": "c", "cluster": "c", "neuron": 3, "contribution": 1e6, **about, "token": 4}
    found = pretrained.writers(pd.DataFrame([*made, stray, {**made[0], "layer": 0}]), 2)
    assert list(found["neuron"]) == [5, 9, 1, -1]
    assert list(found["mean"]) == pytest.approx([550, -150, 100, 399.5])
    assert list(pretrained.writers(pd.DataFrame(made), 2, top=1)["mean"]) == pytest.approx([550, 349.5])
    assert set(found["dimension"]) == {7}
    assert set(found["token"]) == {0}
    fig = pretrained.neurons(found)
    assert [bar.get_height() for bar in fig.axes[0].patches] == pytest.approx(list(found["mean"]))
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["5", "9", "1", "others"]


def test_the_main_figure_names_the_layers_and_shades_the_tolerance():
    fig = pretrained.layers({"all": rows({3: 0.9, 8: 0.5, 9: 0.6}), "less": rows({})}, [3, 9, 8])
    above, below = fig.axes
    assert [text.get_text() for text in above.texts] == ["layer 3", "layers 8+9"]
    assert above.texts[1].xy == (9, pytest.approx(0.75))
    assert above.get_ylim() == below.get_ylim()
    shown = {line.get_label(): line.get_ydata() for line in above.lines}
    assert np.argmax(shown["FFN"]) == 3
    assert "ε(RoPE), tolerance" in [text.get_text() for text in fig.legends[0].texts]


def test_each_head_has_a_dot_and_the_line_is_their_mean():
    made = [
        {"item": item, "cluster": item, "layer": layer, "head": head, "on_first": (layer + head + i) / 10}
        for (i, item), layer, head in product(enumerate("ab"), range(3), range(2))
    ]
    fig, drawn = pretrained.first_token(pd.DataFrame(made))
    dots, line = fig.axes[0].lines
    assert sorted(dots.get_ydata()) == pytest.approx([0.05, 0.15, 0.15, 0.25, 0.25, 0.35])
    assert list(line.get_ydata()) == pytest.approx([0.1, 0.2, 0.3]) == list(drawn["mean"])


def test_noise_matrices_have_an_interval_over_draws():
    noisy = pd.concat([rows({}), rows({})[lambda f: f["kind"] == "FFN"].assign(kind="Noise QKV")])
    published = {"FFN": 0.21, "Noise QKV": 0.44}
    _, alone = pretrained.updates(noisy, published)
    drawn = pd.concat([noisy.assign(draw=k, rid=noisy["rid"] * (1 + k)) for k in range(3)])
    fig, several = pretrained.updates(noisy, published, drawn)
    assert several["mean"][0] == alone["mean"][0] == pytest.approx(0.25)
    assert several["mean"][1] == pytest.approx(0.5)
    assert several["high"][1] - several["low"][1] > 5 * (alone["high"][1] - alone["low"][1])
    assert list(fig.axes[0].lines[-1].get_xdata()) == [0.21, 0.44]


def test_the_other_figures_show_what_they_are_given():
    fig, drawn = pretrained.complexity({"all": rows({}), "less": rows({})})
    assert [line.get_label() for line in fig.axes[0].lines] == ["all", "less"]
    assert list(drawn[drawn["measured"] == "all"]["mean"]) == pytest.approx([20.0 + layer for layer in range(LAYERS)])
    fig = pretrained.forest(pretrained.decoupling({"all": rows({})}), {"FFN / attention": 3.5})
    dashed = [line for line in fig.axes[0].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [3.5]
    costs = pd.DataFrame({"change": ["even"] * 2, "sink": ["", "kept"], "value": [2.0, 1.0], "low": 0.5, "high": 3.0})
    fig = pretrained.costs(costs, {"": "all", "kept": "the first kept"})
    assert {text.get_text() for text in fig.legends[0].texts} == {"all", "the first kept"}
    lines = pd.DataFrame({"layer": [0, 1], "sink": "kept", "mean": [1.0, 2.0], "low": 0.0, "high": 3.0})
    fig = pretrained.curves(lines, "layer", "sink", "layer")
    assert list(fig.axes[0].lines[1].get_ydata()) == [1.0, 2.0]


def losses(shift: float, items: range = range(8)) -> pd.DataFrame:
    names = [f"text-{i}" for i in items]
    values = 3.0 + np.array([i % 3 for i in items]) + shift * np.array([1 + i % 2 for i in items])
    return pd.DataFrame({"item": names, "cluster": names, "tokens": 90, "loss": values})


def test_what_a_change_costs_in_loss():
    found = pretrained.loss_change([losses(0.1), losses(0.3)], losses(0.0))
    assert found.value == pytest.approx(0.3)
    assert 0.2 <= found.low < 0.3 < found.high <= 0.4
    fewer = pretrained.loss_change([losses(0.2, range(4))], losses(0.0))
    assert fewer.value == pytest.approx(0.3)
