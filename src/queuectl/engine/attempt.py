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
    """A started command. Times are microseconds: `started_at` of the epoch, `*_ticks` elapsed."""

    __slots__ = (
        "claim",
        "deadline_ticks",
        "ending",
        "kill_ticks",
        "killed",
        "log",
        "pid",
        "started_at",
        "started_ticks",
        "status",
        "timeout",
    )

    def __init__(
        self,
        claim: Claim,
        pid: int,
        log: OpenLog,
        *,
        started_at: int,
        started_ticks: int,
        timeout: float,
    ) -> None:
        self.claim = claim
        self.pid = pid
        self.log = log
        self.started_at = started_at
        self.started_ticks = started_ticks
        self.timeout = timeout
        self.deadline_ticks = started_ticks + int(timeout * 1e6) if timeout else None
        self.ending: str | None = None
        """Why queuectl is ending it: timeout, cancel, stop or fenced."""
        self.kill_ticks = 0
        """When SIGTERM has been given time enough, and SIGKILL follows."""
        self.killed = False
        self.status: int | None = None
        """What `waitpid` said of its first process, once that has ended."""

    def outcome(self) -> Outcome:
        """How it ended, once `status` is known."""
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
