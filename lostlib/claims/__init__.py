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
    change,
    ffn_innovates,
    ffn_leads,
    lost,
    majority,
    noise_delta_innovates,
    noise_is_harmless,
    noise_qkv_innovates,
    one_order,
    random_cuts_cost_more,
    readable,
    rho_for,
    same_in_all_models,
    sinks_are_idle,
    sinks_exist,
    text_is_needed,
    var_helps,
    without_sinks,
)
from lostlib.claims.verdicts import (
    CERTAIN,
    COMBINED,
    FAILS,
    HOLDS,
    NOT_RUN,
    OPPOSITE,
    STATUSES,
    TOLD,
    UNDECIDED,
    UNMEASURABLE,
    Part,
    Verdict,
    combined,
    not_run,
    together,
)
