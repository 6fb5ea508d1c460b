"""Stopping workers that do not answer, and a pidfile that somebody has tampered with."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from queuectl.engine import pidfile, stopping
from queuectl.errors import CouldNotDo
from tests.support import Sandbox, WorkerProcess, suspend, wait_until


def start(sandbox: Sandbox, *options: str) -> int:
    """Starts a background worker, and returns the pid in its pidfile."""
    started = sandbox.run("worker-start", "--background", *options)
    assert started.returncode == 0, started.stderr
    return int(_pidfile(sandbox).read_text())


def _pidfile(sandbox: Sandbox) -> Path:
    return sandbox.folder / "queuectl.pid"


def _begin(sandbox: Sandbox, *words: str) -> WorkerProcess:
    """Runs a command line of queuectl beside the test."""
    return sandbox.start_worker(program=sandbox.command_line(*words), ready=False)


def _fall_silent(sandbox: Sandbox, pid: int) -> None:
    """Suspends the worker for longer than its lease."""
    suspend(pid, sandbox)
    wait_until(lambda: all(w.lease_left_seconds < 0 for w in sandbox.queue.workers()))


# ---- a pidfile that was removed


@pytest.mark.parametrize("options", [(), ("--use-processes",)], ids=["threads", "processes"])
def test_without_its_pidfile_a_worker_still_keeps_others_from_starting(
    sandbox: Sandbox, options: tuple[str, ...]
) -> None:
    """The refusal names the worker that is registered, leaves no pidfile behind, and it can be
    stopped; then another can start.
    """
    start(sandbox, *options)
    (worker,) = sandbox.queue.workers()
    _pidfile(sandbox).unlink()
    second = sandbox.run("worker-start", "--background", *options)
    assert second.returncode == 4
    assert f"already runs in this folder (pid {worker.pid})" in second.stderr
    assert len(sandbox.queue.workers()) == 1
    assert not _pidfile(sandbox).exists()
    assert sandbox.run("worker-stop").returncode == 0
    wait_until(lambda: not sandbox.processes())
    start(sandbox, *options)


def test_a_worker_in_a_terminal_keeps_none_from_the_background(sandbox: Sandbox) -> None:
    """Only one in the background is in the way of another one there."""
    sandbox.start_worker()
    start(sandbox)
    assert len(sandbox.queue.workers()) == 2


# ---- a pidfile that lies


@pytest.mark.parametrize("options", [(), ("--use-processes",)], ids=["threads", "processes"])
def test_a_number_that_was_written_into_a_held_pidfile_is_not_believed(
    sandbox: Sandbox, options: tuple[str, ...]
) -> None:
    """A program that only has the file open is neither named, nor signalled, nor waited for."""
    start(sandbox, *options)
    bystander = sandbox.start_worker(
        program=["sh", "-c", "exec 9< queuectl.pid; touch open; exec sleep 300"], ready=False
    )
    wait_until((sandbox.folder / "open").exists)
    _pidfile(sandbox).write_text(f"{bystander.pid}\n")
    second = sandbox.run("worker-start", "--background", *options)
    assert second.returncode == 4
    assert "its pidfile does not name it" in second.stderr
    stop = sandbox.run("worker-stop")
    assert stop.returncode == 0, stop.stderr
    assert not bystander.has_ended
    assert sandbox.processes() == [bystander.pid]


def test_the_parent_of_processes_is_known_by_its_lock(sandbox: Sandbox) -> None:
    """It is told to start no more and is waited for, whatever number is in the file."""
    parent = start(sandbox, "--use-processes", "--count", "2")
    workers = sandbox.queue.workers()
    for number in (parent, 1, workers[0].pid):
        _pidfile(sandbox).write_text(f"{number}\n")
        assert stopping._parent_of(sandbox.queue, workers) == parent


# ---- workers that do not answer


def test_a_stop_asks_a_worker_whose_lease_has_run_out(sandbox: Sandbox) -> None:
    """One that is suspended is asked and waited for, and stops once it goes on."""
    sandbox.configure(lease_seconds=2)
    pid = start(sandbox)
    _fall_silent(sandbox, pid)
    stop = _begin(sandbox, "worker-stop")
    wait_until(lambda: sandbox.queue.workers()[0].stop_requested_at, "it is asked")
    stop.wait_for(f"It is suspended; to let it go on: kill -CONT {pid}")
    os.kill(pid, signal.SIGCONT)
    assert stop.wait() == 0, stop.said
    assert sandbox.processes() == []


def test_a_stop_says_that_a_suspended_worker_did_not_go(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the process, and how to let it go on, before it says how to end it and what that
    costs.
    """
    sandbox.configure(lease_seconds=2, stop_timeout_seconds=0, kill_grace_seconds=0)
    monkeypatch.setattr(stopping, "_MARGIN_SECONDS", 0)
    pid = start(sandbox)
    _fall_silent(sandbox, pid)
    workers = stopping.still_there(sandbox.queue.workers())
    assert [worker.pid for worker in workers] == [pid]
    with pytest.raises(CouldNotDo, match=f"still running after 0 s: pid {pid}") as failed:
        stopping.stop(sandbox.queue, workers, timeout=None, wait=True, say=lambda line: None)
    assert f"Let it go on, and it stops: kill -CONT {pid}. Or: kill -9 {pid}." in failed.value.hint
    assert "has not written yet run again" in failed.value.hint


def test_a_worker_in_the_background_that_is_in_no_list_is_not_passed_over(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suspended, given up for lost and struck off, it holds its pidfile still: a stop does not say
    that there is none, but names it; and stops it once it goes on.
    """
    sandbox.configure(lease_seconds=2)
    pid = start(sandbox)
    suspend(pid, sandbox)
    other = sandbox.start_worker()
    other.wait_for("was lost; took back 0 jobs")
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "_MARGIN_SECONDS", 0)
        with pytest.raises(CouldNotDo, match=f"^pid {pid} runs in the background") as failed:
            stopping.wait_for_unregistered(sandbox.queue)
        assert f"kill -CONT {pid}" in failed.value.hint
    stop = _begin(sandbox, "worker-stop")
    os.kill(pid, signal.SIGCONT)
    assert stop.wait() == 0, stop.said
    wait_until(lambda: sandbox.processes() == [other.pid])


def test_a_stop_on_a_full_disk_says_what_an_end_by_force_costs(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint names the full disk, and that outcomes which are not written yet would be lost."""
    worker = sandbox.start_worker()
    full = shutil.disk_usage(sandbox.folder)._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    hint = stopping._what_to_do(sandbox.queue, [worker.pid])
    assert f"The disk of {sandbox.folder} is full. Make room" in hint
    assert f"kill -9 {worker.pid}" in hint
    assert "has not written yet run again" in hint


def test_a_broken_configuration_is_found_before_a_worker_is_asked(sandbox: Sandbox) -> None:
    """Without a timeout, which it would have to tell, nothing is done; with one all are stopped."""
    start(sandbox)
    (sandbox.folder / "queuectl_config.json").write_text("{")
    refused = sandbox.run("worker-stop")
    assert refused.returncode == 2
    assert "queuectl_config.json" in refused.stderr
    assert "--timeout" in refused.stderr
    (worker,) = sandbox.queue.workers()
    assert worker.stop_requested_at is None
    stop = sandbox.run("worker-stop", "--timeout", "5")
    assert stop.returncode == 0, stop.stderr
    assert "Stopping the workers all the same" in stop.stderr
    assert sandbox.processes() == []


# ---- starts that fail


def test_no_room_for_the_pidfile_is_said_in_one_line(sandbox: Sandbox) -> None:
    """Status 5 and a hint, and no pidfile is left in the way."""
    sandbox.queue.counts()
    result = subprocess.run(
        sandbox.command_line("worker-start", "--background"),
        cwd=sandbox.folder,
        env={**sandbox.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert result.returncode == 5, result.stderr
    what, hint = result.stderr.splitlines()
    assert "no room to write" in what
    assert "queuectl.pid: the disk is full" in what
    assert "Make room" in hint
    assert not _pidfile(sandbox).exists()


def test_a_parent_that_is_killed_while_it_starts_processes_is_reported(sandbox: Sandbox) -> None:
    """Whoever waits for the start hears of it at once, and the processes that had started end."""
    sandbox.queue.counts()
    starting = _begin(sandbox, "worker-start", "--background", "--use-processes", "--count", "30")
    wait_until(lambda: len(sandbox.queue.workers()) > 1)
    os.kill(int(_pidfile(sandbox).read_text()), signal.SIGKILL)
    assert starting.wait() == 1
    assert "the new process ended before it was ready" in starting.said
    wait_until(lambda: not sandbox.processes(), "the processes end")
    assert sandbox.run("worker-stop").returncode == 0


def test_processes_whose_parent_is_killed_stop_when_their_jobs_have_ended(sandbox: Sandbox) -> None:
    """Nobody would start them again or pass on a signal: they stop as if asked to, and no run is
    lost by it.
    """
    job = sandbox.enqueue("echo start >> marks; while [ ! -e go ]; do sleep 0.02; done")
    parent = sandbox.start_worker("--use-processes", "--count", "2", ready=False)
    sandbox.wait_marks(1)
    parent.kill()
    wait_until(lambda: "stopping" in parent.said)
    sandbox.touch("go")
    wait_until(lambda: not sandbox.processes(), "the processes end")
    assert sandbox.outcomes(job) == ["succeeded"]
    assert sandbox.queue.workers() == []


# ---- the pidfile by itself


def test_a_pidfile_that_is_another_ones_by_now_is_not_removed(tmp_path: Path) -> None:
    """Its holder takes along only the file that it made."""
    path = tmp_path / "queuectl.pid"
    first = pidfile.hold(str(path))
    path.unlink()
    second = pidfile.hold(str(path))
    first.release()
    assert pidfile.holder(str(path)) == os.getpid()
    second.release()
    assert not path.exists()
