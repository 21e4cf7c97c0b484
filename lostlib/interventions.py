"""Interventions: what is done to attention, as frozen dataclasses with a short text form.

`none`, `noise_delta`, `noise_qkv`, `no_rope` and `sap:keys=visual,weights=gaussian` are text forms; several are joined
by ` & ` and act in that order. `Intervention.parse(str(x)) == x` always. An intervention works through two openings:
`edit` changes attention weights (see `attention.py`), `attach` puts hooks on modules. Neither touches a parameter, so
the model is bit-identical afterwards, whatever happened inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lostlib import draws
from lostlib.attention import Rows, Run, running
from lostlib.names import nearest

Numbers = tuple[int, ...] | None  # layers or heads; None means all


def parse_numbers(text: str) -> Numbers:
    """`0+3+5-8` -> (0, 3, 5, 6, 7, 8); `all` -> None."""
    if text == "all":
        return None
    found: list[int] = []
    for part in text.split("+"):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise ValueError(f"{text!r} is no list of numbers; write for example 0+3+5-8")
        found += range(int(first), int(last if dash else first) + 1)
    return tuple(sorted(set(found)))


def format_numbers(numbers: Numbers) -> str:
    """The inverse of `parse_numbers`: runs of three or more become a range."""
    if numbers is None:
        return "all"
    parts: list[str] = []
    rest = list(numbers)
    while rest:
        run = next(n for n in range(len(rest), 0, -1) if rest[n - 1] == rest[0] + n - 1)
        run = run if run > 2 else 1
        parts.append(f"{rest[0]}-{rest[run - 1]}" if run > 1 else str(rest[0]))
        rest = rest[run:]
    return "+".join(parts)


@dataclass(frozen=True)
class Intervention:
    """Base class. Subclasses are frozen dataclasses; their fields are their parameters, in printed order."""

    name: ClassVar[str] = ""
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}  # parameter -> its named values
    printed: ClassVar[tuple[str, ...]] = ()  # printed also when they have their default value
    random: ClassVar[bool] = False  # does the seed matter

    def __post_init__(self) -> None:
        for key, allowed in self.choices.items():
            if (given := getattr(self, key)) not in allowed:
                raise ValueError(
                    f"{self.name}: {key}={given!r} is not one of {', '.join(allowed)}{nearest(given, allowed)}"
                )
        for field in fields(self):
            if field.name in ("layers", "heads") and (numbers := getattr(self, field.name)) is not None:
                object.__setattr__(self, field.name, tuple(sorted({int(n) for n in numbers})))

    def __str__(self) -> str:
        shown = {
            f.name: format_numbers(value) if f.name in ("layers", "heads") else str(value)
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default or f.name in self.printed
        }
        return self.name + (":" + ",".join(f"{k}={v}" for k, v in shown.items()) if shown else "")

    @staticmethod
    def parse(text: str | Intervention) -> Intervention:
        """The intervention a text form names; an intervention is returned as it is."""
        if isinstance(text, Intervention):
            return text
        parts = [_parse_one(part.strip()) for part in text.split("&")]
        return parts[0] if len(parts) == 1 else Together(tuple(parts))

    # -- what it does -------------------------------------------------------------------------------------------------

    @property
    def edits(self) -> list[Callable[[Tensor, Tensor, Rows], Tensor]]:
        """Changes of attention weights, in order."""
        return []

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""
        return []

    def check(self, model: Any) -> None:
        """Refuse parameters this model cannot have, before anything runs."""
        for key, count in (("layers", model.n_layers), ("heads", model.n_heads)):
            numbers = getattr(self, key, None) or ()
            if numbers and max(numbers) >= count:
                raise ValueError(f"{self}: {key} goes up to {max(numbers)}, but {model.name} has {key} 0-{count - 1}")


@dataclass(frozen=True)
class Nothing(Intervention):
    """The baseline: everything runs through the same attention function, and nothing is changed."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True)
class Together(Intervention):
    """Several interventions, applied in order."""

    parts: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        for part in self.parts:
            if isinstance(part, Nothing | Together) or len(self.parts) < 2:
                raise ValueError(
                    f"only interventions other than 'none' can be joined by ' & ', got {[str(p) for p in self.parts]}"
                )

    def __str__(self) -> str:
        return " & ".join(str(part) for part in self.parts)

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Does the seed matter to one of them."""
        return any(part.random for part in self.parts)

    @property
    def edits(self) -> list[Callable[[Tensor, Tensor, Rows], Tensor]]:
        """Changes of attention weights, in order."""
        return [edit for part in self.parts for edit in part.edits]

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""
        return [handle for part in self.parts for handle in part.attach(run)]

    def check(self, model: Any) -> None:
        """Refuse parameters this model cannot have."""
        for part in self.parts:
            part.check(model)


def _layers(run: Run, numbers: Numbers) -> list[tuple[int, nn.Module]]:
    """(layer, attention module) of the chosen layers."""
    return [(i, module) for i, module in enumerate(run.model.attention_modules) if numbers is None or i in numbers]


# ---- noise in place of the update -----------------------------------------------------------------------------------


def noise_like(update: Tensor, items: Tensor, positions: Tensor, layer: int, seed: int) -> Tensor:
    """Standard normal numbers (B, S, H) keyed by (seed, item, layer, token position, channel)."""
    channels = torch.arange(update.shape[-1], device=update.device)
    rows = draws.chain(
        seed, draws.text_key("noise_delta"), items[:, None], layer, positions, device=update.device
    )  # (B, S)
    return draws.normal(draws.chain(rows[..., None], channels, device=update.device))


@dataclass(frozen=True)
class NoiseDelta(Intervention):
    """Gaussian noise in place of attn_out, the attention module's update.

    scale  `frobenius`: the Frobenius norm of the true update; `token`: each token's own norm; `unit`: N(0, 1).

    A decoder must not know the future, and the norm of a whole sequence's update contains it. So inside a running model
    `frobenius` matches the norms of the tokens so far: token t is scaled by the square root of
    sum_{j<=t} |u_j|^2 / sum_{j<=t} |n_j|^2 for updates u and noise n. Residual metrics, which look at one finished
    layer, match the whole norm exactly.
    """

    name: ClassVar[str] = "noise_delta"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"scale": ("frobenius", "token", "unit")}
    random: ClassVar[bool] = True
    scale: str = "frobenius"
    layers: Numbers = None

    def scaled(self, noise: Tensor, update: Tensor) -> Tensor:
        """The noise at the wanted scale for one finished update (..., S, H), as residual metrics use it."""
        if self.scale == "unit":
            return noise
        dims = (-1,) if self.scale == "token" else (-2, -1)
        return noise * (update.norm(dim=dims, keepdim=True) / noise.norm(dim=dims, keepdim=True))

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""

        def replace(layer: int) -> Callable:
            def hook(module: nn.Module, args: tuple, output: tuple) -> tuple:
                here = run.on(output[0].device)
                update, positions = output[0].float(), here.query_positions()
                noise = noise_like(update, here.items, positions, layer, run.seed)
                noise = (
                    self._causal(noise, update, run, layer, positions)
                    if self.scale == "frobenius"
                    else self.scaled(noise, update)
                )
                return torch.where((positions >= 0)[..., None], noise.to(output[0].dtype), output[0]), *output[1:]

            return hook

        return [module.register_forward_hook(replace(i), prepend=True) for i, module in _layers(run, self.layers)]

    def _causal(self, noise: Tensor, update: Tensor, run: Run, layer: int, positions: Tensor) -> Tensor:
        squares = torch.stack([update.square().sum(-1), noise.square().sum(-1)]) * (positions >= 0)  # (2, B, S)
        sums = squares.cumsum(-1) + run.memory.get((self, layer), 0.0)
        run.memory[self, layer] = sums[..., -1:]
        return noise * torch.sqrt(sums[0] / sums[1].clamp_min(1e-30))[..., None]


@dataclass(frozen=True)
class NoiseQKV(Intervention):
    """Gaussian matrices in place of W_Q, W_K and W_V, each with its matrix's own mean and standard deviation.

    Biases and the output projection stay. Keyed by (seed, layer, matrix). The parameters themselves are not touched:
    the three projections' outputs are computed from the noise matrices.
    """

    name: ClassVar[str] = "noise_qkv"
    random: ClassVar[bool] = True
    layers: Numbers = None

    @staticmethod
    def matrix(weight: Tensor | None, layer: int, which: str, seed: int) -> Tensor:
        """The noise matrix for one weight matrix (out, in)."""
        if weight is None or weight.is_meta or not weight.is_floating_point():
            found = "quantized ones" if weight is None else "offloaded ones" if weight.is_meta else weight.dtype
            raise ValueError(f"noise_qkv needs floating-point weights in memory, layer {layer} {which} has {found}")
        rows, columns = (torch.arange(n, device=weight.device) for n in weight.shape)
        drawn = draws.normal(
            draws.chain(seed, draws.text_key(which), layer, rows[:, None], columns, device=weight.device)
        )
        wide = weight.detach().float()
        return (wide.mean() + wide.std() * drawn).to(weight.dtype)

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""

        def replace(noise: Tensor) -> Callable:
            return lambda module, args, output: nn.functional.linear(args[0], noise, module.bias)

        handles = []
        for i, attention in _layers(run, self.layers):
            for which in ("q_proj", "k_proj", "v_proj"):
                projection = getattr(attention, which)
                noise = self.matrix(getattr(projection, "weight", None), i, which, run.seed)
                handles.append(projection.register_forward_hook(replace(noise), prepend=True))
        return handles


def without_rotation(position_embeddings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """(cos, sin) of no rotation at all."""
    cos, sin = position_embeddings
    return torch.ones_like(cos), torch.zeros_like(sin)


@dataclass(frozen=True)
class NoRope(Intervention):
    """No rotary position encoding: every layer's (cos, sin) is replaced by (1, 0)."""

    name: ClassVar[str] = "no_rope"
    layers: Numbers = None

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Hooks on modules."""

        def still(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            return args, {**kwargs, "position_embeddings": without_rotation(kwargs["position_embeddings"])}

        return [module.register_forward_pre_hook(still, with_kwargs=True) for _, module in _layers(run, self.layers)]


# ---- SAP ------------------------------------------------------------------------------------------------------------


def _within(scores: Tensor, block: Tensor) -> Tensor:
    """Softmax over the block's keys only: rows sum to 1 over the block, 0 elsewhere (and where a row has no block)."""
    return torch.softmax(scores.masked_fill(~block, -torch.inf), dim=-1).nan_to_num(0.0)


@dataclass(frozen=True)
class Sap(Intervention):
    """Stochastic attention probing: learned attention weights on a block of keys give way to predefined ones.

    keys     the block: `visual`, `text`, `all` keys
    queries  the rows: `all`; `text` tokens after the (first) image; `visual`; `last`: the prompt's last token and
             every generated one
    weights  how mass is spread in the block: `gaussian` softmax of N(0, 1) scores; `gaussian_abs` |N(0, 1)|,
             normalised; `uniform`; `permuted` the row's learned weights, shuffled among the block's keys; `static`
             softmax of one table of N(0, 1) scores by query and key position, the same for all samples, layers and
             heads; `gaussian_logits` block scores from N(mean, std) of its learned scores, softmax over the row;
             `zero` nothing
    mass     of the block: `keep` the row's learned total; `share` its share of the visible keys; or a number in
             [0, 1]. `gaussian_logits` and `zero` fix the mass themselves
    phase    `both`, `prefill`, `decode`

    Causal and padding zeros stay zero and rows sum to 1. A row without a visible key in the block stays as it was; with
    `zero`, so does a row whose visible keys all lie in the block. Where a block holds every visible key its mass is 1.
    """

    name: ClassVar[str] = "sap"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "keys": ("visual", "text", "all"),
        "queries": ("all", "text", "visual", "last"),
        "weights": ("gaussian", "gaussian_abs", "uniform", "permuted", "static", "gaussian_logits", "zero"),
        "phase": ("both", "prefill", "decode"),
    }
    printed: ClassVar[tuple[str, ...]] = ("keys", "weights")
    keys: str = "visual"
    queries: str = "all"
    weights: str = "gaussian"
    mass: str | float = "keep"
    layers: Numbers = None
    heads: Numbers = None
    phase: str = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.mass, str) and self.mass not in ("keep", "share"):
            raise ValueError(f"sap: mass={self.mass!r} is not keep, share or a number in [0, 1]")
        if not isinstance(self.mass, str):
            if not 0 <= float(self.mass) <= 1:
                raise ValueError(f"sap: mass={self.mass!r} is not in [0, 1]")
            object.__setattr__(self, "mass", float(self.mass))
        if self.weights in ("gaussian_logits", "zero") and self.mass != "keep":
            raise ValueError(
                f"sap: weights={self.weights} fixes the mass itself, mass={self.mass} cannot be asked of it"
            )

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Does the seed matter."""
        return self.weights not in ("uniform", "zero")

    @property
    def edits(self) -> list[Callable[[Tensor, Tensor, Rows], Tensor]]:
        """Changes of attention weights, in order."""
        return [self.edit]

    def edit(self, probs: Tensor, scores: Tensor, rows: Rows) -> Tensor:
        """(B, heads, Q, K) weights -> weights, float32."""
        if (self.layers is not None and rows.layer not in self.layers) or self.phase == (
            "prefill" if rows.decoding else "decode"
        ):
            return probs
        block = self._block(rows)  # (B, 1, Q, K)
        chosen = self._rows(rows, probs.shape[1]) & block.any(-1, keepdim=True)  # (B, heads, Q, 1)
        return torch.where(chosen, self._replaced(probs, scores, block, rows), probs)

    def _block(self, rows: Rows) -> Tensor:
        keys = {"visual": rows.visual, "text": ~rows.visual, "all": torch.ones_like(rows.visual)}[self.keys]
        return keys[:, None, None, :] & rows.visible

    def _rows(self, rows: Rows, heads: int) -> Tensor:
        position = rows.query_positions
        wanted = {
            "all": torch.ones_like(rows.query_visual),
            "visual": rows.query_visual,
            "text": ~rows.query_visual & (position > rows.first_visual[:, None]),
            "last": position >= rows.prompt[:, None] - 1,
        }[self.queries]
        head = torch.arange(heads, device=position.device)
        named = (
            torch.ones_like(head, dtype=torch.bool)
            if self.heads is None
            else torch.isin(head, torch.tensor(self.heads, device=head.device))
        )
        return wanted[:, None, :, None] & named[None, :, None, None]

    def _replaced(self, probs: Tensor, scores: Tensor, block: Tensor, rows: Rows) -> Tensor:
        outside = rows.visible & ~block
        if self.weights == "zero":
            return torch.where(outside.any(-1, keepdim=True), _within(scores, outside), probs)
        if self.weights == "gaussian_logits":
            return _within(torch.where(block, self._like_learned(scores, block, rows), scores), rows.visible)
        spread = self._spread(probs, block, rows)  # sums to 1 over the block
        if self.mass == "keep":
            return torch.where(block, spread * (probs * block).sum(-1, keepdim=True), probs)
        mass = self._mass(block, rows)
        return torch.where(outside.any(-1, keepdim=True), mass * spread + (1 - mass) * _within(scores, outside), spread)

    def _mass(self, block: Tensor, rows: Rows) -> Tensor | float:
        if self.mass == "share":
            return block.sum(-1, keepdim=True) / rows.visible.sum(-1, keepdim=True).clamp_min(1)
        return float(self.mass)

    def _spread(self, probs: Tensor, block: Tensor, rows: Rows) -> Tensor:
        if self.weights == "uniform":
            return _within(torch.zeros_like(probs), block)
        noise = draws.normal(self._hashes(rows, probs.shape[1]))  # (B or 1, heads or 1, Q, K)
        if self.weights == "gaussian_abs":
            absolute = noise.abs() * block
            return absolute / absolute.sum(-1, keepdim=True).clamp_min(1e-30)
        if self.weights == "permuted":
            shuffled = _shuffle(probs, block, noise)
            return shuffled / shuffled.sum(-1, keepdim=True).clamp_min(1e-30)
        return _within(noise.expand_as(probs), block)

    def _like_learned(self, scores: Tensor, block: Tensor, rows: Rows) -> Tensor:
        count = block.sum(-1, keepdim=True).clamp_min(1)
        inside = scores.masked_fill(~block, 0.0)
        mean = inside.sum(-1, keepdim=True) / count
        std = (((inside - mean) * block).square().sum(-1, keepdim=True) / count).sqrt()
        return mean + std * draws.normal(self._hashes(rows, scores.shape[1]))

    def _hashes(self, rows: Rows, heads: int) -> Tensor:
        """(B, heads, Q, K) hashes of (seed, item, layer, head, query, key); `static` drops item, layer and head."""
        device = rows.visual.device
        queries, keys = rows.query_positions[:, None, :, None], rows.key_positions[:, None, None, :]
        if self.weights == "static":
            return draws.chain(rows.seed, queries, keys, device=device)
        head = torch.arange(heads, device=device)[None, :, None, None]
        return draws.chain(rows.seed, rows.items[:, None, None, None], rows.layer, head, queries, keys, device=device)


def _shuffle(probs: Tensor, block: Tensor, noise: Tensor) -> Tensor:
    """Each row's weights on the block, dealt out to the block's keys in the order of the noise; 0 elsewhere."""
    block = block.expand_as(probs)
    source = noise.expand_as(probs).masked_fill(~block, torch.inf).argsort(dim=-1)  # block keys first, in random order
    target = (~block).to(torch.uint8).argsort(dim=-1, stable=True)  # block keys first, in their own order
    return torch.zeros_like(probs).scatter(-1, target, (probs * block).gather(-1, source)) * block


# ---- text forms and the context manager -----------------------------------------------------------------------------

KINDS: dict[str, type[Intervention]] = {kind.name: kind for kind in (Nothing, NoiseDelta, NoiseQKV, NoRope, Sap)}


def _parse_one(text: str) -> Intervention:
    name, _, rest = text.partition(":")
    if name not in KINDS:
        raise ValueError(
            f"unknown intervention {name!r} in {text!r}; there are {', '.join(KINDS)}{nearest(name, KINDS)}"
        )
    kind, values = KINDS[name], {}
    known = [f.name for f in fields(kind)]
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in known or not equals or key in values:
            raise ValueError(
                f"{name}: {part!r} is not one (new) key=value with a key of {', '.join(known) or 'none'}"
                f"{nearest(key, known)}"
            )
        values[key] = _value(key, value)
    return kind(**values)


def _value(key: str, text: str) -> Any:
    if key in ("layers", "heads"):
        return parse_numbers(text)
    if key == "mass" and text not in ("keep", "share"):
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"mass={text!r} is not keep, share or a number in [0, 1]") from None
    return text


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
    """
    chosen = Intervention.parse(intervention)
    chosen.check(model)
    run = Run(model, edits=chosen.edits, seed=seed)
    with running(run), ExitStack() as stack:
        for handle in chosen.attach(run):
            stack.callback(handle.remove)
        yield run
