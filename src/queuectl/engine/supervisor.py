"""Several worker processes under one parent, which starts a crashed one again."""

from __future__ import annotations

import os
import signal
import sys
import time

from queuectl.engine import birth, systemd
from queuectl.errors import QueuectlError

if sys.platform == "win32":
    from queuectl import windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[Callable[[], None]], None]

_LEAST_LIFE_SECONDS = 1.0
"""A process that ends sooner is started again only after this long, so that no loop spins."""

_WATCHDOG_SECONDS = 1.0

if sys.platform != "win32":
    START_NO_MORE = signal.SIGUSR1
    """Tells the parent that its processes are about to stop, and are not to be started again."""


def supervise(
    count: int, work: Work, *, say: Callable[[str], None], on_ready: Callable[[], None]
) -> None:
    """Runs `work(on_ready)` in `count` processes until each has ended without an error.

    One that ends otherwise is started again, unless it had never been ready. SIGTERM and SIGINT
    are passed on, and end this too once the processes have ended. Raises what kept the first ones
    from starting.
    """
    children: dict[int, float] = {}
    stops: list[int] = []  # The signals that came.

    def tell_all(number: int, _frame: object) -> None:
        for pid in children:
            _kill(pid, number)

    def stop(number: int, _frame: object) -> None:
        stops.append(number)
        systemd.notify("STOPPING=1")
        tell_all(number, None)

    def start_one() -> None:
        pid = birth.start(birth.SUPERVISED, lambda ready: _live(work, ready))
        children[pid] = time.monotonic()
        for number in filter(None, stops):
            _kill(pid, number)  # It was not among those that were told.

    def end_all() -> None:
        stop(signal.SIGTERM, None)
        while children:
            children.pop(_wait_for_one()[0], None)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, stop)
    else:
        signal.signal(signal.SIGHUP, tell_all)
        # The processes have been told in another way: only start no more.
        signal.signal(START_NO_MORE, lambda number, frame: stops.append(0))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    while len(children) < count and not stops:
        try:
            start_one()
        except QueuectlError:
            if stops:
                break
            end_all()
            raise
    on_ready()
    _keep_systemd_informed()
    while children:
        pid, status = _wait_for_one()
        born = children.pop(pid, None)
        if born is None or status == 0 or stops:
            continue
        say(f"worker process {pid} ended unexpectedly; starting another")
        time.sleep(max(0.0, _LEAST_LIFE_SECONDS - (time.monotonic() - born)))
        while not stops:
            try:
                start_one()
                break
            except QueuectlError as error:
                say(f"cannot start another: {error.message}; trying again")
                time.sleep(_LEAST_LIFE_SECONDS)


def _live(work: Work, on_ready: Callable[[], None]) -> None:
    """The life of one process. Its parent's handlers, terminal and listener are not for it."""
    os.environ.pop("NOTIFY_SOCKET", None)
    if sys.platform != "win32":
        # A group of its own: Ctrl-C reaches the parent alone, which passes it on once.
        os.setpgid(0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
    work(on_ready)


def _keep_systemd_informed() -> None:
    systemd.notify("READY=1")
    if sys.platform != "win32" and "NOTIFY_SOCKET" in os.environ:
        signal.signal(signal.SIGALRM, lambda number, frame: systemd.notify("WATCHDOG=1"))
        signal.setitimer(signal.ITIMER_REAL, _WATCHDOG_SECONDS, _WATCHDOG_SECONDS)


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
