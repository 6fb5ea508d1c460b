"""How a copy of the SQLite file gets its name: whole, alone, and on any file system."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuectl import disk
from queuectl.errors import CouldNotDo, DatabaseError, EnvironmentFault
from queuectl.storage.sqlite import backup
from tests.contract.support import Database, Pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A queue with one job."""
    database = Database(str(tmp_path / "queuectl.db"))
    pair = Pair(database)
    pair.enqueue("a")
    yield pair
    database.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the copy is to be, in a folder of its own."""
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "backup.db"


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hard links fail, as on FAT and on some network mounts."""

    def refuse(_part: str, path: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture(params=["links", "no links"])
def either(request: pytest.FixtureRequest) -> None:
    """A file system with hard links, and one without."""
    if request.param == "no links":
        request.getfixturevalue("no_links")


def jobs_in(path: Path) -> list[str]:
    """The ids of the jobs in a copy, which is opened for that and left as it was otherwise."""
    database = Database(str(path))
    try:
        return Pair(database).ids()
    finally:
        database.close()


def names_beside(path: Path) -> list[str]:
    """All that there is in the folder of a copy."""
    return sorted(os.listdir(path.parent))


def before_it_is_synced(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Lets something happen once, when the next copy is complete but has not got its name yet."""
    sync = disk.sync_file

    def sync_file(path: str) -> None:
        monkeypatch.setattr(backup, "sync_file", sync)
        act()
        sync(path)

    monkeypatch.setattr(backup, "sync_file", sync_file)


def test_without_hard_links(pair: Pair, target: Path, no_links: None) -> None:
    """Where a file can have one name only, a backup is as whole, private and alone as elsewhere."""
    pair.jobs.backup(str(target))
    assert names_beside(target) == ["backup.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert jobs_in(target) == ["a"]
    before = target.read_bytes()
    with pytest.raises(CouldNotDo, match="exists already"):
        pair.jobs.backup(str(target))
    assert target.read_bytes() == before


def test_a_file_that_came_meanwhile_is_kept(
    pair: Pair, target: Path, either: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody else puts there while the copy is being made is not replaced."""
    before_it_is_synced(monkeypatch, lambda: target.write_bytes(b"precious"))
    with pytest.raises(CouldNotDo, match="exists already"):
        pair.jobs.backup(str(target))
    assert target.read_bytes() == b"precious"
    assert names_beside(target) == ["backup.db"]


def test_nothing_is_there_before_it_is_whole(
    pair: Pair, target: Path, either: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the copy is complete there is no file of that name, not even an empty one."""
    seen: list[bool] = []
    before_it_is_synced(monkeypatch, lambda: seen.append(target.exists()))
    pair.jobs.backup(str(target))
    assert seen == [False]


def test_a_name_that_cannot_be_taken_is_free_again(
    pair: Pair, target: Path, no_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the copy cannot be put in its place, what kept the place is removed with it."""

    def fail(part: str, _path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), part)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(EnvironmentFault, match="Input/output error"):
            pair.jobs.backup(str(target))
    assert names_beside(target) == []
    pair.jobs.backup(str(target))
    assert jobs_in(target) == ["a"]


def test_two_at_once_to_one_file(
    pair: Pair, target: Path, either: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that is whole stays as it is, the other is refused, and neither takes the other's
    unfinished copy away or for its own.
    """
    other = pair.database.open_jobs()
    unfinished: list[str] = []

    def overtake() -> None:
        unfinished.extend(names_beside(target))
        pair.enqueue("b")
        other.backup(str(target))
        assert names_beside(target) == ["backup.db", *unfinished]

    before_it_is_synced(monkeypatch, overtake)
    with pytest.raises(CouldNotDo, match="exists already"):
        pair.jobs.backup(str(target))
    assert len(unfinished) == 1
    assert jobs_in(target) == ["a", "b"]
    assert names_beside(target) == ["backup.db"]


def test_a_copy_that_was_taken_away_is_missed(pair: Pair, target: Path) -> None:
    """An unfinished copy that somebody removed does not become an empty backup."""

    class Thief:
        """In the place of the database: takes away what should have been written."""

        def execute(self, *_: object) -> None:
            for name in names_beside(target):
                (target.parent / name).unlink()

    with pytest.raises(DatabaseError, match="cannot open"):
        backup.back_up(Thief(), pair.database.location, str(target))  # type: ignore[arg-type]
    assert names_beside(target) == []


_KILLED = """
import os, signal, sys
from queuectl.storage import open_job_storage
from queuectl import disk
from queuectl.storage.sqlite import backup
backup.sync_file = lambda path: os.kill(os.getpid(), signal.SIGKILL)
open_job_storage(sys.argv[1]).backup(sys.argv[2])
"""


def test_a_backup_that_was_killed_is_in_nobodys_way(pair: Pair, target: Path, either: None) -> None:
    """What a killed backup leaves is no backup, and the next one to that file clears it away,
    but no file that only looks alike.
    """
    command = (sys.executable, "-c", _KILLED, pair.database.location, str(target))
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    left = names_beside(target)
    assert len(left) == 1
    assert left[0].startswith("backup.db.")
    alike = ["backup.db.1.part", "backup.db.part", "other-" + left[0]]
    for name in alike:
        (target.parent / name).touch()
    pair.jobs.backup(str(target))
    assert names_beside(target) == sorted(["backup.db", *alike])
    assert jobs_in(target) == ["a"]


def test_a_process_of_the_same_number_may_have_left_it(pair: Pair, target: Path) -> None:
    """In a container each backup may have the number of the one before it; what that one left is
    cleared away all the same.
    """
    (target.parent / f"backup.db.{os.getpid()}-0123abcd.part").touch()
    (target.parent / f"backup.db.{os.getpid()}-0123abcd.part-wal").touch()
    pair.jobs.backup(str(target))
    assert names_beside(target) == ["backup.db"]


@pytest.mark.parametrize("left", [["", "-journal"], ["-journal"], ["-wal", "-shm"]])
def test_what_is_kept_beside_an_unfinished_copy_goes_with_it(
    pair: Pair, target: Path, left: list[str]
) -> None:
    """The journal of a copy that was killed while it was written is cleared away, also alone."""
    for ending in left:
        (target.parent / f"backup.db.{os.getpid()}-0123abcd.part{ending}").touch()
    pair.jobs.backup(str(target))
    assert names_beside(target) == ["backup.db"]


def test_the_copy_of_a_living_process_is_left_to_it(pair: Pair, target: Path) -> None:
    """An unfinished copy that another process is still writing is not touched."""
    theirs = f"backup.db.{os.getppid()}-0123abcd.part"
    (target.parent / theirs).touch()
    pair.jobs.backup(str(target))
    assert names_beside(target) == ["backup.db", theirs]
