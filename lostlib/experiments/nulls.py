"""What a random update of the same size would do: the absolute yardstick that RID and MixIG lack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from lostlib.benchmarks import Item
from lostlib.experiments.measures import Measures, check_measures
from lostlib.experiments.rows import gather
from lostlib.experiments.spans import _sequence
from lostlib.models import Batch, LostModel, keyed_random
from lostlib.models.stream import LayerStream, watch
from lostlib.text import check_seed

NULLS = ("gaussian", "shuffled")


def null_metrics(
    model: LostModel,
    items: Sequence[Item],
    seed: int = 0,
    rank: str | int = "numerical",
    unit: str = "nats",
    causal: bool = False,
    batch_size: int = 16,
    work: Path | None = None,
) -> pd.DataFrame:
    """The metrics of every true update beside those of two random ones of its size: what RID and MixIG of chance are.

    RID and MixIG depend on the number of tokens, the hidden size and the norms of stream and update, so that a value
    has no meaning of its own. Two null models give it one:

    - ``gaussian``: independent normal numbers with the Frobenius norm of the true update: it knows nothing;
    - ``shuffled``: the true update's rows dealt out to other tokens of the sequence: the same vectors and norms, each
      in the wrong place.

    Parameters
    ----------
    model, items
        As for `residual_metrics`.
    seed : int
        Of the null models, which are functions of (seed, item, layer, module).
    rank, unit, causal
        Of RID, TME and MixIG.

    Returns
    -------
    pandas.DataFrame
        One row an item, layer, module ("attn" or "ffn") and control ("none" for the true update, "gaussian",
        "shuffled"), with the columns of `residual_metrics`.
    """
    check_seed(seed)
    measures = check_measures(rank, unit, causal)

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        batch, rows = model.encode(part), list[dict]()

        def visit(layer: int, stream: LayerStream) -> None:
            rows.extend(_null_rows(batch, layer, stream, seed, measures))

        with watch(model, each=visit):
            model.forward(batch)
        return pd.DataFrame(rows)

    return gather(items, measured, batch_size, f"null models of {model.name}", work)


def _null_rows(batch: Batch, layer: int, stream: LayerStream, seed: int, measures: Measures) -> Iterator[dict]:
    for module, start, update in (
        ("attn", stream.resid_pre, stream.attn_out),
        ("ffn", stream.resid_mid, stream.mlp_out),
    ):
        for i, item in enumerate(batch.item_ids):
            x, true = _sequence(batch, i, start), _sequence(batch, i, update)
            key = keyed_random.chain(
                seed, keyed_random.text_key(f"null {module}"), keyed_random.text_key(item), layer, device=x.device
            )
            updates = {"none": true, **_nulls(true, key)}
            before, *after = measures.states([x, *(x + dx for dx in updates.values())])
            for control, state in zip(updates, after, strict=True):
                about = {"item": item, "layer": layer, "module": module, "control": control}
                yield about | measures(before, state) | {"tokens": len(x)}


def _nulls(update: Tensor, key: Tensor) -> dict[str, Tensor]:
    """The null updates (S, H) in place of a true one."""
    tokens, channels = (torch.arange(n, device=update.device) for n in update.shape)
    noise = keyed_random.normal(keyed_random.chain(key, tokens[:, None], channels, device=update.device)).double()
    order = keyed_random.normal(keyed_random.chain(key, tokens, device=update.device)).argsort()
    return {"gaussian": noise * (update.norm() / noise.norm()), "shuffled": update[order]}
