"""What is particular to SQLite: the file, who may read it, and files that are something else."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import apsw
import pytest

from queuectl.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseForeign,
    DatabaseTooNew,
    DiskFull,
    EnvironmentFault,
    QueueNotFound,
)
from queuectl.jobs.lifecycle import State
from queuectl.storage import open_job_storage, open_worker_storage
from queuectl.storage.sqlite.jobs import SqliteJobStorage
from queuectl.storage.sqlite.migrate import SCHEMA_VERSION
from tests.contract.support import START, Database, MovableClock, Pair, new_job

if sys.platform != "win32":
    import resource


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is to be."""
    return tmp_path / "queuectl.db"


def make(path: Path, *statements: str) -> None:
    """A SQLite file as another program would make it."""
    db = apsw.Connection(str(path))
    for statement in statements:
        db.execute(statement)
    db.close()


def refused(path: Path, error: type[Exception], *, create: bool = False) -> str:
    """Opens what must be refused, by both sides and with every byte left as it was; its message."""
    before = {entry.name: entry.read_bytes() for entry in path.parent.iterdir() if entry.is_file()}
    with pytest.raises(error) as caught:
        open_job_storage(str(path), create=create)
    with pytest.raises(error):
        open_worker_storage(str(path), MovableClock())
    after = {entry.name: entry.read_bytes() for entry in path.parent.iterdir() if entry.is_file()}
    assert after == before
    return str(caught.value)


def test_no_file(path: Path) -> None:
    """Looking into a queue that does not exist makes no file, and says how to make one."""
    assert "there is no queue" in refused(path, QueueNotFound)


def test_no_folder(path: Path) -> None:
    """A queue is not made in a folder that does not exist."""
    with pytest.raises(EnvironmentFault, match="cannot create"):
        open_job_storage(str(path.parent / "nowhere" / "queuectl.db"), create=True)


@pytest.mark.parametrize("create", [False, True])
def test_a_folder(path: Path, create: bool) -> None:
    """A folder in the place of the database is called a folder."""
    path.mkdir()
    assert "is a folder" in refused(path, DatabaseError, create=create)


@pytest.mark.parametrize(
    "content", [b"hello", b"SQLite format 3\0" + b"\xff" * 5000, b"x" * 10_000]
)
@pytest.mark.parametrize("create", [False, True])
def test_not_sqlite(path: Path, content: bytes, create: bool) -> None:
    """A file of another kind is refused for what it is, and nothing is written to it."""
    path.write_bytes(content)
    refused(path, DatabaseCorrupt, create=create)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE recipes (name TEXT)"],
        ["CREATE TABLE jobs (id TEXT)", f"PRAGMA user_version = {SCHEMA_VERSION}"],
        ["CREATE TABLE jobs (id TEXT)", "PRAGMA journal_mode = WAL", "PRAGMA user_version = 99"],
        ["PRAGMA user_version = 7"],
        ["PRAGMA application_id = 7", "CREATE TABLE t (a)"],
    ],
)
def test_a_database_of_another_program(path: Path, create: bool, statements: list[str]) -> None:
    """Somebody else's SQLite database is never taken for a queue, nor made into one."""
    make(path, *statements)
    assert "another program" in refused(path, DatabaseForeign, create=create)


def test_a_database_from_a_newer_version(path: Path) -> None:
    """A schema from the future is refused with both numbers, and left alone."""
    open_job_storage(str(path), create=True).close()
    make(path, f"PRAGMA user_version = {SCHEMA_VERSION + 41}")
    message = refused(path, DatabaseTooNew, create=True)
    assert str(SCHEMA_VERSION) in message
    assert str(SCHEMA_VERSION + 41) in message


def test_an_empty_file_becomes_a_queue(path: Path) -> None:
    """A file that a queue's maker had only just created when it died is taken up."""
    path.touch()
    jobs = open_job_storage(str(path), create=True)
    jobs.enqueue([new_job("a")], START)
    assert jobs.counts() == {State.PENDING: 1}
    jobs.close()


def damaged(path: Path) -> None:
    """Makes a queue with a hole in the middle of it."""
    jobs = open_job_storage(str(path), create=True)
    jobs.enqueue([new_job(f"j{n}", command="x" * 500) for n in range(500)], START)
    jobs.close()
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xa5" * 20 * 4096)


def test_a_damaged_database_is_called_damaged(path: Path) -> None:
    """Damage is found by the check, or stops it with an error that says so; it is never passed over."""
    damaged(path)
    jobs = open_job_storage(str(path))
    found = []
    try:
        found = jobs.check()
    except DatabaseCorrupt as error:
        found = [error.message]
    jobs.close()
    assert found != []


def test_a_backup_that_failed_leaves_nothing(path: Path) -> None:
    """Of a damaged database there is no copy that could be taken for one, and the right file is blamed."""
    damaged(path)
    jobs = open_job_storage(str(path))
    target = path.with_name("backup.db")
    with pytest.raises(DatabaseCorrupt) as caught:
        jobs.backup(str(target))
    jobs.close()
    assert str(path) in caught.value.message
    assert not target.exists()


@pytest.mark.parametrize("umask", [0, 0o022])
def test_the_files_are_private(path: Path, umask: int) -> None:
    """Only its owner may read the database, and what SQLite keeps beside it while it is open."""
    before = os.umask(umask)
    try:
        jobs = open_job_storage(str(path), create=True)
        jobs.enqueue([new_job("a")], START)
    finally:
        os.umask(before)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    jobs.close()
    assert modes == {"queuectl.db": 0o600, "queuectl.db-wal": 0o600, "queuectl.db-shm": 0o600}


def settings_of(path: Path) -> tuple[object, ...]:
    """How a database is opened: its journal, its syncing, its schema."""
    jobs = open_job_storage(str(path), create=True)
    assert isinstance(jobs, SqliteJobStorage)
    names = ("journal_mode", "synchronous", "user_version")
    found = tuple(jobs._db.pragma(name) for name in names)
    jobs.close()
    return found


def test_commits_are_on_the_disk(path: Path, tmp_path: Path) -> None:
    """Every way to come by a database gives a write-ahead log that is synced at each commit."""
    jobs = open_job_storage(str(path), create=True)
    jobs.backup(str(tmp_path / "backup.db"))
    jobs.close()
    (tmp_path / "empty.db").touch()
    for name in ("queuectl.db", "backup.db", "empty.db"):
        assert settings_of(tmp_path / name) == ("wal", 2, SCHEMA_VERSION), name


def test_opening_again_writes_nothing(path: Path) -> None:
    """A database that is up to date is not written to by those who only look."""
    pair = Pair(Database(str(path)))
    pair.enqueue("a")
    before = pair.jobs.changes()
    others = Database(str(path))
    others.open_jobs().counts()
    others.open_work(MovableClock()).outlook("nobody")
    others.close()
    assert pair.jobs.changes() == before
    pair.database.close()


def test_a_full_disk_changes_nothing(path: Path) -> None:
    """No room: enqueue, claim and settle fail with a clear error, and go on when there is room again."""
    pair = Pair(Database(str(path)))
    pair.register("w")
    pair.enqueue(*(f"j{n}" for n in range(50)))
    claims = pair.claim("w", 50)
    before = pair.everything()
    for storage in (pair.jobs, pair.work):
        limit_pages(storage, to_now=True)
    for size in (1, 300):
        with pytest.raises(DiskFull):
            pair.enqueue(*(new_job(f"n{n}", command="x" * 9_000) for n in range(size)))
    endings = [pair.settlement(claim) for claim in claims]
    with pytest.raises(DiskFull):
        pair.work.exchange("w", [e._replace(worker="x" * 900) for e in endings], 0)
    assert pair.everything() == before
    for storage in (pair.jobs, pair.work):
        limit_pages(storage, to_now=False)
    assert pair.work.exchange("w", endings, 0).refused == []
    pair.enqueue("later")
    assert pair.jobs.counts() == {State.COMPLETED: 50, State.PENDING: 1}
    pair.database.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_queue_is_made_whole_or_the_disk_is_called_full(tmp_path: Path) -> None:
    """Wherever the room runs out while a queue is made, that is what is said, and what is there then
    can be made a queue as soon as there is room.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    for size in range(0, 65_536, 2_048):
        path = str(tmp_path / f"queue-{size}.db")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            open_job_storage(path, create=True).close()
        except DiskFull:
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        open_job_storage(path, create=True).close()
    assert 0 < refused < 32


def limit_pages(storage: object, *, to_now: bool) -> None:
    """Lets the file grow no more, as a full disk would, or without limit again."""
    db: apsw.Connection = storage._db  # type: ignore[attr-defined]
    pages = db.pragma("page_count") if to_now else 2**31
    db.pragma("max_page_count", pages)
