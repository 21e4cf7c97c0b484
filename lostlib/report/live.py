"""What the page on which a model runs live needs beside its scripts: the world's sprites, scenes, and models. No torch.

A browser refuses to fetch files that were opened from disk, so everything is a script: `world.js` sets `lostWorld`, and
a model's script adds it to `lostModels`. They are written while the book is built, from what the package ships.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lostlib import paths
from lostlib.miniworld.render import noise, sprite
from lostlib.miniworld.scenes import COLORS, SHAPES, SIZES, Scene, generator, sample_scene

STREAM = 20  # of test scenes; no benchmark has it
SCENES = 40
GREY = 60  # of every scene's background
SINK_DIMENSIONS = {  # model -> `lostlib.sinks.sink_dimensions` of it, which needs torch
    "mini-llava-1.5-xs": (14, 16, 34, 43, 47, 58, 59, 61),
    "mini-llava-1.5": (52, 57),
}  # fmt: skip


def world() -> dict[str, Any]:
    """Colours, sizes, sprites and the pixel noise that all scenes of the page share, and scenes to try questions on."""
    masks = {f"{shape} {size}": np.asarray(sprite(shape, size)) for shape in SHAPES for size in SIZES}
    return {
        "colors": {name: list(color) for name, color in COLORS.items()},
        "shapes": list(SHAPES),
        "sizes": SIZES,
        "sprites": {name: [len(mask), _encoded(mask)] for name, mask in masks.items()},
        "noise": _encoded(noise(0).astype("<f4")),
        "scenes": [{"things": [asdict(thing) for thing in scene.things], "background": GREY} for scene in scenes()],
    }


def scenes(count: int = SCENES) -> list[Scene]:
    """Test scenes with at least two objects, on the page's grey and with its noise."""
    drawn = (sample_scene("test", generator("test", STREAM, i), least=2) for i in range(count))
    return [Scene(scene.things, GREY, 0) for scene in drawn]


def model(name: str) -> dict[str, Any]:
    """What the engine is given of a shipped model: configuration, vocabulary, pixels' mean and std, weights."""
    folder = paths.MODELS / name
    processor = json.loads((folder / "processor_config.json").read_text("utf-8"))["image_processor"]
    return {
        "config": json.loads((folder / "config.json").read_text("utf-8")),
        "vocabulary": json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"],
        "mean": processor["image_mean"],
        "std": processor["image_std"],
        "dims": list(SINK_DIMENSIONS[name]),
        "weights": base64.b64encode((folder / "model.safetensors").read_bytes()).decode(),
    }


def write(folder: Path) -> None:
    """All of it as scripts in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    scripts = {"world": f"const lostWorld = {json.dumps(world())};\n"}
    for name in SINK_DIMENSIONS:
        scripts[name] = f'(globalThis.lostModels ??= {{}})["{name}"] = {json.dumps(model(name))};\n'
    for name, script in scripts.items():
        with paths.replacing(folder / f"{name}.js") as partial:
            partial.write_text(script, "utf-8")


def _encoded(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
