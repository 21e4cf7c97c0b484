"""Residual metrics: what each module's update does to the stream, beside updates that something else has made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from lostlib.benchmarks import Item
from lostlib.experiments.measures import Measures, State, check_measures
from lostlib.experiments.rows import gather
from lostlib.interventions import (
    Intervention,
    NoiseDelta,
    NoiseQKV,
    intervene,
    noise_like,
    without_rotation,
)
from lostlib.models import Batch, LostModel, keyed_random
from lostlib.models.attention import Run
from lostlib.models.stream import LayerStream, seen, watch
from lostlib.sinks import Detector, sink_dimensions, threshold
from lostlib.text import check, check_choice, check_count, check_seed

CONTROLS = ("noise_delta", "noise_qkv", "no_rope")
SCOPES = ("layer", "model")
PARTS = ("nothing", "dimensions", "tokens", "first")
MASSIVE = "10%"  # of its energy in one sink dimension makes a token massive


@dataclass(frozen=True)
class Part:
    """The part of the stream that is measured: all of it, or what massive activations do not reach."""

    dims: Tensor | None = None  #: the hidden dimensions that count; all if None
    massive: Detector | None = None  #: tells tokens that do not count; all do if None
    first: bool = True  #: does the first token count

    @classmethod
    def of(cls, model: LostModel, without: str) -> Part:
        """What is left without `nothing`, the model's sink `dimensions`, massive `tokens`, or the `first` token."""
        if without in ("nothing", "first"):
            return cls(first=without == "nothing")
        dims = sink_dimensions(model)
        if without == "tokens":
            return cls(massive=Detector(dims, threshold(MASSIVE, model.hidden_size)))
        return cls(torch.tensor([d for d in range(model.hidden_size) if d not in dims]))

    def tokens(self, real: Tensor, stream: LayerStream) -> Tensor:
        """(B, S) bool: real tokens that count, judged by what enters and leaves the layer; the last one always does."""
        pre, post = seen(stream.resid_pre), seen(stream.resid_post)
        counted = real.to(pre.device, copy=True)
        if self.massive is not None:
            counted &= ~self.massive.mask(pre) & ~self.massive.mask(post)
        if not self.first:
            counted &= counted.cumsum(1) != 1
        counted[:, -1] = True  # left-padded: a sequence never is empty
        return counted

    def cut(self, x: Tensor, tokens: Tensor) -> Tensor:
        """One sequence (S, H) in float64: its tokens that count, their dimensions that count."""
        held = x[tokens].double()
        return held if self.dims is None else held[:, self.dims.to(held.device)]


def residual_metrics(
    model: LostModel,
    items: Sequence[Item],
    controls: Sequence[str] = CONTROLS,
    seed: int = 0,
    rank: str | int = "numerical",
    unit: str = "nats",
    causal: bool = False,
    scope: str = "layer",
    without: str = "nothing",
    draws: int = 1,
    batch_size: int = 16,
    work: Path | None = None,
) -> pd.DataFrame:
    """What each module's update does to the residual stream, item by item and layer by layer.

    Every update X -> X' = X + dX of one module is measured on the item's tokens (no padding): attention compares
    resid_pre with resid_mid, the FFN resid_mid with resid_post. Controls put something else in the attention module's
    place:

    - ``noise_delta``: Gaussian noise with the Frobenius norm of the true update (other scales as
      ``noise_delta:scale=token``);
    - ``noise_qkv``: the attention module computed with Gaussian W_Q, W_K, W_V;
    - ``no_rope``: the tolerance of position encoding; X is resid_mid computed without the rotation and X' the true
      resid_mid, so ``rid`` is epsilon_RoPE.

    Parameters
    ----------
    model : LostModel
    items : sequence of Item
    controls : sequence of str
        Which controls to measure beside the true updates.
    seed : int
        Of the noise.
    rank : str or int
        RID's rank rule, see `lostlib.rid`.
    unit, causal
        Of TME and MixIG, see `lostlib.token_mixing_entropy`.
    scope : str
        ``"layer"``: a control replaces the update of one layer at a time, on the true resid_pre, and nothing
        propagates. ``"model"``: the whole model runs with the control in all layers, and each layer is measured there.
    without : str
        ``"nothing"``; ``"dimensions"``: the stream is measured without the model's sink dimensions (see
        `lostlib.sinks.sink_dimensions`), ``"tokens"``: without the tokens that hold a tenth of their energy in one of
        them where they enter or leave the layer, ``"first"``: without the first token. The model itself runs as ever.
    draws : int
        Sets of matrices of ``noise_qkv``: one stands for no other, so its intervals need several. Their seeds are
        `seed`, `seed` + 1 and so on.
    batch_size : int
        Items at once.
    work : Path, optional
        Folder of finished parts: with one, a run that was killed goes on where it was.

    Returns
    -------
    pandas.DataFrame
        One row an item, layer, module and control: item, cluster, layer, module ("attn" or "ffn"), control ("none" for
        the true update), rid, delta_s, delta_d_column, delta_d_row, mixig and tme (in `unit`; tme of X'), erank (of
        X'), erank_before (of X), norm_ratio (norm of dX over norm of X), tokens (that were measured).
        With several draws there is a column draw behind control: 0, 1, ... of ``noise_qkv``, 0 of all else.
    """
    chosen, measures = check_residual(controls, rank, unit, causal, scope, without, draws)
    check_seed(seed)
    check_seed(seed + draws - 1)
    part = Part.of(model, without)

    def measured(asked: Sequence[Item]) -> pd.DataFrame:
        batch, rows, mids = model.encode(asked), list[dict](), dict[int, Tensor]()
        of_pass = _Rows(batch, measures, part)

        def visit(layer: int, stream: LayerStream) -> None:
            updates = _true_updates(stream)
            if scope == "layer":
                updates |= {
                    ("attn", name, draw): control(model, batch, layer, stream, seed + draw)
                    for (name, draw), control in chosen.items()
                }
            else:
                mids[layer] = seen(stream.resid_mid)
            rows.extend(of_pass.of(layer, stream, updates))

        with watch(model, each=visit):
            model.forward(batch)
        if scope == "model":
            for name, draw in chosen:
                rows.extend(_propagated(model, batch, name, draw, seed, mids, _Rows(batch, measures, part)))
        frame = pd.DataFrame(rows)
        return frame if draws > 1 else frame.drop(columns="draw")

    return gather(items, measured, batch_size, f"residual stream of {model.name}", work)


def check_residual(
    controls: Sequence[str], rank: str | int, unit: str, causal: bool, scope: str, without: str, draws: int
) -> tuple[dict[tuple[str, int], Control], Measures]:
    """The controls that are asked for, by name and draw, and the measures; what does not exist is an error."""
    check_choice("scope", scope, SCOPES)
    check_choice("without", without, PARTS)
    if isinstance(controls, str) or not isinstance(controls, Sequence):
        raise ValueError(f"controls must be a list such as {list(CONTROLS)}, got {controls!r}")
    check_count("draws", draws)
    chosen = {str(name): _control(str(name)) for name in controls}
    if draws > 1 and _qkv_update not in chosen.values():
        raise ValueError(f"draws={draws} are of noise_qkv, which is not among the controls {list(chosen)}")
    drawn = {
        (name, draw): control
        for name, control in chosen.items()
        for draw in range(draws if control is _qkv_update else 1)
    }
    return drawn, check_measures(rank, unit, causal)


Update = tuple[Tensor, Tensor]  # X, X', each (B, S, H)
Label = tuple[str, str, int]  # module, control, draw
Control = Callable[[LostModel, Batch, int, LayerStream, int], Update]


def _true_updates(stream: LayerStream) -> dict[Label, Update]:
    pre, mid, post = (seen(x) for x in (stream.resid_pre, stream.resid_mid, stream.resid_post))
    return {("attn", "none", 0): (pre, mid), ("ffn", "none", 0): (mid, post)}


def _control(text: str) -> Control:
    chosen = Intervention.parse(text)
    check("control", chosen.name, CONTROLS)
    if isinstance(chosen, NoiseDelta):
        return lambda *call: _noise_update(chosen, *call)
    return _qkv_update if isinstance(chosen, NoiseQKV) else _rope_update


def _noise_update(
    chosen: NoiseDelta, model: LostModel, batch: Batch, layer: int, stream: LayerStream, seed: int
) -> Update:
    pre, attn_out = seen(stream.resid_pre), seen(stream.attn_out)
    real = batch.real.to(pre.device)[..., None]
    items = torch.tensor([keyed_random.text_key(name) for name in batch.item_ids], device=real.device)
    noise = noise_like(attn_out, items, real[..., 0].cumsum(1) - 1, layer, seed) * real
    update = chosen.scaled(noise, attn_out.float() * real)
    return pre, pre + update.to(pre.dtype)


def _qkv_update(model: LostModel, batch: Batch, layer: int, stream: LayerStream, seed: int) -> Update:
    handles = NoiseQKV(layers=(layer,)).attach(Run(model, seed=seed))
    try:
        update = model.attention_modules[layer].forward(**stream.attention_call)[0]
    finally:
        for handle in handles:
            handle.remove()
    pre = seen(stream.resid_pre)
    return pre, pre + update


def _rope_update(model: LostModel, batch: Batch, layer: int, stream: LayerStream, seed: int) -> Update:
    call = stream.attention_call
    still = {**call, "position_embeddings": without_rotation(call["position_embeddings"])}
    update = model.attention_modules[layer].forward(**still)[0]
    return seen(stream.resid_pre) + update, seen(stream.resid_mid)


def _propagated(
    model: LostModel, batch: Batch, control: str, draw: int, seed: int, mids: dict[int, Tensor], of_pass: _Rows
) -> list[dict]:
    """The rows of a control in all layers at once; epsilon_RoPE compares with the true run's resid_mid."""
    rows: list[dict] = []

    def visit(layer: int, stream: LayerStream) -> None:
        pre, mid = seen(stream.resid_pre), seen(stream.resid_mid)
        update = (mid, mids[layer]) if control == "no_rope" else (pre, mid)
        rows.extend(of_pass.of(layer, stream, {("attn", control, draw): update}))

    with watch(model, each=visit), intervene(model, control, seed + draw):
        model.forward(batch)
    return rows


class _Rows:
    """The rows of one forward pass. What leaves a layer enters the next one, and is prepared once for both."""

    def __init__(self, batch: Batch, measures: Measures, part: Part) -> None:
        self.batch, self.measures, self.part = batch, measures, part
        self.left: dict[str, State] = {}  # item -> the stream behind the last layer's FFN

    def of(self, layer: int, stream: LayerStream, updates: Mapping[Label, Update]) -> Iterator[dict]:
        """One row an item and update; whatever several updates have in common is prepared once."""
        tokens = self.part.tokens(self.batch.real, stream)
        whole = {id(x): x for update in updates.values() for x in update}
        for i, (item, counted) in enumerate(zip(self.batch.item_ids, tokens, strict=True)):
            sequences = [self.part.cut(x[i], counted) for x in whole.values()]
            states = dict(zip(whole, self.measures.states(sequences, self.left.pop(item, None)), strict=True))
            for (module, control, draw), (before, after) in updates.items():
                about = {"item": item, "layer": layer, "module": module, "control": control, "draw": draw}
                yield about | self.measures(states[id(before)], states[id(after)]) | {"tokens": int(counted.sum())}
                if module == "ffn":
                    self.left[item] = states[id(after)]
