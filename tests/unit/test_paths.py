"""Files and folders appear whole or not at all, whenever a process is killed, and what it leaves does not stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lostlib import paths
from lostlib.tables import Key

DAY = 24 * 3600
KILLED = """
import os, signal, sys
from pathlib import Path
from lostlib import paths
folder, kill_at, original = Path(sys.argv[1]), int(sys.argv[2]), os.replace
renamings = []
def replace(*names):
    if len(renamings) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    renamings.append(names)
    original(*names)
os.replace = replace
with paths.replacing(folder) as partial:
    partial.mkdir()
    for name in "ab":
        (partial / name).write_text("new")
    if kill_at < 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def write_folder(folder: Path, text: str) -> None:
    with paths.replacing(folder) as partial:
        partial.mkdir()
        for name in "ab":
            (partial / name).write_text(text)


def held(folder: Path) -> list[str]:
    return [file.read_text() for file in sorted(folder.iterdir())]


def age(path: Path, days: float) -> None:
    for one in (path, *path.rglob("*")):
        os.utime(one, (one.stat().st_atime - days * DAY, one.stat().st_mtime - days * DAY))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("moment", [-1, 0, 1])
def test_a_folder_outlives_a_kill_at_any_moment_of_its_replacing(tmp_path: Path, moment: int) -> None:
    """While the new one is written, before the old one steps aside, and before the new one takes its place."""
    folder = tmp_path / "model"
    write_folder(folder, "old")
    done = subprocess.run([sys.executable, "-c", KILLED, folder, str(moment)], check=False)
    assert done.returncode < 0
    paths.settle(folder)
    assert held(folder) == ["old", "old"]
    write_folder(folder, "newer")
    assert held(folder) == ["newer", "newer"]
    assert all(name == "model" or name.endswith(".partial") for name in names(tmp_path))
    for left in tmp_path.glob("*.partial"):
        age(left, 1.5)
    write_folder(folder, "newest")
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("write", [write_folder, lambda path, text: None], ids=["written", "nothing"])
def test_what_fails_changes_nothing(tmp_path: Path, write) -> None:
    folder = tmp_path / "model"
    write_folder(folder, "old")
    with pytest.raises((FileNotFoundError, KeyError)), paths.replacing(folder) as partial:  # noqa: PT012
        write(partial, "new")
        if partial.exists():
            raise KeyError
    assert held(folder) == ["old", "old"]
    assert names(tmp_path) == ["model"]


def test_leftovers_of_a_target_go_after_a_day_and_those_of_another_stay(tmp_path: Path) -> None:
    for name, days in (("x.1.partial", 2), ("x.2.partial", 0.5), ("y.1.partial", 2), ("[x].1.partial", 2)):
        (tmp_path / name).write_text("half")
        age(tmp_path / name, days)
    with paths.replacing(tmp_path / "x") as partial:
        partial.write_text("whole")
    assert names(tmp_path) == ["[x].1.partial", "x", "x.2.partial", "y.1.partial"]
    with paths.replacing(tmp_path / "[x]") as partial:
        partial.write_text("whole")
    assert "[x].1.partial" not in names(tmp_path)


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    with paths.replacing(tmp_path / "x") as one, paths.replacing(tmp_path / "x") as other:
        one.mkdir()
        (one / "a").write_text("one")
        other.mkdir()
        (other / "b").write_text("other")
    assert held(tmp_path / "x") == ["one"]  # the last to finish
    assert names(tmp_path) == ["x"]


def test_finished_work_goes_and_so_does_what_nobody_went_on_with(tmp_path: Path) -> None:
    from lostlib.experiments import measure

    work = tmp_path / "results.unfinished"
    done, fresh, old = (Key("answers", "m", weights, "mini-pope", "1", n=4) for weights in ("w1", "w2", "w3"))
    for key, days in ((done, 0), (fresh, 20), (old, 40)):
        part = measure.unfinished(work, key) / "digest" / "00000-of-00001.parquet"
        part.parent.mkdir(parents=True)
        part.write_text("rows")
        age(work / f"{key.weights}.v1", days)
    measure.clear(work, done)
    assert names(work) == ["w2.v1"]
    assert len(list(measure.unfinished(work, fresh).rglob("*.parquet"))) == 1
    measure.clear(work, fresh)
    assert not work.exists()
