"""Visual attention sinks.

- `dimensions`      a model's sink dimensions: found, or as published
- `detection`       which tokens are sinks
- `redistribution`  what sinks contribute, and moving the attention they draw
"""

from lostlib.forms import PRESETS, TARGETS, Preset, energy_share, settings
from lostlib.sinks.detection import Detector, phi, threshold
from lostlib.sinks.dimensions import MASSIVE, SinkWarning, find_dimensions, published, sink_dimensions
from lostlib.sinks.redistribution import redistribute, value_norms
