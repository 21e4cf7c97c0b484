"""Write `data/chance.json`: among how many answers one can guess, for each item of each mini benchmark."""

import json

from lostlib import paths
from lostlib.benchmarks import NAMESAKES, VERSIONS, load_benchmark


def main() -> None:
    """One digit an item; it takes a minute, because the pictures are made too."""
    found = {name: (VERSIONS[name], "".join(str(i.guesses) for i in load_benchmark(name).items)) for name in NAMESAKES}
    with paths.replacing(paths.CHANCE) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
