"""Who writes a massive activation: what an FFN adds to an entry of the stream, neuron by neuron."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from lostlib.benchmarks import Item
from lostlib.experiments.rows import gather
from lostlib.models import LostModel
from lostlib.models.stream import LayerStream, module_input, seen, watch
from lostlib.models.weights import matrix

TOP = 8  # neurons that are named; the others are one row
OTHERS = -1


def writing_rows(
    model: LostModel, items: Sequence[Item], batch_size: int = 16, work: Path | None = None
) -> pd.DataFrame:
    """Where each layer's FFN makes an entry of the stream grow most, and which of its neurons do it.

    An FFN's output is a sum over neurons, of each one's activation times its column of the down projection. In each
    layer one entry (token, dimension) is looked at, the one whose magnitude the FFN increases most.

    Returns
    -------
    pandas.DataFrame
        One row an item, layer and neuron, the eight that contribute most, by magnitude, and one row for all others
        and the bias: item, cluster, layer, token (position without padding), dimension, before and after (the entry of
        resid_mid and of resid_post), neuron (-1: the others), activation, weight (both null for the others),
        contribution. An entry's contributions sum to after - before, up to the model's own rounding.
    """

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        batch, rows = model.encode(part), list[dict]()
        entering = dict[int, Tensor]()  # layer -> (B, S, neurons)

        def visit(layer: int, stream: LayerStream) -> None:
            before, after, hidden = seen(stream.resid_mid), seen(stream.resid_post), entering.pop(layer)
            growth = (after.abs() - before.abs()).masked_fill(~batch.real.to(after.device)[..., None], -torch.inf)
            for i, most in enumerate(growth.flatten(1).argmax(1).tolist()):
                token, dimension = divmod(most, growth.shape[-1])
                about = {
                    "item": batch.item_ids[i],
                    "layer": layer,
                    "token": token - int((~batch.real[i]).sum()),
                    "dimension": dimension,
                    "before": float(before[i, token, dimension]),
                    "after": float(after[i, token, dimension]),
                }
                written = _neurons(_down(model, layer), hidden[i, token], dimension)
                rows.extend(about | neuron for neuron in written)

        with ExitStack() as stack:
            for layer in range(model.n_layers):
                hook = _down(model, layer).register_forward_pre_hook(
                    lambda module, args, kwargs, at=layer: entering.update({at: module_input(args, kwargs).detach()}),
                    with_kwargs=True,
                )
                stack.callback(hook.remove)
            stack.enter_context(watch(model, each=visit))
            model.forward(batch)
        return pd.DataFrame(rows)

    return gather(items, measured, batch_size, f"writing neurons of {model.name}", work)


def _down(model: LostModel, layer: int) -> nn.Module:
    return getattr(model.layers[layer], model.family.mlp).down_proj


def _neurons(projection: nn.Module, activation: Tensor, dimension: int) -> Iterator[dict]:
    """The rows of one entry: the neurons that contribute most, then the others together."""
    weights = matrix(projection, activation.dtype)[dimension].double()
    contribution = weights * activation.double()
    bias = getattr(projection, "bias", None)
    top = contribution.abs().topk(min(TOP, len(contribution))).indices
    for neuron in top.tolist():
        yield {
            "neuron": neuron,
            "activation": float(activation[neuron]),
            "weight": float(weights[neuron]),
            "contribution": float(contribution[neuron]),
        }
    rest = contribution.sum() - contribution[top].sum() + (0.0 if bias is None else bias[dimension].double())
    yield {"neuron": OTHERS, "activation": None, "weight": None, "contribution": float(rest)}
