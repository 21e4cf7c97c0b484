"""Run Snakemake, one at a time: `python tools/dag.py TARGET OPTIONS…`.

The lock is the operating system's, so a killed run leaves none behind; Snakemake's own would stay and is left out.
"""

import fcntl
import os
import sys
from pathlib import Path

OPTIONS = ["--nolock", "--rerun-incomplete", "--quiet", "all", "--rerun-triggers", "mtime", "params", "input", "code"]


def main(*arguments: str) -> None:
    """Wait for any other run in this folder, then become Snakemake."""
    Path("_build").mkdir(exist_ok=True)
    lock = os.open("_build/.lock", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(lock, True)  # held for as long as Snakemake lives
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not os.access(Path("~").expanduser(), os.W_OK):  # a container may have no home
        os.environ["HOME"] = str(Path("_build/home").resolve())
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *arguments, *OPTIONS])


if __name__ == "__main__":
    main(*sys.argv[1:])
