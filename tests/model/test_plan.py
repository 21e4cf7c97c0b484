"""`lostlib run … --plan`: a trial of two items tells what a table will take, and leaves nothing behind."""

from __future__ import annotations

import re

import pytest
import torch
from typer.testing import CliRunner

from lostlib import machine
from lostlib.cli import app
from lostlib.experiments import measure
from lostlib.experiments.plan import trial

SMALL = {"model": "mini-llava-1.5-xs", "benchmark": "mini-pope"}


def asked(*extra: str, experiment: str = "residual"):
    return CliRunner().invoke(app, ["run", experiment, "--model", SMALL["model"], "--n", "40", "--plan", *extra])


@pytest.mark.parametrize("experiment", ["residual", "answers", "attention"])
def test_it_tells_minutes_and_memory_and_stores_nothing(tmp_path, experiment) -> None:
    found = asked("--out", str(tmp_path / "out"), experiment=experiment)
    assert found.exit_code == 0, found.output
    minutes, each, needs, room = map(float, re.findall(r"\d+\.\d+", found.stdout))
    assert minutes == pytest.approx(40 * each / 60, abs=0.2)
    assert 0.05 < needs < room
    assert not list(tmp_path.iterdir())


def test_two_items_run_through_the_loop_and_more_at_once_need_more(monkeypatch) -> None:
    sizes = list[int]()
    real = measure.LOOPS["residual"]

    def loop(model, items, **given):
        sizes.append(len(items))
        held = torch.ones(40_000_000)  # 160 MB an item
        assert held.sum() > 0
        return real(model, items, **given)

    monkeypatch.setitem(measure.LOOPS, "residual", loop)
    one, four = (trial("residual", n=8, batch_size=size, **SMALL) for size in (1, 4))
    assert sizes == [1, 1, 1, 1]
    assert (one.batch, four.batch) == (1, 4)
    assert one.seconds > 0
    assert one.gigabytes > 0.1


def test_the_highest_memory_of_a_call_is_seen_after_a_higher_one() -> None:
    def hold(count: int) -> None:
        assert torch.ones(count).sum() > 0

    machine.highest(lambda: hold(250_000_000))  # 1 GB, which is forgotten
    before, most = machine.highest(lambda: hold(100_000_000))
    assert most - before == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [(["--set", "rank=foo"], "unknown rank rule 'foo'"), (["--benchmark", "mini-popo"], "mini-pope")],
)
def test_mistakes_are_found_alike(given, message) -> None:
    found = asked(*given)
    assert found.exit_code == 2
    assert message in found.output


def test_no_plan_where_items_are_not_what_takes_time() -> None:
    found = asked(experiment="probes")
    assert found.exit_code == 2
    assert "items of its own" in found.output
