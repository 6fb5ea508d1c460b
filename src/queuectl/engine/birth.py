"""Starting another process of this program, and hearing that it is ready, or why it is not."""

from __future__ import annotations

import os
import sys

from queuectl import errors
from queuectl.errors import CouldNotDo, QueuectlError

if sys.platform == "win32":
    from queuectl import windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

BACKGROUND = "background"
SUPERVISED = "supervised"

_READY = b"ready\n"

_unreported: list[int] = []
"""Where this process still has to say that it is ready; empty once it has, and in most processes."""


def start(role: str, life: Callable[[Callable[[], None]], None]) -> int:
    """Starts a process that lives `life(on_ready)`; returns its pid once it has called `on_ready`.

    The process ends with 0 when its life does, and with the error's status when that raises one.
    Raises what its life raised, if that was before it was ready.

    On Windows, which cannot fork, the new process runs this one's command line again and comes to
    this call a second time: `role` tells it there that it is the new one.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":
        if windows.started_as() == role:
            _live(life, os.dup(sys.stdout.fileno()))
        pid, report = windows.start_again(role)
    else:
        report_out, report_in = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(report_out)
            # Should its parent die, whoever waits for that one's report has to see the end.
            for inherited in _unreported:
                os.close(inherited)
            _live(life, report_in)
        os.close(report_in)
        with os.fdopen(report_out, "rb") as stream:
            # A line, not all there is: processes that the child starts may keep the other end open.
            report = stream.readline()
        if report != _READY:
            os.waitpid(pid, 0)
    if report != _READY:
        raise _error(report)
    return pid


if sys.platform != "win32":

    def tell_of_death(number: int) -> bool:
        """Has the kernel send this process a signal (0: none) when its parent ends; whether it does."""
        if sys.platform != "linux":
            return False
        import ctypes

        set_parent_death_signal = 1
        status: int = ctypes.CDLL(None).prctl(set_parent_death_signal, number, 0, 0, 0)
        return status == 0


def _live(life: Callable[[Callable[[], None]], None], report: int) -> NoReturn:
    """All that is left of a new process's life."""
    _unreported[:] = [report]
    status = 1
    try:
        life(lambda: _tell(report, _READY))
        status = 0
    except QueuectlError as error:
        status = error.exit_status
        _tell(report, _described(error))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent waits to hear
        _tell(report, _described(CouldNotDo(f"unexpected {type(error).__name__}: {error}")))
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _tell(report: int, line: bytes) -> None:
    _unreported.clear()
    try:
        os.write(report, line)
        os.close(report)
    except OSError:
        pass  # It had been told that all is ready; or there is no parent any more.


def _described(error: QueuectlError) -> bytes:
    import json

    return json.dumps([type(error).__name__, error.message, error.hint]).encode() + b"\n"


def _error(report: bytes) -> QueuectlError:
    import json

    if not report:
        return CouldNotDo(
            "the new process ended before it was ready",
            hint="It was killed, or it crashed. Start it again.",
        )
    kind, message, hint = json.loads(report)
    found: type[QueuectlError] = getattr(errors, kind, CouldNotDo)
    return found(message, hint)
