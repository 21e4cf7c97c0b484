"""Sinks in a running model (tiny random LLaVA, low thresholds): detection, decoding, VAR, knock-out, contributions.

A random model has no real sinks; eight named dimensions and a low tau make some of its tokens "sinks" in every layer,
which is all that the mechanics need.
"""

from __future__ import annotations

import copy
import dataclasses
import shlex
from contextlib import ExitStack
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from transformers import LlavaForConditionalGeneration
from typer.testing import CliRunner

import lostlib
from lostlib import sinks, tables
from lostlib.benchmarks import Item
from lostlib.census import by_layer
from lostlib.cli import app
from lostlib.experiments import recheck
from lostlib.experiments.sinks import head_rows, map_rows, sink_rows
from lostlib.interventions import Intervention, Knockout, Var
from lostlib.models.attention import Run, running

pytestmark = pytest.mark.filterwarnings("ignore:.*of the visual tokens are sinks")
DIMS = tuple(range(8))
SET = "tau=2.2,dims=0-7"
VAR = "var:tau=2.2,min_mass=0.05,rho=0.3,dims=0-7"
DETECTOR = sinks.Detector(DIMS, 2.2)


class Watched:
    """Runs items under an intervention; keeps every layer's weights before and after, sinks, values and update."""

    def __init__(self, model, items, text: str, seed: int = 0):
        chosen = Intervention.parse(text).prepared(model)
        self.before, self.after, self.rows, self.cut = [], [], [], []
        run = Run(model, edits=[self.note, *chosen.edits, self.noted], seed=seed)
        self.values: list[torch.Tensor] = []
        self.chosen, self.batch = chosen, model.encode(items)
        with running(run), ExitStack() as stack, lostlib.watch(model) as self.stream:
            for handle in [*chosen.attach(run), *DETECTOR.follow(run, range(model.n_layers))]:
                stack.callback(handle.remove)
            for module in model.attention_modules:
                hook = module.v_proj.register_forward_hook(lambda module, args, output: self.values.append(output))
                stack.callback(hook.remove)
            self.logits = model.forward(self.batch).logits
            self.memory = dict(run.memory)
            self.sinks = [run.memory[DETECTOR, layer] for layer in range(model.n_layers)]

    def note(self, probs, scores, rows):
        self.before.append(probs)
        self.rows.append(rows)
        if isinstance(self.chosen, Knockout):
            self.cut.append(self.chosen.cut(rows))
        return probs

    def noted(self, probs, scores, rows):
        self.after.append(probs)
        return probs


def logits(model, batch, text: str, times: int = 1) -> torch.Tensor:
    with lostlib.intervene(model, text):
        return [model.forward(batch).logits for _ in range(times)][-1]


def masks_of(model, batch) -> list[torch.Tensor]:
    """Sink masks worked out from the hidden states that transformers returns."""
    states = model.forward(batch, output_hidden_states=True).hidden_states
    return [DETECTOR.mask(state) & batch.real for state in states[: model.n_layers]]


# ---- detection ------------------------------------------------------------------------------------------------------


def test_the_hook_sees_what_enters_each_layer_and_no_padding(tiny, items) -> None:
    run = Watched(tiny, items, "none")
    assert (~run.batch.real).any()
    for held, wanted in zip(run.sinks, masks_of(tiny, run.batch), strict=True):
        assert torch.equal(held, wanted)
        assert 0 < (held & run.batch.visual).sum() < run.batch.visual.sum()
        assert not (held & ~run.batch.real).any()


def test_the_layer_norms_gain_plays_no_part(tiny, items) -> None:
    before = Watched(tiny, items, "none").sinks
    tiny.layers[1].input_layernorm.weight.data *= 1 + torch.rand(64, generator=torch.Generator().manual_seed(0)) * 5
    after = Watched(tiny, items, "none").sinks
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[2], after[2])  # what the layer writes does depend on it


def decode(model, batch, steps: int, text: str) -> tuple[torch.Tensor, dict]:
    """The same tokens, the last ones one by one on a cache: logits and the run's memory."""
    with lostlib.intervene(model, text) as run, torch.inference_mode(), model.serving(batch.item_ids):
        ids, mask = batch.tensors["input_ids"], batch.tensors["attention_mask"]
        cut = ids.shape[1] - steps
        out = model.hf(**{**batch.tensors, "input_ids": ids[:, :cut], "attention_mask": mask[:, :cut]}, use_cache=True)
        logits = [out.logits]
        for t in range(cut, ids.shape[1]):
            cache = out.past_key_values
            out = model.hf(
                input_ids=ids[:, t : t + 1], attention_mask=mask[:, : t + 1], past_key_values=cache, use_cache=True
            )
            logits.append(out.logits)
        return torch.cat(logits, 1), dict(run.memory)


@pytest.mark.parametrize("freeze", [False, True])
def test_masks_grow_while_decoding(tiny, items, freeze: bool) -> None:
    batch = tiny.encode(items)
    whole, plain = Watched(tiny, items, VAR).sinks, masks_of(tiny, batch)
    assert any((a != b).any() for a, b in zip(whole, plain, strict=True)), "VAR must change what later layers see"
    text = VAR + (",preset=official_code" if freeze else "") + ",layers=0-2"
    _, memory = decode(tiny, batch, 4, text)
    full = decode(tiny, batch, 0, text)[1]
    assert memory.keys() == full.keys()
    assert len(memory) == 3
    for key, held in memory.items():
        wanted = full[key].clone()
        if freeze:
            wanted[:, -4:] = False
        assert torch.equal(held, wanted)
    assert any(full[key][:, -4:].any() for key in full), (
        "one of the last tokens must be a sink for this to say anything"
    )


def test_every_prompt_starts_afresh(tiny, items) -> None:
    """Two prompts in one run are answered as each in its own; a text-only prompt after an image is left alone."""
    text = Item(uid="t", images=(), prompt="What is 3 plus 4?", answer="7", kind="number")
    asked = [items[0], items[4], text, items[1]]
    batches = [tiny.encode([item]) for item in asked]
    with lostlib.intervene(tiny, VAR):
        one_run = [tiny.forward(batch).logits for batch in batches]
    for alone, batch in zip(one_run, batches, strict=True):
        assert torch.equal(logits(tiny, batch, VAR), alone)
    assert torch.equal(one_run[2], tiny.forward(batches[2]).logits)
    assert not torch.equal(one_run[3], tiny.forward(batches[3]).logits)


def test_a_tau_out_of_reach_warns_and_changes_nothing(tiny, items) -> None:
    batch = tiny.encode(items)
    plain = tiny.forward(batch).logits
    for text in ("var:dims=0-7", "knockout:keys=sinks,dims=0-7", "knockout:keys=random,dims=0-7"):
        with pytest.warns(sinks.SinkWarning, match=r"at most 8\.0"):
            assert torch.equal(logits(tiny, batch, text), plain)


def test_a_crowd_of_sinks_warns_once(tiny, items) -> None:
    batch = tiny.encode(items)
    with pytest.warns(sinks.SinkWarning) as caught:
        logits(tiny, batch, "var:tau=2%,dims=0-7", times=2)
    assert len(caught) == 1
    assert "of the visual tokens are sinks at layer 0" in str(caught[0].message)


def test_planted_sink_dimensions_are_found_and_used(tiny, items) -> None:
    """The embedding of <s> gets massive activations in two dimensions: the finder must name these."""
    start = tiny.processor.tokenizer.bos_token_id
    weak = sinks.find_dimensions(tiny)
    assert weak.rule == "gap"
    with pytest.warns(sinks.SinkWarning, match="a guess"):
        assert sinks.sink_dimensions(tiny) == weak.dims
    tiny.hf.get_input_embeddings().weight.data[start, [50, 21]] = torch.tensor([300.0, -200.0])
    found = sinks.find_dimensions(tiny, items)
    assert found[:2] == ((21, 50), "sun")
    assert found.onset == 0
    assert sum(s**2 for s in found.strength) == pytest.approx(64, rel=1e-2)  # nearly all of the token's energy
    assert sinks.sink_dimensions(tiny) == (21, 50)
    assert Var(tau="10%").prepared(tiny) == Var(tau=6.4**0.5, dims=(21, 50), layers=(0, 1))
    named = SimpleNamespace(name="llava-hf/llava-1.5-7b-hf", hidden_size=4096)
    assert sinks.sink_dimensions(named) == (1415, 2533)  # from the table, nothing is run


# ---- VAR ------------------------------------------------------------------------------------------------------------


def test_var_is_redistribution_and_the_layer_uses_its_result(tiny, items) -> None:
    """The new weights are `redistribute`'s, and the layer's update is these weights times the values."""
    run = Watched(tiny, items, VAR)
    for layer, (old, new, rows) in enumerate(zip(run.before, run.after, run.rows, strict=True)):
        if layer == 2:  # the last
            assert torch.equal(old, new)
            continue
        queries = run.batch.real & ~run.batch.visual
        wanted, selected = sinks.redistribute(old, run.sinks[layer], rows.visual, queries, min_mass=0.05, rho=0.3)
        assert selected.any()
        assert torch.equal(new, wanted)
        assert (new - old).abs().max() > 1e-3
        values = run.values[layer].unflatten(-1, (4, -1)).transpose(1, 2)
        heads = (new.double() @ values.double()).transpose(1, 2).flatten(2)
        update = heads @ tiny.attention_modules[layer].o_proj.weight.double().T
        real = run.batch.real
        torch.testing.assert_close(run.stream[layer].attn_out.double()[real], update[real], rtol=0, atol=1e-5)


def test_var_among_text_moves_to_text_alone(tiny, items) -> None:
    """The same rule with text tokens in the place of visual ones."""
    run = Watched(tiny, items, f"{VAR},among=text")
    old, new, rows = run.before[1], run.after[1], run.rows[1]
    text = run.batch.real & ~run.batch.visual
    wanted, selected = sinks.redistribute(old, run.sinks[1], text, text, min_mass=0.05, rho=0.3)
    assert selected.any()
    assert torch.equal(new, wanted)
    grown = (new > old + 1e-6).any(1).any(1)
    assert grown.any()
    assert not (grown & (rows.visual | run.sinks[1])).any()


def test_var_changes_only_from_its_first_layer_on(tiny, items) -> None:
    plain, var = Watched(tiny, items, "none"), Watched(tiny, items, VAR + ",layers=1")
    assert torch.equal(plain.before[0], var.after[0])
    assert torch.equal(plain.before[1], var.before[1])
    assert not torch.equal(var.before[1], var.after[1])
    assert torch.equal(var.before[2], var.after[2])
    assert not torch.equal(plain.before[2], var.before[2])
    assert (plain.logits - var.logits).abs().max() > 1e-3


def test_presets_choose_layers(tiny) -> None:
    assert Var(tau=2.2, dims=DIMS).prepared(tiny).layers == (0, 1)
    official = Var(tau=2.2, dims=DIMS, preset="official_code").prepared(tiny)
    assert official.layers == (2,)
    assert official.finder == sinks.Detector(DIMS, 2.2, strict=True, generated=False)
    assert (official.rules.p, official.rules.rho, official.rules.min_mass) == (0.4, 0.5, 0.2)
    assert Var(preset="official_code", p=0.7).rules.p == 0.7


def test_identity_settings_leave_the_logits_alone(tiny, items) -> None:
    batch = tiny.encode(items)
    plain = tiny.forward(batch).logits
    for more in ("p=0", "rho=1.5", "min_mass=1.5", "detector=massive"):
        text = "var:" + ",".join([more, *(part for part in SET.split(","))])
        assert torch.equal(logits(tiny, batch, text), plain)


def test_shared_key_value_heads_are_only_a_way_to_store_them(tiny, items) -> None:
    """A model with two key-value heads equals the model in which each is stored twice."""
    config = copy.deepcopy(tiny.hf.config)
    state = tiny.hf.state_dict()
    shared, repeated = dict(state), dict(state)
    for name, weight in state.items():
        if "language_model" in name and name.endswith(("k_proj.weight", "v_proj.weight")):
            shared[name] = weight[:32]
            repeated[name] = weight[:32].unflatten(0, (2, 16)).repeat_interleave(2, dim=0).flatten(0, 1)
    config.text_config.num_key_value_heads = 2
    few = LlavaForConditionalGeneration(config)
    few.load_state_dict(shared)
    tiny.hf.load_state_dict(repeated)
    model = lostlib.wrap(few, tiny.processor)
    for text in (VAR, f"knockout:keys=sinks,{SET}", "none"):
        grouped, many = Watched(model, items, text), Watched(tiny, items, text)
        real = grouped.batch.real
        torch.testing.assert_close(grouped.logits[real], many.logits[real], rtol=0, atol=1e-4)
        for a, b in zip(grouped.after, many.after, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


# ---- knock-out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["sinks", "random", "all_visual"])
def test_knockout_cuts_text_to_these_keys(tiny, items, keys: str) -> None:
    for flavour in ("renormalise", "zero"):
        run = Watched(tiny, items, f"knockout:keys={keys},flavour={flavour},{SET}")
        for layer, (old, new, rows, cut) in enumerate(zip(run.before, run.after, run.rows, run.cut, strict=True)):
            assert not (cut & ~rows.visual).any()
            wanted = {"sinks": run.sinks[layer] & rows.visual, "all_visual": rows.visual}.get(keys, cut)
            assert torch.equal(cut, wanted)
            assert torch.equal(
                cut.sum(1), (rows.visual if keys == "all_visual" else run.sinks[layer] & rows.visual).sum(1)
            )
            text = (run.batch.real & ~rows.visual)[:, None, :, None].expand_as(old)
            gone = cut[:, None, None, :].expand_as(old)
            assert (new[text & gone] == 0).all()
            assert torch.equal(new[~text], old[~text])
            mass = (old * gone).sum(-1)[text[..., 0]]
            assert mass.max() > 0.01
            total = torch.ones_like(mass) if flavour == "renormalise" else 1 - mass
            torch.testing.assert_close(new.sum(-1)[text[..., 0]], total, rtol=0, atol=1e-5)
            if flavour == "zero":
                assert torch.equal(new[text & ~gone], old[text & ~gone])


def test_random_tokens_are_drawn_once_an_item(tiny, items) -> None:
    """The sets of two layers differ in size only; another seed draws others; the batch plays no part."""
    run = Watched(tiny, items, f"knockout:keys=random,{SET}")
    for first, second in zip(*(run.cut[layer] for layer in (0, 1)), strict=True):
        assert not (first & ~second).any() or not (second & ~first).any()
    per_layer = Watched(tiny, items, f"knockout:keys=random,per=layer,{SET}").cut
    assert any((a & ~b).any() and (b & ~a).any() for a, b in zip(per_layer[0], per_layer[1], strict=True))
    assert not torch.equal(run.cut[0], Watched(tiny, items, f"knockout:keys=random,{SET}", seed=1).cut[0])
    alone = Watched(tiny, items[3:4], f"knockout:keys=random,{SET}").cut[0][0]
    assert torch.equal(run.cut[0][3, -len(alone) :], alone)


def test_random_tokens_are_spread_evenly(tiny, items) -> None:
    run = Watched(tiny, items[:1], f"knockout:keys=random,{SET}")
    rows, counts = run.rows[0], torch.zeros(64)
    for seed in range(200):
        again = dataclasses.replace(rows, seed=seed, memory=run.memory)
        counts += run.chosen.cut(again)[0][run.batch.visual[0]].float()
    share = counts.sum() / 64 / 200
    assert 0.01 < share < 0.5
    room = 5 * (200 * share * (1 - share)).sqrt()
    assert ((counts - 200 * share).abs() < room).all()


# ---- contributions --------------------------------------------------------------------------------------------------


def test_value_norms_are_those_of_the_vectors_which_add_up_to_the_update(tiny, items) -> None:
    run = Watched(tiny, items, "none")
    output = tiny.attention_modules[1].o_proj.weight.detach()
    values = run.values[1].unflatten(-1, (4, -1)).transpose(1, 2)  # (B, heads, K, d)
    per_head = output.unflatten(1, (4, -1)).permute(1, 2, 0)  # (heads, d, H)
    vectors = (values @ per_head).double()  # (B, heads, K, H)
    norms = sinks.value_norms(values, output)
    torch.testing.assert_close(norms.double(), vectors.norm(dim=-1), rtol=1e-4, atol=1e-6)
    update = (run.after[1].double() @ vectors).sum(1)
    real = run.batch.real
    torch.testing.assert_close(run.stream[1].attn_out.double()[real], update[real], rtol=0, atol=1e-5)
    grouped = sinks.value_norms(values[:, :2], output)
    torch.testing.assert_close(grouped, sinks.value_norms(values[:, [0, 0, 1, 1]], output))


# ---- the experiment -------------------------------------------------------------------------------------------------


def test_rows_of_the_experiment(tiny, items) -> None:
    """Against one item alone, worked out in float64 from its weights, values and residual stream."""
    rows = sink_rows(tiny, items, tau=2.2, dims="0-7")
    assert list(rows["item"].drop_duplicates()) == [item.uid for item in items]
    assert list(rows.columns) == [
        "item", "cluster", "layer", "token", "kind", "patch", "place", "sink", "phi", "share", "peak", "ratio",
        "attention", "contribution",
    ]  # fmt: skip
    run = Watched(tiny, items[4:5], "none")
    visual = run.batch.visual[0]
    after = ~visual & (torch.arange(len(visual)) > int(visual.int().argmax()))
    for layer in range(3):
        mine = rows[(rows["item"] == items[4].uid) & (rows["layer"] == layer)]
        assert len(mine) == len(visual)
        assert (torch.tensor((mine["kind"] == "visual").to_numpy()) == visual).all()
        assert mine["patch"][mine["patch"] >= 0].tolist() == list(range(64))
        x = run.stream[layer].resid_pre[0].double().abs()
        rms = (x.square().mean(-1) + 1e-6).sqrt()  # embeddings are so small that the 1e-6 shows
        weights = run.before[layer][0].double()[:, after]  # (heads, queries, K)
        counted = torch.ones(len(visual), len(visual)).tril()[after]
        received = (weights * counted).sum(1) / counted.sum(0)
        values = run.values[layer][0].double().unflatten(-1, (4, 16)).transpose(0, 1)
        per_head = tiny.attention_modules[layer].o_proj.weight.double().unflatten(1, (4, 16)).permute(1, 2, 0)
        wanted = {
            "phi": x[:, :8].amax(-1) / rms,
            "share": (x[:, :8].amax(-1) / rms) ** 2 / 64,
            "peak": x.amax(-1) / rms,
            "ratio": x.amax(-1) / x.median(-1).values,
            "attention": received.mean(0),
            "contribution": (received * (values @ per_head).norm(dim=-1)).mean(0),
        }
        for name, value in wanted.items():
            assert mine[name].to_numpy() == pytest.approx(value.detach().numpy(), rel=1e-3, abs=1e-7), name
        assert mine["sink"].tolist() == run.sinks[layer][0].tolist()


def test_maps_are_the_same_attention_head_by_head(tiny, items) -> None:
    maps = map_rows(tiny, items, tau=2.2, dims="0-7")
    assert list(maps.columns) == ["item", "cluster", "layer", "head", "patch", "sink", "attention"]
    assert list(maps["item"].drop_duplicates()) == [item.uid for item in items]
    rows = sink_rows(tiny, items, tau=2.2, dims="0-7").query("kind == 'visual'").set_index(["item", "layer", "patch"])
    per_patch = maps.groupby(["item", "layer", "patch"])
    assert len(maps) == 4 * len(rows)
    mean, sink = (column.reindex(rows.index) for column in (per_patch["attention"].mean(), per_patch["sink"].first()))
    assert mean.to_numpy() == pytest.approx(rows["attention"].to_numpy(), rel=1e-4)
    assert (sink == rows["sink"]).all()
    assert per_patch["attention"].std().max() > 0  # heads differ


def test_rows_of_layers_are_what_the_tokens_come_to(tiny, items) -> None:
    how = {"tau": 2.2, "dims": "0-7", "batch_size": 2}
    layers = sink_rows(tiny, items, rows="layers", **how)
    pd.testing.assert_frame_equal(layers, by_layer(sink_rows(tiny, items, **how)))
    assert list(layers["item"].drop_duplicates()) == [item.uid for item in items]
    assert 0 < layers["sinks"].sum() < layers["tokens"].sum()
    with pytest.raises(ValueError, match="rows 'layer' is not one of tokens, layers, heads; did you mean 'layers'"):
        sink_rows(tiny, items, rows="layer")


def test_rows_of_heads_share_out_the_attention(tiny, items) -> None:
    heads = sink_rows(tiny, items, tau=2.2, dims="0-7", rows="heads")
    assert len(heads) == len(items) * 3 * 4
    run = Watched(tiny, items[4:5], "none")
    visual = run.batch.visual[0]
    after = ~visual & (torch.arange(len(visual)) > int(visual.int().argmax()))
    for layer in range(3):
        weights, sink = run.before[layer][0].double()[:, after].mean(1), run.sinks[layer][0]  # (heads, K)
        first = torch.arange(len(visual)) == 0
        wanted = {"on_first": first, "on_sinks": sink, "on_visual": visual, "on_visual_sinks": sink & visual}
        mine = heads[(heads["item"] == items[4].uid) & (heads["layer"] == layer)]
        for name, keys in wanted.items():
            assert mine[name].to_numpy() == pytest.approx(weights[:, keys].sum(-1).numpy(), rel=1e-4), name
    assert heads.groupby(["item", "layer"])["on_sinks"].std().max() > 0  # heads differ


def test_places_of_tokens(tiny, items) -> None:
    rows = sink_rows(tiny, items[3:], tau=2.2, dims="0-7").query("layer == 0")
    assert set(rows[rows["kind"] == "text"]["place"].isna()) == {True}
    for item in items[3:]:
        place = rows[(rows["item"] == item.uid) & (rows["patch"] >= 0)].set_index("patch")["place"]
        assert set(place.index[place == "relevant"]) == set(item.relevant)
        assert set(place.index[place != "background"]) == set(item.objects)
        assert set(place) == {"background", "object", "relevant"}
    unknown = [dataclasses.replace(item, objects=None) for item in items[3:]]
    assert sink_rows(tiny, unknown, tau=2.2, dims="0-7")["place"].isna().all()


def test_what_var_would_do_in_each_head(tiny, items) -> None:
    """Against the rows that VAR changes in a run, item by item."""
    rows = head_rows(tiny, items, tau=2.2, min_mass=0.05, rho=0.7, dims="0-7")
    assert list(rows.columns) == ["item", "cluster", "layer", "head", "sinks", "visual", "share", "selected", "moved"]
    assert list(rows["item"].drop_duplicates()) == [item.uid for item in items]
    assert len(rows) == len(items) * 3 * 4
    for item in items[2:4]:
        run = Watched(tiny, [item], "var:tau=2.2,min_mass=0.05,rho=0.7,dims=0-7,layers=0")  # layer 0 sees the same
        visual = run.batch.visual[0]
        after = ~visual & (torch.arange(len(visual)) > int(visual.int().argmax()))
        old, new = (probs[0][0].double()[:, after] for probs in (run.before, run.after))
        mine = rows[(rows["item"] == item.uid) & (rows["layer"] == 0)]
        other = visual & ~run.sinks[0][0]
        assert set(mine["sinks"]) == {int((visual & run.sinks[0][0]).sum())}
        wanted = {
            "visual": old[..., visual].sum(-1),
            "share": old[..., other].sum(-1) / old[..., visual].sum(-1),
            "selected": (old != new).any(-1).double(),
            "moved": (old - new).clamp_min(0).sum(-1),
        }
        for name, value in wanted.items():
            assert mine[name].to_numpy() == pytest.approx(value.mean(1).numpy(), rel=1e-3, abs=1e-6), name
        assert 0 < mine["selected"].mean() < 1


def test_the_experiment_is_a_table(tiny_folder, tmp_path) -> None:
    words = ["run", "sinks", "--model", str(tiny_folder), "--benchmark", "mini-realworldqa", "--n", "3"]
    words += ["--set", "tau=5%", "--set", "dims=0-7", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (path,) = tables.shipped_tables(tmp_path)
    table = tables.read(path)
    assert table.key.parameters == {"tau": "5%", "dims": "0-7"}
    assert shlex.split(table.about["command"])[1:3] == ["run", "sinks"]
    assert table.frame["item"].nunique() == 3
    assert len(table.frame) == 3 * 3 * 3  # this is no mini model: items x layers x kinds of tokens
    assert recheck.check_table(path, 2).agrees
    done = CliRunner().invoke(app, [*words, "--set", "rows=tokens"])
    assert done.exit_code == 0, done.output
    (every,) = {*tables.shipped_tables(tmp_path)} - {path}
    assert tables.read_key(every).parameters == {"tau": "5%", "dims": "0-7", "rows": "tokens"}
    pd.testing.assert_frame_equal(by_layer(tables.read(every).frame), table.frame, rtol=3e-5)  # five digits each
    assert recheck.check_table(every, 2).agrees
    done = CliRunner().invoke(app, [*words[:-4], "--set", "dims=64"])
    assert done.exit_code == 2
    assert "dims 0-63" in done.output
