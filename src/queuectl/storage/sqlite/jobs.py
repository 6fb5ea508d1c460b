"""`JobStorage` on SQLite: putting jobs in, looking at them, deciding about them by hand."""

from __future__ import annotations

import apsw

from queuectl.disk import holds_something
from queuectl.jobs.lifecycle import FINISHED, State, may, sources
from queuectl.storage.sqlite import sql
from queuectl.storage.sqlite.connection import (
    connect,
    fetch,
    fetch_one,
    translated,
)
from queuectl.storage.sqlite.transactions import snapshot, transaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from queuectl.jobs.job import NewJob
    from queuectl.jobs.job_view import Attempt, Job
    from queuectl.jobs.transfer import Record
    from queuectl.storage.records import Rights, WorkerRecord

_BATCH = 2_000
"""Rows a transaction of a bulk change touches: workers wait for no longer than that takes."""


class SqliteJobStorage:
    """The queue's file, open for one process's requests. Not for use by two threads at once."""

    keeps_output = False

    def __init__(self, path: str, *, create: bool) -> None:
        self.path = path
        self.created = create and not holds_something(path)
        self._db = connect(path, create=create)

    def close(self) -> None:
        self._db.close()

    # ---- putting jobs in

    def enqueue(self, jobs: Sequence[NewJob], now: int) -> None:
        with translated(self.path):
            if len(jobs) == 1:
                self._insert(jobs, now)
                return
            # The index of ids is as large as the queue; a few MiB of it must not be read again
            # for each job.
            self._db.execute("PRAGMA cache_size = -65536")
            with transaction(self._db):
                self._insert(jobs, now)

    def _insert(self, jobs: Sequence[NewJob], now: int) -> None:
        current = ""

        def rows() -> Iterator[tuple[object, ...]]:
            nonlocal current
            for job in jobs:
                current = job.id
                yield (
                    job.id,
                    job.command,
                    job.cwd,
                    _as_json(job.env),
                    job.priority,
                    job.max_retries,
                    job.backoff_base,
                    job.timeout,
                    job.on_lost,
                    job.max_losses,
                    now,
                    now,
                    job.run_at,
                    ",".join(job.requires),
                )

        try:
            self._db.executemany(sql.INSERT_JOB, rows())
        except apsw.ConstraintError:
            from queuectl.storage import refusals

            raise refusals.duplicate_id(current) from None

    # ---- looking

    def resolve(self, reference: str) -> str:
        from queuectl.storage import refusals

        try:
            reference.encode()
        except UnicodeEncodeError:
            raise refusals.job_not_found(reference) from None
        with translated(self.path):
            if reference == "@last":
                row = fetch_one(self._db, "SELECT id FROM jobs ORDER BY seq DESC LIMIT 1")
                if row is None:
                    raise refusals.no_last_job()
                return str(row[0])
            if self._state(reference) is not None:
                return reference
            if len(reference) < refusals.SHORTEST_PREFIX:
                raise refusals.prefix_too_short(reference)
            matches = fetch(
                self._db,
                "SELECT id FROM jobs WHERE id >= ? AND id < ? LIMIT 2",
                (reference, reference + "\U0010ffff"),
            )
            if not matches:
                raise refusals.job_not_found(reference)
            if len(matches) > 1:
                raise refusals.ambiguous(reference)
            return str(matches[0][0])

    def get(self, job_id: str) -> Job | None:
        with translated(self.path):
            row = fetch_one(self._db, f"SELECT {sql.JOB_COLUMNS} FROM jobs WHERE id = ?", (job_id,))
        return None if row is None else _job(row)

    def attempts(self, job_id: str) -> list[Attempt]:
        from queuectl.jobs.job_view import Attempt

        with translated(self.path), snapshot(self._db):
            ended = fetch(
                self._db,
                """SELECT attempt, started_at, finished_at, outcome, exit_code, signal, error, worker,
                          log_start, log_end
                   FROM attempts WHERE seq = (SELECT seq FROM jobs WHERE id = ?)
                   ORDER BY ended""",
                (job_id,),
            )
            running = fetch(
                self._db,
                f"""SELECT attempts, started_at, NULL, 'running', NULL, NULL, NULL, worker, NULL, NULL
                    FROM jobs WHERE id = ? AND state = '{State.PROCESSING}'""",
                (job_id,),
            )
        return [Attempt(*row) for row in ended + running]

    def output(self, job_id: str, run: int | None) -> None:
        return None  # The logs lie beside the file.

    def output_blocks(
        self, job_id: str, run: int | None, first: int, most: int
    ) -> list[tuple[int, bytes]]:
        return []

    def list_jobs(
        self, states: Sequence[State], *, sort: str, descending: bool, limit: int | None
    ) -> Iterator[Job]:
        from queuectl.storage.sqlite.listing import pages

        for page in pages(self._db, self.path, states, sort, descending, limit):
            yield from page

    def counts(self) -> dict[State, int]:
        with translated(self.path):
            rows = fetch(self._db, "SELECT state, count(*) FROM jobs GROUP BY state")
        return {State(state): count for state, count in rows}

    def scheduled(self, now: int) -> int:
        with translated(self.path):
            query = "SELECT count(*) FROM jobs WHERE next_run_at > ?"
            return int(self._one(query, (now,)))

    def ready_by_requirement(self, now: int) -> dict[tuple[str, ...], int]:
        with translated(self.path), snapshot(self._db):
            found = fetch(self._db, sql.COUNT_READY) + fetch(self._db, sql.COUNT_DUE, (now,))
        if not found:
            return {}
        from queuectl.jobs.tags import by_requirement

        return by_requirement(found)

    def unfinished(self, job_ids: Sequence[str]) -> list[str]:
        with translated(self.path):
            return [job_id for job_id in job_ids if self._state(job_id) not in (None, *FINISHED)]

    def existing(self, job_ids: Sequence[str]) -> set[str]:
        with translated(self.path):
            return {job_id for job_id in job_ids if self._state(job_id) is not None}

    # ---- deciding by hand

    def cancel(self, job_ids: Sequence[str], now: int) -> list[str]:
        running = []
        with translated(self.path), transaction(self._db):
            for job_id in job_ids:
                state = self._state_of(job_id)
                if state == State.PROCESSING:
                    self._db.execute(
                        """UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?1),
                                  updated_at = ?1 WHERE id = ?2""",
                        (now, job_id),
                    )
                    running.append(job_id)
                elif may("cancel", state):
                    self._db.execute(
                        f"""UPDATE jobs SET state = '{State.CANCELLED}', next_run_at = NULL,
                                   finished_at = ?1, updated_at = ?1 WHERE id = ?2""",
                        (now, job_id),
                    )
                else:
                    from queuectl.storage import refusals

                    raise refusals.wrong_state(
                        job_id, state, "cancelled", (*sources("cancel"), State.PROCESSING)
                    )
        return running

    def requeue(self, job_ids: Sequence[str], now: int, states: Sequence[State]) -> None:
        with translated(self.path), transaction(self._db):
            for job_id in job_ids:
                state = self._state_of(job_id)
                if state not in states:
                    from queuectl.storage import refusals

                    raise refusals.wrong_state(job_id, state, "requeued", states)
                self._db.execute(_REQUEUE + " WHERE id = ?2", (now, job_id))

    def requeue_dead(self, now: int) -> int:
        requeued = 0
        with translated(self.path):
            while True:
                self._db.execute(
                    f"""{_REQUEUE} WHERE seq IN
                        (SELECT seq FROM jobs WHERE state = '{State.DEAD}' ORDER BY seq LIMIT ?2)""",
                    (now, _BATCH),
                )
                changed = self._db.changes()
                requeued += changed
                if changed < _BATCH:
                    return requeued

    def delete(
        self,
        job_ids: Sequence[str],
        states: Sequence[State],
        remove_output: Callable[[Sequence[str]], object] | None = None,
    ) -> None:
        with translated(self.path), transaction(self._db):
            for job_id in job_ids:
                state = self._state_of(job_id)
                if state not in states:
                    from queuectl.storage import refusals

                    raise refusals.wrong_state(job_id, state, "deleted", states)
                self._db.execute(
                    "DELETE FROM attempts WHERE seq = (SELECT seq FROM jobs WHERE id = ?)",
                    (job_id,),
                )
                self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            self._remove_output(job_ids, remove_output)

    def prune(
        self,
        states: Sequence[State],
        before: int | None,
        batch: int,
        remove_output: Callable[[Sequence[str]], object] | None = None,
    ) -> list[str]:
        condition, arguments = _prunable(states, before)
        with translated(self.path):
            # Looked for before the database is locked: what is old enough may be hard to find.
            found = fetch(
                self._db, f"SELECT seq FROM jobs WHERE {condition} LIMIT ?", [*arguments, batch]
            )
            pruned = []
            with transaction(self._db):
                for (seq,) in found:
                    delete = f"DELETE FROM jobs WHERE seq = ? AND {condition} RETURNING id"
                    for (job_id,) in fetch(self._db, delete, [seq, *arguments]):
                        self._db.execute("DELETE FROM attempts WHERE seq = ?", (seq,))
                        pruned.append(job_id)
                self._remove_output(pruned, remove_output)
        return pruned

    def _remove_output(
        self, job_ids: Sequence[str], remove: Callable[[Sequence[str]], object] | None
    ) -> None:
        """The last step before the commit of what removes these jobs.

        Not after it: the ids are free then, and the output might be that of new jobs. A commit that
        fails would leave jobs without their output. So all that it has to write is written before,
        which is where a full disk is met; what is left is a page, and the removal makes room.
        """
        if remove is not None and job_ids:
            self._db.require_files()
            self._db.cache_flush()
            remove(job_ids)

    def count_prunable(self, states: Sequence[State], before: int | None) -> int:
        condition, arguments = _prunable(states, before)
        with translated(self.path):
            return int(self._one(f"SELECT count(*) FROM jobs WHERE {condition}", arguments))

    # ---- workers, and the file as a whole

    def workers(self) -> list[WorkerRecord]:
        with translated(self.path):
            rows = fetch(self._db, sql.LIST_WORKERS)
        if not rows:
            return []
        from queuectl.clock import Clock
        from queuectl.storage.rows import worker_record

        ticks = Clock().ticks()
        return [worker_record(row, ticks) for row in rows]

    def request_stop(self, worker_ids: Sequence[str], timeout: float | None, now: int) -> None:
        with translated(self.path), transaction(self._db):
            self._db.executemany(
                "UPDATE workers SET stop_requested_at = ?, stop_timeout = ? WHERE id = ?",
                [(now, timeout, worker_id) for worker_id in worker_ids],
            )

    def changes(self) -> int:
        with translated(self.path):
            return int(self._one("PRAGMA data_version"))

    def engine_version(self) -> str:
        return f"SQLite {apsw.sqlite_lib_version()}"

    def rights(self) -> Rights | None:
        return None

    def check(self) -> list[str]:
        with translated(self.path):
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def backup(self, path: str) -> None:
        from queuectl.storage.sqlite.backup import back_up

        back_up(self._db, self.path, path)

    def export_jobs(self) -> Generator[tuple[Job, list[Attempt]]]:
        from queuectl.storage.sqlite.transfer import export_jobs

        return export_jobs(self._db, self.path)

    def import_jobs(
        self, records: Iterable[Record], finish: Callable[[], object] | None = None
    ) -> None:
        from queuectl.storage.sqlite.transfer import import_jobs

        import_jobs(self._db, self.path, records, finish)

    # ---- within a transaction

    def _one(self, query: str, arguments: Sequence[object] = ()) -> int:
        [(value,)] = fetch(self._db, query, arguments)
        return int(value)

    def _state(self, job_id: str) -> State | None:
        row = fetch_one(self._db, "SELECT state FROM jobs WHERE id = ?", (job_id,))
        return None if row is None else State(row[0])

    def _state_of(self, job_id: str) -> State:
        state = self._state(job_id)
        if state is None:
            from queuectl.storage import refusals

            raise refusals.job_not_found(job_id)
        return state


_REQUEUE = f"""
UPDATE jobs SET state = '{State.PENDING}', attempts = 0, losses = 0, next_run_at = NULL,
       started_at = NULL, finished_at = NULL, exit_code = NULL, signal = NULL, error = NULL,
       worker = NULL, updated_at = ?1
"""


def _prunable(states: Sequence[State], before: int | None) -> tuple[str, list[object]]:
    condition = f"state IN ({', '.join('?' * len(states))})"
    arguments: list[object] = list(states)
    if before is not None:
        condition += " AND finished_at < ?"
        arguments.append(before)
    return condition, arguments


def _as_json(env: dict[str, str] | None) -> str | None:
    if not env:
        return None
    import json

    return json.dumps(env)


def _job(row: Sequence[object]) -> Job:
    from queuectl.storage.rows import job

    return job(row)
