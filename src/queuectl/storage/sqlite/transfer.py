"""All jobs out of the database, and all jobs of an export into it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import apsw

from queuectl.jobs.job_view import Attempt, Job
from queuectl.jobs.transfer import ATTEMPT_FIELDS, exported
from queuectl.storage import refusals
from queuectl.storage.rows import job, row_of
from queuectl.storage.sqlite import sql
from queuectl.storage.sqlite.connection import fetch, fetch_one, translated
from queuectl.storage.sqlite.transactions import snapshot, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from queuectl.jobs.transfer import Record
    from queuectl.storage.sqlite.connection import QueueConnection

_PAGE = 1_000

_ATTEMPT_COLUMNS = ", ".join(ATTEMPT_FIELDS)


def export_jobs(db: apsw.Connection, path: str) -> Generator[tuple[Job, list[Attempt]]]:
    """As `JobStorage.export_jobs`. Page by page, but within one transaction."""
    jobs = f"SELECT seq, {sql.JOB_COLUMNS} FROM jobs WHERE seq > ? ORDER BY seq LIMIT ?"
    runs = f"""SELECT seq, {_ATTEMPT_COLUMNS} FROM attempts WHERE seq > ? AND seq <= ?
               ORDER BY seq, ended"""
    with translated(path), snapshot(db):
        last = -(2**63)
        while page := fetch(db, jobs, (last, _PAGE)):
            attempts: dict[int, list[Attempt]] = {row[0]: [] for row in page}
            first, last = last, page[-1][0]
            for seq, *values in fetch(db, runs, (first, last)):
                if seq in attempts:
                    attempts[seq].append(Attempt(*values))
            for seq, *values in page:
                yield job(values), attempts[seq]


def import_jobs(
    db: QueueConnection,
    path: str,
    records: Iterable[Record],
    finish: Callable[[], object] | None,
) -> None:
    """As `JobStorage.import_jobs`."""
    rest = iter(records)
    with translated(path):
        # As for many new jobs: the index of ids must not be read again for each.
        db.execute("PRAGMA cache_size = -65536")
        with transaction(db):
            [(last,)] = fetch(db, "SELECT coalesce(max(seq), 0) FROM jobs")
            seq = last
            while batch := list(islice(rest, _PAGE)):
                _insert(db, batch, seq, last)
                seq += len(batch)
            if finish is not None:
                # A full disk is met before, not in the commit.
                db.require_files()
                db.cache_flush()
                finish()


def _insert(db: apsw.Connection, batch: list[Record], seq: int, last: int) -> None:
    """Puts jobs in behind `seq`; `last` is that of the last one before all of them."""
    current = batch[0]

    def jobs() -> Iterator[tuple[object, ...]]:
        nonlocal current
        for number, record in enumerate(batch, seq + 1):
            current = record
            yield (number, *row_of(record.job))

    def attempts() -> Iterator[tuple[object, ...]]:
        for number, record in enumerate(batch, seq + 1):
            for attempt in record.attempts:
                yield (number, *exported(attempt))

    try:
        db.executemany(_INSERT_JOB, jobs())
    except apsw.ConstraintError:
        row = fetch_one(db, "SELECT seq > ? FROM jobs WHERE id = ?", (last, current.job.id))
        imported = row is not None and bool(row[0])
        raise refusals.id_of_another(current.line, current.job.id, imported=imported) from None
    db.executemany(_INSERT_ATTEMPT, attempts())


def _marks(columns: str) -> str:
    return ", ".join("?" * (columns.count(",") + 1))


_INSERT_JOB = f"INSERT INTO jobs (seq, {sql.JOB_COLUMNS}) VALUES (?, {_marks(sql.JOB_COLUMNS)})"
_INSERT_ATTEMPT = (
    f"INSERT INTO attempts (seq, {_ATTEMPT_COLUMNS}) VALUES (?, {_marks(_ATTEMPT_COLUMNS)})"
)
