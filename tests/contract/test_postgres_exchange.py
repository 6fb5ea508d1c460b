"""Settling and claiming on PostgreSQL: what is locked in which order, and answers that are lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest

from queuectl.errors import DatabaseBusy, DatabaseUnreachable
from queuectl.storage.postgres import sql
from queuectl.storage.postgres.front import HEAD, bounds
from queuectl.storage.postgres.planned import Planned
from queuectl.storage.postgres.work import PostgresWorkerStorage
from queuectl.storage.records import Exchange
from tests import postgres
from tests.contract.support import Database, Pair, ids_of
from tests.support import wait_until

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
def database(own_database: Database) -> Database:
    """A database of its own."""
    return own_database


@pytest.fixture
def pair(database: Database) -> Pair:
    """Both sides of it, with a worker."""
    pair = Pair(database)
    pair.register("w")
    return pair


@pytest.fixture
def work(pair: Pair) -> PostgresWorkerStorage:
    """The worker's side."""
    assert isinstance(pair.work, PostgresWorkerStorage)
    return pair.work


@contextmanager
def transaction(database: Database, *statements: str) -> Iterator[Any]:
    """Somebody else's, open until the block ends."""
    db = psycopg2.connect(database.location)
    cursor = db.cursor()
    for statement in ("SET search_path = queuectl", *statements):
        cursor.execute(statement)
    yield cursor
    db.rollback()
    db.close()


def in_background(action: Callable[[], object]) -> threading.Thread:
    """Does it in a thread, and returns when the server has it wait for a lock."""
    thread = threading.Thread(target=action)
    thread.start()
    wait_until(lambda: postgres.needed().sql(WAITING) == [(1,)], "it waits for a lock")
    return thread


def test_an_exchange_that_waits_for_a_running_job_holds_no_waiting_one(
    pair: Pair, database: Database
) -> None:
    """Who cancels several jobs locks the running one first: the other way round, each would wait for
    the other. What is due is left alone for as long, too.
    """
    pair.enqueue("running")
    claim = pair.claim_one("w")
    pair.enqueue("ready", "due")
    with transaction(database) as cursor:
        cursor.execute("UPDATE jobs SET next_run_at = 1 WHERE id = 'due'")
        cursor.connection.commit()
        cursor.execute("SET search_path = queuectl")
        cursor.execute("SELECT FROM jobs WHERE id = 'running' FOR UPDATE")
        got: list[Exchange] = []
        thread = in_background(
            lambda: got.append(pair.work.exchange("w", [pair.settlement(claim)], 5))
        )
        cursor.execute("SELECT id FROM jobs WHERE id <> 'running' FOR UPDATE NOWAIT")
        assert len(cursor.fetchall()) == 2
        cursor.connection.rollback()
        thread.join()
    assert ids_of(got[0].claims) == ["ready", "due"]
    assert got[0].refused == []
    assert pair.state("running") == "completed"


@pytest.mark.parametrize("said_of", ["none", "all dead", "many"])
@pytest.mark.parametrize("sent", ["as text", "planned once"])
def test_the_plans_do_not_depend_on_statistics(
    pair: Pair, work: PostgresWorkerStorage, database: Database, said_of: str, sent: str
) -> None:
    """However wrong these are, a claim goes along the index of ready jobs and stops, and a settlement
    looks each of its jobs up: through a pooler, and in a session of its own.
    """
    pair.enqueue(*(f"{n}" for n in range(2_000)))
    lies = {"none": (0, 0), "all dead": (10_000, 0), "many": (10, 1_000_000)}
    with transaction(database) as cursor:
        pages, rows = lies[said_of]
        cursor.execute(
            "UPDATE pg_class SET relpages = %s, reltuples = %s WHERE relname LIKE 'jobs%%'",
            (pages, rows),
        )
        cursor.connection.commit()
    values = {"wanted": 5, "worker_id": "w", "epoch": 0, "now": 1, "token": 1, "told": "[]"}
    values |= bounds(HEAD)

    def plan(statement: Planned) -> str:
        query = statement.query
        if sent == "planned once":
            work._db.execute(statement.definition)
            query = statement.call
        return "\n".join(line for (line,) in work._db.fetch(f"EXPLAIN {query}", values))

    claim = plan(sql.CLAIM_WITHOUT_TAGS)
    assert "Index Scan using jobs_ready on jobs" in claim
    assert "Seq Scan on jobs" not in claim
    assert "Sort" not in claim
    settle = plan(sql.SETTLE_FIRST)
    assert "Index Scan using jobs_pkey on jobs" in settle
    assert "jobs_held" not in settle
    assert not any(way in settle for way in ("Seq Scan on jobs", "Hash Join", "Merge Join"))


def test_a_new_session_is_told_the_plans_anew(pair: Pair, work: PostgresWorkerStorage) -> None:
    """What is planned once is known to one session: after the connection was lost it is said again."""
    pair.enqueue("a", "b")
    [first] = work.exchange("w", [], 1).claims
    work._db.close()
    [second] = work.exchange("w", [pair.settlement(first)], 1).claims
    assert ids_of([first, second]) == ["a", "b"]
    assert work._db.fetch("SELECT count(*) > 0 FROM pg_prepared_statements") == [(True,)]


def test_a_pooler_that_was_not_known_for_one_costs_one_exchange(
    pair: Pair, work: PostgresWorkerStorage
) -> None:
    """It answers in the server's name, and hands the next transaction to another session, which knows no
    plans. That changes nothing, and from then on everything is sent as text.
    """
    pair.enqueue("a", "b")
    [first] = work.exchange("w", [], 1).claims
    work._db.execute("DEALLOCATE ALL")
    with pytest.raises(DatabaseBusy, match="pooler"):
        work.exchange("w", [pair.settlement(first)], 1)
    assert (pair.state("a"), pair.state("b")) == ("processing", "pending")
    [second] = work.exchange("w", [pair.settlement(first)], 1).claims
    assert (pair.state("a"), second.id) == ("completed", "b")
    work._db.execute("DEALLOCATE ALL")
    assert work.outlook("w").unfinished
    assert work.exchange("w", [pair.settlement(second)], 1) == Exchange([], [])


@pytest.mark.parametrize("found_by", ["exchange", "outlook", "unregister"])
def test_a_claim_whose_answer_was_lost_is_returned(
    pair: Pair, work: PostgresWorkerStorage, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    """A commit that succeeded and was never heard of leaves no job with a worker that does not know:
    it is looked for by whatever the worker does next.
    """
    pair.register("other")
    pair.enqueue("a", "b")
    fetch = work._db.fetch_planned

    def lose_the_answer(statements: Any, values: Any) -> list[tuple[Any, ...]]:
        fetch(statements, values)
        work._db.close()
        raise DatabaseUnreachable("the network is gone")

    monkeypatch.setattr(work._db, "fetch_planned", lose_the_answer)
    with pytest.raises(DatabaseUnreachable):
        work.exchange("w", [], 1)
    monkeypatch.undo()
    assert pair.state("a") == "processing"
    if found_by == "exchange":
        assert work.exchange("w", [], 0) == Exchange([], [])
    elif found_by == "outlook":
        assert work.outlook("w").ready
    else:
        work.unregister("w")
        assert [worker.id for worker in work.workers()] == ["other"]
    assert ids_of(pair.claim("other", 9)) == ["a", "b"]
    assert pair.job("a").attempts == 1


def test_a_claim_that_was_on_its_way_when_it_was_looked_for_does_nothing(
    pair: Pair, work: PostgresWorkerStorage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network was cut while the server had it wait. The worker has connected anew and has found
    nothing: what then comes through claims no job that nobody would know of.
    """
    pair.enqueue("a")
    late: list[threading.Thread] = []

    def send_and_be_cut_off(statements: list[Planned], values: Any) -> list[tuple[Any, ...]]:
        def server_has_it() -> None:
            db = psycopg2.connect(database.location)
            db.autocommit = True
            query = "; ".join(statement.query for statement in statements)
            db.cursor().execute(f"SET LOCAL search_path = queuectl; {query}", values)
            db.close()

        late.append(in_background(server_has_it))
        raise DatabaseUnreachable("the network is gone")

    with transaction(database, "LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE"):
        monkeypatch.setattr(work._db, "fetch_planned", send_and_be_cut_off)
        with pytest.raises(DatabaseUnreachable):
            work.exchange("w", [], 1)
        monkeypatch.undo()
        work.outlook("w")
    late[0].join()
    assert pair.state("a") == "pending"
    assert ids_of(pair.claim("w")) == ["a"]
