"""Shared fixtures: a tiny random LLaVA saved in hub format and loaded like any model, and a few mini-world items."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lostlib


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained, with weights large enough that attention is far from uniform and every module matters."""
    from lostlib.minimodels import bodies, recipes

    torch.manual_seed(0)
    sizes = recipes.Recipe(layers=3, hidden=64, heads=4, mlp=96, vision_layers=2, vision_hidden=32, vision_mlp=64)
    body = bodies.body(sizes)
    model, processor = body.model(), body.processor
    for layer in model.model.language_model.layers:
        for projection in (
            layer.self_attn.q_proj,
            layer.self_attn.k_proj,
            layer.self_attn.v_proj,
            layer.self_attn.o_proj,
        ):
            projection.weight.data *= 8
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny(tiny_folder: Path) -> lostlib.LostModel:
    return lostlib.load_model(tiny_folder)


@pytest.fixture(scope="session")
def items() -> list:
    """Six questions of different lengths, so that a batch is padded."""
    mixed = [*lostlib.load_benchmark("mini-pope", n=3).items, *lostlib.load_benchmark("mini-realworldqa", n=3).items]
    assert len({len(item.prompt) for item in mixed}) > 3
    return mixed
