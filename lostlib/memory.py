"""How the process keeps its memory."""

from __future__ import annotations

import ctypes.util
import sys


def keep_memory() -> None:
    """Have glibc keep freed memory: else the kernel hands out and zeroes large tensors anew in each step.

    That takes half of the time of a training, and of answering under noise (`bench/answering.py`). For the whole
    process, which then does not shrink again; other C libraries are left alone.
    """
    libc = ctypes.util.find_library("c") if sys.platform == "linux" else None
    mallopt = getattr(ctypes.CDLL(libc), "mallopt", None) if libc else None  # other C libraries have none
    if mallopt:
        mallopt(-4, 0)  # M_MMAP_MAX: no allocation goes past the heap
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap is never given back
