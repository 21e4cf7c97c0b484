"""Which files a chapter stands on: its share of `lostlib`, found by reading imports, and the data it declares.

A chapter's header may declare `lost: {data: [data/results/residual*]}`; without it, the chapter stands on all data. The
paper's figures always count. In doubt a file counts: a run too many costs a minute, a stale number the reader's trust.
"""

import ast
from collections.abc import Iterable
from pathlib import Path

import jupytext
import yaml

PACKAGE = "lostlib"
CONFIG = Path(__file__).resolve().parents[1] / "_config.yml"
REPOSITORY = yaml.safe_load(CONFIG.read_text("utf-8"))["repository"]["url"]  # that a chapter's first cell fetches
SMALL = ("data/paper", "data/bench", "data/chance.json")


def stands_on(chapter: str | Path, root: Path = Path(".")) -> list[str]:
    """The chapter's code and data files under `root`, sorted."""
    files = modules(root / chapter, root) | data(root / chapter, root)
    return sorted(path.relative_to(root).as_posix() for path in files)


def modules(source: Path, root: Path) -> set[Path]:
    """The package's files that the source imports, directly or through others."""
    found: set[Path] = set()
    queue = [source]
    while queue:
        fresh = imports(queue.pop(), root) - found
        found |= fresh
        queue += fresh
    return found


def imports(source: Path, root: Path) -> set[Path]:
    """The package's files that one file imports, also inside functions."""
    lines = source.read_text("utf-8").splitlines()
    tree = ast.parse("\n".join("" if line[:1] in ("%", "!") else line for line in lines))  # without Jupyter's magics
    found: set[Path] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == PACKAGE):
            folder = source.parents[node.level - 1] if node.level else root
            where = folder.joinpath(*(node.module or "").split("."))
            found |= named(where, {alias.name for alias in node.names}, root)
        elif isinstance(node, ast.Import):
            for parts in (alias.name.split(".") for alias in node.names if alias.name.split(".")[0] == PACKAGE):
                found |= package(root.joinpath(*parts), root) if parts[1:] else named(root / PACKAGE, used(tree), root)
    return found


def used(tree: ast.AST) -> set[str]:
    """The names that a file takes from `lostlib.name`."""
    places = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return {node.attr for node in places if isinstance(node.value, ast.Name) and node.value.id == PACKAGE}


def named(where: Path, names: Iterable[str], root: Path) -> set[Path]:
    """`from where import names`: modules, or names that live in a module, or lazily in one below the package."""
    found = package(where, root)
    for name in names:
        module = where / name
        if module.is_dir() or module.with_suffix(".py").exists():
            found |= package(module, root)
        elif where == root / PACKAGE:
            found |= homes(name, where) or set(where.rglob("*.py"))
    return found


def homes(name: str, folder: Path) -> set[Path]:
    """The modules whose top level defines a name."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {
        path
        for path in folder.rglob("*.py")
        if any(isinstance(node, kinds) and node.name == name for node in ast.parse(path.read_text("utf-8")).body)
    }


def package(module: Path, root: Path) -> set[Path]:
    """A module and the `__init__` files on the way to it."""
    above = {folder / "__init__.py" for folder in (module, *module.parents) if folder.is_relative_to(root / PACKAGE)}
    return {path for path in above | {module.with_suffix(".py")} if path.exists()}


def data(source: Path, root: Path) -> set[Path]:
    """The data files that the chapter's header declares, and the small ones that any chapter may read."""
    header = jupytext.read(source, fmt="py:percent").metadata
    declared = header.get("lost", {}).get("data", ["data/models", "data/results"])
    places = [place for pattern in [*declared, *SMALL] for place in root.glob(pattern)]
    return {path for place in places for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file()}
