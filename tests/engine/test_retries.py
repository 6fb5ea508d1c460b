from __future__ import annotations

import pytest

from tests.support import Sandbox

FAIL = "echo $QUEUECTL_ATTEMPT >> marks; exit 1"
SECOND = 1_000_000


def test_a_job_is_tried_again_until_it_succeeds(sandbox: Sandbox) -> None:
    """It runs until it works, and keeps each attempt with its own outcome."""
    job = sandbox.enqueue(
        "echo $QUEUECTL_ATTEMPT >> marks; test $QUEUECTL_ATTEMPT = 3", backoff_base=0
    )
    sandbox.drain()
    assert sandbox.marks() == ["1", "2", "3"]
    assert sandbox.outcomes(job) == ["failed", "failed", "succeeded"]
    found = sandbox.job(job)
    assert (found.state, found.attempts, found.error) == ("completed", 3, None)


@pytest.mark.parametrize("max_retries", [0, 1, 4])
def test_a_job_is_dead_after_its_last_retry(sandbox: Sandbox, max_retries: int) -> None:
    """max_retries is the number of runs after the first; then it is in the dead letter queue."""
    job = sandbox.enqueue(FAIL, max_retries=max_retries, backoff_base=0)
    sandbox.drain()
    assert sandbox.marks() == [str(n + 1) for n in range(max_retries + 1)]
    found = sandbox.job(job)
    assert (found.state, found.attempts) == ("dead", max_retries + 1)
    assert (found.next_run_at, found.error, found.exit_code) == (None, "exit status 1", 1)
    assert [dead.id for dead in sandbox.queue.dead_letters.list()] == [job]


def test_a_retry_waits_for_its_backoff(sandbox: Sandbox) -> None:
    """Between two attempts at least backoff_base ** attempts seconds pass, and it is shown as
    failed meanwhile.
    """
    job = sandbox.enqueue(FAIL, max_retries=2, backoff_base=1.2)
    worker = sandbox.start_worker("--drain")
    found = sandbox.wait_state(job, "failed")
    assert found.next_run_at is not None
    assert found.finished_at is not None
    assert found.next_run_at - found.finished_at >= 1.2 * SECOND
    assert worker.wait() == 0, worker.said
    first, second, third = sandbox.attempts(job)
    assert first.finished_at is not None
    assert second.finished_at is not None
    assert second.started_at - first.finished_at >= 1.2 * SECOND
    assert third.started_at - second.finished_at >= 1.2**2 * SECOND


@pytest.mark.parametrize(
    ("own", "configured", "seconds"), [(None, 500, 500), (50, 500, 50), (None, 0, 0), (0, 500, 0)]
)
def test_a_jobs_own_backoff_goes_before_the_configured_one(
    sandbox: Sandbox, own: float | None, configured: float, seconds: float
) -> None:
    """The base is the job's; else the configuration's as it is when the attempt fails."""
    sandbox.configure(backoff_base=configured)
    options = {} if own is None else {"backoff_base": own}
    job = sandbox.enqueue("test $QUEUECTL_ATTEMPT = 2", **options)
    sandbox.start_worker()
    if seconds == 0:
        sandbox.wait_state(job, "completed")
        return
    found = sandbox.wait_state(job, "failed")
    assert found.next_run_at is not None
    assert found.finished_at is not None
    waits = (found.next_run_at - found.finished_at) / SECOND
    assert seconds <= waits < seconds + 30


def test_the_configured_timeout_holds_for_jobs_that_leave_it_open(sandbox: Sandbox) -> None:
    """A job without a timeout takes the configured one when it runs; its own goes before it, and
    its own 0 means none.
    """
    open_ = sandbox.enqueue("sleep 300", max_retries=0)
    own = sandbox.enqueue("sleep 300", max_retries=0, timeout=0.4)
    none = sandbox.enqueue("sleep 1.5", max_retries=0, timeout=0)
    sandbox.configure(job_timeout=0.7)
    sandbox.drain("--count", "3")
    assert sandbox.job(open_).error == "timeout: ran for over 0.7 s"
    assert sandbox.job(own).error == "timeout: ran for over 0.4 s"
    assert sandbox.state(none) == "completed"


def test_a_dead_job_that_is_retried_has_all_its_attempts_again(sandbox: Sandbox) -> None:
    """After `dlq retry` it counts from the first attempt, and its old attempts are still shown."""
    job = sandbox.enqueue("test -e mended", max_retries=1, backoff_base=0)
    sandbox.drain()
    assert sandbox.state(job) == "dead"
    assert sandbox.run("dlq", "retry", job).returncode == 0
    sandbox.drain()
    assert (sandbox.state(job), sandbox.job(job).attempts) == ("dead", 2)
    sandbox.touch("mended")
    sandbox.queue.dead_letters.retry([job])
    sandbox.drain()
    assert (sandbox.state(job), sandbox.job(job).attempts) == ("completed", 1)
    assert sandbox.outcomes(job) == ["failed"] * 4 + ["succeeded"]


def test_a_failing_job_holds_no_slot_while_it_waits(sandbox: Sandbox) -> None:
    """Jobs that wait for their retry keep nobody from running."""
    failing = [sandbox.enqueue("exit 1", backoff_base=3600) for _ in range(5)]
    good = sandbox.enqueue("true")
    sandbox.start_worker()
    sandbox.wait_state(good, "completed")
    assert {sandbox.state(job) for job in failing} == {"failed"}
