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
    values[2] = _STATES[values[2]]
    values[11] = json.loads(values[11]) if values[11] else {}
    values[-1] = unpacked(values[-1])
    return Job._make(values)


def worker_record(row: Sequence[Any], now: int) -> WorkerRecord:
    """A row of `sql.LIST_WORKERS`; `now` is by the database's clock."""
    values = list(row)
    values[12] = (values[12] - now) / 1e6
    values[-1] = unpacked(values[-1])
    return WorkerRecord._make([*values, True])
