"""Models: loading, encoding with token roles, answering.

`load_model` takes the name of a shipped mini model, a folder in hub format or a hub id, and treats all three alike.
`wrap` takes a model you already hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText

from lostlib import attention, paths
from lostlib.benchmarks.items import PLACE, Item
from lostlib.families import FAMILIES, Inputs, limit_pixels, load_processor
from lostlib.modelchoice import ModelChoice, check_dynamic
from lostlib.names import nearest
from lostlib.zoo import CARDS, DYNAMIC

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Batch:
    """Encoded items, left-padded."""

    tensors: dict[str, Tensor]  # what the model's forward takes: input_ids (B, S), attention_mask, pixel_values …
    item_ids: tuple[str, ...]
    visual: Tensor  # (B, S) bool: is this token an image patch

    @property
    def real(self) -> Tensor:
        """(B, S) bool: is this token no padding."""
        return self.tensors["attention_mask"].bool()


class Reply(NamedTuple):
    """A greedy answer."""

    raw: str  # what the model said
    logprob: float  # natural logarithm of the answer's probability, its end token included
    prompt_tokens: int
    answer_tokens: int  # the end token included


class LostModel:
    """A vision-language model that can be watched and changed.

    Attributes: `hf` the transformers model, `processor`, `name`, `family`, `weights` (hash or revision, for tables),
    `backend` (through which function the decoder attends).
    """

    def __init__(self, hf: Any, processor: Any, name: str, weights: str = "unknown", backend: str = attention.BACKEND):
        kind = hf.config.model_type
        if kind not in FAMILIES:
            raise ValueError(
                f"models of type {kind!r} are not known here; there are {', '.join(FAMILIES)}{nearest(kind, FAMILIES)}"
            )
        self.hf, self.processor, self.name, self.weights, self.backend = hf.eval(), processor, name, weights, backend
        self.family = FAMILIES[kind]
        self.layers: list[nn.Module] = list(attrgetter(self.family.layers)(hf))
        self.attention_modules = [getattr(layer, self.family.attention) for layer in self.layers]
        self.image_token_id: int = getattr(hf.config, self.family.image_token)
        self.item_ids: tuple[str, ...] = ()  # of the batch being served
        self.told_about_ids = False
        processor.tokenizer.padding_side = "left"

    def __repr__(self) -> str:
        return f"LostModel({self.name}, {self.n_layers} layers, {self.n_heads} heads, {self.device}, {self.dtype})"

    @property
    def n_layers(self) -> int:
        """Decoder layers."""
        return len(self.layers)

    @property
    def n_heads(self) -> int:
        """Query heads of a decoder layer."""
        return self.hf.config.get_text_config().num_attention_heads

    @property
    def hidden_size(self) -> int:
        """Dimensions of the decoder's residual stream."""
        return self.hf.config.get_text_config().hidden_size

    @property
    def device(self) -> torch.device:
        """Where inputs go: the token embeddings' device (a large model may be spread over several)."""
        return self.hf.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.hf.dtype

    def visual(self, ids: Tensor, inputs: Inputs) -> Tensor:
        """(B, S) bool: which of these token ids are image patches; `inputs` is what else the model is called with.

        Without images in the call none are: an image token that the model has generated is text.
        """
        image = ids == self.image_token_id
        if not image.any() or (inputs.get("pixel_values") is None and not inputs.get("mm_encoder_outputs")):
            return torch.zeros_like(image)
        if self.family.patches is None:
            return image
        return image.masked_scatter(image, self.family.patches(self.hf, inputs).to(ids.device))

    # -- items in, answers out ----------------------------------------------------------------------------------------

    def encode(self, items: Sequence[Item]) -> Batch:
        """Items as tensors on the model's device, left-padded, with their ids and token roles."""
        if not items:
            raise ValueError("no items to encode: expected at least one")
        if faults := [item.fault for item in items if item.fault]:
            raise ValueError(faults[0])
        texts = [self.processor.apply_chat_template(_messages(item), add_generation_prompt=True) for item in items]
        images = [image for item in items for image in item.images] or None
        bos = self.processor.tokenizer.bos_token  # written by some chat templates, else to be added
        encoded = self.processor(
            text=texts,
            images=images,
            return_tensors="pt",
            padding=True,
            add_special_tokens=not (bos and texts[0].startswith(bos)),
        )
        encoded.pop("token_type_ids", None)
        tensors = {
            k: v.to(self.device, self.dtype) if v.is_floating_point() else v.to(self.device) for k, v in encoded.items()
        }
        return Batch(tensors, tuple(item.uid for item in items), self.visual(tensors["input_ids"], tensors))

    @torch.inference_mode()
    def forward(self, batch: Batch, **kwargs: Any) -> Any:
        """One forward pass through the model's backend, with whatever intervention is active; transformers' output."""
        with self.serving(batch.item_ids):
            return self.hf(**batch.tensors, **{"use_cache": False, **kwargs})

    def answer(self, items: Sequence[Item], max_new_tokens: int = 8, batch_size: int = 64) -> list[str]:
        """Greedy answers, one text an item, in the items' order."""
        parts = (items[i : i + batch_size] for i in range(0, len(items), batch_size))
        return [reply.raw for part in parts for reply in self.reply(part, max_new_tokens)]

    @torch.inference_mode()
    def reply(self, items: Sequence[Item], max_new_tokens: int = 8) -> list[Reply]:
        """Greedy answers of one batch with their probabilities."""
        batch = self.encode(items)
        with self.serving(batch.item_ids):
            out = self.hf.generate(
                **batch.tensors, max_new_tokens=max_new_tokens, do_sample=False,
                return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
        new = out.sequences[:, batch.tensors["input_ids"].shape[1] :]
        ends = torch.isin(new, torch.tensor(self._end_ids, device=new.device))
        said = ends.cumsum(1) - ends.int() == 0  # (B, T): up to the end token, which counts
        logits = torch.stack(out.logits, dim=1).float()  # (B, T, V)
        chosen = logits.log_softmax(-1).gather(-1, new[..., None])[..., 0]
        texts = self.processor.batch_decode(new, skip_special_tokens=True)
        sums = (chosen.where(said, 0).sum(1), batch.real.sum(1), said.sum(1))
        return [Reply(text.strip(), *row) for text, *row in zip(texts, *(v.tolist() for v in sums), strict=True)]

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Least and most pixels of a picture, for a family that sees it at its own size; else None."""
        if self.hf.config.model_type not in DYNAMIC:
            return None
        size = self.processor.image_processor.size
        return size["shortest_edge"], size["longest_edge"]

    @property
    def _end_ids(self) -> list[int]:
        ends = self.hf.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    @contextmanager
    def serving(self, item_ids: tuple[str, ...]) -> Iterator[None]:
        """Attention runs through the model's backend, and random draws are keyed by these items, inside the block."""
        former, self.item_ids = self.item_ids, item_ids
        try:
            with attention.backend(self.hf, self.backend):
                yield
        finally:
            self.item_ids = former


def _messages(item: Item) -> list[dict]:
    """One user turn: the images where the prompt has places for all of them, otherwise before the text."""
    pieces = item.prompt.split(PLACE)
    if len(pieces) != len(item.images) + 1:
        pieces = [""] * len(item.images) + [item.prompt]
    parts = [part for text in pieces for part in ({"type": "image"}, {"type": "text", "text": text})][1:]
    return [{"role": "user", "content": [part for part in parts if part.get("text") != ""]}]


# ---- loading --------------------------------------------------------------------------------------------------------


def shipped() -> list[str]:
    """Names of the mini models in this checkout or package."""
    return sorted(folder.parent.name for folder in paths.MODELS.glob("*/config.json"))


def check_device(device: str) -> torch.device:
    """The device (`auto`: the best there is), or an error that says what there is."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        there = [
            "cpu",
            *(f"cuda:{i}" for i in range(torch.cuda.device_count())),
            *(["mps"] if torch.backends.mps.is_available() else []),
        ]
        raise ValueError(f"device {device!r} is not to be had here; there are {', '.join(there)}") from error
    return chosen


def load_model(
    name: str | Path,
    device: str = "cpu",
    dtype: str = "auto",
    quantization: Any = None,
    *,
    revision: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    backend: str | None = None,
) -> LostModel:
    """Load a model.

    Mistakes are found before any weights are read.

    Parameters
    ----------
    name : str or Path
        A shipped mini model (``"mini-llava-1.5"``), a folder in hub format, or a hub id (``lostlib models`` lists those
        that were thought of). Weights come from safetensors only, and no code that comes with a model is run. The text
        may hold what follows as well, ``"Qwen/Qwen2.5-VL-3B-Instruct@main:dtype=float16,max_pixels=1003520"``, which is
        how chapters and tables name models.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"``: the best there is, and all GPUs together for a
        model that one does not hold (this needs the package accelerate).
    dtype : str
        ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``: bfloat16 for the hub checkpoints of
        `lostlib models`, else float32.
    quantization : transformers quantization config, optional
        Handed on as it is, for example ``transformers.BitsAndBytesConfig(load_in_4bit=True)``; needs accelerate and
        the packages that transformers asks for. AWQ checkpoints carry theirs.
    revision : str, optional
        Of a hub id: a commit, tag or branch, of the model and its processor both. The commit that it meant stands in
        the model's `weights`.
    min_pixels, max_pixels : int, optional
        For Qwen2.5-VL, which sees a picture at its own size: smaller and larger pictures are scaled to these areas; a
        visual token is 28 x 28 pixels. The checkpoint's own maximum, 12,845,056 pixels or 16,384 tokens, is more than
        eager attention has room for; 1,003,520 is 1,280 tokens.
    backend : str, optional
        ``"eager"`` or ``"sdpa"``: the decoder attends as transformers does, to compare with; its weights cannot be
        changed then. By default through the function of this package, in which all interventions act.

    >>> load_model("mini-llava-1.5")
    LostModel(mini-llava-1.5, 6 layers, 4 heads, cpu, torch.float32)
    """
    given = {
        "revision": revision, "dtype": dtype, "min_pixels": min_pixels, "max_pixels": max_pixels, "backend": backend
    }  # fmt: skip
    choice = ModelChoice.parse(name, **given)
    place = check_device(device)
    source, config = _config(choice)
    chosen = DTYPES[choice.usual_dtype if choice.dtype == "auto" else choice.dtype]
    extra = {} if quantization is None else {"quantization_config": quantization}
    if spread := _spread(device, place, config, chosen, bool(extra)):
        extra["device_map"] = spread
    at = choice.commit or choice.wanted_revision  # one state for all files, even if someone pushes in between
    processor = load_processor(source, FAMILIES[config.model_type], at)
    limit_pixels(processor, choice.min_pixels, choice.max_pixels)
    hf: Any = AutoModelForImageTextToText.from_pretrained(
        source, dtype=chosen, revision=at, use_safetensors=True, trust_remote_code=False, **extra
    )
    named = source.name if isinstance(source, Path) else source
    return LostModel(
        hf if spread else hf.to(place), processor, named, choice.weights, choice.backend or attention.BACKEND
    )


class Sizes(NamedTuple):
    """What a model's configuration alone says of it, under the names that a `LostModel` has for it."""

    name: str
    family: str
    n_layers: int
    n_heads: int
    hidden_size: int


def sizes(name: str | Path) -> Sizes:
    """Of a model that can be had here and is of a family we know; no weights are read."""
    choice = ModelChoice.parse(name)
    _, config = _config(choice)
    text = config.get_text_config()
    return Sizes(
        choice.name, config.model_type, text.num_hidden_layers, text.num_attention_heads, text.hidden_size
    )  # fmt: skip


def _config(choice: ModelChoice) -> tuple[Path | str, Any]:
    """The folder or hub id that a choice means, and its configuration, of a family we know."""
    source, name = _source(choice), choice.name
    try:
        config = AutoConfig.from_pretrained(source, revision=choice.wanted_revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        at = f" at revision {choice.revision!r}" if choice.revision else ""
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"no configuration of {name!r}{at} is to be had, here or on the hub{nearest(name, CARDS)} ({reason})"
        ) from error
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"{name}: models of type {config.model_type!r} are not known here; there are {', '.join(FAMILIES)}"
        )
    if choice.min_pixels or choice.max_pixels:
        check_dynamic(name, config.model_type)
    return source, config


def _source(choice: ModelChoice) -> Path | str:
    name, folder = choice.name, choice.folder
    if folder and not any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} has no *.safetensors: weights are read from that format only")
    if not folder and "/" not in name:
        raise ValueError(
            f"no model {name!r}: neither shipped ({', '.join(shipped()) or 'none'}), nor a folder, nor a hub id"
            f"{nearest(name, [*shipped(), *CARDS])}"
        )
    return folder or name


def _spread(device: str, place: torch.device, config: Any, dtype: torch.dtype, quantized: bool) -> Any:
    """The device map for accelerate; None where the model goes to one device as it is."""
    if quantized or getattr(config, "quantization_config", None) is not None:
        why = "quantized weights need"
    elif device == "auto" and place.type == "cuda" and _size(config, dtype) > torch.cuda.mem_get_info(place)[0]:
        why = "a model that one GPU does not hold needs"
    else:
        return None
    if not find_spec("accelerate"):
        raise ImportError(f"{why} the package accelerate: pip install accelerate")
    return "auto" if device == "auto" else {"": place}


def _size(config: Any, dtype: torch.dtype) -> int:
    """Bytes of a model's weights, found without making any."""
    with torch.device("meta"):
        parameters = AutoModelForImageTextToText.from_config(config).parameters()
    return sum(p.numel() for p in parameters) * dtype.itemsize


def wrap(hf_model: Any, processor: Any, name: str | None = None) -> LostModel:
    """Watch and change a transformers model you already hold; it is used as it is, on its device, in its dtype."""
    return LostModel(
        hf_model, processor, name or getattr(hf_model.config, "name_or_path", "") or type(hf_model).__name__
    )
