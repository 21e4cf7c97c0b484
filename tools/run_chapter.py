"""Run one chapter: `python tools/run_chapter.py notebooks/x.py OUT/x.ipynb '{"n_items": 50}'`.

1. Read the py:percent source; 2. run it through papermill on a private kernel; 3. normalise the notebook, so that the
same inputs give the same bytes; 4. write the notebook, what it drew (OUT/x_files/) and a sidecar OUT/x.json with the
clock, versions and parameters that the notebook itself must not hold.
"""

import ast
import hashlib
import json
import logging
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dag
import jupytext
import nbformat
import papermill
from depends import REPOSITORY
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError, strip_color

from lostlib.paths import replacing

SHOWN_VERSIONS = ("lostlib", "torch", "transformers", "numpy", "pandas", "matplotlib")
QUIET = {
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


SETUP = f"""\
# In Colab this fetches the project with its data; where lostlib is installed it does nothing.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("lostlib") is None:
    _url = "{REPOSITORY}"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", _url, "lost-in-attention"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", "lost-in-attention[measure]"], check=True)
    sys.path.insert(0, "lost-in-attention")  # the running kernel does not see the installation by itself"""


class PrivateKernel(AsyncKernelManager):
    """A kernel on sockets of its own: ipc warns of no open port, a fresh path keeps parallel runs apart."""

    def __init__(self, **settings):
        super().__init__(transport="ipc", ip=tempfile.mkdtemp() + "/k", **settings)

    async def _async_pre_start_kernel(self, **settings):
        return await super()._async_pre_start_kernel(**settings, close_fds=False)  # it holds its run's lock too


HOW = {
    "progress_bar": False,
    "start_timeout": 300,
    "kernel_manager_class": PrivateKernel,
    "extra_arguments": ["--log-level=50"],  # else a kernel that is told to stop may say that this is an error
}


def read_source(path: Path) -> NotebookNode:
    """The chapter as an unexecuted notebook with stable cell ids, fit for `papermill`, for Jupyter and for Colab."""
    nb = jupytext.read(path, fmt="py:percent")
    first = next(number for number, cell in enumerate(nb.cells) if cell.cell_type == "code")
    nb.cells.insert(first, nbformat.v4.new_code_cell(SETUP, metadata={"tags": ["remove-cell"]}))
    nb.metadata.pop("jupytext", None)
    nb.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, cell in enumerate(nb.cells):
        cell.id = f"cell-{number:03d}"
    return nb


def default_parameters(nb: NotebookNode) -> dict[str, object]:
    """The plain `name = literal` lines of the parameters cell; anything else in it is an error."""
    (cell,) = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(cell.source).body}


def normalise(nb: NotebookNode) -> NotebookNode:
    """Take out clocks, versions and chance: what is left depends on the chapter's inputs only."""
    nb.metadata = {key: nb.metadata[key] for key in ("kernelspec", "lost") if key in nb.metadata}
    nb.metadata["language_info"] = {"name": "python", "file_extension": ".py", "pygments_lexer": "ipython3"}
    for number, cell in enumerate(nb.cells):
        cell.id = f"cell-{number:03d}"
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
    return nbformat.from_dict(nb)


def merge_streams(outputs: list) -> list:
    """Adjoining pieces of stdout become one: where they are cut is chance."""
    merged: list = []
    for output in outputs:
        if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def quiet_environment(scratch: str, files: Path) -> None:
    """What the kernel inherits: no progress bars, no personal start-up files, no download unless asked for."""
    os.environ.update(QUIET, IPYTHONDIR=f"{scratch}/ipython", LOST_FILES=str(files.resolve()))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("MPLCONFIGDIR", str(Path("_build/cache/matplotlib").resolve()))
    os.environ.pop("MPLBACKEND", None)  # with agg, figures would silently become text
    logging.getLogger("papermill").setLevel(logging.ERROR)


def run(source: Path, out: Path, given: dict) -> None:
    """Run the chapter and write its notebook last, so that a notebook that is there is whole."""
    files = out.with_name(f"{out.stem}_files")
    files.mkdir(parents=True, exist_ok=True)
    nb, started = read_source(source), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        quiet_environment(scratch, files)
        tempfile.tempdir = scratch  # the kernel's sockets go away with it
        done = papermill.execute_notebook(nb, None, given, **HOW)
    sidecar = {
        "source": source.as_posix(),
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "parameters": default_parameters(nb) | given,
        "seconds": round(time.monotonic() - started, 1),
        "python": platform.python_version(),
        "hardware": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "versions": {name: found for name in SHOWN_VERSIONS if (found := installed(name))},
    }
    texts = {out.with_suffix(".json"): json.dumps(sidecar, indent=1), out: nbformat.writes(normalise(done))}
    for path, text in texts.items():
        with replacing(path) as partial:
            partial.write_text(text + "\n")


def installed(package: str) -> str | None:
    """The package's version, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main(source: str, out: str, given: str = "{}") -> str | None:
    """Run a chapter; give back what went wrong, in words for its author."""
    dag.belong()
    try:
        run(Path(source), Path(out), json.loads(given))
        print(f"{source} has run", flush=True)
    except PapermillExecutionError as error:
        trace = strip_color("\n".join(error.traceback))
        return f"{trace}\n\n{source} stopped at cell {error.cell_index}: {error.ename}: {error.evalue}"
    except DeadKernelError:
        return f"{source}: its process died, most likely for want of memory; try a smaller n_items or model."
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
