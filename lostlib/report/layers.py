"""Which layers carry what a residual table shows, and what a change of attention costs in loss."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lostlib import stats
from lostlib.stats import Estimate


def largest_layers(rows: pd.DataFrame, count: int = 3, module: str = "ffn") -> list[int]:
    """The layers in which a module's RID is largest, mean over items, the largest first."""
    true = rows[(rows["module"] == module) & (rows["control"] == "none")]
    return true.groupby("layer")["rid"].mean().nlargest(count).index.tolist()


def without_largest(rows: pd.DataFrame, count: int = 3, module: str = "ffn") -> pd.DataFrame:
    """Rows of every second item, without the layers that are largest in the other items.

    So layers are not chosen by the numbers that are reported without them.
    """
    items = rows["item"].drop_duplicates()
    held = rows["item"].isin(items[::2])
    chosen = largest_layers(rows[~held], count, module)
    return rows[held & ~rows["layer"].isin(chosen)]


def loss_change(changed: Sequence[pd.DataFrame], untouched: pd.DataFrame) -> Estimate:
    """What a change costs, in nats per token: the mean over items of loss under it minus loss without it.

    Several tables are draws of the same change, each item by its mean over them. A draw is made for each item anew, so
    that an interval over items covers it. Items that not all tables have are left out.
    """
    items = pd.concat(changed).groupby("item")["loss"].agg(["mean", "size"])
    both = untouched.set_index("item").join(items[items["size"] == len(changed)], how="inner")
    return stats.difference(both["mean"], both["loss"], both["cluster"])
