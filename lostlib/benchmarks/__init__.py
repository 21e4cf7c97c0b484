"""Benchmarks: rows -> items, prompts, answer extraction, scores. Nothing here needs torch.

Each benchmark is a small file that declares its `Rules`; a mini benchmark is its namesake's rules fed with rows of the
mini world (`mini`). `registry` has them by name, `choice` how one is asked for, `loading` makes a `Benchmark` of it.
"""

from lostlib.benchmarks.benchmark import Benchmark
from lostlib.benchmarks.choice import Choice
from lostlib.benchmarks.items import Item
from lostlib.benchmarks.loading import SIZE, chance, chances, load_benchmark
from lostlib.benchmarks.registry import HUB, NAMESAKES, OWN, RULES
from lostlib.benchmarks.rules import Rules

__all__ = [
    "HUB",
    "NAMESAKES",
    "OWN",
    "RULES",
    "SIZE",
    "Benchmark",
    "Choice",
    "Item",
    "Rules",
    "chance",
    "chances",
    "load_benchmark",
]
