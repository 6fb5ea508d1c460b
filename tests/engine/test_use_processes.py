from __future__ import annotations

import os
import signal

import pytest

from tests.support import Sandbox, WorkerProcess, wait_until

BUSY = "echo start >> marks; while [ ! -e go ]; do sleep 0.02; done; echo end >> marks"


def start(sandbox: Sandbox, count: int, *options: str) -> WorkerProcess:
    """Starts that many worker processes, and waits until each says that it works."""
    worker = sandbox.start_worker("--use-processes", "--count", str(count), *options, ready=False)
    worker.wait_for(" started: ", times=count)
    return worker


def pids(sandbox: Sandbox) -> set[int]:
    """The processes that are registered as workers."""
    return {worker.pid for worker in sandbox.queue.workers()}


def test_each_process_is_a_worker_with_one_slot(sandbox: Sandbox) -> None:
    """As many jobs run at the same time as there are processes, each in another one."""
    start(sandbox, 3)
    for _ in range(4):
        sandbox.enqueue(BUSY)
    sandbox.wait_marks(3)
    assert [worker.slots for worker in sandbox.queue.workers()] == [1, 1, 1]
    held = [job.worker for job in sandbox.queue.list(["processing"])]
    assert len(set(held)) == 3
    sandbox.touch("go")
    wait_until(lambda: sandbox.count("completed") == 4)


def test_a_killed_process_is_replaced(sandbox: Sandbox) -> None:
    """Its job is taken back and run again, and there are as many workers as before."""
    job = sandbox.enqueue(
        "echo start >> marks; test $QUEUECTL_ATTEMPT = 2 || sleep 300; echo end >> marks"
    )
    worker = start(sandbox, 2)
    sandbox.wait_marks(1)
    before = pids(sandbox)
    (victim,) = [w.pid for w in sandbox.queue.workers() if w.running]
    os.kill(victim, signal.SIGKILL)
    sandbox.wait_state(job, "completed")
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert sandbox.marks() == ["start", "start", "end"]
    wait_until(lambda: len(pids(sandbox)) == 2 and victim not in pids(sandbox), "a replacement")
    assert len(pids(sandbox) - before) == 1
    worker.wait_for("ended unexpectedly; starting another")
    assert worker.stop() == 0
    assert sandbox.processes() == []


def test_all_killed_at_once_are_all_replaced(sandbox: Sandbox) -> None:
    """Losing every process at the same moment stops nothing for good."""
    worker = start(sandbox, 3)
    before = pids(sandbox)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(pids(sandbox)) == 3 and not pids(sandbox) & before, "replacements")
    sandbox.wait_state(sandbox.enqueue("true"), "completed")
    assert worker.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_the_parent_stops_all(sandbox: Sandbox, number: int) -> None:
    """Running jobs finish first; then nothing is left of parent and processes."""
    jobs = [sandbox.enqueue(BUSY) for _ in range(2)]
    worker = start(sandbox, 2)
    sandbox.wait_marks(2)
    worker.send(number)
    worker.wait_for("stopping", times=2)
    sandbox.touch("go")
    assert worker.wait() == 0, worker.said
    assert {sandbox.state(job) for job in jobs} == {"completed"}
    assert sandbox.processes() == []
    assert sandbox.queue.workers() == []


def test_a_second_interrupt_ends_all_at_once(sandbox: Sandbox) -> None:
    """The parent passes it on: stubborn commands are gone, and their jobs are given back."""
    sandbox.configure(stop_timeout_seconds=3600, kill_grace_seconds=3600)
    job = sandbox.enqueue("trap '' TERM INT; echo start >> marks; while :; do sleep 0.05; done")
    worker = start(sandbox, 2)
    sandbox.wait_marks(1)
    worker.send(signal.SIGINT)
    wait_until(lambda: "stopping; 1 running job" in worker.said)
    worker.send(signal.SIGINT)
    assert worker.wait() == 0, worker.said
    assert sandbox.processes() == []
    assert (sandbox.state(job), sandbox.job(job).attempts) == ("pending", 0)


@pytest.mark.parametrize("started", range(6))
def test_a_stop_while_the_processes_are_still_starting_stops_all(
    sandbox: Sandbox, started: int
) -> None:
    """However many of them are there when SIGTERM comes, none is forgotten and the parent ends."""
    worker = sandbox.start_worker("--use-processes", "--count", "6", ready=False)
    wait_until(lambda: worker.said.count(" started: ") >= started and len(sandbox.processes()) > 1)
    worker.send(signal.SIGTERM)
    worker.wait()
    assert sandbox.processes() == []
    sandbox.drain()


def test_a_stop_while_a_process_is_being_replaced_stops_all(sandbox: Sandbox) -> None:
    """A replacement that starts just as everything stops is stopped as well."""
    for _ in range(3):
        worker = start(sandbox, 2)
        os.kill(pids(sandbox).pop(), signal.SIGKILL)
        worker.wait_for("starting another")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0, worker.said
        assert sandbox.processes() == []
        sandbox.drain()


def test_a_drain_ends_all(sandbox: Sandbox) -> None:
    """Every process ends when all is done, and with them the parent."""
    jobs = [sandbox.enqueue("test $QUEUECTL_ATTEMPT = 2", backoff_base=0) for _ in range(30)]
    worker = sandbox.start_worker("--use-processes", "--count", "3", "--drain", ready=False)
    assert worker.wait() == 0, worker.said
    assert all(sandbox.outcomes(job) == ["failed", "succeeded"] for job in jobs)
    assert sandbox.processes() == []


def test_a_background_parent_is_stopped_with_all_its_processes(sandbox: Sandbox) -> None:
    """`worker-stop` ends them all, waits for the parent, and the pidfile is gone."""
    start_ = sandbox.run("worker-start", "--use-processes", "--count", "3", "--background")
    assert start_.returncode == 0, start_.stderr
    assert len(pids(sandbox)) == 3
    assert sandbox.run("worker-stop").returncode == 0
    assert sandbox.processes() == []
    assert not (sandbox.folder / "queuectl.pid").exists()


def test_processes_whose_parent_was_killed_do_not_run_on_for_ever(sandbox: Sandbox) -> None:
    """Without their parent they can still be stopped, and then a new one can be started."""
    start_ = sandbox.run("worker-start", "--use-processes", "--count", "2", "--background")
    assert start_.returncode == 0, start_.stderr
    os.kill(int((sandbox.folder / "queuectl.pid").read_text()), signal.SIGKILL)
    assert sandbox.run("worker-stop").returncode == 0
    assert sandbox.processes() == []
    again = sandbox.run("worker-start", "--use-processes", "--count", "2", "--background")
    assert again.returncode == 0, again.stderr
    sandbox.wait_state(sandbox.enqueue("true"), "completed")


def test_processes_that_cannot_start_are_reported(sandbox: Sandbox) -> None:
    """What keeps them from starting is said once, with its status, and nothing is left."""
    (sandbox.folder / "job_logs").write_text("a file in the folder's place")
    worker = sandbox.start_worker("--use-processes", "--count", "2", ready=False)
    assert worker.wait() != 0
    assert "job_logs" in worker.said
    assert "Traceback" not in worker.said
    assert sandbox.processes() == []
