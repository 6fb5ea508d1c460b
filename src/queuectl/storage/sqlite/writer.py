"""Which process is writing to the database, as the system tells it (Linux)."""

from __future__ import annotations

import os

_WRITE_LOCK = 120
"""The byte of -shm that a writer locks: see "WAL-index format" in SQLite's documentation."""


def writer(path: str) -> int | None:
    """The process that holds the database's write lock; None when nobody does, or it cannot be told.

    Asked of the list of all locks. To ask about the file itself it would have to be opened, and
    closing it gives up all the locks that this process has on it (fcntl(2)).
    """
    try:
        status = os.stat(path + "-shm")
        with open("/proc/locks", encoding="ascii") as locks:
            lines = locks.readlines()
    except OSError:
        return None
    file = f"{_device(status.st_dev)}:{status.st_ino}"
    for line in lines:
        # 7: POSIX  ADVISORY  WRITE 4711 fe:00:123456 120 120
        fields = line.split()
        if fields[1] == "POSIX" and fields[3] == "WRITE" and fields[5] == file:
            last = float("inf") if fields[7] == "EOF" else int(fields[7])
            if int(fields[6]) <= _WRITE_LOCK <= last and fields[4].isdigit():
                return int(fields[4])
    return None


def _device(number: int) -> str:
    """As Linux writes it there, from its own numbers (makedev(3))."""
    return f"{number >> 8 & 0xFFF:02x}:{number & 0xFF | number >> 12 & 0xFFF00:02x}"


def suspended_writer(path: str) -> int | None:
    """The process that holds the write lock and is suspended, so that it keeps it; None when there is
    none.
    """
    pid = writer(path)
    return pid if pid is not None and _is_stopped(pid) else None


def described(path: str) -> tuple[str, str]:
    """Who keeps others from writing, in words, and what to do about it."""
    pid = writer(path)
    if pid is None:
        return (
            "another program",
            "Find who holds it (for example: fuser -v FILE), end it, and try again.",
        )
    if _is_stopped(pid):
        hint = (
            f"Let it go on with: kill -CONT {pid}. If it is a worker it may also be ended, its jobs"
            f" are taken back: kill -9 {pid}"
        )
        return f"process {pid}, which is stopped", hint
    return f"process {pid}", f"See what it is with: ps -fp {pid}. Try again when it has ended."


def _is_stopped(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False
