"""What does changing attention cost? Peak memory and time of a forward pass, as ratios to the untouched model's.

    python bench/probing.py --repeats 3
    python bench/probing.py --settings attention --sizes 24 32 4 --interventions sap:keys=visual,weights=permuted

Two settings, each one decoder layer with random weights in float32:

- attention: the 2,928 visual tokens of a LLaVA-NeXT picture in 32 heads, and almost nothing but attention.
- qwen: a layer of the size of Qwen2.5-VL-7B (28 heads, 3,584 wide, an MLP of 18,944) at 1,332 tokens.

Each run is a process of its own, because a process remembers only its largest size; interventions take turns. Memory is
what the first forward pass adds to the loaded model at most, time is that of the second pass; medians over the repeats.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

INTERVENTIONS = ("sap:keys=visual,weights=gaussian", "knockout:keys=all_visual", "var:tau=50%,dims=0-3")
BEFORE, AFTER, IMAGE = 4, 32, 7  # text tokens around the image, the image token's id


def attention(side: int, heads: int, channels: int) -> tuple[Any, dict[str, Tensor], int]:
    """LLaVA-NeXT with a picture of 2 x 2 tiles of side x side patches: the model, the picture, its visual tokens."""
    from transformers import CLIPVisionConfig, LlavaNextConfig, LlavaNextForConditionalGeneration, MistralConfig

    tile = side * 14
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1, image_size=tile, patch_size=14
    )
    text = MistralConfig(
        vocab_size=16, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=heads,
        num_key_value_heads=heads // 4, head_dim=channels, sliding_window=None,
    )  # fmt: skip
    config = LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE, image_grid_pinpoints=[[2 * tile, 2 * tile]]
    )
    picture = {"pixel_values": torch.randn(1, 5, 3, tile, tile), "image_sizes": torch.tensor([[2 * tile, 2 * tile]])}
    return LlavaNextForConditionalGeneration(config), picture, side**2 + 2 * side * (2 * side + 1)


def qwen(side: int, heads: int, channels: int) -> tuple[Any, dict[str, Tensor], int]:
    """Qwen2.5-VL with a picture of side x side visual tokens: the model, the picture, its visual tokens."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    hidden, turn = heads * channels, channels // 8
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 16, "bos_token_id": 1, "eos_token_id": 2, "hidden_size": hidden,
            "intermediate_size": hidden * 37 // 7, "num_hidden_layers": 1, "num_attention_heads": heads,
            "num_key_value_heads": heads // 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2 * turn, turn, turn]},
        },
        vision_config={
            "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "patch_size": 14,
            "window_size": 112, "fullatt_block_indexes": [], "out_hidden_size": hidden,
        },
        image_token_id=IMAGE, video_token_id=8, vision_start_token_id=9, vision_end_token_id=10,
    )  # fmt: skip
    visual, patches = side**2, 4 * side**2
    picture = {
        "pixel_values": torch.randn(patches, 3 * 2 * 14 * 14),
        "image_grid_thw": torch.tensor([[1, 2 * side, 2 * side]]),
        "mm_token_type_ids": torch.tensor([[0] * BEFORE + [1] * visual + [0] * AFTER]),
    }
    return Qwen2_5_VLForConditionalGeneration(config), picture, visual


SETTINGS: dict[str, tuple[Callable, str, tuple[int, int, int]]] = {  # the maker, its family, side, heads and channels
    "attention": (attention, "llava_next", (24, 32, 128)),
    "qwen": (qwen, "qwen2_5_vl", (36, 28, 128)),
}


def once(setting: str, sizes: tuple[int, int, int], intervention: str) -> dict[str, float]:
    """GB that the first forward pass adds at most to the loaded model, and seconds of the second, in this process."""
    from lostlib import intervene, machine, wrap
    from lostlib.minimodels import bodies, recipes
    from lostlib.models import Batch

    torch.manual_seed(0)
    make, family, _ = SETTINGS[setting]
    hf, picture, visual = make(*sizes)
    model = wrap(hf, bodies.body(recipes.Recipe(family=family)).processor)
    ids = torch.tensor([[1] * BEFORE + [IMAGE] * visual + [2] * AFTER])
    tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **picture}
    batch = Batch(tensors, ("drawn",), model.visual(ids, tensors))
    with intervene(model, intervention):
        loaded, peak = machine.highest(lambda: model.forward(batch))
        start = time.perf_counter()
        model.forward(batch)
    return {"seconds": time.perf_counter() - start, "gb": peak - loaded}


def middle(runs: list[dict[str, float]]) -> tuple[float, float]:
    """Median seconds and GB."""
    return statistics.median(run["seconds"] for run in runs), statistics.median(run["gb"] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--interventions", nargs="+", default=INTERVENTIONS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", nargs=3, type=int, metavar=("SIDE", "HEADS", "CHANNELS"), help="in place of its own")
    parser.add_argument("--one", action="store_true", help="measure once, in this process, and print JSON")
    args = parser.parse_args()
    for setting in args.settings:
        sizes = args.sizes or SETTINGS[setting][2]
        if args.one:
            print(json.dumps(once(setting, sizes, *args.interventions)))
            return
        command = [sys.executable, __file__, "--one", "--settings", setting, "--sizes", *map(str, sizes)]
        runs: dict[str, list[dict]] = {text: [] for text in ("none", *args.interventions)}
        for _ in range(args.repeats):
            for intervention, found in runs.items():
                done = subprocess.run(
                    [*command, "--interventions", intervention], stdout=subprocess.PIPE, text=True, check=True
                )
                found.append(json.loads(done.stdout.splitlines()[-1]))
        plain = middle(runs["none"])
        for intervention, found in runs.items():
            seconds, gb = middle(found)
            print(
                f"{setting} {intervention}: {gb:.4g} GB, {gb / plain[1]:.2f} x untouched; "
                f"{seconds:.4g} s, {seconds / plain[0]:.2f} x untouched",
                flush=True,
            )


if __name__ == "__main__":
    main()
