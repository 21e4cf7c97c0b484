"""Write `data/chance.json`: among how many answers one can guess, for each item of each mini benchmark."""

import json

from lostlib import paths
from lostlib.benchmarks import NAMESAKES, VERSIONS, load_benchmark, variants


def main() -> None:
    """One digit an item; it takes a minute, because the pictures are made too."""
    names = [(name, name) for name in NAMESAKES]
    names += [(name, f"{name}:variant={one}") for name in NAMESAKES for one in variants(name)[1:]]
    found = {text: (VERSIONS[name], "".join(str(i.guesses) for i in load_benchmark(text).items)) for name, text in names}
    with paths.replacing(paths.CHANCE) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
