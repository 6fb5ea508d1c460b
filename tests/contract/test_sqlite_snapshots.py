"""What is particular to SQLite: an answer put together from several statements is of one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import apsw
import pytest

from queuectl.jobs import outcome as outcomes
from queuectl.jobs.claim import Claim
from queuectl.storage import open_job_storage
from tests.contract.support import Database, Pair

T = TypeVar("T")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A queue of which this test sees the inside, with two workers and a job."""
    database = Database(str(tmp_path / "queuectl.db"))
    pair = Pair(database)
    pair.register("w", "v")
    pair.enqueue("a")
    yield pair
    database.close()


def read_while(
    storage: object, read: Callable[[], T], prepare: Callable[[], Callable[[], object]]
) -> list[T]:
    """What `read` returns when something happens just before its first statement, its second, and so on.

    `prepare` sets the scene for one reading, and returns what is then to happen in the middle.
    """
    db: apsw.Connection = storage._db  # type: ignore[attr-defined]
    answers: list[T] = []
    while True:
        act, ran, acted = prepare(), 0, False

        def note(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
            nonlocal ran, acted
            if ran == len(answers):
                acted = True
                act()  # noqa: B023 - called before it changes
            ran += 1
            return True

        db.exec_trace = note
        answer = read()
        db.exec_trace = None
        if not acted:
            return answers
        answers.append(answer)


def test_a_job_given_back_meanwhile_keeps_a_drain_going(pair: Pair) -> None:
    """A job that goes from running to ready while a worker looks is never seen as neither."""
    idle = pair.database.open_work(pair.clock)

    def prepare() -> Callable[[], object]:
        claims = pair.claim("w") or held
        held[:] = claims
        return lambda: pair.work.give_back("w", claims)

    held: list[Claim] = []
    seen = read_while(idle, lambda: idle.outlook("v").unfinished, prepare)
    assert seen == [True] * len(seen) != []


def test_a_job_claimed_meanwhile_keeps_a_drain_going(pair: Pair) -> None:
    """A job that goes from ready to running while a worker looks is never seen as neither."""
    idle = pair.database.open_work(pair.clock)
    held: list[Claim] = []

    def prepare() -> Callable[[], object]:
        pair.work.give_back("w", held)
        return lambda: held.extend(pair.claim("w"))

    seen = read_while(idle, lambda: idle.outlook("v").unfinished, prepare)
    assert seen == [True] * len(seen) != []


def test_an_attempt_that_ends_meanwhile_is_listed_once(pair: Pair) -> None:
    """An attempt settled while a job is shown appears as running or as ended: not twice, nor never."""
    watcher = pair.database.open_jobs()
    pair.enqueue("b")

    def prepare() -> Callable[[], object]:
        claim = pair.claim_one("w")
        assert claim.id == "a"
        return lambda: pair.settle("w", claim, outcomes.interrupted(None, 15))

    seen = read_while(watcher, lambda: len(watcher.attempts("a")), prepare)
    assert seen == list(range(1, len(seen) + 1)) != []


@pytest.mark.parametrize("before", range(8))
def test_a_queue_made_meanwhile_is_no_foreign_database(tmp_path: Path, before: int) -> None:
    """Whoever opens a file that another process is just making into a queue gets that queue."""
    path = tmp_path / "queuectl.db"
    path.touch()
    maker = threading.Thread(target=lambda: open_job_storage(str(path), create=True).close())
    opener, ran = threading.get_ident(), 0

    def note(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        nonlocal ran
        if ran == before:
            maker.start()
            # Where the one that opens holds a lock, the other cannot end before it.
            maker.join(0.2)
        ran += 1
        return True

    def attach(db: apsw.Connection) -> None:
        if threading.get_ident() == opener:
            db.exec_trace = note

    apsw.connection_hooks.append(attach)
    try:
        jobs = open_job_storage(str(path), create=True)
    finally:
        apsw.connection_hooks.remove(attach)
    maker.join(30)
    assert jobs.counts() == {}
    jobs.close()
