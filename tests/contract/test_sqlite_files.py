"""What SQLite keeps beside the database: watched while it is open, moved away before a backup comes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuectl.errors import DatabaseCorrupt, DiskFull, EnvironmentFault
from queuectl.jobs.lifecycle import State
from queuectl.storage import (
    fingerprint,
    open_job_storage,
    open_worker_storage,
    refuse_emptied,
    way_back,
)
from tests.contract.support import (
    START,
    Database,
    MovableClock,
    Pair,
    new_database,
    new_job,
    new_worker,
)
from tests.support import ROOT

if sys.platform != "win32":
    import resource

DELETABLE = [State.PENDING]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A queue in a file, of which this is about: a server keeps its own."""
    with new_database("sqlite", tmp_path) as database:
        yield database


@pytest.fixture
def path(pair: Pair) -> Path:
    """The database of `pair`."""
    return Path(pair.database.location)


def leave_behind(path: Path, folder: Path) -> Path:
    """The database as a process leaves it that is killed: with the last changes in its -wal."""
    folder.mkdir()
    for ending in ("", "-wal", "-shm"):
        shutil.copy(f"{path}{ending}", folder)
    return folder / path.name


def jobs_in(path: Path) -> list[str]:
    """The ids of the jobs that a newcomer finds there."""
    jobs = open_job_storage(str(path))
    found = jobs.list_jobs((), sort="created", descending=False, limit=None)
    ids = [job.id for job in found]
    jobs.close()
    return ids


@pytest.mark.skipif(sys.platform == "win32", reason="they are commands for a shell")
@pytest.mark.parametrize("folder", ["left", "left 'here'"])
@pytest.mark.parametrize("open_still", [True, False])
def test_the_way_back_to_a_backup(
    pair: Pair, path: Path, tmp_path: Path, folder: str, open_still: bool
) -> None:
    """The commands that are advised bring the backup back, and nothing that came after it, whether or
    not there is a -wal; what was there is moved away with all that belongs to it.
    """
    pair.enqueue("a")
    pair.jobs.backup(str(tmp_path / "backup.db"))
    pair.enqueue("b")
    left = leave_behind(path, tmp_path / folder)
    if not open_still:
        open_job_storage(str(left)).close()
    commands = way_back(str(left)).replace("BACKUP", str(tmp_path / "backup.db"))
    subprocess.run(["sh", "-c", commands], check=True)
    assert jobs_in(left) == ["a"]
    assert jobs_in(left.parent / "damaged" / left.name) == ["a", "b"]


# ---- files that change under a connection


def test_the_fingerprint_is_that_of_what_is_open(pair: Pair, path: Path) -> None:
    """It stays the same through writes and other connections, and a part that is gone or another one
    changes it.
    """
    seen = fingerprint(str(path))
    assert seen is not None
    pair.enqueue("a")
    jobs_in(path)
    pair.work.make_room()
    assert fingerprint(str(path)) == seen
    for ending in ("", "-wal", "-shm"):
        whole = Path(f"{path}{ending}")
        whole.rename(f"{whole}.away")
        assert fingerprint(str(path)) is None
        whole.touch()
        assert fingerprint(str(path)) not in (None, seen)
        Path(f"{whole}.away").rename(whole)
        assert fingerprint(str(path)) == seen


WRITES: dict[str, Callable[[Pair], object]] = {
    "enqueue": lambda pair: pair.enqueue("b"),
    "enqueue many": lambda pair: pair.enqueue("b", "c"),
    "cancel": lambda pair: pair.jobs.cancel(["a"], START),
    "register": lambda pair: pair.work.register(new_worker("w")),
    "delete": lambda pair: pair.jobs.delete(["a"], DELETABLE, not_to_be_called),
}


def not_to_be_called(ids: object) -> None:
    """In the place of what removes output."""
    raise AssertionError(f"removed {ids}")


@pytest.mark.parametrize(
    "endings", [["-wal", "-shm"], ["-shm"], ["", "-wal", "-shm"]], ids=".".join
)
@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_written_into_files_that_are_gone(
    pair: Pair, path: Path, name: str, endings: list[str]
) -> None:
    """What would be lost, or overwrite what others write, is refused, and said to be."""
    pair.enqueue("a")
    for ending in endings:
        os.rename(f"{path}{ending}", f"{path}.away{ending}")
    with pytest.raises(EnvironmentFault, match="was removed or replaced"):
        WRITES[name](pair)
    for ending in endings:
        os.rename(f"{path}.away{ending}", f"{path}{ending}")
    assert pair.ids() == ["a"]
    pair.enqueue("later")


_ENQUEUE = """
import sys
from queuectl.storage import open_job_storage
from tests.contract.support import START, new_job
jobs = open_job_storage(sys.argv[1])
jobs.enqueue([new_job("theirs")], START)
jobs.close()
"""


@pytest.mark.parametrize("is_closed", [True, False])
def test_the_last_to_leave_removes_nothing_of_others(tmp_path: Path, is_closed: bool) -> None:
    """A connection whose -wal was removed leaves the new one where it is, with what others have put
    into it, also when it is not closed but forgotten.
    """
    path = tmp_path / "left.db"
    jobs = open_job_storage(str(path), create=True)
    for ending in ("-wal", "-shm"):
        os.unlink(f"{path}{ending}")
    # Not in this process: SQLite knows what its connections have open.
    subprocess.run([sys.executable, "-c", _ENQUEUE, str(path)], cwd=ROOT, check=True)
    if is_closed:
        jobs.close()
        jobs.close()
    del jobs
    assert jobs_in(path) == ["theirs"]
    assert not Path(f"{path}-wal").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_met_before_output_is_removed(pair: Pair, path: Path) -> None:
    """When there is no room to remove jobs, their output is kept as they are."""
    ids = [f"j{n}" for n in range(300)]
    pair.enqueue(*(new_job(id, command="x" * 500) for id in ids))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(f"{path}-wal"), limits[1]))
    try:
        with pytest.raises(DiskFull):
            pair.jobs.delete(ids, DELETABLE, not_to_be_called)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert pair.ids() == ids
    removed: list[object] = []
    pair.jobs.delete(ids, DELETABLE, removed.extend)
    assert removed == ids


# ---- files that are not what they were


def test_a_file_with_a_log_of_changes_was_not_always_empty(
    pair: Pair, path: Path, tmp_path: Path
) -> None:
    """SQLite would throw the log away; it is refused by both sides, and nothing is touched."""
    pair.enqueue("a")
    left = leave_behind(path, tmp_path / "left")
    os.truncate(left, 0)
    before = {entry.name: entry.read_bytes() for entry in left.parent.iterdir()}
    for create in (False, True):
        with pytest.raises(DatabaseCorrupt, match="it was emptied"):
            open_job_storage(str(left), create=create)
    with pytest.raises(DatabaseCorrupt, match="it was emptied"):
        open_worker_storage(str(left), MovableClock())
    assert {entry.name: entry.read_bytes() for entry in left.parent.iterdir()} == before


def test_a_queue_that_is_being_made_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is empty for a moment only, in a folder that was used before, is no lost queue."""
    path = tmp_path / "queuectl.db"
    path.touch()
    monkeypatch.setattr(time, "sleep", lambda _: open_job_storage(str(path), create=True).close())
    refuse_emptied(str(path), used=True)
    assert jobs_in(path) == []


def test_a_small_file_of_another_kind_is_not_called_damaged(tmp_path: Path) -> None:
    """What cannot have been a queue is told apart from what may have been one."""
    path = tmp_path / "notes.txt"
    path.write_text("x" * 4096)
    with pytest.raises(DatabaseCorrupt, match="is not a SQLite database") as caught:
        open_job_storage(str(path))
    assert "damaged" not in caught.value.message
    assert "doctor" not in caught.value.hint
    path.write_text("x" * 4097)
    with pytest.raises(DatabaseCorrupt, match="is damaged, or is not a SQLite database") as caught:
        open_job_storage(str(path))
    assert "queuectl doctor" in caught.value.hint
    assert "--db" in caught.value.hint
