"""Reading lists of jobs page by page.

Each page is a query of its own: a long list holds no old rows alive. It may miss what moves on
while it is read, but shows no job twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuectl.jobs.job_view import SORT_KEYS
from queuectl.jobs.lifecycle import FINISHED
from queuectl.storage.postgres import sql
from queuectl.storage.rows import job

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from queuectl.jobs.job_view import Job
    from queuectl.jobs.lifecycle import State
    from queuectl.storage.postgres.connection import Connection

_PAGE = 500

_FIRST, _LAST = -(2**63), 2**63 - 1


def pages(
    db: Connection,
    states: Sequence[State],
    sort: str,
    descending: bool,
    limit: int | None,
) -> Iterator[list[Job]]:
    """Lists of jobs, as `JobStorage.list_jobs` gives them one by one."""
    chosen = list(dict.fromkeys(states))
    direction = "DESC" if descending else "ASC"
    if sort == "created":
        return _by_arrival(db, chosen, direction, limit)
    # Where there is nothing, it comes first: as on SQLite.
    nulls = "LAST" if descending else "FIRST"
    return _sorted(
        db, chosen, f"{SORT_KEYS[sort]} {direction} NULLS {nulls}, seq {direction}", limit
    )


def _by_arrival(
    db: Connection, states: list[State], direction: str, limit: int | None
) -> Iterator[list[Job]]:
    last, beyond = (_LAST, "seq < %(last)s") if direction == "DESC" else (_FIRST, "seq > %(last)s")
    end = f"ORDER BY seq {direction} LIMIT %(size)s"
    one = f"(SELECT {sql.JOB_COLUMNS}, seq FROM {{}} WHERE {{}} {beyond} {end})"
    # Each state is read along the index of its table and cut, before they are merged.
    parts = [one.format(_table(state), f"state = '{state.value}' AND") for state in states]
    if not states:
        parts = [one.format("jobs", ""), one.format("ended_jobs", "")]
    query = f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS found {end}"
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        rows = db.fetch(query, {"last": last, "size": size})
        yield [job(row[:-1]) for row in rows]
        if len(rows) < size:
            return
        last = rows[-1][-1]
        left = None if left is None else left - len(rows)


def _table(state: State) -> str:
    return "ended_jobs" if state in FINISHED else "jobs"


def _sorted(
    db: Connection, states: list[State], order: str, limit: int | None
) -> Iterator[list[Job]]:
    where = "WHERE state = ANY(%(states)s)" if states else ""
    columns = ", ".join(["seq", "state", *SORT_KEYS.values()])
    query = f"""SELECT seq FROM (
      SELECT {columns} FROM jobs UNION ALL SELECT {columns} FROM ended_jobs) AS found
      {where} ORDER BY {order} LIMIT %(limit)s"""
    values = {"states": [state.value for state in states], "limit": limit}
    numbers = [seq for (seq,) in db.fetch(query, values)]
    for start in range(0, len(numbers), _PAGE):
        page = numbers[start : start + _PAGE]
        query = " UNION ALL ".join(
            f"SELECT seq, {sql.JOB_COLUMNS} FROM {table} WHERE seq = ANY(%(page)s)"
            for table in ("jobs", "ended_jobs")
        )
        found = {row[0]: job(row[1:]) for row in db.fetch(query, {"page": page})}
        jobs = [found[number] for number in page if number in found]
        # Some may have moved on since they were put in order.
        yield [found_job for found_job in jobs if not states or found_job.state in states]
