"""What does keeping memory save? Answers with glibc's defaults, and with `lostlib.machine.keep_memory`, in turns.

    python bench/answering.py --benchmark mini-mmmu --n 64 --repeats 3

Each timing is a process of its own, because memory once kept stays kept; loading and a first batch are not counted. The
answers must be the same.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

INTERVENTIONS = ("none", "sap:keys=visual,weights=gaussian")


def once(model: str, benchmark: str, n: int, keep: bool) -> dict:
    """Seconds for each intervention, and what was said, in this process."""
    from lostlib import intervene, load_benchmark, load_model
    from lostlib.machine import keep_memory

    if keep:
        keep_memory()
    loaded, items = load_model(model), load_benchmark(benchmark, n=n).items
    loaded.answer(items[:8])
    seconds, said = {}, {}
    for intervention in INTERVENTIONS:
        start = time.perf_counter()
        with intervene(loaded, intervention, seed=0):
            said[intervention] = loaded.answer(items)
        seconds[intervention] = time.perf_counter() - start
    return {"seconds": seconds, "said": said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini-llava-1.5")
    parser.add_argument("--benchmark", default="mini-mmmu")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", choices=("yes", "no"), help="time once, in this process, and print JSON")
    args = parser.parse_args()
    if args.keep:
        print(json.dumps(once(args.model, args.benchmark, args.n, args.keep == "yes")))
        return
    command = [sys.executable, __file__, "--model", args.model, "--benchmark", args.benchmark, "--n", str(args.n)]
    found: dict[str, list[dict]] = {"no": [], "yes": []}
    for _ in range(args.repeats):
        for keep, runs in found.items():
            done = subprocess.run([*command, "--keep", keep], capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    assert len({json.dumps(run["said"]) for runs in found.values() for run in runs}) == 1, "the answers differ"
    for intervention in INTERVENTIONS:
        default, kept = ([run["seconds"][intervention] for run in runs] for runs in found.values())
        ratio = statistics.median(a / b for a, b in zip(default, kept, strict=True))
        print(
            f"{intervention}: {statistics.median(default):.2f} s, kept {statistics.median(kept):.2f} s, {ratio:.1f} x"
        )


if __name__ == "__main__":
    main()
