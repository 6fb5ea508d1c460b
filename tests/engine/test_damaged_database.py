from __future__ import annotations

import os
import signal

import pytest

from tests.support import Sandbox, wait_until

pytestmark = pytest.mark.sqlite_only(
    "a file is damaged, removed or held; a server's are its own affair"
)

BUSY = "echo start >> marks; while [ ! -e go ]; do sleep 0.05; done; echo end >> marks"
PAGE = 4096


def fill(sandbox: Sandbox) -> None:
    """Enough jobs for a database of many pages, all of them in the file itself."""
    sandbox.queue.enqueue_many([{"command": f"echo {'x' * 500}", "cwd": "/"}] * 400)
    sandbox.close_queue()
    assert sandbox.database.stat().st_size > 60 * PAGE


def overwrite(sandbox: Sandbox, start: int, count: int) -> None:
    """Writes rubbish over some pages, as a broken disk does."""
    with sandbox.database.open("r+b") as file:
        file.seek(start * PAGE)
        file.write(b"\xde\xad\xbe\xef" * (count * PAGE // 4))


@pytest.mark.parametrize(
    "words",
    [
        ["enqueue", "--command", "true"],
        ["list"],
        ["status"],
        ["worker-start", "--drain"],
        ["worker-start", "--background"],
        ["dlq", "list"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(("start", "count"), [(0, 1), (1, 1000)], ids=["header", "rest"])
def test_a_damaged_database_is_reported_for_what_it_is(
    sandbox: Sandbox, words: list[str], start: int, count: int
) -> None:
    """Status 5, one line that names the file and one that says what to do; no traceback."""
    fill(sandbox)
    pages = sandbox.database.stat().st_size // PAGE
    overwrite(sandbox, start, min(count, pages - start))
    result = sandbox.run(*words)
    assert result.returncode == 5, result.stderr
    message = result.stderr.splitlines()
    assert len(message) == 2
    assert str(sandbox.database) in message[0]
    assert "not a SQLite database" in message[0] or "damaged" in message[0]
    assert sandbox.processes() == []


def test_doctor_finds_damage_that_nothing_else_met(sandbox: Sandbox) -> None:
    """A page that no ordinary command reads is found by the integrity check."""
    fill(sandbox)
    pages = sandbox.database.stat().st_size // PAGE
    overwrite(sandbox, pages // 2, 3)
    result = sandbox.run("doctor")
    assert result.returncode != 0
    assert "damaged" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_a_worker_stops_when_its_database_turns_out_to_be_damaged(sandbox: Sandbox) -> None:
    """It ends with status 5 and says why; its command is ended, not left behind."""
    fill(sandbox)
    job = sandbox.enqueue(BUSY, priority=9)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    assert job
    sandbox.close_queue()
    # Everything there is, also what was not moved into the file yet.
    for name in ("queuectl.db", "queuectl.db-wal"):
        path = sandbox.folder / name
        with path.open("r+b") as file:
            file.write(b"\xde\xad\xbe\xef" * (path.stat().st_size // 4))
    sandbox.touch("go")
    assert worker.wait() == 5, worker.said
    assert "damaged" in worker.said or "not a SQLite database" in worker.said
    assert "Traceback" not in worker.said
    assert sandbox.processes() == []


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_worker_stops_when_its_database_is_gone(sandbox: Sandbox, replaced: bool) -> None:
    """What it writes would be seen by nobody: it ends its command, says why, and ends with 5."""
    sandbox.enqueue(BUSY)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    sandbox.close_queue()
    for name in ("queuectl.db", "queuectl.db-wal", "queuectl.db-shm"):
        os.unlink(sandbox.folder / name)
    if replaced:
        assert sandbox.run("enqueue", "--command", "true").returncode == 0
    assert worker.wait() == 5, worker.said
    assert "was removed or replaced" in worker.said
    assert "Start the worker again" in worker.said
    assert sandbox.processes() == []


def test_an_idle_worker_notices_that_its_database_is_gone(sandbox: Sandbox) -> None:
    """Also one that has nothing to do does not wait for ever for jobs that cannot come."""
    worker = sandbox.start_worker()
    os.unlink(sandbox.database)
    assert worker.wait() == 5, worker.said
    assert "was removed or replaced" in worker.said


@pytest.mark.parametrize("removed", [["-wal", "-shm"], ["-shm"]], ids="".join)
def test_a_worker_stops_when_a_part_of_its_database_is_gone(
    sandbox: Sandbox, removed: list[str]
) -> None:
    """Without -wal or -shm nobody sees what it writes: it says so, ends with 5, and neither what it
    still had to write nor its end takes away what others have put in since.
    """
    sandbox.enqueue(BUSY)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    sandbox.close_queue()
    for ending in removed:
        os.unlink(f"{sandbox.database}{ending}")
    later = [sandbox.run("enqueue", "-q", "--command", "true") for _ in range(3)]
    assert [ran.returncode for ran in later] == [0, 0, 0]
    sandbox.touch("go")
    assert worker.wait() == 5, worker.said
    assert "removed or replaced" in worker.said
    assert "Start the worker again" in worker.said
    assert sandbox.processes() == []
    for ran in later:
        assert sandbox.state(ran.stdout.strip()) == "pending"
    sandbox.drain()
    for ran in later:
        assert sandbox.outcomes(ran.stdout.strip()) == ["succeeded"]


def test_an_emptied_database_is_not_begun_anew(sandbox: Sandbox) -> None:
    """A file of no length beside the logs of jobs held a queue: whatever would make a new one there
    says so and ends with 5, so that it is noticed that all jobs are gone.
    """
    job = sandbox.enqueue("true")
    sandbox.drain()
    assert sandbox.state(job) == "completed"
    sandbox.close_queue()
    os.truncate(sandbox.database, 0)
    for words in (["enqueue", "--command", "true"], ["init"], ["worker-start", "--drain"]):
        ran = sandbox.run(*words)
        assert ran.returncode == 5, ran.stderr
        assert "it was emptied" in ran.stderr
        assert f"&& cp BACKUP {sandbox.database}" in ran.stderr
        assert sandbox.database.stat().st_size == 0


def test_a_broken_header_is_damage(sandbox: Sandbox) -> None:
    """A file that looks used is not only said to be of another kind: doctor tells the way back."""
    fill(sandbox)
    with sandbox.database.open("r+b") as file:
        file.write(os.urandom(50))
    said = sandbox.run("list").stderr
    assert "is damaged, or is not a SQLite database" in said
    assert "queuectl doctor" in said
    said = sandbox.run("doctor").stdout
    assert "`.recover`" in said
    assert f"cp BACKUP {sandbox.database}" in said


def test_a_removed_folder_of_logs_is_made_again(sandbox: Sandbox) -> None:
    """Jobs that come after somebody removed job_logs run all the same, and have logs."""
    sandbox.start_worker()
    first = sandbox.enqueue("true")
    sandbox.wait_state(first, "completed")
    for path in (sandbox.folder / "job_logs").iterdir():
        path.unlink()
    (sandbox.folder / "job_logs").rmdir()
    second = sandbox.enqueue("echo back")
    sandbox.wait_state(second, "completed")
    assert sandbox.output(second) == b"back\n"
    assert sandbox.outcomes(second) == ["succeeded"]


def test_a_database_that_another_program_holds_delays_and_loses_nothing(sandbox: Sandbox) -> None:
    """While somebody keeps the write lock the worker waits; then it settles and goes on."""
    import apsw

    job = sandbox.enqueue(BUSY)
    after = sandbox.enqueue("true")
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    holder = apsw.Connection(str(sandbox.database))
    holder.set_busy_timeout(10_000)
    holder.execute("BEGIN IMMEDIATE")
    sandbox.touch("go")
    sandbox.wait_marks(2)
    wait_until(lambda: b" ended " in sandbox.log(job), "its log is closed")
    assert sandbox.state(job) == "processing"
    holder.execute("ROLLBACK")
    holder.close()
    sandbox.wait_state(after, "completed")
    assert sandbox.outcomes(job) == ["succeeded"]
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.said
