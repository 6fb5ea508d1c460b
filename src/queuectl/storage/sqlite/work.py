"""`WorkerStorage` on SQLite: claim, settle, lease and rescue, every write fenced."""

from __future__ import annotations

import os

import apsw

from queuectl.clock import Clock
from queuectl.jobs.claim import Claim
from queuectl.jobs.lifecycle import State
from queuectl.jobs.tags import beyond, by_requirement, unpacked
from queuectl.storage import refusals
from queuectl.storage.records import Exchange, NewWorker, Outlook, Settlement, WorkerRecord
from queuectl.storage.rows import worker_record
from queuectl.storage.sqlite import migrate, sql
from queuectl.storage.sqlite.connection import (
    connect,
    fetch,
    fetch_one,
    translated,
)
from queuectl.storage.sqlite.transactions import snapshot, transaction
from queuectl.storage.sqlite.watch import ChangeWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from queuectl.jobs.outcome import Outcome, Verdict
    from queuectl.storage.records import OutputPart

_CLAIM_WIDTH = len(Claim._fields)

_PROMOTED_AT_ONCE = 1_000
"""Due jobs moved to the ready index in one claim: more than it takes, so they never pile up,
and few enough that a million jobs due at the same moment do not stop the worker."""

_FOR_ALL = (sql.READY_FOR_ALL, sql.RETRYING_FOR_ALL)


class SqliteWorkerStorage:
    """The queue's file, open for one worker. Used by one thread at a time."""

    spans_machines = False
    keeps_output = False

    def __init__(self, path: str, clock: Clock | None) -> None:
        self.path = path
        self.clock = clock or Clock()
        self._db = connect(path, create=False)
        # Reached every second or so under load. The default of 4 MiB would checkpoint, with two
        # more fsyncs, many times a second.
        self._db.execute("PRAGMA wal_autocheckpoint = 4000")
        self._db.execute("PRAGMA cache_size = -16384")

    def close(self) -> None:
        self._db.close()

    # ---- this worker

    def register(self, worker: NewWorker) -> None:
        now = self.clock.now()
        with translated(self.path):
            self._db.execute(
                sql.INSERT_WORKER,
                (
                    *worker[:9],
                    now,
                    now,
                    worker.lease_seconds,
                    self._lease_end(worker.lease_seconds),
                    ",".join(worker.tags),
                ),
            )

    def unregister(self, worker_id: str) -> None:
        with translated(self.path):
            self._db.execute(sql.DELETE_WORKER, (worker_id,))

    def heartbeat(self, worker_id: str, lease_seconds: float) -> None:
        values = (self.clock.now(), lease_seconds, self._lease_end(lease_seconds), worker_id)
        with translated(self.path):
            # All rows are read: a commit that fails after the first one would go unnoticed.
            if not fetch(self._db, sql.RENEW_LEASE, values):
                self._check_standing(worker_id)

    def require_known_schema(self) -> None:
        with translated(self.path):
            migrate.require_known(self._db, self.path)

    def _lease_end(self, lease_seconds: float) -> int:
        return self.clock.shared() + int(lease_seconds * 1e6)

    # ---- its jobs

    def exchange(self, worker_id: str, settlements: Sequence[Settlement], wanted: int) -> Exchange:
        with translated(self.path), transaction(self._db):
            now = self.clock.now()  # After the wait for the lock: in the order of the commits.
            name, tags = self._check_standing(worker_id)
            refused = self._settle(worker_id, settlements, now) if settlements else []
            claims = self._claim(worker_id, name, tags, wanted, now) if wanted > 0 else []
        return Exchange(claims, refused)

    def _claim(self, worker_id: str, name: str, tags: str, wanted: int, now: int) -> list[Claim]:
        self._db.execute(sql.PROMOTE_DUE, (now, _PROMOTED_AT_ONCE))
        values = (_new_token(), worker_id, name, now)
        met = self._met(tags, sql.READY_REQUIREMENTS) if tags else [""]
        if len(met) == 1:
            rows = fetch(self._db, sql.CLAIM, (*values, wanted, met[0]))
        else:
            first = self._first_ready(met, wanted)
            rows = fetch(self._db, sql.CLAIM_THESE, (*values, str(first)))
        # RETURNING gives the rows in any order.
        rows.sort(key=lambda row: (-row[_CLAIM_WIDTH], row[0]))
        return [Claim._make(row[:_CLAIM_WIDTH]) for row in rows]

    def _first_ready(self, requirements: list[str], wanted: int) -> list[int]:
        """The numbers of the jobs that come first among those that require one of these."""
        found: list[tuple[int, int]] = []
        for requires in requirements:
            rows = fetch(self._db, sql.FIRST_READY, (requires, wanted))
            found += [(-priority, seq) for priority, seq in rows]
        return [seq for _, seq in sorted(found)[:wanted]]

    def _met(self, tags: str, query: str, values: Sequence[object] = ()) -> list[str]:
        """Of the requirements that `query` finds those that a worker with these tags meets."""
        having = set(tags.split(","))
        return [
            requires
            for (requires,) in fetch(self._db, query, values)
            if not requires or having.issuperset(requires.split(","))
        ]

    def _check_standing(self, worker_id: str) -> tuple[str, str]:
        """The worker's name and tags. Raises WorkerFenced when it has been given up for lost."""
        standing = fetch_one(self._db, sql.WORKER_STANDING, (worker_id,))
        if standing is None or standing[1] is not None:
            raise refusals.fenced()
        return standing[0], standing[4]

    def _settle(self, worker_id: str, settlements: Sequence[Settlement], now: int) -> list[Claim]:
        """Writes what still counts, and returns the claims of what does not."""
        values = [_settle_values(settlement, worker_id, now) for settlement in settlements]
        left = set(self._db.executemany(sql.SETTLE, values))
        settled, refused = [], []
        for settlement in settlements:
            claim = (settlement.claim.seq, settlement.claim.token)
            if claim in left:
                left.remove(claim)  # Told twice, it counts once.
                settled.append(_attempt_values(settlement))
            else:
                refused.append(settlement.claim)
        self._db.executemany(sql.INSERT_ATTEMPT, settled)
        return refused

    def keep_output(self, worker_id: str, parts: Sequence[OutputPart]) -> list[Claim]:
        return []  # The logs lie beside the file.

    def give_back(self, worker_id: str, claims: Sequence[Claim]) -> None:
        with translated(self.path), transaction(self._db):
            now = self.clock.now()  # After the wait for the lock: in the order of the commits.
            self._check_standing(worker_id)
            self._db.executemany(
                sql.GIVE_BACK,
                [(State.PENDING, now, c.seq, c.token, c.attempt, worker_id) for c in claims],
            )

    def outlook(self, worker_id: str, inside: str | None = None) -> Outlook:
        now = self.clock.now()
        with translated(self.path), snapshot(self._db):
            [(next_due_at,)] = fetch(self._db, sql.NEXT_DUE)
            due = next_due_at is not None and next_due_at <= now
            standing = fetch_one(self._db, sql.WORKER_STANDING, (worker_id,))
            tags = "" if standing is None else standing[4]
            # For a worker without tags one seek each tells.
            queries = (sql.READY_REQUIREMENTS, sql.RETRYING_REQUIREMENTS)
            ready_query, retrying_query = queries if tags else _FOR_ALL
            ready = due or bool(self._met(tags, ready_query))
            unfinished = (
                ready
                or bool(self._met(tags, sql.RUNNING_REQUIREMENTS, (inside,)))
                or bool(self._met(tags, retrying_query))
            )
            cancelling = fetch(self._db, sql.CANCELLING, (worker_id,))
        return Outlook(
            ready=ready,
            next_due_at=next_due_at,
            unfinished=unfinished,
            cancelling=[(token, seq) for token, seq in cancelling],
            stop_requested=standing is not None and standing[2] is not None,
            stop_timeout=None if standing is None else standing[3],
            fenced=standing is None or standing[1] is not None,
        )

    def left_to_others(self, worker_id: str) -> dict[tuple[str, ...], int]:
        with translated(self.path), snapshot(self._db):
            standing = fetch_one(self._db, sql.WORKER_STANDING, (worker_id,))
            found = fetch(self._db, sql.COUNT_READY) + fetch(self._db, sql.COUNT_RETRYING)
        return beyond(by_requirement(found), [unpacked(standing[4] if standing else "")])

    # ---- other workers

    def workers(self, *, count_running: bool = True) -> list[WorkerRecord]:
        with translated(self.path):
            rows = fetch(self._db, sql.LIST_WORKERS)
        ticks = self.clock.shared()
        return [worker_record(row, ticks) for row in rows]

    def give_up(self, worker_id: str, heartbeat_at: int) -> bool:
        with translated(self.path), transaction(self._db):
            self._db.execute(
                f"{sql.FENCE} AND heartbeat_at = ?3", (self.clock.now(), worker_id, heartbeat_at)
            )
            standing = fetch_one(self._db, sql.WORKER_STANDING, (worker_id,))
        return standing is None or standing[1] is not None

    def fence(self, worker_id: str) -> list[Claim]:
        with translated(self.path), transaction(self._db):
            # Nothing is written the second time: it is asked again and again during a rescue.
            self._db.execute(sql.FENCE, (self.clock.now(), worker_id))
            rows = fetch(self._db, sql.HELD_BY, (worker_id,))
        return [Claim._make(row[:_CLAIM_WIDTH]) for row in rows]

    def suspended_writer(self) -> int | None:
        from queuectl.storage.sqlite.writer import suspended_writer

        return suspended_writer(self.path)

    def rewrite_worker(self, worker_id: str) -> None:
        with translated(self.path), transaction(self._db):
            self._db.execute("UPDATE workers SET slots = slots WHERE id = ?", (worker_id,))

    def rescue(
        self, worker_id: str, decide: Callable[[Claim], tuple[Outcome, Verdict]]
    ) -> list[tuple[Claim, Verdict]]:
        with translated(self.path), transaction(self._db):
            now = self.clock.now()  # After the wait for the lock: in the order of the commits.
            held = fetch(self._db, sql.HELD_BY, (worker_id,))
            settlements = []
            for row in held:
                claim = Claim._make(row[:_CLAIM_WIDTH])
                worker, started_at = row[_CLAIM_WIDTH:]
                outcome, verdict = decide(claim)
                # The clock may have been set back since it began.
                ended = max(now, started_at) if outcome.begun else started_at
                settlements.append(
                    Settlement(claim, outcome, verdict, worker, started_at, ended, None, None)
                )
            self._settle(worker_id, settlements, now)
            self._db.execute("DELETE FROM workers WHERE id = ?", (worker_id,))
        return [(s.claim, s.verdict) for s in settlements]

    # ---- waking up, and the clock

    def watch(self, poll_seconds: float) -> ChangeWatch:
        return ChangeWatch(self.path, self._changes, poll_seconds)

    def _changes(self) -> int:
        with translated(self.path):
            [(version,)] = fetch(self._db, "PRAGMA data_version")
        return int(version)

    def make_room(self) -> None:
        try:
            # The write-ahead log can then be used again from its start.
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except apsw.Error:
            pass  # Not even this can be done now; it is tried again.

    def rebase_retries(self) -> int:
        with translated(self.path), transaction(self._db):
            self._db.execute(sql.REBASE_RETRIES, (self.clock.now(),))
            return self._db.changes()


def _settle_values(settlement: Settlement, worker_id: str, now: int) -> tuple[object, ...]:
    claim, outcome, verdict = settlement.claim, settlement.outcome, settlement.verdict
    return (
        verdict.state,
        None if verdict.delay is None else now + int(verdict.delay * 1e6),
        verdict.attempts,
        verdict.losses,
        outcome.exit_code,
        outcome.signal,
        outcome.error,
        settlement.started_at,
        settlement.finished_at,
        now,
        claim.seq,
        claim.token,
        claim.attempt,
        worker_id,
    )


def _attempt_values(settlement: Settlement) -> tuple[object, ...]:
    claim, outcome = settlement.claim, settlement.outcome
    return (
        claim.seq,
        claim.attempt,
        settlement.started_at,
        settlement.finished_at,
        outcome.kind,
        outcome.exit_code,
        outcome.signal,
        outcome.error,
        settlement.worker,
        settlement.log_start,
        settlement.log_end,
    )


def _new_token() -> int:
    return int.from_bytes(os.urandom(8), "big") >> 1
