"""The pidfile of a queue's background worker: at most one holds it, and holding it means living.

The file is locked for as long as the process lives; the kernel frees the lock on any death. So
a stale file is no obstacle. The number in it is believed only while that very process has the lock:
whoever may write the file can put any number there.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

from queuectl import processes
from queuectl.errors import Conflict, DiskFull, EnvironmentFault, QueuectlError
from queuectl.job_logs import files
from queuectl.text import typed, visible

if sys.platform == "win32":
    from queuectl import windows
else:
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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
        """Removes the file and frees the lock. When the file was removed or replaced meanwhile, what
        has its name now is somebody else's, and stays.
        """
        is_mine = _is_current(self._fd, self._path)
        if sys.platform == "win32":
            windows.unlock(self._fd)
            os.close(self._fd)
            if is_mine:
                self._remove()  # It fails while somebody, perhaps the next holder, has it open.
        else:
            if is_mine:
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
    file cannot be written, or is no file, DiskFull when there is no room for it.
    """
    # Whoever only looks at it holds it for a moment, too.
    deadline = time.monotonic() + _LOOK_SECONDS
    while True:
        try:
            fd = os.open(path, _FLAGS | os.O_CREAT, 0o600)
        except OSError as error:
            raise in_the_way(path) or _cannot_write(path, error) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise in_the_way(path) or _no_file(path)
        if not _try_lock(fd):
            if time.monotonic() < deadline:
                os.close(fd)
                time.sleep(0.01)
                continue
            try:
                raise taken(_who(fd))
            finally:
                os.close(fd)
        if _is_current(fd, path):
            pidfile = Pidfile(path, fd)
            try:
                pidfile.write(os.getpid())
            except OSError as error:
                pidfile.release()
                raise _cannot_write(path, error) from None
            return pidfile
        os.close(fd)  # Its last holder removed it between our open and our lock.


def taken(who: str) -> Conflict:
    """The refusal of a second background worker, with words about the first."""
    return Conflict(
        f"a background worker already runs in this folder ({who})",
        hint="Stop it first with `queuectl worker-stop`. Another queue needs a folder of its own.",
    )


def holder(path: str) -> int | None:
    """The pid of the living process that holds the pidfile; None when nobody does.

    0 when somebody holds it who has not written its pid yet, or when it names another process.
    """
    return _look(path, _named_holder)


def is_held_by(path: str, pid: int) -> bool:
    """Whether that process holds the pidfile, whatever is written in it."""
    return bool(_look(path, lambda fd: int(_holds(pid, fd))))


def _look(path: str, ask: Callable[[int], int]) -> int | None:
    """What `ask` says of the file while somebody holds it; None when nobody does."""
    try:
        fd = os.open(path, _FLAGS)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        if not _try_lock(fd):
            return ask(fd)
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


def _cannot_write(path: str, error: OSError) -> QueuectlError:
    if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return DiskFull(
            f"no room to write {visible(path)}: the disk is full; nothing was changed",
            hint="Make room on the disk, then try again.",
        )
    return EnvironmentFault(
        f"cannot write {visible(path)}: {error.strerror}",
        hint="Check who owns it, and the permissions of the folder.",
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


def _named_holder(fd: int) -> int:
    pid = _read(fd)
    return pid if _holds(pid, fd) else 0


def _who(fd: int) -> str:
    """The holder, for people."""
    pid = _named_holder(fd)
    if pid:
        return f"pid {pid}"
    return "its pidfile does not name it" if os.fstat(fd).st_size else "it is just starting"


def _holds(pid: int, fd: int) -> bool:
    """Whether that process has the lock of the file that is open here as `fd`, and locked."""
    if pid <= 1:
        return False  # A worker in the background is somebody's child.
    if sys.platform == "win32":
        holds = pid == _read(fd)  # There, others cannot see what a process has open.
    else:
        holds = _locks(pid, fd) if processes.HAS_PROC else _has_open(pid, fd)
    return holds


def _locks(pid: int, fd: int) -> bool:
    mine = os.fstat(fd)
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in descriptors:
        try:
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), mine):
                # To have it open is not enough: anybody may be reading it.
                with open(f"/proc/{pid}/fdinfo/{name}", "rb") as about:
                    if b"\nlock:" in about.read():
                        return True
        except OSError:
            continue  # It has just closed that one.
    return False


def _has_open(pid: int, fd: int) -> bool:
    """The best that can be told without /proc."""
    import psutil

    mine = os.fstat(fd)
    try:
        return any(
            os.path.samestat(os.stat(file.path), mine) for file in psutil.Process(pid).open_files()
        )
    except (psutil.Error, OSError):
        return False
