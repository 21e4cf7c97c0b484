"""What residual metrics cost per item and layer: each update by the textbook, each update alone, and as the loop does.

    python bench/residual.py --sizes 620x4096 1300x3584 --layers 2      (--no-svd leaves out the textbook, the slowest)

The stream is synthetic, float32, one sequence of so many tokens: massive activations (three tokens hold 1e3 times the
others' size in two dimensions), or also 36 identical rows where it enters, as LLaVA-NeXT's newlines are. Each layer has
five updates: attention and the FFN; Gaussian noise and another attention in its place; another mid stream compared with
the true one, as position encoding is. All three get the same arrays one after the other, in one run and one process.

- textbook: each update's matrices decomposed separately, in float64: thin SVD of X with vectors, singular values of
  X', projections X' − U (Uᵀ X') and X' − (X' V) Vᵀ, and TME of both from normalised rows
- alone: `lostlib.rid`, `token_mixing_entropy` and `effective_rank` called for each update
- loop: what `residual_metrics` does in each layer: what several updates share, and what leaves a layer and enters the
  next, is decomposed once
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import torch
from torch import Tensor

from lostlib import metrics
from lostlib.experiments.measures import check_measures
from lostlib.experiments.residual import Part, _Rows
from lostlib.models.stream import LayerStream

KINDS = ("massive", "identical")
NEWLINES = 36
UPDATES = (*(("attn", control, 0) for control in ("none", "noise_delta", "noise_qkv", "no_rope")), ("ffn", "none", 0))

Layer = tuple[LayerStream, dict]
Figures = tuple[float, float, float, float]  # RID, MixIG, eRank after and before


def stream(kind: str, tokens: int, hidden: int, layers: int, seed: int = 0) -> Iterator[Layer]:
    """Layer by layer what the loop sees: the stream, (1, S, H) each, and the updates of it."""
    draw = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(1, tokens, hidden, generator=draw)

    post = normal()
    post[0, [0, tokens // 3, tokens // 2], :2] *= 1e3
    if kind == "identical":
        post[0, torch.linspace(1, tokens - 1, min(NEWLINES, tokens // 2)).long()] = post[0, -1].clone()
    for _ in range(layers):
        pre = post
        mid, noise, qkv, still = (pre + 0.3 * normal() for _ in range(4))
        post = mid + 0.3 * normal()
        pairs = ((pre, mid), (pre, noise), (pre, qkv), (still, mid), (mid, post))
        yield LayerStream(resid_pre=pre, resid_mid=mid, resid_post=post), dict(zip(UPDATES, pairs, strict=True))


def textbook(x: Tensor, x_new: Tensor) -> Figures:
    x, x_new = x.double(), x_new.double()
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    r = int((s > max(x.shape) * torch.finfo(torch.float64).eps * s[0]).sum())
    u, v = u[:, :r], vh[:r].mT
    after, before = (float(torch.special.entr(q / q.sum()).sum().exp()) for q in (torch.linalg.svdvals(x_new), s))
    outside = (x_new - u @ (u.mT @ x_new)).norm() + (x_new - (x_new @ v) @ v.mT).norm()
    innovation = abs(after - before) / len(s) + float(outside / (2 * x_new.norm()))
    return innovation, textbook_tme(x_new) - textbook_tme(x), after, before


def textbook_tme(x: Tensor) -> float:
    unit = x / x.norm(dim=1, keepdim=True)
    k = ((unit @ unit.mT + 1) / 2).clamp(0, 1)
    p = k / k.sum(1, keepdim=True)
    return float(-torch.xlogy(p, p).sum(1).mean())


def alone(x: Tensor, x_new: Tensor) -> Figures:
    before, after = metrics.Decomposition(x), metrics.Decomposition(x_new)
    innovation = float(metrics.rid(before, after).total)
    gain = float(metrics.mixing_information_gain(x, x_new))
    return innovation, gain, float(metrics.effective_rank(after)), float(metrics.effective_rank(before))


def one_by_one(layers: list[Layer], measure: Callable[[Tensor, Tensor], Figures]) -> list[Figures]:
    return [measure(x[0], x_new[0]) for _, updates in layers for x, x_new in updates.values()]


def loop(layers: list[Layer]) -> list[Figures]:
    batch = SimpleNamespace(item_ids=["item"], real=torch.ones(layers[0][0].resid_pre.shape[:2], dtype=torch.bool))
    of_pass, found = _Rows(batch, check_measures("numerical", "nats", False), Part()), []
    for number, (activations, updates) in enumerate(layers):
        for row in of_pass.of(number, activations, updates):
            found.append(tuple(row[name] for name in ("rid", "mixig", "erank", "erank_before")))
    return found


def size(text: str) -> tuple[int, int]:
    tokens, hidden = text.lower().split("x")
    return int(tokens), int(hidden)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=size, default=[(620, 4096), (1300, 3584)], metavar="SxH")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--no-svd", action="store_true", help="without the textbook, which takes minutes a layer")
    args = parser.parse_args()
    ways = {"loop": loop, "alone": lambda layers: one_by_one(layers, alone)}
    if not args.no_svd:
        ways["textbook"] = lambda layers: one_by_one(layers, textbook)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.layers} layers, median of {args.repeats}"
    )
    for tokens, hidden in args.sizes:
        for kind in KINDS:
            layers = list(stream(kind, tokens, hidden, args.layers))
            times, figures = {name: list[float]() for name in ways}, {}
            for _ in range(args.repeats):
                for name, way in ways.items():
                    began = time.perf_counter()
                    figures[name] = torch.tensor(way(layers), dtype=torch.float64)
                    times[name].append(time.perf_counter() - began)
            print(
                f"\n{f'{tokens}x{hidden} {kind}':24s}{'a layer':>13s}{'as much as the loop':>22s}   largest difference"
            )
            for name in ways:
                took = statistics.median(times[name]) / args.layers
                ratio = statistics.median(a / b for a, b in zip(times[name], times["loop"], strict=True))
                apart = ((figures[name] - figures["loop"]).abs() / figures["loop"].abs().clamp(min=1)).max()
                print(f"{name:24s}{took:11.4f} s{ratio:20.1f} x   {apart:.1e}")


if __name__ == "__main__":
    main()
