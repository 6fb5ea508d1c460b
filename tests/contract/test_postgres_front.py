"""Claims on PostgreSQL while somebody holds a transaction open, so that no dead row is cleared away."""

from __future__ import annotations

import json
from typing import Any

import psycopg2
import pytest

from queuectl.errors import DatabaseUnreachable
from queuectl.storage.postgres import front, sql
from queuectl.storage.postgres.front import HEAD, bounds, place
from queuectl.storage.postgres.planned import Planned
from queuectl.storage.postgres.work import PostgresWorkerStorage
from tests import postgres
from tests.contract.support import Database, Pair, ids_of, new_job


@pytest.fixture
def database(own_database: Database) -> Database:
    """A database of its own."""
    return own_database


@pytest.fixture
def pair(database: Database) -> Pair:
    """Both sides of it."""
    pair = Pair(database)
    pair.register("w", "v")
    return pair


@pytest.fixture
def every_walk_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all had millions of dead entries before them. The clock stands, so the front holds."""
    monkeypatch.setattr(front, "SLOW_SECONDS", 0)
    monkeypatch.setattr(front, "MANY_DEAD", 0)


def test_a_walk_that_is_not_long_leaves_no_word(pair: Pair) -> None:
    """As a rule each claim begins at the head: what has the highest priority comes next."""
    pair.enqueue("a", "b")
    assert ids_of(pair.claim("w")) == ["a"]
    pair.enqueue(new_job("urgent", priority=9))
    assert ids_of(pair.claim("w")) == ["urgent"]


@pytest.mark.usefixtures("every_walk_is_long")
@pytest.mark.parametrize("worker", ["w", "v"])
def test_after_a_long_walk_all_begin_at_the_front(pair: Pair, worker: str) -> None:
    """What came in before it waits for a while, whichever worker walked, and then comes first."""
    pair.enqueue("a", "b", "c")
    assert ids_of(pair.claim("w")) == ["a"]
    pair.enqueue(new_job("urgent", priority=9))
    assert ids_of(pair.claim(worker)) == ["b"]
    pair.clock.go_on(front.LONGEST_SECONDS)
    assert ids_of(pair.claim(worker)) == ["urgent"]


@pytest.mark.usefixtures("every_walk_is_long")
def test_nothing_waits_where_there_is_nothing_else_to_do(pair: Pair) -> None:
    """A worker that finds nothing at the front looks before it at once, and knows that it may."""
    pair.enqueue("a", "b")
    pair.claim("w", 2)
    pair.enqueue(new_job("urgent", priority=9))
    assert pair.work.outlook("w").ready
    assert ids_of(pair.claim("w", 5)) == ["urgent"]


@pytest.mark.usefixtures("every_walk_is_long")
def test_while_one_walks_the_others_do_not(
    pair: Pair, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the front is over, only one looks from the head; until it has, the rest goes on as before."""
    other = database.open_work(pair.clock)
    pair.enqueue("a", "b", "c", "d")
    pair.claim("w")
    pair.clock.go_on(front.LONGEST_SECONDS)
    pair.enqueue(new_job("urgent", priority=9), new_job("next", priority=8))
    work = pair.work
    assert isinstance(work, PostgresWorkerStorage)
    ask = work._ask

    def ask_slowly(statements: list[Planned], values: dict[str, Any]) -> Any:
        other.exchange("v", [], 0)  # It hears of the front.
        assert ids_of(other.exchange("v", [], 1).claims) == ["b"]
        return ask(statements, values)

    monkeypatch.setattr(work, "_ask", ask_slowly)
    assert ids_of(pair.claim("w")) == ["urgent"]


def test_when_walks_are_short_again_nobody_needs_a_front(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first walk after the transaction has ended puts everything back to how it was."""
    with monkeypatch.context() as patch:
        patch.setattr(front, "SLOW_SECONDS", 0)
        patch.setattr(front, "MANY_DEAD", 0)
        pair.enqueue("a", "b", "c", "d")
        pair.claim("w")
    monkeypatch.setattr(front, "SLOW_SECONDS", 60)
    pair.clock.go_on(front.LONGEST_SECONDS)
    assert ids_of(pair.claim("w")) == ["b"]
    pair.enqueue(new_job("urgent", priority=9))
    assert ids_of(pair.claim("w")) == ["urgent"]


def test_a_claim_from_the_front_touches_few_pages(pair: Pair, database: Database) -> None:
    """With a transaction held open, and thousands of jobs gone through, a claim from the head reads what
    they left behind, and one from the front does not. Nor does the look at what there is to do.
    """
    reader = psycopg2.connect(database.location)
    reader.set_session(isolation_level="REPEATABLE READ", readonly=True)
    reader.cursor().execute("SELECT 1 FROM pg_class LIMIT 1")
    try:
        for number in range(4):
            pair.enqueue(*(f"{number}-{n}" for n in range(500)))
            claims = pair.claim("w", 500)
            pair.work.exchange("w", [pair.settlement(claim) for claim in claims], 0)
        pair.enqueue("last")
        [[seq]] = pair_sql(database, "SELECT seq FROM jobs")
        for statement in (sql.CLAIM_WITHOUT_TAGS, sql.OUTLOOK_WITHOUT_TAGS):
            walked = pages(database, statement, HEAD)
            assert pages(database, statement, place(0, int(str(seq)))) < walked / 2
    finally:
        reader.close()


def pair_sql(database: Database, statement: str) -> list[tuple[object, ...]]:
    """Runs a statement in the queue's schema."""
    return postgres.needed().sql(f"SET search_path = queuectl; {statement}", database.location)


def pages(database: Database, statement: Planned, where: int) -> int:
    """How many pages a statement touches that begins at a place; what it does is undone."""
    db = psycopg2.connect(database.location)
    try:
        cursor = db.cursor()
        values = {
            "wanted": 1,
            "token": 1,
            "worker_id": "w",
            "epoch": 0,
            "now": 1,
            "inside": None,
            **bounds(where),
        }
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.query}"
        cursor.execute(f"SET search_path = queuectl; {explained}", values)
        row = cursor.fetchone()
        assert row is not None
        [plan] = row[0] if isinstance(row[0], list) else json.loads(row[0])
        return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
    finally:
        db.rollback()
        db.close()


@pytest.mark.usefixtures("every_walk_is_long")
def test_trouble_in_the_second_look_takes_nothing_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was settled on the way counts, though the look before the front failed."""
    pair.enqueue("a", "b")
    claims = pair.claim("w", 2)
    work = pair.work
    assert isinstance(work, PostgresWorkerStorage)
    ask = work._ask
    asked: list[list[Planned]] = []

    def ask_once(statements: list[Planned], values: dict[str, Any]) -> Any:
        asked.append(statements)
        if len(asked) > 1:
            raise DatabaseUnreachable("the network is gone")
        return ask(statements, values)

    monkeypatch.setattr(work, "_ask", ask_once)
    exchange = work.exchange("w", [pair.settlement(claim) for claim in claims], 1)
    monkeypatch.undo()
    assert len(asked) == 2
    assert (exchange.claims, exchange.refused) == ([], [])
    assert [pair.state(job) for job in ("a", "b")] == ["completed", "completed"]
