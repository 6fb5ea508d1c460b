"""Several worker processes under one parent, which starts a crashed one again."""

from __future__ import annotations

import os
import signal
import sys
import time

from queuectl.bell import Bell
from queuectl.engine import birth, systemd
from queuectl.errors import CouldNotDo, QueuectlError

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


class Supervisor:
    """Runs `work(on_ready)` in several processes, each until it has ended without an error."""

    def __init__(self, work: Work, say: Callable[[str], None]) -> None:
        self._work = work
        self._say = say
        self._pid = os.getpid()
        self._bell = Bell()
        self._children: dict[int, _Child] = {}
        self._stops: list[int] = []
        """The signals that came to stop it; 0: the processes are told in another way."""
        self._is_telling = False

    def run(self, count: int, on_ready: Callable[[], None]) -> None:
        """Starts `count` processes, and one anew that ends with an error, unless it had never been
        ready. `on_ready` is called once all are.

        SIGTERM and SIGINT are passed on, and end this too once the processes have ended. Raises what
        kept the first ones from starting.
        """
        self._listen()
        self._start_first(count)
        on_ready()
        _keep_systemd_informed()
        while self._children:
            pid, status = _wait_for_one(self._bell)
            child = self._children.pop(pid, None)
            if child is None or status == 0 or self._stops:
                continue
            self._say(f"worker process {pid} ended unexpectedly; starting another")
            self._start_another(child)
        signal.set_wakeup_fd(-1)
        self._bell.close()

    # ---- signals

    def _listen(self) -> None:
        signal.set_wakeup_fd(self._bell.descriptor, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        if sys.platform == "win32":
            signal.signal(signal.SIGBREAK, self._stop)
        else:
            signal.signal(signal.SIGHUP, self._pass_on)
            signal.signal(START_NO_MORE, lambda number, frame: self._stops.append(0))
            signal.signal(signal.SIGCHLD, lambda number, frame: None)  # It is to ring the bell.
            signal.pthread_sigmask(
                signal.SIG_UNBLOCK,
                {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, START_NO_MORE, signal.SIGCHLD},
            )

    def _stop(self, number: int, _frame: object) -> None:
        if os.getpid() != self._pid:
            return  # A child that is too young to have handlers of its own; its parent will tell it.
        self._stops.append(number)
        systemd.notify("STOPPING=1")
        self._tell_all()

    def _pass_on(self, number: int, _frame: object) -> None:
        if os.getpid() == self._pid:
            for pid in self._children:
                _kill(pid, number)

    def _tell_all(self) -> None:
        # Each child is told each signal once, for a second one ends it at once. A signal may come at
        # any point of this, and then its handler comes by here as well.
        while not self._is_telling and any(
            child.told < len(self._stops) for child in self._children.values()
        ):
            self._is_telling = True
            for pid, child in self._children.items():
                while child.told < len(self._stops):
                    number = self._stops[child.told]
                    child.told += 1
                    if number:
                        _kill(pid, number)
            self._is_telling = False

    # ---- processes

    def _start_first(self, count: int) -> None:
        while len(self._children) < count and not self._stops:
            try:
                self._start_one()
            except QueuectlError:
                if self._stops:
                    return
                self._end_all()
                raise

    def _start_another(self, ended: _Child) -> None:
        time.sleep(max(0.0, _LEAST_LIFE_SECONDS - (time.monotonic() - ended.born)))
        while not self._stops:
            try:
                self._start_one()
                return
            except QueuectlError as error:
                self._say(f"cannot start another: {error.message}; trying again")
                time.sleep(_LEAST_LIFE_SECONDS)

    def _start_one(self) -> None:
        pid = birth.start(birth.SUPERVISED, self._live)
        self._children[pid] = _Child()
        self._tell_all()

    def _live(self, on_ready: Callable[[], None]) -> None:
        """The life of a child, in the child."""
        signal.set_wakeup_fd(-1)
        self._bell.close()
        _live(self._work, on_ready, self._pid)

    def _end_all(self) -> None:
        self._stop(signal.SIGTERM, None)
        while self._children:
            self._children.pop(_wait_for_one(self._bell)[0], None)


def _live(work: Work, on_ready: Callable[[], None], parent: int) -> None:
    """The life of one process. Its parent's handlers, terminal and listener are not for it."""
    os.environ.pop("NOTIFY_SOCKET", None)
    if sys.platform != "win32":
        # A group of its own: Ctrl-C reaches the parent alone, which passes it on once.
        os.setpgid(0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # Without its parent nobody would pass on a signal, nor start it again: it stops, as if it had
        # been asked to.
        birth.tell_of_death(signal.SIGTERM)
        if os.getppid() != parent:
            raise CouldNotDo("the process that started this one is gone")
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
