"""Run Snakemake: `python tools/dag.py TARGET OPTIONS…`.

One run at a time makes chapters and pages. The lock is the operating system's, so a killed run leaves none behind;
Snakemake's own would stay and is left out. Measuring needs none: runs have stamps of their own, and tables are replaced
whole. Since it takes long, it says what it is at.
"""

import fcntl
import os
import sys
from pathlib import Path

OPTIONS = ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "params", "input", "code"]


def main(target: str, *arguments: str) -> None:
    """Wait for any other run that makes pages in this folder, then become Snakemake."""
    Path("_build").mkdir(exist_ok=True)
    quiet = ["host", "reason"] if target == "measure" else ["all"]
    if target != "measure":
        lock = os.open("_build/.lock", os.O_CREAT | os.O_RDWR)
        os.set_inheritable(lock, True)  # held for as long as Snakemake lives
        fcntl.flock(lock, fcntl.LOCK_EX)
    if not os.access(Path("~").expanduser(), os.W_OK):  # a container may have no home
        os.environ["HOME"] = str(Path("_build/home").resolve())
    command = [sys.executable, "-m", "snakemake", target, *arguments, *OPTIONS, "--quiet", *quiet]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main(*sys.argv[1:])
