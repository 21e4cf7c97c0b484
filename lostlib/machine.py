"""What fits this machine: its memory, what a model needs of it, and how a process keeps its own.

Reading it needs no torch; with torch, GPUs are counted too.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from lostlib.checkpoints import USUAL_TOKENS, Card

HEADROOM = 1.2  # what a run needs over the weights: activations and cache, a rough figure
SPEED = 0.4 * 312e12  # operations a second: an A100 at two fifths of its bfloat16 peak

AWQ_NEEDS = (  # why `fits` may say "no" of 4-bit weights on a machine with memory enough
    "AWQ: 4-bit weights need a GPU, so the CPU's memory does not count; they fit once GPUs have the GB above and a\n"
    "fifth more. Loading them also takes `pip install accelerate gptqmodel`."
)


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

    >>> from lostlib.checkpoints import CARDS
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


def highest(call: Callable[[], object], kind: str = "cpu") -> tuple[float, float]:
    """Gigabytes in use before a call, and at most during it: of this process, or of its first GPU for "cuda".

    Only Linux forgets a process's earlier peak; elsewhere both figures are the highest there ever was.
    """
    if kind == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 1e9
        call()
        return before, torch.cuda.max_memory_allocated() / 1e9
    if trim := _libc("malloc_trim"):
        trim(0)  # what the process has freed and kept would hide what the call needs
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    call()
    return before, _peak()


def _peak() -> float:
    """Gigabytes this process has held at most, since Linux was told to forget."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def keep_memory() -> None:
    """Have glibc keep freed memory: else the kernel hands out and zeroes large tensors anew in each step.

    That takes half of the time of a training, and of answering under noise (`bench/answering.py`). For the whole
    process, which then does not shrink again; other C libraries are left alone.
    """
    if mallopt := _libc("mallopt"):
        mallopt(-4, 0)  # M_MMAP_MAX: no allocation goes past the heap
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap is never given back


def _libc(name: str) -> Callable[..., int] | None:
    """A function of glibc; other C libraries have none of those we use."""
    libc = ctypes.util.find_library("c") if sys.platform == "linux" else None
    return getattr(ctypes.CDLL(libc), name, None) if libc else None
