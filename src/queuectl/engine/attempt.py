"""One attempt while it runs: its claim, its process, its log, and how it is being ended, if it is.

An attempt that ends by itself has ended when its first process has: what it leaves behind on
purpose, a daemon, is its own affair. One that queuectl ends (timeout, cancel, stop) has ended
when nothing of its process tree is left. So has one whose first process was killed by a signal
from elsewhere: what that left behind was not left on purpose, and is ended too.
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
    from collections.abc import Callable

    from queuectl.job_logs.copying import NoCopy, OutputCopy
    from queuectl.job_logs.open_log import NoLog, OpenLog
    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Outcome
    from queuectl.marks import Census
    from queuectl.storage.records import OutputPart

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
        "copy",
        "deadline_ticks",
        "ended_ticks",
        "ending",
        "kill_ticks",
        "log",
        "output",
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
        """Why queuectl is ending it, or what is left of it: timeout, cancel, stop, lease,
        fenced or killed."""
        self.kill_ticks = 0
        """When SIGTERM has been given time enough, and SIGKILL follows."""
        self.copy: OutputCopy | NoCopy | None = None
        """How much of its output was copied into the database, if any is."""
        self.output: OutputPart | None = None
        """What is still to be copied, along with its outcome."""
        self._lock = threading.Lock()
        self._over = False
        self._status = 0
        self._outcome: Outcome | None = None

    def end_with(self, outcome: Outcome) -> None:
        """It is over before a process was there that could end."""
        self._outcome = outcome
        self._over = True

    def wait(self, census: Census, end_rest: Callable[[Attempt], None]) -> None:
        """Returns when it has ended; its own slot's thread alone calls this. `end_rest` is called
        when its first process was killed, and has left others behind.
        """
        if self._over:
            return
        if sys.platform == "win32":
            windows.wait_for_command(self.pid)
            was_killed = False
        else:
            end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            was_killed = end is not None and end.si_code != os.CLD_EXITED
        with self._lock:
            self._over = self.ending is None and not was_killed
        while not self._over:
            # Out of the lock: others may want to kill what is left.
            gone = tree.is_gone(self.pid, census, self.claim, time.monotonic())
            with self._lock:
                self._over = gone
            if gone:
                break
            if self.ending is None:
                end_rest(self)
            time.sleep(_TREE_SECONDS)
        if sys.platform == "win32":
            self._status = windows.forget_command(self.pid)
        else:
            self._status = os.waitpid(self.pid, 0)[1]

    def end(
        self,
        why: str,
        *,
        kill_ticks: int,
        census: Census,
        since: float,
        politely: bool,
    ) -> bool:
        """Begins to end it with everything it started; false when it is over, or ending already.

        It is over also when its command has just ended by itself and its slot's thread has yet to
        say so: how it ended is its own doing then, and what it left behind its own affair.
        `politely` sends SIGTERM; whatever is left at `kill_ticks` is for `kill`.
        """
        with self._lock:
            if self._over or self.ending is not None:
                return False
            if why != "killed" and _has_exited(self.pid):
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

    def limit_log(self, may_cut: Callable[[], bool]) -> None:
        """Cuts its log if that has grown too long, and as long as `may_cut` says so. Not once it is
        over: the log is closed then, and the number of its descriptor may be another file's.
        """
        with self._lock:
            if not self._over:
                self.log.limit(may_cut)

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
        if self.ending in ("stop", "fenced"):
            return outcomes.interrupted(exit_code, by_signal)
        if self.ending == "lease":
            return outcomes.cut_off(exit_code, by_signal)
        if by_signal is not None:
            return outcomes.killed(by_signal, _signal_name(by_signal))
        return outcomes.exited(code)


def _has_exited(pid: int) -> bool:
    """Whether a command's first process, not reaped yet, has ended."""
    if sys.platform == "win32":
        exited = False  # Its slot's thread knows as soon as this one could.
    else:
        exited = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return exited


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
