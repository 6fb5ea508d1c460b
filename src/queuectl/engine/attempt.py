"""One attempt while it runs: its claim, its process, its log, and how it is being ended, if it is."""

from __future__ import annotations

import os
import signal

from queuectl.jobs import outcome as outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.job_logs import OpenLog
    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Outcome


class Attempt:
    """A run of a command. Times are microseconds: `started_at` of the epoch, `*_ticks` elapsed."""

    __slots__ = (
        "_outcome",
        "claim",
        "deadline_ticks",
        "ended_ticks",
        "ending",
        "kill_ticks",
        "log",
        "pid",
        "started_at",
        "started_ticks",
        "status",
        "timeout",
    )

    def __init__(
        self, claim: Claim, log: OpenLog, *, started_at: int, started_ticks: int, timeout: float
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
        self.status: int | None = None
        """What `waitpid` said of its first process, once that has ended."""
        self._outcome: Outcome | None = None

    def end_with(self, outcome: Outcome) -> None:
        """It is over before a process was there that could end."""
        self._outcome = outcome

    @property
    def never_ran(self) -> bool:
        """Whether there was no process to wait for."""
        return self._outcome is not None

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return max(0, self.ended_ticks - self.started_ticks) / 1e6

    def outcome(self) -> Outcome:
        """How it ended, once it has."""
        if self._outcome is not None:
            return self._outcome
        if self.status is None:
            raise ValueError("the attempt has not ended")
        code = os.waitstatus_to_exitcode(self.status)
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
