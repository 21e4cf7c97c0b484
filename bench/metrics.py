"""How much faster than the textbook are the metrics, and how far apart are the answers?

    python bench/metrics.py --sizes 600x3584 90x128 --repeats 9        (--thin leaves out the slow half)

Both sides get the same float32 pair (X, X' = X + update) and alternate within one run, so that a busy machine slows
both; the ratio is the median of the ratios of neighbours. There are two textbooks, both in float64.

As typed: torch.linalg.svd with its defaults (square U and V) wherever singular values or vectors are needed, and P_C
and P_R as S×S and H×H matrices; for several updates simply called again.

Thin, the formula as someone writes it who knows what it costs:

- effective_rank: torch.linalg.svdvals(X), then exp of the entropy of the shares.
- rid: thin torch.linalg.svd of X with vectors; U and V cut at the numerical rank; svdvals(X') for the second eRank;
  the projectors applied as X' − U (Uᵀ X') and X' − (X' V) Vᵀ, also where the result is known to be zero.
- rid, 4 updates of one X: the same with that SVD of X computed once; ours holds X in a `Decomposition`.
- TME: P normalised, then the entropy of its rows.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lostlib import metrics

FAMILIES = ("gaussian", "massive", "spread", "duplicates")
CONTROLS = 4


def make(family: str, tokens: int, hidden: int, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """X and CONTROLS updated versions of it, float32 (tokens, hidden)."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, hidden, generator=draw)
    if family == "massive":
        x[:, :3] *= 1e4
    if family == "spread":
        u, s, vh = torch.linalg.svd(x.double(), full_matrices=False)
        x = ((u * torch.logspace(0, -6, len(s), dtype=torch.float64)) @ vh).float()
    if family == "duplicates":
        x = x[torch.arange(tokens) % max(1, 3 * tokens // 4)]
    size = 0.3 * x.norm() / x.numel() ** 0.5
    return x, [x + size * torch.randn(x.shape, generator=draw) for _ in range(CONTROLS)]


def textbook_erank(s: Tensor) -> Tensor:
    p = s / s.sum()
    return torch.special.entr(p).sum().exp()


def textbook_svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(x.double(), full_matrices=False)
    r = int((s > max(x.shape) * torch.finfo(torch.float64).eps * s[0]).sum())
    return u[:, :r], s, vh[:r].mT


def textbook_rid(svd: tuple[Tensor, Tensor, Tensor], x_new: Tensor) -> Tensor:
    (u, s, v), x_new = svd, x_new.double()
    change = (textbook_erank(torch.linalg.svdvals(x_new)) - textbook_erank(s)).abs() / len(s)
    outside = (x_new - u @ (u.mT @ x_new)).norm() + (x_new - (x_new @ v) @ v.mT).norm()
    return change + outside / (2 * x_new.norm())


def typed_erank(x: Tensor) -> Tensor:
    return textbook_erank(torch.linalg.svd(x.double())[1])


def typed_rid(x: Tensor, x_new: Tensor) -> Tensor:
    u, s, vh = torch.linalg.svd(x.double())
    x_new, r = x_new.double(), int((s > max(x.shape) * torch.finfo(torch.float64).eps * s[0]).sum())
    column, row = (torch.eye(len(q), dtype=q.dtype) - q[:, :r] @ q[:, :r].mT for q in (u, vh.mT))
    change = (typed_erank(x_new) - textbook_erank(s)).abs() / len(s)
    return change + ((column @ x_new).norm() + (x_new @ row).norm()) / (2 * x_new.norm())


def textbook_tme(x: Tensor) -> Tensor:
    unit = x.double() / x.double().norm(dim=1, keepdim=True)
    k = ((unit @ unit.mT + 1) / 2).clamp(0, 1)
    p = k / k.sum(1, keepdim=True)
    return -torch.xlogy(p, p).sum(1).mean()


def cases(x: Tensor, new: list[Tensor], thin: bool) -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    """Name -> (ours, textbook)."""

    def ours_many() -> Tensor:
        prepared = metrics.Decomposition(x)
        return torch.stack([metrics.rid(prepared, x_new).total for x_new in new])

    def textbook_many() -> Tensor:
        prepared = textbook_svd(x)
        return torch.stack([textbook_rid(prepared, x_new) for x_new in new])

    def ours() -> Tensor:
        return metrics.rid(x, new[0]).total

    table = {
        "effective_rank, thin": (
            lambda: metrics.effective_rank(x),
            lambda: textbook_erank(torch.linalg.svdvals(x.double())),
        ),
        "rid, thin": (ours, lambda: textbook_rid(textbook_svd(x), new[0])),
        f"rid, {CONTROLS} updates of one X, thin": (ours_many, textbook_many),
        "token_mixing_entropy": (lambda: metrics.token_mixing_entropy(x), lambda: textbook_tme(x)),
    }
    if not thin:
        table["effective_rank, as typed"] = (lambda: metrics.effective_rank(x), lambda: typed_erank(x))
        table["rid, as typed"] = (ours, lambda: typed_rid(x, new[0]))
        table[f"rid, {CONTROLS} updates, as typed"] = (
            ours_many,
            lambda: torch.stack([typed_rid(x, x_new) for x_new in new]),
        )
    return table


def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def compare(ours: Callable[[], Tensor], textbook: Callable[[], Tensor], repeats: int) -> str:
    apart = (timed(ours)[1] - timed(textbook)[1]).abs().max().item()  # also the warm-up
    pairs = [(timed(ours)[0], timed(textbook)[0]) for _ in range(repeats)]
    ratio = statistics.median(slow / fast for fast, slow in pairs)
    fast, slow = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    return f"{fast:9.2f} ms {slow:9.2f} ms {ratio:8.1f} x   {apart:.1e}"


def size(text: str) -> tuple[int, int]:
    tokens, hidden = text.lower().split("x")
    return int(tokens), int(hidden)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=size, default=[(600, 3584), (90, 128)], metavar="SxH")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=["gaussian", "massive"])
    parser.add_argument("--thin", action="store_true", help="only against the thin formulas, which are quicker")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {args.repeats}")
    for tokens, hidden in args.sizes:
        for family in args.families:
            title = f"{tokens}x{hidden} {family}"
            print(f"\n{title:30s} {'ours':>12s} {'textbook':>12s} {'ratio':>10s}   max |difference|")
            for name, (ours, textbook) in cases(*make(family, tokens, hidden), args.thin).items():
                print(f"{name:30s} {compare(ours, textbook, args.repeats)}")


if __name__ == "__main__":
    main()
