"""One attempt while it runs: its claim, its process, its log, and how it is being ended, if it is.

An attempt that ends by itself has ended when its first process has: what it leaves behind on
purpose, a daemon, is its own affair. One that queuectl ends (timeout, cancel, stop) has ended
when nothing of its process tree is left.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from queuectl.engine import tree
from queuectl.jobs import outcome as outcomes

if sys.platform == "win32":
    from queuectl import windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.job_logs.open_log import NoLog, OpenLog
    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Outcome
    from queuectl.marks import Census

_TREE_SECONDS = 0.01
"""How often a tree that is being ended is looked at."""


class Attempt:
    """A run of a command. Times are microseconds: `started_at` of the epoch, `*_ticks` elapsed.

    Its slot's thread waits for it; another may end it meanwhile. The first process is reaped only
    once nobody will send it a signal any more: until then its number cannot become another's.
    """

    __slots__ = (
        "_lock",
        "_outcome",
        "_over",
        "_status",
        "claim",
        "deadline_ticks",
        "ended_ticks",
        "ending",
        "kill_ticks",
        "log",
        "pid",
        "started_at",
        "started_ticks",
        "timeout",
    )

    def __init__(
        self,
        claim: Claim,
        log: OpenLog | NoLog,
        *,
        started_at: int,
        started_ticks: int,
        timeout: float,
    ) -> None:
        self.claim = claim
        self.log = log
        self.pid = 0
        self.started_at = started_at
        self.started_ticks = started_ticks
        self.ended_ticks = started_ticks
        self.timeout = timeout
        self.deadline_ticks = started_ticks + int(timeout * 1e6) if timeout else None
        self.ending: str | None = None
        """Why queuectl is ending it: timeout, cancel, stop or fenced."""
        self.kill_ticks = 0
        """When SIGTERM has been given time enough, and SIGKILL follows."""
        self._lock = threading.Lock()
        self._over = False
        self._status = 0
        self._outcome: Outcome | None = None

    def end_with(self, outcome: Outcome) -> None:
        """It is over before a process was there that could end."""
        self._outcome = outcome
        self._over = True

    def wait(self, census: Census) -> None:
        """Returns when it has ended; its own slot's thread alone calls this."""
        if self._over:
            return
        if sys.platform == "win32":
            windows.wait_for_command(self.pid)
        else:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._over = self.ending is None
        while not self._over:
            # Out of the lock: others may want to kill what is left.
            gone = tree.is_gone(self.pid, census, self.claim, time.monotonic())
            with self._lock:
                self._over = gone
            if not gone:
                time.sleep(_TREE_SECONDS)
        if sys.platform == "win32":
            self._status = windows.forget_command(self.pid)
        else:
            self._status = os.waitpid(self.pid, 0)[1]

    def end(
        self, why: str, *, kill_ticks: int, census: Census, since: float, politely: bool
    ) -> bool:
        """Begins to end it with everything it started; false when it is over, or ending already.

        `politely` sends SIGTERM; whatever is left at `kill_ticks` is for `kill`.
        """
        with self._lock:
            if self._over or self.ending is not None:
                return False
            self.ending = why
            self.kill_ticks = kill_ticks
            number = tree.ASK if politely else tree.KILL
            tree.send(self.pid, census, self.claim, number, since)
            return True

    def kill(self, census: Census, since: float) -> None:
        """Sends SIGKILL to what is left of an attempt that is being ended."""
        with self._lock:
            if not self._over:
                tree.send(self.pid, census, self.claim, tree.KILL, since)

    def limit_log(self) -> None:
        """Cuts its log if that has grown too long. Not once it is over: the log is closed then, and
        the number of its descriptor may be another file's.
        """
        with self._lock:
            if not self._over:
                self.log.limit()

    @property
    def seconds(self) -> float:
        """How long it ran, once it has ended."""
        return max(0, self.ended_ticks - self.started_ticks) / 1e6

    def outcome(self) -> Outcome:
        """How it ended, once it has."""
        if self._outcome is not None:
            return self._outcome
        code = os.waitstatus_to_exitcode(self._status)
        exit_code, by_signal = (code, None) if code >= 0 else (None, -code)
        if self.ending == "timeout":
            return outcomes.timed_out(self.timeout, exit_code, by_signal)
        if self.ending == "cancel":
            return outcomes.cancelled(exit_code, by_signal)
        if self.ending is not None:
            return outcomes.interrupted(exit_code, by_signal)
        if by_signal is not None:
            return outcomes.killed(by_signal, _signal_name(by_signal))
        return outcomes.exited(code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
