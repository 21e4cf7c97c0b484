"""Models: loading them, encoding items with token roles, answering; watching the stream and opening attention.

- `model`         a model that can be watched and changed: items in, answers out
- `template`      how a checkpoint's own chat template puts a question
- `weights`       the matrix of a projection, packed or not
- `loading`       by name, folder or hub id
- `families`      what differs between families of models: one row each
- `stream`        the residual stream, layer by layer
- `attention`     the one place that changes attention weights
- `keyed_random`  random numbers that depend on what they are for, not on the order of computation
"""

from lostlib.models.loading import Sizes, check_device, load_model, shipped, sizes, wrap
from lostlib.models.model import Batch, LostModel, Reply
