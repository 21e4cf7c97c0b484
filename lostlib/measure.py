"""The measuring loops: (model, benchmark, intervention, seed, n) -> tidy rows."""

from __future__ import annotations

import datetime
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from torch import Tensor
from tqdm import tqdm

import lostlib
from lostlib import draws, metrics
from lostlib.answers import answers
from lostlib.attention import BACKEND, Rows, Run, running
from lostlib.benchmarks import VERSIONS, Benchmark, Choice, Item, load_benchmark
from lostlib.interventions import Intervention, NoiseDelta, NoiseQKV, intervene, noise_like, without_rotation
from lostlib.models import Batch, LostModel, check_device, load_model, model_type
from lostlib.names import nearest
from lostlib.residual import LayerStream, seen, watch
from lostlib.results import Key, Table

CONTROLS = ("noise_delta", "noise_qkv", "no_rope")
INTERVENED = ("answers", "maps")  # experiments whose key may name an intervention


def batches(items: Sequence[Item], size: int, title: str) -> Iterator[Sequence[Item]]:
    """Consecutive batches under a progress bar that counts items (silent where the output is no terminal)."""
    with tqdm(total=len(items), desc=title, unit="item", disable=None) as bar:
        for start in range(0, len(items), size):
            yield items[start : start + size]
            bar.update(len(items[start : start + size]))


def in_order(rows: pd.DataFrame, items: Sequence[Item]) -> pd.DataFrame:
    """The rows in the items' order."""
    order = {item.uid: i for i, item in enumerate(items)}
    return rows.sort_values("item", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)


# ---- residual metrics -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measures:
    """How updates are measured: RID's rank rule, TME's unit and causality."""

    rank: str | int
    unit: str
    causal: bool

    def __call__(self, before: metrics.Decomposition, x: Tensor, x_new: Tensor) -> dict[str, float]:
        """All metrics of one update of one sequence: (S, H) before and after, no padding; `before` decomposes x."""
        after = metrics.Decomposition(x_new)
        parts = metrics.rid(before, after, rank=self.rank)
        tme = [float(metrics.token_mixing_entropy(y, unit=self.unit, causal=self.causal)) for y in (x, x_new)]
        return {
            "rid": float(parts.total),
            "delta_s": float(parts.delta_s),
            "delta_d_column": float(parts.delta_d_column),
            "delta_d_row": float(parts.delta_d_row),
            "mixig": tme[1] - tme[0],
            "tme": tme[1],
            "erank": float(metrics.effective_rank(after)),
            "erank_before": float(metrics.effective_rank(before)),
            "norm_ratio": float((x_new - x).norm() / x.norm()),
        }


def residual_metrics(
    model: LostModel,
    items: Sequence[Item],
    controls: Sequence[str] = CONTROLS,
    seed: int = 0,
    rank: str | int = "numerical",
    unit: str = "nats",
    causal: bool = False,
    scope: str = "layer",
    batch_size: int = 16,
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
    batch_size : int
        Items at once.

    Returns
    -------
    pandas.DataFrame
        One row an item, layer, module and control: item, cluster, layer, module ("attn" | "ffn"), control ("none" for
        the true update), rid, delta_s, delta_d_column, delta_d_row, mixig and tme (in `unit`; tme of X'), erank (of
        X'), erank_before (of X), norm_ratio (norm of dX over norm of X), tokens.
    """
    if scope not in ("layer", "model"):
        raise ValueError(f"scope {scope!r} is not one of layer, model{nearest(scope, ('layer', 'model'))}")
    chosen = {str(c): _control(str(c)) for c in controls}
    measures = _Measures(rank, unit, causal)
    rows: list[dict] = []
    for part in batches(items, batch_size, f"residual stream of {model.name}"):
        batch = model.encode(part)
        mids: dict[int, Tensor] = {}

        def visit(layer: int, stream: LayerStream, batch: Batch = batch, mids: dict[int, Tensor] = mids) -> None:
            updates = _true_updates(stream)
            if scope == "layer":
                updates |= {
                    ("attn", name): control(model, batch, layer, stream, seed) for name, control in chosen.items()
                }
            else:
                mids[layer] = seen(stream.resid_mid)
            rows.extend(_rows(batch, layer, updates, measures))

        with watch(model, each=visit):
            model.forward(batch)
        if scope == "model":
            for name in chosen:
                rows.extend(_propagated(model, batch, name, seed, mids, measures))
    frame = in_order(pd.DataFrame(rows), items)
    frame.insert(1, "cluster", frame["item"].map({item.uid: item.cluster for item in items}))
    return frame


Update = tuple[Tensor, Tensor]  # X, X', each (B, S, H)
Control = Callable[[LostModel, Batch, int, LayerStream, int], Update]


def _true_updates(stream: LayerStream) -> dict[tuple[str, str], Update]:
    pre, mid, post = (seen(x) for x in (stream.resid_pre, stream.resid_mid, stream.resid_post))
    return {("attn", "none"): (pre, mid), ("ffn", "none"): (mid, post)}


def _control(text: str) -> Control:
    name = text.split(":")[0]
    if name not in CONTROLS:
        raise ValueError(f"unknown control {text!r}; there are {', '.join(CONTROLS)}{nearest(name, CONTROLS)}")
    chosen = Intervention.parse(text)
    if isinstance(chosen, NoiseDelta):
        return lambda *call: _noise_update(chosen, *call)
    return _qkv_update if isinstance(chosen, NoiseQKV) else _rope_update


def _noise_update(
    chosen: NoiseDelta, model: LostModel, batch: Batch, layer: int, stream: LayerStream, seed: int
) -> Update:
    pre, attn_out = seen(stream.resid_pre), seen(stream.attn_out)
    real = batch.real.to(pre.device)[..., None]
    items = torch.tensor([draws.text_key(name) for name in batch.item_ids], device=real.device)
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
    model: LostModel, batch: Batch, control: str, seed: int, mids: dict[int, Tensor], measures: _Measures
) -> list[dict]:
    """The rows of a control in all layers at once; epsilon_RoPE compares with the true run's resid_mid."""
    rows: list[dict] = []

    def visit(layer: int, stream: LayerStream) -> None:
        pre, mid = seen(stream.resid_pre), seen(stream.resid_mid)
        update = (mid, mids[layer]) if control == "no_rope" else (pre, mid)
        rows.extend(_rows(batch, layer, {("attn", control): update}, measures))

    with watch(model, each=visit), intervene(model, control, seed):
        model.forward(batch)
    return rows


def _rows(batch: Batch, layer: int, updates: dict[tuple[str, str], Update], measures: _Measures) -> Iterator[dict]:
    """One row an item and update; an X that several updates start from is decomposed once."""
    device = next(iter(updates.values()))[0].device  # the layer's, where a model is spread over several
    for i, (item, real) in enumerate(zip(batch.item_ids, batch.real.to(device), strict=True)):
        known: dict[int, tuple[metrics.Decomposition, Tensor]] = {}
        for (module, control), (before, after) in updates.items():
            if id(before) not in known:
                x = before[i][real].double()
                known[id(before)] = metrics.Decomposition(x), x
            measured = measures(*known[id(before)], after[i][real].double())
            yield (
                {"item": item, "layer": layer, "module": module, "control": control}
                | measured
                | {"tokens": int(real.sum())}
            )


# ---- where attention goes -------------------------------------------------------------------------------------------


def attention_mass(model: LostModel, items: Sequence[Item], batch_size: int = 32) -> pd.DataFrame:
    """Where the last prompt token (which predicts the answer) looks, averaged over heads, layer by layer.

    Columns: item, cluster, layer, visual (mass on visual keys), relevant (mass on the visual keys that decide the
    answer; null where the item has none), expected (mass they would get if the visual mass were spread evenly),
    entropy (of the visual mass, normalised to [0, 1]).
    """
    rows: list[dict] = []
    for part in batches(items, batch_size, f"attention of {model.name}"):
        batch = model.encode(part)

        def look(probs: Tensor, scores: Tensor, at: Rows, part: Sequence[Item] = part) -> Tensor:
            for item, weights, visual in zip(part, probs[:, :, -1].mean(1), at.visual, strict=True):
                rows.append(
                    {
                        "item": item.uid,
                        "cluster": item.cluster,
                        "layer": at.layer,
                        **_looking(weights[visual].double(), item.relevant),
                    }
                )
            return probs

        with running(Run(model, edits=[look])):
            model.forward(batch)
    return in_order(pd.DataFrame(rows), items)


def _looking(weights: Tensor, relevant: tuple[int, ...] | None) -> dict[str, float]:
    if not len(weights):  # an item without an image
        return {"visual": 0.0} | dict.fromkeys(("relevant", "expected", "entropy"), float("nan"))
    mass = float(weights.sum())
    share = weights / mass
    known = bool(relevant)
    return {
        "visual": mass,
        "relevant": float(weights[list(relevant or ())].sum()) if known else float("nan"),
        "expected": mass * len(relevant or ()) / len(weights) if known else float("nan"),
        "entropy": float(torch.special.entr(share).sum() / torch.log(torch.tensor(float(len(weights))))),
    }


# ---- tables ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _loaded(model: str, device: str) -> LostModel:
    return load_model(model, device=device)


def frame(key: Key, benchmark: Benchmark, device: str = "cpu", work: Path | None = None) -> pd.DataFrame:
    """The rows of a table, for these items; `work` keeps what is done of the answers."""
    model = _loaded(key.model, device)
    if key.experiment == "answers":
        return answers(model, benchmark, key.intervention, key.seed, **key.parameters, work=work)
    if key.experiment == "residual":
        return residual_metrics(model, benchmark.items, seed=key.seed, **key.parameters)
    if key.experiment == "maps":
        from lostlib import maps  # which imports this module

        return maps.map_rows(model, benchmark.items, key.intervention, key.seed, **key.parameters)
    if key.experiment in ("sinks", "heads"):
        from lostlib import sinkrows  # which imports this module

        rows = sinkrows.sink_rows if key.experiment == "sinks" else sinkrows.head_rows
        return rows(model, benchmark.items, **key.parameters)
    return attention_mass(model, benchmark.items, **key.parameters)


def measure(
    experiment: str,
    *,
    model: str,
    benchmark: str,
    n: int,
    intervention: str = "none",
    seed: int = 0,
    device: str = "cpu",
    work: Path | None = None,
    **parameters: Any,
) -> Table:
    """Measure one table; see `lostlib.results.obtain` for the parameters. Mistakes are found before the model loads.

    `work` is a folder below which finished parts are kept, see `unfinished`.
    """
    chosen = Intervention.parse(intervention)
    if experiment not in INTERVENED and str(chosen) != "none":
        raise ValueError(f"{experiment} tables are of the untouched model, intervention {intervention!r} was given")
    check_device(device)
    choice = Choice.parse(benchmark)
    items = load_items(model, choice, n)
    began, held = time.monotonic(), _loaded(model, device)
    version = VERSIONS[choice.name]
    key = Key(experiment, model, held.weights, str(choice), version, str(chosen), seed, n, parameters)
    parts = work and unfinished(work, key)
    return Table(frame(key, items, device, parts), key, _about(held, key, time.monotonic() - began))


def load_items(model: str, choice: Choice, n: int) -> Benchmark:
    """The items as this model is asked them: VLMEvalKit's prompts depend on the family."""
    family = model_type(model) if choice.prompt == "vlmevalkit" else None
    return load_benchmark(str(choice), n=n, family=family)


def unfinished(work: Path, key: Key) -> Path:
    """Where the finished parts of a table wait for the rest."""
    return work / key.weights / key.path.with_suffix("")


def _about(model: LostModel, key: Key, seconds: float) -> dict[str, Any]:
    """What is recorded besides the key."""
    versions = {
        "lostlib": lostlib.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    return {
        "versions": versions, "device": device, "dtype": str(model.dtype).removeprefix("torch."), "backend": BACKEND,
        "date": datetime.date.today().isoformat(), "seconds": round(seconds, 1), "command": command(key),
    }  # fmt: skip


def command(key: Key) -> str:
    """The shell command that makes this table."""
    words = [
        "lostlib",
        "run",
        key.experiment,
        "--model",
        key.model,
        "--benchmark",
        key.benchmark,
        "--seed",
        str(key.seed),
        "--n",
        str(key.n),
    ]
    if key.experiment in INTERVENED:
        words += ["--intervention", key.intervention]
    for name, value in sorted(key.parameters.items()):
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)
