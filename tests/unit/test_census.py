"""Token rows come to layers: every figure against a plain loop; a key says once what its rows are of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lostlib import catalog, tables
from lostlib.census import KINDS, by_layer
from lostlib.tables import Key

LARGE = "llava-hf/llava-1.5-7b-hf"
SHIPPED = sorted((tables.paths.RESULTS / "sinks").glob("mini-*/*/*.parquet"))


def drawn(seed: int, items: int = 5, layers: int = 3) -> pd.DataFrame:
    """Random token rows: two texts, three pictures of other sizes; no sinks, few or many; places known or not."""
    rng = np.random.default_rng(seed)
    rows = list[dict]()
    for item in range(items):
        visual, text = (0, 9) if item < 2 else (4 + item, 6)
        kinds = ["text"] * 2 + ["visual"] * visual + ["text"] * (text - 2)
        places = [*("background", "object", "relevant"), None][: 3 if item % 2 else 4]
        rows += [
            {
                "item": f"i{9 - item}", "cluster": f"c{item // 2}", "layer": layer, "token": t, "kind": kind,
                "place": rng.choice(places) if kind == "visual" else None, "sink": bool(rng.random() < 0.3 * layer),
                **{name: rng.lognormal() for name in ("phi", "share", "peak", "ratio", "contribution")},
                "attention": rng.random() if t < len(kinds) - 1 else np.nan,
            }
            for layer in range(layers) for t, kind in enumerate(kinds)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def plain(part: pd.DataFrame) -> dict[str, float]:
    """The figures of one item, layer and kind, from rows one by one."""

    def mean(name: str, sink: bool | None) -> float:
        values = [row[name] for _, row in part.iterrows() if sink in (None, row["sink"]) and not pd.isna(row[name])]
        return sum(values) / len(values) if values else np.nan

    found = {"tokens": len(part), "sinks": sum(part["sink"]), "peak_median": np.median(part["peak"])}
    found |= {f"{name}_max": max(part[name]) for name in ("phi", "share", "ratio")}
    for name in ("phi", "attention", "contribution"):
        found |= {f"{name}_sinks": mean(name, True), f"{name}_others": mean(name, False)}
    part = part.assign(background=[np.nan if pd.isna(place) else place == "background" for place in part["place"]])
    return found | {"background": mean("background", None), "background_sinks": mean("background", True)}


@pytest.mark.parametrize("seed", range(3))
def test_against_a_plain_loop(seed):
    tokens = drawn(seed)
    layers = by_layer(tokens)
    named = tokens.assign(kind=np.where((tokens["kind"] == "text") & (tokens["token"] == 0), "first", tokens["kind"]))
    wanted = [
        (item, cluster, layer, kind, plain(part))
        for (item, cluster), rows in named.groupby(["item", "cluster"], sort=False)
        for layer in range(3) for kind in KINDS
        if len(part := rows[(rows["layer"] == layer) & (rows["kind"] == kind)])
    ]  # fmt: skip
    assert layers[["item", "cluster", "layer", "kind"]].to_numpy().tolist() == [list(row[:4]) for row in wanted]
    for name in layers.columns[4:]:
        assert layers[name].to_numpy(float) == pytest.approx([row[4][name] for row in wanted], nan_ok=True), name
    assert set(wanted[0][4]) == set(layers.columns[4:])
    assert by_layer(layers) is layers
    some = by_layer(tokens[["item", "cluster", "layer", "kind", "token", "sink", "attention"]])
    pd.testing.assert_frame_equal(some, layers[some.columns])


def test_counts_and_masses_are_those_of_the_tokens():
    tokens = drawn(7)
    layers = by_layer(tokens)
    for name, of in (("tokens", tokens["sink"] | True), ("sinks", tokens["sink"])):
        assert layers.groupby("item")[name].sum().to_dict() == of.groupby(tokens["item"]).sum().to_dict()
    assert not layers.query("item in ['i9', 'i8']")["kind"].eq("visual").any()  # texts
    visual = tokens[tokens["kind"] == "visual"]
    held = layers[layers["kind"] == "visual"]
    mass = (held["attention_sinks"] * held["sinks"]).groupby(held["item"]).sum()
    drawn_by_sinks = visual["attention"].where(visual["sink"], 0.0).groupby(visual["item"]).sum()
    assert mass.sort_index().to_numpy() == pytest.approx(drawn_by_sinks.sort_index().to_numpy())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.parent.name)
def test_shipped_tables_are_of_tokens_and_come_to_layers(path):
    table = tables.read(path)
    assert "rows" not in table.key.parameters
    layers = by_layer(table.frame)
    assert layers["tokens"].sum() == len(table.frame)
    assert layers["sinks"].sum() == table.frame["sink"].sum()
    assert set(layers["kind"]) == {*KINDS}


def key(model: str, **parameters: object) -> Key:
    return Key.of("sinks", model, "pope", 4, parameters=parameters)


def test_what_is_usual_depends_on_the_size_of_the_model():
    assert key("mini-llava-1.5", rows="tokens") == key("mini-llava-1.5")
    assert key("mini-llava-1.5", rows="layers").parameters == {"rows": "layers"}
    assert key(LARGE, rows="layers") == key(LARGE)
    for rows in ("tokens", "heads"):
        asked = key(f"{LARGE}:dtype=float16", rows=rows)
        assert asked.parameters == {"rows": rows}
        assert f"--set rows={rows}" in asked.command
        assert catalog.canonical("sinks", parameters=asked.parameters, model=asked.model)[2] == {"rows": rows}


def test_other_experiments_have_one_usual():
    for name, about in catalog.EXPERIMENTS.items():
        assert about.usual("mini-pope") == dict(about.parameters)
        assert (about.usual(LARGE) == dict(about.parameters)) == (name != "sinks")
