"""What is particular to SQLite: an answer put together from several statements is of one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from queuectl.errors import QueuectlError
from queuectl.jobs import outcome as outcomes
from queuectl.storage import open_job_storage
from tests.contract.support import Database, Pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A queue of which this test sees the inside, with two workers."""
    database = Database(str(tmp_path / "queuectl.db"))
    pair = Pair(database)
    pair.register("w", "v")
    yield pair
    database.close()


def count_statements(db: apsw.Connection, read: Callable[[], object]) -> int:
    """How many statements `read` runs on the connection."""
    ran = 0

    def note(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        nonlocal ran
        ran += 1
        return True

    db.exec_trace = note
    read()
    db.exec_trace = None
    return ran


def read_with(
    db: apsw.Connection, read: Callable[[], object], act: Callable[[], object], before: int
) -> object:
    """What `read` returns when `act` happens just before its statement number `before`."""
    ran = 0

    def note(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        nonlocal ran
        if ran == before:
            act()
        ran += 1
        return True

    db.exec_trace = note
    try:
        return read()
    finally:
        db.exec_trace = None


def test_a_job_given_back_meanwhile_keeps_a_drain_going(pair: Pair) -> None:
    """A job that goes from running to ready while a worker looks is never seen as neither."""
    pair.enqueue("a")
    idle = pair.database.open_work(pair.clock)
    db: apsw.Connection = idle._db  # type: ignore[attr-defined]
    statements = count_statements(db, lambda: idle.outlook("v"))
    for before in range(statements):
        claim = pair.claim_one("w")
        outlook = read_with(
            db, lambda: idle.outlook("v"), lambda c=claim: pair.work.give_back("w", [c]), before
        )
        assert getattr(outlook, "unfinished") is True, f"torn before statement {before}"


def test_a_job_claimed_meanwhile_keeps_a_drain_going(pair: Pair) -> None:
    """A job that goes from ready to running while a worker looks is never seen as neither."""
    pair.enqueue("a")
    idle = pair.database.open_work(pair.clock)
    db: apsw.Connection = idle._db  # type: ignore[attr-defined]
    statements = count_statements(db, lambda: idle.outlook("v"))
    for before in range(statements):
        outlook = read_with(db, lambda: idle.outlook("v"), lambda: pair.claim("w"), before)
        assert getattr(outlook, "unfinished") is True, f"torn before statement {before}"
        pair.work.give_back("w", [pair_claim for pair_claim in pair.work.fence("nobody")])
        pair.settle("w", _held(pair), outcomes.interrupted(None, 15))


def _held(pair: Pair) -> object:
    return None


def test_an_attempt_that_ends_meanwhile_is_listed_once(pair: Pair) -> None:
    """An attempt settled while a job is shown appears as running or as ended: not twice, nor never."""
    watcher = pair.database.open_jobs()
    db: apsw.Connection = watcher._db  # type: ignore[attr-defined]
    pair.enqueue("a")
    statements = count_statements(db, lambda: watcher.attempts("a"))
    for before in range(statements):
        claim = pair.claim_one("w")
        attempts = read_with(
            db,
            lambda: watcher.attempts("a"),
            lambda c=claim: pair.settle("w", c, outcomes.interrupted(None, 15)),
            before,
        )
        assert isinstance(attempts, list)
        assert len(attempts) == before + 1, f"torn before statement {before}"


def test_a_queue_made_meanwhile_is_no_foreign_database(tmp_path: Path) -> None:
    """Whoever opens a file that another process is just making into a queue gets that queue."""
    path = str(tmp_path / "queuectl.db")
    hook = _MakeMeanwhile(path)
    while not hook.done:
        (tmp_path / "queuectl.db").unlink(missing_ok=True)
        (tmp_path / "queuectl.db").touch()
        hook.arm()
        apsw.connection_hooks.append(hook)
        try:
            open_job_storage(path).close()
        except QueuectlError as error:
            pytest.fail(f"made before statement {hook.before}: {error}")
        finally:
            apsw.connection_hooks.remove(hook)


class _MakeMeanwhile:
    """Makes the queue just before a statement of the connection that is being opened; one later each time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.before = -1
        self.done = False

    def arm(self) -> None:
        self.before += 1
        self.ran = 0
        self.inside = False
        self.done = True

    def __call__(self, db: apsw.Connection) -> None:
        if not self.inside:
            db.exec_trace = self.note

    def note(self, cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        if self.ran == self.before:
            self.done = False
            self.inside = True
            open_job_storage(self.path).close()
        self.ran += 1
        return True
