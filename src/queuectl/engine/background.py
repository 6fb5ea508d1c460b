"""A worker that outlives its terminal, whose start is reported in the foreground."""

from __future__ import annotations

import errno
import os
import stat
import sys

from queuectl.clock import Clock
from queuectl.engine import birth, pidfile
from queuectl.errors import CouldNotDo, EnvironmentFault, QueuectlError
from queuectl.jobs.when import iso
from queuectl.text import typed, visible

if sys.platform == "win32":
    from queuectl import windows
else:
    import fcntl
    import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.workspace import Workspace

    Work = Callable[[Callable[[str], None], Callable[[], None]], None]

_LOG_BYTES = 5 * 1024 * 1024
_OLD_LOGS = 3


def start(workspace: Workspace, work: Work) -> int:
    """Starts `work(say, on_ready)` in a process of its own, in a session of its own; returns its
    pid once it has called `on_ready`.

    Its remarks go to the worker log beside the database. Raises the QueuectlError that its start
    ended with: Conflict when a background worker already runs for this queue.
    """
    _check_log(workspace.worker_log)
    parent = os.getpid()
    pid = birth.start(birth.BACKGROUND, lambda on_ready: _live(workspace, work, on_ready, parent))
    # In a virtual environment on Windows, what was started only starts the one that holds the file.
    return pidfile.holder(workspace.pidfile) or pid


def _live(workspace: Workspace, work: Work, on_ready: Callable[[], None], parent: int) -> None:
    if sys.platform != "win32":
        os.setsid()
        on_ready = _end_with(parent, on_ready)
    held = pidfile.hold(workspace.pidfile)
    try:
        say = _redirect_output(workspace.worker_log)
        try:
            work(say, on_ready)
        except QueuectlError as error:
            say(error.message)  # Once it has reported that it is ready, nobody else hears of it.
            raise
    finally:
        held.release()


if sys.platform != "win32":

    def _end_with(parent: int, on_ready: Callable[[], None]) -> Callable[[], None]:
        """Ends this process together with `parent`, until what is returned is called in place of
        `on_ready`: nobody would hear that it is ready, or why it is not.
        """
        is_told = _tell_of_death(signal.SIGTERM)
        if os.getppid() != parent:
            raise CouldNotDo("the process that started this one is gone")
        me = os.getpid()

        def ready() -> None:
            if is_told:
                _tell_of_death(0)
            elif os.getppid() != parent:
                os.kill(me, signal.SIGTERM)
            on_ready()

        return ready

    def _tell_of_death(number: int) -> bool:
        """Has the kernel send this process a signal (0: none) when its parent ends; whether it does."""
        if sys.platform != "linux":
            return False
        import ctypes

        set_parent_death_signal = 1
        status: int = ctypes.CDLL(None).prctl(set_parent_death_signal, number, 0, 0, 0)
        return status == 0


def _redirect_output(path: str) -> Callable[[str], None]:
    """Sends stdout and stderr to the worker log; returns what writes a dated line to it."""
    _check_log(path)
    log = WorkerLog(path)
    try:
        if sys.platform == "win32" and os.path.exists(path) and os.path.getsize(path) > _LOG_BYTES:
            # A file that is open, as stdout and stderr will be, cannot be renamed there.
            _shift(path)
        log.attach()
    except OSError as error:
        raise EnvironmentFault(f"cannot write {visible(path)}: {error.strerror}") from None
    stdin = os.open(os.devnull, os.O_RDONLY)
    os.dup2(stdin, 0)
    os.close(stdin)
    return log.say


def _check_log(path: str) -> None:
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
        self._path = path

    def say(self, text: str) -> None:
        """Writes a dated line. A full disk, or a lack of descriptors, must not stop the worker."""
        line = f"{iso(Clock().now())} {text}\n".encode(errors="backslashreplace")
        try:
            self.attach()
            if sys.platform != "win32" and _is_full(1, len(line)):
                self._rotate(len(line))
                self.attach()
        except OSError:
            pass  # What is open already takes the line.
        try:
            os.write(1, line)
        except OSError:
            pass

    def attach(self) -> None:
        """Makes stdout and stderr the file that has the log's name by now. Raises OSError."""
        if sys.platform == "win32":
            log = windows.open_append(self._path)
        else:
            # Not waiting for who reads it, should a pipe have taken its place.
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

        def _rotate(self, more: int) -> None:
            """Moves the file away, if it is full still and nobody else is about to."""
            log = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                # Not waiting for it: who has it may be stopped.
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_full(log, more) and os.path.samestat(os.fstat(log), os.stat(self._path)):
                    _shift(self._path)
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
