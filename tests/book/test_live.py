"""The model in the page is the model in Python: the same pictures, questions, answers, probabilities and attention."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from chromium import PROGRAM, Chromium

import lostlib
from lostlib.benchmarks import Item
from lostlib.experiments.attention import map_rows
from lostlib.miniworld.questions import KINDS
from lostlib.miniworld.render import pixels, relevant_tokens, render
from lostlib.miniworld.scenes import generator
from lostlib.report import live
from lostlib.sinks import sink_dimensions

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "_build" / "html" / "book" / "playground.html"
CHANGES = [
    "none",
    "sap:keys=visual,weights=gaussian",
    "sap:keys=visual,weights=permuted",
    "sap:keys=visual,queries=text,weights=gaussian_abs",
    "sap:keys=visual,queries=visual,weights=gaussian,layers=0-2",
    "sap:keys=text,queries=last,weights=gaussian_logits,heads=1+3",
    "sap:keys=visual,weights=static,mass=share",
    "sap:keys=all,weights=uniform,mass=0.5,phase=prefill,spare=first",
    "knockout:keys=random,per=layer,tau=2,among=all",
    "knockout:keys=sinks,flavour=zero,tau=2",
    "var:tau=2,p=0.7,rho=0.3",
    "pool & sap:keys=visual,weights=zero,layers=1",
]
SCENES = 60
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not PAGE.exists(), reason="the book is not built"),
              pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")]  # fmt: skip


@pytest.fixture(scope="module")
def page() -> Iterator[Chromium]:
    browser = Chromium()
    assert browser.open(PAGE) == []
    browser.evaluate("lostLive.update()")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def scenes() -> list:
    return live.scenes(SCENES)


def as_script(scene) -> str:
    return json.dumps({"background": scene.background, "things": [asdict(thing) for thing in scene.things]})


def asked(scenes: list) -> list[Item]:
    """A question about each scene, its kind in turn."""
    found = []
    for i, scene in enumerate(scenes):
        rng = generator("test", 99, i)
        names = [*[*KINDS][i % len(KINDS) :], *KINDS]
        question = next(q for name in names if (q := KINDS[name](scene, rng)) is not None)
        found.append(Item(f"scene {i}", (render(scene),), question.text, question.answer, question.kind))
    return found


def test_pictures_are_the_same_to_the_pixel(page: Chromium, scenes: list):
    for scene in scenes:
        drawn = page.evaluate(f"Array.from(lostLive.render({as_script(scene)}))")
        assert np.array_equal(np.array(drawn).reshape(64, 64, 3), pixels(scene))


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in ("relation_choice", "arithmetic")])
def test_questions_are_asked_in_pythons_words(page: Chromium, scenes: list, kind: str):
    checked = 0
    for i, scene in enumerate(scenes[:20]):
        if (question := KINDS[kind](scene, generator("test", 98, i))) is None:
            continue
        offered = page.evaluate(f"lostLive.questions('{kind}', {as_script(scene)})")
        [same] = [one for one in offered if one["text"] == question.text]
        assert same["answer"] == question.answer
        patches = page.evaluate(f"lostLive.relevant({as_script(scene)}, {sorted(question.things)})")
        assert tuple(patches) == relevant_tokens(scene, question.things)
        checked += 1
    assert checked > 5


def ask(page: Chromium, name: str, item: Item, scene, change: str, seed: int) -> dict:
    question = {"question": item.prompt, "item": item.uid, "intervention": change, "seed": seed}
    return page.evaluate(
        f"lostLive.ask('{name}', {{...{json.dumps(question)}, pixels: lostLive.render({as_script(scene)})}})"
        ".then((found) => ({text: found.text, tokens: found.tokens, visual: Array.from(found.visual),"
        " attention: found.attention.map((layer) => Array.from(layer))}))"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::lostlib.sinks.SinkWarning")  # the small models have no sinks of their own
@pytest.mark.parametrize(("name", "count"), [("mini-llava-1.5-xs", SCENES), ("mini-llava-1.5", 5)])
def test_answers_probabilities_and_attention_are_pythons(page: Chromium, scenes: list, name: str, count: int):
    items = asked(scenes)[:count]
    model = lostlib.load_model(name)
    for seed, change in enumerate(CHANGES):
        with lostlib.intervene(model, change, seed=seed):
            replies = model.reply(items)
        maps = None
        for item, scene, reply in zip(items, scenes, replies, strict=False):
            found = ask(page, name, item, scene, change, seed)
            assert found["text"] == reply.raw, (change, item.uid)
            assert sum(token["logprob"] for token in found["tokens"]) == pytest.approx(reply.logprob, abs=1e-3)
            if maps is None:  # the first scene's
                maps = map_rows(model, [item], change, seed)["weight"].to_numpy()
                weights = np.array(found["attention"]).reshape(6, 4, -1)[:, :, np.array(found["visual"]) > 0]
                assert weights.ravel() == pytest.approx(maps, abs=1e-3)


def test_sink_dimensions_are_the_models_own():
    for name, dims in live.SINK_DIMENSIONS.items():
        with pytest.warns(lostlib.sinks.SinkWarning):
            assert sink_dimensions(lostlib.load_model(name)) == dims


def test_an_intervention_has_one_text(page: Chromium):
    for change in CHANGES:
        assert page.evaluate(f"(({{parse, write}}) => write(parse({json.dumps(change)})))(lostEngine())") == change
    for wrong in ("sap:weights=gausian", "noise_qkv", "sap:colour=red"):
        said = page.evaluate(
            f"(() => {{ try {{ lostEngine().parse('{wrong}'); }} catch (e) {{ return e.message; }} }})()"
        )
        assert said


def test_a_link_holds_the_state(page: Chromium, tmp_path: Path):
    """Who follows it sees the same scene, question and change."""
    (tmp_path / "elsewhere.html").write_text("Another page.")
    wanted = {"things": "02101.33440", "kind": "relation", "change": "pool", "seed": "7"}
    page.evaluate(f"Object.assign(lostLive.state, {json.dumps(wanted)}); lostLive.update()")
    link = page.evaluate("location.href")
    page.open(tmp_path / "elsewhere.html")
    page.call("Page.navigate", url=link)
    while not page.evaluate("document.readyState === 'complete' && 'lostLive' in globalThis"):
        time.sleep(0.1)
    state = page.evaluate("lostLive.update().then(() => lostLive.state)")
    assert {name: str(state[name]) for name in wanted} == wanted
    assert page.evaluate("document.querySelectorAll('.live-grid button[aria-label*=\"pick it up\"]').length") == 2


def test_the_small_model_and_the_world_weigh_little():
    live_folder = PAGE.parents[1] / "_static" / "live"
    sizes = [
        (live_folder / name).stat().st_size for name in ("world.js", "mini-llava-1.5-xs.js", "engine.js", "live.js")
    ]
    assert sum(sizes) < 3_000_000
