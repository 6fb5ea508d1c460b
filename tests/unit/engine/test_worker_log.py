"""The log of the background worker, which all its processes write to."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from queuectl.engine import worker_log
from queuectl.errors import EnvironmentFault

LIMIT = 20_000

_BEGIN = f"""
import os, sys
from queuectl.engine import worker_log
worker_log._LOG_BYTES = {LIMIT}
say = worker_log.WorkerLog(sys.argv[1]).say
"""

_SEVERAL = """
writers, lines = int(sys.argv[2]), int(sys.argv[3])
gate, opener = os.pipe()
for writer in range(writers):
    if os.fork() == 0:
        os.close(opener)
        os.read(gate, 1)
        for number in range(lines):
            say(f"writer {writer} line {number}")
        os._exit(0)
os.close(opener)
for _ in range(writers):
    assert os.wait()[1] == 0
"""


def run(path: Path, rest: str, *arguments: object) -> None:
    """Runs a program whose output goes to the log at `path`."""
    command = (sys.executable, "-c", _BEGIN + rest, str(path), *map(str, arguments))
    subprocess.run(command, check=True, timeout=60)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "queuectl.log"


def parts(log: Path) -> list[Path]:
    """The log and its older files, the newest first."""
    older = sorted(log.parent.glob("queuectl.log.*"))
    return [log, *older]


def test_processes_that_rotate_it_lose_no_line(log: Path) -> None:
    """What several processes write at once, and move away by turns, is all there, line by line:
    each file is full before another is begun.
    """
    run(log, _SEVERAL, 4, 380)
    files = parts(log)
    names = ["queuectl.log", *(f"queuectl.log.{n}" for n in (1, 2, 3))]
    # Writers that find another moving the file write a line more to it: there may be fewer files.
    assert [file.name for file in files] == names[: len(files)]
    assert len(files) > 1
    assert all(file.stat().st_size > LIMIT - 100 for file in files[1:])
    lines = [line for file in files for line in file.read_text().splitlines()]
    said = [re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z (writer \d line \d+)", line) for line in lines]
    assert all(said), lines
    expected = [f"writer {writer} line {n}" for writer in range(4) for n in range(380)]
    assert sorted(match[1] for match in said if match) == sorted(expected)


def test_a_full_file_is_moved_once(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that find it full one moves it, however late the others come to it."""
    full, older = "x" * LIMIT, log.with_name("queuectl.log.1")
    monkeypatch.setattr(worker_log, "_LOG_BYTES", LIMIT)
    log.write_text(full)
    with log.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            worker_log._rotate(str(log), 1)
    assert parts(log) == [log]
    worker_log._rotate(str(log), 1)
    log.write_text("moved before we opened it")
    worker_log._rotate(str(log), 1)
    assert older.read_text() == full
    log.write_text("moved between our opening and our lock".ljust(LIMIT))

    def move_first(*_: object) -> None:
        worker_log._shift(str(log))
        log.write_text("the new one")

    monkeypatch.setattr(fcntl, "flock", move_first)
    worker_log._rotate(str(log), 1)
    assert older.read_text().startswith("moved between")
    assert log.read_text() == "the new one"


def test_it_keeps_three_older_files(log: Path) -> None:
    """However much is said, there are four files of no more than the limit, with the newest lines;
    only their owner may read them.
    """
    run(log, _SEVERAL, 1, 5_000)
    files = parts(log)
    assert len(files) == 4
    assert all(0 < file.stat().st_size <= LIMIT for file in files)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    lines = [line for file in reversed(files) for line in file.read_text().splitlines()]
    assert [line.split()[-1] for line in lines] == [str(n) for n in range(5_000)][-len(lines) :]


def test_what_a_crash_writes_goes_to_the_file_of_today(log: Path) -> None:
    """Standard output and error move on with the log."""
    run(
        log,
        """
for n in range(3000):
    say(f"line {n}")
os.write(1, b"out\\n")
os.write(2, b"Traceback\\n")
""",
    )
    assert log.read_text().endswith("line 2999\nout\nTraceback\n")


def test_a_log_that_was_moved_away_is_begun_anew(log: Path) -> None:
    """Whoever moves or removes it while the worker runs finds what is said next in a new one."""
    run(
        log,
        """
say("before")
os.rename(sys.argv[1], sys.argv[1] + ".mine")
say("after")
""",
    )
    assert log.read_text().endswith(" after\n")
    assert (log.parent / "queuectl.log.mine").read_text().endswith(" before\n")


def test_nothing_that_is_in_its_way_stops_the_worker(log: Path) -> None:
    """When it cannot be opened, as without a free descriptor, what is open already takes the line;
    when that cannot be written either, the worker goes on.
    """
    run(
        log,
        """
import resource
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
say("no descriptor is free")
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
assert open(sys.argv[1]).read().endswith(" no descriptor is free\\n")
os.unlink(sys.argv[1])
os.mkdir(sys.argv[1])
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
say("there is no room")
os.rmdir(sys.argv[1])
say("all is well again")
os.write(1, b"end\\n")
""",
    )
    assert log.read_text().endswith(" all is well again\nend\n")


def test_a_pipe_that_takes_its_place_holds_nobody_up(log: Path) -> None:
    """Whether somebody reads from it or not, what is said goes on to the file that is open."""
    run(
        log,
        """
say("before")
os.rename(sys.argv[1], sys.argv[1] + ".old")
os.mkfifo(sys.argv[1])
say("nobody reads")
reader = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
say("somebody reads")
assert os.read(reader, 100) == b""
""",
    )
    said = log.with_name("queuectl.log.old").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in said] == ["before", "nobody reads", "somebody reads"]


def test_a_device_takes_its_lines(log: Path) -> None:
    """Whoever wants no log links it to /dev/null."""
    log.symlink_to("/dev/null")
    run(log, """say("nobody wants to know")""")
    assert log.is_char_device()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_no_log(log: Path, make: Callable[[Path], None]) -> None:
    """It is named, with the command that moves it away."""
    make(log)
    with pytest.raises(EnvironmentFault, match=r"queuectl\.log is not a file") as refused:
        worker_log.WorkerLog(str(log))
    assert refused.value.hint == f"Move it away: mv {log} {log}.old"
