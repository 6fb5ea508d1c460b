"""Rows of either database as the values that the rest of the program knows, and back."""

from __future__ import annotations

from queuectl.jobs.lifecycle import State
from queuectl.jobs.tags import unpacked
from queuectl.storage.records import WorkerRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from queuectl.jobs.job_view import Job

_STATES = {state.value: state for state in State}


def job(row: Sequence[Any]) -> Job:
    """A row of `sql.JOB_COLUMNS`."""
    # A worker needs `worker_record` alone, and starts quicker without these.
    import json

    from queuectl.jobs.job_view import Job

    values = list(row)
    state, env, requires = map(Job._fields.index, ("state", "env", "requires"))
    values[state] = _STATES[values[state]]
    values[env] = json.loads(values[env]) if values[env] else {}
    values[requires] = unpacked(values[requires])
    return Job._make(values)


def row_of(job: Job) -> tuple[object, ...]:
    """The row of a job, in the order of `sql.JOB_COLUMNS`."""
    import json

    env = json.dumps(job.env) if job.env else None
    return (*job._replace(env=env, requires=",".join(job.requires)),)  # type: ignore[arg-type]


def worker_record(row: Sequence[Any], now: int) -> WorkerRecord:
    """A row of `sql.LIST_WORKERS`; `now` is by the clock of the leases."""
    values = list(row)
    left = WorkerRecord._fields.index("lease_left_seconds")
    values[left] = (values[left] - now) / 1e6
    values[-1] = unpacked(values[-1])
    return WorkerRecord(*values)
