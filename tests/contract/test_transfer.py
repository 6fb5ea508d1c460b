from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from queuectl.errors import DatabaseError, DuplicateJobId, InvalidInput
from queuectl.jobs.claim import Claim
from queuectl.jobs.job import new_id, new_ids
from queuectl.jobs.job_view import Attempt, Job
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import LOST, Outcome, Policy, Verdict, judge
from queuectl.jobs.transfer import ATTEMPT_FIELDS, ExportReader, Record
from queuectl.storage.job_storage import JobStorage
from queuectl.storage.sqlite.connection import connect, fetch
from queuectl.text import is_url
from tests import exports, postgres
from tests.contract.make_database import fill
from tests.contract.support import KINDS, START, Database, Pair, ids_of, new_database, new_job

Jobs = list[tuple[Job, list[Attempt]]]


def exported(jobs: JobStorage, now: int = START) -> list[str]:
    """What an export holds, but for its header."""
    return exports.written(jobs.export_jobs(), now)


def imported(jobs: JobStorage, lines: list[str]) -> None:
    """Puts an export in."""
    jobs.import_jobs(ExportReader(exports.as_file(lines)))


@pytest.fixture
def other(database: Database, tmp_path: Path) -> Iterator[Database]:
    """An empty database of the other kind."""
    kind = "sqlite" if is_url(database.location) else "postgres"
    (tmp_path / "other").mkdir()
    with new_database(kind, tmp_path / "other") as other:
        yield other


@pytest.fixture
def full(pair: Pair) -> Pair:
    """A queue with jobs in every state there is so far, and with every kind of past."""
    fill(pair)
    return pair


# ---- from one database to the other, and back


def test_a_queue_moves_there_and_back(full: Pair, other: Database, tmp_path: Path) -> None:
    """A queue with a past, with jobs that run, is byte for byte the same in the other kind of
    database, and back in the first.
    """
    first = exported(full.jobs, full.clock.now())
    imported(other.open_jobs(), first)
    assert exported(other.open_jobs()) == first
    kind = "postgres" if is_url(full.database.location) else "sqlite"
    (tmp_path / "back").mkdir()
    with new_database(kind, tmp_path / "back") as back:
        imported(back.open_jobs(), exported(other.open_jobs()))
        assert exported(back.open_jobs()) == first


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(exports.QUEUES)
def test_any_queue_moves_there_and_back(tmp_path: Path, jobs: Jobs) -> None:
    """Whatever jobs and attempts there are: SQLite, PostgreSQL and SQLite again export the same."""
    expected = exports.written(jobs)
    found: list[list[str]] = []
    for kind in ("sqlite", "postgres", "sqlite"):
        folder = tmp_path / new_id()
        folder.mkdir()
        with new_database(kind, folder) as database:
            imported(database.open_jobs(), found[-1] if found else expected)
            found.append(exported(database.open_jobs()))
    assert found == [expected] * 3


MANY = [10_000, pytest.param(100_000, marks=pytest.mark.soak)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", MANY)
def test_many_jobs_move_there_and_back(tmp_path: Path, count: int) -> None:
    """No job, attempt or place in the order is lost of very many."""
    states = exports.STATES
    jobs = [
        (
            exports.job(id, states[n % len(states)], priority=n % 7, created_at=START - n),
            [exports.attempt(m + 1, started_at=START + n) for m in range(n % 3)],
        )
        for n, id in enumerate(reversed(new_ids(count)))
    ]
    expected = exports.written(jobs)
    lines = expected
    for n, kind in enumerate(("sqlite", "postgres", "sqlite")):
        folder = tmp_path / str(n)
        folder.mkdir()
        with new_database(kind, folder) as database:
            imported(database.open_jobs(), lines)
            lines = exported(database.open_jobs())
            assert lines == expected


# ---- going out


def test_an_export_is_of_one_moment(pair: Pair) -> None:
    """What others do while it is read is not in it: no new job, no end, no removal."""
    pair.register("w")
    ids = new_ids(2_500)
    pair.enqueue(*ids)
    before = pair.everything()
    reading = pair.database.open_jobs().export_jobs()
    found = [next(reading)]
    pair.enqueue("later")
    for _ in range(3):
        pair.run("w")
    pair.jobs.cancel(ids[-10:], START)
    pair.jobs.delete(ids[-20:-10], list(State))
    found += reading
    assert found == before
    assert len(pair.ids()) == 2_500 + 1 - 10


def test_an_export_that_is_not_read_to_its_end_holds_nothing_up(pair: Pair) -> None:
    """When it is closed, its storage can write again."""
    pair.enqueue("a", "b")
    reading = pair.jobs.export_jobs()
    next(reading)
    reading.close()
    pair.enqueue("c")
    assert len(list(pair.jobs.export_jobs())) == 3


def test_attempts_stand_in_the_order_of_their_ends(pair: Pair) -> None:
    """Also when the numbers began anew after a requeue, and whatever the clock said."""
    pair.register("w")
    pair.enqueue(new_job("a", max_retries=0))
    for _ in range(3):
        pair.run("w")
        pair.clock.set_wall(-100)
        pair.jobs.requeue(["a"], pair.clock.now(), [State.COMPLETED])
    [(_, attempts)] = pair.jobs.export_jobs()
    assert attempts == [a._replace(run=None) for a in pair.jobs.attempts("a")]
    assert [attempt.attempt for attempt in attempts] == [1, 1, 1]


# ---- coming in


def test_imported_jobs_stand_behind_those_that_are_there(pair: Pair) -> None:
    """They keep their order, waiting and ended ones alike, and later jobs come behind them."""
    pair.enqueue("z")
    names = ["d", "c", "b", "a"]
    states = [State.PENDING, State.DEAD, State.PENDING, State.COMPLETED]
    pair.jobs.import_jobs(exports.records(map(exports.job, names, states)))
    pair.enqueue("later")
    assert pair.ids() == ["z", *names, "later"]
    assert pair.jobs.resolve("@last") == "later"


def test_imported_jobs_run(pair: Pair) -> None:
    """By priority and in their order; those that wait, when their time comes; dead ones when they
    are requeued, with their past.
    """
    pair.register("w")
    pair.jobs.import_jobs(
        exports.records(
            [
                exports.job("late", next_run_at=START + 1_000_000),
                exports.job("low"),
                exports.job("high", priority=5),
                (exports.job("failed", State.FAILED, attempts=1), [exports.attempt(1)]),
                (exports.job("dead", State.DEAD, attempts=4), [exports.attempt(4)]),
            ]
        )
    )
    assert ids_of(pair.claim("w", 9)) == ["high", "low", "failed"]
    pair.clock.go_on(2)
    assert ids_of(pair.claim("w", 9)) == ["late"]
    pair.jobs.requeue(["dead"], pair.clock.now(), [State.DEAD])
    assert ids_of(pair.claim("w", 9)) == ["dead"]
    assert [run.attempt for run in pair.jobs.attempts("dead")] == [4, 1]
    assert pair.jobs.check() == []


def test_jobs_at_the_end_of_their_counts_run(pair: Pair) -> None:
    """Of the largest counts that an export may hold none stops a worker: the job is claimed, lost,
    claimed again and ends, and so is the job beside it.
    """
    full = exports.job("full", attempts=1_000_000_000, losses=1_000_000_000)
    imported(pair.jobs, exports.written([(full, []), (exports.job("other"), [])]))
    pair.register("lost", "w")
    assert ids_of(pair.claim("lost")) == ["full"]
    pair.work.fence("lost")
    lost = judge_all(Policy(backoff_base=2, max_losses=2**31))
    [(claim, verdict)] = pair.work.rescue("lost", lost)
    assert (claim.id, verdict.losses) == ("full", 1_000_000_001)
    claims = pair.claim("w", 9)
    assert ids_of(claims) == ["full", "other"]
    for claim in claims:
        assert pair.settle("w", claim) == []
    assert pair.state("full") == pair.state("other") == State.COMPLETED


def judge_all(policy: Policy) -> Callable[[Claim], tuple[Outcome, Verdict]]:
    """Every run was lost."""
    return lambda claim: (LOST, judge(claim, LOST, policy))


def test_no_jobs_are_no_trouble(pair: Pair) -> None:
    """The export of an empty queue can be imported, and changes nothing."""
    imported(pair.jobs, exported(pair.jobs))
    assert pair.everything() == []


def test_waiting_workers_are_woken(pair: Pair) -> None:
    """Jobs that come in this way are noticed as others are."""
    pair.register("w")
    before = pair.database.open_jobs()
    seen = before.changes()
    pair.jobs.import_jobs(exports.records([exports.job("a")]))
    assert before.changes() != seen


@pytest.mark.parametrize("state", [State.PENDING, State.COMPLETED])
@pytest.mark.parametrize("taken", ["waiting", "ended"])
def test_a_taken_id_lets_nothing_in(pair: Pair, taken: str, state: State) -> None:
    """An id of a job that is there, waiting or ended, refuses all, naming the first and its line."""
    pair.enqueue("waiting", "ended")
    pair.jobs.cancel(["ended"], START)
    before = pair.everything()
    jobs = [exports.job(new_id(), State.DEAD) for _ in range(1_500)]
    jobs += [exports.job(id, state) for id in (taken, "new", "waiting", "ended")]
    with pytest.raises(DuplicateJobId, match=rf"^line 1503: .*'{taken}' is already in the queue"):
        pair.jobs.import_jobs(exports.records(jobs))
    assert pair.everything() == before
    pair.enqueue("new")  # The refusal left nothing half open.


@pytest.mark.parametrize("between", [0, 1_500])
def test_an_id_that_is_there_twice_lets_nothing_in(pair: Pair, between: int) -> None:
    """Two jobs of one id are a mistake in the file, whether they are near each other or far apart."""
    jobs = [exports.job("a"), *(exports.job(new_id()) for _ in range(between))]
    jobs.append(exports.job("a", State.DEAD))
    with pytest.raises(InvalidInput, match=rf"^line {between + 4}: the id 'a' is that of an ear"):
        pair.jobs.import_jobs(exports.records(jobs))
    assert pair.everything() == []


def test_an_error_while_jobs_are_read_lets_nothing_in(pair: Pair) -> None:
    """What came before it is taken back, and the storage can be used."""

    def records() -> Iterator[Record]:
        yield from exports.records(exports.job(new_id()) for _ in range(2_500))
        raise InvalidInput("line 2503: damaged")

    with pytest.raises(InvalidInput, match="line 2503"):
        pair.jobs.import_jobs(records())
    assert pair.everything() == []
    with pytest.raises((OverflowError, DatabaseError)):
        pair.jobs.import_jobs(exports.records([exports.job("a"), exports.job("b", losses=2**70)]))
    pair.jobs.import_jobs(exports.records([exports.job("a")]))
    assert pair.ids() == ["a"]


def test_the_last_step_decides(pair: Pair) -> None:
    """What is done along with it is done when all are in, only then, and what it raises undoes all."""
    jobs = [exports.job(id) for id in new_ids(1_500)]
    done: list[int] = []

    def fail() -> None:
        done.append(1)
        raise InvalidInput("no")

    with pytest.raises(InvalidInput, match="no"):
        pair.jobs.import_jobs(exports.records(jobs), fail)
    assert pair.ids() == []
    assert done == [1]
    with pytest.raises(InvalidInput, match="earlier line"):
        pair.jobs.import_jobs(exports.records([*jobs, jobs[0]]), fail)
    assert done == [1]
    pair.jobs.import_jobs(exports.records(jobs), lambda: done.append(2))
    assert len(pair.ids()) == 1_500
    assert done == [1, 2]


def test_nobody_sees_a_part_of_it(pair: Pair) -> None:
    """Until it is in as a whole, others find the queue as it was."""
    pair.enqueue("before")
    seen = []
    other = pair.database.open_jobs()

    def records() -> Iterator[Record]:
        yield from exports.records(exports.job(new_id()) for _ in range(2_500))
        seen.append(sum(other.counts().values()))

    pair.jobs.import_jobs(records())
    assert seen == [1]
    assert sum(other.counts().values()) == 2_501


def test_who_queues_a_job_of_the_same_id_meanwhile_is_told(pair: Pair) -> None:
    """Whoever comes second waits, and is refused: an id is never there twice, in whatever states."""
    told: list[BaseException] = []
    other = pair.database.open_jobs()
    begun = threading.Event()

    def enqueue() -> None:
        begun.set()
        try:
            other.enqueue([new_job("a")], START)
        except DuplicateJobId as error:
            told.append(error)

    thread = threading.Thread(target=enqueue)

    def records() -> Iterator[Record]:
        yield from exports.records([exports.job("a", State.DEAD)])
        yield from exports.records(exports.job(new_id()) for _ in range(1_500))
        thread.start()
        assert begun.wait(30)

    try:
        pair.jobs.import_jobs(records())
    finally:
        thread.join(60)
    assert len(told) == 1
    assert pair.jobs.check() == []
    assert pair.state("a") == State.DEAD


def test_jobs_are_passed_on_as_they_are_read(pair: Pair, other: Database) -> None:
    """However many there are, only some are held at once, on the way out and on the way in."""
    pair.jobs.import_jobs(exports.records(exports.job(id) for id in new_ids(5_000)))
    held, most = [0], [0]

    class Counted(Job):
        def __del__(self) -> None:
            held[0] -= 1

    def records() -> Iterator[Record]:
        for line, (job, attempts) in enumerate(pair.jobs.export_jobs(), 3):
            held[0] += 1
            most[0] = max(most[0], held[0])
            yield Record(line, Counted._make(job), attempts)

    other.open_jobs().import_jobs(records())
    assert most[0] < 2_500


# ---- what a later schema must not forget


NOT_EXPORTED = {
    "jobs": {"seq", "claim_token", "worker_id"},  # The order of the lines; what a worker holds.
    "attempts": {"seq", "ended", "run"},  # Whose, their order (that of the list), their output.
}
EXPORTED = {"jobs": set(Job._fields), "attempts": set(ATTEMPT_FIELDS)}
WITHOUT_EXPORT = {"workers", "queuectl_schema", "output"}
"""Tables of what lives, belongs to the database alone, or is a copy of the logs."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_is_exported(kind: str, tmp_path: Path) -> None:
    """A column or a table that the schema is given later is exported, or is said here not to be."""
    with new_database(kind, tmp_path) as database:
        database.open_jobs()
        columns = _columns(database)
    ended = columns.pop("ended_jobs", columns["jobs"])
    assert ended == columns["jobs"]
    assert columns.keys() - WITHOUT_EXPORT == EXPORTED.keys()
    for table, fields in EXPORTED.items():
        assert columns[table] - NOT_EXPORTED[table] == fields
    jobs = exports.written([(exports.job("a"), [exports.attempt(1)])])[1]
    assert all(f'"{name}":' in jobs for fields in EXPORTED.values() for name in fields)


def _columns(database: Database) -> dict[str, set[str]]:
    if is_url(database.location):
        schema = database.location.rpartition("schema=")[2]
        rows = postgres.needed().sql(
            "SELECT table_name::text, column_name::text FROM information_schema.columns"
            f" WHERE table_schema = '{schema}'"
            " AND table_name IN (SELECT relname FROM pg_class WHERE relkind IN ('r', 'p'))"
        )
    else:
        db = connect(database.location, create=False)
        rows = fetch(
            db,
            "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c"
            " WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
        )
        db.close()
    found: dict[str, set[str]] = {}
    for table, column in rows:
        found.setdefault(str(table), set()).add(str(column))
    return found
