"""Interventions as they are written: names, parameters, defaults and their one text form. No torch.

`lostlib.interventions` has a class of the same name for each form here, which inherits the parameters and does what
they say. The key of a table needs the canonical text only, so whoever reads shipped tables needs no torch for it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from lostlib.text import among, check, parse, write

Numbers = tuple[int, ...] | None  # layers, heads or dimensions; None means all, or what fits the model
LISTS = {"layers": "n_layers", "heads": "n_heads", "dims": "hidden_size"}  # parameter -> how many a model has
TARGETS = ("visual", "text", "both")
DETECTORS = ("phi", "massive")


def parse_numbers(text: str) -> Numbers:
    """`0+3+5-8` -> (0, 3, 5, 6, 7, 8); `all` -> None.

    >>> parse_numbers("0+3+5-8")
    (0, 3, 5, 6, 7, 8)
    """
    if text == "all":
        return None
    found: list[int] = []
    for part in text.split("+"):
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first, first]
        if not all(re.fullmatch("[0-9]{1,6}", end) for end in ends) or int(ends[1]) < int(ends[0]):
            raise ValueError(f"{text!r} is no list of numbers of at most six digits; write for example 0+3+5-8")
        found += range(int(ends[0]), int(ends[1]) + 1)
    return tuple(sorted(set(found)))


def format_numbers(numbers: Numbers) -> str:
    """The inverse of `parse_numbers`: runs of three or more become a range.

    >>> format_numbers((0, 1, 3, 4, 5))
    '0+1+3-5'
    """
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
class Form:
    """Base class. Forms are frozen dataclasses; their fields are their parameters, in printed order."""

    name: ClassVar[str] = ""
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}  # parameter -> its named values
    printed: ClassVar[tuple[str, ...]] = ()  # printed also when they have their default value
    random: ClassVar[bool] = False  # does the seed matter

    kinds: ClassVar[dict[str, type[Form]]] = {}  # name -> class; every named subclass enters itself

    def __init_subclass__(cls) -> None:
        if cls.name:
            cls.kinds[cls.name] = cls

    def __post_init__(self) -> None:
        for key, allowed in self.choices.items():
            if (given := getattr(self, key)) not in allowed:
                raise ValueError(f"{self.name}: {key}={given!r} is not one of {among(given, allowed)}")
        for field in fields(self):
            if field.name in LISTS and (numbers := getattr(self, field.name)) is not None:
                object.__setattr__(self, field.name, tuple(sorted({int(n) for n in numbers})))

    def __str__(self) -> str:
        shown = {
            f.name: format_numbers(value) if f.name in LISTS else str(value)
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default or f.name in self.printed
        }
        return write(self.name, shown)

    @classmethod
    def parse(cls, text: Any) -> Any:
        """What a text form names; a form is returned as it is.

        >>> shuffled = Form.parse("sap:weights=permuted,layers=3-5")
        >>> shuffled.keys, shuffled.layers
        ('visual', (3, 4, 5))
        >>> str(shuffled)
        'sap:keys=visual,weights=permuted,layers=3-5'
        >>> Form.parse("sap:weights=gausian")
        Traceback (most recent call last):
        ValueError: sap: weights='gausian' is not one of gaussian, gaussian_abs, uniform, permuted, static, \
gaussian_logits, zero; did you mean 'gaussian'?
        """
        if isinstance(text, Form):
            return text
        if not isinstance(text, str):
            raise ValueError(f"an intervention is a text such as 'noise_delta', got {text!r}")
        parts = [_parse_one(cls.kinds, part.strip()) for part in text.split("&")]
        joined: Any = cls.kinds[Together.name]
        return parts[0] if len(parts) == 1 else joined(tuple(parts))


@dataclass(frozen=True)
class Nothing(Form):
    """The baseline: everything runs through the same attention function, and nothing is changed."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True)
class Together(Form):
    """Several interventions, applied in order."""

    name: ClassVar[str] = "&"
    parts: tuple[Any, ...] = ()

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


def energy_share(tau: float | str) -> float | None:
    """The share in (0, 1] that a text such as ``"10%"`` names; None for a plain number; an error for anything else."""
    if isinstance(tau, str):
        number, percent, rest = tau.partition("%")
        try:
            share = float(number) / 100 if percent and not rest else math.nan
        except ValueError:
            share = math.nan
        if not 0 < share <= 1:
            raise ValueError(f"tau={tau!r} is neither a number nor a share of a token's energy such as 10%")
        return share
    if isinstance(tau, bool) or not 0 < tau < math.inf:
        raise ValueError(f"tau={tau!r} must be a positive number")
    return None


@dataclass(frozen=True)
class Preset:
    """Settings of VAR, by the paper's meaning of each."""

    tau: float | str = 20.0  #: phi of a sink
    strict: bool = False  #: must phi exceed tau
    min_mass: float = 0.2  #: visual mass below which a row is left alone
    p: float = 0.6  #: fraction of the sinks' mass that is *moved*, in [0, 1]
    #: visual non-sink share from which on a row is image-centric; the paper tunes it to 0.8 for general tasks, 0.5
    #: against hallucination and 0.9 for vision-centric tasks
    rho: float = 0.5
    eps: float = 0.0  #: added to each visual weight in the share's denominator
    first_layer: int = 0  #: the first layer that is changed
    last_layer: bool = False  #: is the last layer changed too
    generated: bool = True  #: can generated tokens be sinks

    def __post_init__(self) -> None:
        energy_share(self.tau)
        if not 0 <= self.p <= 1:
            raise ValueError(f"p={self.p!r}, the fraction of the sinks' attention that is moved, must lie in [0, 1]")
        for name in ("rho", "min_mass"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least 0 (above 1 it selects nothing)")


PRESETS = {
    "paper": Preset(),
    # what was released keeps 0.6 where the paper moves 0.6, and changes the last layer but not the first two
    "official_code": Preset(strict=True, p=0.4, eps=1e-6, first_layer=2, last_layer=True, generated=False),
}


def settings(preset: str | None = None, **explicit: float | str | None) -> Preset:
    """A preset (`paper` by default) with explicit values in place of its own; None means not given.

    >>> settings("official_code", rho=0.8).p, settings("official_code", rho=0.8).rho
    (0.4, 0.8)
    """
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"preset={preset!r} is not one of {among(preset, PRESETS)}")
    given = {name: value for name, value in explicit.items() if value is not None}
    return replace(PRESETS[preset or "paper"], **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class NoiseDelta(Form):
    """Gaussian noise in place of attn_out, the attention module's update.

    A decoder must not know the future, and the norm of a whole sequence's update contains it. So inside a running model
    `frobenius` matches the norms of the tokens so far: token t is scaled by the square root of
    ``sum_{j<=t} |u_j|^2 / sum_{j<=t} |n_j|^2`` for updates u and noise n. Residual metrics, which look at one finished
    layer, match the whole norm exactly.
    """

    name: ClassVar[str] = "noise_delta"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"scale": ("frobenius", "token", "unit")}
    random: ClassVar[bool] = True
    #: `frobenius` (the Frobenius norm of the true update), `token` (each token's own norm) or `unit` (N(0, 1))
    scale: str = "frobenius"
    layers: Numbers = None


@dataclass(frozen=True)
class NoiseQKV(Form):
    """Gaussian matrices in place of W_Q, W_K and W_V, each with its matrix's own mean and standard deviation.

    Biases and the output projection stay. Keyed by (seed, layer, matrix). The parameters themselves are not touched:
    the three projections' outputs are computed from the noise matrices.
    """

    name: ClassVar[str] = "noise_qkv"
    random: ClassVar[bool] = True
    layers: Numbers = None


@dataclass(frozen=True)
class NoRope(Form):
    """No rotary position encoding: every layer's (cos, sin) is replaced by (1, 0)."""

    name: ClassVar[str] = "no_rope"
    layers: Numbers = None


@dataclass(frozen=True)
class Sap(Form):
    """Stochastic attention probing: learned attention weights on a block of keys give way to predefined ones.

    Causal and padding zeros stay zero and rows sum to 1. A row without a visible key in the block stays as it was; with
    `zero`, so does a row whose visible keys all lie in the block. Where a block holds every visible key its mass is 1.
    """

    name: ClassVar[str] = "sap"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "keys": ("visual", "text", "all"),
        "queries": ("all", "text", "visual", "last"),
        "weights": ("gaussian", "gaussian_abs", "uniform", "permuted", "static", "gaussian_logits", "zero"),
        "phase": ("both", "prefill", "decode"),
        "spare": ("none", "first"),
    }
    printed: ClassVar[tuple[str, ...]] = ("keys", "weights")
    keys: str = "visual"  #: the block, `visual`, `text` or `all` keys
    #: the rows, `all`; `text`, tokens after the (first) image; `visual`; or `last`, the prompt's last token and every
    #: generated one
    queries: str = "all"
    #: how mass is spread in the block, by `gaussian`, a softmax of N(0, 1) scores; `gaussian_abs`, normalised ``|N(0,
    #: 1)|``; `uniform`; `permuted`, the row's learned weights shuffled among the block's keys; `static`, a softmax of
    #: one table of N(0, 1) scores by query and key position, the same for all samples, layers and heads;
    #: `gaussian_logits`, a softmax over the row with block scores from N(mean, std) of its learned scores; or `zero`,
    #: nothing
    weights: str = "gaussian"
    #: of the block, `keep` for the row's learned total, `share` for its share of the visible keys, or a number in [0,
    #: 1]; `gaussian_logits` and `zero` fix the mass themselves
    mass: str | float = "keep"
    layers: Numbers = None
    heads: Numbers = None
    phase: str = "both"  #: `both`, `prefill` or `decode`
    #: keys that are taken out of the block, `none` or the `first` token, which in many models is an attention sink and
    #: so keeps what it drew
    spare: str = "none"

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
        if self.spare == "first" and self.keys == "visual":
            raise ValueError("sap: a prompt begins with text, so spare=first changes nothing where keys=visual")

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Does the seed matter."""
        return self.weights not in ("uniform", "zero")


class OnSinks(Form):
    """What knock-out and VAR share: how sinks are told. Subclasses have the fields tau, detector, dims and layers."""

    tau: float | str | None
    detector: str
    dims: Numbers
    layers: Numbers

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), int):
                object.__setattr__(self, field.name, float(value))
        if self.tau is not None and (share := energy_share(self.tau)) is not None:
            object.__setattr__(self, "tau", f"{100 * share:g}%")

    @property
    def rules(self) -> Preset:
        """Thresholds and what else a preset settles."""
        return settings(tau=self.tau)


@dataclass(frozen=True)
class Knockout(OnSinks):
    """Attention from text tokens to some keys is cut.

    With `renormalise`, a token that sees nothing but what is cut, as the first one does, stays as it was.
    """

    name: ClassVar[str] = "knockout"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "keys": ("sinks", "random", "all_visual"),
        "among": ("visual", "text", "all"),
        "flavour": ("renormalise", "zero"),
        "per": ("item", "layer"),
        "detector": DETECTORS,
    }
    printed: ClassVar[tuple[str, ...]] = ("keys",)
    #: the `sinks` of the layer; `random`, as many tokens of the sample, drawn once per item; or `all_visual`
    keys: str = "sinks"
    #: `renormalise` sets the cut keys' scores to -inf, so that the other weights grow; with `zero` the weights become 0
    #: and nothing grows, rows then sum to 1 - what was cut
    flavour: str = "renormalise"
    #: what `random` draws once for, the `item`, so that all layers cut the same tokens (as far as they cut as many), or
    #: the `layer`
    per: str = "item"
    tau: float | str | None = 20.0  #: sinks have phi >= tau; a share of the token's energy as `10%`
    detector: str = "phi"  #: `phi` or `massive`, see `lostlib.sinks.Detector`
    dims: Numbers = None  #: sink dimensions; the model's own if None
    layers: Numbers = None  #: all if None
    among: str = "visual"  #: of which tokens, `visual`, `text` or `all`

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keys == "all_visual" and self.among != "visual":
            raise ValueError(f"knockout: keys=all_visual says among which, among={self.among} cannot be asked of it")

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Does the seed matter."""
        return self.keys == "random"


@dataclass(frozen=True)
class Var(OnSinks):
    """VAR: in image-centric heads, text tokens' attention on sinks goes to the other visual tokens."""

    name: ClassVar[str] = "var"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "target": TARGETS,
        "detector": DETECTORS,
        "require": ("visual", "any"),
        "preset": tuple(PRESETS),
        "among": ("visual", "text"),
    }
    #: see `Preset`, whose value holds if None; also a share of the token's energy as `10%`
    tau: float | str | None = None
    min_mass: float | None = None  #: see `Preset`, whose value holds if None
    p: float | None = None  #: see `Preset`, whose value holds if None
    rho: float | None = None  #: see `Preset`, whose value holds if None
    target: str = "visual"  #: who receives, `visual`, `text` or `both`
    detector: str = "phi"  #: `phi` or `massive`, see `lostlib.sinks.Detector`
    dims: Numbers = None  #: sink dimensions; the model's own if None
    #: `visual` leaves samples without a visual sink as they are; for `any` a text sink is enough
    require: str = "visual"
    layers: Numbers = None  #: if None all but the last, or all but the first two with the preset `official_code`
    preset: str = "paper"  #: `paper` or `official_code`
    #: the tokens that VAR is about, `visual` ones or, for models without pictures, all `text`, where rows whose share
    #: on non-sinks reaches rho give a part of what sinks draw to the other tokens, and target and require say nothing
    among: str = "visual"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.among == "text" and (self.target, self.require) != ("visual", "visual"):
            raise ValueError("var: among=text says what receives and which sinks count; leave target and require out")
        for key in ("min_mass", "p", "rho"):
            if isinstance(value := getattr(self, key), str):
                raise ValueError(f"var: {key}={value!r} is not a number")
        _ = self.rules  # refuses what is out of range

    @property
    def rules(self) -> Preset:
        """The preset with what was given in place of its own."""
        return settings(self.preset, tau=self.tau, min_mass=self.min_mass, p=self.p, rho=self.rho)


@dataclass(frozen=True)
class Pool(Form):
    """Every visual token enters the first decoder layer as the mean of the item's visual tokens.

    Copies have the same values in that layer, so whatever weights the attention there puts on them, what is read is the
    same as long as their sum is. In later layers they differ by what the positions and the tokens before them do.
    """

    name: ClassVar[str] = "pool"


def _parse_one(kinds: dict[str, type[Form]], text: str) -> Any:
    def keys(name: str) -> list[str]:
        check("intervention", name, [name for name in kinds if name != Together.name])
        return [field.name for field in fields(kinds[name])]

    name, values = parse(text, keys)
    return kinds[name](**{key: _value(key, value) for key, value in values.items()})


def _value(key: str, text: str) -> Any:
    if key in LISTS:
        return parse_numbers(text)
    try:
        return float(text)
    except ValueError:
        return text
