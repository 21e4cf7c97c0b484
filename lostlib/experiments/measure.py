"""From a key to a table: (model, benchmark, intervention, seed, n) -> tidy rows, and what is recorded beside them."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

import lostlib
from lostlib import catalog, paths
from lostlib.benchmarks import Benchmark, Choice, load_benchmark
from lostlib.checkpoints import ModelChoice
from lostlib.experiments import answers, attention, losses, nulls, probes, readings, residual, sinks, spans, writing
from lostlib.experiments.answers import ask_share, check_share
from lostlib.experiments.measures import check_measures
from lostlib.experiments.rows import LEFT_OUT
from lostlib.interventions import Intervention
from lostlib.machine import keep_memory
from lostlib.models import LostModel, check_device, load_model, sizes
from lostlib.models.attention import BACKEND, check_changeable
from lostlib.tables import Key, Table, rounded
from lostlib.text import check_count

LOOPS: dict[str, Callable[..., pd.DataFrame]] = {  # (model, items, ...) -> rows; answers take a benchmark
    "answers": answers.answers,
    "readings": readings.reading_rows,
    "losses": losses.loss_rows,
    "residual": residual.residual_metrics,
    "attention": attention.attention_mass,
    "maps": attention.map_rows,
    "sinks": sinks.sink_rows,
    "heads": sinks.head_rows,
    "sinkmaps": sinks.map_rows,
    "nulls": nulls.null_metrics,
    "spans": spans.span_metrics,
    "probes": probes.probe_rows,
    "writing": writing.writing_rows,
}
CHECKS: dict[str, Callable[..., Any]] = {  # of the parameters' values
    "losses": losses.check_layers,
    "residual": residual.check_residual,
    "sinks": sinks.check_sinks,
    "sinkmaps": sinks.asked_sinks,
    "heads": sinks.asked_heads,
    "nulls": check_measures,
    "spans": spans.check_spans,
}


def check_parameters(experiment: str, given: Mapping[str, Any]) -> Any:
    """Refuse values that mean nothing; no model is loaded for it.

    What the parameters mean is given back: for experiments on sinks, the intervention that they describe.
    """
    asked = {**catalog.experiment(experiment).parameters, **given}
    for name in catalog.COUNTS & asked.keys():
        if asked[name] is not None:
            check_count(name, asked[name])
    values = {name: value for name, value in asked.items() if name not in catalog.COUNTS}
    return CHECKS[experiment](**values) if experiment in CHECKS else None


@lru_cache(maxsize=2)
def load_once(model: str, device: str) -> LostModel:
    """A model, kept for the next table."""
    keep_memory()
    return load_model(model, device=device)


def frame(key: Key, benchmark: Benchmark, device: str = "cpu", work: Path | None = None, **how: Any) -> pd.DataFrame:
    """The rows of a table, for these items; `work` keeps what is done, `how` changes no result."""
    asked = catalog.experiment(key.experiment)
    given = asked.usual(key.model) | key.parameters | how
    given |= {"intervention": key.intervention} if asked.changed else {}
    model = load_once(key.model, device)
    seed = {"seed": key.seed} if asked.seeded or asked.changed else {}
    items = benchmark if asked.asked else benchmark.items
    if asked.pilot:
        given["pilot"] = load_items(key.model, Choice.parse(key.benchmark), asked.pilot, seed=1)
    return LOOPS[key.experiment](model, items, work=work, **seed, **given)


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
    key, items, how = checked(experiment, model, benchmark, n, intervention, seed, device, batch_size, **parameters)
    began = time.monotonic()
    rows = frame(key, items, device, work and unfinished(work, key), **how)
    about = _about(load_once(key.model, device), key, items.origin, time.monotonic() - began)
    if left_out := rows.attrs[LEFT_OUT]:
        about[LEFT_OUT] = left_out
    return Table(rounded(rows), key, about)


def measure_share(experiment: str, share: tuple[int, int], *, work: Path, **asked: Any) -> tuple[Key, int]:
    """Leave one of several shares of a table's answers in `work`, where `measure` finds them; how many items it is.

    Several processes, on several machines with one disk, so measure one table: ``(2, 4)`` is the second of four shares.
    The rest is as for `measure`, and `batch_size` must be the same for all.
    """
    if not catalog.experiment(experiment).shared:
        raise ValueError(f"only answers are measured in shares, {experiment} was given")
    check_share(share)
    key, items, how = checked(experiment, **asked)
    model = load_once(key.model, asked.get("device", "cpu"))
    done = ask_share(model, items, share, unfinished(work, key), key.intervention, key.seed, **key.parameters, **how)
    return key, done


def checked(
    experiment: str, model: str, benchmark: str, n: int, intervention: str = "none", seed: int = 0,
    device: str = "cpu", batch_size: int | None = None, **parameters: Any,
) -> tuple[Key, Benchmark, dict[str, int]]:  # fmt: skip
    """What is to be measured, once nothing is wrong with it, its items, and what is no part of the key."""
    about, how = catalog.experiment(experiment), {} if batch_size is None else {"batch_size": batch_size}
    text, seed, parameters = catalog.canonical(experiment, intervention, seed, parameters, model)
    own = check_parameters(experiment, parameters | how)
    chosen, loaded, asked = Intervention.parse(text), ModelChoice.parse(model), Choice.parse(benchmark)
    if about.looks or text != "none":
        check_changeable(loaded.name, loaded.backend or BACKEND)
    check_device(device)
    shape = sizes(str(loaded))
    if about.pictures and not shape.sees:
        raise ValueError(f"{experiment} tells where a model looks in a picture, and {shape.name} sees none")
    for changes in (chosen, own):
        if isinstance(changes, Intervention):
            changes.check(shape)
    items = load_items(str(loaded), asked, n)
    if about.asked and not all(item.chat for item in items.items):
        raise ValueError(f"{items.name} holds texts and asks nothing, so there are no answers; measure losses")
    if not shape.sees and any(len(item.images) for item in items.items):
        raise ValueError(f"{items.name} shows pictures, and {shape.name} is a language model that sees none")
    load_once(str(loaded), device)  # of a hub model the commit is known from here on
    return Key.of(experiment, model, benchmark, n, text, seed, parameters), items, how


def load_items(model: str, choice: Choice, n: int, seed: int = 0) -> Benchmark:
    """The items as this model is asked them: VLMEvalKit's prompts depend on the family."""
    family = sizes(model).family if choice.prompt == "vlmevalkit" else None
    return _items(choice, n, family, os.environ.get("LOST_DATA"), seed)


@lru_cache(maxsize=2)
def _items(choice: Choice, n: int, family: str | None, copies: str | None, seed: int) -> Benchmark:
    """The last two are kept: making a thousand pictures takes seconds, and tables are often measured in a row.

    `copies`, where benchmarks of the hub lie, is here so that another folder is another entry.
    """
    return load_benchmark(str(choice), n=n, family=family, seed=seed)


def some(benchmark: Benchmark, places: Iterable[int]) -> Benchmark:
    """Only these of its items, by their places."""
    chosen = list(places)
    return replace(benchmark, items=tuple(benchmark.items[i] for i in chosen), rows=[benchmark.rows[i] for i in chosen])


def unfinished(work: Path, key: Key) -> Path:
    """Where the finished parts of a table wait for the rest."""
    return work / f"{key.weights}.v{key.version}" / key.path.with_suffix("")


def clear(work: Path, key: Key) -> None:
    """Take away a finished table's parts, and those of others that nobody went on with for a month."""
    paths.remove(unfinished(work, key))
    paths.remove_old(work.glob("*/*/*/*/*"), days=30)
    with suppress(OSError):  # another process is faster
        for folder in [*sorted(work.rglob("*"), reverse=True), work]:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _settings(model: LostModel) -> dict[str, Any]:
    """Of the decoding, what is not as usual in transformers and can change an answer."""
    plain = ("token_id", "transformers_version", "output_", "use_cache", "_from")
    found = model.generation.to_diff_dict()
    return {name: value for name, value in found.items() if not any(part in name for part in plain)}


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
        "prompt": model.template.form,
        "decoding": {"rule": model.decoding} | _settings(model),
        "date": datetime.date.today().isoformat(), "seconds": round(seconds, 1), "command": key.command,
    }  # fmt: skip
