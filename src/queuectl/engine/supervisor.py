"""Several worker processes under one parent, which starts a crashed one again."""

from __future__ import annotations

import os
import signal
import sys
import time

from queuectl.errors import CouldNotDo

if sys.platform == "win32":
    from queuectl import windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_READY = b"ready\n"
_LEAST_LIFE_SECONDS = 1.0
"""A process that ends sooner is started again only after this long, so that no loop spins."""


def supervise(
    count: int,
    work: Callable[[Callable[[], None]], int],
    *,
    say: Callable[[str], None],
    on_ready: Callable[[], None],
) -> None:
    """Runs `work(on_ready)` in `count` processes until each has ended with status 0.

    One that ends otherwise is started again, unless it had never been ready. SIGTERM and SIGINT
    are passed on, and end this too once the processes have ended. Raises CouldNotDo when a
    process cannot be started in the first place.
    """
    if sys.platform == "win32" and windows.started_as() == windows.SUPERVISED:
        _serve(work, sys.stdout.fileno())
    children: dict[int, float] = {}
    stopped_by = 0

    def tell_all(number: int, _frame: object) -> None:
        for pid in children:
            _kill(pid, number)

    def stop(number: int, _frame: object) -> None:
        nonlocal stopped_by
        stopped_by = number
        tell_all(number, None)

    def start_one() -> bool:
        pid, ready = _start(work)
        children[pid] = time.monotonic()
        if stopped_by:
            _kill(pid, stopped_by)  # It was not among those that were told.
        return ready

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, stop)
    else:
        signal.signal(signal.SIGHUP, tell_all)

    while len(children) < count and not stopped_by:
        if not start_one() and not stopped_by:
            stop(signal.SIGTERM, None)
            while children:
                children.pop(_wait_for_one()[0], None)
            raise CouldNotDo("a worker process could not be started; see what it said above")
    on_ready()
    while children:
        pid, status = _wait_for_one()
        born = children.pop(pid, None)
        if born is None or status == 0 or stopped_by:
            continue
        say(f"worker process {pid} ended unexpectedly; starting another")
        time.sleep(max(0.0, _LEAST_LIFE_SECONDS - (time.monotonic() - born)))
        if not stopped_by:
            start_one()


def _start(work: Callable[[Callable[[], None]], int]) -> tuple[int, bool]:
    """Starts one process; returns its pid and whether it became ready."""
    if sys.platform == "win32":
        pid, report = windows.start_again(windows.SUPERVISED)
    else:
        ready_out, ready_in = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ready_out)
            _serve(work, ready_in)
        os.close(ready_in)
        with os.fdopen(ready_out, "rb") as stream:
            report = stream.readline()
    return pid, report == _READY


def _serve(work: Callable[[Callable[[], None]], int], report: int) -> NoReturn:
    """The life of one process. Its own parent's handlers and terminal are not for it."""
    status = 1
    try:
        if sys.platform != "win32":
            # A group of its own: Ctrl-C reaches the parent alone, which passes it on once.
            os.setpgid(0, 0)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
        status = work(lambda: _tell(report))
    finally:
        os._exit(status)


def _tell(descriptor: int) -> None:
    os.write(descriptor, _READY)
    os.close(descriptor)


def _wait_for_one() -> tuple[int, int]:
    """The next process to end, with its status."""
    if sys.platform == "win32":
        ended = windows.wait_for_one()
    else:
        ended = os.waitpid(-1, 0)
    return ended


def _kill(pid: int, number: int) -> None:
    if sys.platform == "win32":
        windows.ask_to_stop(pid)
    else:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
