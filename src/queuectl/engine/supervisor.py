"""Several worker processes under one parent, which starts a crashed one again."""

from __future__ import annotations

import os
import signal
import sys
import time

from queuectl.bell import Bell
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

if sys.platform != "win32":
    START_NO_MORE = signal.SIGUSR1
    """Tells the parent that its processes are about to stop, and are not to be started again."""


class _Child:
    """A process, and how many of the signals that came it has been told."""

    __slots__ = ("born", "told")

    def __init__(self) -> None:
        self.born = time.monotonic()
        self.told = 0


def supervise(
    count: int, work: Work, *, say: Callable[[str], None], on_ready: Callable[[], None]
) -> None:
    """Runs `work(on_ready)` in `count` processes until each has ended without an error.

    One that ends otherwise is started again, unless it had never been ready. SIGTERM and SIGINT
    are passed on, and end this too once the processes have ended. Raises what kept the first ones
    from starting.
    """
    children: dict[int, _Child] = {}
    stops: list[int] = []  # The signals that came; 0: the processes are told in another way.
    me = os.getpid()
    bell = Bell()
    telling = False

    def tell_all() -> None:
        # Each child is told each signal once, for a second one ends it at once. A signal may come at
        # any point of this, and then its handler comes by here as well.
        nonlocal telling
        while not telling and any(child.told < len(stops) for child in children.values()):
            telling = True
            for pid, child in children.items():
                while child.told < len(stops):
                    number = stops[child.told]
                    child.told += 1
                    if number:
                        _kill(pid, number)
            telling = False

    def stop(number: int, _frame: object) -> None:
        if os.getpid() != me:
            return  # A child that is too young to have handlers of its own; its parent will tell it.
        stops.append(number)
        systemd.notify("STOPPING=1")
        tell_all()

    def pass_on(number: int, _frame: object) -> None:
        if os.getpid() == me:
            for pid in children:
                _kill(pid, number)

    def live(on_ready: Callable[[], None]) -> None:
        signal.set_wakeup_fd(-1)
        bell.close()
        _live(work, on_ready)

    def start_one() -> None:
        pid = birth.start(birth.SUPERVISED, live)
        children[pid] = _Child()
        tell_all()

    def end_all() -> None:
        stop(signal.SIGTERM, None)
        while children:
            children.pop(_wait_for_one(bell)[0], None)

    signal.set_wakeup_fd(bell.descriptor, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, stop)
    else:
        signal.signal(signal.SIGHUP, pass_on)
        # The processes have been told in another way: only start no more.
        signal.signal(START_NO_MORE, lambda number, frame: stops.append(0))
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # It is to ring the bell.
        signal.pthread_sigmask(
            signal.SIG_UNBLOCK,
            {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, START_NO_MORE, signal.SIGCHLD},
        )

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
        pid, status = _wait_for_one(bell)
        child = children.pop(pid, None)
        if child is None or status == 0 or stops:
            continue
        say(f"worker process {pid} ended unexpectedly; starting another")
        time.sleep(max(0.0, _LEAST_LIFE_SECONDS - (time.monotonic() - child.born)))
        while not stops:
            try:
                start_one()
                break
            except QueuectlError as error:
                say(f"cannot start another: {error.message}; trying again")
                time.sleep(_LEAST_LIFE_SECONDS)
    signal.set_wakeup_fd(-1)
    bell.close()


def _live(work: Work, on_ready: Callable[[], None]) -> None:
    """The life of one process. Its parent's handlers, terminal and listener are not for it."""
    os.environ.pop("NOTIFY_SOCKET", None)
    if sys.platform != "win32":
        # A group of its own: Ctrl-C reaches the parent alone, which passes it on once.
        os.setpgid(0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
    work(on_ready)


def _keep_systemd_informed() -> None:
    systemd.notify("READY=1")
    seconds = systemd.watchdog_seconds()
    if sys.platform != "win32" and seconds is not None:
        signal.signal(signal.SIGALRM, lambda number, frame: systemd.notify("WATCHDOG=1"))
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def _wait_for_one(bell: Bell) -> tuple[int, int]:
    """The next process to end, with its status. `bell` is rung by every signal: one that comes just
    before a call of waitpid that blocks would not be acted on before that returns.
    """
    if sys.platform == "win32":
        ended = windows.wait_for_one()
    else:
        while not (ended := os.waitpid(-1, os.WNOHANG))[0]:
            bell.wait(None)
    return ended


def _kill(pid: int, number: int) -> None:
    if sys.platform == "win32":
        windows.ask_to_stop(pid)
    else:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
