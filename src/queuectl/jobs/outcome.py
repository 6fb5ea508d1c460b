"""How an attempt can end, and what becomes of the job then. Pure: the same input, the same answer."""

from __future__ import annotations

from queuectl.jobs.lifecycle import State
from queuectl.jobs.retry import backoff_seconds, exhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.jobs.claim import Claim


class Outcome:
    """How one attempt ended. Make one with the functions below, a function a case."""

    __slots__ = ("begun", "error", "exit_code", "kind", "signal")

    def __init__(
        self,
        kind: str,
        *,
        exit_code: int | None = None,
        signal: int | None = None,
        error: str | None = None,
        begun: bool = True,
    ) -> None:
        self.kind = kind
        self.begun = begun
        """False when the attempt was only claimed: it took no time."""
        self.exit_code = exit_code
        self.signal = signal
        self.error = error

    def __repr__(self) -> str:
        return f"Outcome({self.kind!r}, {self.exit_code}, {self.signal}, {self.error!r})"


SUCCEEDED = Outcome("succeeded", exit_code=0)


def exited(code: int) -> Outcome:
    """The command ended by itself with this exit status (0 to 255, on Windows to 2**32 - 1)."""
    if code == 0:
        return SUCCEEDED
    meaning = {126: " (not executable)", 127: " (command not found)"}.get(code, "")
    return Outcome("failed", exit_code=code, error=f"exit status {code}{meaning}")


def killed(signal: int, name: str) -> Outcome:
    """The command was ended by a signal that queuectl did not send."""
    return Outcome("failed", signal=signal, error=f"killed by {name} (signal {signal})")


def timed_out(timeout: float, exit_code: int | None, signal: int | None) -> Outcome:
    """The command ran for longer than its `timeout` (seconds), and queuectl ended it."""
    return Outcome(
        "timeout", exit_code=exit_code, signal=signal, error=f"timeout: ran for over {timeout:g} s"
    )


def not_started(reason: str) -> Outcome:
    """The command could not be started at all: its folder is gone, or the machine refused."""
    return Outcome("not_started", error=reason)


def cancelled(exit_code: int | None, signal: int | None) -> Outcome:
    """Somebody cancelled the job while it ran, and queuectl ended it."""
    return Outcome("cancelled", exit_code=exit_code, signal=signal, error="cancelled while it ran")


def interrupted(exit_code: int | None, signal: int | None) -> Outcome:
    """The worker was told to stop and ended the command itself: this costs the job no attempt."""
    return Outcome(
        "interrupted", exit_code=exit_code, signal=signal, error="interrupted: its worker stopped"
    )


def cut_off(exit_code: int | None, signal: int | None) -> Outcome:
    """The worker could not reach the database for so long that its jobs may have been given to
    another, and ended the command itself: this costs the job no attempt.
    """
    return Outcome(
        "interrupted",
        exit_code=exit_code,
        signal=signal,
        error="interrupted: its worker was cut off from the database",
    )


MOVED = Outcome("interrupted", error="interrupted: the queue was exported while it ran")
"""What goes to another queue of an attempt that runs in this one: it costs the job no attempt."""

LOST = Outcome("lost", error="worker lost")
"""The worker died, or stopped answering, before it could say how the attempt ended."""

LOST_BEFORE_START = Outcome("lost", error="worker lost before the command was started", begun=False)
"""The worker had claimed the job, and was lost before its turn came."""


class Policy:
    """The settings that decide for a job that leaves them open."""

    __slots__ = ("backoff_base", "max_losses")

    def __init__(self, *, backoff_base: float, max_losses: int) -> None:
        self.backoff_base = backoff_base
        self.max_losses = max_losses


class Verdict:
    """What becomes of a job after an attempt.

    `attempts` and `losses` are the job's counts from now on. `delay` is in seconds; None when
    the job waits for nothing (it is finished, or due at once).
    """

    __slots__ = ("attempts", "delay", "losses", "state")

    def __init__(
        self, state: State, attempts: int, losses: int, delay: float | None = None
    ) -> None:
        self.state = state
        self.attempts = attempts
        self.losses = losses
        self.delay = delay

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Verdict):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Verdict({self.state}, attempts={self.attempts}, losses={self.losses}, delay={self.delay})"


def judge(claim: Claim, outcome: Outcome, policy: Policy) -> Verdict:
    """What becomes of the claimed job now that its attempt ended like this."""
    attempts, losses = claim.attempt, claim.losses
    if outcome.kind == "succeeded":
        return Verdict(State.COMPLETED, attempts, losses)
    if outcome.kind == "cancelled":
        return Verdict(State.CANCELLED, attempts, losses)
    if outcome.kind == "interrupted":
        return Verdict(State.PENDING, attempts - 1, losses)
    if outcome.kind == "lost":
        return _after_loss(claim, policy, begun=outcome.begun)
    return _after_failure(claim, losses, policy)


def _after_failure(claim: Claim, losses: int, policy: Policy) -> Verdict:
    if exhausted(claim.attempt, claim.max_retries):
        return Verdict(State.DEAD, claim.attempt, losses)
    base = policy.backoff_base if claim.backoff_base is None else claim.backoff_base
    delay = backoff_seconds(base, claim.attempt)
    return Verdict(State.FAILED, claim.attempt, losses, delay)


def _after_loss(claim: Claim, policy: Policy, *, begun: bool) -> Verdict:
    losses = claim.losses + 1
    limit = policy.max_losses if claim.max_losses is None else claim.max_losses
    # on_lost is about a command that may have done part of its work. The loss counts all the same:
    # a job that kills its workers can remove the signs of having begun.
    on_lost = claim.on_lost if begun else "retry"
    if on_lost == "hold" or losses >= limit:
        return Verdict(State.DEAD, claim.attempt, losses)
    if on_lost == "fail":
        return _after_failure(claim, losses, policy)
    # A worker's death says little about the job: it may run again at once, even past
    # max_retries. What ends a job that kills its workers is the limit on losses above.
    return Verdict(State.FAILED, claim.attempt, losses)
