"""Where shipped models and tables are (beside the package in a checkout, inside it in a wheel); replacing a file."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from glob import escape
from pathlib import Path

from platformdirs import user_cache_dir

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
DATA = PACKAGE / "data" if (PACKAGE / "data").exists() else ROOT / "data"
MODELS = DATA / "models"
RESULTS = DATA / "results"
PUBLISHED = DATA / "paper"
CHANCE = DATA / "chance.json"


def fetched() -> Path:
    """Folder of the models that `lostlib fetch` brought: in $LOST_CACHE, else in the user's cache."""
    return given(os.environ.get("LOST_CACHE") or user_cache_dir("lost-in-attention")) / "models"


def given(text: str | Path) -> Path:
    """A path as a user gives it: `~` is the user's home, also where no shell has said so."""
    return Path(text).expanduser()


def weights_hash(folder: Path) -> str:
    """The first 16 hex digits of SHA-256 over a folder's safetensors files, in name order; "unknown" without any."""
    states = tuple(
        (file, file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(folder.glob("*.safetensors"))
    )
    return _hash(states) if states else "unknown"


@lru_cache
def _hash(states: tuple[tuple[Path, int, int], ...]) -> str:
    """Of files in these states (when and how large), which tell whether one was hashed before."""
    digest = hashlib.sha256()
    for file, *_ in states:
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):  # a shard may be larger than the memory
                digest.update(block)
    return digest.hexdigest()[:16]


def check_writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written to, or a disk that is full, before hours of work."""
    probe = folder / f".{uuid.uuid4().hex}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(1 << 20))
    except OSError as error:
        raise OSError(f"nothing can be written to {folder}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            probe.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to inside the block; what was written, file or folder, then appears at `path`, or nothing does.

    No two writers share the name, not even two machines with one disk. A folder that is there steps aside as
    `path.….replaced` for as long as two renamings take.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    settle(path)
    name = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    partial, replaced = name.with_name(f"{name.name}.partial"), name.with_name(f"{name.name}.replaced")
    try:
        yield partial
        if partial.is_dir() and path.is_dir():
            os.replace(path, replaced)
        os.replace(partial, path)
    finally:
        settle(path)  # puts the old one back where the new one did not come
        remove(partial)
        remove(replaced)


def settle(path: Path) -> None:
    """Of what killed writers left beside this path: an old folder is put back, the rest goes after a day."""
    if not path.exists():
        for replaced in path.parent.glob(f"{escape(path.name)}.*.replaced"):
            with suppress(OSError):  # another process was faster
                os.replace(replaced, path)
    for kind in ("partial", "replaced"):
        remove_old(path.parent.glob(f"{escape(path.name)}.*.{kind}"))


def remove(path: Path) -> None:
    """A file or a folder with all that is in it, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_old(leftovers: Iterable[Path], days: float = 1) -> None:
    """Files and folders in which nothing has changed for so many days."""
    for path in leftovers:
        with suppress(OSError):  # another process was faster
            newest = max(one.stat().st_mtime for one in (path, *path.rglob("*")))
            if time.time() - newest > days * 24 * 3600:
                remove(path)
