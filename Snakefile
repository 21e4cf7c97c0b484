"""The one graph: a chapter's source, code and data -> its executed notebook -> the book; measure.smk makes the data."""

import json
import sys
from pathlib import Path

sys.path.insert(0, "tools")
from depends import REPOSITORY, stands_on

from lostlib.paths import replacing

PYTHON = sys.executable
RUN = "_build/run/notebooks"  # what runs write; only `publish` touches the committed notebooks
CHAPTERS = sorted(path.stem for path in Path("notebooks").glob("*.py"))
NOTEBOOKS = [f"{RUN}/{chapter}.ipynb" for chapter in CHAPTERS]
PAGES = ["_config.yml", "_toc.yml"] + sorted(
    path.as_posix() for path in Path("book").rglob("*") if path.is_file() and path.suffix != ".pyc"
)
LIBRARY = sorted(path.as_posix() for path in Path("lostlib").rglob("*.py"))  # the API reference is made of it
CARDS = sorted(path.as_posix() for path in Path("data/models").glob("*/README.md"))
TABLES = sorted(path.as_posix() for path in Path("data/results").rglob("*.parquet"))
LOCK = [path for path in ["requirements.lock"] if Path(path).exists()]

wildcard_constraints:
    chapter="[^/]+",

localrules: book, chapters, publish

rule book:
    input: "_build/html/index.html"

rule chapters:
    input: NOTEBOOKS

rule chapter:
    input:
        "tools/run_chapter.py", LOCK, lambda w: stands_on(f"notebooks/{w.chapter}.py"),
        source="notebooks/{chapter}.py",
    params:
        given=json.dumps(config, sort_keys=True),  # `make book PARAMETERS="n_items=50"`
        fetched_from=REPOSITORY,  # by a chapter's first cell
    output:
        notebook=f"{RUN}/{{chapter}}.ipynb",
        sidecar=f"{RUN}/{{chapter}}.json",
        files=directory(f"{RUN}/{{chapter}}_files"),
    shell: "exec {PYTHON:q} tools/run_chapter.py {input.source:q} {output.notebook:q} {params.given:q}"

rule html:
    input: LOCK, PAGES, LIBRARY, CARDS, TABLES, NOTEBOOKS, tool="tools/build_book.py"
    output: "_build/html/index.html"
    shell: "exec {PYTHON:q} {input.tool:q}"

rule publish:
    input: NOTEBOOKS
    run:
        products = {Path(notebook): Path("notebooks") / Path(notebook).name for notebook in input}
        picture = Path(RUN) / "rq3-reconfiguration_files/fig-sap.svg"  # the README's first picture
        for made, committed in (products | {picture: Path("docs/first-picture.svg")}).items():
            if not committed.exists() or committed.read_bytes() != made.read_bytes():
                with replacing(committed) as partial:
                    partial.write_bytes(made.read_bytes())
                print(f"{committed} is new")

include: "measure.smk"
