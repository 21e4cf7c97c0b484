"""A hub id with two commits in the local cache: which one is loaded, model and processor both, and what is recorded.

The cache has the layout that huggingface_hub gives it, so everything but the download is the real path.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import tiny
from safetensors.torch import load_file, save_file

import lostlib
from lostlib import tables
from lostlib.checkpoints import ModelChoice
from lostlib.experiments import measure

OLD, NEW = "0a" * 20, "1b" * 20


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits of someone/tiny: the newer one has doubled embeddings and a smaller limit in pixels."""
    home = tmp_path_factory.mktemp("home")
    held = home / "hub" / "models--someone--tiny"
    for commit in (OLD, NEW):
        tiny.make("qwen2_5_vl", held / "snapshots" / commit)
    weights = held / "snapshots" / NEW / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    save_file({**tensors, name: 2 * tensors[name]}, weights, metadata={"format": "pt"})
    settings = held / "snapshots" / NEW / "preprocessor_config.json"
    settings.write_text(
        json.dumps(json.loads(settings.read_text()) | {"size": {"shortest_edge": 64, "longest_edge": 640}})
    )
    (held / "refs").mkdir()
    for ref, commit in {"main": NEW, "before": OLD}.items():
        (held / "refs" / ref).write_text(commit)
    return home


def test_the_revision_that_was_asked_for(home: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    norms = []
    for name, commit, pixels in (
        ("someone/tiny", NEW, (64, 640)),
        ("someone/tiny@before", OLD, (256, 4096)),
        (f"someone/tiny@{OLD}", OLD, (256, 4096)),
    ):
        model = lostlib.load_model(name)
        assert (model.name, model.weights, model.pixels) == ("someone/tiny", commit, pixels), "the processor's too"
        norms.append(model.hf.get_input_embeddings().weight.norm().item())
        table = measure.measure("answers", model=name, benchmark="mini-pope", n=2)
        assert (table.key.model, table.key.weights) == (name, commit)
        tables.write(table, tmp_path)
        wanted = replace(table.key, weights=ModelChoice.parse(name).weights)
        assert tables.is_held(wanted, tmp_path), "a chapter finds the table of the commit that was fetched"
    newest, before, commit = norms
    assert newest == pytest.approx(2 * before)
    assert before == commit
    with pytest.raises(ValueError, match="no configuration of 'someone/tiny' at revision 'nowhere' is to be had"):
        lostlib.load_model("someone/tiny@nowhere")
