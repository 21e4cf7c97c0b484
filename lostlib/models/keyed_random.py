"""Counter-based random numbers: each draw is a hash of what it is for, so no order of computation can change it.

An entry's draw depends on (seed, item, layer, head, query position, key position) and on nothing else: not on the
batch, the padding, the chunking, prefill or decode, CPU or CUDA. The hash is the finaliser of splitmix64 (Steele, Lea
and Flood 2014), in wrapping 64-bit integer arithmetic, which is the same on every device.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as signed 64-bit numbers, which is what torch has
FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
SECOND = 0x94D049BB133111EB - (1 << 64)


REMEMBERED = 1 << 28  # numbers, a gigabyte of them
_drawn: dict[tuple, Tensor] | None = None  # what was drawn for what, inside `remembering`


def text_key(text: str) -> int:
    """A signed 64-bit number for a text such as an item id."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser, a bijection of int64; x is overwritten, for memory costs more than arithmetic here."""
    aside = torch.empty_like(x)

    def fold(bits: int) -> None:
        torch.bitwise_right_shift(x, bits, out=aside)  # arithmetic, which is what torch has
        x.bitwise_xor_(aside.bitwise_and_((1 << (64 - bits)) - 1))  # logical

    fold(30)
    x.mul_(FIRST)
    fold(27)
    x.mul_(SECOND)
    fold(31)
    return x


def chain(*values: int | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """One hash of several integers or int64 tensors (broadcast against one another), order matters."""
    state = torch.zeros((), dtype=torch.int64, device=device)
    for value in values:
        number = torch.as_tensor(value, dtype=torch.int64, device=device)
        state = mix(state ^ mix(number * GOLDEN + SECOND))
    return state


def normal(state: Tensor) -> Tensor:
    """Standard normal numbers (float32) from hashes, by Box and Muller: ``|z| < 6.7``."""
    halves = state.contiguous()[..., None].view(torch.uint32).to(torch.float32).add_(0.5)  # (..., 2): low, high
    radius = (halves[..., 1] * 2.0**-32).log_().mul_(-2).sqrt_()
    return (halves[..., 0] * (2 * math.pi * 2.0**-32)).cos_().mul_(radius)


def normals(*values: int | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """`normal` of a `chain`; inside `remembering` what was drawn for the same values before, not to be overwritten."""
    if _drawn is None:
        return normal(chain(*values, device=device))
    key = tuple(v if isinstance(v, int) else (*v.shape, v.cpu().numpy().tobytes()) for v in values)
    if key in _drawn:
        return _drawn[key]
    made = normal(chain(*values, device=device))
    if made.numel() + sum(tensor.numel() for tensor in _drawn.values()) <= REMEMBERED:
        _drawn[key] = made
    return made


@contextmanager
def remembering() -> Iterator[None]:
    """Inside the block, numbers that are drawn again for the same values are not computed again, as far as they fit."""
    global _drawn
    former, _drawn = _drawn, {}
    try:
        yield
    finally:
        _drawn = former
