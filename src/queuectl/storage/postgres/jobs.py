"""`JobStorage` on PostgreSQL: putting jobs in, looking at them, deciding about them by hand."""

from __future__ import annotations

from queuectl.errors import CouldNotDo
from queuectl.jobs.lifecycle import FINISHED, State, may, sources
from queuectl.jobs.limits import QUEUE
from queuectl.location import shareable
from queuectl.storage import refusals
from queuectl.storage.postgres import sql
from queuectl.storage.postgres.connection import Connection, quote
from queuectl.storage.postgres.driver import psycopg2
from queuectl.text import typed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from queuectl.jobs.job import NewJob
    from queuectl.jobs.job_view import Attempt, Job
    from queuectl.jobs.transfer import Record
    from queuectl.storage.postgres.connection import Values
    from queuectl.storage.records import OutputRecord, Rights, WorkerRecord

_BATCH = 2_000
"""Rows a transaction of a bulk change touches: workers wait for no longer than that takes."""

_FEW = 20
"""Up to so many jobs a single statement is quicker than a COPY."""

_LOOKS = 5
"""A job may move from one table to the other between two looks."""


class PostgresJobStorage:
    """The queue's database, open for one process's requests. Not for use by two threads at once."""

    keeps_output = True

    def __init__(self, location: str, *, create: bool) -> None:
        self._location = location
        self._db = Connection(location, create=create)
        self.created = self._db.created
        self._pruning: tuple[tuple[State, ...], int | None] | None = None
        self._pruned_to = 0
        """How far the batches of one pruning have come."""

    def close(self) -> None:
        self._db.close()

    # ---- putting jobs in

    def enqueue(self, jobs: Sequence[NewJob], now: int) -> None:
        if not jobs:
            return
        ids = [job.id for job in jobs]
        put = self._insert if len(jobs) <= _FEW else self._copy
        try:
            with self._db.transaction():
                taken = put((_values(job, now) for job in jobs), ids)
                if taken is not None:
                    raise refusals.duplicate_id(taken[0])
        except psycopg2.errors.UniqueViolation:
            raise refusals.duplicate_id(self._first_taken(ids)) from None
        for_anybody = all(job.run_at is None and not job.requires for job in jobs)
        self._db.ring(len(jobs) if for_anybody else None)

    def _insert(self, rows: Iterable[tuple[object, ...]], ids: list[str]) -> tuple[str] | None:
        values = [value for row in rows for value in row]
        group = "(" + ", ".join(["%s"] * (len(values) // len(ids))) + ")"
        query = f"{sql.INSERT_JOBS}{', '.join([group] * len(ids))}; {sql.TAKEN}"
        return self._db.fetch_one(query, [*values, ids])

    def _copy(self, rows: Iterable[tuple[object, ...]], ids: list[str]) -> tuple[str] | None:
        from queuectl.storage.postgres.copying import Lines, line

        self._db.copy_in(sql.COPY_JOBS, Lines(map(line, rows)))
        return self._db.fetch_one(sql.TAKEN, (ids,))

    def _first_taken(self, ids: list[str]) -> str:
        taken = self.existing(ids)
        seen: set[str] = set()
        for job_id in ids:
            if job_id in taken or job_id in seen:
                return job_id
            seen.add(job_id)
        return ids[0]

    # ---- looking

    def resolve(self, reference: str) -> str:
        if not _is_text(reference):
            raise refusals.job_not_found(reference)
        if reference == "@last":
            row = self._db.fetch_one(sql.LAST_ID)
            if row is None:
                raise refusals.no_last_job()
            return str(row[0])
        if self._states([reference]):
            return reference
        if len(reference) < refusals.SHORTEST_PREFIX:
            raise refusals.prefix_too_short(reference)
        matches = self._db.fetch(
            sql.BEGINNING_WITH, {"from": reference, "to": reference + "\U0010ffff"}
        )
        if not matches:
            raise refusals.job_not_found(reference)
        if len(matches) > 1:
            raise refusals.ambiguous(reference)
        return str(matches[0][0])

    def get(self, job_id: str) -> Job | None:
        from queuectl.storage.rows import job

        row = self._db.fetch_one(sql.JOB, {"id": job_id})
        return None if row is None else job(row)

    def attempts(self, job_id: str) -> list[Attempt]:
        from queuectl.jobs.job_view import Attempt

        with self._db.snapshot():
            ended = self._db.fetch(sql.ENDED_ATTEMPTS, {"id": job_id})
            running = self._db.fetch(sql.RUNNING_ATTEMPT, {"id": job_id})
        return [Attempt._make(row) for row in ended + running]

    def output(self, job_id: str, run: int | None) -> OutputRecord | None:
        from queuectl.storage.records import OutputRecord

        rows = self._db.fetch(sql.OUTPUT, {"id": job_id, "run": run})
        if not rows:
            return None
        host, folder, begins, length = rows[-1][2:]
        return OutputRecord(host, folder, begins, length, [(row[0], row[1]) for row in rows])

    def output_blocks(
        self, job_id: str, run: int | None, first: int, most: int
    ) -> list[tuple[int, bytes]]:
        values = {"id": job_id, "run": run, "first": first, "most": most}
        return [(n, bytes(data)) for n, data in self._db.fetch(sql.OUTPUT_BLOCKS, values)]

    def list_jobs(
        self, states: Sequence[State], *, sort: str, descending: bool, limit: int | None
    ) -> Iterator[Job]:
        from queuectl.storage.postgres.listing import pages

        for page in pages(self._db, states, sort, descending, limit):
            yield from page

    def counts(self) -> dict[State, int]:
        rows = self._db.fetch(
            """SELECT state, count(*) FROM jobs GROUP BY state UNION ALL
               SELECT state, count(*) FROM ended_jobs GROUP BY state"""
        )
        return {State(state): count for state, count in rows}

    def scheduled(self, now: int) -> int:
        return self._one("SELECT count(*) FROM jobs WHERE next_run_at > %s", (now,))

    def ready_by_requirement(self, now: int) -> dict[tuple[str, ...], int]:
        from queuectl.jobs.tags import by_requirement

        return by_requirement(self._db.fetch(sql.COUNT_READY, {"now": now}))

    def unfinished(self, job_ids: Sequence[str]) -> list[str]:
        states = self._states(job_ids)
        return [job_id for job_id in job_ids if states.get(job_id, State.DEAD) not in FINISHED]

    def existing(self, job_ids: Sequence[str]) -> set[str]:
        return set(self._states(job_ids))

    # ---- deciding by hand

    def cancel(self, job_ids: Sequence[str], now: int) -> list[str]:
        running = []
        with self._db.transaction():
            states = self._lock(job_ids)
            for job_id in job_ids:
                state, values = states[job_id], {"now": now, "id": job_id}
                if state == State.PROCESSING:
                    self._db.execute(sql.ASK_TO_CANCEL, values)
                    running.append(job_id)
                elif may("cancel", state):
                    self._db.execute(sql.CALL_OFF, values)
                else:
                    raise refusals.wrong_state(
                        job_id, state, "cancelled", (*sources("cancel"), State.PROCESSING)
                    )
        self._db.ring()
        return running

    def requeue(self, job_ids: Sequence[str], now: int, states: Sequence[State]) -> None:
        def begin_anew(job_id: str, _: State) -> None:
            self._db.execute(sql.REQUEUE, {"now": now, "id": job_id})

        self._each(job_ids, states, "requeued", begin_anew)

    def requeue_dead(self, now: int) -> int:
        requeued, changed = 0, _BATCH
        while changed == _BATCH:
            changed = self._db.execute(sql.REQUEUE_DEAD, {"now": now, "most": _BATCH})
            requeued += changed
            self._db.ring()
        return requeued

    def delete(
        self,
        job_ids: Sequence[str],
        states: Sequence[State],
        remove_output: Callable[[Sequence[str]], object] | None = None,
    ) -> None:
        def remove(job_id: str, state: State) -> None:
            table = "ended_jobs" if state in FINISHED else "jobs"
            self._db.execute(sql.DELETE.format(table), (job_id,))
            if remove_output is not None and job_id == job_ids[-1]:
                remove_output(
                    job_ids
                )  # While the ids are taken: it might be that of new jobs then.

        self._each(job_ids, states, "deleted", remove)

    def _each(
        self,
        job_ids: Sequence[str],
        allowed: Sequence[State],
        done: str,
        act: Callable[[str, State], None],
    ) -> None:
        """All or none, when each is in an allowed state."""
        with self._db.transaction():
            states = self._lock(job_ids)
            for job_id in job_ids:
                if states[job_id] not in allowed:
                    raise refusals.wrong_state(job_id, states[job_id], done, allowed)
                act(job_id, states[job_id])
        self._db.ring()

    def prune(
        self,
        states: Sequence[State],
        before: int | None,
        batch: int,
        remove_output: Callable[[Sequence[str]], object] | None = None,
    ) -> list[str]:
        what = (tuple(states), before)
        after = self._pruned_to if what == self._pruning else 0
        values = {"states": [s.value for s in states], "before": before, "most": batch}
        with self._db.transaction():
            rows = self._db.fetch(sql.PRUNE, {**values, "after": after})
            if after and len(rows) < batch:  # Has one with a lower number ended meanwhile?
                values["most"] = batch - len(rows)
                rows += self._db.fetch(sql.PRUNE, {**values, "after": 0})
            pruned = [job_id for job_id, _ in rows]
            if remove_output is not None and pruned:
                remove_output(pruned)
        self._pruning = what if len(rows) == batch else None
        self._pruned_to = max((seq for _, seq in rows), default=0)
        return pruned

    def count_prunable(self, states: Sequence[State], before: int | None) -> int:
        values = {"states": [s.value for s in states], "before": before}
        return self._one(f"SELECT count(*) FROM ended_jobs WHERE {sql.PRUNABLE}", values)

    # ---- workers, and the database as a whole

    def workers(self) -> list[WorkerRecord]:
        from queuectl.storage.rows import worker_record

        rows = self._db.fetch(sql.LIST_WORKERS)
        now = self._db.clock.shared()
        return [worker_record(row, now)._replace(lease_is_shared=True) for row in rows]

    def request_stop(self, worker_ids: Sequence[str], timeout: float | None, now: int) -> None:
        self._db.execute(
            "UPDATE workers SET stop_requested_at = %s, stop_timeout = %s WHERE id = ANY(%s)",
            (now, timeout, list(worker_ids)),
        )
        self._db.ring()

    def changes(self) -> int:
        # Of the whole server, and of each transaction in it: nothing is missed, whoever wrote it.
        return self._one("SELECT hashtextextended(pg_current_snapshot()::text, 0)")

    def engine_version(self) -> str:
        [(version,)] = self._db.fetch("SHOW server_version")
        return f"PostgreSQL {version}"

    def rights(self) -> Rights | None:
        from queuectl.storage.postgres import shape

        return shape.rights(self._db)

    def check(self) -> list[str]:
        from queuectl.storage.postgres import shape

        faults = shape.missing(self._db)
        if faults:
            return faults
        [(gaps,)] = self._db.fetch("SELECT count(*) FROM jobs JOIN ended_jobs USING (id)")
        return [f"{gaps} jobs are both waiting and ended"] if gaps else []

    def backup(self, path: str) -> None:
        raise CouldNotDo(
            "a queue on PostgreSQL is copied by PostgreSQL's own program, pg_dump",
            hint="It must not be older than the server: "
            + typed(
                *("pg_dump", "--dbname", shareable(self._location, for_others=True)),
                *("--file", path, "--schema", _pattern(self._db.schema)),
            ),
        )

    def export_jobs(self) -> Generator[tuple[Job, list[Attempt]]]:
        from queuectl.storage.postgres.transfer import export_jobs

        return export_jobs(self._db)

    def import_jobs(
        self, records: Iterable[Record], finish: Callable[[], object] | None = None
    ) -> None:
        from queuectl.storage.postgres.transfer import import_jobs

        import_jobs(self._db, records, finish)
        self._db.ring()

    # ---- the steps of these

    def _one(self, query: str, values: Values = None) -> int:
        [(value,)] = self._db.fetch(query, values)
        return int(value)

    def _states(self, job_ids: Sequence[str]) -> dict[str, State]:
        ids = [job_id for job_id in job_ids if _is_text(job_id)]
        return {id: State(state) for id, state in self._db.fetch(sql.STATES, {"ids": ids})}

    def _lock(self, job_ids: Sequence[str]) -> dict[str, State]:
        """The states of the jobs, which stay what they are until the transaction ends."""
        found: dict[str, State] = {}
        for _ in range(_LOOKS):
            for table in ("jobs", "ended_jobs"):
                missing = [job_id for job_id in job_ids if job_id not in found]
                if not missing:
                    return found
                rows = self._db.fetch(
                    f"SELECT id, state FROM {table} WHERE id = ANY(%s) ORDER BY seq FOR UPDATE",
                    (missing,),
                )
                found |= {id: State(state) for id, state in rows}
            if not any(job_id not in found for job_id in job_ids):
                return found
        raise refusals.job_not_found(next(id for id in job_ids if id not in found))


def _pattern(schema: str) -> str:
    """The name of a schema for pg_dump, which would take other signs than these for a pattern."""
    plain = schema.isascii() and schema.isidentifier() and schema == schema.lower()
    return schema if plain else quote(schema)


def _is_text(text: str) -> bool:
    """Whether PostgreSQL can hold it."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _values(job: NewJob, now: int) -> tuple[object, ...]:
    env = None
    if job.env:
        import json

        env = json.dumps(job.env)
    return (
        job.id,
        QUEUE,
        job.command,
        job.cwd,
        env,
        State.PENDING.value,
        job.priority,
        0,
        job.max_retries,
        job.backoff_base,
        job.timeout,
        job.on_lost,
        job.max_losses,
        0,
        now,
        now,
        job.run_at,
        ",".join(job.requires),
    )
