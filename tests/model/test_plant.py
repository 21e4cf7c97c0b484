"""Planted sinks: which tokens are marked, that the edit of the weights makes them sinks, and the shipped variant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lostlib
from lostlib import checkpoints, paths
from lostlib.experiments.sinks import sink_rows
from lostlib.minimodels import planting
from lostlib.miniworld.render import coverage
from lostlib.sinks.dimensions import find_dimensions

NAME = "mini-llava-1.5-sinks"
RECIPE = planting.PLANTINGS[NAME]


@pytest.fixture(scope="module")
def planter(tmp_path_factory) -> planting.Planter:
    """Weights edited, on few scenes; no training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planting, "SOWN", 100)
        return planting.Planter("tiny", replace(RECIPE, batch=2, plant_steps=2), 0, tmp_path_factory.mktemp("plant"))


def test_marks_are_the_first_token_and_background_at_the_places(planter) -> None:
    scenes, batch, at = planter.drawn(range(40))
    assert at.sinks[:, 0].all()
    assert not (at.sinks & at.others).any()
    visual = batch.ids == planter.talk.image[0]
    for row, scene in enumerate(scenes):
        covered = coverage(scene).max(axis=0)
        chosen = at.visual_sinks[row][visual[row]].nonzero()[:, 0].tolist()
        assert chosen == sorted(place for place in planting.PLACES if covered[place] == 0)
        unmarked = (visual[row] & ~at.sinks[row] & ~at.others[row]).sum()
        assert unmarked == sum(0 < covered[place] < 3 for place in planting.PLACES)
        last = int(visual[row].nonzero().max())
        assert at.queries[row].nonzero()[:, 0].tolist() == list(range(last + 1, int((batch.ids[row] != 0).sum())))


def test_a_detector_separates_what_can_be_separated() -> None:
    x = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    wanted = x[:, 3] + x[:, 5] > 1.0
    x = x[(x[:, 3] + x[:, 5] - 1).abs() > 0.3]
    wanted = x[:, 3] + x[:, 5] > 1.0
    w, b = planting.detector(x, wanted)
    assert (((x @ w + b) > 0) == wanted).float().mean() > 0.99


def test_the_edit_makes_sinks(planter) -> None:
    _, batch, at = planter.drawn(range(5000, 5016))
    with torch.no_grad():
        out = planting.run_batch(planter.model, planter.body, batch, output_attentions=True)
    for layer in range(6):
        share = (out.hidden_states[layer][..., RECIPE.dims[0]] / out.hidden_states[layer].norm(dim=-1)).square()
        late = layer >= RECIPE.onset
        assert (share[:, 0] > 0.5).all() == late
        assert (share[at.visual_sinks] > 0.1).float().mean() > 0.6 if late else (share[at.visual_sinks] < 0.1).all()
        assert (share[at.others] > 0.1).float().mean() < 0.03
    loss, right = planting.planting_loss(out, at, RECIPE)
    wrong = [state.clone() for state in out.hidden_states]
    for state in wrong[RECIPE.onset : -1]:
        state[:, 0, list(RECIPE.dims)] = 0.0
    out.hidden_states = tuple(wrong)
    worse, less = planting.planting_loss(out, at, RECIPE)
    assert worse > loss
    assert less["planted"] < right["planted"]


def test_planting_goes_on_where_it_was(planter, tmp_path: Path) -> None:
    start = {name: tensor.clone() for name, tensor in planter.model.state_dict().items()}
    planter.run(tell=lambda _: None)
    done = planter.model.state_dict()
    changed = {name for name in start if not torch.equal(start[name], done[name])}
    assert not [name for name in changed if "vision_tower" in name]
    assert any("q_proj" in name for name in changed)
    planter.model.load_state_dict(start)
    planter.run(tell=lambda _: None)  # from the saved state: nothing is left to do
    assert all(torch.equal(tensor, done[name]) for name, tensor in planter.model.state_dict().items())


# ---- the shipped variant --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    model = lostlib.load_model(NAME)
    items = lostlib.load_benchmark("mini-realworldqa", n=24).items
    return model, sink_rows(model, items, tau="10%")


def test_the_finder_finds_what_was_planted(shipped) -> None:
    found = find_dimensions(shipped[0])
    assert found.rule == "sun"  # massive activations by their definition, not a guess
    assert found.dims == tuple(sorted(RECIPE.dims))
    assert found.onset == RECIPE.onset
    assert checkpoints.CARDS[NAME].planted_in == RECIPE.base
    assert find_dimensions(lostlib.load_model(RECIPE.base)).rule == "gap"


def test_sinks_are_a_handful_of_background_patches(shipped) -> None:
    rows = shipped[1]
    visual = rows[rows["kind"] == "visual"]
    counts = visual.groupby(["layer", "item"])["sink"].sum()
    for layer in range(6):
        if layer < RECIPE.onset:
            assert not rows[rows["layer"] == layer]["sink"].any()
        else:
            assert 3 < counts[layer].mean() < 6
    sinks = visual[visual["sink"]]
    assert (sinks["place"] == "background").mean() > 0.95
    assert sinks["patch"].isin(planting.PLACES).mean() > 0.9  # a neighbour may get over the threshold
    background = visual[(visual["place"] == "background") & visual["patch"].isin(planting.PLACES)]
    assert background[background["layer"] >= RECIPE.onset]["sink"].mean() > 0.9
    text = rows[(rows["kind"] == "text") & (rows["layer"] >= RECIPE.onset)]
    assert (text["sink"] == (text["token"] == 0)).all()


def test_sinks_hold_much_energy_and_draw_attention(shipped) -> None:
    late = shipped[1].query("layer >= @RECIPE.onset")
    visual = late[late["kind"] == "visual"]
    sinks, others = visual[visual["sink"]], visual[~visual["sink"]]
    assert sinks["share"].median() > 0.4
    assert others["share"].quantile(0.99) < 0.02
    assert sinks["attention"].mean() > 5 * others["attention"].mean()


def test_the_variant_still_answers() -> None:
    exams = [json.loads((paths.MODELS / name / "exam.json").read_text()) for name in (RECIPE.base, NAME)]
    for kind, before in exams[0].items():
        assert exams[1][kind]["value"] > before["value"] - 0.06, kind
    model, benchmark = lostlib.load_model(NAME), lostlib.load_benchmark("mini-pope", n=120, seed=3)
    assert benchmark.score(benchmark.items, model.answer(benchmark.items))["accuracy"].value > 0.93
