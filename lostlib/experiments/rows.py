"""What the measuring loops share: batches under a progress bar, and rows in the items' order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from tqdm import tqdm

from lostlib.benchmarks.items import Item
from lostlib.catalog import check_count


def batches(items: Sequence[Item], size: int, title: str) -> Iterator[Sequence[Item]]:
    """Consecutive batches under a progress bar that counts items (silent where the output is no terminal)."""
    check_count("batch_size", size)
    with tqdm(total=len(items), desc=title, unit="item", disable=None) as bar:
        for start in range(0, len(items), size):
            yield items[start : start + size]
            bar.update(len(items[start : start + size]))


def in_order(rows: pd.DataFrame, items: Sequence[Item]) -> pd.DataFrame:
    """The rows in the items' order."""
    order = {item.uid: i for i, item in enumerate(items)}
    return rows.sort_values("item", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)


def with_clusters(rows: pd.DataFrame, items: Sequence[Item]) -> pd.DataFrame:
    """The rows in the items' order, the cluster of each item beside it."""
    frame = in_order(rows, items)
    frame.insert(1, "cluster", frame["item"].map({item.uid: item.cluster for item in items}))
    return frame
