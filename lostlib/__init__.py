"""lostlib: metrics and interventions of the companion book *Lost in Attention*.

The package is lazy: a name is imported when it is first used, so that the report half needs no torch.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# transformers imports tqdm's bars for notebooks, which say so where Jupyter lacks widgets; the bars are then plain text
warnings.filterwarnings("ignore", "IProgress not found")

_HOME = {
    "effective_rank": "metrics",
    "support": "metrics",
    "rid": "metrics",
    "RID": "metrics",
    "token_mixing_entropy": "metrics",
    "mixing_information_gain": "metrics",
    "load_model": "models",
    "wrap": "models",
    "LostModel": "models",
    "watch": "models.stream",
    "residual_metrics": "experiments.residual",
    "null_metrics": "experiments.nulls",
    "probe_rows": "experiments.probes",
    "span_metrics": "experiments.spans",
    "intervene": "interventions",
    "Intervention": "interventions",
    "load_benchmark": "benchmarks",
}
_MODULES = (
    "benchmarks",
    "catalog",
    "checkpoints",
    "claims",
    "experiments",
    "forms",
    "interventions",
    "machine",
    "metrics",
    "minimodels",
    "miniworld",
    "models",
    "report",
    "results",
    "sinks",
    "stats",
    "tables",
    "teach",
)

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"lostlib.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"lostlib.{name}")
    raise AttributeError(f"module 'lostlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
