"""Read the stored answers of shipped tables again with today's readers; where nothing changes, tables stay as they are.

What the models said is not measured again: the column `raw` stays, `parsed` and `correct` are what is made of it now.
"""

from collections import Counter
from dataclasses import replace
from functools import cache

from lostlib import paths, tables
from lostlib.benchmarks import Benchmark, load_benchmark


def main() -> None:
    """Say for each table how many of its marks changed."""
    changed = Counter[str]()
    for path in tables.shipped_tables():
        if tables.read_key(path).experiment == "answers" and (count := remark(tables.read(path))):
            changed[path.relative_to(paths.RESULTS).as_posix()] = count
            print(f"{count:>5} {path.relative_to(paths.RESULTS)}")
    print(f"{sum(changed.values())} marks changed in {len(changed)} tables")


def remark(table: tables.Table) -> int:
    """How many marks changed; the table is written where any did."""
    benchmark, rows = _loaded(table.key.benchmark), table.frame
    items = benchmark.items[: len(rows)]
    if [item.uid for item in items] != list(rows["item"]):
        raise ValueError(f"{table.key.path} does not hold the first items of {table.key.benchmark}")
    marks = benchmark.mark(items, rows["raw"].tolist())
    new = rows.assign(parsed=[mark.parsed for mark in marks], correct=[mark.right for mark in marks])
    new = new.astype(rows.dtypes.to_dict())
    differ = (new["parsed"].fillna("") != rows["parsed"].fillna("")) | (new["correct"] != rows["correct"])
    if differ.any():
        tables.write(replace(table, frame=new), paths.RESULTS)
    return int(differ.sum())


@cache
def _loaded(name: str) -> Benchmark:
    return load_benchmark(name, n=1000)


if __name__ == "__main__":
    main()
