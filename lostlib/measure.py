"""The measuring loops: (model, benchmark, intervention, seed, n) -> tidy rows."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from torch import Tensor

import lostlib
from lostlib.answers import ask_share, check_share
from lostlib.attention import BACKEND, Rows, Run, check_changeable, running
from lostlib.benchmarks import Benchmark, Choice, Item, load_benchmark
from lostlib.experiments import catalog
from lostlib.interventions import Intervention
from lostlib.loops import batches, in_order
from lostlib.memory import keep_memory
from lostlib.modelchoice import ModelChoice
from lostlib.models import LostModel, check_device, load_model, sizes
from lostlib.results import Key, Table, rounded


def attention_mass(model: LostModel, items: Sequence[Item], batch_size: int = 32) -> pd.DataFrame:
    """Where the last prompt token (which predicts the answer) looks, averaged over heads, layer by layer.

    Columns: item, cluster, layer, visual (mass on visual keys), relevant (mass on the visual keys that decide the
    answer; null where the item has none), expected (mass they would get if the visual mass were spread evenly),
    entropy (of the visual mass, normalised to [0, 1]).
    """
    rows: list[dict] = []
    for part in batches(items, batch_size, f"attention of {model.name}"):
        batch = model.encode(part)

        def look(probs: Tensor, scores: Tensor, at: Rows, part: Sequence[Item] = part) -> Tensor:
            for item, weights, visual in zip(part, probs[:, :, -1].mean(1), at.visual, strict=True):
                rows.append(
                    {
                        "item": item.uid,
                        "cluster": item.cluster,
                        "layer": at.layer,
                        **_looking(weights[visual].double(), item),
                    }
                )
            return probs

        with running(Run(model, edits=[look])):
            model.forward(batch)
    return in_order(pd.DataFrame(rows), items)


def _looking(weights: Tensor, item: Item) -> dict[str, float]:
    if not len(weights):  # an item without an image
        return {"visual": 0.0} | dict.fromkeys(("relevant", "expected", "entropy"), float("nan"))
    mass = float(weights.sum())
    share = weights / mass
    relevant = list(item.relevant or ()) if item.located(len(weights)) else []
    return {
        "visual": mass,
        "relevant": float(weights[relevant].sum()) if relevant else float("nan"),
        "expected": mass * len(relevant) / len(weights) if relevant else float("nan"),
        "entropy": float(torch.special.entr(share).sum() / torch.log(torch.tensor(float(len(weights))))),
    }


# ---- tables ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _loaded(model: str, device: str) -> LostModel:
    keep_memory()
    return load_model(model, device=device)


def frame(key: Key, benchmark: Benchmark, device: str = "cpu", work: Path | None = None, **how: Any) -> pd.DataFrame:
    """The rows of a table, for these items; `work` keeps what is done of the answers, `how` changes no result."""
    asked = catalog.experiment(key.experiment)
    given = {**key.parameters, **how} | ({"intervention": key.intervention} if asked.changed else {})
    model = _loaded(key.model, device)
    if asked.shared:
        return asked.measure(model, benchmark, seed=key.seed, work=work, **given)
    seed = {"seed": key.seed} if asked.seeded or asked.changed else {}
    return asked.measure(model, benchmark.items, **seed, **given)


def measure(
    experiment: str,
    *,
    model: str,
    benchmark: str,
    n: int,
    intervention: str = "none",
    seed: int = 0,
    device: str = "cpu",
    work: Path | None = None,
    batch_size: int | None = None,
    **parameters: Any,
) -> Table:
    """Measure one table; see `lostlib.results.obtain` for the parameters. Mistakes are found before the model loads.

    `work` is a folder below which finished parts are kept, see `unfinished`. `batch_size`, items at once, changes no
    result and is no part of the table's key.
    """
    key, items, how = _checked(experiment, model, benchmark, n, intervention, seed, device, batch_size, **parameters)
    began = time.monotonic()
    rows = rounded(frame(key, items, device, work and unfinished(work, key), **how))
    return Table(rows, key, _about(_loaded(key.model, device), key, items.origin, time.monotonic() - began))


def measure_share(experiment: str, share: tuple[int, int], *, work: Path, **asked: Any) -> tuple[Key, int]:
    """Leave one of several shares of a table's answers in `work`, where `measure` finds them; how many items it is.

    Several processes, on several machines with one disk, so measure one table: ``(2, 4)`` is the second of four shares.
    The rest is as for `measure`, and `batch_size` must be the same for all.
    """
    if not catalog.experiment(experiment).shared:
        raise ValueError(f"only answers are measured in shares, {experiment} was given")
    check_share(share)
    key, items, how = _checked(experiment, **asked)
    model = _loaded(key.model, asked.get("device", "cpu"))
    done = ask_share(model, items, share, unfinished(work, key), key.intervention, key.seed, **key.parameters, **how)
    return key, done


def _checked(
    experiment: str, model: str, benchmark: str, n: int, intervention: str = "none", seed: int = 0,
    device: str = "cpu", batch_size: int | None = None, **parameters: Any,
) -> tuple[Key, Benchmark, dict[str, int]]:  # fmt: skip
    """What is to be measured, once nothing is wrong with it, its items, and what is no part of the key."""
    about, how = catalog.experiment(experiment), {} if batch_size is None else {"batch_size": batch_size}
    text, seed, parameters = catalog.canonical(experiment, intervention, seed, parameters)
    own = about.checked(parameters | how)
    chosen, loaded, asked = Intervention.parse(text), ModelChoice.parse(model), Choice.parse(benchmark)
    if about.looks or text != "none":
        check_changeable(loaded.name, loaded.backend or BACKEND)
    check_device(device)
    for changes in (chosen, own):
        if isinstance(changes, Intervention):
            changes.check(sizes(str(loaded)))
    items = load_items(str(loaded), asked, n)
    _loaded(str(loaded), device)  # of a hub model the commit is known from here on
    return Key.of(experiment, model, benchmark, n, text, seed, parameters), items, how


def load_items(model: str, choice: Choice, n: int) -> Benchmark:
    """The items as this model is asked them: VLMEvalKit's prompts depend on the family."""
    family = sizes(model).family if choice.prompt == "vlmevalkit" else None
    return _items(choice, n, family, os.environ.get("LOST_DATA"))


@lru_cache(maxsize=2)
def _items(choice: Choice, n: int, family: str | None, copies: str | None) -> Benchmark:
    """The last two are kept: making a thousand pictures takes seconds, and tables are often measured in a row.

    `copies`, where benchmarks of the hub lie, is here so that another folder is another entry.
    """
    return load_benchmark(str(choice), n=n, family=family)


def unfinished(work: Path, key: Key) -> Path:
    """Where the finished parts of a table wait for the rest."""
    return work / key.weights / key.path.with_suffix("")


def clear(work: Path, key: Key) -> None:
    """Take away a finished table's parts; the folders above them too, as far as nothing else is in them."""
    parts = unfinished(work, key)
    shutil.rmtree(parts, ignore_errors=True)
    with suppress(OSError):  # not empty
        for folder in parts.relative_to(work).parents:
            (work / folder).rmdir()


def _about(model: LostModel, key: Key, origin: str, seconds: float) -> dict[str, Any]:
    """What is recorded besides the key."""
    versions = {
        "lostlib": lostlib.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    return {
        "versions": versions, "device": device, "dtype": str(model.dtype).removeprefix("torch."),
        "backend": model.backend, "pixels": model.pixels and list(model.pixels), "origin": origin,
        "date": datetime.date.today().isoformat(), "seconds": round(seconds, 1), "command": key.command,
    }  # fmt: skip
