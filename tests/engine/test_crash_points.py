from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import Sandbox, WorkerProcess, wait_until

DRIVER = [sys.executable, str(Path(__file__).with_name("faulty_worker.py")), "worker-start"]

RUN = (
    "echo start $QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT >> marks; {}; echo end $QUEUECTL_JOB_ID >> marks"
)

# Of the job that the worker died with: how its attempts ended, and how often it was started.
AT_ONE_JOB = {
    "before claim commit": (["succeeded"], 1),  # The claim was never made: it cost nothing.
    "after claim commit": (["lost", "succeeded"], 1),
    "before spawn": (["lost", "succeeded"], 1),
    "after spawn": (["lost", "succeeded"], 2),
    "before settlement is handed over": (["lost", "succeeded"], 2),
    "before settle commit": (["lost", "succeeded"], 2),
    "after settle commit": (["succeeded"], 1),
}


def faulty(sandbox: Sandbox, fault: str, *options: str, **env: str) -> WorkerProcess:
    """Starts a worker that has this fault."""
    return sandbox.start_worker(*options, program=DRIVER, env={"FAULT": fault, **env}, ready=False)


@pytest.mark.parametrize("point", AT_ONE_JOB)
def test_a_worker_that_dies_anywhere_loses_nothing(sandbox: Sandbox, point: str) -> None:
    """Whatever step it dies at, the next worker runs the job to its end, its history is exact, and
    a run that was not settled is counted as lost and made up for.
    """
    job = sandbox.enqueue(RUN.format("sleep 0.3"))
    worker = faulty(sandbox, f"{point}: die")
    assert worker.wait() == -9
    if point == "after spawn":
        sandbox.wait_marks(1)
    sandbox.drain()
    outcomes, starts = AT_ONE_JOB[point]
    assert sandbox.outcomes(job) == outcomes
    assert sandbox.job(job).state == "completed"
    assert sandbox.job(job).attempts == len(outcomes)
    assert sandbox.job(job).losses == outcomes.count("lost")
    runs = [line for line in sandbox.marks() if line.startswith("start")]
    assert len(runs) == starts
    assert sandbox.marks()[-1] == f"end {job}"
    assert sandbox.processes() == []
    assert sandbox.queue.workers() == []


@pytest.mark.parametrize("point", AT_ONE_JOB)
def test_a_worker_that_dies_under_load_loses_nothing(sandbox: Sandbox, point: str) -> None:
    """With jobs claimed ahead and settled in groups too: each ends completed, none ran twice but
    those that were running or not yet settled, and attempts equal starts plus claims that died.
    """
    jobs = [sandbox.enqueue(RUN.format(":")) for _ in range(60)]
    worker = faulty(sandbox, f"{point}: die", "--count", "3", FAULT_AT="2")
    assert worker.wait() == -9
    sandbox.drain("--count", "3")
    starts: dict[str, int] = dict.fromkeys(jobs, 0)
    ends = set()
    for line in sandbox.marks():
        kind, job = line.split()[:2]
        starts[job] += kind == "start"
        if kind == "end":
            ends.add(job)
    for job in jobs:
        assert sandbox.state(job) == "completed"
        assert job in ends
        outcomes = sandbox.outcomes(job)
        assert outcomes[-1] == "succeeded"
        assert set(outcomes[:-1]) <= {"lost"}
        assert 1 <= starts[job] <= len(outcomes) == sandbox.job(job).attempts
    assert sandbox.processes() == []


@pytest.mark.parametrize("point", ["before give back", "after give back"])
def test_a_worker_that_dies_giving_jobs_back_loses_nothing(sandbox: Sandbox, point: str) -> None:
    """Jobs that it held and did not start run elsewhere, whether or not it could still say so."""
    short = [sandbox.enqueue("sleep 0.001") for _ in range(20)]
    long = [sandbox.enqueue("echo run >> marks; sleep 0.5") for _ in range(8)]
    worker = faulty(sandbox, f"{point}: die")
    assert worker.wait() == -9
    sandbox.drain("--count", "8")
    assert {sandbox.state(job) for job in short + long} == {"completed"}
    assert sandbox.processes() == []


@pytest.mark.parametrize("point", ["before fence", "after fence", "before rescue", "after rescue"])
def test_a_rescuer_that_dies_leaves_its_work_to_the_next(sandbox: Sandbox, point: str) -> None:
    """However far it came, the next worker finishes the rescue, and counts the loss once."""
    job = sandbox.enqueue(RUN.format("test $QUEUECTL_ATTEMPT -gt 1 || sleep 300"))
    first = sandbox.start_worker()
    sandbox.wait_marks(1)
    first.kill()
    assert faulty(sandbox, f"{point}: die").wait() == -9
    sandbox.drain()
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert sandbox.job(job).losses == 1
    assert sandbox.marks() == [f"start {job} 1", f"start {job} 2", f"end {job}"]
    assert sandbox.queue.workers() == []


@pytest.mark.parametrize("point", ["before spawn", "after claim commit", "before settle commit"])
def test_a_defect_ends_the_worker_and_loses_nothing(sandbox: Sandbox, point: str) -> None:
    """An error that nobody foresaw, in whichever thread, does not leave a worker that lives and
    does nothing: it says so, ends what it runs, fails, and the next one makes up for it.
    """
    running = sandbox.enqueue("test -e mended || sleep 300", priority=1)
    others = [sandbox.enqueue("sleep 0.1") for _ in range(5)]
    worker = faulty(sandbox, f"{point}: raise", "--count", "2", FAULT_AT="2")
    assert worker.wait() == 1, worker.said
    assert "unexpected RuntimeError" in worker.said
    assert sandbox.processes() == []
    sandbox.touch("mended")
    sandbox.drain("--count", "2")
    assert {sandbox.state(job) for job in [running, *others]} == {"completed"}
    assert sandbox.queue.workers() == []


def test_a_stop_in_the_middle_of_a_claim_leaves_no_job_behind(sandbox: Sandbox) -> None:
    """Jobs that arrive in the worker's hands just as it stops are given back, not left as running
    with nobody to run them.
    """
    worker = faulty(sandbox, "after claim commit: dawdle", FAULT_SECONDS="1")
    worker.wait_for(" started: ")
    job = sandbox.enqueue("true")
    sandbox.wait_state(job, "processing")
    assert worker.stop() == 0
    found = sandbox.job(job)
    assert (found.state, found.attempts) == ("pending", 0)
    sandbox.drain()
    assert sandbox.outcomes(job) == ["succeeded"]


def test_a_worker_on_a_slow_disk_hears_of_a_cancel(sandbox: Sandbox) -> None:
    """When outcomes pile up during each commit the worker still learns what it is to cancel."""
    long = sandbox.enqueue("sleep 300", priority=1)
    sandbox.queue.enqueue_many([{"command": "true", "cwd": "/"}] * 4_000)
    last = sandbox.enqueue("true")
    faulty(sandbox, "after any exchange: dawdle", "--count", "4", FAULT_SECONDS="0.02")
    sandbox.wait_state(long, "processing")
    wait_until(lambda: sandbox.count("completed") > 100)
    sandbox.queue.cancel([long])
    sandbox.wait_state(long, "cancelled")
    assert sandbox.state(last) == "pending", "the worker had run dry: this test is too small"


def test_a_worker_on_a_slow_disk_hears_of_a_stop(sandbox: Sandbox) -> None:
    """When outcomes pile up during each commit the worker still learns that it is to stop."""
    sandbox.queue.enqueue_many([{"command": "true", "cwd": "/"}] * 4_000)
    last = sandbox.enqueue("true")
    worker = faulty(sandbox, "after any exchange: dawdle", "--count", "4", FAULT_SECONDS="0.02")
    wait_until(lambda: sandbox.count("completed") > 100)
    assert sandbox.run("worker-stop", "--all").returncode == 0
    assert worker.wait() == 0
    assert sandbox.state(last) == "pending", "it stopped only because there was nothing left"
