"""Visual attention sinks.

- `dimensions`      a model's sink dimensions: found, or as published
- `detection`       which tokens are sinks
- `redistribution`  what sinks contribute, and moving the attention they draw
"""

from lostlib.forms import PRESETS, Preset, energy_share, settings
from lostlib.forms import TARGETS as TARGETS
from lostlib.sinks.detection import Detector, phi, threshold
from lostlib.sinks.dimensions import MASSIVE as MASSIVE
from lostlib.sinks.dimensions import (
    SinkWarning,
    find_dimensions,
    published,
    sink_dimensions,
)
from lostlib.sinks.redistribution import redistribute, value_norms

__all__ = [
    "PRESETS",
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
]
