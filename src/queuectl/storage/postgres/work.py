"""`WorkerStorage` on PostgreSQL: claim, settle, lease and rescue, every write fenced."""

from __future__ import annotations

import json
import os

from queuectl.errors import DatabaseError
from queuectl.jobs.claim import Claim
from queuectl.jobs.tags import beyond, by_requirement, unpacked
from queuectl.storage import refusals
from queuectl.storage.postgres import front, migrate, sql
from queuectl.storage.postgres.clock import DatabaseClock
from queuectl.storage.postgres.connection import Connection
from queuectl.storage.postgres.front import HEAD, Front, bounds, place
from queuectl.storage.postgres.watch import ChangeWatch
from queuectl.storage.records import Exchange, NewWorker, Outlook, Settlement, WorkerRecord
from queuectl.storage.rows import worker_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from queuectl.clock import Clock
    from queuectl.jobs.outcome import Outcome, Verdict
    from queuectl.storage.postgres.planned import Planned
    from queuectl.storage.records import OutputPart

_PROMOTED_AT_ONCE = 1_000
"""Due jobs made ready in one claim: more than it takes, so they never pile up."""


class PostgresWorkerStorage:
    """The queue's database, open for one worker. Used by one thread at a time."""

    spans_machines = True
    keeps_output = True

    def __init__(self, location: str, clock: Clock | None) -> None:
        self._db = Connection(location, pinned=True)
        self.clock = clock or self._db.clock
        self._latest: str | None = None
        self._watch: ChangeWatch | None = None
        self._front = Front()
        self._unanswered: list[int] = []
        """The tokens of claims of which it is not known whether they were committed."""
        self._tags: dict[str, str] = {}
        """Of the workers that registered here: a worker keeps its tags."""
        self._epochs: dict[str, int] = {}
        """Those that are not 0: how often a worker had to find out what became of its claims."""

    def close(self) -> None:
        self._db.close()

    # ---- this worker

    def register(self, worker: NewWorker) -> None:
        now = self.clock.now()
        lease_end = self._lease_end(worker.lease_seconds)
        self._db.execute(
            sql.INSERT_WORKER,
            (*worker[:9], now, now, worker.lease_seconds, lease_end, ",".join(worker.tags)),
        )
        self._latest = worker.id
        self._tags[worker.id] = ",".join(worker.tags)

    def unregister(self, worker_id: str) -> None:
        self._return_unknown(worker_id)
        self._db.execute(sql.DELETE_WORKER, {"worker_id": worker_id})

    def heartbeat(self, worker_id: str, lease_seconds: float) -> None:
        asked_ticks = self.clock.ticks()
        values = (self.clock.now(), lease_seconds, self._lease_end(lease_seconds), worker_id)
        row = self._db.fetch_one(sql.RENEW_LEASE, values)
        if row is None:
            raise refusals.fenced()
        if isinstance(self.clock, DatabaseClock):
            self.clock.learn(row[0], asked_ticks)

    def require_known_schema(self) -> None:
        migrate.require_known(self._db)

    def _lease_end(self, lease_seconds: float) -> int:
        return self.clock.shared() + int(lease_seconds * 1e6)

    # ---- its jobs

    def exchange(self, worker_id: str, settlements: Sequence[Settlement], wanted: int) -> Exchange:
        self._return_unknown(worker_id)
        tags = self._tags_of(worker_id) if wanted > 0 else ""
        where = HEAD if tags or wanted <= 0 else self._front.begin(self.clock.now())
        exchange = self._exchange(worker_id, settlements, wanted, tags, where)
        if where != HEAD and not exchange.claims:
            # What came in before the front waits no longer than there is other work.
            try:
                found = self._exchange(worker_id, [], wanted, tags, HEAD)
                exchange = exchange._replace(claims=found.claims)
            except DatabaseError:
                pass  # What was settled is. The next exchange meets the trouble, if it lasts.
        if settlements and not exchange.claims:
            self._ring()  # It may have been what others wait for: the last one, or a retry to come.
        return exchange

    def _exchange(
        self,
        worker_id: str,
        settlements: Sequence[Settlement],
        wanted: int,
        tags: str,
        where: int,
    ) -> Exchange:
        token = _new_token()
        now = self.clock.now()
        values = {
            "told": _told(settlements, now),
            "wanted": wanted,
            "token": token,
            "worker_id": worker_id,
            "epoch": self._epochs.get(worker_id, 0),
            "tags": tags,
            "now": now,
            "most": _PROMOTED_AT_ONCE,
            **bounds(where),
        }
        statements = [sql.SETTLED]
        if wanted > 0:
            claim = sql.CLAIM_WITH_TAGS if tags else sql.CLAIM_WITHOUT_TAGS
            statements = [sql.PROMOTE_DUE, claim]
        if settlements:
            statements.insert(0, sql.SETTLE_FIRST)
        parts = [s.output for s in settlements if s.output is not None]
        leads = wanted > 0 and not tags and where == HEAD and self._front.is_somebodys_turn(now)
        if leads:
            self._db.fetch(sql.SET_FRONT_UNTIL, (now + int(front.WALKING_SECONDS * 1e6),))
        try:
            if parts:
                with self._db.transaction():
                    self._keep(worker_id, parts)  # While the jobs are still this worker's.
                    rows, settled, walked = self._ask(statements, values)
            else:
                rows, settled, walked = self._ask(statements, values)
        except DatabaseError:
            if wanted > 0:
                self._unanswered.append(token)
            raise
        refused = [s.claim for n, s in enumerate(settlements) if n not in settled]
        # RETURNING gives the rows in any order.
        rows.sort(key=lambda row: (-row[13], row[0]))
        if wanted > 0 and not tags:
            found = place(rows[0][13], rows[0][0]) if rows else None
            self._mind_the_front(where, found, walked, leads=leads)
        return Exchange([Claim._make(row[:13]) for row in rows], refused)

    def _ask(
        self, statements: list[Planned], values: dict[str, object]
    ) -> tuple[list[Any], set[int], float]:
        """The rows of the claims, the numbers of the settlements that count, and the seconds that it
        took to find jobs. Raises WorkerFenced when the worker has been given up for lost.
        """
        *claims, told = self._db.fetch_planned(statements, values)
        counter, stands, settled, where, until, walked = told[: sql.TOLD_COLUMNS]
        if not stands:
            raise refusals.fenced()
        self._db.fresh_counter = counter
        self._front.hear(where, until)
        counted = {int(n) for n in (settled or "").split(",") if n}
        return [row[sql.TOLD_COLUMNS :] for row in claims], counted, walked or 0

    def _mind_the_front(self, where: int, found: int | None, walked: float, *, leads: bool) -> None:
        """Leaves word of where a claim found its first job, and of how long that took, if that is
        worth it. It is only advice: what goes wrong here changes nothing of the claim.
        """
        is_slow = walked >= front.SLOW_SECONDS
        try:
            if where != HEAD and found is not None:
                self._front.advance(found)
                if is_slow:
                    self._db.fetch(sql.SET_FRONT, (found,))
            elif is_slow and found is not None and self._is_full_of_dead():
                until = front.until(self.clock.now(), walked)
                self._db.fetch(f"{sql.SET_FRONT}; {sql.SET_FRONT_UNTIL}", (found, until))
                self._front.hear(found, until)
            elif leads:
                self._db.fetch(sql.SET_FRONT_UNTIL, (front.NOBODYS,))
                self._front.hear(HEAD, front.NOBODYS)
        except DatabaseError:
            pass

    def _is_full_of_dead(self) -> bool:
        [(dead,)] = self._db.fetch(sql.DEAD_ROWS)
        return bool(dead >= front.MANY_DEAD)

    def _tags_of(self, worker_id: str) -> str:
        found = self._tags.get(worker_id)
        return self._standing(worker_id)[2] if found is None else found

    def _standing(self, worker_id: str) -> tuple[str, None, str]:
        """A row of `sql.STANDING`. Raises WorkerFenced when the worker has been given up for lost."""
        standing = self._db.fetch_one(sql.STANDING, {"worker_id": worker_id})
        if standing is None or standing[1] is not None:
            raise refusals.fenced()
        return standing

    def keep_output(self, worker_id: str, parts: Sequence[OutputPart]) -> list[Claim]:
        with self._db.transaction():
            self._db.fetch(sql.WRITING, {"worker_id": worker_id})
            kept = self._keep(worker_id, parts)
        return [p.claim for p in parts if (p.claim.seq, p.claim.token) not in kept]

    def _keep(self, worker_id: str, parts: Sequence[OutputPart]) -> set[tuple[int, int]]:
        """The (seq, token) of those whose claims are still this worker's."""
        rows: list[object] = []
        for part in parts:
            claim = part.claim
            for number, count, data in part.blocks:
                rows += (claim.seq, claim.token, claim.attempt, number, part.begins, part.length)
                rows += (part.host, part.folder, count, data)
        places = ", ".join([sql.OUTPUT_ROW] * (len(rows) // 10))
        kept = set(self._db.fetch(sql.KEEP_OUTPUT.format(places), [*rows, worker_id]))
        for part in parts:
            run = (part.claim.seq, part.claim.token)
            for dropped in part.dropped if run in kept else ():
                self._db.execute(sql.DROP_OUTPUT, (*run, *dropped))
        return kept

    def give_back(self, worker_id: str, claims: Sequence[Claim]) -> None:
        with self._db.transaction():
            self._standing(worker_id)
            self._give_back(
                worker_id, [(c.seq, c.token, c.attempt) for c in claims], self.clock.now()
            )
        self._ring()

    def _return_unknown(self, worker_id: str) -> None:
        """Gives back what was claimed without our hearing of it. Raises WorkerFenced when the worker
        has been given up for lost.
        """
        if not self._unanswered:
            return
        epoch = self._epochs.get(worker_id, 0) + 1
        self._epochs[worker_id] = epoch  # Used up, even if the answer to this is lost.
        with self._db.transaction():
            if not self._db.fetch(sql.NEW_EPOCH, {"worker_id": worker_id, "epoch": epoch}):
                raise refusals.fenced()
            held = self._db.fetch(sql.UNKNOWN_CLAIMS, (worker_id, self._unanswered))
            if held:
                self._give_back(worker_id, held, self.clock.now())
        self._unanswered.clear()

    def _give_back(self, worker_id: str, held: Sequence[tuple[int, ...]], now: int) -> None:
        told = [{"seq": seq, "token": token, "attempt": attempt} for seq, token, attempt in held]
        values = {"told": json.dumps(told), "worker_id": worker_id, "now": now}
        self._db.execute(sql.GIVE_BACK, values)

    def outlook(self, worker_id: str, inside: str | None = None) -> Outlook:
        self._return_unknown(worker_id)
        now = self.clock.now()
        statement = sql.OUTLOOK_WITHOUT_TAGS if self._tags.get(worker_id) == "" else sql.OUTLOOK
        values = {"worker_id": worker_id, "inside": inside, **bounds(self._front.begin(now))}
        [row] = self._db.fetch_planned([statement], values)
        next_due_at, ready, running, retrying, cancelling, stop_requested_at, timeout, fenced = row
        ready = ready or (next_due_at is not None and next_due_at <= now)
        return Outlook(
            ready=bool(ready),
            next_due_at=next_due_at,
            unfinished=bool(ready or running or retrying),
            cancelling=[(token, seq) for token, seq in cancelling or []],
            stop_requested=stop_requested_at is not None,
            stop_timeout=timeout,
            fenced=fenced,
        )

    def left_to_others(self, worker_id: str) -> dict[tuple[str, ...], int]:
        standing = self._db.fetch_one(sql.STANDING, {"worker_id": worker_id})
        found = by_requirement(self._db.fetch(sql.COUNT_LEFT))
        return beyond(found, [unpacked(standing[2] if standing else "")])

    # ---- other workers

    def workers(self, *, count_running: bool = True) -> list[WorkerRecord]:
        if count_running:
            rows = self._db.fetch(sql.LIST_WORKERS)
        else:
            rows = self._db.look(sql.LIST_WORKERS_UNCOUNTED)
        now = self.clock.shared()
        return [worker_record(row, now)._replace(lease_is_shared=True) for row in rows]

    def give_up(self, worker_id: str, heartbeat_at: int) -> bool:
        values = {"worker_id": worker_id, "now": self.clock.now(), "heartbeat_at": heartbeat_at}
        with self._db.transaction():
            self._db.execute(f"{sql.FENCE} AND heartbeat_at = %(heartbeat_at)s", values)
            row = self._db.fetch_one(sql.STANDING, values)
        return row is None or row[1] is not None

    def fence(self, worker_id: str) -> list[Claim]:
        values = {"worker_id": worker_id, "now": self.clock.now()}
        with self._db.transaction():
            # Nothing is written the second time: it is asked again and again during a rescue.
            self._db.execute(sql.FENCE, values)
            rows = self._db.fetch(sql.HELD_BY, {"worker_id": worker_id})
        return [Claim._make(row[:13]) for row in rows]

    def suspended_writer(self) -> int | None:
        return None  # A lock of a session is one on some rows; the fence waits for no other's.

    def rewrite_worker(self, worker_id: str) -> None:
        self._db.execute("UPDATE workers SET slots = slots WHERE id = %s", (worker_id,))

    def rescue(
        self, worker_id: str, decide: Callable[[Claim], tuple[Outcome, Verdict]]
    ) -> list[tuple[Claim, Verdict]]:
        settlements = []
        with self._db.transaction():
            # Two rescuers take turns.
            self._db.fetch("SELECT 1 FROM workers WHERE id = %s FOR UPDATE", (worker_id,))
            now = self.clock.now()
            for row in self._db.fetch(sql.HELD_BY, {"worker_id": worker_id}):
                claim = Claim._make(row[:13])
                worker, started_at = row[13:]
                outcome, verdict = decide(claim)
                # Its clock may have shown more than the one that we go by.
                ended = max(now, started_at) if outcome.begun else started_at
                settlements.append(
                    Settlement(claim, outcome, verdict, worker, started_at, ended, None, None)
                )
            if settlements:
                values = {"told": _told(settlements, now), "worker_id": worker_id, "now": now}
                self._db.execute(sql.SETTLE, values)
            self._db.execute("DELETE FROM workers WHERE id = %s", (worker_id,))
        self._ring()
        return [(s.claim, s.verdict) for s in settlements]

    # ---- waking up, and the clock

    def watch(self, poll_seconds: float) -> ChangeWatch:
        self._watch = ChangeWatch(self._db, lambda: self._latest, poll_seconds)
        return self._watch

    def _ring(self) -> None:
        counter = self._db.ring()
        if self._watch is not None:
            self._watch.rang(counter)

    def make_room(self) -> None:
        pass  # The server's disk is the server's business.

    def rebase_retries(self) -> int:
        return self._db.execute(sql.REBASE_RETRIES, {"now": self.clock.now()})


def _told(settlements: Sequence[Settlement], now: int) -> str:
    """What the statements read of settlements."""
    return json.dumps([_fields(n, settlement, now) for n, settlement in enumerate(settlements)])


def _fields(n: int, settlement: Settlement, now: int) -> dict[str, object]:
    claim, outcome, verdict = settlement.claim, settlement.outcome, settlement.verdict
    return {
        "n": n,
        "seq": claim.seq,
        "token": claim.token,
        "attempt": claim.attempt,
        "state": verdict.state,
        "next_run_at": None if verdict.delay is None else now + int(verdict.delay * 1e6),
        "attempts": verdict.attempts,
        "losses": verdict.losses,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "error": outcome.error,
        "started_at": settlement.started_at,
        "finished_at": settlement.finished_at,
        "outcome": outcome.kind,
        "worker": settlement.worker,
        "log_start": settlement.log_start,
        "log_end": settlement.log_end,
    }


def _new_token() -> int:
    return int.from_bytes(os.urandom(8), "big") >> 1
