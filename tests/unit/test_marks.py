from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuectl import marks
from queuectl.marks import Member, claim_mark, members, of_runs
from tests.support import wait_until

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that wait until they are ended, at the latest with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(output: int | None = None, **environ: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ("sleep", "60"),
            env={"PATH": os.environ["PATH"], **environ},
            stdout=output,
            process_group=0,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def marked(
    start: Start,
    job_id: str = "job-1",
    attempt: str = "1",
    token: int = 1,
    database: str = "/q/a.db",
) -> int:
    """A process of a job, as the worker would start it."""
    process = start(
        QUEUECTL_DB_PATH=database,
        QUEUECTL_JOB_ID=job_id,
        QUEUECTL_ATTEMPT=attempt,
        QUEUECTL_CLAIM=claim_mark(token, 5),
        OTHER="x=y",
    )
    return process.pid


def pids(database: str = "/q/a.db") -> set[int]:
    """The processes of a queue's jobs."""
    return {member.pid for member in members(database)}


def test_the_members_of_a_queue_are_found(start: Start) -> None:
    """Every marked process of the queue is there with its job, attempt and run, and no other."""
    expected = {
        Member(marked(start, f"job-{n}", str(n), n), f"job-{n}", str(n), claim_mark(n, 5))
        for n in range(3)
    }
    marked(start, database="/q/b.db")
    start()
    wait_until(lambda: set(members("/q/a.db")) == expected)


def test_a_run_is_found_by_its_claim(start: Start) -> None:
    """Another run of the same job, with the same number, is not it; nor is another queue's."""
    first, second = marked(start, token=1), marked(start, token=2)
    marked(start, token=1, database="/q/b.db")
    wait_until(lambda: pids() == {first, second})
    assert of_runs(members("/q/a.db"), {claim_mark(1, 5): "job-1"}) == {first}
    assert of_runs(members("/q/a.db"), {claim_mark(2, 5): "job-1"}) == {second}
    assert of_runs(members("/q/a.db"), {claim_mark(3, 5): "job-1"}) == set()


@pytest.mark.parametrize("id", ["a=b", "it's", "ünï", "spaced out", "x" * 200, "%s"])
def test_a_job_with_an_odd_id_is_found(start: Start, id: str) -> None:
    """Any id that a job may have is found again in the environment."""
    pid = marked(start, id)
    wait_until(lambda: members("/q/a.db") == [Member(pid, id, "1", claim_mark(1, 5))])


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_a_process_that_lost_its_marks_is_found_by_its_log(start: Start, tmp_path: Path) -> None:
    """What writes into a job's log belongs to the job, also after `env -i`; other files tell nothing."""
    database = str(tmp_path / "queuectl.db")
    (tmp_path / "job_logs").mkdir()
    with (
        open(tmp_path / "job_logs" / "job-1.log", "wb") as log,
        open(tmp_path / "other.log", "wb") as other,
    ):
        bare = start(log.fileno()).pid
        start(other.fileno())
    assert members(database) == [Member(bare, "job-1", "", "")]
    run = {claim_mark(7, 5): "job-1"}
    assert of_runs(members(database), run) == {bare}
    assert of_runs(members(database), run, without_marks=False) == set()
    assert of_runs(members(database), {claim_mark(7, 5): "job-2"}) == set()


def test_this_process_is_never_its_own_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs inside a job is not ended as a part of it by itself."""
    environment = b"QUEUECTL_DB_PATH=/q/a.db\0QUEUECTL_JOB_ID=a\0QUEUECTL_ATTEMPT=1"
    monkeypatch.setattr(
        marks, "_environments", lambda: [(os.getpid(), environment), (1, environment)]
    )
    assert pids() == {1}


@pytest.mark.parametrize(
    "spoilt",
    [
        b"QUEUECTL_JOB_ID=",
        b"QUEUECTL_\0QUEUECTL_JOB_ID=b\0QUEUECTL_DB_PATH=/q/a.db",
        b"\xff\xfe\0QUEUECTL_JOB_ID=\xff\0QUEUECTL_DB_PATH=/q/a.db\0QUEUECTL_ATTEMPT",
        b"QUEUECTL_DB_PATH=/q/a.db\0QUEUECTL_ATTEMPT=1",
        b"",
    ],
    ids=["no value", "no sign", "no text", "no job", "nothing"],
)
def test_an_environment_that_was_written_over(
    monkeypatch: pytest.MonkeyPatch, spoilt: bytes
) -> None:
    """A program may write anything where its variables were: others are found all the same."""
    sound = b"QUEUECTL_JOB_ID=a\0QUEUECTL_DB_PATH=/q/a.db\0QUEUECTL_ATTEMPT=7\0QUEUECTL_CLAIM=c"
    monkeypatch.setattr(marks, "_environments", lambda: [(1, spoilt), (2, sound)])
    assert Member(2, "a", "7", "c") in members("/q/a.db")
    assert of_runs(members("/q/a.db"), {"c": "a"}) == {2}


def test_a_machine_that_does_not_let_us_look_is_no_empty_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a free descriptor the search fails; it does not say that there is nothing."""
    monkeypatch.setattr(marks, "process_ids", lambda: [os.getppid()])

    def open_nothing(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("builtins.open", open_nothing)
    with pytest.raises(OSError, match="Too many"):
        members("/q/a.db")
