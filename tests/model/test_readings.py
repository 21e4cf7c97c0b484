"""Readings: every answer is the one of a run of its own, whatever is shared between runs to save time."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps

import pandas as pd
import pytest
import torch

import lostlib
from lostlib.experiments.answers import answers
from lostlib.experiments.readings import reading_rows
from lostlib.interventions import Sap, intervene
from lostlib.models import keyed_random
from lostlib.models.kept import KeptPrompt
from lostlib.readings import FAMILY, family, first_free, layers_of, single


@pytest.fixture(scope="module")
def mini() -> lostlib.LostModel:
    return lostlib.load_model("mini-llava-1.5-xs")


@pytest.fixture(scope="module")
def asked() -> lostlib.benchmarks.Benchmark:
    """Prompts of several lengths, so that most are padded, and long answers."""
    mixed, long = lostlib.load_benchmark("mini-mathvista", n=6), lostlib.load_benchmark("mini-captions", n=4)
    return replace(long, items=(*long.items, *(replace(item, meta={"called": "-"}) for item in mixed.items)))


@pytest.fixture(scope="module")
def rows(mini, asked) -> pd.DataFrame:
    return reading_rows(mini, asked, seed=1, seeds=2, batch_size=7)


def test_each_answer_is_that_of_a_run_of_its_own(mini, asked, rows):
    texts = list(dict.fromkeys(zip(rows["reading"], rows["seed"], strict=True)))
    assert len(texts) == 1 + 13 * 3  # untouched; without a pilot no layers are free
    for text, seed in texts[::3]:
        part = rows[(rows["reading"] == text) & (rows["seed"] == seed)]
        alone = answers(mini, asked, text, seed, batch_size=3)
        assert part["answer"].tolist() == alone["raw"].tolist(), (text, seed)
        assert part["correct"].tolist() == alone["correct"].tolist()
        assert part[["item", "cluster", "group", "gold"]].equals(
            alone[["item", "cluster", "group", "gold"]].set_index(part.index)
        )
    assert rows.groupby("reading")["answer"].apply(tuple).nunique() > 5  # or nothing was changed


@pytest.mark.parametrize("name", ["mini-llava-1.5-xs", "mini-qwen2.5-vl", "mini-llava-next"])
def test_a_run_from_where_its_change_begins_is_the_whole_run(name, asked):
    model = lostlib.load_model(name)
    batch = model.encode(asked.items)
    kept = KeptPrompt(model)
    with kept.keeping(), model.seeing_once():
        untouched = model.reply(batch, 4)
    assert untouched == model.reply(batch, 4)
    forms = [Sap.parse(text) for text in family(model.n_layers, 4) if text != "none"]
    for form in [*forms, Sap.parse("sap:keys=text,weights=gaussian,layers=2"), Sap.parse("sap:weights=zero")]:
        with intervene(model, form, 3):
            whole = model.reply(batch, 4)
            with kept.from_where(*form.begins(batch.visual)):
                part = model.reply(batch, 4)
        assert [one.raw for one in part] == [one.raw for one in whole], form
        logprobs = [torch.tensor([one.logprob for one in replies]) for replies in (part, whole)]
        torch.testing.assert_close(*logprobs, rtol=1e-3, atol=1e-3)
    assert not any("forward" in vars(layer) for layer in model.layers)


def test_where_a_change_begins():
    visual = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 1, 1, 0]], dtype=torch.bool)
    begins = {
        "weights=gaussian": (0, 1), "queries=visual": (0, 1), "queries=text": (0, 3), "queries=last": (0, 4),
        "phase=decode": (0, 5), "layers=2-5,queries=text": (2, 3), "keys=text": (0, 0), "keys=all,layers=1": (1, 0),
    }  # fmt: skip
    assert {text: Sap.parse(f"sap:{text}").begins(visual) for text in begins} == begins
    nothing = torch.zeros(1, 5, dtype=torch.bool)
    assert Sap.parse("sap").begins(nothing) == (0, 4)


def test_pictures_pass_the_tower_once(mini, asked, monkeypatch):
    looked, body = [], type(mini.hf.model)
    original = body.get_image_features

    @wraps(original)  # transformers asks for its signature
    def look(self, *args, **kwargs):
        looked.append(1)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(body, "get_image_features", look)
    one, other = (mini.encode(asked.items[a:b]) for a, b in ((0, 3), (3, 6)))
    with mini.seeing_once():
        said = [mini.reply(batch, 2) for batch in (one, one, other, one)]
    assert len(looked) == 3  # what came in between is forgotten
    assert said[0] == said[1] == said[3] == mini.reply(one, 2)
    assert "get_image_features" not in vars(mini.hf.model)


def test_remembered_numbers_are_those_that_are_drawn():
    values = (3, torch.tensor([[1], [2]]), torch.arange(5))
    drawn = keyed_random.normals(*values)
    assert torch.equal(drawn, keyed_random.normal(keyed_random.chain(*values)))
    with keyed_random.remembering():
        first = keyed_random.normals(*values)
        assert keyed_random.normals(*values) is first
        assert not torch.equal(first, keyed_random.normals(4, *values[1:]))
        assert not torch.equal(first[:, :4], keyed_random.normals(3, torch.tensor([[1], [3]]), torch.arange(4)))
    assert torch.equal(first, drawn)
    assert keyed_random.normals(*values) is not first


def test_what_does_not_fit_is_drawn_again(monkeypatch):
    monkeypatch.setattr(keyed_random, "REMEMBERED", 5)
    with keyed_random.remembering():
        small, large = (keyed_random.normals(torch.arange(n)) for n in (5, 6))
        assert keyed_random.normals(torch.arange(5)) is small
        assert keyed_random.normals(torch.arange(6)) is not large


# --- which readings there are -----------------------------------------------------------------------------------------


def test_a_pilot_decides_what_is_run(tiny):
    asked = lostlib.load_benchmark("mini-pope", n=4)
    pilot = lostlib.load_benchmark("mini-pope", n=3, seed=1)
    found = reading_rows(tiny, asked, replace(pilot, items=(*pilot.items, asked.items[0])), seeds=1)
    apart = found.groupby("pilot")
    assert set(apart.get_group(True)["item"]) == {item.uid for item in pilot.items}  # never what is reported
    assert set(apart.get_group(True)["reading"]) == {"none", *(single(k) for k in range(tiny.n_layers))}
    assert list(dict.fromkeys(apart.get_group(False)["item"])) == [item.uid for item in asked.items]


def test_readings_that_repeat_another_have_its_name_and_no_run():
    long, short = family(6, 4), family(6, 4, short=True)
    assert long["none"] == "untouched"
    assert short["none"] == "untouched = decoding"
    assert short["sap:keys=visual,weights=gaussian"] == "as usual = prompt"
    assert len(long) == 1 + len(FAMILY) == len(short) + 2
    assert "as usual = free layers" in family(6, 0).values()
    assert family(6, 3)["sap:keys=visual,weights=gaussian,layers=3-5"] == "second half = free layers"
    assert not [name for name in family(6).values() if "free" in name]
    assert family(1)["none"].startswith("untouched = first half")  # half of one layer is none
    names = [name for joined in family(5, 2).values() for name in joined.split(" = ")]
    assert sorted(names) == sorted(["untouched", *FAMILY])


@pytest.mark.parametrize(
    ("costs", "free"),
    [
        ([0, 0, 0, 0], 0),  # each is free from the first on
        ([0, 9, 0, 0], 2),
        ([9, 0, 0, 9], None),
        ([9, 9, 9, 0], 3),
        ([9, 0, 1, 0], 3),  # one of forty may be more than two points
    ],
)
def test_the_first_layer_from_which_on_each_is_free(costs, free):
    def run(reading, wrong):
        items = [f"i{k}" for k in range(40)]
        about = {"item": items, "cluster": items, "reading": reading}
        return pd.DataFrame(about | {"correct": [k >= wrong for k in range(40)]})

    runs = pd.concat([run("none", 0), *(run(single(layer), cost) for layer, cost in enumerate(costs))])
    assert first_free(runs, 4) == free


def test_layers_that_words_mean():
    assert layers_of("first half", 5, None) == (0, 1)
    assert layers_of("second half", 5, None) == (2, 3, 4)
    assert layers_of("free layers", 5, 4) == (4,)
