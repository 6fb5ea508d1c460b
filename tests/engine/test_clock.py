from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from queuectl.clock import Clock
from queuectl.engine.rescue import Patience, rescue_lost
from queuectl.jobs.outcome import Policy
from queuectl.storage import open_worker_storage
from tests.support import Sandbox, WorkerProcess, this_process_as_worker

DRIVER = [sys.executable, str(Path(__file__).with_name("skewed_worker.py")), "worker-start"]
POLICY = Policy(backoff_base=2, max_losses=5)
HOUR = 3600 * 1_000_000

JUMPS = pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=["back", "forward"])


class SkewedClock(Clock):
    """The real clock, of which the wall part can be set."""

    __slots__ = ("skew",)

    def __init__(self) -> None:
        self.skew = 0

    def now(self) -> int:
        return super().now() + self.skew


def skewed(sandbox: Sandbox, *options: str) -> WorkerProcess:
    """Starts a worker whose wall clock is set by the file `skew`: microseconds, 0 while there is none."""
    return sandbox.start_worker(*options, program=DRIVER)


def set_clock(sandbox: Sandbox, jump: int) -> None:
    """Somebody sets the clock of the machine, as the workers see it."""
    (sandbox.files / "skew.new").write_text(str(jump))
    os.replace(sandbox.files / "skew.new", sandbox.files / "skew")


@JUMPS
def test_a_set_clock_rescues_no_living_worker(sandbox: Sandbox, jump: int) -> None:
    """A rescuer whose clock was just set by an hour leaves a living worker its job."""
    job = sandbox.enqueue("true")
    clock = SkewedClock()
    storage = open_worker_storage(sandbox.location, clock)
    storage.register(this_process_as_worker("alive"))
    assert len(storage.exchange("alive", [], 1).claims) == 1
    clock.skew = jump
    rescues = rescue_lost(
        storage,
        sandbox.queue.workspace.database,
        policy=POLICY,
        clock=clock,
        grace_seconds=0,
        patience=Patience(),
    )
    assert rescues == []
    storage.heartbeat("alive", 30)
    storage.close()
    assert sandbox.state(job) == "processing"


@JUMPS
def test_a_set_clock_disturbs_no_running_job(sandbox: Sandbox, jump: int) -> None:
    """With two workers alive, a job that runs over the jump ends once, with success, and its times
    are in order.
    """
    sandbox.configure(lease_seconds=2)
    job = sandbox.enqueue("echo start >> marks; while [ ! -e go ]; do sleep 0.05; done", timeout=60)
    workers = [skewed(sandbox), skewed(sandbox)]
    sandbox.wait_marks(1)
    set_clock(sandbox, jump)
    for _ in range(4):
        sandbox.wait_state(sandbox.enqueue("sleep 0.5"), "completed")
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
    (attempt,) = sandbox.attempts(job)
    assert attempt.outcome == "succeeded"
    assert attempt.finished_at is not None
    assert attempt.finished_at >= attempt.started_at
    assert [worker.stop() for worker in workers] == [0, 0]
    assert sandbox.marks() == ["start"]
    assert "lost" not in "".join(worker.said for worker in workers)


@JUMPS
def test_a_set_clock_freezes_no_ready_job(sandbox: Sandbox, jump: int) -> None:
    """Jobs that are ready run, whether they came before the jump or after it."""
    before = sandbox.enqueue("while [ ! -e go ]; do sleep 0.05; done; true")
    waiting = sandbox.enqueue("true")
    skewed(sandbox)
    sandbox.wait_state(before, "processing")
    set_clock(sandbox, jump)
    after = sandbox.enqueue("true")
    sandbox.touch("go")
    for job in (before, waiting, after):
        sandbox.wait_state(job, "completed")


def test_a_clock_set_back_makes_no_retry_wait_for_longer(sandbox: Sandbox) -> None:
    """Retries that wait when the clock is set back by an hour run after their delay, not an hour
    later; also those of a job that failed before and whose worker is gone.
    """
    waiting = sandbox.enqueue("test -e go", backoff_base=2)
    first = skewed(sandbox)
    sandbox.wait_state(waiting, "failed")
    sandbox.touch("go")
    set_clock(sandbox, -HOUR)
    sandbox.wait_state(waiting, "completed")
    assert first.stop() == 0, first.said


def test_a_clock_set_back_while_no_worker_ran_makes_no_retry_wait_for_longer(
    sandbox: Sandbox,
) -> None:
    """A worker that starts after the jump finds retries of before it, and does not wait an hour."""
    waiting = sandbox.enqueue("test -e go", backoff_base=2)
    first = skewed(sandbox)
    sandbox.wait_state(waiting, "failed")
    assert first.stop() == 0
    sandbox.touch("go")
    set_clock(sandbox, -HOUR)
    worker = skewed(sandbox, "--drain")
    assert worker.wait() == 0, worker.said
    assert sandbox.state(waiting) == "completed"


@pytest.mark.sqlite_only("a server's clock says what is due, and not that of this machine")
def test_a_clock_set_back_moves_no_job_that_is_scheduled(sandbox: Sandbox) -> None:
    """A time that somebody chose is a time of the wall clock: it comes when that shows it."""
    sandbox.configure(lease_seconds=2)
    scheduled = sandbox.enqueue("true", delay=1800)
    failing = sandbox.enqueue("test -e go", backoff_base=1)
    skewed(sandbox)
    sandbox.wait_state(failing, "failed")
    due = sandbox.job(scheduled).next_run_at
    set_clock(sandbox, -HOUR)
    sandbox.touch("go")
    sandbox.wait_state(failing, "completed")
    assert (sandbox.state(scheduled), sandbox.job(scheduled).next_run_at) == ("pending", due)
    set_clock(sandbox, HOUR)
    sandbox.wait_state(scheduled, "completed")


def test_a_clock_set_forward_lets_no_timeout_or_stop_come_early(sandbox: Sandbox) -> None:
    """Timeouts and the time a stop allows are lengths: a set clock shortens neither."""
    job = sandbox.enqueue(
        "echo start >> marks; while [ ! -e go ]; do sleep 0.05; done", timeout=600, max_retries=0
    )
    worker = skewed(sandbox)
    sandbox.wait_marks(1)
    worker.send(15)
    worker.wait_for("stopping; 1 running job")
    set_clock(sandbox, HOUR)
    sandbox.wait_state(job, "processing")
    sandbox.start_worker()
    for _ in range(3):
        sandbox.wait_state(sandbox.enqueue("sleep 0.2"), "completed")
    assert sandbox.state(job) == "processing"
    sandbox.touch("go")
    assert worker.wait() == 0
    assert sandbox.outcomes(job) == ["succeeded"]
