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
from queuectl.storage.postgres.driver import psycopg2
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

# `ours`: it came with this import. Numbers do not tell, for others put jobs in meanwhile.
_TAKEN = """SELECT id, xmin = pg_current_xact_id()::xid AS ours FROM jobs WHERE id = ANY(%(ids)s)
UNION ALL SELECT id, xmin = pg_current_xact_id()::xid FROM ended_jobs WHERE id = ANY(%(ids)s)"""

_ENDED = "SELECT id FROM ended_jobs WHERE id = ANY(%s)"

_END = f"""WITH gone AS (DELETE FROM jobs WHERE seq = ANY(%s) RETURNING seq, {sql.JOB_COLUMNS})
INSERT INTO ended_jobs (seq, {sql.JOB_COLUMNS}) SELECT * FROM gone"""


def export_jobs(db: Connection) -> Generator[tuple[Job, list[Attempt]]]:
    """As `JobStorage.export_jobs`. Page by page, but within one transaction."""
    with db.snapshot(pauses=True):
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
    """As `JobStorage.import_jobs`.

    An id must be in one of two tables, and no index spans both. So every job is put into `jobs`, as
    whoever enqueues does: of two that bring the same id, the index of that table has the second wait
    for the first. Only then the other table is looked at, in a later snapshot: what left `jobs` for it
    before is found there. What has ended goes on to it afterwards. Nobody else waits.
    """
    rest = iter(records)
    with db.transaction(pauses=True):
        while batch := list(islice(rest, _PAGE)):
            _insert(db, batch)
        if finish is not None:
            finish()


def _insert(db: Connection, batch: list[Record]) -> None:
    _refuse_taken(db, batch)  # As a rule it is found here, with its line.
    numbers = [number for (number,) in db.fetch(_NEW_NUMBERS, (len(batch),))]
    jobs: list[Sequence[object]] = []
    attempts: list[Sequence[object]] = []
    ended: list[int] = []
    for record, number in zip(batch, numbers, strict=True):
        jobs.append((number, *row_of(record.job)))
        attempts += [(number, *exported(attempt)) for attempt in record.attempts]
        if record.job.state in FINISHED:
            ended.append(number)
    try:
        db.copy_in(f"jobs (seq, {sql.JOB_COLUMNS})", Lines(map(line, jobs)))
    except psycopg2.errors.UniqueViolation as error:
        raise _taken_meanwhile(error, batch) from None
    _refuse_ended(db, batch)
    if ended:
        db.execute(_END, (ended,))
    if attempts:
        db.copy_in(f"attempts (seq, {_ATTEMPT_COLUMNS})", Lines(map(line, attempts)))


def _refuse_taken(db: Connection, batch: list[Record]) -> None:
    """Raises the error for the first id that is taken."""
    taken = dict(db.fetch(_TAKEN, {"ids": [record.job.id for record in batch]}))
    for record in batch:
        ours = taken.get(record.job.id)
        if ours is not None:
            raise refusals.id_of_another(record.line, record.job.id, imported=ours)
        taken[record.job.id] = True


def _refuse_ended(db: Connection, batch: list[Record]) -> None:
    """Raises the error for the first job that has ended since all were looked for."""
    ended = {id for (id,) in db.fetch(_ENDED, ([record.job.id for record in batch],))}
    for record in batch:
        if record.job.id in ended:
            raise refusals.id_of_another(record.line, record.job.id, imported=False)


def _taken_meanwhile(error: psycopg2.Error, batch: list[Record]) -> Exception:
    """The error for the id that somebody else put in since all were looked for."""
    told = error.diag.message_detail or ""
    record = next((r for r in batch if f"({r.job.id})" in told), batch[0])
    return refusals.id_of_another(record.line, record.job.id, imported=False)
