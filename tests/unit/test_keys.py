"""One measurement has one key, however it is asked for; the catalog of experiments says what their loops take."""

from __future__ import annotations

import inspect
import json

import pytest

from lostlib import catalog, interventions, tables
from lostlib.experiments import measure
from lostlib.forms import Form
from lostlib.tables import Key

OTHER = {  # a value that is not the usual one, for each parameter
    "max_new_tokens": 3, "controls": ["no_rope"], "rank": "erank", "unit": "bits", "causal": True, "scope": "model",
    "without": "tokens", "tau": "10%", "detector": "massive", "dims": "1+4", "min_mass": 0.1, "p": 0.5, "rho": 0.9,
    "preset": "official_code", "blocks": 4, "scenes": 50, "draws": 3, "seeds": 3, "layers": ["0", "1-4"],
    "rows": "heads",
}  # fmt: skip
SHORT = [
    ("sap", "sap:keys=visual,weights=gaussian"),
    ("sap:weights=permuted", "sap:keys=visual,weights=permuted"),
    ("sap:weights=uniform,keys=text", "sap:keys=text,weights=uniform"),
    ("sap:layers=0+1+2,mass=keep,phase=both", "sap:keys=visual,weights=gaussian,layers=0-2"),
    ("knockout:tau=0.1e2", "knockout:keys=sinks,tau=10.0"),
    ("knockout:tau=10.0%", "knockout:keys=sinks,tau=10%"),
    ("var:rho=1", "var:rho=1.0"),
    ("noise_delta:scale=frobenius", "noise_delta"),
    ("pool&sap:keys=visual", "pool & sap:keys=visual,weights=gaussian"),
]


def key(experiment: str, intervention: str = "none", seed: int = 0, **parameters: object) -> Key:
    return Key.of(experiment, "mini-llava-1.5", "mini-pope", 4, intervention, seed, parameters)


@pytest.mark.parametrize("name", catalog.EXPERIMENTS)
def test_defaults_spelt_out_are_no_other_table(name):
    usual = dict(catalog.experiment(name).parameters)
    assert key(name, **usual) == key(name)
    assert key(name, **usual, batch_size=3).path == key(name).path


@pytest.mark.parametrize("name", catalog.EXPERIMENTS)
def test_neither_is_another_order_of_parameters(name):
    other = {one: OTHER[one] for one in catalog.experiment(name).parameters}
    turned = dict(reversed(other.items()))
    change = "noise_qkv" if catalog.experiment(name).changed else "none"
    assert key(name, change, **other) == key(name, change, **turned)
    assert str(key(name, change, **other)) == str(key(name, change, **turned))  # also to the letter
    assert key(name, change, **other).parameters == other


@pytest.mark.parametrize("name", [name for name, about in catalog.EXPERIMENTS.items() if about.changed])
@pytest.mark.parametrize(("short", "full"), SHORT)
def test_nor_a_short_form_of_an_intervention(name, short, full):
    assert key(name, short).intervention == full
    assert key(name, short, seed=2) == key(name, full, seed=2)


def test_values_have_one_way_to_be_written():
    assert key("residual", controls=("noise_delta:scale=frobenius", "noise_qkv", "no_rope")) == key("residual")
    assert key("sinks", tau=20) == key("sinks", dims=None) == key("sinks")
    assert key("sinks", tau="10.0%").path == key("sinks", tau="10%").path
    assert key("sinks", dims="4+1+2+3").parameters == {"dims": "1-4"}
    assert key("heads", p=1).path == key("heads", p=1.0).path
    assert key("losses", "no_rope", layers=["2+1+0", "5"]) == key("losses", "no_rope", layers=["0-2", "5"])


def test_a_seed_that_nothing_asks_for_is_none():
    assert key("answers", seed=3) == key("answers")
    assert key("answers", "sap:weights=uniform", seed=3).seed == 0
    assert key("answers", "sap", seed=3).seed == 3
    assert key("sinks", seed=3) == key("sinks")
    assert key("residual", seed=3) != key("residual")


def test_what_does_not_exist_is_refused():
    for problem, call in {
        "did you mean 'residual'": lambda: key("residuals"),
        "did you mean 'rank'": lambda: key("residual", ranks="erank"),
        "did you mean 'gaussian'": lambda: key("answers", "sap:weights=gausian"),
        "untouched model": lambda: key("residual", "sap"),
        "pool has none": lambda: key("losses", "pool", layers=["0"]),
    }.items():
        with pytest.raises(ValueError, match=problem):
            call()


@pytest.mark.parametrize("name", catalog.EXPERIMENTS)
def test_the_catalog_says_what_the_loop_takes(name):
    about = catalog.experiment(name)
    taken = inspect.signature(measure.LOOPS[name]).parameters
    plain = ("model", "benchmark", "items", "pilot", "work", "intervention", "seed", *catalog.HOW)
    own = {one: about.default for one, about in taken.items() if one not in plain}
    assert json.loads(json.dumps(own)) == dict(about.parameters)
    assert ("intervention" in taken) == about.changed
    assert ("benchmark" in taken) == about.asked
    assert ("pilot" in taken) == bool(about.pilot)
    assert ("seed" in taken) == (about.changed or about.seeded)
    assert {"batch_size"} <= set(taken)


def test_every_shipped_table_is_where_its_key_says():
    for path in tables.shipped_tables():
        held = tables.read_key(path)
        again = catalog.canonical(held.experiment, held.intervention, held.seed, held.parameters)
        assert again == (held.intervention, held.seed, held.parameters), path
        assert path == tables.paths.RESULTS / held.path


def test_each_form_has_a_class_that_does_it():
    assert set(interventions.Intervention.kinds) == set(Form.kinds)
    for text, full in SHORT:
        assert str(interventions.Intervention.parse(text)) == str(Form.parse(text)) == full


@pytest.mark.parametrize(
    ("experiment", "one", "other"),
    [
        ("sinks", {"dims": "all"}, {}),
        ("sinks", {"dims": "3+1"}, {"dims": "1+3"}),
        ("residual", {"rank": "energy=0.990"}, {"rank": "energy=0.99"}),
    ],
)
def test_one_value_has_one_way_to_be_written(experiment, one, other):
    assert catalog.canonical(experiment, parameters=one) == catalog.canonical(experiment, parameters=other)


@pytest.mark.parametrize("controls", [[1], [None], [True], 3])
def test_controls_that_are_no_texts_are_refused(controls):
    with pytest.raises((ValueError, TypeError)):
        measure.check_parameters("residual", catalog.canonical("residual", parameters={"controls": controls})[2])
