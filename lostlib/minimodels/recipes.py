"""The mini models: each is one `Recipe` row. What they are made of is in `bodies`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Family, sizes, vision tower and training length of one mini model."""

    family: str = "llava"  #: transformers' name, `llava`, `llava_next` or `qwen2_5_vl`
    layers: int = 6
    hidden: int = 128
    heads: int = 4
    mlp: int = 384
    #: in `mixing` each patch is trained to say what it shows, and may look at the others to know it; in `local` patches
    #: cannot look at one another; in `broadcast` each patch is also trained to say what is anywhere in the scene
    tower: str = "mixing"
    vision_layers: int = 4
    vision_hidden: int = 128
    vision_heads: int = 4
    vision_mlp: int = 384
    batch: int = 32  #: images a step
    tower_steps: int = 800
    captions_steps: int = 1000
    instruct_steps: int = 4000
    learning_rate: float = 1.5e-3
    kinds: str = "first"  #: of questions, "first", about one scene, or "all", with charts and several images
    base: str = ""  #: the shipped model to start from, its words first in the vocabulary; from random weights if empty

    @property
    def tower_stands_still(self) -> bool:
        """After its own stage; a `broadcast` tower would unlearn to broadcast."""
        return self.tower == "broadcast"


RECIPES = {
    "mini-llava-1.5": Recipe(),
    "mini-llava-1.5-xs": Recipe(hidden=64, mlp=192, vision_hidden=64, vision_heads=2, vision_mlp=192),
    "mini-llava-next": Recipe(family="llava_next", captions_steps=600, instruct_steps=2200),
    "mini-qwen2.5-vl": Recipe(
        family="qwen2_5_vl", vision_hidden=64, vision_heads=2, vision_mlp=160, captions_steps=600, instruct_steps=2200
    ),
    "mini-llava-1.5-local": Recipe(tower="local"),
    "mini-llava-1.5-broadcast": Recipe(tower="broadcast", tower_steps=3000),
    "mini-llava-1.5-wide": Recipe(
        kinds="all", base="mini-llava-1.5", tower_steps=800, captions_steps=400, instruct_steps=3500, learning_rate=1e-3
    ),
}
