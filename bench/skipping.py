"""What would redundancy buy? One decoder layer at prefill, with and without the products of queries and visual keys.

    python bench/skipping.py --visual 144 576 1152 2928 --repeats 5 --out data/bench/skipping.csv

If content-free weights on image tokens did no harm, the products of queries with visual keys need not be computed:
with `uniform` weights, and each row's share of visible keys as their mass, a row's part from the image is the running
mean of the values. Four ways are timed in turns within one run, on one layer of the size of Qwen2.5-VL-7B (28 heads,
4 key heads, 128 channels a head) with random inputs: text, then the image, then text.

- eager: all products, softmax and weighted sum, as transformers' eager attention does it.
- sdpa: torch's fused attention with a causal mask; it computes all products too, but keeps none.
- skipping: products with text keys only, and the running mean of visual values.
- static: products with text keys only, and a fixed table of weights, the same for all heads, for the rest.

`skipping` is held against this package's `sap:keys=visual,weights=uniform,mass=share` on a small case first. The rest
of the layer (projections and MLP) is timed too, because no attention can be faster than free.
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lostlib import paths
from lostlib.interventions import Intervention
from lostlib.models.attention import Rows

HEADS, KV_HEADS, CHANNELS, HIDDEN, MLP = 28, 4, 128, 3584, 18944
BEFORE, AFTER = 16, 48  # text tokens around the image


def layout(visual: int) -> Tensor:
    """(S,) bool: which tokens are the image's."""
    kinds = torch.zeros(BEFORE + visual + AFTER, dtype=torch.bool)
    kinds[BEFORE : BEFORE + visual] = True
    return kinds


def many(kv: Tensor, heads: int) -> Tensor:
    """(1, key heads, S, D) -> (1, heads, S, D): a view for each group of query heads."""
    return kv.repeat_interleave(heads // kv.shape[1], dim=1)


def eager(q: Tensor, k: Tensor, v: Tensor, visual: Tensor) -> Tensor:
    scores = q @ k.mT * q.shape[-1] ** -0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1, dtype=torch.float32).to(v.dtype) @ v


def sdpa(q: Tensor, k: Tensor, v: Tensor, visual: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def text_part(q: Tensor, k: Tensor, v: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
    """(attention among text keys (1, heads, S, D), each row's share of visual keys among the visible (S, 1))."""
    keys, rows = (~visual).nonzero().flatten(), torch.arange(len(visual))
    scores = q @ k[:, :, keys].mT * q.shape[-1] ** -0.5
    scores = scores.masked_fill(keys > rows[:, None], -torch.inf)
    share = visual.cumsum(0) / (rows + 1)
    return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v[:, :, keys], share[:, None].to(v.dtype)


def skipping(q: Tensor, k: Tensor, v: Tensor, visual: Tensor) -> Tensor:
    text, share = text_part(q, k, v, visual)
    seen = visual.cumsum(0).clamp_min(1)[:, None]
    mean = ((v * visual[:, None]).cumsum(2, dtype=torch.float32) / seen).to(v.dtype)
    return (1 - share) * text + share * mean


def static(table: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """`table` (S, visual tokens): softmax of fixed scores, causal; rows before the image are zero."""

    def attend(q: Tensor, k: Tensor, v: Tensor, visual: Tensor) -> Tensor:
        text, share = text_part(q, k, v, visual)
        return (1 - share) * text + share * (table @ v[:, :, visual])

    return attend


def fixed_table(visual: Tensor, dtype: torch.dtype) -> Tensor:
    scores = torch.randn(len(visual), int(visual.sum()), generator=torch.Generator().manual_seed(0))
    unseen = visual.nonzero().flatten() > torch.arange(len(visual))[:, None]
    return scores.masked_fill(unseen, -torch.inf).softmax(-1).nan_to_num(0.0).to(dtype)


def reference(q: Tensor, k: Tensor, v: Tensor, visual: Tensor) -> Tensor:
    """The package's own replacement on the dense weights."""
    n = len(visual)
    visible = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
    scores = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~visible, -torch.inf)
    where = torch.arange(n)[None]
    rows = Rows(
        layer=0, seed=0, items=torch.zeros(1, dtype=torch.int64), visual=visual[None], visible=visible,
        query_positions=where, key_positions=where, query_visual=visual[None],
        first_visual=torch.tensor([BEFORE]), prompt=torch.tensor([n]), decoding=False,
    )  # fmt: skip
    sap = Intervention.parse("sap:keys=visual,weights=uniform,mass=share")
    return sap.edits[0](scores.softmax(-1), scores, rows) @ v


class Rest(nn.Module):
    """Projections and MLP of a layer: everything but the attention itself."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(HIDDEN, (HEADS + 2 * KV_HEADS) * CHANNELS)
        self.o = nn.Linear(HEADS * CHANNELS, HIDDEN, bias=False)
        self.gate, self.up = (nn.Linear(HIDDEN, MLP, bias=False) for _ in range(2))
        self.down = nn.Linear(MLP, HIDDEN, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.o(self.qkv(x)[..., : HEADS * CHANNELS])
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


def drawn(visual: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    q = torch.randn(1, HEADS, len(visual), CHANNELS, generator=draw)
    k, v = (torch.randn(1, KV_HEADS, len(visual), CHANNELS, generator=draw) for _ in range(2))
    return q.to(dtype), many(k, HEADS).to(dtype), many(v, HEADS).to(dtype)


def check() -> float:
    """Largest difference between `skipping` and the package's replacement, in float64."""
    visual = layout(40)
    inputs = (*drawn(visual, torch.float64), visual)
    return (skipping(*inputs) - reference(*inputs)).abs().max().item()


def seconds(call: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def timings(n: int, dtype: torch.dtype, repeats: int, rest: Rest) -> list[dict]:
    """One row a way: seconds of the attention and of the rest of the layer, and the largest array of weights in MB."""
    visual = layout(n)
    inputs, x = (*drawn(visual, dtype), visual), torch.randn(1, len(visual), HIDDEN).to(dtype)
    text = BEFORE + AFTER
    ways: dict[str, tuple[Callable, int]] = {
        "eager": (eager, len(visual)),
        "sdpa": (sdpa, 0),
        "skipping": (skipping, text),
        "static": (static(fixed_table(visual, dtype)), text),
    }
    calls: dict[str, Callable[[], Tensor]] = {
        name: (lambda way=way: way(*inputs)) for name, (way, _) in ways.items()
    } | {"rest of the layer": lambda: rest(x)}
    for call in calls.values():
        call()  # warm-up
    taken = [{name: seconds(call) for name, call in calls.items()} for _ in range(repeats)]
    found = {name: statistics.median(t[name] for t in taken) for name in calls}
    return [
        {
            "visual_tokens": n, "tokens": len(visual), "way": name, "attention_s": found[name],
            "rest_s": found["rest of the layer"], "speedup": statistics.median(t["eager"] / t[name] for t in taken),
            "weights_mb": HEADS * len(visual) * keys * inputs[0].element_size() / 2**20,
        }
        for name, (_, keys) in ways.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visual", nargs="+", type=int, default=[144, 576, 1152, 2928], metavar="N")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--out", type=Path, help="also write the rows to this CSV file")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    print(f"skipping against sap:keys=visual,weights=uniform,mass=share, largest difference: {check():.1e}")
    with torch.no_grad():
        rest = Rest().to(dtype)
        rows = pd.DataFrame([row for n in args.visual for row in timings(n, dtype, args.repeats, rest)])
    about = {"dtype": args.dtype, "threads": torch.get_num_threads(), "torch": torch.__version__}
    rows = rows.assign(**about, repeats=args.repeats, date=datetime.date.today().isoformat())
    print(rows.to_string(index=False, float_format="{:.4g}".format))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with paths.replacing(args.out) as partial:
            rows.to_csv(partial, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
