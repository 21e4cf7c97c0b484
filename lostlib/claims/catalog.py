"""The claims as data: what the papers say, what they print, and when we say that a claim holds."""

from __future__ import annotations

from dataclasses import dataclass

from lostlib.report import published


@dataclass(frozen=True)
class Claim:
    """One claim of one of the papers."""

    text: str  #: what it says
    printed: str  #: its figures, a text with keys of `data/paper/*.csv` in braces
    rule: str  #: when it holds, and when the opposite does
    chapter: str  #: label of the chapter that explains it

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


_NOISE = "Both must be certain: an RID above attention's, a MixIG below zero. Opposite when both are reversed."
_IDLE = "the loss is certainly below two points and below a tenth of the room"
_SINKS = " Judged only where C10 holds or sinks were planted."
CLAIMS: dict[str, Claim] = {
    "C1": Claim(
        "Attention's RID is at the RoPE tolerance",
        "RID {rid_attn:g}, tolerance {eps_rope:g}",
        "Holds when attention's RID is certainly below 1.25 times the tolerance, fails when it is certainly above.",
        "ch-rq2",
    ),
    "C2a": Claim(
        "The FFN's RID is well above the tolerance",
        "RID {rid_ffn:g}, tolerance {eps_rope:g}",
        "Holds when the FFN's RID is certainly above 1.25 times the tolerance, opposite when it is certainly below 0.8 "
        "times. Fails when it is certainly between the two, which counts as equal.",
        "ch-rq2",
    ),
    "C2b": Claim(
        "The FFN's RID is well above attention's",
        "RID {rid_ffn:g} against {rid_attn:g}",
        "Holds when the FFN's RID is certainly above 1.25 times attention's, opposite when it is certainly below 0.8 "
        "times. Fails when it is certainly between the two, which counts as equal.",
        "ch-rq2",
    ),
    "C3": Claim(
        "Attention mixes tokens, the FFN does not",
        "MixIG {mixig_attn:+g} against {mixig_ffn:+g}",
        "Holds when attention's MixIG is certainly above zero, above the FFN's and above that of noise of the same "
        "norm (Noise Δ), and the FFN's is certainly below a tenth of attention's in size. Opposite when attention's is "
        "certainly below zero, the FFN's and the noise's. Beside it stands the headroom: how far the mixing entropy is "
        "from its ceiling before the update.",
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
        _NOISE + " Its matrices are drawn once for all items, so the intervals cover draws and pictures, and fewer "
        "than ten draws leave it undecided.",
        "ch-rq3",
    ),
    "C6": Claim(
        "The order of attention and FFN is the same in all models",
        "15 of 15 models",
        "In a model it holds when the FFN's RID is certainly above 1.25 times attention's and attention's MixIG "
        "certainly above the FFN's, and is opposite when both are reversed. Over models those that can tell decide: "
        "holds or opposite when all of them agree, fails when they differ. It takes two models to tell.",
        "ch-scorecard",
    ),
    "C7": Claim(
        "Noise in place of visual attention does not hurt vision tasks",
        "Qwen2.5-VL-3B: POPE {pope_vanilla:g} to {pope_sap:g}, RealWorldQA {realworldqa_vanilla:g} to "
        "{realworldqa_sap:g} (percent)",
        "Asked of the groups of questions that the untouched model can read: certainly above chance, and by at least "
        "ten points, which are its room. Holds when " + _IDLE + ", opposite when it is certainly above both, fails "
        "when certainly above one. The intervals cover seeds and pictures, and fewer than five seeds leave it "
        "undecided.",
        "ch-rq3",
    ),
    "C8": Claim(
        "With it most benchmarks are as good as before or better",
        "a majority of seven benchmarks",
        "The share of benchmarks on which C7 holds, of those that can tell, with its exact interval: holds when it is "
        "certainly above one half, opposite when certainly below. It takes three benchmarks that can be measured.",
        "ch-scorecard",
    ),
    "C9": Claim(
        "Text-heavy work needs attention on text",
        "qualitative",
        "Holds when noise on text keys certainly costs accuracy on sums, and certainly a larger part of their room "
        "than of that of the benchmark's picture questions; opposite when certainly a smaller part. The intervals "
        "cover seeds and pictures, and fewer than five seeds leave it undecided.",
        "ch-rq3",
    ),
    "C10": Claim(
        "A few visual tokens with massive activations draw high attention",
        "{sink_count_max:g} of 576 visual tokens (LLaVA-1.5-7B), phi {sink_phi_visual_sink:g} against "
        "{sink_phi_visual_relevant:g}",
        "At the layer with most visual sinks, which a third of the pictures fix, and on the other pictures, of which "
        "it takes thirty. Holds when it is certain that most pictures have massive activations (the first token is a "
        "sink, or some entry is a thousand times its token's median), that there are visual sinks, that they are at "
        "most a fifth of the visual tokens, and that they get more than 1.25 times the attention of the others; fails "
        "when one of these is certainly not so. A model in which sinks were planted cannot decide this.",
        "ch-sinks",
    ),
    "C11a": Claim(
        "Cutting the attention to visual sinks does no harm",
        "POPE F1 {mask_pope_original:g}, sinks cut {mask_pope_sinks:g} (percent, read off bars)",
        "By the rule of C7: holds when " + _IDLE + ", opposite when it is certainly above both, fails when certainly "
        "above one." + _SINKS,
        "ch-sinks",
    ),
    "C11b": Claim(
        "Cutting as many random visual tokens does more harm",
        "POPE F1 with sinks cut {mask_pope_sinks:g}, random cut {mask_pope_random:g} (percent, read off bars)",
        "Holds when cutting random tokens certainly costs more than cutting sinks, opposite when it certainly costs "
        "less. The intervals cover cuts and pictures, and fewer than five random cuts leave it undecided." + _SINKS,
        "ch-sinks",
    ),
    "C12": Claim(
        "VAR improves a model without training",
        "LLaVA-1.5-7B: POPE accuracy {pope_acc_llava15_7b_base:g} to {pope_acc_llava15_7b_var:g}, MMVP "
        "{mmvp_llava15_7b_base:g} to {mmvp_llava15_7b_var:g} (percent)",
        "At the paper's settings for each kind of task, where at least five points are left to improve. Holds when "
        "accuracy certainly rises, opposite when it certainly falls." + _SINKS,
        "ch-sinks",
    ),
}

# claim -> benchmark -> the keys of the published figures after and before, which are in percent
CHANGES: dict[str, dict[str, tuple[str, str]]] = {
    "C7": {"pope": ("pope_sap", "pope_vanilla"), "realworldqa": ("realworldqa_sap", "realworldqa_vanilla")},
    "C11a": {"pope": ("mask_pope_sinks", "mask_pope_original")},
    "C11b": {"pope": ("mask_pope_random", "mask_pope_sinks")},
    "C12": {"pope": ("pope_acc_llava15_7b_var", "pope_acc_llava15_7b_base")},
}
