"""Which files a chapter stands on: its share of `lostlib`, by grimp's graph of imports, and the data it declares.

A chapter's header may declare `lost: {data: [data/results/residual*]}`; without it, the chapter stands on all data. The
paper's figures always count. In doubt a file counts: a run too many costs a minute, a stale number the reader's trust.
"""

import ast
from functools import cache
from pathlib import Path

import grimp
import jupytext
import yaml

PACKAGE = "lostlib"
CONFIG = Path(__file__).resolve().parents[1] / "_config.yml"
REPOSITORY = yaml.safe_load(CONFIG.read_text("utf-8"))["repository"]["url"]  # that a chapter's first cell fetches
SMALL = ("data/paper", "data/bench", "data/chance.json", "data/former-verdicts.csv")


def stands_on(chapter: str | Path) -> list[str]:
    """The chapter's code and data files, from the root of the repository, sorted."""
    notebook = jupytext.read(chapter, fmt="py:percent")
    return sorted(code(notebook) | data(notebook.metadata.get("lost", {})))


@cache
def graph() -> grimp.ImportGraph:
    """All imports within the package, also those inside functions."""
    return grimp.build_graph(PACKAGE, cache_dir=None)


def code(notebook) -> set[str]:
    """The package's files that a chapter imports, directly or through others, and the texts beside them."""
    found, queue = set(), [module for cell in notebook.cells if cell.cell_type == "code" for module in named(cell)]
    while queue:
        if (module := queue.pop()) not in found:
            found.add(module)
            queue += graph().find_modules_directly_imported_by(module)
            queue += [module.rpartition(".")[0]] if "." in module else []  # its folder's `__init__` runs first
    places = [Path(*module.split(".")) for module in found]
    files = {path for at in places for path in (at / "__init__.py", at.with_suffix(".py")) if path.exists()}
    return {path.as_posix() for path in files.union(*(one.parent.glob("*.toml") for one in files))}


def named(cell) -> set[str]:
    """The modules that a cell imports; all of them where it takes a name from the package itself, which is lazy."""
    lines = ["" if line[:1] in ("%", "!") else line for line in cell.source.splitlines()]  # without Jupyter's magics
    taken = [
        f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse("\n".join(lines)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    known = graph().modules
    own = [name if name in known else name.rpartition(".")[0] for name in taken if name.split(".")[0] == PACKAGE]
    return set(own) if known.issuperset(own) and PACKAGE not in own else known


def data(declared: dict) -> set[str]:
    """The data files that the chapter's header declares, and the small ones that any chapter may read."""
    patterns = [*declared.get("data", ["data/models", "data/results"]), *SMALL]
    places = [place for pattern in patterns for place in Path().glob(pattern)]
    files = [path for place in places for path in (place, *place.rglob("*"))]
    return {path.as_posix() for path in files if path.is_file()}
