"""Sinks counted: rows of single tokens, of which a real model has millions, come to one a layer and kind of token."""

from __future__ import annotations

import pandas as pd

UNIT = ("item", "cluster", "layer")
KINDS = ("first", "visual", "text")
SHAPE = {"phi": "max", "share": "max", "peak": "median", "ratio": "max"}
MEANS = ("phi", "attention", "contribution")  # over the sinks, and over the other tokens


def by_layer(tokens: pd.DataFrame) -> pd.DataFrame:
    """What the tokens of a layer come to, from rows of a table of sinks.

    Parameters
    ----------
    tokens : pandas.DataFrame
        One row an item, layer and token, as a table of sinks has with ``rows="tokens"``, or some of its columns: item,
        cluster, layer, kind and sink at least. Rows of layers are given back as they are.

    Returns
    -------
    pandas.DataFrame
        One row an item, layer and kind of token, as a table of sinks has with ``rows="layers"``, in the items' order:
        item, cluster, layer, kind ("first": the first token, where it is text; "visual"; "text": all other text),
        tokens (how many), sinks (how many of them are), phi_max, share_max, peak_median, ratio_max, background and
        background_sinks (share of the tokens, and of the sinks, that lie on background, in [0, 1]; null where places
        are unknown), phi_sinks and phi_others (mean over the sinks, over the other tokens), attention_sinks and
        attention_others (mean weight on one; times their number it is what all of them get), contribution_sinks and
        contribution_others. A mean over none is null.

    Examples
    --------
    >>> rows = [("a", "a", 0, "visual", i < 2, 0.1 * i) for i in (1, 2, 3)]
    >>> found = by_layer(pd.DataFrame(rows, columns=["item", "cluster", "layer", "kind", "sink", "attention"]))
    >>> found.drop(columns=["item", "cluster"]).to_dict("records")
    [{'layer': 0, 'kind': 'visual', 'tokens': 3, 'sinks': 1, 'attention_sinks': 0.1, 'attention_others': 0.25}]
    """
    if "sinks" in tokens:
        return tokens
    sink, kind = tokens["sink"].astype(bool), tokens["kind"]
    if "token" in tokens:
        kind = kind.mask((tokens["token"] == 0) & (kind == "text"), "first")
    columns: dict[str, tuple[pd.Series, str]]  # name -> what of, and how it is put together
    columns = {"tokens": (sink, "size"), "sinks": (sink, "sum")}
    for name in filter(tokens.__contains__, SHAPE):
        columns[f"{name}_{SHAPE[name]}"] = (tokens[name].astype("float64"), SHAPE[name])
    if "place" in tokens:
        background = (tokens["place"] == "background").astype("float64").where(tokens["place"].notna())
        columns |= {"background": (background, "mean"), "background_sinks": (background.where(sink), "mean")}
    for name in filter(tokens.__contains__, MEANS):
        value = tokens[name].astype("float64")
        columns |= {f"{name}_sinks": (value.where(sink), "mean"), f"{name}_others": (value.mask(sink), "mean")}
    frame = tokens[[*UNIT]].assign(kind=kind, **{name: column for name, (column, _) in columns.items()})
    units = frame.groupby([*UNIT, "kind"], sort=False, as_index=False)
    layers = units.agg({name: how for name, (_, how) in columns.items()})
    place = {name: i for order in (tokens["item"].unique(), KINDS) for i, name in enumerate(order)}
    return layers.sort_values(
        ["item", "layer", "kind"],
        key=lambda column: column if column.name == "layer" else column.map(place),
        ignore_index=True,
    )
