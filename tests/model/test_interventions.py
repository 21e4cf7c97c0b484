"""Interventions on a running model, checked against what they promise (tiny random LLaVA, float32, CPU).

Against transformers' eager attention: `none`. Against a float64 recomputation from the learned weights: each SAP rule.
Against each other: batch and singles, prefill with decode and one full forward, before and after.
"""

from __future__ import annotations

import re
import runpy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lostlib
from lostlib import paths
from lostlib.interventions import Intervention, Sap
from lostlib.models import attention
from lostlib.models.attention import Rows, Run, running

SAPS = [
    "sap:keys=visual,weights=gaussian",
    "sap:keys=text,weights=gaussian",
    "sap:keys=all,weights=gaussian",
    "sap:keys=visual,queries=text,weights=gaussian",
    "sap:keys=text,queries=visual,weights=gaussian",
    "sap:keys=visual,weights=gaussian_abs",
    "sap:keys=visual,weights=uniform",
    "sap:keys=visual,weights=permuted",
    "sap:keys=all,weights=permuted",
    "sap:keys=visual,weights=static",
    "sap:keys=visual,weights=gaussian_logits",
    "sap:keys=visual,weights=zero",
    "sap:keys=text,weights=zero",
    "sap:keys=visual,weights=gaussian,mass=share",
    "sap:keys=visual,weights=uniform,mass=0.25",
    "sap:keys=visual,weights=gaussian,layers=0+2,heads=1",
    "sap:keys=all,weights=permuted,spare=first",
    "sap:keys=text,weights=zero,spare=first",
]
LAST = [
    "sap:keys=visual,queries=last,weights=gaussian",
    "sap:keys=visual,weights=gaussian,phase=prefill",
    "sap:keys=visual,weights=gaussian,phase=decode",
]
OTHERS = [
    "none",
    "noise_delta",
    "noise_delta:scale=token",
    "noise_delta:scale=unit",
    "noise_qkv",
    "noise_qkv:layers=1",
    "no_rope",
    "pool",
]
SINKS = "tau=2.2,dims=0-7"  # low enough that a random model's tokens reach it
REDIRECTED = [
    f"knockout:keys=sinks,{SINKS}",
    f"knockout:keys=sinks,flavour=zero,{SINKS},layers=0-2",
    f"knockout:keys=random,{SINKS}",
    "knockout:keys=all_visual",
    "var:tau=2.2,min_mass=0.05,rho=0.3,dims=0-7",
    "var:tau=2.2,min_mass=0.05,p=1.0,rho=0.3,target=both,dims=0-7,require=any,layers=1",
]
FROZEN = ["var:tau=2.2,min_mass=0.05,rho=0.3,dims=0-7,layers=0-2,preset=official_code"]  # a decoded token is no sink
TOGETHER = ["sap:keys=visual,weights=uniform & no_rope", "noise_qkv:layers=0 & sap:keys=text,weights=permuted"]
TOGETHER += [f"{REDIRECTED[2]} & {REDIRECTED[4]}", f"no_rope & {REDIRECTED[0]} & sap:keys=visual,weights=permuted"]
ALL = [*SAPS, *LAST, *OTHERS, *REDIRECTED, *FROZEN, *TOGETHER]

pytestmark = pytest.mark.filterwarnings("ignore:.*of the visual tokens are sinks")


@pytest.fixture(scope="module")
def tiny(tiny_folder) -> lostlib.LostModel:
    """One model for all of them: what one test left behind, the next would see."""
    return lostlib.load_model(tiny_folder)


def hooks(model) -> int:
    """Hooks on all modules (transformers leaves some of its own at the first call)."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.hf.modules())


def logits(model, batch, text: str, seed: int = 0) -> torch.Tensor:
    with lostlib.intervene(model, text, seed):
        return model.forward(batch).logits


@pytest.mark.parametrize("text", ALL)
def test_text_form_round_trips(text: str) -> None:
    parsed = Intervention.parse(text)
    assert str(parsed) == text
    assert Intervention.parse(str(parsed)) == parsed


def test_canonical_forms() -> None:
    assert str(Intervention.parse("sap:weights=uniform")) == "sap:keys=visual,weights=uniform"
    assert str(Intervention.parse("sap:layers=8+0+3+5-7+6")) == "sap:keys=visual,weights=gaussian,layers=0+3+5-8"
    assert str(Intervention.parse("noise_delta:scale=frobenius")) == "noise_delta"
    assert Sap(layers=[2, 0]) == Sap(layers=(0, 2))
    assert str(Intervention.parse("knockout")) == "knockout:keys=sinks"
    assert str(Intervention.parse("var:rho=0.5")) == "var:rho=0.5"
    assert str(Intervention.parse("var:dims=9+3+4+5,rho=.8,tau=10.0%")) == "var:tau=10%,rho=0.8,dims=3-5+9"
    assert Intervention.parse("var:p=1") == Intervention.parse("var:p=1.0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nois_qkv", "did you mean 'noise_qkv'"),
        ("sap:wieghts=uniform", "did you mean 'weights'"),
        ("sap:weights=gausian", "did you mean 'gaussian'"),
        ("sap:mass=1.5", r"\[0, 1\]"),
        ("sap:mass=all", r"keep, share or a number"),
        ("sap:weights=zero,mass=share", "fixes the mass itself"),
        ("sap:spare=first", "spare=first changes nothing where keys=visual"),
        ("var:among=text,target=both", "leave target and require out"),
        ("sap:layers=3-1", "no list of numbers"),
        ("sap:keys=visual,keys=text", "keys is given twice, as visual and text"),
        ("knockout:keys=sink", "did you mean 'sinks'"),
        ("knockout:tau=130%", "share of a token's energy"),
        ("var:p=1.5", r"\[0, 1\]"),
        ("var:rho=nan", "rho=nan"),
        ("var:min_mass=few", "not a number"),
        ("var:dims=64", "dims 0-63"),
        ("none & no_rope", "other than 'none'"),
        ("sap:layers=7", "layers 0-2"),
        ("sap:heads=4", "heads 0-3"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(tiny, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message), lostlib.intervene(tiny, text):
        pass


def test_none_is_eager_bit_for_bit(tiny_folder, tiny, items) -> None:
    batch, own = tiny.encode(items), lostlib.load_model(tiny_folder)
    own.hf.set_attn_implementation({"text_config": "eager"})  # the vision tower stays as it is
    with torch.inference_mode():
        eager = own.hf(**batch.tensors, use_cache=False).logits
    assert torch.equal(eager, tiny.forward(batch).logits)
    assert torch.equal(eager, logits(tiny, batch, "none"))


def test_other_backends_are_watched_and_not_changed(tiny_folder, tiny, items) -> None:
    """eager is ours bit for bit, sdpa up to rounding; in both, weights cannot be replaced and the model says so."""
    batch, rows = tiny.encode(items), lostlib.residual_metrics(tiny, items[:2], controls=("noise_qkv",))
    for backend, tolerance in (("eager", 0.0), ("sdpa", 1e-3)):
        other = lostlib.load_model(tiny_folder, backend=backend)
        apart = float((other.forward(batch).logits - tiny.forward(batch).logits)[batch.real].abs().max())
        assert apart <= tolerance
        assert (apart > 0) == (backend == "sdpa"), "it is another function"
        same = lostlib.residual_metrics(other, items[:2], controls=("noise_qkv",))
        assert (same["rid"] - rows["rid"]).abs().max() < 1e-4
        with (
            pytest.raises(ValueError, match=f"backend={backend}.*leave the backend out"),
            lostlib.intervene(other, "sap"),
        ):
            pass
        with lostlib.intervene(other, "none"):
            assert torch.equal(other.forward(batch).logits, tiny.forward(batch).logits) == (backend == "eager")


@pytest.mark.parametrize("text", [t for t in ALL if t != "none"])
def test_changes_something_and_leaves_nothing_behind(tiny, items, text: str) -> None:
    batch = tiny.encode(items)
    parameters = {name: p.clone() for name, p in tiny.hf.named_parameters()}
    before, backend = tiny.forward(batch).logits, tiny.hf.config.get_text_config()._attn_implementation
    hooked = hooks(tiny)
    changed = logits(tiny, batch, text)
    if "decode" not in text:
        assert (changed - before).abs().max() > 1e-4
    assert torch.equal(tiny.forward(batch).logits, before)
    assert all(torch.equal(p, parameters[name]) for name, p in tiny.hf.named_parameters())
    assert tiny.hf.config.get_text_config()._attn_implementation == backend
    assert hooks(tiny) == hooked


def test_an_exception_inside_leaves_nothing_behind(tiny, items) -> None:
    batch = tiny.encode(items)
    before = tiny.forward(batch).logits
    hooked = hooks(tiny)
    with pytest.raises(KeyboardInterrupt), lostlib.intervene(tiny, "sap & noise_qkv & no_rope & noise_delta"):
        raise KeyboardInterrupt
    assert torch.equal(tiny.forward(batch).logits, before)
    assert hooks(tiny) == hooked


def test_two_at_once_are_refused(tiny) -> None:
    with (
        lostlib.intervene(tiny, "sap"),
        pytest.raises(RuntimeError, match="already active"),
        lostlib.intervene(tiny, "no_rope"),
    ):
        pass


@pytest.mark.parametrize("text", ALL)
def test_a_later_token_cannot_change_an_earlier_one(tiny, items, text: str) -> None:
    batch = tiny.encode(items[3:4])
    end = batch.tensors["input_ids"].shape[1] - 3
    other = tiny.encode(items[3:4])
    words = tiny.processor.tokenizer.convert_tokens_to_ids(["red", "circle", "yes"])
    other.tensors["input_ids"][0, end:] = torch.tensor(words)
    same, changed = logits(tiny, batch, text), logits(tiny, other, text)
    torch.testing.assert_close(same[:, :end], changed[:, :end], rtol=0, atol=1e-5)
    assert (same[:, end:] - changed[:, end:]).abs().max() > 1e-3


@pytest.mark.parametrize("text", ALL)
def test_batch_and_padding_do_not_matter(tiny, items, text: str) -> None:
    batch = tiny.encode(items)
    assert (~batch.real).any(), "the batch must be padded for this test to say anything"
    together = logits(tiny, batch, text)
    backwards = logits(tiny, tiny.encode(items[::-1]), text).flip(0)
    for i, item in enumerate(items):
        alone = tiny.encode([item])
        length = alone.tensors["input_ids"].shape[1]
        with lostlib.intervene(tiny, text):
            single = tiny.forward(alone).logits[0]
        torch.testing.assert_close(together[i, -length:], single, rtol=0, atol=2e-5)
        torch.testing.assert_close(backwards[i, -length:], single, rtol=0, atol=2e-5)


@pytest.mark.parametrize("text", [t for t in ALL if t not in (*LAST, *FROZEN)])
def test_prefill_and_decode_equal_one_forward(tiny, items, text: str) -> None:
    batch = tiny.encode(items)
    with lostlib.intervene(tiny, text), torch.inference_mode(), tiny.serving(batch.item_ids):
        full = tiny.hf(**batch.tensors, use_cache=False).logits
        ids, mask = batch.tensors["input_ids"], batch.tensors["attention_mask"]
        cut = ids.shape[1] - 4
        first = tiny.hf(**{**batch.tensors, "input_ids": ids[:, :cut], "attention_mask": mask[:, :cut]}, use_cache=True)
        steps, cache = [first.logits], first.past_key_values
        for t in range(cut, ids.shape[1]):
            out = tiny.hf(
                input_ids=ids[:, t : t + 1], attention_mask=mask[:, : t + 1], past_key_values=cache, use_cache=True
            )
            steps.append(out.logits)
    real = batch.real
    torch.testing.assert_close(torch.cat(steps, 1)[real], full[real], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "text", [*LAST, "sap:keys=visual,weights=gaussian", "noise_delta", "noise_qkv", "no_rope", *REDIRECTED]
)
def test_answers_do_not_depend_on_the_batch(tiny, items, text: str) -> None:
    with lostlib.intervene(tiny, text, seed=3):
        together = tiny.answer(items, max_new_tokens=4)
        assert [tiny.answer([item], max_new_tokens=4)[0] for item in items] == together


@pytest.mark.parametrize("text", ["sap:keys=visual,weights=gaussian", "noise_delta", "noise_qkv", REDIRECTED[2]])
def test_the_seed_decides(tiny, items, text: str) -> None:
    batch = tiny.encode(items)
    assert torch.equal(logits(tiny, batch, text, 1), logits(tiny, batch, text, 1))
    assert (logits(tiny, batch, text, 1) - logits(tiny, batch, text, 2)).abs().max() > 1e-4


def test_phases_split_the_work(tiny, items) -> None:
    """Prefill-only noise changes the prompt's logits; decode-only noise leaves them alone and changes what follows."""
    batch = tiny.encode(items)
    plain = logits(tiny, batch, "none")
    assert torch.equal(logits(tiny, batch, "sap:keys=visual,weights=gaussian,phase=decode"), plain)
    both = logits(tiny, batch, "sap:keys=visual,weights=gaussian")
    assert torch.equal(logits(tiny, batch, "sap:keys=visual,weights=gaussian,phase=prefill"), both)


def test_without_rope_attention_is_blind_to_order(tiny, items) -> None:
    """In the first layer, the last token's update must not depend on which patch stands where; with RoPE it does."""
    batch = tiny.encode(items[:1])
    with torch.inference_mode():
        features = tiny.hf.get_image_features(batch.tensors["pixel_values"]).pooler_output[0]
        embeds = tiny.hf.get_input_embeddings()(batch.tensors["input_ids"])
    shuffled = features[torch.randperm(len(features), generator=torch.Generator().manual_seed(0))]

    def last_update(patches: torch.Tensor, text: str) -> torch.Tensor:
        filled = embeds.clone()
        filled[0, batch.visual[0]] = patches
        with torch.inference_mode(), lostlib.watch(tiny, layers=[0]) as stream, lostlib.intervene(tiny, text):
            tiny.hf.model.language_model(inputs_embeds=filled)
        return stream[0].attn_out[0, -1]

    torch.testing.assert_close(last_update(features, "no_rope"), last_update(shuffled, "no_rope"), rtol=0, atol=1e-5)
    assert (last_update(features, "none") - last_update(shuffled, "none")).abs().max() > 1e-3


def test_raw_calls_are_keyed_by_batch_index_and_say_so_once(tiny, items) -> None:
    batch = tiny.encode(items)
    with lostlib.intervene(tiny, "sap"), torch.inference_mode():
        with pytest.warns(UserWarning, match="index in the batch"):
            first = tiny.hf(**batch.tensors).logits
        second = tiny.hf(**batch.tensors).logits  # pytest turns a second warning into an error
    assert torch.equal(first, second)


# ---- a few rows at a time -------------------------------------------------------------------------------------------

EDITED = [*SAPS, *LAST, *REDIRECTED]


@pytest.mark.parametrize("text", EDITED)
def test_how_many_rows_are_changed_at_a_time_changes_no_bit(tiny, items, text: str, monkeypatch) -> None:
    batch = tiny.encode(items)
    whole = logits(tiny, batch, text)
    one, most = batch.visual.numel() * tiny.n_heads, batch.visual.numel() * tiny.n_heads * batch.visual.shape[1]
    for entries in (1, 7 * one, most // 2):  # one row of the batch, some, all but the rest
        monkeypatch.setitem(attention.BLOCKS, "cpu", entries)
        assert torch.equal(logits(tiny, batch, text), whole)


def test_gradients_flow_through_changed_weights(tiny, items, monkeypatch) -> None:
    batch, gradients = tiny.encode(items[:2]), []
    weight = tiny.attention_modules[0].q_proj.weight
    for entries in (attention.BLOCKS["cpu"], 1000):
        monkeypatch.setitem(attention.BLOCKS, "cpu", entries)
        with lostlib.intervene(tiny, "sap & knockout:keys=all_visual,layers=1"), tiny.serving(batch.item_ids):
            chosen = tiny.hf(**batch.tensors, use_cache=False).logits[:, -1].log_softmax(-1)[:, 0].sum()
        gradients += torch.autograd.grad(chosen, weight)
    assert gradients[0].norm() > 0
    assert torch.equal(*gradients)


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that an operation gives back."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.numel() * tensor.element_size())
        return out


@pytest.mark.parametrize("text", [t for t in EDITED if "decode" not in t])
def test_what_a_change_needs_beside_the_weights_is_small(tiny, items, text: str, monkeypatch) -> None:
    """At most what 64-bit hashes and indices of one block take; all at once they would take twice the weights."""
    intervention = Intervention.parse(text).prepared(tiny)
    run = Run(tiny, edits=[])
    held: list[tuple] = []

    def hold(probs, scores, rows):
        held.append((probs, scores, rows))
        return probs

    run.edits = [hold]
    with running(run):
        handles = intervention.attach(run)
        tiny.forward(tiny.encode(items))
    for handle in handles:
        handle.remove()
    entries = held[0][0].numel() // 8
    monkeypatch.setitem(attention.BLOCKS, "cpu", entries)
    with torch.inference_mode(), Largest() as largest:
        for layer in held:
            intervention.edits[0](*layer)
    assert 0 < largest.size <= 8 * entries


# ---- the weights themselves -----------------------------------------------------------------------------------------


class Recorder:
    """Runs a model and keeps the learned and the edited weights of every layer."""

    def __init__(self, model, items, sap: Sap, seed: int = 0):
        self.before: list[torch.Tensor] = []
        self.scores: list[torch.Tensor] = []
        self.after: list[torch.Tensor] = []
        self.rows: list[Rows] = []
        with running(Run(model, edits=[self.note, sap.edit, self.noted], seed=seed)):
            model.forward(model.encode(items))

    def note(self, probs, scores, rows):
        self.before.append(probs)
        self.scores.append(scores)
        self.rows.append(rows)
        return probs

    def noted(self, probs, scores, rows):
        self.after.append(probs)
        return probs

    def __iter__(self):
        return zip(self.before, self.scores, self.after, self.rows, strict=True)


@pytest.mark.parametrize("text", [t for t in SAPS if "&" not in t])
def test_rows_sum_to_one_and_zeros_stay_zero(tiny, items, text: str) -> None:
    for before, _, after, rows in Recorder(tiny, items, Intervention.parse(text)):
        real = rows.visible.any(-1).expand_as(before[..., 0])
        torch.testing.assert_close(after.sum(-1)[real], torch.ones_like(after.sum(-1)[real]), rtol=0, atol=1e-5)
        assert (after.masked_select(~rows.visible.expand_as(after) & real[..., None]) == 0).all()
        assert (after >= 0).all()


@pytest.mark.parametrize("weights", ["gaussian", "gaussian_abs", "uniform", "permuted", "static"])
def test_the_block_keeps_its_mass_and_the_rest_its_weights(tiny, items, weights: str) -> None:
    for before, _, after, rows in Recorder(tiny, items, Sap(weights=weights)):
        block = rows.visual[:, None, None, :] & rows.visible
        torch.testing.assert_close((after * block).sum(-1), (before * block).sum(-1), rtol=0, atol=1e-5)
        assert torch.equal(after.masked_select(~block), before.masked_select(~block))


@pytest.mark.parametrize("weights", ["gaussian", "permuted", "uniform", "zero"])
def test_the_first_token_may_keep_what_it_drew(tiny, items, weights: str) -> None:
    """And where the block gets nothing, all."""
    for before, _, after, rows in Recorder(tiny, items, Sap(keys="all", weights=weights, spare="first")):
        first = (rows.key_positions == 0)[:, None, None, :] & rows.visible
        drew, draws = ((probs * first).sum(-1) for probs in (before, after))
        there = first.any(-1).expand_as(drew)
        wanted = torch.ones_like(drew) if weights == "zero" else drew
        torch.testing.assert_close(draws[there], wanted[there], rtol=0, atol=1e-5)
        assert (after - before).abs().max() > 1e-3


def test_uniform_is_uniform_and_permuted_is_a_permutation(tiny, items) -> None:
    for _, _, after, rows in Recorder(tiny, items, Sap(weights="uniform")):
        block = (rows.visual[:, None, None, :] & rows.visible).expand_as(after)
        row = after[0, 0, -1][block[0, 0, -1]]
        torch.testing.assert_close(row, row.mean().expand_as(row))
    for before, _, after, rows in Recorder(tiny, items, Sap(weights="permuted")):
        block = (rows.visual[:, None, None, :] & rows.visible).expand_as(after)
        learned, dealt = before[1, 2, -1][block[1, 2, -1]], after[1, 2, -1][block[1, 2, -1]]
        torch.testing.assert_close(learned.sort().values, dealt.sort().values, rtol=1e-4, atol=1e-7)
        assert (learned - dealt).abs().max() > 1e-4


@pytest.mark.parametrize("gap", [False, True])
def test_what_is_dealt_out_stays_in_the_block(tiny, items, gap: bool) -> None:
    """Also where the block has gaps, and where weights carry gradients."""
    recorded = next(iter(Recorder(tiny, items, Sap(weights="permuted"))))
    before, scores, _, rows = recorded
    if gap:
        visual = rows.visual.clone()
        visual[:, ::3] = False
        rows = replace(rows, visual=visual)
    learned = before.clone().requires_grad_()
    after = Sap(weights="permuted").edit(learned, scores, rows)
    block = (rows.visual[:, None, None, :] & rows.visible).expand_as(after)
    assert torch.equal(after[~block], before[~block])
    inside = [weights.masked_fill(~block, 0.0).sort(dim=-1).values for weights in (before, after)]
    torch.testing.assert_close(*inside, rtol=1e-4, atol=1e-6)
    (gradient,) = torch.autograd.grad(after.square().sum(), learned)
    assert gradient.isfinite().all()
    assert (gradient[block] != 0).any()


def test_gaussian_is_a_softmax_of_standard_normal_scores(tiny, items) -> None:
    scores = []
    for _before, _, after, rows in Recorder(tiny, items, Sap()):
        block = (rows.visual[:, None, None, :] & rows.visible).expand_as(after)
        for b, h in ((0, 0), (3, 2)):
            log = after[b, h, -1][block[b, h, -1]].double().log()
            scores.append(log - log.mean())
    drawn = torch.cat(scores)
    assert abs(float(drawn.std()) - 1) < 0.1
    assert abs(float(((drawn / drawn.std()) ** 4).mean()) - 3) < 1.0
    assert len(drawn.unique()) == len(drawn), "layers, heads and items must not share draws"


def test_static_is_the_same_table_everywhere(tiny, items) -> None:
    logs = []
    for _before, _, after, rows in Recorder(tiny, items, Sap(weights="static")):
        for b in (0, 1):
            visual = rows.visual[b].nonzero()[:, 0]
            query = visual[-1] + 2  # same position in every sample: what differs comes later
            log = after[b, 1, query][visual].double().log()
            logs.append(log - log.mean())
    for other in logs[1:]:
        torch.testing.assert_close(other, logs[0], rtol=1e-3, atol=1e-3)


def test_masses(tiny, items) -> None:
    for _, _, after, rows in Recorder(tiny, items, Sap(weights="uniform", mass="share")):
        block = rows.visual[:, None, None, :] & rows.visible
        share = block.sum(-1) / rows.visible.sum(-1).clamp_min(1)
        wanted = share.expand_as(after[..., 0])
        torch.testing.assert_close((after * block).sum(-1), wanted, rtol=0, atol=1e-5)
    for _, _, after, rows in Recorder(tiny, items, Sap(weights="uniform", mass=0.25)):
        block = rows.visual[:, None, None, :] & rows.visible
        mixed = (block.any(-1) & (rows.visible & ~block).any(-1)).expand_as(after[..., 0])
        torch.testing.assert_close(
            (after * block).sum(-1)[mixed], torch.full_like(after[..., 0][mixed], 0.25), rtol=0, atol=1e-5
        )


def test_zero_renormalises_the_rest(tiny, items) -> None:
    for before, _, after, rows in Recorder(tiny, items, Sap(weights="zero")):
        block = rows.visual[:, None, None, :] & rows.visible
        rest = before * ~block
        torch.testing.assert_close(after, rest / rest.sum(-1, keepdim=True), rtol=1e-3, atol=1e-5)


def test_zero_on_all_keys_changes_nothing(tiny, items) -> None:
    for before, _, after, _rows in Recorder(tiny, items, Sap(keys="all", weights="zero")):
        assert torch.equal(before, after)


def test_gaussian_logits_keep_other_keys_in_proportion(tiny, items) -> None:
    for before, _, after, rows in Recorder(tiny, items, Sap(weights="gaussian_logits")):
        text = ~rows.visual[0]
        old, new = before[0, 0, -1][text], after[0, 0, -1][text]
        torch.testing.assert_close(old / old.sum(), new / new.sum(), rtol=1e-3, atol=1e-6)


def test_named_heads_layers_and_queries_only(tiny, items) -> None:
    for before, _, after, rows in Recorder(tiny, items, Sap(queries="text", layers=(1,), heads=(0, 2))):
        changed = (before != after).any(-1)  # (B, heads, Q)
        if rows.layer != 1:
            assert not changed.any()
            continue
        assert not changed[:, [1, 3]].any()
        assert not changed.masked_select(rows.query_visual[:, None].expand_as(changed)).any()
        assert changed[:, 0, -1].all()


def test_noise_delta_keeps_the_scale_it_names(tiny, items) -> None:
    batch = tiny.encode(items)
    real = batch.real
    with lostlib.watch(tiny) as true:
        tiny.forward(batch)
    for scale in ("token", "frobenius"):
        with lostlib.watch(tiny) as noisy, lostlib.intervene(tiny, f"noise_delta:scale={scale},layers=0"):
            tiny.forward(batch)
        was, now = (stream[0].attn_out.norm(dim=-1) * real for stream in (true, noisy))
        if scale == "token":
            torch.testing.assert_close(was, now, rtol=1e-4, atol=1e-5)
        else:  # up to the last token the causal form has matched the whole norm on average
            expected = (was.square().cumsum(1) / real.cumsum(1).clamp_min(1)).sqrt()[real]
            ratio = now[real] / expected
            assert 0.9 < float(ratio.mean()) < 1.1
        assert (true[0].attn_out - noisy[0].attn_out).norm() > 0.5 * true[0].attn_out.norm()


def test_noise_qkv_has_the_matrix_moments(tiny) -> None:
    from lostlib.interventions import NoiseQKV

    weight = tiny.attention_modules[1].q_proj.weight.detach() + 0.1
    drawn = NoiseQKV.matrix(weight, 1, "q_proj", 0)
    assert drawn.shape == weight.shape
    assert abs(float(drawn.mean() - weight.mean())) < 4 * float(weight.std()) / weight.numel() ** 0.5
    assert abs(float(drawn.std() / weight.std()) - 1) < 0.05
    assert not torch.equal(drawn, NoiseQKV.matrix(weight, 1, "k_proj", 0))


def test_copies_of_visual_tokens_are_read_alike_whatever_the_weights(tiny, items) -> None:
    batch = tiny.encode(items)

    def first_reading(text: str) -> torch.Tensor:
        with lostlib.intervene(tiny, text), lostlib.watch(tiny, layers=[0]) as stream:
            tiny.forward(batch)
        return stream[0].attn_out[batch.real & ~batch.visual]

    shuffled = "sap:keys=visual,weights=permuted,layers=0"
    moved = (first_reading(shuffled) - first_reading("none")).abs().max()
    still = (first_reading(f"pool & {shuffled}") - first_reading("pool")).abs().max()
    assert still < 1e-5 < 1e-3 < moved


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["attention", "qwen"])
def test_the_benchmark_prints_memory_and_time_as_ratios(setting: str, monkeypatch, capsys) -> None:
    argv = ["--settings", setting, "--sizes", "4", "4", "16", "--repeats", "1", "--interventions", "sap:keys=visual"]
    monkeypatch.setattr("sys.argv", ["probing.py", *argv])
    runpy.run_path(str(paths.ROOT / "bench" / "probing.py"), run_name="__main__")
    plain, changed = capsys.readouterr().out.splitlines()
    (gb, _, s, _), (more_gb, memory, more_s, seconds) = (
        [float(number) for number in re.findall(r"([\d.e-]+) (?:GB|s|x)\b", line)] for line in (plain, changed)
    )
    assert more_s != s
    assert min(gb, s, more_gb, more_s) > 0
    assert memory == pytest.approx(more_gb / gb, abs=0.01)
    assert seconds == pytest.approx(more_s / s, rel=0.02)
