"""Imports into a queue on PostgreSQL that others use at the same time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from queuectl.errors import (
    DatabaseBusy,
    DatabaseUnreachable,
    DuplicateJobId,
    InvalidInput,
    QueuectlError,
)
from queuectl.jobs.job import new_id
from queuectl.jobs.lifecycle import FINISHED, State
from queuectl.jobs.transfer import Record
from queuectl.storage.job_storage import JobStorage
from queuectl.storage.postgres import connection, sql, transfer
from queuectl.storage.postgres.copying import Lines, line, no_system_errors
from queuectl.storage.rows import row_of
from tests import exports, postgres
from tests.contract.support import FAILED, START, Database, Pair, ids_of, new_job
from tests.support import PATIENCE_SECONDS, wait_until

WAITING = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"""

SILENT = """SELECT bool_or(clock_timestamp() - state_change > '0.3 s') FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction' HAVING count(*) > 0
UNION ALL SELECT true FROM pg_stat_activity HAVING count(*) FILTER (
    WHERE datname = current_database() AND state = 'idle in transaction') = 0"""


@pytest.fixture
def database(own_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database of its own, whose sessions can be told from others."""
    monkeypatch.setattr(transfer, "_PAGE", 1)  # A job is put in before the next one is read.
    return own_database


@pytest.fixture
def pair(database: Database) -> Pair:
    """The queue in it, with a worker."""
    pair = Pair(database)
    pair.register("w")
    return pair


def ask(database: Database, query: str) -> Any:
    """The one value that a query gives."""
    rows = postgres.needed().sql(query, database.location)
    return rows[0][0] if rows else None


def until_somebody_waits(database: Database) -> None:
    """Until one of the sessions waits for another."""
    wait_until(lambda: ask(database, WAITING), "somebody waits")


class Aside:
    """What another process does meanwhile, in a thread; `error` is what it raised."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self._act = act
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._act()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.error = error

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> BaseException | None:
        self._thread.join(PATIENCE_SECONDS)
        assert self.ended()
        return self.error


@contextmanager
def uncommitted(
    database: Database, storage: Any, act: Callable[[], object], *, fails: bool = False
) -> Iterator[Callable[[], bool]]:
    """Does something in another thread, but for its commit. That comes once somebody waits for it, or
    when the block ends; with `fails` it is a rollback. Yields whether it has come.
    """
    db, reached, leave = storage._db, threading.Event(), threading.Event()
    commit = db.commit
    done: list[bool] = []

    def late_commit() -> None:
        reached.set()
        wait_until(lambda: leave.is_set() or ask(database, WAITING), "somebody waits")
        done.append(True)
        if fails:
            db.roll_back()
            raise InvalidInput("no")
        commit()

    db.commit = late_commit
    aside = Aside(act)
    assert reached.wait(PATIENCE_SECONDS)
    try:
        yield lambda: bool(done)
    finally:
        leave.set()
        error = aside.join()
        db.commit = commit
    assert (error is not None) is fails, error


def importing(
    *ids: str, state: State = State.PENDING, then: Callable[[], object], fails: bool = False
) -> Iterator[Record]:
    """Jobs to import; when they are in, but not committed, `then` is called."""
    yield from exports.records(exports.job(id, state) for id in ids)
    then()
    if fails:
        raise InvalidInput("line 9: damaged")


def put_in(jobs: JobStorage, *ids: str, state: State = State.PENDING) -> None:
    """Imports jobs of these ids."""
    jobs.import_jobs(exports.records(exports.job(id, state) for id in ids))


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports in which the first look at the ids that are taken finds none of them: what others do
    comes right behind it.
    """
    monkeypatch.setattr(transfer, "_refuse_taken", lambda *_: None)


ENDS = [State.PENDING, State.DEAD]
"""A job that waits, and one that ended, to be imported."""


# ---- nobody waits who wants nothing of it


def test_others_go_on_while_an_import_is_read(pair: Pair) -> None:
    """Whoever queues, runs, ends, requeues, cancels, deletes or prunes jobs does not wait for it."""
    pair.enqueue("runs", "fails", "waits", "goes")
    claims = pair.claim("w", 2)
    other = pair.database.open_jobs()

    def live_on() -> None:
        pair.work.heartbeat("w", 30)
        other.enqueue([new_job("new")], START)
        other.enqueue([new_job(new_id()) for _ in range(100)], START)
        for claim in claims:
            assert pair.settle("w", claim) == []
        assert ids_of(pair.claim("w")) == ["waits"]  # And none of those that come.
        other.requeue(["runs"], START, [State.COMPLETED])
        other.cancel(["goes"], START)
        other.delete(["goes"], [State.CANCELLED])
        assert other.prune([State.COMPLETED], None, 10) == ["fails"]

    def beside() -> None:
        aside = Aside(live_on)
        wait_until(lambda: aside.ended() or ask(pair.database, WAITING))
        assert aside.ended()
        assert aside.error is None

    jobs = [exports.job("high", priority=9), exports.job("low"), exports.job("dead", State.DEAD)]

    def records() -> Iterator[Record]:
        yield from exports.records(jobs)
        beside()

    pair.jobs.import_jobs(records())
    assert [pair.state(id) for id in ("high", "low", "dead", "new")] == ["pending"] * 2 + [
        "dead",
        "pending",
    ]
    assert pair.jobs.check() == []


def test_what_ended_is_where_others_look_for_it(pair: Pair) -> None:
    """In `jobs` is what may still run, and nothing else, in the order of the export."""
    states = [State.DEAD, State.PENDING, State.COMPLETED, State.FAILED, State.CANCELLED]
    pair.jobs.import_jobs(exports.records(exports.job(state, state) for state in states))
    for table, finished in (("jobs", False), ("ended_jobs", True)):
        expected = [(state,) for state in states if (state in FINISHED) is finished]
        query = f"SELECT state FROM queuectl.{table} ORDER BY seq"
        assert postgres.needed().sql(query, pair.database.location) == expected
    assert pair.ids() == states


def test_the_one_who_sends_may_pause(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import, and an export, whose other end is slow is not taken for a machine that is gone."""
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.05)

    def pause() -> None:
        wait_until(lambda: ask(pair.database, SILENT), "it is silent, or gone")

    pair.jobs.import_jobs(importing("a", "b", then=pause))
    reading = pair.jobs.export_jobs()
    next(reading)
    pause()
    assert len(list(reading)) == 1


# ---- the same id


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("state", ENDS)
def test_who_queues_an_id_waits_for_the_import(
    pair: Pair, state: State, count: int, fails: bool
) -> None:
    """The job that is put in second is refused, or goes in when the import came to nothing."""
    other = pair.database.open_jobs()
    jobs = [new_job("a"), *(new_job(new_id()) for _ in range(count - 1))]
    asides: list[Aside] = []

    def enqueue() -> None:
        asides.append(Aside(lambda: other.enqueue(jobs, START)))
        until_somebody_waits(pair.database)

    records = importing("a", state=state, then=enqueue, fails=fails)
    if fails:
        with pytest.raises(InvalidInput):
            pair.jobs.import_jobs(records)
        assert asides[0].join() is None
        assert len(pair.ids()) == count
    else:
        pair.jobs.import_jobs(records)
        assert isinstance(asides[0].join(), DuplicateJobId)
        assert [pair.state(id) for id in pair.ids()] == [state]
    assert pair.jobs.check() == []


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("state", ENDS)
def test_an_import_waits_for_who_queues_an_id(pair: Pair, state: State, fails: bool) -> None:
    """It is refused with its line, or goes in when the other came to nothing."""
    other = pair.database.open_jobs()
    with uncommitted(
        pair.database, other, lambda: other.enqueue([new_job("a")], START), fails=fails
    ):
        if fails:
            put_in(pair.jobs, "b", "a", state=state)
        else:
            with pytest.raises(DuplicateJobId, match=r"^line 4: a job with the id 'a' is already"):
                put_in(pair.jobs, "b", "a", state=state)
    assert pair.ids() == (["b", "a"] if fails else ["a"])
    assert pair.jobs.check() == []


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("move", ["settle", "cancel", "requeue", "requeue_dead"])
@pytest.mark.parametrize("state", ENDS)
@pytest.mark.usefixtures("late")
def test_a_job_that_changes_its_table_keeps_its_id(
    pair: Pair, state: State, move: str, fails: bool
) -> None:
    """While it ends, is called off or begins anew, an import of its id is refused, whether that is
    committed in the end or not, and wherever it was last looked for.
    """
    other: Any = pair.database.open_jobs()
    pair.enqueue(new_job("a", max_retries=0))
    if move == "settle":
        claim, other = pair.claim_one("w"), pair.work
    elif move.startswith("requeue"):
        pair.run("w", outcome=FAILED)

    def act() -> None:
        if move == "settle":
            with other._db.transaction():
                pair.settle("w", claim)
        elif move == "cancel":
            other.cancel(["a"], START)
        elif move == "requeue":
            other.requeue(["a"], START, [State.DEAD])
        else:
            with other._db.transaction():
                other._db.execute(sql.REQUEUE_DEAD, {"now": START, "most": 9})

    with (
        uncommitted(pair.database, other, act, fails=fails),
        pytest.raises(DuplicateJobId, match=r"^line 4: a job with the id 'a' is already"),
    ):
        put_in(pair.jobs, "b", "a", state=state)
    assert pair.ids() == ["a"]
    assert pair.jobs.check() == []


@pytest.mark.parametrize("move", ["requeue", "delete", "prune"])
@pytest.mark.parametrize("state", ENDS)
def test_a_job_that_leaves_the_ended_ones_holds_no_import_up(
    pair: Pair, state: State, move: str
) -> None:
    """Until that is committed its id is taken, and neither of the two waits for the other."""
    other = pair.database.open_jobs()
    pair.enqueue("a")
    pair.run("w")
    acts: dict[str, Callable[[], object]] = {
        "requeue": lambda: other.requeue(["a"], START, [State.COMPLETED]),
        "delete": lambda: other.delete(["a"], [State.COMPLETED]),
        "prune": lambda: other.prune([State.COMPLETED], None, 9),
    }
    with uncommitted(pair.database, other, acts[move]) as committed:
        with pytest.raises(DuplicateJobId):
            put_in(pair.jobs, "a", state=state)
        assert not committed()
    assert pair.ids() == (["a"] if move == "requeue" else [])
    put_in(pair.jobs, "b", state=state)


@pytest.mark.parametrize("state", ENDS)
@pytest.mark.usefixtures("late")
def test_the_id_of_a_job_that_is_deleted_is_free(pair: Pair, state: State) -> None:
    """An import that waited for the removal of a job takes its id."""
    other = pair.database.open_jobs()
    pair.enqueue("a")
    with uncommitted(pair.database, other, lambda: other.delete(["a"], [State.PENDING])):
        put_in(pair.jobs, "a", state=state)
    assert pair.state("a") == state
    assert pair.jobs.check() == []


# ---- two imports


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("second", ENDS)
@pytest.mark.parametrize("first", ENDS)
def test_two_imports_of_an_id(pair: Pair, first: State, second: State, fails: bool) -> None:
    """The second waits, and is refused as a whole, or is in when the first came to nothing."""
    other = pair.database.open_jobs()
    asides: list[Aside] = []

    def begin() -> None:
        asides.append(Aside(lambda: put_in(other, "b", "a", state=second)))
        until_somebody_waits(pair.database)

    records = importing("a", state=first, then=begin, fails=fails)
    if fails:
        with pytest.raises(InvalidInput):
            pair.jobs.import_jobs(records)
        assert asides[0].join() is None
    else:
        pair.jobs.import_jobs(records)
        error = asides[0].join()
        assert isinstance(error, DuplicateJobId)
        assert error.message.startswith("line 4: a job with the id 'a' is already")
    assert pair.ids() == (["b", "a"] if fails else ["a"])
    assert pair.state("a") == (second if fails else first)
    assert pair.jobs.check() == []


@pytest.mark.parametrize("state", ENDS)
def test_two_imports_that_wait_for_each_other(pair: Pair, state: State) -> None:
    """One gives way, says so in a line, and has imported nothing; the other is in as a whole."""
    other = pair.database.open_jobs()
    asides: list[Aside] = []

    def records() -> Iterator[Record]:
        first, last = exports.records(exports.job(id, state) for id in "ab")
        yield first
        asides.append(Aside(lambda: put_in(other, "b", "x", "a", state=state)))
        until_somebody_waits(pair.database)
        yield last

    errors: list[BaseException | None] = []
    try:
        pair.jobs.import_jobs(records())
        errors.append(None)
    except QueuectlError as error:
        errors.append(error)
    errors.append(asides[0].join())
    told = [error for error in errors if error is not None]
    assert len(told) == 1
    assert isinstance(told[0], DatabaseBusy)
    assert "this and another command waited for each other" in told[0].message
    assert "\n" not in told[0].message
    assert pair.ids() == (["b", "x", "a"] if errors[0] else ["a", "b"])
    assert pair.jobs.check() == []
    pair.enqueue("later")
    put_in(other, "last")


@pytest.mark.parametrize("ended", [False, True])
def test_an_id_that_others_put_in_meanwhile_is_not_of_an_earlier_line(
    pair: Pair, ended: bool
) -> None:
    """Whoever reads the refusal looks in the right place for the other job."""
    other = pair.database.open_jobs()

    def records() -> Iterator[Record]:
        yield from exports.records([exports.job("a")])
        other.enqueue([new_job("b")], START)
        if ended:
            other.cancel(["b"], START)
        yield Record(4, exports.job("b"), [])

    with pytest.raises(DuplicateJobId, match=r"^line 4: a job with the id 'b' is already"):
        pair.jobs.import_jobs(records())
    assert pair.ids() == ["b"]


# ---- what comes in the way of a COPY


def copied(jobs: Any, lines: Iterator[str]) -> None:
    """Copies these lines into the jobs."""
    with jobs._db.transaction():
        jobs._db.copy_in(f"jobs (seq, {sql.JOB_COLUMNS})", Lines(lines))


def rows(count: int) -> Iterator[str]:
    """Lines of jobs, 1 KiB and more each."""
    for n in range(count):
        yield line((n, *row_of(exports.job(f"secret-{n}", command="x" * 1_000))))


@pytest.mark.parametrize("end", [200, 2_000])
def test_a_session_that_ends_in_a_copy_is_told_in_one_line(
    pair: Pair, capfd: pytest.CaptureFixture[str], end: int
) -> None:
    """Whether the server ended it early or late: no traceback, and nothing of a job."""
    here: Any = pair.jobs
    hook = sys.excepthook
    pid = here._db._db.info.backend_pid

    gone = f"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {pid}"

    def lines() -> Iterator[str]:
        for n, text in enumerate(rows(3_000)):
            yield text
            if n == end:
                ask(pair.database, f"SELECT pg_terminate_backend({pid})")
                wait_until(lambda: ask(pair.database, gone), "the session is gone")

    with pytest.raises(DatabaseUnreachable) as told:
        copied(here, lines())
    assert "secret" not in told.value.message
    assert "\n" not in told.value.message
    assert capfd.readouterr() == ("", "")
    assert sys.excepthook is hook
    assert pair.ids() == []


@pytest.mark.parametrize("error", [InvalidInput("line 9: damaged"), KeyboardInterrupt()])
def test_what_ends_a_copy_here_is_what_is_raised(
    pair: Pair, capfd: pytest.CaptureFixture[str], error: BaseException
) -> None:
    """Not what the server makes of it; and the storage can be used."""

    def lines() -> Iterator[str]:
        yield from rows(300)
        raise error

    with pytest.raises(type(error)) as told:
        copied(pair.jobs, lines())
    assert told.value is error
    assert capfd.readouterr() == ("", "")
    pair.enqueue("a")
    assert pair.ids() == ["a"]


def test_several_copies_at_once_leave_the_hook_as_it_was() -> None:
    """Whichever ends first."""
    hook = sys.excepthook
    first, second = no_system_errors(), no_system_errors()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert sys.excepthook != hook
    second.__exit__()
    assert sys.excepthook is hook
