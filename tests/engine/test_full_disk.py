from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Sandbox, new_sandbox, wait_until

pytestmark = pytest.mark.sqlite_only(
    "it is the queue's disk that is full; a server has another one"
)

BUSY = (
    "echo start $QUEUECTL_JOB_ID >> marks; while [ ! -e go ]; do sleep 0.05; done;"
    " echo end $QUEUECTL_JOB_ID >> marks"
)


class Disk:
    """A small file system that can be filled to its last byte."""

    def __init__(self, mount: Path) -> None:
        self._filler = mount / "filler"

    def fill(self) -> None:
        """Leaves no room at all."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1_048_576, 4096, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def make_room(self) -> None:
        """As before it was filled."""
        self._filler.unlink()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Sandbox, Disk]]:
    """A queue on a file system of 32 MiB; scripts and marks are elsewhere."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mount, files = tmp_path / "small", tmp_path / "files"
    mount.mkdir()
    files.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(mount)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        with new_sandbox(mount, files=files) as sandbox:
            yield sandbox, Disk(mount)
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_enqueue_on_a_full_disk_says_so_and_changes_nothing(small: tuple[Sandbox, Disk]) -> None:
    """One line, a hint and status 5, for one job as for many; afterwards it works again."""
    sandbox, disk = small
    sandbox.queue.enqueue_many([{"command": "true", "cwd": "/"}] * 50)
    sandbox.close_queue()
    disk.fill()
    one = sandbox.run("enqueue", "--command", "x" * 8000)
    (sandbox.files / "jobs").write_text('{"command": "true"}\n' * 20_000)
    many = sandbox.run("enqueue", "--jobs-file", str(sandbox.files / "jobs"))
    for result in (one, many):
        assert (result.returncode, result.stdout) == (5, "")
        first, hint = result.stderr.splitlines()
        assert "the disk is full; nothing was changed" in first
        assert "Make room" in hint
    disk.make_room()
    assert sandbox.count("pending") == 50
    assert sandbox.run("enqueue", "--command", "true").returncode == 0
    assert sandbox.count("pending") == 51
    assert sandbox.queue.check() == []


def test_a_new_queue_on_a_full_disk_is_refused(small: tuple[Sandbox, Disk]) -> None:
    """`init` and a first `enqueue` say that there is no room, and leave nothing that is in the way."""
    sandbox, disk = small
    disk.fill()
    for words in (["init"], ["enqueue", "--command", "true"], ["worker-start", "--drain"]):
        result = sandbox.run(*words)
        assert result.returncode == 5, result.stderr
        assert "no room" in result.stderr or "No space" in result.stderr
        assert "Traceback" not in result.stderr
    disk.make_room()
    assert sandbox.run("init").returncode == 0
    assert sandbox.run("enqueue", "--command", "true").returncode == 0


def test_a_worker_sits_out_a_full_disk(small: tuple[Sandbox, Disk]) -> None:
    """It keeps what runs, starts nothing, says why, writes the outcomes when there is room, and
    goes on: nothing is lost and nothing runs twice.
    """
    sandbox, disk = small
    running = [sandbox.enqueue(BUSY) for _ in range(2)]
    waiting = [sandbox.enqueue("echo only $QUEUECTL_JOB_ID >> marks") for _ in range(200)]
    worker = sandbox.start_worker("--count", "2")
    sandbox.wait_marks(2)
    disk.fill()
    sandbox.touch("go")
    worker.wait_for("the disk is full; nothing was changed; going on as soon as it can be written")
    sandbox.wait_marks(4)
    assert '"processing": 2,' in sandbox.run("status", "--json").stdout
    assert not worker.has_ended
    disk.make_room()
    for job in waiting:
        sandbox.wait_state(job, "completed", seconds=60)
    assert worker.stop() == 0
    assert "the database can be written again" in worker.said
    assert sorted(sandbox.marks()) == sorted(
        [f"{word} {job}" for job in running for word in ("start", "end")]
        + [f"only {job}" for job in waiting]
    )
    assert all(sandbox.outcomes(job) == ["succeeded"] for job in running + waiting)


def test_a_worker_outlasts_its_lease_on_a_full_disk(small: tuple[Sandbox, Disk]) -> None:
    """A full disk keeps every worker from writing, for longer than a lease: nobody is given up for
    lost for that, on any side, and no job runs twice.
    """
    sandbox, disk = small
    sandbox.configure(lease_seconds=2)
    jobs = [sandbox.enqueue(BUSY) for _ in range(2)]
    workers = [sandbox.start_worker(), sandbox.start_worker()]
    sandbox.wait_marks(2)
    disk.fill()
    for worker in workers:
        worker.wait_for("the disk is full")
    wait_until(
        lambda: all(w.lease_left_seconds < -1 for w in sandbox.queue.workers()), "leases run out"
    )
    disk.make_room()
    sandbox.touch("go")
    for job in jobs:
        sandbox.wait_state(job, "completed")
    assert [worker.stop() for worker in workers] == [0, 0]
    assert len(sandbox.marks()) == 4
    assert all(sandbox.outcomes(job) == ["succeeded"] for job in jobs)


def test_a_full_disk_for_logs_alone_costs_no_attempt(small: tuple[Sandbox, Disk]) -> None:
    """Commands whose log cannot be begun are not started; they run when there is room."""
    sandbox, disk = small
    (sandbox.folder / "job_logs").mkdir()
    sandbox.close_queue()
    with new_sandbox(sandbox.files) as elsewhere:
        (elsewhere.folder / "job_logs").symlink_to(sandbox.folder / "job_logs")
        jobs = [elsewhere.enqueue("echo $QUEUECTL_JOB_ID >> marks") for _ in range(5)]
        disk.fill()
        elsewhere.configure(lease_seconds=2)
        worker = elsewhere.start_worker("--count", "2")
        worker.wait_for("cannot write the log")
        (record,) = elsewhere.queue.workers()
        wait_until(
            lambda: elsewhere.queue.workers()[0].heartbeat_at > record.heartbeat_at + 3_000_000,
            "it has tried again for some seconds",
        )
        assert worker.said.count("cannot write the log") == 1, "it repeats itself"
        disk.make_room()
        for job in jobs:
            elsewhere.wait_state(job, "completed")
            assert elsewhere.outcomes(job) == ["succeeded"]
            assert elsewhere.job(job).attempts == 1
        assert sorted(elsewhere.marks()) == sorted(jobs)
        assert worker.stop() == 0


def test_a_stop_waits_for_room(small: tuple[Sandbox, Disk]) -> None:
    """A worker that is told to stop while it cannot write an outcome ends when it has written it."""
    sandbox, disk = small
    sandbox.configure(lease_seconds=2, stop_timeout_seconds=0, kill_grace_seconds=0.1)
    job = sandbox.enqueue(BUSY)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    disk.fill()
    sandbox.touch("go")
    worker.wait_for("the disk is full")
    worker.send(signal.SIGTERM)
    worker.wait_for("stopping")
    (record,) = sandbox.queue.workers()
    wait_until(
        lambda: sandbox.queue.workers()[0].lease_left_seconds < record.lease_left_seconds - 4,
        "it has waited for longer than for anything else",
    )
    disk.make_room()
    assert worker.wait() == 0
    assert sandbox.outcomes(job) == ["succeeded"]
    assert len(sandbox.marks()) == 2


def test_a_second_interrupt_ends_a_worker_on_a_full_disk(small: tuple[Sandbox, Disk]) -> None:
    """One that cannot write its outcomes can still be ended by hand; the job is made up for."""
    sandbox, disk = small
    job = sandbox.enqueue(BUSY)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    disk.fill()
    sandbox.touch("go")
    worker.wait_for("the disk is full")
    worker.send(signal.SIGINT)
    worker.wait_for("stopping")
    worker.send(signal.SIGINT)
    worker.wait()
    assert sandbox.commands() == []
    disk.make_room()
    sandbox.drain()
    assert sandbox.state(job) == "completed"


def test_a_limit_on_file_sizes_is_like_a_full_disk(sandbox: Sandbox) -> None:
    """A worker whose files may not grow any more says that there is no room, and loses nothing."""
    command = {"command": "echo $QUEUECTL_JOB_ID >> marks", "cwd": str(sandbox.folder)}
    jobs = sandbox.queue.enqueue_many([command] * 300)
    sandbox.close_queue()
    size = sandbox.database.stat().st_size + 150_000

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    worker = sandbox.start_worker(limit=limit, ready=False)
    wait_until(lambda: "full" in worker.said or worker.has_ended, "it says that there is no room")
    assert not worker.has_ended, worker.said
    worker.kill()
    sandbox.drain("--count", "2")
    assert all(sandbox.state(job) == "completed" for job in jobs)
    assert set(sandbox.marks()) == set(jobs)
    for job in jobs:
        assert sandbox.outcomes(job)[-1] == "succeeded"
        assert set(sandbox.outcomes(job)[:-1]) <= {"lost"}


def test_enqueue_under_a_limit_on_file_sizes_changes_nothing(sandbox: Sandbox) -> None:
    """`ulimit -f` stops an enqueue with status 5 and one line, not with a signal."""
    sandbox.enqueue("true")
    before = sandbox.count("pending")
    line = " ".join(sandbox.command_line("enqueue", "--command", "x" * 3000))
    result = subprocess.run(
        ["sh", "-c", f"ulimit -f 8; exec {line}"],
        cwd=sandbox.folder,
        env={**sandbox.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 5, result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert "full" in result.stderr
    assert sandbox.count("pending") == before
    assert sandbox.queue.check() == []
