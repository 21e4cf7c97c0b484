"""Interventions: what is done to attention, as frozen dataclasses with a short text form.

`none`, `noise_delta`, `noise_qkv`, `no_rope`, `sap:keys=visual,weights=gaussian`, `knockout:keys=sinks`, `var:rho=0.5`
and `pool` are text forms; several are joined by ` & ` and act in that order. `Intervention.parse(str(x)) == x`
always. An intervention works through two openings: `edit` changes attention weights (see `lostlib.models.attention`),
`attach` puts hooks on modules. Neither touches a parameter, so the model is bit-identical afterwards, whatever happened
inside.

- `base`      what an intervention is, text forms
- `noise`     noise in place of the update or of W_Q, W_K, W_V; no position encoding
- `sap`       stochastic attention probing
- `sinks`     knock-out of keys, and VAR: what sinks draw goes elsewhere
- `pool`      visual tokens that are copies of one another
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from lostlib.forms import format_numbers, parse_numbers
from lostlib.interventions.base import Intervention, Nothing, Together
from lostlib.interventions.noise import NoiseDelta, NoiseQKV, NoRope, noise_like, without_rotation
from lostlib.interventions.pool import Pool
from lostlib.interventions.sap import Sap
from lostlib.interventions.sinks import Knockout, Var
from lostlib.models.attention import Run, running
from lostlib.text import check_seed


@contextmanager
def intervene(model: Any, intervention: str | Intervention, seed: int = 0) -> Iterator[Run]:
    """Run a model with an intervention inside the `with` block.

    Parameters
    ----------
    model : LostModel
        From `lostlib.load_model` or `lostlib.wrap`.
    intervention : str or Intervention
        For example ``"sap:keys=visual,weights=gaussian"``; ``"none"`` is the baseline through the same function.
    seed : int
        Seed of random interventions; an entry's draw depends on it, the item, layer, head and positions alone.

    Raises
    ------
    ValueError
        For an unknown name, parameter or value, or layers and heads the model does not have; before anything runs.
    RuntimeError
        When an intervention is already active on this model.

    Examples
    --------
    >>> import lostlib
    >>> m, b = lostlib.load_model("mini-llava-1.5"), lostlib.load_benchmark("mini-pope", n=20)
    >>> with intervene(m, "sap:keys=visual,weights=gaussian", seed=0):
    ...     changed = m.answer(b.items)
    >>> changed == m.answer(b.items)
    False
    """
    chosen = Intervention.parse(intervention)
    check_seed(seed)
    chosen.check(model)
    chosen = chosen.prepared(model)
    run = Run(model, edits=chosen.edits, seed=seed)
    with running(run), ExitStack() as stack:
        for handle in chosen.attach(run):
            stack.callback(handle.remove)
        yield run
