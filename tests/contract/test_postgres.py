"""What is PostgreSQL's own: its schema and migrations, its URL, a connection that is lost."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from queuectl.clock import Clock
from queuectl.errors import (
    CouldNotDo,
    DatabaseBusy,
    DatabaseError,
    DatabaseForeign,
    DatabaseTooNew,
    DatabaseUnreachable,
    QueuectlError,
    QueueNotFound,
    WorkerFenced,
)
from queuectl.storage import open_job_storage, open_worker_storage
from queuectl.storage.postgres import connection, migrate, shape
from queuectl.storage.postgres.work import PostgresWorkerStorage
from tests import postgres
from tests.contract.support import (
    SECOND,
    START,
    Database,
    Pair,
    ids_of,
    new_job,
    new_worker,
)
from tests.postgres import Server
from tests.support import wait_until


@pytest.fixture
def server() -> Server:
    """The server of this test process."""
    return postgres.needed()


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A database of its own, whose connections may be ended."""
    database = Database(server.new_database())
    yield database
    database.close()


def test_looking_makes_no_queue(database: Database, server: Server) -> None:
    """Opening a queue that is not there says how to make one, and leaves the database as it was."""
    with pytest.raises(QueueNotFound, match="there is no queue at postgresql://") as told:
        open_job_storage(database.location)
    assert "queuectl init" in told.value.hint
    schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'queuectl'"
    assert server.sql(schemas, database.location) == [(0,)]


def test_whoever_makes_the_queue_is_told(database: Database) -> None:
    """The first to open it made it; the second did not."""
    assert database.open_jobs().created
    assert not database.open_jobs().created


def test_a_newer_schema_is_refused(database: Database, server: Server) -> None:
    """An old program does nothing to the queue of a newer one, and says which version that has."""
    database.open_jobs().enqueue([new_job("a")], START)
    server.sql("UPDATE queuectl.queuectl_schema SET version = 99", database.location)
    with pytest.raises(DatabaseTooNew, match="version 99"):
        open_job_storage(database.location, create=True)
    with pytest.raises(DatabaseTooNew, match="version 99"):
        open_worker_storage(database.location, Clock())
    assert server.sql("SELECT id FROM queuectl.jobs", database.location) == [("a",)]


def test_ten_that_open_an_old_queue_migrate_it_once(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes while another migrates waits, and finds it done; what is in the queue stays."""
    database.open_jobs().enqueue([new_job("a")], START)
    number = migrate.SCHEMA_VERSION + 1
    steps = {number: "ALTER TABLE jobs ADD COLUMN news text; SELECT pg_sleep(0.1)"}
    monkeypatch.setattr(migrate, "SCHEMA_VERSION", number)
    monkeypatch.setattr(migrate, "_migration", steps.__getitem__)
    start = threading.Barrier(10)
    found: list[object] = []

    def open_it() -> None:
        start.wait()
        storage = open_job_storage(database.location)
        found.append(storage.existing(["a"]))
        storage.close()

    threads = [threading.Thread(target=open_it) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"a"}] * 10
    version = "SELECT version FROM queuectl.queuectl_schema"
    assert server.sql(version, database.location) == [(number,)]


def test_a_migration_that_fails_leaves_the_queue_as_it_was(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is one transaction: an older program can go on."""
    jobs = database.open_jobs()
    jobs.enqueue([new_job("a")], START)
    number = migrate.SCHEMA_VERSION + 2
    with monkeypatch.context() as patch:
        steps = {number - 1: "ALTER TABLE jobs ADD COLUMN news text", number: "SELECT 1 / 0"}
        patch.setattr(migrate, "SCHEMA_VERSION", number)
        patch.setattr(migrate, "_migration", steps.__getitem__)
        with pytest.raises(DatabaseError, match="division by zero"):
            open_job_storage(database.location)
    assert open_job_storage(database.location).existing(["a"]) == {"a"}
    columns = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'news'"
    assert server.sql(columns, database.location) == [(0,)]


def test_a_schema_of_something_else_is_refused(database: Database, server: Server) -> None:
    """Tables of another program stay alone in their schema."""
    server.sql("CREATE SCHEMA queuectl; CREATE TABLE queuectl.theirs ()", database.location)
    with pytest.raises(DatabaseForeign, match="holds something else") as told:
        open_job_storage(database.location, create=True)
    assert "--schema" in told.value.hint
    tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'queuectl'"
    assert server.sql(tables, database.location) == [("theirs",)]


def test_an_empty_schema_is_used(database: Database, server: Server) -> None:
    """A role that may make no schema can be given an empty one of its own."""
    server.sql(
        """DROP ROLE IF EXISTS worker; CREATE ROLE worker LOGIN;
           CREATE SCHEMA queuectl AUTHORIZATION worker""",
        database.location,
    )
    jobs = open_job_storage(database.location.replace("postgres@", "worker@"), create=True)
    jobs.enqueue([new_job("a")], START)
    assert jobs.existing(["a"]) == {"a"}
    jobs.close()


@pytest.mark.parametrize("name", ["other", 'a"b', "per%cent s", "Größe", "x;y--"])
def test_schemas_keep_queues_apart(database: Database, name: str) -> None:
    """Two schemas of one database are two queues, whatever they are called."""
    from urllib.parse import quote

    pair = Pair(database)
    other = Pair(Database(f"{database.location}&schema={quote(name)}"))
    pair.enqueue("a")
    other.enqueue("b")
    for one, id in ((pair, "a"), (other, "b")):
        one.register("w")
        assert ids_of(one.claim("w", 9)) == [id]
        watch = one.work.watch(0.01)
        watch.wait(0.06)
        one.jobs.enqueue([new_job(id * 2)], START)
        assert watch.wait(30)
        watch.close()
    other.database.close()


def test_a_waiting_worker_is_notified(database: Database) -> None:
    """A worker that sleeps says so in its row, and is told of a job long before it would ask."""
    pair = Pair(database)
    pair.register("w")
    watch = pair.work.watch(60)
    watch.wait(0.06)  # The first sleep is a short one, without notifications.
    woken = threading.Event()

    def sleep() -> None:
        assert watch.wait(60)
        woken.set()

    thread = threading.Thread(target=sleep)
    thread.start()
    look = Database(database.location)
    db = look.open_jobs()._db  # type: ignore[attr-defined]
    wait_until(lambda: db.fetch("SELECT waiting FROM workers") == [(True,)])
    pair.enqueue("a")
    assert woken.wait(30)
    thread.join()
    assert db.fetch("SELECT waiting FROM workers") == [(False,)]
    watch.close()
    look.close()


def test_a_lost_connection_is_made_again(database: Database, server: Server) -> None:
    """Ended by an administrator, it fails once, in one line that says so, and works again then."""
    pair = Pair(database)
    pair.register("w")
    pair.enqueue("a")
    claim = pair.claim_one("w")
    assert server.end_connections(database.location) == 2
    for verb in (pair.jobs.counts, lambda: pair.settle("w", claim)):
        with pytest.raises(DatabaseUnreachable, match="cannot reach postgresql://") as told:
            verb()
        assert "\n" not in told.value.message
    assert pair.settle("w", claim) == []
    assert pair.state("a") == "completed"


def test_a_machine_that_falls_silent_in_a_transaction_holds_nobody_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, or frozen, in the middle of a settle, it keeps its rows locked only until the server
    loses patience; then its jobs are taken back, and what it had begun counts for nothing.
    """
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.2)
    pair = Pair(database)
    pair.register("silent")
    pair.enqueue("a")
    claim = pair.claim_one("silent")
    work = pair.work
    assert isinstance(work, PostgresWorkerStorage)
    work._db.begin("BEGIN")
    assert work.exchange("silent", [pair.settlement(claim)], 0).refused == []
    rescuer = database.open_work(pair.clock)
    assert ids_of(rescuer.fence("silent")) == ["a"]
    with pytest.raises(DatabaseUnreachable):
        work._db.commit()
    with pytest.raises(WorkerFenced):
        pair.settle("silent", claim)
    assert pair.state("a") == "processing"


def test_a_watch_outlives_its_connection(database: Database, server: Server) -> None:
    """A sleep in which the connection is lost ends with the error; the next one is woken as ever."""
    pair = Pair(database)
    pair.register("w")
    watch = pair.work.watch(60)
    watch.wait(0.06)
    thread = threading.Timer(
        0, lambda: wait_until(lambda: server.end_connections(database.location) > 0)
    )
    thread.start()
    with pytest.raises(DatabaseUnreachable):
        watch.wait(30)
    thread.join()
    watch.changed()
    enqueuer = threading.Timer(
        0, lambda: open_job_storage(database.location).enqueue([new_job("a")], START)
    )
    enqueuer.start()
    assert watch.wait(30)
    enqueuer.join()
    watch.close()


def test_an_unreachable_server_is_one_line(tmp_path: Path) -> None:
    """Nothing listens there: the line says so, and never the password."""
    url = f"postgresql://me:s3cret@/db?host={tmp_path}&sslpassword=hidd3n"
    with pytest.raises(DatabaseUnreachable) as told:
        open_job_storage(url)
    error = told.value
    assert "cannot reach postgresql://me@/db?host=" in error.message
    assert "\n" not in error.message
    assert "s3cret" not in f"{error.message} {error.hint}"
    assert "hidd3n" not in f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret%zz@host/db",
        "postgresql://me:s3cret@ho st/db",
        "postgresql://me:s3cret@host:port/db",
        "postgresql://me:s3c@ret@host/db",
        "postgresql://me:s3c/ret@host/db",
        "postgresql://me:s3c?ret@host/db",
        "postgresql://me:s3cret@host/db?nonsense=1",
        "postgresql://host/db?password=s3cret&x",
        "postgresql://me:s3cret%00@host/db",
    ],
)
def test_a_broken_url_does_not_show_its_password(url: str) -> None:
    """Whatever is wrong with it, the words about it hold no part of the password."""
    with pytest.raises(QueuectlError) as told:
        open_job_storage(url)
    words = f"{told.value.message} {told.value.hint}"
    assert "s3c" not in words
    assert "ret@" not in words
    assert told.value.__cause__ is None


def test_the_check_knows_every_column(database: Database) -> None:
    """What `doctor` looks for is what the migrations made, no more and no less."""
    storage = database.open_jobs()
    found: dict[str, set[str]] = {}
    for table, column in storage._db.fetch(  # type: ignore[attr-defined]
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = current_schema()"
    ):
        found.setdefault(table, set()).add(column)
    known = {table: set(columns.split(", ")) for table, columns in shape.COLUMNS.items()}
    rows = storage._db.fetch(  # type: ignore[attr-defined]
        "SELECT sequence_name FROM information_schema.sequences"
        " WHERE sequence_schema = current_schema()"
    )
    assert known == found | {sequence: {"last_value"} for (sequence,) in rows}


def test_a_backup_says_how_it_is_made(database: Database, tmp_path: Path) -> None:
    """There is no copying of a server's database to a file; the hint is the tool that can."""
    with pytest.raises(CouldNotDo) as told:
        database.open_jobs().backup(str(tmp_path / "copy"))
    words = shlex.split(told.value.hint.partition("must not be older than the server: ")[2])
    url = database.location.split("&schema=")[0]
    assert words[:4] == ["pg_dump", "--dbname", url, "--file"]
    assert words[-2:] == ["--schema", "queuectl"]


def test_leases_go_by_the_databases_clock(database: Database) -> None:
    """A worker whose machine's clock is wrong writes leases that others read right."""
    pair = Pair(database)
    work = database.open_work(None)
    work.register(new_worker("w"))
    [seen] = pair.jobs.workers()
    assert 25 < seen.lease_left_seconds <= 30
    assert abs(work.clock.now() - Clock().now()) < 10 * SECOND


def test_whoever_waits_for_a_lock_is_told_so_in_the_end(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that somebody else has locked ends in one line, not in a wait that no Ctrl-C ends."""
    monkeypatch.setitem(connection._PATIENT, "lock_timeout", "50ms")
    jobs = database.open_jobs()
    holder = psycopg2.connect(database.location)
    holder.cursor().execute("LOCK TABLE queuectl.jobs IN EXCLUSIVE MODE")
    with pytest.raises(DatabaseBusy, match="something else has held what this needs"):
        jobs.enqueue([new_job("a")], START)
    holder.close()
    jobs.enqueue([new_job("a")], START)
