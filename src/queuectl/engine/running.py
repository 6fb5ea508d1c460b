"""The attempts that run in one worker: collecting those that end, ending those that must.

An attempt that ends by itself has ended when its first process has: what it leaves behind on
purpose, a daemon, is its own affair. One that queuectl ends (timeout, cancel, stop) has ended
when nothing of its process tree is left.
"""

from __future__ import annotations

import os
import signal

from queuectl.engine import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from queuectl.clock import Clock
    from queuectl.engine.attempt import Attempt

LOOK_TICKS = 100_000
"""How often running attempts are looked at for timeouts and the size of their logs (0.1 s)."""

_LOOK_CLOSELY_TICKS = 10_000
"""The same while one is being ended, for that is soon over (10 ms)."""


class Running:
    """The attempts in a worker's slots."""

    def __init__(self, database: str, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._by_pid: dict[int, Attempt] = {}
        self._ended: list[Attempt] = []
        self._ending = 0
        self._looked_ticks = 0
        self.grace_ticks = 0
        """Between SIGTERM and SIGKILL."""

    def __len__(self) -> int:
        return len(self._by_pid)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._by_pid.values()))

    def add(self, attempt: Attempt) -> None:
        """Takes in an attempt that was just started, or is over already."""
        if attempt.never_ran:
            self._ended.append(attempt)
        else:
            self._by_pid[attempt.pid] = attempt

    def reap(self) -> None:
        """Collects the processes that have ended. Never waits."""
        while self._by_pid:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            attempt = self._by_pid.get(pid)
            if attempt is None:
                continue
            attempt.status = status
            if attempt.ending is None:
                self._has_ended(attempt, self._clock.ticks())
            # Else the rest of its tree has to be gone first: see look_after.

    def take_ended(self) -> list[Attempt]:
        """The attempts that have ended since this was last asked."""
        ended, self._ended = self._ended, []
        return ended

    def end(self, attempt: Attempt, why: str) -> None:
        """Begins to end an attempt: SIGTERM now, SIGKILL after the grace time."""
        if attempt.ending is not None:
            return
        attempt.ending = why
        self._ending += 1
        ticks = self._clock.ticks()
        attempt.kill_ticks = ticks + self.grace_ticks
        if self.grace_ticks:
            tree.send(attempt.pid, self._database, attempt.claim, signal.SIGTERM)
        self._press_on(attempt, ticks)

    def end_all(self, why: str) -> None:
        """Begins to end everything that runs."""
        for attempt in self:
            self.end(attempt, why)

    def kill_all(self) -> None:
        """Ends the grace time of everything that is being ended."""
        self.grace_ticks = 0
        for attempt in self:
            attempt.kill_ticks = 0

    def look_after(self) -> None:
        """Timeouts, sizes of logs, and trees that are being ended; does nothing between two looks."""
        ticks = self._clock.ticks()
        if ticks - self._looked_ticks < self.look_every_ticks():
            return
        self._looked_ticks = ticks
        for attempt in self:
            if attempt.ending is not None:
                self._press_on(attempt, ticks)
            elif attempt.deadline_ticks is not None and ticks >= attempt.deadline_ticks:
                self.end(attempt, "timeout")
            else:
                attempt.log.limit()

    def look_every_ticks(self) -> int:
        """How long `look_after` may be left uncalled."""
        return _LOOK_CLOSELY_TICKS if self._ending else LOOK_TICKS

    def wait_until_empty(self, sleep: Callable[[], None]) -> None:
        """Waits until everything has ended; `sleep` returns when a process ends, or soon."""
        while self._by_pid:
            self.reap()
            self.look_after()
            if self._by_pid:
                sleep()

    def _press_on(self, attempt: Attempt, ticks: int) -> None:
        """One step towards the end of a tree; it counts as ended when nothing of it is left."""
        if attempt.status is not None and tree.is_gone(attempt.pid, self._database, attempt.claim):
            self._ending -= 1
            self._has_ended(attempt, ticks)
        elif ticks >= attempt.kill_ticks:
            tree.send(attempt.pid, self._database, attempt.claim, signal.SIGKILL)

    def _has_ended(self, attempt: Attempt, ticks: int) -> None:
        del self._by_pid[attempt.pid]
        attempt.ended_ticks = ticks
        self._ended.append(attempt)
