from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from queuectl.errors import QueuectlError
from queuectl.jobs.lifecycle import State
from tests.contract.support import FAILED, START, Database, MovableClock, Pair, ids_of, new_worker

# A server is backed up with its own tools, and says so.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def used(pair: Pair) -> Pair:
    """A queue with a past, a worker and something to do."""
    pair.register("w")
    pair.enqueue("done", "failed", "running", "waiting")
    pair.run("w")
    pair.run("w", FAILED)
    pair.claim_one("w")
    return pair


def test_changes_tells_when_somebody_else_wrote(pair: Pair) -> None:
    """The number stays as long as nothing happens, and is another one after each write by others."""
    pair.register("w")
    seen = {pair.jobs.changes()}
    assert pair.jobs.changes() in seen
    other = pair.database.open_jobs()
    for n in range(3):
        other.enqueue([], START)
        other.counts()
        other.request_stop(["w"], n, START)
        assert pair.jobs.changes() not in seen
        seen.add(pair.jobs.changes())
        assert pair.jobs.changes() in seen
    pair.clock.go_on(1)
    pair.work.heartbeat("w", 30)
    assert pair.jobs.changes() not in seen


@on_sqlite
def test_a_backup_is_the_queue_as_it_was(used: Pair, tmp_path: Path) -> None:
    """The copy holds every job, attempt and worker, passes the check, and goes on by itself."""
    before = used.everything()
    target = str(tmp_path / "backup.db")
    used.jobs.backup(target)
    used.enqueue("later")
    assert used.everything()[:-1] == before
    copy = Pair(Database(target))
    assert copy.jobs.check() == []
    assert copy.everything() == before
    assert [worker.id for worker in copy.work.workers()] == ["w"]
    assert ids_of(copy.work.fence("w")) == ["running"]
    copy.work.unregister("w")
    copy.register("v")
    assert ids_of(copy.claim("v", 9)) == ["waiting"]
    assert used.state("waiting") == State.PENDING
    copy.database.close()


@on_sqlite
def test_a_backup_is_private(used: Pair, tmp_path: Path) -> None:
    """Only its owner may read the copy: commands and their variables are in it."""
    target = tmp_path / "backup.db"
    used.jobs.backup(str(target))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_backup_replaces_nothing(used: Pair, tmp_path: Path) -> None:
    """A file that is there already is refused and left as it is; so is a folder that is not there."""
    target = tmp_path / "precious.txt"
    target.write_bytes(b"precious" * 1000)
    with pytest.raises(QueuectlError):
        used.jobs.backup(str(target))
    assert target.read_bytes() == b"precious" * 1000
    with pytest.raises(QueuectlError):
        used.jobs.backup(str(tmp_path / "nowhere" / "backup.db"))
    assert used.jobs.check() == []


@on_sqlite
def test_a_backup_is_of_one_moment(used: Pair, tmp_path: Path) -> None:
    """While others write, the copy holds whole transactions: all jobs of a call, or none of them."""
    copied = threading.Event()
    busy = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        work = used.database.open_work(MovableClock())
        work.register(new_worker("v"))
        jobs = Pair(used.database)
        while not copied.is_set():
            jobs.enqueue(*(f"{written}-{n}" for n in range(7)))
            written += 1
            busy.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(3):
            assert busy.wait(30)
            busy.clear()
            target = str(tmp_path / f"backup{n}.db")
            used.jobs.backup(target)
            copy = Database(target)
            jobs = copy.open_jobs()
            assert jobs.check() == []
            assert (sum(jobs.counts().values()) - 4) % 7 == 0
            copy.close()
    finally:
        copied.set()
        writer.join(30)
    assert len(used.ids()) == 4 + 7 * written


def test_a_sound_database_passes_the_check(used: Pair) -> None:
    """Nothing is found wrong with a queue in use, and checking it changes nothing."""
    before = used.everything()
    assert used.jobs.check() == []
    assert used.everything() == before


def test_the_database_says_what_it_is(pair: Pair) -> None:
    """The engine's name and version, for a report about what went wrong."""
    name, version = pair.jobs.engine_version().split()
    assert name.isalpha()
    assert all(part.isdigit() for part in version.split("."))
