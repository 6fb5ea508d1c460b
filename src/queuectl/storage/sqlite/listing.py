"""Reading lists of jobs page by page.

A query that stays open would hold the database as it was when it began, and its connection could
write nothing meanwhile. So each page is a query of its own, and a list may miss what moves on
while it is read, but shows no job twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuectl.jobs.job_view import SORT_KEYS
from queuectl.storage.rows import job
from queuectl.storage.sqlite import sql
from queuectl.storage.sqlite.connection import fetch, translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import apsw

    from queuectl.jobs.job_view import Job
    from queuectl.jobs.lifecycle import State

_PAGE = 500

_FIRST, _LAST = -(2**63), 2**63 - 1


def pages(
    db: apsw.Connection,
    path: str,
    states: Sequence[State],
    sort: str,
    descending: bool,
    limit: int | None,
) -> Iterator[list[Job]]:
    """Lists of jobs, as `JobStorage.list_jobs` gives them one by one."""
    chosen = list(dict.fromkeys(states))
    direction = "DESC" if descending else "ASC"
    if sort == "created":
        return _by_arrival(db, path, chosen, direction, limit)
    return _sorted(db, path, chosen, f"{SORT_KEYS[sort]} {direction}, seq {direction}", limit)


def _by_arrival(
    db: apsw.Connection, path: str, states: list[State], direction: str, limit: int | None
) -> Iterator[list[Job]]:
    last, beyond = (_LAST, "seq < ?") if direction == "DESC" else (_FIRST, "seq > ?")
    end = f"ORDER BY seq {direction} LIMIT ?"
    one = f"SELECT {sql.JOB_COLUMNS}, seq FROM jobs WHERE {{}} {beyond} {end}"
    of_state = one.format("state = ? AND")
    if not states:
        query = one.format("")
    elif len(states) == 1:
        query = of_state
    else:
        # Each state is read along the index and cut, before they are merged.
        query = " UNION ALL ".join([f"SELECT * FROM ({of_state})"] * len(states)) + f" {end}"
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        values: list[object] = [v for state in states for v in (state, last, size)]
        if not states:
            values = [last, size]
        elif len(states) > 1:
            values.append(size)
        with translated(path):
            rows = fetch(db, query, values)
        yield [job(row[:-1]) for row in rows]
        if len(rows) < size:
            return
        last = rows[-1][-1]
        left = None if left is None else left - len(rows)


def _sorted(
    db: apsw.Connection, path: str, states: list[State], order: str, limit: int | None
) -> Iterator[list[Job]]:
    where = f"WHERE state IN ({_marks(states)})" if states else ""
    query = f"SELECT seq FROM jobs {where} ORDER BY {order} LIMIT ?"
    with translated(path):
        numbers = [seq for (seq,) in fetch(db, query, [*states, -1 if limit is None else limit])]
    for start in range(0, len(numbers), _PAGE):
        page = numbers[start : start + _PAGE]
        query = f"SELECT seq, {sql.JOB_COLUMNS} FROM jobs WHERE seq IN ({_marks(page)})"
        with translated(path):
            found = {row[0]: job(row[1:]) for row in fetch(db, query, page)}
        jobs = [found[number] for number in page if number in found]
        # Some may have moved on since they were put in order.
        yield [found_job for found_job in jobs if not states or found_job.state in states]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
