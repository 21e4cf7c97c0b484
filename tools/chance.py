"""Write `data/chance.json`: among how many answers one can guess, for each item of each mini benchmark."""

import json

from lostlib import paths
from lostlib.benchmarks import RULES, load_benchmark


def main() -> None:
    """One digit an item; it takes a minute, because the pictures are made too."""
    minis = {name: rules for name, rules in RULES.items() if rules.mini}
    others = (f"{name}:variant={one}" for name, rules in minis.items() for one in rules.variants[1:])
    names = [*minis, *others]
    found = {}
    for name in names:
        made = load_benchmark(name)
        found[name] = made.rules.version, "".join(str(item.guesses) for item in made.items)
    with paths.replacing(paths.CHANCE) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
