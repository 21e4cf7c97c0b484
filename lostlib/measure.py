"""The measuring loops: (model, benchmark, intervention, seed, n) -> tidy rows."""

from __future__ import annotations

import datetime
import inspect
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from torch import Tensor

import lostlib
from lostlib import probes, sinkrows, spans
from lostlib.answers import answers, ask_share, check_share
from lostlib.attention import BACKEND, Rows, Run, check_changeable, running
from lostlib.benchmarks import VERSIONS, Benchmark, Choice, Item, load_benchmark
from lostlib.interventions import Intervention
from lostlib.loops import batches, check_count, in_order
from lostlib.maps import map_rows
from lostlib.memory import keep_memory
from lostlib.modelchoice import ModelChoice
from lostlib.models import LostModel, check_device, load_model, sizes
from lostlib.names import nearest
from lostlib.results import Key, Table, check_experiment, rounded
from lostlib.updates import check_measures, check_residual, residual_metrics


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


EXPERIMENTS: dict[str, Callable[..., pd.DataFrame]] = {
    "answers": answers,
    "residual": residual_metrics,
    "attention": attention_mass,
    "sinks": sinkrows.sink_rows,
    "heads": sinkrows.head_rows,
    "sinkmaps": sinkrows.map_rows,
    "maps": map_rows,
    "nulls": spans.null_metrics,
    "spans": spans.span_metrics,
    "probes": probes.probe_rows,
}
CHECKS: dict[str, Callable[..., Any]] = {  # of the parameters' values
    "residual": check_residual,
    "sinks": sinkrows.asked_sinks,
    "sinkmaps": sinkrows.asked_sinks,
    "heads": sinkrows.asked_heads,
    "nulls": check_measures,
    "spans": spans.check_spans,
}
WATCHED = ("answers", "residual", "nulls", "spans")  # can be measured without a look at attention weights
COUNTS = {"batch_size", "max_new_tokens", "scenes"}
SHARED = ("model", "benchmark", "items", "intervention", "seed", "work")  # not the experiment's own


def _parameters(experiment: str) -> Mapping[str, inspect.Parameter]:
    """What an experiment's loop takes; those with an intervention may be measured under one."""
    return inspect.signature(EXPERIMENTS[experiment]).parameters


def is_random(experiment: str, intervention: Intervention) -> bool:
    """Does the seed matter: to the intervention, or else to the controls of the experiment."""
    taken = _parameters(experiment)
    return bool(intervention.random) if "intervention" in taken else "seed" in taken


def check_parameters(experiment: str, given: Mapping[str, Any]) -> Any:
    """Refuse an experiment, a parameter of it or a value that does not exist; nothing is loaded for it.

    What the parameters mean is given back: for experiments on sinks, the intervention that they describe.
    """
    check_experiment(experiment)
    own = {name: about.default for name, about in _parameters(experiment).items() if name not in SHARED}
    for name in given:
        if name not in own:
            raise ValueError(f"{experiment} has no parameter {name!r}; there are {', '.join(own)}{nearest(name, own)}")
    asked = own | dict(given)
    for name in COUNTS & asked.keys():
        if asked[name] is not None:
            check_count(name, asked[name])
    values = {name: value for name, value in asked.items() if name not in COUNTS}
    return CHECKS[experiment](**values) if experiment in CHECKS else None


@lru_cache(maxsize=2)
def _loaded(model: str, device: str) -> LostModel:
    keep_memory()
    return load_model(model, device=device)


def frame(key: Key, benchmark: Benchmark, device: str = "cpu", work: Path | None = None, **how: Any) -> pd.DataFrame:
    """The rows of a table, for these items; `work` keeps what is done of the answers, `how` changes no result."""
    model, given = _loaded(key.model, device), key.parameters | how
    if key.experiment == "answers":
        return answers(model, benchmark, key.intervention, key.seed, **given, work=work)
    named = {"intervention": key.intervention, "seed": key.seed}
    given |= {name: value for name, value in named.items() if name in _parameters(key.experiment)}
    return EXPERIMENTS[key.experiment](model, benchmark.items, **given)


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
    if experiment != "answers":
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
    how = {} if batch_size is None else {"batch_size": batch_size}
    own = check_parameters(experiment, parameters | how)
    chosen, loaded, asked = Intervention.parse(intervention), ModelChoice.parse(model), Choice.parse(benchmark)
    if "intervention" not in _parameters(experiment) and str(chosen) != "none":
        raise ValueError(f"{experiment} tables are of the untouched model, intervention {intervention!r} was given")
    if experiment not in WATCHED or str(chosen) != "none":
        check_changeable(loaded.name, loaded.backend or BACKEND)
    check_device(device)
    for changes in (chosen, own):
        if isinstance(changes, Intervention):
            changes.check(sizes(str(loaded)))
    items = load_items(str(loaded), asked, n)
    weights, version = _loaded(str(loaded), device).weights, VERSIONS[asked.name]
    key = Key(experiment, str(loaded), weights, str(asked), version, str(chosen), seed, n, parameters)
    return key, items, how


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
