"""What is committed: notebooks and their sources, the lock and environment.yml, the graph, the table of contents."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from run_chapter import default_parameters, read_source  # noqa: E402  tools is no package

SOURCES = sorted(ROOT.glob("notebooks/*.py"))
MACHINE = re.compile(r"/(home|root|Users|tmp|work|opt|usr|var)/|site-packages| at 0x[0-9a-f]{6,}")
chapters = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def cells(notebook) -> list[tuple]:
    """What must agree between a source and its notebook; parameters given to one run are left out."""
    return [
        (cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ())))
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", ())
    ]


@chapters
def test_the_committed_notebook_is_its_source(source: Path):
    product = source.with_suffix(".ipynb")
    assert product.exists(), f"{product.name} is missing: make publish"
    assert cells(nbformat.read(product, 4)) == cells(read_source(source)), f"{product.name} is old: make publish"


def test_every_committed_notebook_has_a_source():
    assert {p.stem for p in ROOT.glob("notebooks/*.ipynb")} <= {p.stem for p in SOURCES}


@chapters
def test_the_committed_notebook_is_clean(source: Path):
    notebook = nbformat.read(source.with_suffix(".ipynb"), 4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert outputs, "it has not been executed"
    assert "measured now:" not in nbformat.writes(notebook), "data/results lacks what it reads: make tables"
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    for output in outputs:
        data = output.get("data", {}) | {"text": output.get("text", "")}
        text = "".join(json.dumps(value) for kind, value in data.items() if not kind.startswith("image/"))
        assert not (found := MACHINE.search(text)), f"{found[0]!r} in an output: {text[:200]}"


@chapters
def test_the_parameters_are_plain_and_checked(source: Path):
    notebook = read_source(source)
    parameters = default_parameters(notebook)  # raises on anything but `name = literal`
    assert {"model", "benchmark", "n_items", "seed", "device"} <= parameters.keys()
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    following = next(cell for cell in notebook.cells[place + 1 :] if cell.cell_type == "code")
    assert re.search(r"check_parameters\(\s*globals\(\)", following.source)


def test_conda_installs_what_the_lock_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    assert {re.split("[=<>]", entry)[0] for entry in conda} == {"python", "pip"}  # all else is in the lock
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    python = conda[0].split("=")[-1]
    assert tuple(map(int, python.split("."))) >= tuple(map(int, needs.split(".")))


def test_the_lock_pins_every_declared_package():
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] not in "#-"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+(\s*;.*)?", pin) for pin in pins), "name==version, no local build tag"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert extras.pop("class") == ["jupyterlab>=4,<5"]  # an interface, with which nothing is computed
    assert extras.pop("slurm")  # whoever has no cluster needs none of it
    declared = sum(extras.values(), project["dependencies"])
    names = {re.split(r"[<>=\[; ]", entry)[0].lower().replace("_", "-") for entry in declared}
    assert names <= {pin.split("==")[0].lower().replace("_", "-") for pin in pins}


def test_the_table_of_contents_names_every_chapter_once():
    toc = (ROOT / "_toc.yml").read_text()
    named = re.findall(r"(?:file|root): (\S+)", toc)
    assert len(named) == len(set(named))
    assert {f"notebooks/{path.stem}" for path in SOURCES} <= set(named)
    assert all(list(ROOT.glob(f"{name}.*")) for name in named)


def test_the_graph_is_sound():
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock", "--quiet", "all", "--forceall", "book"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_chapter_stands_on_what_it_imports_and_declares(tmp_path: Path):
    files = {
        "lostlib/__init__.py": "",
        "lostlib/report.py": "def show():\n    from lostlib.stats import interval",
        "lostlib/stats.py": "",
        "lostlib/metrics.py": "from lostlib import made_by_magic",
        "lostlib/bench/__init__.py": "",
        "lostlib/bench/pope.py": "from lostlib import stats",
        "lostlib/bench/words.toml": "",
        "data/results/residual-a.parquet": "",
        "data/results/sinks-a.parquet": "",
        "data/paper/a.csv": "",
        "one.py": "# ---\n# jupyter:\n#   lost:\n#     data: [data/results/residual*]\n# ---\n"
        "# %%\n%matplotlib inline\nfrom lostlib import report",
        "two.py": "# %%\nimport lostlib.bench.pope",
        "three.py": "# %%\nimport lostlib\nlostlib.rid()",
        "four.py": "# %%\nfrom lostlib import made_by_magic",
        "five.py": "# %%\nfrom lostlib.metrics import rid",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    sources = [name for name in files if "/" not in name]
    asked = f"import depends, json; print(json.dumps([depends.stands_on(name) for name in {sources}]))"
    where = os.environ | {"PYTHONPATH": str(ROOT / "tools")}
    told = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, env=where, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    one, two, three, four, five = map(set, json.loads(told.stdout))
    package = "lostlib/__init__.py"
    code, results = ({name for name in files if name.startswith(kind)} for kind in ("lostlib/", "data/"))
    assert one & code == {package, "lostlib/report.py", "lostlib/stats.py"}
    assert one - code == {"data/results/residual-a.parquet", "data/paper/a.csv"}
    own = {"lostlib/bench/__init__.py", "lostlib/bench/pope.py", "lostlib/bench/words.toml"}
    assert two & code == {package, "lostlib/stats.py"} | own
    assert three & code == four & code == code
    assert five & code == {package, "lostlib/metrics.py"}
    assert results <= two & three & four & five
