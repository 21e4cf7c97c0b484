"""What reaches those who install the package without a checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_wheel_holds_models_tables_and_published_figures(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("lostlib", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    make = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
    ]
    subprocess.run([*make, str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT) for name in ("models", "results", "paper") for path in (ROOT / "data" / name).rglob("*")
    }
    lacking = {str(path) for path in wanted if (ROOT / path).is_file() and f"lostlib/{path.as_posix()}" not in held}
    assert not lacking
    templates = {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("lostlib/**/*.*") if path.suffix in (".md", ".toml")
    }
    assert {"lostlib/data/chance.json", "lostlib/benchmarks/__init__.py", *templates} <= held
