"""The rules of a queue in plain Python, without a database: what the storage is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

from queuectl.jobs.claim import Claim
from queuectl.jobs.job import NewJob
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import Outcome
from tests.contract.support import POLICY, SECOND


@dataclass
class ModelJob:
    """What the queue should know of a job."""

    new: NewJob
    order: int
    state: State = State.PENDING
    attempts: int = 0
    losses: int = 0
    next_run_at: int | None = None
    failed_at: int = 0
    cancelling: bool = False
    error: str | None = None
    history: list[tuple[int, str]] = field(default_factory=list)
    """(attempt, outcome) of those that ended, in the order in which they ended."""
    holder: str | None = None
    claim: Claim | None = None


@dataclass
class ModelWorker:
    lease_ends: int
    tags: frozenset[str]
    fenced: bool = False


class Model:
    """Says what must become of the jobs; the test does the same to the storage, and compares."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.workers: dict[str, ModelWorker] = {}
        self._arrived = 0

    def enqueue(self, new: NewJob) -> None:
        self._arrived += 1
        self.jobs[new.id] = ModelJob(new, self._arrived, next_run_at=new.run_at)

    def waiting(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state in (State.PENDING, State.FAILED)]

    def held_by(self, worker: str) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.holder == worker]

    def may_write(self, worker: str) -> bool:
        return worker in self.workers and not self.workers[worker].fenced

    def claim(self, worker: str, wanted: int, now: int) -> list[ModelJob]:
        """The jobs that must be handed out, in this order."""
        for job in self.waiting():
            # What was once seen to be due stays so, even if the clock is set back.
            if job.next_run_at is not None and job.next_run_at <= now:
                job.next_run_at = None
        ready = [
            job
            for job in self.waiting()
            if job.next_run_at is None and self.workers[worker].tags.issuperset(job.new.requires)
        ]
        ready.sort(key=lambda job: (-job.new.priority, job.order))
        for job in ready[:wanted]:
            job.state = State.PROCESSING
            job.attempts += 1
            job.holder = worker
            job.error = None
        return ready[:wanted]

    def counts(self, worker: str, claim: Claim) -> bool:
        """Whether what the worker says about this claim still counts."""
        job = self.jobs.get(claim.id)
        return (
            job is not None
            and job.state == State.PROCESSING
            and job.holder == worker
            and job.claim == claim
        )

    def settle(self, job: ModelJob, outcome: Outcome, now: int) -> None:
        """What must become of a running job whose attempt ended like this."""
        job.history.append((job.attempts, outcome.kind))
        job.error = outcome.error
        called_off = job.cancelling
        delay = None
        if outcome.kind == "succeeded":
            state, called_off = State.COMPLETED, False
        elif outcome.kind == "cancelled":
            state = State.CANCELLED
        elif outcome.kind == "interrupted":
            state = State.PENDING
            job.attempts -= 1
        elif outcome.kind == "lost":
            job.losses += 1
            limit = POLICY.max_losses if job.new.max_losses is None else job.new.max_losses
            if job.losses >= limit or job.new.on_lost == "hold":
                state = State.DEAD
            elif job.new.on_lost == "retry":
                state = State.FAILED
            else:
                state, delay = self._after_failure(job)
        else:
            state, delay = self._after_failure(job)
        self._leave(job, State.CANCELLED if called_off else state)
        job.failed_at = now
        if delay is not None and not called_off:
            job.next_run_at = now + int(delay * SECOND)

    def rebase_retries(self, now: int) -> int:
        """What must become of retries when the clock says that they have not failed yet."""
        moved = 0
        for job in self.jobs.values():
            if job.state == State.FAILED and job.next_run_at is not None and job.failed_at > now:
                job.next_run_at += now - job.failed_at
                job.failed_at = now
                moved += 1
        return moved

    def _after_failure(self, job: ModelJob) -> tuple[State, float | None]:
        if job.attempts > job.new.max_retries:
            return State.DEAD, None
        base = POLICY.backoff_base if job.new.backoff_base is None else job.new.backoff_base
        return State.FAILED, base**job.attempts

    def give_back(self, job: ModelJob) -> None:
        job.attempts -= 1
        self._leave(job, State.CANCELLED if job.cancelling else State.PENDING)

    def cancel(self, job: ModelJob) -> None:
        if job.state == State.PROCESSING:
            job.cancelling = True
        else:
            self._leave(job, State.CANCELLED)
            job.next_run_at = None

    def requeue(self, job: ModelJob) -> None:
        self._leave(job, State.PENDING)
        job.attempts = job.losses = 0
        job.error = None

    def _leave(self, job: ModelJob, state: State) -> None:
        job.state = state
        job.holder = job.claim = None
        job.cancelling = False
