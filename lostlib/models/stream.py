"""Watching a model's residual stream, layer by layer.

A decoder layer reads the stream and writes to it twice::

    resid_mid  = resid_pre + attn_out
    resid_post = resid_mid + mlp_out

All five are taken from where the model itself computes them (inputs and outputs of its modules), none is derived from
the others, so that the two equations can be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass
class LayerStream:
    """One layer's activations, each (B, S, H), detached, on the model's device, padding columns included."""

    resid_pre: Tensor | None = None  #: what enters the layer
    attn_out: Tensor | None = None  #: what the attention module adds
    resid_mid: Tensor | None = None  #: between the two modules
    mlp_out: Tensor | None = None  #: what the feed-forward module adds
    resid_post: Tensor | None = None  #: what leaves the layer
    #: keyword arguments of the attention module, to run it again
    attention_call: dict = field(default_factory=dict, repr=False)


class Stream(dict[int, LayerStream]):
    """layer -> its activations, for the layers that were kept."""

    def __missing__(self, layer: int) -> LayerStream:
        raise KeyError(f"layer {layer} was not watched (or no forward pass has run yet); there are {sorted(self)}")


Visitor = Callable[[int, LayerStream], None]


@contextmanager
def watch(model: Any, layers: list[int] | None = None, each: Visitor | None = None) -> Iterator[Stream]:
    """Record the residual stream of the forward passes inside the `with` block.

    Parameters
    ----------
    model : LostModel
        From `lostlib.load_model` or `lostlib.wrap`.
    layers : list of int, optional
        Which layers to record; all by default.
    each : callable (layer, LayerStream) -> None, optional
        Called as soon as a layer has run; the layer's activations are then let go, so no more than one layer is ever
        held. Without it, the stream keeps what was asked for until the next forward pass overwrites it.

    Yields
    ------
    Stream
        ``stream[layer].resid_pre``, ``.attn_out``, ``.resid_mid``, ``.mlp_out``, ``.resid_post``: (B, S, H).

    Raises
    ------
    ValueError
        For layers that the model does not have.

    Examples
    --------
    >>> import lostlib
    >>> m, b = lostlib.load_model("mini-llava-1.5"), lostlib.load_benchmark("mini-pope", n=1)
    >>> with watch(m, layers=[2]) as stream:
    ...     _ = m.forward(m.encode(b.items))
    >>> (stream[2].resid_mid - stream[2].resid_pre - stream[2].attn_out).abs().max().item() < 1e-5
    True
    """
    chosen = range(model.n_layers) if layers is None else layers
    if bad := [i for i in chosen if not 0 <= i < model.n_layers]:
        raise ValueError(f"layers {bad} do not exist: {model.name} has layers 0-{model.n_layers - 1}")
    stream = Stream()
    with ExitStack() as stack:
        for i in chosen:
            for handle in _hooks(model, i, stream, each):
                stack.callback(handle.remove)
        yield stream


def seen(activation: Tensor | None) -> Tensor:
    """An activation that a finished layer has left behind."""
    if activation is None:
        raise RuntimeError("the layer did not run through its usual modules, so its residual stream was not seen")
    return activation


def module_input(args: tuple, kwargs: dict) -> Tensor:
    """A module's input, whichever way it was passed."""
    return args[0] if args else kwargs["hidden_states"]


def _hooks(model: Any, layer: int, stream: Stream, each: Visitor | None) -> list:
    """The hooks of one layer; each writes what it sees into `current`."""
    block, family = model.layers[layer], model.family
    attn, norm, mlp = (getattr(block, name) for name in (family.attention, family.mid_norm, family.mlp))
    current = LayerStream()

    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        nonlocal current
        current = LayerStream(resid_pre=module_input(args, kwargs).detach())

    def calling(module: nn.Module, args: tuple, kwargs: dict) -> None:
        current.attention_call = {**kwargs, "hidden_states": module_input(args, kwargs)}

    def attended(module: nn.Module, args: tuple, output: tuple) -> None:
        current.attn_out = output[0].detach()

    def between(module: nn.Module, args: tuple) -> None:
        current.resid_mid = args[0].detach()

    def fed(module: nn.Module, args: tuple, output: Tensor) -> None:
        current.mlp_out = output.detach()

    def after(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
        current.resid_post = (output[0] if isinstance(output, tuple) else output).detach()
        if each is not None:
            each(layer, current)
        else:
            current.attention_call = {}
            stream[layer] = current

    return [
        block.register_forward_pre_hook(before, with_kwargs=True),
        attn.register_forward_pre_hook(calling, with_kwargs=True),
        attn.register_forward_hook(attended),
        norm.register_forward_pre_hook(between),
        mlp.register_forward_hook(fed),
        block.register_forward_hook(after),
    ]
