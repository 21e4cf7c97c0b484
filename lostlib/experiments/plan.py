"""What a table will cost on this machine: a trial of two of its items, through the loop that would measure them all."""

from __future__ import annotations

import inspect
import time
from typing import Any, NamedTuple

from lostlib import catalog, machine
from lostlib.experiments import measure, rows


class Cost(NamedTuple):
    """What measuring a table will take, as far as two items can tell."""

    items: int
    seconds: float  #: for an item of middle length
    batch: int  #: items at once
    gigabytes: float  #: of 10^9 bytes, for so many of the longest at once, model included
    place: str  #: whose memory, cpu or cuda

    def __str__(self) -> str:
        takes = (
            f"{self.items} items take about {self.items * self.seconds / 60:.1f} minutes ({self.seconds:.2f} s each)"
        )
        room = machine.memory().get("cpu" if self.place == "cpu" else "cuda:0", float("nan"))
        needs = f"about {self.gigabytes:.1f} of {room:.1f} GB ({self.place}) in batches of {self.batch}"
        return f"{takes} and {needs}: a trial of two, nothing is stored"


def trial(experiment: str, **asked: Any) -> Cost:
    """Measure two items and keep nothing; parameters are those of `measure.measure`, and mistakes are found alike.

    The longest item tells the memory, the one in the middle, once all is warm, the time. On a GPU a batch takes less
    time than its items one by one, and the cores of a large CPU may make more of one too.
    """
    about = catalog.experiment(experiment)
    if about.pilot or "scenes" in about.parameters:
        raise ValueError(f"{experiment} spends its time on items of its own, whatever the items are: there is no plan")
    key, benchmark, how = measure.checked(experiment, **asked)
    order = [i for batch in rows.plan(benchmark.items, 1).batches for i in batch]  # longest first
    if not order:
        raise ValueError(f"none of {len(benchmark.items)} items of {benchmark.name} can be read")
    batch = how.get("batch_size") or inspect.signature(measure.LOOPS[experiment]).parameters["batch_size"].default
    device = asked.get("device", "cpu")

    def one(place: int) -> None:
        measure.frame(key, measure.some(benchmark, [order[place]]), device, batch_size=1)

    kind = measure.load_once(key.model, device).device.type
    before, most = machine.highest(lambda: one(0), kind)
    began = time.perf_counter()
    one(len(order) // 2)
    seconds = time.perf_counter() - began
    return Cost(len(order), seconds, batch, before + (most - before) * min(batch, len(order)), kind)
