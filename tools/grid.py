"""A grid of measurements as jobs, for measure.smk: what it asks for, which tables are missing, what a job needs.

Every job of a cluster reads the grid again, so torch is not needed to read it, only to find what is missing.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from lostlib import catalog, paths
from lostlib.checkpoints import CARDS, ModelChoice
from lostlib.machine import HEADROOM, minutes
from lostlib.tables import Key, is_held
from lostlib.text import nearest

GPU = 80  # GB; a model that is larger gets several GPUs
UNKNOWN = 16.0  # GB, of a hub model that `lostlib models` does not list


@dataclass(frozen=True)
class Block:
    """One entry of a grid: every combination of its lists."""

    experiment: str
    models: list[str]
    benchmarks: list[str]
    n: int
    interventions: list[str] = field(default_factory=lambda: ["none"])
    seeds: int = 1  # where something is random; elsewhere there is one
    parameters: dict[str, Any] = field(default_factory=dict)
    shares: int = 1  # jobs a table of answers
    batch_size: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        about = catalog.experiment(self.experiment)
        for name in ("models", "benchmarks", "interventions"):
            if not isinstance(given := getattr(self, name), list):
                raise ValueError(f"{name} must be a list, got {given!r}")
        if self.shares > 1 and not about.shared:
            raise ValueError(f"only answers are measured in shares, {self.experiment} was given {self.shares}")

    def jobs(self) -> Iterator[Job]:
        """One job a table, for all seeds."""
        for model, benchmark, intervention, seed in product(
            self.models, self.benchmarks, self.interventions, range(self.seeds)
        ):
            _check_model(model)
            key = Key.of(self.experiment, model, benchmark, self.n, intervention, seed, self.parameters)
            if key.seed != seed:
                continue  # not the second seed where nothing is random
            yield Job(key, self.device, self.shares, self.batch_size)


@dataclass(frozen=True)
class Job:
    """One table, measured in so many shares."""

    key: Key
    device: str
    shares: int
    batch_size: int | None

    @property
    def name(self) -> str:
        """The table's path in a folder of results, without its ending."""
        return self.key.path.with_suffix("").as_posix()

    @property
    def title(self) -> str:
        """What a person is told of it."""
        own = "".join(f", {name}={value}" for name, value in self.key.parameters.items())
        return (
            f"{self.key.experiment} of {self.key.model} on {self.key.benchmark}, {self.key.intervention}{own}, "
            f"seed {self.key.seed}, {self.key.n} items"
        )

    def command(self, out: str, share: str | None = None) -> str:
        """What to hand to the command line."""
        more = ["--device", self.device, "--out", out, "--keep"]
        more += ["--set", f"batch_size={self.batch_size}"] if self.batch_size else []
        more += ["--share", f"{share}/{self.shares}"] if share else []
        return f"{self.key.command.removeprefix('lostlib ')} {shlex.join(more)}"

    @property
    def resources(self) -> dict[str, int]:
        """Memory in MB, minutes and GPUs. Generous guesses from the model's size: nobody has measured them."""
        card, size = CARDS.get(ModelChoice.parse(self.key.model).name), _gigabytes(self.key.model) * HEADROOM
        passes = 1 if self.key.experiment == "answers" else 20  # in double precision, several updates a module
        estimate = minutes(card, self.key.n) * passes * 5 / self.shares if card else 60
        return {
            "mem_mb": math.ceil(2000 + 1000 * size),
            "runtime": math.ceil(20 + estimate),
            "gpu": 0 if self.device == "cpu" else math.ceil(size / GPU),
        }


def jobs(path: str | Path) -> dict[str, Job]:
    """All jobs of a grid by name, every seed of every intervention."""
    found: dict[str, Job] = {}
    for job in (job for block in _blocks(paths.given(path)) for job in block.jobs()):
        if job.name in found:
            raise ValueError(f"{path} asks twice for {job.title}")
        found[job.name] = job
    return found


def missing(asked: Iterable[Job], results: str | Path) -> list[Job]:
    """The jobs whose tables this folder lacks, or holds of fewer items or other weights; mistakes are errors."""
    from lostlib.experiments import measure

    found = []
    for job in asked:
        measure.check_parameters(job.key.experiment, job.key.parameters)
        if not is_held(job.key, paths.given(results)):
            found.append(job)
    return found


def _blocks(path: Path) -> Iterator[Block]:
    names = {f.name: f for f in fields(Block)}
    entries = yaml.safe_load(path.read_text())
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} must be a list of blocks, each of {', '.join(names)}")
    for entry in entries:
        for name in entry:
            if name not in names:
                raise ValueError(f"{path}: {name!r} is not one of {', '.join(names)}{nearest(name, names)}")
        if lacking := {"experiment", "models", "benchmarks", "n"} - entry.keys():
            raise ValueError(f"{path}: a block lacks {', '.join(sorted(lacking))}")
        yield Block(**entry)


@cache
def _check_model(text: str) -> None:
    """Refuse a name that is neither a folder nor like a hub id."""
    choice = ModelChoice.parse(text)
    if not choice.folder and "/" not in choice.name:
        raise ValueError(f"no model {choice.name!r}, here or on the hub{nearest(choice.name, CARDS)}")


@cache
def _gigabytes(text: str) -> float:
    """Of a model's weights when they are loaded."""
    choice = ModelChoice.parse(text)
    if choice.card:
        return choice.card.gigabytes
    if choice.folder:  # loaded in single precision, and maybe stored in half
        return 2 * sum(file.stat().st_size for file in choice.folder.glob("*.safetensors")) / 1e9
    return UNKNOWN
