"""A grid of measurements as jobs, for measure.smk: what it asks for, which tables are missing, what a job needs.

Every job of a cluster reads the grid again, so torch is not needed to read it, only to find what is missing.
"""

from __future__ import annotations

import math
import reprlib
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
from lostlib.text import among, check_count, nearest

GPU = 80  # GB; a model that is larger gets several GPUs
UNKNOWN = 16.0  # GB, of a hub model that `lostlib models` does not list
MOST = 100_000  # jobs of one block, and entries of one mapping: beyond it something is wrong
PLAIN = (str, int, float, type(None))


@dataclass(frozen=True)
class Block:
    """One entry of a grid: every combination of its lists."""

    experiment: str
    models: list[str]
    benchmarks: list[str]
    n: int
    interventions: list[str] = field(default_factory=lambda: ["none"])
    seeds: int = 1  #: where something is random; elsewhere there is one
    parameters: dict[str, Any] = field(default_factory=dict)
    shares: int = 1  #: jobs a table of answers
    batch_size: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        self._check_types()
        lists = (self.models, self.benchmarks, self.interventions)
        if (count := math.prod(map(len, lists)) * self.seeds * self.shares) > MOST:
            raise ValueError(f"{count} jobs are asked for, with seeds and shares; expected at most {MOST}")
        about = catalog.experiment(self.experiment)
        if self.shares > 1 and not about.shared:
            raise ValueError(f"only answers are measured in shares, {self.experiment} was given {self.shares}")

    def _check_types(self) -> None:
        """What YAML made of a field is what the field is, before anything is done with it."""
        for name in ("experiment", "device"):
            _expect(isinstance(given := getattr(self, name), str), name, "a text", given)
        for name in ("models", "benchmarks", "interventions"):
            given = getattr(self, name)
            texts = isinstance(given, list) and given and all(isinstance(one, str) for one in given)
            _expect(bool(texts), name, "a list of texts", given)
        given = self.parameters
        named = isinstance(given, dict) and all(isinstance(name, str) for name in given)
        _expect(named, "parameters", "names with values", given)
        for name, value in given.items():
            parts = value if isinstance(value, list) else [value]
            _expect(all(isinstance(part, PLAIN) for part in parts), name, "a text, a number or a list of them", value)
        for name in ("n", "seeds", "shares", *["batch_size"] * (self.batch_size is not None)):
            given = getattr(self, name)
            _expect(isinstance(given, int), name, "a whole number of at least 1", given)
            check_count(name, given)

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


FIELDS = [f.name for f in fields(Block)]


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
    for number, entry in enumerate(_entries(paths.given(path)), 1):
        with _in_block(path, number):
            for job in _block(entry).jobs():
                if job.name in found:
                    raise ValueError(f"the grid asks twice for {job.title}")
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


class _Loader(yaml.SafeLoader):
    """YAML without what a few lines of it can blow up to: lists that are aliases are shared, mappings are copied."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST:
            raise yaml.constructor.ConstructorError(problem="a mapping is too large", problem_mark=node.start_mark)


def _entries(path: Path) -> list[dict]:
    try:
        entries = yaml.load(path.read_text("utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        at = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path}{at}: this is no YAML, {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: this is no YAML, {str(error).splitlines()[0]}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} must be a list of blocks, each of {', '.join(FIELDS)}, got {_short(entries)}")
    return entries


def _block(entry: dict) -> Block:
    for name in entry:
        if name not in FIELDS:
            raise ValueError(f"{_short(name)} is not one of {among(name, FIELDS)}")
    if lacking := {"experiment", "models", "benchmarks", "n"} - entry.keys():
        raise ValueError(f"a block lacks {', '.join(sorted(lacking))}")
    return Block(**entry)


@contextmanager
def _in_block(path: str | Path, number: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}, block {number}: {error}") from error


def _expect(fits: bool, name: str, expected: str, given: Any) -> None:
    if not fits:
        bare = "; a bare no, off or null is no text in YAML: put it in quotes"
        hint = bare if isinstance(given, list) and any(one is None or isinstance(one, bool) for one in given) else ""
        raise ValueError(f"{name} must be {expected}, got {_short(given)}{hint}")


def _short(given: Any) -> str:
    """What was given, cut where it is long: aliases of aliases may be of any size."""
    shown = reprlib.Repr()
    shown.maxlevel = 2
    return shown.repr(given)


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
