"""A worker that outlives its terminal, whose start is reported in the foreground."""

from __future__ import annotations

import os
import sys

from queuectl import errors
from queuectl.engine import pidfile
from queuectl.errors import CouldNotDo, EnvironmentFault, QueuectlError
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.workspace import Workspace

_LOG_BYTES = 5 * 1024 * 1024
_OLD_LOGS = 3
_READY = b"ready\n"


def start(
    workspace: Workspace, work: Callable[[Callable[[str], None], Callable[[], None]], None]
) -> int:
    """Starts `work(say, on_ready)` in a process of its own, in a session of its own; returns its
    pid once it has called `on_ready`.

    Its remarks go to the worker log beside the database. Raises the QueuectlError that its start
    ended with: Conflict when a background worker already runs for this queue.
    """
    report_out, report_in = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(report_out)
        _become_worker(workspace, work, report_in)
    os.close(report_in)
    with os.fdopen(report_out, "rb") as stream:
        # A line, not all there is: processes that the child starts may keep the other end open.
        report = stream.readline()
    if report == _READY:
        return pid
    os.waitpid(pid, 0)
    raise _error(report, workspace)


def _become_worker(
    workspace: Workspace,
    work: Callable[[Callable[[str], None], Callable[[], None]], None],
    report: int,
) -> None:
    """The rest of the child's life. Never returns."""
    status = 1
    try:
        os.setsid()
        held = pidfile.hold(workspace.pidfile)

        def on_ready() -> None:
            os.write(report, _READY)
            os.close(report)

        try:
            say = _redirect_output(workspace.worker_log)
            _work(work, say, on_ready)
            status = 0
        finally:
            held.release()
    except QueuectlError as error:
        status = error.exit_status
        _report(report, error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent waits to hear
        _report(report, CouldNotDo(f"unexpected {type(error).__name__}: {error}"))
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _work(
    work: Callable[[Callable[[str], None], Callable[[], None]], None],
    say: Callable[[str], None],
    on_ready: Callable[[], None],
) -> None:
    try:
        work(say, on_ready)
    except QueuectlError as error:
        say(error.message)  # Once it has reported that it is ready, nobody else hears of it.
        raise


def _redirect_output(path: str) -> Callable[[str], None]:
    """Sends stdout and stderr to the worker log; returns what writes a dated line to it."""
    import logging
    import time
    from logging.handlers import RotatingFileHandler

    os.umask(0o077)
    try:
        handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS)
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
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return logger.info


def _report(descriptor: int, error: QueuectlError) -> None:
    import json

    try:
        words = [type(error).__name__, error.message, error.hint]
        os.write(descriptor, json.dumps(words).encode() + b"\n")
    except OSError:
        pass  # It had reported that it was ready; the log has the rest.


def _error(report: bytes, workspace: Workspace) -> QueuectlError:
    import json

    if not report:
        return CouldNotDo(
            "the background worker ended before it was ready",
            hint=f"See why in {workspace.worker_log}",
        )
    kind, message, hint = json.loads(report)
    found: type[QueuectlError] = getattr(errors, kind, CouldNotDo)
    return found(message, hint)
