"""The worker log: what a worker in the background says, in a file that is moved away when full."""

from __future__ import annotations

import errno
import os
import stat
import sys

from queuectl.clock import Clock
from queuectl.errors import EnvironmentFault
from queuectl.jobs.when import iso
from queuectl.text import typed, visible

if sys.platform == "win32":
    from queuectl import windows
else:
    import fcntl

_LOG_BYTES = 5 * 1024 * 1024
_OLD_LOGS = 3


def check_log(path: str) -> None:
    """Raises EnvironmentFault when something that can be no log has its name."""
    try:
        found = os.stat(path)
    except OSError:
        return  # There is none yet; or opening it says what is wrong.
    if not _can_be_log(found):
        raise EnvironmentFault(
            f"{visible(path)} is not a file: a worker in the background has no log",
            hint=f"Move it away: {typed('mv', path, path + '.old')}",
        )


def _can_be_log(found: os.stat_result) -> bool:
    # A device takes lines as well: /dev/null, for whoever wants no log.
    return stat.S_ISREG(found.st_mode) or stat.S_ISCHR(found.st_mode)


class WorkerLog:
    """The worker log, which is this process's stdout and stderr.

    Any number of processes and threads may write to it at the same time. Each line is one write
    to the end of the file, and one of them alone moves a full file away. Whoever has not noticed
    writes to the file that was moved.
    """

    def __init__(self, path: str) -> None:
        """Raises EnvironmentFault when it cannot be written."""
        self._path = path
        check_log(path)
        try:
            if (
                sys.platform == "win32"
                and os.path.exists(path)
                and os.path.getsize(path) > _LOG_BYTES
            ):
                # A file that is open, as stdout and stderr will be, cannot be renamed there.
                _shift(path)
            self._attach()
        except OSError as error:
            raise EnvironmentFault(f"cannot write {visible(path)}: {error.strerror}") from None

    def say(self, text: str) -> None:
        """Writes a dated line. A full disk, or a lack of descriptors, must not stop the worker."""
        line = f"{iso(Clock().now())} {text}\n".encode(errors="backslashreplace")
        try:
            self._attach()
            if sys.platform != "win32" and _is_full(1, len(line)):
                _rotate(self._path, len(line))
                self._attach()
        except OSError:
            pass  # What is open already takes the line.
        try:
            os.write(1, line)
        except OSError:
            pass

    def _attach(self) -> None:
        """Makes stdout and stderr the file that has the log's name by now. Raises OSError."""
        if sys.platform == "win32":
            log = windows.open_append(self._path)
        else:
            # O_NONBLOCK: should a named pipe have its place, opening that waits for nobody.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
            log = os.open(self._path, flags, 0o600)
        try:
            if sys.platform != "win32":
                if not _can_be_log(os.fstat(log)):
                    raise OSError(errno.EINVAL, "it is not a file", self._path)
                os.set_blocking(log, True)
            os.dup2(log, 1)
            os.dup2(log, 2)
        finally:
            os.close(log)


if sys.platform != "win32":

    def _rotate(path: str, more: int) -> None:
        """Moves the file away, if it is full still and nobody else is about to."""
        log = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            # Not waiting for it: who has it may be stopped.
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_full(log, more) and os.path.samestat(os.fstat(log), os.stat(path)):
                _shift(path)
        finally:
            os.close(log)


def _is_full(log: int, more: int) -> bool:
    return os.fstat(log).st_size + more > _LOG_BYTES


def _shift(path: str) -> None:
    """Gives the log and its older files the next older names. The oldest is gone."""
    for n in range(_OLD_LOGS, 0, -1):
        name = f"{path}.{n - 1}" if n > 1 else path
        if os.path.exists(name):
            os.replace(name, f"{path}.{n}")
