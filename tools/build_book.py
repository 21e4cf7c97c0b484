"""Build the book: put pages and executed chapters side by side in `_build/src`, then run Jupyter Book on them.

Always from nothing: it takes seconds, and a page can then never show last time's number.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dag
import pandas as pd

from lostlib import tables

BUILD = Path("_build")
SOURCE, RUN = BUILD / "src", BUILD / "run" / "notebooks"


def assemble() -> None:
    """Lay out the book's source like the repository, with the notebooks of this run."""
    for stale in (SOURCE, BUILD / "html", BUILD / ".doctrees"):
        shutil.rmtree(stale, ignore_errors=True)
    shutil.copytree("book", SOURCE / "book", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("_config.yml", SOURCE)
    (SOURCE / "book/intro.md").rename(SOURCE / "index.md")  # or index.html would only lead on to it
    (SOURCE / "_toc.yml").write_text(Path("_toc.yml").read_text().replace("root: book/intro", "root: index"))
    for card in Path("data/models").glob("*/README.md"):  # the book includes the models' cards
        (SOURCE / card.parent).mkdir(parents=True)
        shutil.copy(card, SOURCE / card)
    for chapter in sorted(Path("notebooks").glob("*.py")):  # and no chapter that is no longer there
        for made in RUN.glob(f"{chapter.stem}.*"):
            (SOURCE / "notebooks").mkdir(exist_ok=True)
            shutil.copy(made, SOURCE / "notebooks")
        if (files := RUN / f"{chapter.stem}_files").exists():
            shutil.copytree(files, SOURCE / "notebooks" / files.name)


def manifests() -> pd.DataFrame:
    """One line a shipped table: its manifest, how many rows it has and its file."""
    lines = []
    for path in tables.shipped_tables():
        table = tables.read(path)
        about = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in table.manifest.items()}
        file = path.relative_to(tables.paths.RESULTS).as_posix()
        lines.append(about | {"rows": len(table.frame), "file": file})
    return pd.DataFrame(lines).drop(columns=["source", "name"])


def main() -> int:
    """Build; any warning fails, all are shown."""
    dag.belong()
    assemble()
    manifests().to_csv(SOURCE / "book" / "tables.csv", index=False)
    options = ["-W", "-n", "--keep-going", "-q", "--path-output", "."]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    jupyter_book = str(Path(sys.executable).with_name("jupyter-book"))
    command = [jupyter_book, "build", str(SOURCE), *options]
    return subprocess.run(command, env=environment, check=False, close_fds=False).returncode  # the lock goes along


if __name__ == "__main__":
    sys.exit(main())
