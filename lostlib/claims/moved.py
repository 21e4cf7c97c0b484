"""Verdicts that moved when the rules were revised: the former ones are kept as data, the present ones are computed.

`data/former-verdicts.csv` was written before the revision; `data/README.md` has the command.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from lostlib import paths
from lostlib.claims.scorecard import by_model
from lostlib.claims.verdicts import Verdict

FORMER = {"C2a": "C2", "C2b": "C2", "C11a": "C11", "C11b": "C11"}  # what was one claim and is two
WHY = {
    "C1": "a size has a margin now: at the tolerance is below 1.25 times it. All cells are certainly above, which the "
    "former word hid among the undecided",
    "C2a": "a claim of its own: the paper sets the FFN beside the tolerance",
    "C2b": "well above is more than 1.25 times: a gap of a few percent is certain and counts as equal",
    "C3": "that the FFN does not mix is a condition now (a tenth of attention's), and so is mixing more than noise of "
    "the same norm",
    "C4": "its MixIG is certainly above zero, while its RID is as the claim has it: a condition is violated",
    "C5": "judged over ten draws of matrices; one draw had decided before, and another one could turn it",
    "C6": "follows C2b: what counts as equal is no order",
    "C7": "judged on the questions that the untouched model can read, against the room above chance, over five seeds",
    "C8": "the interval of the share decides, and of three benchmarks it always holds one half",
    "C9": "sums must lose more of their room than picture questions do: before, it was enough that they lose",
    "C10": "takes massive activations, thirty pictures, a layer fixed on others, and well more attention",
    "C11a": "a claim of its own, judged only where C10 holds or sinks were planted",
    "C11b": "a claim of its own, judged only where C10 holds or sinks were planted, over five random cuts",
    "C12": "judged only where C10 holds or sinks were planted, and five points are left to gain",
}


def moved(cells: Iterable[Verdict]) -> pd.DataFrame:
    """Which verdicts over a model's benchmarks differ from the former ones: claim, before, now, models and why.

    Parameters
    ----------
    cells : iterable of Verdict
        As `scorecard.cells` gives them. Models that had no verdict before are left out.
    """
    kept = pd.read_csv(paths.DATA / "former-verdicts.csv").set_index(["claim", "model"])["status"]
    kept = kept.str.removesuffix(" here")  # not measurable here: another word, the same verdict
    rows = [
        (claim, before, cell.status, model)
        for (claim, model), cell in by_model(cells).items()
        if (before := kept.get((FORMER.get(claim, claim), model))) not in (None, cell.status)
    ]
    found = pd.DataFrame(rows, columns=["claim", "before", "now", "models"])
    joined = found.groupby(["claim", "before", "now"], sort=False)["models"].agg(", ".join).reset_index()
    return joined.assign(why=joined["claim"].map(WHY))
