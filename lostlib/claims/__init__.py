"""The papers' claims C1 to C12: from measured rows to verdicts, one small rule each. No torch.

`catalog` has the claims as data, `rules` a function for each of them, `verdicts` what such a function gives back.
"""

from lostlib.claims.catalog import CLAIMS, Claim
from lostlib.claims.rules import (
    CROWD,
    MARGIN,
    RHO,
    at_chance,
    attention_at_tolerance,
    attention_mixes,
    ffn_innovates,
    majority,
    noise_innovates,
    noise_is_harmless,
    rho_for,
    same_in_all_models,
    sinks_are_idle,
    sinks_exist,
    text_is_needed,
    var_helps,
    without_sinks,
)
from lostlib.claims.verdicts import STATUSES, Part, Verdict, combined

__all__ = [
    "CLAIMS",
    "CROWD",
    "MARGIN",
    "RHO",
    "STATUSES",
    "Claim",
    "Part",
    "Verdict",
    "at_chance",
    "attention_at_tolerance",
    "attention_mixes",
    "combined",
    "ffn_innovates",
    "majority",
    "noise_innovates",
    "noise_is_harmless",
    "rho_for",
    "same_in_all_models",
    "sinks_are_idle",
    "sinks_exist",
    "text_is_needed",
    "var_helps",
    "without_sinks",
]
