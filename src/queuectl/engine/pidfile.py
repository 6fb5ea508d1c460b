"""The pidfile of a queue's background worker: at most one holds it, and holding it means living.

The file is locked for as long as the process lives; the kernel frees the lock on any death. So
the number in it is believed only while the lock is held, and a stale file is no obstacle.
"""

from __future__ import annotations

import os
import stat
import sys
import time

from queuectl.errors import Conflict, EnvironmentFault
from queuectl.job_logs import files
from queuectl.text import typed, visible

if sys.platform == "win32":
    from queuectl import windows
else:
    import fcntl

# O_NONBLOCK: should it be a named pipe, opening it waits for nobody.
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Pidfile:
    """A held pidfile. Make one with `hold`."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    def write(self, pid: int) -> None:
        """Says who holds it."""
        os.ftruncate(self._fd, 0)
        files.write_at(self._fd, b"%d\n" % pid, 0)

    def release(self) -> None:
        """Removes the file and frees the lock."""
        if sys.platform == "win32":
            windows.unlock(self._fd)
            os.close(self._fd)
            self._remove()  # This fails as long as somebody, perhaps the next holder, has it open.
        else:
            self._remove()  # While it is still locked: nobody else can hold it by now.
            os.close(self._fd)

    def _remove(self) -> None:
        try:
            os.unlink(self._path)
        except OSError:
            pass


_LOOK_SECONDS = 0.25


def hold(path: str) -> Pidfile:
    """Takes the pidfile for this process and those it forks.

    Raises Conflict with the holder's pid when a living process has it, EnvironmentFault when the
    file cannot be written, or is no file.
    """
    # Whoever only looks at it holds it for a moment, too.
    deadline = time.monotonic() + _LOOK_SECONDS
    while True:
        try:
            fd = os.open(path, _FLAGS | os.O_CREAT, 0o600)
        except OSError as error:
            raise in_the_way(path) or EnvironmentFault(
                f"cannot write {visible(path)}: {error.strerror}",
                hint="Check who owns it, and the permissions of the folder.",
            ) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise in_the_way(path) or _no_file(path)
        if not _try_lock(fd):
            pid = _read(fd)
            os.close(fd)
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            who = f"pid {pid}" if pid else "it is just starting"
            raise Conflict(
                f"a background worker already runs in this folder ({who})",
                hint="Stop it first: queuectl worker-stop. Another queue needs a folder of its own.",
            )
        if _is_current(fd, path):
            pidfile = Pidfile(path, fd)
            pidfile.write(os.getpid())
            return pidfile
        os.close(fd)  # Its last holder removed it between our open and our lock.


def holder(path: str) -> int | None:
    """The pid of the living process that holds the pidfile; None when nobody does.

    0 when somebody holds it who has not written its pid yet.
    """
    try:
        fd = os.open(path, _FLAGS)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        if not _try_lock(fd):
            return _read(fd)
        if sys.platform == "win32":
            windows.unlock(fd)
        return None
    finally:
        os.close(fd)


def in_the_way(path: str) -> EnvironmentFault | None:
    """What is wrong when something that is no file has the pidfile's name; None when nothing has."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return None if stat.S_ISREG(found.st_mode) else _no_file(path)


def _no_file(path: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{visible(path)} is not a file: no worker can start in the background",
        hint=f"Move it away: {typed('mv', path, path + '.old')}",
    )


def _try_lock(fd: int) -> bool:
    if sys.platform == "win32":
        locked = windows.try_lock(fd)
    else:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            locked = False
    return locked


def _is_current(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


def _read(fd: int) -> int:
    text = files.read_at(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0
