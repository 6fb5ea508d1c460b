from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from queuectl.engine import pidfile
from tests.support import Sandbox, wait_until


def start(sandbox: Sandbox, *options: str) -> int:
    """Starts a background worker, and returns the pid that was reported."""
    started = sandbox.run("worker-start", "--background", "--json", *options)
    assert started.returncode == 0, started.stderr
    return int(json.loads(started.stdout)["pid"])


def test_a_background_worker_is_registered_when_its_start_returns(sandbox: Sandbox) -> None:
    """By then it is listed, its pidfile names it, it has a session of its own, and it runs jobs."""
    pid = start(sandbox)
    (worker,) = sandbox.queue.workers()
    assert (worker.pid, worker.mode) == (pid, "background")
    assert (sandbox.folder / "queuectl.pid").read_text() == f"{pid}\n"
    assert os.getsid(pid) == pid
    job = sandbox.enqueue("true")
    sandbox.wait_state(job, "completed")
    assert "started:" in (sandbox.folder / "queuectl.log").read_text()


def test_worker_stop_ends_a_background_worker_and_its_pidfile(sandbox: Sandbox) -> None:
    """When it returns the process and the pidfile are gone, and another can be started."""
    for _ in range(2):
        pid = start(sandbox)
        stop = sandbox.run("worker-stop")
        assert stop.returncode == 0, stop.stderr
        assert "Stopped 1 worker" in stop.stdout
        assert pid not in sandbox.processes()
        assert not (sandbox.folder / "queuectl.pid").exists()


def test_a_second_background_worker_is_refused(sandbox: Sandbox) -> None:
    """The refusal names the pid of the one that runs, which goes on."""
    pid = start(sandbox)
    second = sandbox.run("worker-start", "--background")
    assert second.returncode == 4
    assert f"already runs in this folder (pid {pid})" in second.stderr
    sandbox.wait_state(sandbox.enqueue("true"), "completed")


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_of_starts_at_the_same_moment_exactly_one_succeeds(
    sandbox: Sandbox, processes: bool
) -> None:
    """However they interleave one worker is there afterwards, and the others were told of it."""
    sandbox.queue.counts()
    options = ["--use-processes"] if processes else []
    for _ in range(10):
        starts = [
            subprocess.Popen(
                sandbox.command_line("worker-start", "--background", *options),
                cwd=sandbox.folder,
                env=sandbox.environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for _ in range(2)
        ]
        errors = [process.communicate()[1] for process in starts]
        assert sorted(process.returncode for process in starts) == [0, 4], errors
        assert len(sandbox.queue.workers()) == 1
        assert sandbox.run("worker-stop").returncode == 0
        assert sandbox.processes() == []


@pytest.mark.parametrize("text", ["999999999\n", "{}\n", "", "not a number\n", "-1\n", "0\n"])
def test_a_stale_pidfile_is_no_obstacle(sandbox: Sandbox, text: str) -> None:
    """Whatever is left in it, even the pid of another living program, a worker can be started."""
    (sandbox.folder / "queuectl.pid").write_text(text.format(os.getpid()))
    pid = start(sandbox)
    assert (sandbox.folder / "queuectl.pid").read_text() == f"{pid}\n"


def test_a_killed_background_worker_does_not_block_the_next(sandbox: Sandbox) -> None:
    """After kill -9 its pidfile stays behind, and is taken over; its job is run again."""
    job = sandbox.enqueue("echo start >> marks; test $QUEUECTL_ATTEMPT = 2 || sleep 300")
    first = start(sandbox)
    sandbox.wait_marks(1)
    os.kill(first, signal.SIGKILL)
    second = start(sandbox)
    assert second != first
    sandbox.wait_state(job, "completed")
    assert sandbox.outcomes(job) == ["lost", "succeeded"]


def _break_configuration(sandbox: Sandbox) -> None:
    (sandbox.folder / "queuectl_config.json").write_text('{"max_retries": "many"}')


def _block_logs(sandbox: Sandbox) -> None:
    (sandbox.folder / "job_logs").write_text("a file in the folder's place")


def _block_worker_log(sandbox: Sandbox) -> None:
    (sandbox.folder / "queuectl.log").mkdir()


def _block_pidfile(sandbox: Sandbox) -> None:
    (sandbox.folder / "queuectl.pid").mkdir()


def _pipe_for_pidfile(sandbox: Sandbox) -> None:
    os.mkfifo(sandbox.folder / "queuectl.pid")


def _pipe_for_worker_log(sandbox: Sandbox) -> None:
    os.mkfifo(sandbox.folder / "queuectl.log")


def _break_database(sandbox: Sandbox) -> None:
    sandbox.database.write_bytes(b"this is no database" * 500)


FAULTS = {
    "configuration": (_break_configuration, 2, "max_retries"),
    "job logs": (_block_logs, 5, "job_logs"),
    "worker log": (_block_worker_log, 5, "queuectl.log"),
    "pidfile": (_block_pidfile, 5, "queuectl.pid"),
    "pipe for a pidfile": (_pipe_for_pidfile, 5, "queuectl.pid is not a file"),
    "pipe for a worker log": (_pipe_for_worker_log, 5, "queuectl.log is not a file"),
    "database": (_break_database, 5, "not a SQLite database"),
}


@pytest.mark.sqlite_only("one of the faults is a broken file")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_failed_start_is_reported_in_the_foreground(
    sandbox: Sandbox, fault: str, processes: bool
) -> None:
    """Its exit status and its words are those of the fault, and nothing is left running."""
    damage, status, words = FAULTS[fault]
    damage(sandbox)
    options = ["--use-processes"] if processes else []
    started = sandbox.run("worker-start", "--background", *options)
    assert started.returncode == status, started.stderr
    assert words in started.stderr
    assert "Traceback" not in started.stderr
    assert "unexpected" not in started.stderr
    assert sandbox.processes() == []


@pytest.mark.parametrize("name", ["queuectl.pid", "queuectl.log"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_in_the_way_can_be_moved_away(
    sandbox: Sandbox, name: str, make: Callable[[Path], None]
) -> None:
    """The refusal is two lines, which name it and the command that moves it; then a worker starts."""
    sandbox.queue.counts()
    make(sandbox.folder / name)
    refused = sandbox.run("worker-start", "--background")
    assert refused.returncode == 5
    what, hint = refused.stderr.splitlines()
    assert f"{name} is not a file" in what
    subprocess.run(["sh", "-c", hint.split(": ", 1)[1]], check=True)
    start(sandbox)


_BLOCKED = """
import sys, time
from queuectl.engine import background
from queuectl.workspace import Workspace

def work(say, on_ready):
    say("blocked")
    time.sleep(300)

background.start(Workspace(sys.argv[1]), work)
"""


def test_a_start_that_is_killed_leaves_nothing_behind(sandbox: Sandbox) -> None:
    """A worker that is not ready ends with who started it, and is in nobody's way."""
    program = [sys.executable, "-c", _BLOCKED, str(sandbox.database)]
    starting = sandbox.start_worker(program=program, ready=False)
    log = sandbox.folder / "queuectl.log"
    wait_until(lambda: log.exists() and "blocked" in log.read_text())
    assert len(sandbox.processes()) == 2
    starting.kill()
    wait_until(lambda: not sandbox.processes(), "the worker ends")
    start(sandbox)


def test_a_background_worker_outlives_its_terminal(sandbox: Sandbox) -> None:
    """Nothing of the shell it was started from is kept: not its terminal, not its output, not its
    session; so a pipe from it ends when the start does.
    """
    line = " ".join(sandbox.command_line("worker-start", "--background"))
    piped = subprocess.run(
        ["setsid", "sh", "-c", f"{line} 2>&1 | cat"],
        cwd=sandbox.folder,
        env=sandbox.environ,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert b"Started a worker in the background" in piped.stdout
    (worker,) = sandbox.queue.workers()
    fds = {os.readlink(f"/proc/{worker.pid}/fd/{n}") for n in range(3)}
    assert fds == {"/dev/null", str(sandbox.folder / "queuectl.log")}
    os.killpg(os.getpgid(worker.pid), signal.SIGHUP)
    log = sandbox.folder / "queuectl.log"
    wait_until(lambda: "read the configuration again" in log.read_text())


def test_a_background_drain_ends_by_itself(sandbox: Sandbox) -> None:
    """It says in its log what it did, and takes its pidfile along."""
    job = sandbox.enqueue("true")
    start(sandbox, "--drain")
    wait_until(lambda: not sandbox.processes(), "the worker ends")
    assert sandbox.state(job) == "completed"
    assert "worker stopped: 1 run succeeded" in (sandbox.folder / "queuectl.log").read_text()
    assert not (sandbox.folder / "queuectl.pid").exists()


def test_worker_stop_signals_no_process_that_is_not_its_own(sandbox: Sandbox) -> None:
    """When the parent of the processes is gone and its number belongs to another program, they are
    stopped, and that program is left alone.
    """
    parent = start(sandbox, "--use-processes", "--count", "2")
    os.kill(parent, signal.SIGKILL)
    bystander = sandbox.start_worker(program=["sleep", "300"], ready=False)
    (sandbox.folder / "queuectl.pid").write_text(f"{bystander.pid}\n")
    stop = sandbox.run("worker-stop")
    assert stop.returncode == 0, stop.stderr
    assert not bystander.has_ended
    assert sandbox.processes() == [bystander.pid]


def test_looking_at_the_pidfile_keeps_nobody_from_starting(sandbox: Sandbox) -> None:
    """While others ask who holds it, whoever wants to hold it and may is not refused."""
    path = str(sandbox.folder / "queuectl.pid")
    enough = threading.Event()

    def look() -> None:
        while not enough.is_set():
            pidfile.holder(path)

    onlookers = [threading.Thread(target=look) for _ in range(2)]
    for onlooker in onlookers:
        onlooker.start()
    try:
        for _ in range(200):
            pidfile.hold(path).release()
    finally:
        enough.set()
        for onlooker in onlookers:
            onlooker.join()
