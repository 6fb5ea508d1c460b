"""One line about the machine, with the two costs that decide most: a commit and a new file."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterable

import apsw

from bench._side_by_side import Scratch, note


def describe(scratch: Scratch) -> str:
    """What the figures of this run were taken on."""
    folder = scratch.new_folder()
    commit, new_file = _commit_seconds(folder) * 1e3, _new_file_seconds(folder) * 1e6
    return ", ".join(
        [
            f"{os.cpu_count()} cores ({_processor()})",
            f"{platform.system()} {platform.release().split('-')[0]}",
            f"{_file_system(folder)} (commit {commit:.2f} ms, new file {new_file:.0f} us)",
            f"sh is {os.path.basename(os.path.realpath('/bin/sh'))}",
            f"Python {platform.python_version()}",
            f"SQLite {apsw.sqlite_lib_version()}",
            f"load {os.getloadavg()[0]:.1f}",
        ]
    )


def warn(scratch: Scratch) -> None:
    """Says so when this is no good moment, or no good place, to measure."""
    folder = scratch.new_folder()
    if _file_system(folder) in ("tmpfs", "ramfs"):
        note(
            "WARNING: the scratch folder is in memory, where a commit costs nothing. Use --folder."
        )
    if os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        note("WARNING: the machine is busy with something else. Trust the ratios, not the rates.")
    if _new_file_seconds(folder) > 80e-6:
        note(
            "WARNING: new files are slow: many were deleted a short while ago. Rows that write logs"
            " suffer from it; wait for some minutes."
        )


def _commit_seconds(folder: str) -> float:
    db = apsw.Connection(os.path.join(folder, "commit.db"))
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE row (text)")
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        db.execute("INSERT INTO row VALUES ('a row of some length, as a short command would be')")
        seconds.append(time.perf_counter() - start)
    db.close()
    return statistics.median(seconds)


def _new_file_seconds(folder: str) -> float:
    place = os.path.join(folder, f"files-{time.monotonic_ns()}")
    os.mkdir(place)
    start = time.perf_counter()
    for number in range(500):
        os.close(os.open(os.path.join(place, str(number)), os.O_CREAT | os.O_WRONLY, 0o600))
    return (time.perf_counter() - start) / 500


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _file_system(path: str) -> str:
    """The type of the file system that holds `path`: that of the longest mount point above it."""
    best, kind = "", "unknown file system"
    for line in _lines("/proc/mounts"):
        _, point, name, *_ = line.split()
        inside = point in ("/", path) or path.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind


def _lines(path: str) -> Iterable[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readlines()
    except OSError:
        return []
