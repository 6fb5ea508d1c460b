from __future__ import annotations

import pytest

from queuectl.clock import Clock
from queuectl.engine.doctor import examine
from queuectl.jobs.lifecycle import State
from queuectl.storage import open_worker_storage
from queuectl.storage.sqlite import migrate
from queuectl.workspace import Workspace
from tests.cli.support import Cli
from tests.support import this_process_as_worker

HOUR = 3_600_000_000


def test_a_clock_that_was_set_back_is_found(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job from the future tells of it, and the advice says which jobs wait for longer, and which
    do not.
    """
    now = Clock.now
    with monkeypatch.context() as patch:
        patch.setattr(Clock, "now", lambda clock: now(clock) + HOUR)
        cli.enqueue()
        assert "clock: agrees" in cli.done("doctor").out
    ran = cli("doctor")
    assert ran.status == 1
    assert "WRONG   clock: the newest job was queued 1h in the future" in ran.out
    assert "--run-at" in ran.out
    assert "A retry waits no longer than its backoff" in ran.out


def test_clocks_that_differ_a_little_are_no_fault(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine's clock may be some seconds ahead."""
    now = Clock.now
    with monkeypatch.context() as patch:
        patch.setattr(Clock, "now", lambda clock: now(clock) + 30_000_000)
        cli.enqueue()
    assert "clock: agrees" in cli.done("doctor").out


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--fix"]])
def test_a_file_in_place_of_the_logs_is_one_finding(cli: Cli, words: list[str]) -> None:
    """What makes one check impossible is told with its way out, and the others are still made."""
    cli.enqueue()
    (cli.folder / "job_logs").write_text("")
    ran = cli(*words)
    assert ran.status == 1
    assert f"WRONG   logs: {cli.folder}/job_logs is not a folder" in ran.out
    assert f"mv {cli.folder}/job_logs {cli.folder}/job_logs.old" in ran.out
    assert "ok      database: sound" in ran.out
    assert "ok      pidfile: no background worker" in ran.out


def test_a_check_that_the_system_refuses_does_not_end_the_others(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw in one check is its finding, with the place."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/x")

    cli.enqueue()
    monkeypatch.setattr("queuectl.engine.doctor.shutil.disk_usage", refuse)
    ran = cli("doctor")
    assert ran.status == 1
    assert "WRONG   disk: cannot be checked: /x: Permission denied" in ran.out
    assert "ok      logs" in ran.out


def test_a_folder_in_place_of_the_pidfile_is_in_the_way(cli: Cli) -> None:
    """What no background worker could replace is not taken for a file that one left behind."""
    cli.enqueue()
    (cli.folder / "queuectl.pid").mkdir()
    ran = cli("doctor")
    assert ran.status == 1
    assert "queuectl.pid is not a file: no worker can start in the background" in ran.out
    assert f"mv {cli.folder}/queuectl.pid {cli.folder}/queuectl.pid.old" in ran.out


def test_a_pidfile_that_was_left_behind_is_no_fault(cli: Cli) -> None:
    """What does no harm is not WRONG and no status 1; --fix removes it all the same."""
    cli.enqueue()
    (cli.folder / "queuectl.pid").write_text("4")
    assert "ok      pidfile: left behind by a worker that is gone" in cli.done("doctor").out
    assert "mended  pidfile" in cli.done("doctor", "--fix").out
    assert not (cli.folder / "queuectl.pid").exists()


def test_damage_is_not_sent_to_the_doctor(cli: Cli) -> None:
    """Of a broken file doctor says what to do, and not to run what was just run."""
    cli.enqueue()
    (cli.folder / "t.db").write_bytes(cli.database.read_bytes()[:3000])
    assert "queuectl --db t.db doctor" in cli("list", "--db", "t.db").err
    ran = cli("doctor", "--db", "t.db")
    assert ran.status == 1
    assert "t.db is damaged" in ran.out
    assert "go back to the last backup: " in ran.out
    database = cli.folder / "t.db"
    assert f"mkdir {cli.folder}/damaged && mv {database}* {cli.folder}/damaged/" in ran.out
    assert f"&& cp BACKUP {database}\n" in ran.out
    assert "queuectl doctor" not in ran.out


def test_a_worker_that_answers_in_time_keeps_its_jobs(cli: Cli) -> None:
    """What was found lost is looked at again before anything is taken from it."""
    job = cli.enqueue()
    workspace = Workspace(str(cli.database))
    storage = open_worker_storage(str(cli.database), Clock())
    storage.register(this_process_as_worker()._replace(lease_seconds=-1))
    storage.exchange("w", [], 1)
    lost = next(finding for finding in examine(workspace) if finding.check == "workers")
    assert "1 lost (w), still holding 1 job" in lost.message
    assert lost.fix is not None
    storage.heartbeat("w", 30)
    assert lost.fix() == "they were cleared away, or answered, meanwhile"
    storage.heartbeat("w", 30)  # It was not given up.
    storage.close()
    assert cli.job(job).state == State.PROCESSING


def test_the_database_in_use_is_not_opened_as_a_file(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To close it would give up SQLite's locks on it; only those beside it are looked into."""
    opened = []

    def is_database(path: str) -> bool:
        opened.append(path)
        return False

    monkeypatch.setattr(migrate, "is_database", is_database)
    cli.enqueue()
    (cli.folder / "other.db").touch()
    cli.done("doctor")
    assert str(cli.folder / "other.db") in opened
    assert str(cli.database) not in opened


def test_one_is_not_many(cli: Cli) -> None:
    """A single log of a job that is gone is spoken of as one."""
    cli.enqueue()
    (cli.folder / "job_logs").mkdir()
    (cli.folder / "job_logs" / "gone.log").write_text("")
    ran = cli.done("doctor", "--fix")
    assert "logs: 1 log of a job that is gone\n        removed 1 log\n" in ran.out


def test_the_logs_of_another_queue_in_the_folder_are_not_orphans(cli: Cli) -> None:
    """What belongs to a job of either queue stays, and only what belongs to neither is removed."""
    ours = cli.completed()
    theirs = cli.enqueue()
    cli.done("backup", "other.db")
    cli.finish(theirs)
    cli.done("delete", "--yes", theirs)
    logs = cli.folder / "job_logs"
    for name in (theirs, "nobody"):
        (logs / f"{name}.log").write_text("output\n")
    (cli.folder / "notes.txt").write_text("no database\n")
    assert "1 log of a job that is gone" in cli("doctor").out
    cli("doctor", "--fix")
    assert sorted(path.stem for path in logs.iterdir()) == sorted([ours, theirs])


def test_nothing_is_removed_while_the_queue_beside_cannot_be_read(cli: Cli) -> None:
    """Whose a log is cannot be told then."""
    cli.completed()
    cli.done("backup", "other.db")
    other = cli.folder / "other.db"
    other.write_bytes(other.read_bytes()[:3000])
    (cli.folder / "job_logs" / "somebody.log").write_text("output\n")
    cli("doctor", "--fix")
    assert (cli.folder / "job_logs" / "somebody.log").exists()
