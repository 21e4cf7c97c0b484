"""A hub id with two commits in the local cache: which one is loaded, model and processor both, and what is recorded.

The cache has the layout that huggingface_hub gives it, so everything but the download is the real path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from safetensors.torch import load_file, save_file

OLD, NEW = "0a" * 20, "1b" * 20
SCRIPT = """
import json, sys, tempfile
from pathlib import Path
import lostlib
from lostlib import tables
from lostlib.checkpoints import ModelChoice
from lostlib.experiments import measure
told = []
for name in sys.argv[1:]:
    try:
        model = lostlib.load_model(name)
    except ValueError as error:
        told.append(str(error))
        continue
    table = measure.measure("answers", model=name, benchmark="mini-pope", n=2)
    norm = model.hf.get_input_embeddings().weight.norm().item()
    with tempfile.TemporaryDirectory() as folder:
        tables.write(table, Path(folder))
        wanted = tables.Key(**{**vars(table.key), "weights": ModelChoice.parse(name).weights})
        again = tables.is_held(wanted, Path(folder))
    told.append([model.name, model.weights, model.pixels, norm, table.key.model, table.key.weights, again])
print(json.dumps(told))
"""


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


def test_the_revision_that_was_asked_for(home: Path) -> None:
    names = ["someone/tiny", "someone/tiny@before", f"someone/tiny@{OLD}", "someone/tiny@nowhere"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names], capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(home / "hub")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    newest, before, commit, nowhere = json.loads(done.stdout.splitlines()[-1])
    assert [one[1] for one in (newest, before, commit)] == [NEW, OLD, OLD]
    assert [one[2] for one in (newest, before, commit)] == [[64, 640], [256, 4096], [256, 4096]], "the processor's"
    assert newest[3] == pytest.approx(2 * before[3])
    assert before[3] == commit[3]
    for name, (named, weights, _, _, key_model, key_weights, found_again) in zip(
        names[:3], (newest, before, commit), strict=True
    ):
        assert (named, key_model, key_weights) == ("someone/tiny", name, weights)
        assert found_again, "a chapter finds the table of the commit that was fetched"
    assert "no configuration of 'someone/tiny' at revision 'nowhere' is to be had" in nowhere
