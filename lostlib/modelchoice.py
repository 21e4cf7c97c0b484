"""A model as a user names it, in one text: which checkpoint, which revision, and how it is loaded. No torch.

Chapters, tables and the command line take this text wherever they take a model, so whatever changes results is part of
the name of what was measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from lostlib import paths
from lostlib.names import nearest
from lostlib.zoo import BYTES, CARDS, DYNAMIC, Card

DTYPES = ("auto", *BYTES)
BACKENDS = ("eager", "sdpa")  # of transformers; ours is not named
PIXELS = ("min_pixels", "max_pixels")


@dataclass(frozen=True)
class ModelChoice:
    """A model and how it is loaded; as text `name`, `name@revision`, `name:dtype=float32,max_pixels=1003520`.

    name                    a shipped mini model, a folder in hub format, or a hub id
    revision                of a hub id: a commit, tag or branch; None: the one of `lostlib.zoo`, else the newest
    dtype                   float32, bfloat16, float16; auto: what `lostlib.zoo` says of the checkpoint, else float32
    min_pixels, max_pixels  of a picture that the model sees at its own size (Qwen2.5-VL): smaller and larger ones are
                            scaled to these areas; None: as the checkpoint says
    backend                 eager, sdpa: attention as transformers computes it, which can be watched and not changed;
                            None: `lostlib.attention`'s own
    """

    name: str
    revision: str | None = None
    dtype: str = "auto"
    min_pixels: int | None = None
    max_pixels: int | None = None
    backend: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}{nearest(self.dtype, DTYPES)}")
        if self.backend not in (None, *BACKENDS):
            raise ValueError(
                f"backend {self.backend!r} is not one of {', '.join(BACKENDS)}{nearest(self.backend, BACKENDS)}"
            )
        for key in PIXELS:
            object.__setattr__(self, key, _pixels(key, getattr(self, key)))
        low, high = self.min_pixels, self.max_pixels
        if low and high and low > high:
            raise ValueError(f"min_pixels {low} is more than max_pixels {high}")
        if (low or high) and self.card:
            check_dynamic(self.name, self.card.family)
        if self.revision is not None and not self.revision:
            raise ValueError(f"{self.name}@ names no revision: expected a commit, tag or branch")
        if self.revision and self.folder:
            raise ValueError(f"{self.name} is a folder here, which has no revisions; {self.revision!r} was given")

    @classmethod
    def parse(cls, text: str | Path, **more: Any) -> Self:
        """Of a text, and what is given beside it; what does not exist is an error that names the nearest.

        >>> str(ModelChoice.parse("Qwen/Qwen2.5-VL-3B-Instruct@main:dtype=auto", max_pixels=1003520))
        'Qwen/Qwen2.5-VL-3B-Instruct@main:max_pixels=1003520'
        """
        name, given = str(text), dict[str, Any]()
        if not _is_folder(name) and (found := re.fullmatch(r"(.+):([^/:]*=[^/:]*)", name)):
            name, given = found[1], dict(_option(str(text), part) for part in found[2].split(","))
        if not _is_folder(name) and "@" in name:
            name, _, given["revision"] = name.partition("@")
        for key, value in more.items():
            if value in (None, "auto"):
                continue
            if key in given and given[key] != str(value):
                raise ValueError(f"{text}: {key} is given twice, as {given[key]} and {value}")
            given[key] = value
        return cls(name, **given)

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        plain = replace(self, dtype="auto") if self.dtype == self.usual_dtype else self
        named = {
            key: value for key in ("dtype", *PIXELS, "backend") if (value := getattr(plain, key)) not in (None, "auto")
        }
        return self.name + at + (":" + ",".join(f"{k}={v}" for k, v in named.items()) if named else "")

    @property
    def card(self) -> Card | None:
        """The model's row in the table, if it has one."""
        return CARDS.get(self.name)

    @property
    def folder(self) -> Path | None:
        """Where a shipped or local model is; None for a hub id."""
        for folder in (paths.MODELS / self.name, Path(self.name)):
            if _is_folder(folder):
                return folder
        return None

    @property
    def usual_dtype(self) -> str:
        """What `auto` means."""
        return self.card.dtype if self.card else "float32"

    @property
    def wanted_revision(self) -> str | None:
        """The one that was named, or else the one that is pinned in the table."""
        return self.revision or (self.card.revision if self.card else None)

    @property
    def commit(self) -> str | None:
        """Of a hub id: the commit that was named, or that the revision had when it was last fetched; None: unknown."""
        if self.folder or not re.fullmatch(r"[\w.-]+/[\w.-]+", self.name):
            return None
        revision = self.wanted_revision
        if revision and re.fullmatch("[0-9a-f]{40}", revision):
            return revision
        from huggingface_hub import try_to_load_from_cache

        held = try_to_load_from_cache(self.name, "config.json", revision=revision)
        return Path(held).parent.name if isinstance(held, str) else None

    @property
    def weights(self) -> str:
        """What tells one state of the weights from another: the hash of a folder's files, or the commit; "unknown"."""
        return paths.weights_hash(self.folder) if self.folder else self.commit or "unknown"


def check_dynamic(name: str, family: str) -> None:
    """Refuse limits in pixels for a family whose pictures have a fixed size."""
    if family not in DYNAMIC:
        raise ValueError(
            f"{name} is of the family {family}, which scales every picture to sizes of its own; min_pixels and "
            f"max_pixels are for {', '.join(DYNAMIC)}"
        )


def _is_folder(path: str | Path) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # longer than a name of a file can be
        return False


def _option(text: str, part: str) -> tuple[str, str]:
    key, equals, value = (piece.strip() for piece in part.partition("="))
    known = [field.name for field in fields(ModelChoice)][1:]
    if key not in known or not equals:
        raise ValueError(f"{text}: {part.strip()!r} is not key=value of {', '.join(known)}{nearest(key, known)}")
    return key, value


def _pixels(key: str, given: Any) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not re.fullmatch(r"0*[1-9]\d*", str(given)):
        raise ValueError(f"{key} must be a whole number of pixels, such as 1003520 (1280 x 28 x 28), got {given!r}")
    return int(given)
