"""What the updates of several layers do together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lostlib.benchmarks import Item
from lostlib.experiments.measures import Measures, check_measures
from lostlib.experiments.rows import gather
from lostlib.models import Batch, LostModel
from lostlib.models.stream import Stream, seen, watch
from lostlib.text import check_count


def span_metrics(
    model: LostModel,
    items: Sequence[Item],
    rank: str | int = "numerical",
    unit: str = "nats",
    causal: bool = False,
    blocks: int = 8,
    batch_size: int = 8,
    work: Path | None = None,
) -> pd.DataFrame:
    """RID and MixIG over spans of layers: what the updates of layers `first` to `last` bring together.

    X is the stream before layer `first`; X' is X plus the attention updates of the span, plus its FFN updates, or plus
    both (which is the stream after layer `last`). RID over a span can be less than the sum of its steps, when layers
    undo one another's innovations, and is never limited to what one step can bring; it is not additive in any case.

    Parameters
    ----------
    model, items
        As for `residual_metrics`. All layers' activations of a batch are held at once.
    rank, unit, causal
        Of RID, TME and MixIG.
    blocks : int
        Deep models are cut into this many runs of layers, and spans begin and end where these do.

    Returns
    -------
    pandas.DataFrame
        One row an item, span and module ("attn", "ffn", "both"): item, cluster, first, last, module and the metrics of
        `residual_metrics`.
    """
    measures = check_spans(rank, unit, causal, blocks)
    runs = np.array_split(np.arange(model.n_layers), min(blocks, model.n_layers))

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        batch, rows = model.encode(part), list[dict]()
        with watch(model) as stream:
            model.forward(batch)
        for i, run in enumerate(runs):
            rows.extend(_span_rows(batch, stream, int(run[0]), [int(r[-1]) for r in runs[i:]], measures))
        return pd.DataFrame(rows)

    return gather(items, measured, batch_size, f"spans of {model.name}", work)


def check_spans(rank: str | int, unit: str, causal: bool, blocks: int) -> Measures:
    """The measures that are asked for; what does not exist is an error."""
    check_count("blocks", blocks)
    return check_measures(rank, unit, causal)


def _span_rows(batch: Batch, stream: Stream, first: int, lasts: list[int], measures: Measures) -> Iterator[dict]:
    for i, item in enumerate(batch.item_ids):
        x = _sequence(batch, i, stream[first].resid_pre)
        [before] = measures.states([x])
        added = {"attn": torch.zeros_like(x), "ffn": torch.zeros_like(x)}
        for layer in range(first, lasts[-1] + 1):
            added["attn"] += _sequence(batch, i, stream[layer].attn_out).to(x.device)
            added["ffn"] += _sequence(batch, i, stream[layer].mlp_out).to(x.device)
            if layer in lasts:
                sums = {**added, "both": added["attn"] + added["ffn"]}
                after = measures.states([x + dx for dx in sums.values()])
                for module, state in zip(sums, after, strict=True):
                    about = {"item": item, "first": first, "last": layer, "module": module}
                    yield about | measures(before, state) | {"tokens": len(x)}


def _sequence(batch: Batch, i: int, activation: Tensor | None) -> Tensor:
    """An item's rows of (B, S, H) without padding, in float64."""
    x = seen(activation)
    return x[i][batch.real[i].to(x.device)].double()
