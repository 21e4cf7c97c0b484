"""Run Snakemake: `python tools/dag.py TARGET OPTIONS…`.

One run at a time makes chapters and pages. The locks are the operating system's, so a killed run leaves none behind;
Snakemake's own would stay and is left out. What makes a product lives no longer than its run, and the next run waits
until it is gone. Measuring needs none of this: runs have stamps of their own, and tables are replaced whole. Since it
takes long, it says what it is at.
"""

import fcntl
import os
import re
import sys
import threading
import time
from pathlib import Path

OPTIONS = ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "params", "input", "code"]
RUN = "LOST_RUN"  # in the environment: the process id of the run that a job belongs to
RUNS, JOBS = "_build/.lock", "_build/.jobs"  # held by the one run alone; shared by the jobs of a run


def hold(path: str, how: int) -> int:
    """Wait for a lock, and hold it until this process ends or closes the file."""
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    fcntl.flock(file, how)
    return file


def belong() -> None:
    """End this process when its run does; called by what makes products, which a run starts with `exec`.

    Once it has the jobs' lock no other run begins; and if its run is there even then, none has begun before.
    """
    if RUN not in os.environ:
        return  # started by hand
    run = int(os.environ[RUN])
    os.set_inheritable(hold(JOBS, fcntl.LOCK_SH), True)  # for processes of its own, a kernel for one
    if os.getppid() != run:
        sys.exit("the run that this job belongs to has ended")

    def watch() -> None:
        while os.getppid() == run:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def words(argument: str) -> list[str]:
    """`a=1 b=2` as two words; a value keeps its blanks and quotes.

    >>> words("model=a' || touch x n=5")
    ["model=a' || touch x", 'n=5']
    """
    return re.split(r"\s+(?=[A-Za-z]\w*=)", argument.strip()) if "=" in argument else [argument]


def main(target: str, *arguments: str) -> None:
    """Wait for any other run that makes pages in this folder, then become Snakemake."""
    Path("_build").mkdir(exist_ok=True)
    quiet = ["host", "reason"] if target == "measure" else ["all"]
    if target != "measure":
        os.set_inheritable(hold(RUNS, fcntl.LOCK_EX), True)  # held for as long as Snakemake lives
        os.close(hold(JOBS, fcntl.LOCK_EX))  # no job is left of a run that was killed
        os.environ[RUN] = str(os.getpid())
    if not os.access(Path("~").expanduser(), os.W_OK):  # a container may have no home
        os.environ["HOME"] = str(Path("_build/home").resolve())
    given = [word for argument in arguments for word in words(argument)]
    command = [sys.executable, "-m", "snakemake", target, *given, *OPTIONS, "--quiet", *quiet]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main(*sys.argv[1:])
