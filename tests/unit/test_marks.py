from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from queuectl import marks
from queuectl.marks import Census, Member, carriers, claim_mark, members, of_runs
from tests.support import wait_until

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that wait until they are ended, at the latest with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(
        output: int | None = None, words: tuple[str, ...] = ("sleep", "60"), **environ: str
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            words,
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


@pytest.fixture
def queue(tmp_path: Path) -> str:
    """The name of a queue that no other test has: all processes of the machine are looked at."""
    return str(tmp_path / "queuectl.db")


def mark(number: int) -> str:
    """The mark of a run; no other process that runs tests has it."""
    return claim_mark(os.getpid() * 100 + number, 5)


def open_log(folder: Path) -> BinaryIO:
    """The log of job-1, for a command to write into."""
    (folder / "job_logs").mkdir()
    return open(folder / "job_logs" / "job-1.log", "wb")


def marked(
    start: Start, queue: str, job_id: str = "job-1", attempt: str = "1", token: int = 1
) -> int:
    """A process of a job, as the worker would start it."""
    process = start(
        QUEUECTL_DB_PATH=queue,
        QUEUECTL_JOB_ID=job_id,
        QUEUECTL_ATTEMPT=attempt,
        QUEUECTL_CLAIM=mark(token),
        OTHER="x=y",
    )
    return process.pid


def pids(queue: str) -> set[int]:
    """The processes of a queue's jobs."""
    return {member.pid for member in members(queue)}


def test_the_members_of_a_queue_are_found(start: Start, queue: str) -> None:
    """Every marked process of the queue is there with its job, attempt and run, and no other."""
    expected = {
        Member(marked(start, queue, f"job-{n}", str(n), n), f"job-{n}", str(n), mark(n))
        for n in range(3)
    }
    marked(start, queue + "-other")
    start()
    wait_until(lambda: set(members(queue)) == expected)


def test_a_run_is_found_by_its_claim(start: Start, queue: str) -> None:
    """Another run of the same job, with the same number, is not it; nor is another queue's."""
    first, second = marked(start, queue, token=1), marked(start, queue, token=2)
    other = marked(start, queue + "-other", token=3)
    wait_until(lambda: {first, second, other} <= {member.pid for member in carriers(queue)})
    assert of_runs(carriers(queue), {mark(1): "job-1"}) == {first}
    assert of_runs(carriers(queue), {mark(2): "job-1"}) == {second}
    assert of_runs(carriers(queue), {mark(4): "job-1"}) == set()


@pytest.mark.parametrize("told", [None, "/another/queuectl.db"])
def test_a_process_that_was_told_of_another_queue_is_still_of_its_run(
    start: Start, queue: str, told: str | None
) -> None:
    """A command may work on another queue, or on none: the mark of its run decides by itself. That
    it is of a job of this queue cannot be told by anything else.
    """
    environ = {"QUEUECTL_JOB_ID": "job-1", "QUEUECTL_CLAIM": mark(8)}
    pid = start(**environ, **({} if told is None else {"QUEUECTL_DB_PATH": told})).pid
    wait_until(lambda: of_runs(carriers(queue), {mark(8): "job-1"}) == {pid})
    assert pid not in pids(queue)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("", "")),
        ({"QUEUECTL_JOB_ID": "job-1", "QUEUECTL_ATTEMPT": "2"}, ("", "")),
        ({"QUEUECTL_JOB_ID": "job-2", "QUEUECTL_ATTEMPT": "2"}, ("", "")),
        (
            {"QUEUECTL_JOB_ID": "job-1", "QUEUECTL_ATTEMPT": "2", "QUEUECTL_CLAIM": "c-1"},
            ("2", "c-1"),
        ),
        ({"QUEUECTL_CLAIM": "c-1"}, ("", "c-1")),
    ],
    ids=["no marks", "no claim", "of another job", "all marks", "claim alone"],
)
def test_a_process_that_was_told_of_another_queue_is_found_by_its_log(
    start: Start, queue: str, tmp_path: Path, environ: dict[str, str], expected: tuple[str, str]
) -> None:
    """What writes into a job's log is of the job whatever queue its marks name, and of its run when
    it carries the mark of one.
    """
    with open_log(tmp_path) as log:
        pid = start(log.fileno(), QUEUECTL_DB_PATH="/another/queuectl.db", **environ).pid
    wait_until(lambda: members(queue) == [Member(pid, "job-1", *expected)])
    assert (pid in of_runs(carriers(queue), {mark(7): "job-1"})) == (expected[1] == "")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_a_run_of_another_queue_that_writes_into_a_log_is_not_of_its_job(
    start: Start, queue: str, tmp_path: Path
) -> None:
    """It has a run of its own, and is ended with that: not with the job whose log it was given."""
    with open_log(tmp_path) as log:
        pid = start(
            log.fileno(),
            QUEUECTL_DB_PATH="/another/queuectl.db",
            QUEUECTL_JOB_ID="job-2",
            QUEUECTL_ATTEMPT="1",
            QUEUECTL_CLAIM=mark(9),
        ).pid
    wait_until(lambda: pid in {member.pid for member in carriers(queue)})
    assert members(queue) == []
    assert of_runs(carriers(queue), {mark(7): "job-1"}) == set()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_what_is_known_by_its_log_alone_may_be_a_later_runs(
    start: Start, queue: str, tmp_path: Path
) -> None:
    """A worker that is not sure to have its jobs any more leaves it out of its look, and keeps what
    carries a mark; once it is sure again, it is there.
    """
    sure = True
    census = Census(queue, lambda: sure)
    with open_log(tmp_path) as log:
        bare = start(log.fileno()).pid
    carrier = marked(start, queue)
    since = 0.0

    def found() -> set[int]:
        nonlocal since
        since = time.monotonic()
        return {member.pid for member in census.members(since)} & {bare, carrier}

    wait_until(lambda: found() == {bare, carrier})
    sure = False
    assert found() == {carrier}
    sure = True
    assert found() == {bare, carrier}


# Its first thread ends, the other one goes on.
OUTLIVED = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and threads that end alone")
@pytest.mark.parametrize("is_marked", [True, False])
def test_a_process_whose_first_thread_has_ended_is_found(
    start: Start, queue: str, tmp_path: Path, is_marked: bool
) -> None:
    """It looks like a zombie, which has neither marks nor output; its other threads show both."""
    marks = {
        "QUEUECTL_DB_PATH": queue,
        "QUEUECTL_JOB_ID": "job-1",
        "QUEUECTL_ATTEMPT": "1",
        "QUEUECTL_CLAIM": mark(7),
    }
    with open_log(tmp_path) as log:
        words = (sys.executable, "-c", OUTLIVED)
        pid = start(log.fileno(), words=words, **(marks if is_marked else {})).pid
    stat = Path(f"/proc/{pid}/stat")
    wait_until(lambda: b") Z " in stat.read_bytes())
    expected = ("1", mark(7)) if is_marked else ("", "")
    assert members(queue) == [Member(pid, "job-1", *expected)]


@pytest.mark.parametrize("id", ["a=b", "it's", "ünï", "spaced out", "x" * 200, "%s"])
def test_a_job_with_an_odd_id_is_found(start: Start, queue: str, id: str) -> None:
    """Any id that a job may have is found again in the environment."""
    pid = marked(start, queue, id)
    wait_until(lambda: members(queue) == [Member(pid, id, "1", mark(1))])


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_a_process_that_lost_its_marks_is_found_by_its_log(
    start: Start, queue: str, tmp_path: Path
) -> None:
    """What writes into a job's log belongs to the job, also after `env -i`; other files tell nothing."""
    with open_log(tmp_path) as log, open(tmp_path / "other.log", "wb") as other:
        bare = start(log.fileno()).pid
        start(other.fileno())
    assert members(queue) == [Member(bare, "job-1", "", "")]
    run = {mark(7): "job-1"}
    assert of_runs(members(queue), run) == {bare}
    assert of_runs(members(queue), run, without_marks=False) == set()
    assert of_runs(members(queue), {mark(7): "job-2"}) == set()


def test_this_process_is_never_its_own_orphan(queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs inside a job is not ended as a part of it by itself."""
    environment = f"QUEUECTL_DB_PATH={queue}\0QUEUECTL_JOB_ID=a\0QUEUECTL_ATTEMPT=1".encode()
    monkeypatch.setattr(
        marks,
        "_environments",
        lambda: [(os.getpid(), "/proc/self", environment), (1, "/proc/1", environment)],
    )
    assert pids(queue) == {1}


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
    monkeypatch.setattr(
        marks, "_environments", lambda: [(1, "/proc/1", spoilt), (2, "/proc/2", sound)]
    )
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
