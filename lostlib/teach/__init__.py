"""Instant checks for the exercises: they grade a student's own work by what the library itself is tested with.

- `code`         functions that students write: `check_effective_rank` and the like
- `questions`    readings of figures and predictions: `check_reading`, `check_predictions`
- `experiments`  small runs of the mini model behind the predictions, and `try_attention_replacement`
- `outcome`      what a check gives back

A check never raises because of a student: it says "not yet" while a cell is unanswered, and shows what went wrong and
on which input otherwise. Checks that need torch say so where it is missing.
"""

from lostlib.teach.functions import (
    check_attention_replacement,
    check_effective_rank,
    check_massive_activations,
    check_noise_update,
    check_participation_ratio,
    check_ratio_without_token,
    check_redistribution,
    check_rid,
    check_sink_tokens,
    check_token_mixing_entropy,
)
from lostlib.teach.outcome import Outcome
from lostlib.teach.predictions import try_attention_replacement
from lostlib.teach.questions import check_predictions, check_reading
