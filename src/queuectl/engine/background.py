"""A worker that outlives its terminal, whose start is reported in the foreground."""

from __future__ import annotations

import os
import sys

from queuectl.engine import birth, pidfile
from queuectl.errors import EnvironmentFault, QueuectlError
from queuectl.text import visible

if sys.platform == "win32":
    from queuectl import windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import TextIOWrapper

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
    pid = birth.start(birth.BACKGROUND, lambda on_ready: _live(workspace, work, on_ready))
    # In a virtual environment on Windows, what was started only starts the one that holds the file.
    return pidfile.holder(workspace.pidfile) or pid


def _live(workspace: Workspace, work: Work, on_ready: Callable[[], None]) -> None:
    if sys.platform != "win32":
        os.setsid()
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


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _redirect_output(path: str) -> Callable[[str], None]:
    """Sends stdout and stderr to the worker log; returns what writes a dated line to it."""
    import logging
    import time
    from logging.handlers import RotatingFileHandler

    class PrivateFileHandler(RotatingFileHandler):
        # The umask is left alone: it is the commands', too.
        def _open(self) -> TextIOWrapper:
            return open(self.baseFilename, "a", encoding="utf-8", opener=_open_private)

    try:
        handler = PrivateFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS)
        if sys.platform == "win32":
            # A file that is open, as stdout and stderr will be, cannot be renamed there.
            if os.path.getsize(path) > _LOG_BYTES:
                handler.doRollover()
            handler.maxBytes = 0
    except OSError as error:
        raise EnvironmentFault(f"cannot write {visible(path)}: {error.strerror}") from None
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("queuectl.worker")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    logging.raiseExceptions = False  # A full disk must not stop the worker.
    stdin = os.open(os.devnull, os.O_RDONLY)
    os.dup2(stdin, 0)
    if sys.platform == "win32":
        log = windows.open_append(path)
    else:
        log = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return logger.info
