"""Visual attention sinks.

- `dimensions`      a model's sink dimensions: found, or as published
- `detection`       which tokens are sinks
- `redistribution`  what sinks contribute, and moving the attention they draw
"""

from lostlib.forms import DETECTORS, PRESETS, TARGETS, Preset, energy_share, settings
from lostlib.sinks.detection import Detector, phi, threshold, warn_if_crowded
from lostlib.sinks.dimensions import (
    MASSIVE,
    RATIO,
    SinkWarning,
    find_dimensions,
    published,
    sink_dimensions,
)
from lostlib.sinks.redistribution import redistribute, value_norms

__all__ = [
    "DETECTORS",
    "MASSIVE",
    "PRESETS",
    "RATIO",
    "TARGETS",
    "Detector",
    "Preset",
    "SinkWarning",
    "energy_share",
    "find_dimensions",
    "phi",
    "published",
    "redistribute",
    "settings",
    "sink_dimensions",
    "threshold",
    "value_norms",
    "warn_if_crowded",
]
