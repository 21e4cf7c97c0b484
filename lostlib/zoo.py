"""The checkpoints this companion is about, as data: one frozen row each. No torch is needed to read it.

Thirteen instruct checkpoints of three families, the four of them that also exist with 4-bit weights (AWQ), and the mini
models that are shipped here. A revision is None until someone has pinned one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec

HEADROOM = 1.2  # what a run needs over the weights: activations and cache, a rough figure
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
SPEED = 0.4 * 312e12  # operations a second: an A100 at two fifths of its bfloat16 peak
USUAL_TOKENS = 2928  # visual tokens of a large picture
AWQ_BITS = 4 + 20 / 128  # a 4-bit number, and a 16-bit scale and a 4-bit zero for every 128 of them

AWQ_NEEDS = (  # why `fits` may say "no" of 4-bit weights on a machine with memory enough
    "AWQ: 4-bit weights need a GPU, so the CPU's memory does not count; they fit once GPUs have the GB above and a\n"
    "fifth more. Loading them also takes `pip install accelerate gptqmodel`."
)


@dataclass(frozen=True)
class Card:
    """One checkpoint.

    id             hub id, or the name of a shipped mini model
    family         transformers' model type, a key of `lostlib.families.FAMILIES`
    layers, heads, kv_heads, hidden, mlp, vocab    of the language model
    parameters     all of them, vision tower included
    visual_tokens  per image
    prompt         form of the turns; what is really sent is up to the checkpoint's own chat template
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
    prompt: str
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
CHAT, SYSTEM = "USER: … ASSISTANT:", "system line, USER: … ASSISTANT:"
_QWEN_ROWS = (
    Card("Qwen/Qwen2.5-VL-3B-Instruct", QWEN, 36, 16, 2, 2048, 11008, 151936, 3_754_622_976, "4-16384", "ChatML"),
    Card("Qwen/Qwen2.5-VL-7B-Instruct", QWEN, 28, 28, 4, 3584, 18944, 152064, 8_292_166_656, "4-16384", "ChatML"),
    Card("Qwen/Qwen2.5-VL-32B-Instruct", QWEN, 64, 40, 8, 5120, 27648, 152064, 33_452_718_336, "4-16384", "ChatML",
         unconfirmed=ALL[4:]),
    Card("Qwen/Qwen2.5-VL-72B-Instruct", QWEN, 80, 64, 8, 8192, 29696, 152064, 73_662_435_584, "4-16384", "ChatML",
         unconfirmed=ALL[4:]),
)  # fmt: skip
_ROWS = (  # layers, heads, kv heads, hidden, mlp, vocab, parameters
    Card("mini-llava-1.5", "llava", 6, 4, 4, 128, 384, 111, 2_036_096, "64", CHAT, dtype="float32"),
    Card("mini-llava-1.5-xs", "llava", 6, 4, 4, 64, 192, 111, 526_528, "64", CHAT, dtype="float32"),
    Card("mini-llava-1.5-xs-s1", "llava", 6, 4, 4, 64, 192, 111, 526_528, "64", CHAT, dtype="float32"),
    Card("mini-llava-1.5-xs-s2", "llava", 6, 4, 4, 64, 192, 111, 526_528, "64", CHAT, dtype="float32"),
    Card("mini-llava-1.5-sinks", "llava", 6, 4, 4, 128, 384, 111, 2_036_096, "64", CHAT, dtype="float32",
         planted_in="mini-llava-1.5"),
    Card("mini-llava-1.5-wide", "llava", 6, 4, 4, 128, 384, 174, 2_052_224, "64", CHAT, dtype="float32"),
    Card("mini-llava-1.5-local", "llava", 6, 4, 4, 128, 384, 111, 2_036_096, "64", CHAT, dtype="float32"),
    Card("mini-llava-1.5-broadcast", "llava", 6, 4, 4, 128, 384, 111, 2_036_096, "64", CHAT, dtype="float32"),
    Card("mini-llava-next", NEXT, 6, 4, 2, 128, 384, 111, 1_931_776, "88", CHAT, dtype="float32"),
    Card("mini-qwen2.5-vl", QWEN, 6, 4, 2, 128, 384, 116, 1_508_928, "64-256", "ChatML", dtype="float32"),
    Card("llava-hf/llava-1.5-7b-hf", "llava", 32, 32, 32, 4096, 11008, 32064, 7_063_427_072, "576", CHAT),
    Card("llava-hf/llava-1.5-13b-hf", "llava", 40, 40, 40, 5120, 13824, 32064, 13_351_494_656, "576", CHAT),
    Card("llava-hf/llava-v1.6-vicuna-7b-hf", NEXT, 32, 32, 32, 4096, 11008, 32064, 7_063_431_168, "≤ 2928", SYSTEM),
    Card("llava-hf/llava-v1.6-vicuna-13b-hf", NEXT, 40, 40, 40, 5120, 13824, 32064, 13_351_499_776, "≤ 2928", SYSTEM),
    Card("llava-hf/llava-v1.6-mistral-7b-hf", NEXT, 32, 32, 8, 4096, 14336, 32064, 7_566_747_648, "≤ 2928", "[INST]"),
    Card("llava-hf/llava-v1.6-34b-hf", NEXT, 60, 56, 8, 7168, 20480, 64064, 34_752_083_968, "≤ 2928", "ChatML",
         unconfirmed=("mlp", "parameters")),
    Card("llava-hf/llama3-llava-next-8b-hf", NEXT, 32, 32, 8, 4096, 14336, 128320, 8_355_276_800, "≤ 2928", "llama3"),
    Card("llava-hf/llava-next-72b-hf", NEXT, 80, 64, 64, 8192, 24576, 152064, 72_666_949_632, "≤ 2928", "ChatML",
         unconfirmed=ALL[4:]),
    Card("llava-hf/llava-next-110b-hf", NEXT, 80, 64, 8, 8192, 49152, 152064, 111_588_943_872, "≤ 2928", "ChatML",
         unconfirmed=ALL),
    *_QWEN_ROWS,
    *(replace(card, id=f"{card.id}-AWQ", quantization="awq") for card in _QWEN_ROWS),
)  # fmt: skip
CARDS: dict[str, Card] = {card.id: card for card in _ROWS}


def minutes(card: Card, items: int = 1000, text_tokens: int = 80) -> float:
    """An estimate, measured by nobody: prefill of so many items at `SPEED`, two operations a parameter and token.

    Visual tokens are the most a card allows, at most `USUAL_TOKENS`. Attention itself and generation come on top.
    """
    visual = min(int(card.visual_tokens.split("-")[-1].removeprefix("≤ ")), USUAL_TOKENS)
    return 2 * card.parameters * (visual + text_tokens) * items / SPEED / 60


def memory() -> dict[str, float]:
    """Gigabytes (10^9 bytes) of memory by place: "cpu", and every GPU that torch sees (none without torch)."""
    found = {"cpu": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9} if hasattr(os, "sysconf") else {}
    if find_spec("torch"):
        import torch

        for i in range(torch.cuda.device_count()):
            found[f"cuda:{i}"] = torch.cuda.get_device_properties(i).total_memory / 1e9
    return found


def fits(card: Card, places: dict[str, float]) -> str:
    """Where a checkpoint fits, best first: one GPU, all GPUs together, the CPU (not with 4-bit weights), or "no".

    >>> fits(CARDS["Qwen/Qwen2.5-VL-3B-Instruct"], {"cpu": 16.0, "cuda:0": 8.0})
    'cpu'
    """
    need = card.gigabytes * HEADROOM
    gpus = [size for place, size in places.items() if place != "cpu"]
    if need <= max(gpus, default=0):
        return "one GPU"
    if need <= sum(gpus):
        return "all GPUs"
    return "cpu" if need <= places.get("cpu", 0) and not card.quantization else "no"
