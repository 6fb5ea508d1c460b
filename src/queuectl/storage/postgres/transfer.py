"""All jobs out of the database, and all jobs of an export into it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from queuectl.jobs.job_view import Attempt, Job
from queuectl.jobs.lifecycle import FINISHED
from queuectl.jobs.transfer import ATTEMPT_FIELDS, exported
from queuectl.storage import refusals
from queuectl.storage.postgres import sql
from queuectl.storage.postgres.copying import Lines, line
from queuectl.storage.rows import job, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from queuectl.jobs.transfer import Record
    from queuectl.storage.postgres.connection import Connection

_PAGE = 1_000

_ATTEMPT_COLUMNS = ", ".join(ATTEMPT_FIELDS)

_JOBS = f"""
(SELECT seq, {sql.JOB_COLUMNS} FROM jobs WHERE seq > %(last)s ORDER BY seq LIMIT %(page)s) UNION ALL
(SELECT seq, {sql.JOB_COLUMNS} FROM ended_jobs WHERE seq > %(last)s ORDER BY seq LIMIT %(page)s)
ORDER BY seq LIMIT %(page)s"""

_ATTEMPTS = f"""SELECT seq, {_ATTEMPT_COLUMNS} FROM attempts WHERE seq > %s AND seq <= %s
ORDER BY seq, ended"""

_NEW_NUMBERS = """SELECT nextval(pg_get_serial_sequence('jobs', 'seq'))
FROM generate_series(1, %s) ORDER BY 1"""

# An id is looked for in two tables, and no index keeps others from putting it into the other one
# meanwhile.
_LOCK = "LOCK TABLE jobs, ended_jobs IN SHARE ROW EXCLUSIVE MODE"

_TAKEN = """SELECT id, seq FROM jobs WHERE id = ANY(%(ids)s) UNION ALL
SELECT id, seq FROM ended_jobs WHERE id = ANY(%(ids)s)"""


def export_jobs(db: Connection) -> Generator[tuple[Job, list[Attempt]]]:
    """As `JobStorage.export_jobs`. Page by page, but within one transaction."""
    with db.snapshot():
        last = -(2**63)
        while page := db.fetch(_JOBS, {"last": last, "page": _PAGE}):
            attempts: dict[int, list[Attempt]] = {row[0]: [] for row in page}
            first, last = last, page[-1][0]
            for seq, *values in db.fetch(_ATTEMPTS, (first, last)):
                if seq in attempts:
                    attempts[seq].append(Attempt(*values))
            for seq, *values in page:
                yield job(values), attempts[seq]


def import_jobs(
    db: Connection, records: Iterable[Record], finish: Callable[[], object] | None
) -> None:
    """As `JobStorage.import_jobs`."""
    rest = iter(records)
    first = None
    with db.transaction():
        db.execute(_LOCK)
        while batch := list(islice(rest, _PAGE)):
            numbers = [number for (number,) in db.fetch(_NEW_NUMBERS, (len(batch),))]
            first = numbers[0] if first is None else first
            _refuse_taken(db, batch, first)
            _insert(db, batch, numbers)
        if finish is not None:
            finish()


def _refuse_taken(db: Connection, batch: list[Record], first: int) -> None:
    """Raises the error for the first id that is taken. Jobs from `first` on were just imported."""
    ids = [record.job.id for record in batch]
    taken = dict(db.fetch(_TAKEN, {"ids": ids}))
    for record in batch:
        number = taken.setdefault(record.job.id, None)
        if number is not None:
            raise refusals.id_of_another(record.line, record.job.id, imported=number >= first)
        taken[record.job.id] = first


def _insert(db: Connection, batch: list[Record], numbers: list[int]) -> None:
    waiting: list[Sequence[object]] = []
    ended: list[Sequence[object]] = []
    attempts: list[Sequence[object]] = []
    for record, number in zip(batch, numbers, strict=True):
        rows = ended if record.job.state in FINISHED else waiting
        rows.append((number, *row_of(record.job)))
        attempts += [(number, *exported(attempt)) for attempt in record.attempts]
    for table, columns, rows in (
        ("jobs", sql.JOB_COLUMNS, waiting),
        ("ended_jobs", sql.JOB_COLUMNS, ended),
        ("attempts", _ATTEMPT_COLUMNS, attempts),
    ):
        if rows:
            db.copy_in(f"{table} (seq, {columns})", Lines(map(line, rows)))
