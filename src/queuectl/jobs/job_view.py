"""A job as it is read back, with its attempts. Kept apart from `job`, which every enqueue loads."""

from __future__ import annotations

from typing import NamedTuple

from queuectl.jobs.lifecycle import State


class Job(NamedTuple):
    """One job, whole. Times are microseconds since the epoch (UTC), lengths are seconds."""

    id: str
    command: str
    state: State
    attempts: int
    """Runs begun and counted; a run that queuectl itself interrupted is not."""
    max_retries: int
    created_at: int
    updated_at: int
    next_run_at: int | None
    """When it may run; None when it need not wait, or has finished."""
    priority: int
    queue: str
    cwd: str
    env: dict[str, str]
    timeout: float | None
    backoff_base: float | None
    on_lost: str
    max_losses: int | None
    losses: int
    """Runs that ended because their worker was lost."""
    exit_code: int | None
    signal: int | None
    error: str | None
    """One line that says why the last attempt failed."""
    started_at: int | None
    finished_at: int | None
    worker: str | None
    cancel_requested_at: int | None
    requires: tuple[str, ...]
    """The tags that a worker must have to run it."""


SORT_KEYS = {
    "created": "created_at",
    "updated": "updated_at",
    "next_run": "next_run_at",
    "priority": "priority",
    "attempts": "attempts",
    "id": "id",
}
"""What a list of jobs can be sorted by, and the field that this is."""


class Attempt(NamedTuple):
    """One run of a job. Times are microseconds since the epoch (UTC)."""

    attempt: int
    started_at: int
    finished_at: int | None
    outcome: str
    """running, succeeded, failed, timeout, not_started, lost, interrupted or cancelled."""
    exit_code: int | None
    signal: int | None
    error: str | None
    worker: str | None
    log_start: int | None
    """Where this run's header line begins in the job's log, in bytes."""
    log_end: int | None
