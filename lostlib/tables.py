"""Measured tables: what identifies one, and Parquet in and out. No torch.

A table is identified by its `Key`: experiment, model and weights, benchmark and version, intervention, seed, n and
parameters. Its manifest also records versions, device, date and the command that makes it; these are not part of the
key.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lostlib import paths
from lostlib.benchmarks import Choice
from lostlib.catalog import canonical
from lostlib.checkpoints import ModelChoice
from lostlib.text import check_count

META = b"lostlib"  # the manifest's place in the Parquet file
# columns held in parts of a unit: finer than what repeats between machines, coarse enough to compress
STEPS = {"logprob": 1024}


@dataclass(frozen=True)
class Key:
    """What a table is a measurement of."""

    experiment: str
    model: str
    weights: str
    benchmark: str
    version: str
    intervention: str = "none"
    seed: int = 0
    n: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, experiment: str, model: str, benchmark: str, n: int, intervention: str = "none", seed: int = 0,
        parameters: Mapping[str, Any] | None = None,
    ) -> Key:  # fmt: skip
        """The one key of what is asked for, however it is written; no model is loaded. Mistakes are errors."""
        check_count("n", n)
        loaded, asked = ModelChoice.parse(model), Choice.parse(benchmark)
        rest = canonical(experiment, intervention, seed, parameters, loaded.name)
        return cls(experiment, str(loaded), loaded.weights, str(asked), asked.rules.version, *rest[:2], n, rest[2])

    @property
    def path(self) -> Path:
        """Where the table is kept, below a results folder."""
        extra = "".join(f".{k}={v}" for k, v in sorted(self.parameters.items()))
        file = f"{_as_name(f'{self.intervention}{extra}')}.s{self.seed}.parquet"
        return Path(self.experiment) / _as_name(self.model.replace("/", "--"), "@") / _as_name(self.benchmark) / file

    @property
    def command(self) -> str:
        """The shell command that makes this table."""
        words = ["lostlib", "run", self.experiment, "--model", self.model, "--benchmark", self.benchmark]
        words += [] if self.intervention == "none" else ["--intervention", self.intervention]
        words += ["--seed", str(self.seed), "--n", str(self.n)]
        for name, value in sorted(self.parameters.items()):
            words += ["--set", f"{name}={_as_text(value)}"]
        return shlex.join(words)

    def covers(self, wanted: Key) -> bool:
        """Does a table with this key hold the wanted one: the same in everything, and at least as many items?

        Whoever never fetched a hub model takes any commit of it.
        """
        weights = self.weights if wanted.weights == "unknown" else wanted.weights
        return self == replace(wanted, weights=weights, n=self.n) and self.n >= wanted.n


def _as_name(text: str, more: str = "") -> str:
    """As part of a path; one that would be too long, or holds a system line, ends in a hash, so that no two are one."""
    name = re.sub(rf"[^A-Za-z0-9=+.{more}-]+", "_", text)
    if len(name) <= 180 and not ("system=" in text and " " in text):
        return name
    return f"{name[:160]}.{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _as_text(value: Any) -> str:
    """As `--set` reads it: JSON, or a text that is no JSON."""
    try:
        json.loads(value)
    except (TypeError, ValueError):
        return value if isinstance(value, str) else json.dumps(value)
    return json.dumps(value)


@dataclass(frozen=True)
class Table:
    """Rows and where they came from."""

    frame: pd.DataFrame
    key: Key
    about: dict[str, Any]  # versions, device, dtype, backend, date, seconds, command
    origin: str = "measured"  # or "shipped"

    @property
    def left_out(self) -> dict[str, str]:
        """Items that could not be measured, and why."""
        return self.about.get("left_out", {})

    @property
    def manifest(self) -> dict[str, Any]:
        """Everything about the table but its rows, for provenance boxes."""
        return {
            **asdict(self.key),
            "hash": content_hash(self.frame),
            "source": self.origin,
            "name": self.key.path.stem,
            **self.about,
        }


def content_hash(frame: pd.DataFrame) -> str:
    """16 hex digits over the rows, the same on every machine that holds the same rows."""
    return hashlib.sha256(frame.to_csv(index=False, float_format="%.9g").encode()).hexdigest()[:16]


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Five digits of every float, as a table's file holds them; still float64, so that sums keep theirs."""
    return _floats(_held(frame), "float64")


def _held(frame: pd.DataFrame) -> pd.DataFrame:
    """Floats as float32 whose last seven bits are zero, which compress: the sixth digit differs between machines."""
    held = _floats(frame, "float32")
    for known, steps in STEPS.items():
        if known in held:
            held[known] = held[known].mul(steps).round().div(steps)
    for name in held.select_dtypes("float32"):
        bits = held[name].to_numpy().view(np.uint32)
        held[name] = ((bits + np.uint32(0x40)) & np.uint32(0xFFFFFF80)).view(np.float32)
    return held


def _floats(frame: pd.DataFrame, dtype: str) -> pd.DataFrame:
    return frame.astype(dict.fromkeys(frame.select_dtypes(["float32", "float64"]), dtype))


def write(table: Table, folder: Path) -> Path:
    """Write a table atomically, floats with five digits; the manifest travels inside the Parquet file."""
    path = folder / table.key.path
    meta = {META: json.dumps({"key": asdict(table.key), "about": table.about})}
    held = _held(table.frame)
    rows = pa.Table.from_pandas(held, preserve_index=False).replace_schema_metadata(None)
    floats = [name for name, dtype in held.dtypes.items() if dtype == "float32"]
    encoding = dict.fromkeys(floats, "BYTE_STREAM_SPLIT")  # first bytes of all floats first, and so on: a third smaller
    encoding |= dict.fromkeys({"item", "cluster"} & set(held), "DELTA_BYTE_ARRAY")  # ids differ in their ends
    level = 11 if len(held) < 200_000 else 5  # a twentieth less than zstd's best; of millions of rows slow
    how: dict[str, Any] = {"compression": "brotli", "compression_level": level, "column_encoding": encoding}
    how |= {"use_dictionary": [name for name in held if name not in encoding]}
    how |= {"write_page_checksum": True}  # else a damaged page may be read as other numbers
    how |= {"store_schema": False, "write_statistics": False}  # in small tables another fifth, which nobody reads
    with paths.replacing(path) as partial, pq.ParquetWriter(partial, rows.schema, **how) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(meta)
    return path


class Damaged(ValueError):
    """A file that holds no table, or not all of one."""


def read(path: Path) -> Table:
    """Read a table; a file that was cut off or holds something else is an error that names it."""
    with _named(path):
        held = pq.read_table(path, page_checksum_verification=True)
        key, about = _meta(held.schema.metadata)
        frame = _floats(held.replace_schema_metadata(None).to_pandas(), "float64")
        if "item" not in frame:
            raise KeyError("it has no column of items")
    return Table(frame, key, about, "shipped")


def read_head(path: Path) -> tuple[Key, dict[str, Any]]:
    """The key, and what is recorded besides, from the file's footer."""
    with _named(path):
        return _meta(pq.read_schema(path).metadata)


def read_key(path: Path) -> Key:
    """The key alone."""
    return read_head(path)[0]


def _meta(held: Mapping[bytes, bytes]) -> tuple[Key, dict[str, Any]]:
    meta = json.loads(held[META])
    key, usual = Key(**meta["key"]), Key("", "", "", "", "")
    if wrong := [name for name, value in vars(key).items() if type(value) is not type(vars(usual)[name])]:
        raise TypeError(f"{wrong[0]} is {vars(key)[wrong[0]]!r}")
    return key, dict(meta["about"])


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # of Arrow, of JSON, of a manifest with other names: all mean the same
        raise Damaged(f"{path} is no whole table ({type(error).__name__}: {error})") from error


def first_items(table: Table, n: int) -> Table:
    """The table of its first n items that have rows (rows keep the items' order)."""
    items = table.frame["item"].drop_duplicates().head(n)
    kept = table.frame[table.frame["item"].isin(items)].reset_index(drop=True)
    return replace(table, frame=kept, key=replace(table.key, n=n))


def shipped_tables(folder: Path | None = None) -> Iterator[Path]:
    """All tables of a results folder, in name order."""
    yield from sorted((folder or paths.RESULTS).rglob("*.parquet"))


def is_held(wanted: Key, folder: Path) -> bool:
    """Is there a whole table in this folder that serves, with all its items? A damaged file is named, and is none."""
    return held(wanted, folder) is not None


def held(wanted: Key, folder: Path) -> Table | None:
    """The table that `is_held` finds."""
    path = folder / wanted.path
    if not path.exists():
        return None
    try:
        found = read(path)
    except Damaged as error:
        print(f"{error}: it is measured again", file=sys.stderr)
        return None
    return found if found.key.covers(wanted) and not found.left_out else None
