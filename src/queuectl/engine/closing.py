"""What is left to do when an attempt has ended: the last line of its log, and the verdict.

The ledger's thread does it, together for all that is written in one commit: a slot has the next
command to start, and nothing that keeps that from starting may keep an outcome from being written.
"""

from __future__ import annotations

from queuectl.job_logs import own_lines
from queuectl.jobs.outcome import judge
from queuectl.storage.records import Settlement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.engine.attempt import Attempt
    from queuectl.jobs.outcome import Policy


class Closing:
    """For the worker called `name`, by the policy that is in force when an attempt is closed."""

    __slots__ = ("_name", "_policy")

    def __init__(self, name: str, policy: Callable[[], Policy]) -> None:
        self._name = name
        self._policy = policy

    def settlement(self, attempt: Attempt) -> Settlement:
        """Closes the log of an attempt that has ended; returns what to write of it."""
        outcome = attempt.outcome()
        # By the elapsed time: a clock that is set meanwhile makes no run end before it began.
        finished_at = attempt.started_at + int(attempt.seconds * 1e6)
        words = outcome.error or own_lines.SUCCEEDED
        try:
            log_end = attempt.log.close(words, finished_at, attempt.seconds)
        except OSError:
            log_end = None  # The disk is broken; the outcome matters more.
        return Settlement(
            attempt.claim,
            outcome,
            judge(attempt.claim, outcome, self._policy()),
            self._name,
            attempt.started_at,
            finished_at,
            attempt.log.start,
            log_end,
            attempt.output,
        )

    def abandon(self, attempt: Attempt) -> None:
        """Leaves the log as it is: the job was taken from this worker, and counts for another."""
        try:
            attempt.log.abandon()
        except OSError:
            pass
