"""The experiments on sinks: `sinks`, tokens' sink values, the attention they get and what they contribute; `heads`,
which heads look at the image and what VAR would move in them; `sinkmaps`, where each head looks in the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lostlib import sinks
from lostlib.benchmarks.items import Item
from lostlib.census import by_layer
from lostlib.experiments.attention import per_patch
from lostlib.experiments.rows import gather
from lostlib.interventions import Knockout, Var, parse_numbers
from lostlib.models import Batch, LostModel
from lostlib.models.attention import Rows, Run, running
from lostlib.models.stream import LayerStream, seen, watch
from lostlib.models.weights import matrix
from lostlib.text import check_choice

PLACES = ("background", "object", "relevant")
ROWS = ("tokens", "layers", "heads")


def sink_rows(
    model: LostModel,
    items: Sequence[Item],
    tau: float | str = 20.0,
    detector: str = "phi",
    dims: str | None = None,
    rows: str = "tokens",
    batch_size: int = 16,
    work: Path | None = None,
) -> pd.DataFrame:
    """The tokens of every layer: which are sinks, who looks at them, what do they write, where do they lie.

    Parameters
    ----------
    model : LostModel
    items : sequence of Item
    tau, detector : as for the intervention `knockout`
        Since phi is among the columns, other thresholds can be tried on the same rows.
    dims : str, optional
        Sink dimensions as ``"1415+2533"``; the model's own by default.
    rows : str
        What a row is of: ``"tokens"``, ``"layers"`` or ``"heads"``. Tables of models that are no mini models are of
        layers unless told otherwise, since 200 items have 19 million tokens in the layers of a LLaVA-NeXT.
    batch_size : int
        Items at once.
    work : Path, optional
        Folder of finished parts: with one, a run that was killed goes on where it was.

    Returns
    -------
    pandas.DataFrame
        With ``rows="tokens"`` one row an item, layer and token: item, cluster, layer, token (position without padding),
        kind ("visual" or "text"), patch (number among the item's visual tokens; -1 for text), place ("relevant": shows
        an object that decides the answer, "object": another object, "background"; null for text and where it is not
        known), sink, phi, share (phi^2 / H, of the token's energy), peak (maximum of ``|x[d]| / RMS`` over all
        dimensions, what phi could be at most), ratio (``max|x| / median|x|``), attention (weight on this token, mean
        over heads and over the text tokens after the first image token that see it; without an image all but the first
        token, which sees nothing else; null where none does), contribution (mean of weight times ``|v W_O|`` over the
        same heads and tokens).

        With ``rows="layers"`` what these come to, see `lostlib.census.by_layer`.

        With ``rows="heads"`` one row an item, layer and head: item, cluster, layer, head, and the share of the same
        text tokens' attention, mean over them, that is on_first (on the first token), on_sinks (on all sinks),
        on_visual and on_visual_sinks.
    """
    finder = _finder(check_sinks(tau, detector, dims, rows), model)
    measured = _of_heads(model, finder) if rows == "heads" else _of_tokens(model, finder)

    def asked(part: Sequence[Item]) -> pd.DataFrame:
        return by_layer(measured(part)) if rows == "layers" else measured(part)

    return gather(items, asked, batch_size, f"sinks of {model.name}", work, about=rows)


def _of_tokens(model: LostModel, finder: sinks.Detector) -> Callable[[Sequence[Item]], pd.DataFrame]:
    """What measures a part, token by token."""
    shown = finder.dims or sinks.sink_dimensions(model)

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        batch, frames = model.encode(part), list[pd.DataFrame]()
        drawn = dict[int, Tensor]()  # layer -> (B, heads, K)

        def look(probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
            drawn[rows.layer] = _received(probs, rows)
            return probs

        def visit(layer: int, stream: LayerStream) -> None:
            weights, hidden = drawn.pop(layer), seen(stream.resid_pre)
            columns = {
                **_shape_of(hidden, shown),
                "sink": finder.mask(hidden),
                "attention": weights.mean(1),
                "contribution": (weights * _norms(model, layer, stream)).mean(1),
            }
            host = {name: column.cpu().numpy() for name, column in columns.items()}
            frames.extend(_frame(item, layer, i, batch, host) for i, item in enumerate(part))

        with running(Run(model, edits=[look])), watch(model, each=visit):
            model.forward(batch)
        return pd.concat(frames, ignore_index=True)

    return measured


def _of_heads(model: LostModel, finder: sinks.Detector) -> Callable[[Sequence[Item]], pd.DataFrame]:
    """What measures a part, head by head."""

    def look(part: Sequence[Item], probs: Tensor, rows: Rows) -> Iterator[pd.DataFrame]:
        found = finder.found(rows)
        keys = {
            "on_first": rows.key_positions == 0,
            "on_sinks": found,
            "on_visual": rows.visual,
            "on_visual_sinks": found & rows.visual,
        }
        readers = _readers(rows)
        shares = {name: _over((probs * which[:, None, None, :]).sum(-1), readers) for name, which in keys.items()}
        for i, item in enumerate(part):
            about = {"item": item.uid, "cluster": item.cluster, "layer": rows.layer, "head": np.arange(probs.shape[1])}
            yield pd.DataFrame({**about, **{name: share[i].cpu().numpy() for name, share in shares.items()}})

    return _looking(model, finder, look)


def head_rows(
    model: LostModel,
    items: Sequence[Item],
    tau: float | str | None = None,
    min_mass: float | None = None,
    p: float | None = None,
    rho: float | None = None,
    detector: str = "phi",
    dims: str | None = None,
    preset: str = "paper",
    batch_size: int = 16,
    work: Path | None = None,
) -> pd.DataFrame:
    """What VAR would do in each head of the untouched model, over the text tokens after the first image token.

    Parameters as for the intervention `var`, `dims` as for `sink_rows`. Layers that the preset leaves out are measured
    all the same.

    Returns
    -------
    pandas.DataFrame
        One row an item, layer and head: item, cluster, layer, head, sinks (visual sinks of the layer), visual (mean
        mass on visual keys), share (of it on visual keys that are no sinks, mean over the tokens that look at any),
        selected (share of the tokens in whose rows the head counts as image-centric), moved (mean mass that VAR moves,
        0 where it does nothing).
    """
    finder = _finder(asked_heads(tau, min_mass, p, rho, detector, dims, preset), model)

    def look(part: Sequence[Item], probs: Tensor, rows: Rows) -> Iterator[pd.DataFrame]:
        found, after = finder.found(rows), _after_image(rows)
        new, selected = sinks.redistribute(
            probs, found, rows.visual, after, p=p, rho=rho, min_mass=min_mass, preset=preset
        )
        visual = (probs * rows.visual[:, None, None, :]).sum(-1)  # (B, heads, Q)
        other = (probs * (rows.visual & ~found)[:, None, None, :]).sum(-1)
        moved = (new - probs).abs().sum(-1) / 2  # what one key loses another gains
        columns = {
            "visual": _over(visual, after),
            "share": _over(other / visual, after & (rows.first_visual >= 0)[:, None]),
            "selected": _over(selected.float(), after),
            "moved": _over(moved, after),
        }
        host = {name: column.cpu().numpy() for name, column in columns.items()}
        counts = (found & rows.visual).sum(1).tolist()
        for i, item in enumerate(part):
            about = {"item": item.uid, "cluster": item.cluster, "layer": rows.layer}
            heads = {"head": np.arange(probs.shape[1]), "sinks": counts[i]}
            yield pd.DataFrame({**about, **heads, **{name: column[i] for name, column in host.items()}})

    return gather(items, _looking(model, finder, look), batch_size, f"heads of {model.name}", work)


def map_rows(
    model: LostModel,
    items: Sequence[Item],
    tau: float | str = 20.0,
    detector: str = "phi",
    dims: str | None = None,
    batch_size: int = 4,
    work: Path | None = None,
) -> pd.DataFrame:
    """Attention maps over the image: how much the text tokens after it look at each visual token, head by head.

    Parameters as for `sink_rows`.

    Returns
    -------
    pandas.DataFrame
        One row an item, layer, head and visual token: item, cluster, layer, head, patch (number among the item's visual
        tokens), sink, attention (mean weight over the text tokens after the first image token that see it).
    """
    finder = _finder(asked_sinks(tau, detector, dims), model)

    def look(part: Sequence[Item], probs: Tensor, rows: Rows) -> Iterator[pd.DataFrame]:
        drawn, found = _received(probs, rows), finder.found(rows)
        for item, weights, sink, visual in zip(part, drawn, found, rows.visual, strict=True):
            on_image = weights[:, visual]
            columns = {"sink": sink[visual].expand(on_image.shape), "attention": on_image}
            yield per_patch(item, rows.layer, columns)

    return gather(items, _looking(model, finder, look), batch_size, f"attention maps of {model.name}", work)


def asked_sinks(tau: float | str, detector: str, dims: str | None) -> Knockout:
    """The intervention that finds sinks as `sink_rows` is asked to; what does not exist is an error."""
    return Knockout(tau=tau, detector=detector, dims=_numbers(dims), among="all")


def check_sinks(tau: float | str, detector: str, dims: str | None, rows: str) -> Knockout:
    """See `asked_sinks`; and what `rows` of such a table can be of."""
    check_choice("rows", rows, ROWS)
    return asked_sinks(tau, detector, dims)


def asked_heads(
    tau: float | str | None, min_mass: float | None, p: float | None, rho: float | None, detector: str,
    dims: str | None, preset: str,
) -> Var:  # fmt: skip
    """The intervention whose heads `head_rows` describes; what does not exist is an error."""
    return Var(tau, min_mass, p, rho, detector=detector, dims=_numbers(dims), preset=preset)


def _finder(asked: Knockout | Var, model: LostModel) -> sinks.Detector:
    """What finds the sinks that an intervention means, in this model."""
    asked.check(model)
    return asked.prepared(model).finder


def _looking(
    model: LostModel, finder: sinks.Detector, look: Callable[[Sequence[Item], Tensor, Rows], Iterable[pd.DataFrame]]
) -> Callable[[Sequence[Item]], pd.DataFrame]:
    """What measures a part: `look` gives rows of each layer's weights, `finder` sees the stream they are made from."""

    def measured(part: Sequence[Item]) -> pd.DataFrame:
        frames = list[pd.DataFrame]()

        def edit(probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
            frames.extend(look(part, probs, rows))
            return probs

        run = Run(model, edits=[edit])
        with running(run), ExitStack() as stack:
            for handle in finder.follow(run, range(model.n_layers)):
                stack.callback(handle.remove)
            model.forward(model.encode(part))
        return pd.concat(frames, ignore_index=True)

    return measured


def _numbers(dims: str | None) -> tuple[int, ...] | None:
    return None if dims is None else parse_numbers(str(dims))


def _after_image(rows: Rows) -> Tensor:
    """(B, Q) bool: text tokens after the first image token; all text tokens where there is no image."""
    return ~rows.query_visual & (rows.query_positions > rows.first_visual[:, None])


def _readers(rows: Rows) -> Tensor:
    """(B, Q) bool: text tokens after the first image token, and never the first token, which can only see itself."""
    return _after_image(rows) & (rows.query_positions > 0)


def _over(values: Tensor, queries: Tensor) -> Tensor:
    """(B, heads, Q) -> (B, heads): the mean over these queries (B, Q); null where there are none."""
    chosen = queries[:, None, :]
    return torch.where(chosen, values, 0.0).sum(-1) / chosen.sum(-1)


def _received(probs: Tensor, rows: Rows) -> Tensor:
    """(B, heads, K): a key's mean weight over the readers that see it."""
    counted = _readers(rows)[:, None, :, None] & rows.visible  # (B, 1, Q, K)
    return (probs * counted).sum(2) / counted.sum(2)


def _shape_of(hidden: Tensor, dims: tuple[int, ...]) -> dict[str, Tensor]:
    """Per token: phi, its bound over all dimensions, and Sun et al.'s ratio."""
    x = hidden.float().abs()
    top = x.amax(-1)
    value = sinks.phi(x, dims)
    return {
        "phi": value,
        "share": value.square() / x.shape[-1],
        "peak": sinks.phi(x, range(x.shape[-1])),
        "ratio": top / x.median(-1).values,
    }


def _norms(model: LostModel, layer: int, stream: LayerStream) -> Tensor:
    """(B, heads, K): the norm of what each key would write at weight 1."""
    attention = model.attention_modules[layer]
    values = attention.v_proj(stream.attention_call["hidden_states"])  # type: ignore[operator]
    output = matrix(attention.o_proj, values.dtype)  # type: ignore[arg-type]
    width = output.shape[1] // model.n_heads
    return sinks.value_norms(values.unflatten(-1, (-1, width)).transpose(1, 2), output)


def _frame(item: Item, layer: int, index: int, batch: Batch, columns: dict[str, np.ndarray]) -> pd.DataFrame:
    """The rows of one item in one layer."""
    real, visual = batch.real[index].cpu().numpy(), batch.visual[index].cpu().numpy()
    patch = np.where(visual, visual.cumsum() - 1, -1)[real]
    return pd.DataFrame(
        {
            "item": item.uid,
            "cluster": item.cluster,
            "layer": layer,
            "token": np.arange(real.sum()),
            "kind": np.where(visual, "visual", "text")[real],
            "patch": patch,
            "place": pd.Series(_places(item, patch), dtype="str"),
            **{
                name: columns[name][index][real]
                for name in ("sink", "phi", "share", "peak", "ratio", "attention", "contribution")
            },
        }
    )


def _places(item: Item, patch: np.ndarray) -> list[str | None]:
    """Where each token lies; None where it is not known."""
    located = item.located(int(patch.max(initial=-1)) + 1) and len(item.images) == 1
    if item.objects is None or not located:
        return [None] * len(patch)
    objects, relevant = set(item.objects), set(item.relevant or ())
    return [None if p < 0 else PLACES[(p in objects) + (p in objects and p in relevant)] for p in patch.tolist()]
