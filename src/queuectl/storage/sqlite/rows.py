"""Rows of the database as the values that the rest of the program knows."""

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
    # A worker needs what is below alone, and starts quicker without these.
    import json

    from queuectl.jobs.job_view import Job

    values = list(row)
    state, env = Job._fields.index("state"), Job._fields.index("env")
    values[state] = _STATES[values[state]]
    values[env] = json.loads(values[env]) if values[env] else {}
    values[-1] = unpacked(values[-1])
    return Job._make(values)


def worker_record(row: Sequence[Any], ticks: int) -> WorkerRecord:
    """A row of `sql.LIST_WORKERS`; `ticks` is the machine's clock now."""
    values = list(row)
    left = WorkerRecord._fields.index("lease_left_seconds")
    values[left] = (values[left] - ticks) / 1e6
    values[-1] = unpacked(values[-1])
    return WorkerRecord(*values)
