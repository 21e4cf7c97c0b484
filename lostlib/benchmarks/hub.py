"""Rows of a benchmark from the hub, or from a local folder in its place: which data set, which revision, are all there?

Rows come through `datasets`; images stay where they are stored until they are looked at. A benchmark names its sources
in the order in which they are tried, and what it expects of the complete data; too few or too many rows are an error,
because a score on other data is another score.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lostlib.benchmarks import pictures
from lostlib.benchmarks.items import Item

if TYPE_CHECKING:
    import PIL.Image
    import pyarrow as pa
    from datasets import Dataset

Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A data set on the hub: all of its configs and splits together are the benchmark."""

    id: str  #: as "owner/name"
    splits: tuple[str, ...] = ("test",)  #: in order
    configs: tuple[str | None, ...] = (None,)  #: in order; None is the only or default one
    revision: str | None = None  #: a commit, tag or branch; the newest if None
    file: str | None = None  #: a tab-separated table in the repository to read in place of its Parquet files


# ---- images ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Stored(pictures.Kept):
    """An image in a column: Arrow bytes, or base64 text where the table is a text file."""

    column: pa.ChunkedArray
    row: int

    @property
    def value(self) -> Any:
        """What is stored."""
        return self.column[self.row].as_py()

    def open(self) -> PIL.Image.Image:
        """The picture, see `lostlib.benchmarks.pictures.rgb`."""
        value = self.value
        return pictures.read(base64.b64decode(value) if isinstance(value, str) else value)


@dataclass(frozen=True)
class Linked(pictures.Kept):
    """An image that the row only names by its address; mirrored where the question is about the mirror image."""

    url: str
    mirrored: bool = False

    def open(self) -> PIL.Image.Image:
        """Fetched whenever it is opened."""
        from PIL import ImageOps

        image = pictures.read({"path": self.url, "bytes": None})
        return ImageOps.mirror(image) if self.mirrored else image


# ---- rows -----------------------------------------------------------------------------------------------------------


def read(
    sources: Sequence[Source], images: Sequence[str], folder: Path | None = None, revision: str | None = None
) -> tuple[list[Row], str]:
    """The rows of the first source that loads, and a line that says which it was: id, revision, configs and splits.

    With a folder, the first source's configs and splits are looked for there, in the layout of the hub.
    """
    if folder is not None:
        if revision:
            raise ValueError(f"revision {revision!r} was asked for, but rows come from the local copy {folder}")
        return list(_rows(_local(sources[0], Path(folder)), images)), str(folder)
    failed = []
    for source in sources:
        try:
            parts = _remote(source, revision)
        except Exception as error:  # whatever the reason, the next one is tried, and every reason is told in the end
            failed.append(f"{source.id}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        else:
            return list(_rows(parts, images)), _origin(source, parts, revision)
    raise OSError("none of the data sets could be loaded\n  " + "\n  ".join(failed))


def _remote(source: Source, revision: str | None) -> list[Dataset]:
    import datasets

    revision = revision or source.revision
    if source.file:
        path = f"hf://datasets/{source.id}@{revision or 'main'}/{source.file}"
        return [datasets.load_dataset("csv", data_files=path, split="train", sep="\t", keep_default_na=False)]
    return [
        datasets.load_dataset(source.id, config, split=split, revision=revision)
        for config in source.configs
        for split in source.splits
    ]


def _local(source: Source, folder: Path) -> list[Dataset]:
    """Parquet files `<split>-….parquet` below the folder, those below `<config>/` where there is such a folder."""
    import datasets

    parts = []
    for config in source.configs:
        for split in source.splits:
            root = folder / config if config and (folder / config).is_dir() else folder
            files = sorted(str(file) for file in root.rglob("*.parquet") if re.match(rf"{split}[-.]", file.name))
            if not files:
                raise FileNotFoundError(f"{root} has no file {split}-….parquet")
            try:
                parts.append(datasets.load_dataset("parquet", data_files=files, split="train"))
            except datasets.exceptions.DatasetGenerationError as error:
                raise ValueError(_damage(files) or f"{root}, {split}: {error.__cause__ or error}") from error
    return parts


def _damage(files: Sequence[str]) -> str | None:
    """Which of these files cannot be read, and why: `datasets` does not say."""
    import pyarrow.parquet as pq

    for file in files:
        try:
            pq.read_table(file)
        except Exception as error:  # whatever Arrow makes of it
            return f"{file} is no whole Parquet file ({error})"
    return None


def _origin(source: Source, parts: Sequence[Dataset], revision: str | None) -> str:
    """The commit stands in the addresses of the files that were loaded; without them, what was asked for."""
    files = " ".join(str(name) for part in parts for name in (part.info.download_checksums or {}))
    commits = sorted(set(re.findall(r"@([0-9a-f]{40})/", files)))
    where = [*(config for config in source.configs if config), *source.splits] if not source.file else [source.file]
    return f"{source.id}@{'+'.join(commits) or revision or source.revision or 'unknown'} {' '.join(where)}"


def _rows(parts: Sequence[Dataset], images: Sequence[str]) -> Iterator[Row]:
    for part in parts:
        table = part.with_format("arrow")[:]
        pictures = [name for name in images if name in table.column_names]
        there = {name: table[name].is_valid().to_pylist() for name in pictures}
        for number, row in enumerate(table.drop_columns(pictures).to_pylist()):
            yield row | {name: Stored(table[name], number) if there[name][number] else None for name in pictures}


# ---- are all there? -------------------------------------------------------------------------------------------------


def tally(items: Sequence[Item]) -> Counter[str]:
    """How many items there are, have this answer, kind or meta value, and how many values a name of meta has."""
    counts: Counter[str] = Counter(items=len(items))
    values: dict[str, set[str]] = {}
    for item in items:
        for name, value in {"answer": item.answer, "kind": item.kind, **item.meta}.items():
            for one in value if isinstance(value, tuple) else (value,):
                counts[f"{name}={one}"] += 1
                values.setdefault(name, set()).add(one)
    return counts + Counter({f"distinct {name}": len(found) for name, found in values.items()})


def check(name: str, origin: str, items: Sequence[Item], expected: Mapping[str, int]) -> None:
    """Refuse data that is not what the benchmark is known to be."""
    found = tally(items)
    wrong = [f"{what}: {found[what]} instead of {count}" for what, count in expected.items() if found[what] != count]
    if wrong:
        raise ValueError(
            f"{name} from {origin} is not the data this benchmark is made of ({'; '.join(wrong)}). "
            "If it is only a part of it, say partial=True."
        )


def check_golds(name: str, items: Sequence[Item]) -> None:
    """Refuse an item whose right answer is none of its options: nobody could be right about it."""
    for item in items:
        if item.kind == "mcq" and item.options and item.answer not in item.options and not item.fault:
            offered = ", ".join(item.options)
            raise ValueError(f"{name}: the right answer of {item.uid!r} is {item.answer!r}, its options are {offered}")


def check_uids(name: str, items: Sequence[Item]) -> None:
    """Refuse two items of one name: random draws and resumed runs are keyed by it."""
    twice = [uid for uid, count in Counter(item.uid for item in items).items() if count > 1]
    if twice:
        raise ValueError(f"{name}: {len(twice)} uids occur more than once, for example {twice[:3]}")


# ---- subsets --------------------------------------------------------------------------------------------------------


def _draw(*key: Hashable) -> float:
    """A number in [0, 1) that depends on the key alone, on every machine and with every library version."""
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def stratified(name: str, seed: int, strata: Sequence[str], units: Sequence[str]) -> list[int]:
    """An order of the items in which the first n are a stratified sample, whatever n is.

    Items of one unit (questions that are scored together) stay together, in their order; the units of each stratum are
    shuffled and then spread evenly over the order. The first n may end within a unit.
    """
    members: dict[str, list[int]] = {}
    for index, unit in enumerate(units):
        members.setdefault(unit, []).append(index)
    groups: dict[str, list[str]] = {}
    for unit, indices in members.items():
        groups.setdefault(strata[indices[0]], []).append(unit)
    place: dict[str, tuple[float, str]] = {}
    for stratum, held in groups.items():
        shuffled = sorted(held, key=lambda unit: _draw(name, seed, unit))
        offset = _draw(name, seed, "stratum", stratum)
        place |= {unit: ((rank + offset) / len(held), unit) for rank, unit in enumerate(shuffled)}
    return [index for unit in sorted(members, key=place.__getitem__) for index in members[unit]]
