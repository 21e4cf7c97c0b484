"""The claims as data: what the papers say, what they print, and when we say that a claim holds."""

from __future__ import annotations

from dataclasses import dataclass

from lostlib.report import published


@dataclass(frozen=True)
class Claim:
    """One claim of one of the papers.

    text     what it says
    printed  its figures: a text with keys of `data/paper/*.csv` in braces
    rule     when it holds, and when the opposite does
    chapter  label of the chapter that explains it
    """

    text: str
    printed: str
    rule: str
    chapter: str

    @property
    def published(self) -> str:
        """The figures filled in."""
        return self.printed.format_map(_Figures())


class _Figures(dict):
    def __missing__(self, key: str) -> float:
        return figure(key)


def figure(after: str, before: str | None = None, percent: float = 1) -> float:
    """A published figure, or the difference of two; `percent` is 100 where the paper prints percent.

    >>> round(figure("pope_sap", "pope_vanilla", 100), 4)
    0.0145
    """
    return (_number(after) - (_number(before) if before else 0)) / percent


def _number(key: str) -> float:
    value = published(key).value
    if isinstance(value, str):
        raise ValueError(f"the published figure {key} is a text, {value!r}")
    return value


_ALL = " Of several benchmarks, all that can be measured must agree."
_NOISE = "Both must hold: RID above attention's, MixIG below zero. Opposite when both are the other way round."
CLAIMS: dict[str, Claim] = {
    "C1": Claim(
        "Attention's RID is at the RoPE tolerance",
        "RID {rid_attn:g}, tolerance {eps_rope:g}",
        "Holds when attention's RID does not exceed the tolerance: the lower end of the paired difference is not above "
        "zero.",
        "ch-rq2",
    ),
    "C2": Claim(
        "The FFN's RID is well above attention's",
        "RID {rid_ffn:g} against {rid_attn:g}",
        "Holds when the paired difference of FFN and attention lies above zero, opposite when it lies below.",
        "ch-rq2",
    ),
    "C3": Claim(
        "Attention mixes tokens, the FFN does not",
        "MixIG {mixig_attn:+g} against {mixig_ffn:+g}",
        "By sign and order: attention's MixIG above zero and above the FFN's. Opposite when it is below the FFN's.",
        "ch-rq3",
    ),
    "C4": Claim(
        "Noise Δ has a high RID and a negative MixIG",
        "RID {rid_noise_delta:g}, MixIG {mixig_noise_delta:g}",
        _NOISE,
        "ch-rq3",
    ),
    "C5": Claim(
        "Noise QKV has a high RID and a negative MixIG",
        "RID {rid_noise_qkv:g}, MixIG {mixig_noise_qkv:g}",
        _NOISE,
        "ch-rq3",
    ),
    "C6": Claim(
        "The order of attention and FFN is the same in all models",
        "15 of 15 models",
        "Holds when in every model the FFN's RID is above attention's and attention's MixIG above the FFN's, opposite "
        "when in every model both are reversed, with all intervals clear of zero. It takes two models to tell.",
        "ch-scorecard",
    ),
    "C7": Claim(
        "Noise in place of visual attention does not hurt vision tasks",
        "Qwen2.5-VL-3B: POPE {pope_vanilla:g} to {pope_sap:g}, RealWorldQA {realworldqa_vanilla:g} to "
        "{realworldqa_sap:g} (percent)",
        "Holds where accuracy certainly loses less than two points; opposite where it certainly falls, and may fall by "
        "more." + _ALL,
        "ch-rq3",
    ),
    "C8": Claim(
        "With it most benchmarks are as good as before or better",
        "a majority of seven benchmarks",
        "Holds when C7 holds on more than half of the benchmarks that can be measured, opposite when it is opposite on "
        "more than half. It takes three benchmarks to tell.",
        "ch-scorecard",
    ),
    "C9": Claim(
        "Text-heavy work needs attention on text",
        "qualitative",
        "Holds when noise on text keys costs accuracy on sums, and more than noise on visual keys does; opposite when "
        "noise on visual keys costs more. That it costs less on picture tasks is not part of the claim, and would have "
        "to be for sums to be special.",
        "ch-rq3",
    ),
    "C10": Claim(
        "A few visual tokens with massive activations draw high attention",
        "{sink_count_max:g} of 576 visual tokens (LLaVA-1.5-7B), phi {sink_phi_visual_sink:g} against "
        "{sink_phi_visual_relevant:g}",
        "Holds when there are certainly visual sinks, no more than a fifth of the visual tokens, and they get more "
        "attention than the others. A model in which sinks were planted cannot decide this.",
        "ch-sinks",
    ),
    "C11": Claim(
        "Cutting the attention to visual sinks does no harm, cutting random visual tokens does",
        "POPE F1 {mask_pope_original:g}, sinks cut {mask_pope_sinks:g}, random cut {mask_pope_random:g} (percent, read "
        "off bars)",
        "Holds when cutting sinks certainly costs less than two points of accuracy and cutting random tokens certainly "
        "costs some, and more than cutting sinks; opposite when it is the other way round." + _ALL,
        "ch-sinks",
    ),
    "C12": Claim(
        "VAR improves a model without training",
        "LLaVA-1.5-7B: POPE accuracy {pope_acc_llava15_7b_base:g} to {pope_acc_llava15_7b_var:g}, MMVP "
        "{mmvp_llava15_7b_base:g} to {mmvp_llava15_7b_var:g} (percent)",
        "At the paper's settings for each kind of task. Holds when accuracy rises with an interval above zero, "
        "opposite when it falls with one below." + _ALL,
        "ch-sinks",
    ),
}

# claim -> benchmark -> for each estimate the keys of the published figures after and before, which are in percent
CHANGES: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "C7": {"pope": (("pope_sap", "pope_vanilla"),), "realworldqa": (("realworldqa_sap", "realworldqa_vanilla"),)},
    "C11": {
        "pope": (
            ("mask_pope_sinks", "mask_pope_original"),
            ("mask_pope_random", "mask_pope_original"),
            ("mask_pope_random", "mask_pope_sinks"),
        )
    },
    "C12": {"pope": (("pope_acc_llava15_7b_var", "pope_acc_llava15_7b_base"),)},
}
