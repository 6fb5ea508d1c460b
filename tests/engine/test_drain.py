from __future__ import annotations

import signal

from tests.support import Sandbox, wait_until


def test_a_drain_of_an_empty_queue_ends_at_once(sandbox: Sandbox) -> None:
    """With nothing to do it ends well, leaves no trace of itself, and starts nothing."""
    sandbox.queue.counts()
    sandbox.drain()
    assert sandbox.queue.workers() == []


def test_a_drain_waits_for_retries_but_not_for_what_is_scheduled(sandbox: Sandbox) -> None:
    """It ends when every job has ended but those that are scheduled for later."""
    retried = sandbox.enqueue("test $QUEUECTL_ATTEMPT = 2", backoff_base=1)
    later = sandbox.enqueue("true", delay=3600)
    sandbox.drain("--count", "2")
    assert sandbox.state(retried) == "completed"
    assert sandbox.state(later) == "pending"


def test_a_drain_waits_for_what_other_workers_run(sandbox: Sandbox) -> None:
    """It stays until their jobs have ended too, and takes over their retries."""
    job = sandbox.enqueue("while [ ! -e go ]; do sleep 0.05; done; test $QUEUECTL_ATTEMPT = 2")
    other = sandbox.start_worker()
    sandbox.wait_state(job, "processing")
    drain = sandbox.start_worker("--drain")
    for _ in range(3):  # Each time it looks around afterwards, and must find that it is not done.
        sandbox.wait_state(sandbox.enqueue("true"), "completed")
    assert not drain.has_ended
    other.send(signal.SIGTERM)
    sandbox.touch("go")
    assert other.wait() == 0, other.said
    assert drain.wait() == 0, drain.said
    assert sandbox.outcomes(job) == ["failed", "succeeded"]


def test_a_drain_makes_up_for_a_worker_that_dies_meanwhile(sandbox: Sandbox) -> None:
    """A job that another worker loses is run by the drain before it ends."""
    job = sandbox.enqueue("echo start >> marks; test $QUEUECTL_ATTEMPT = 2 || sleep 300")
    other = sandbox.start_worker()
    sandbox.wait_marks(1)
    drain = sandbox.start_worker("--drain")
    other.kill()
    assert drain.wait() == 0, drain.said
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert sandbox.processes() == []


def test_drains_side_by_side_all_end(sandbox: Sandbox) -> None:
    """Several drains share the work, and none of them waits for another to end first."""
    jobs = [sandbox.enqueue("test $QUEUECTL_ATTEMPT = 2", backoff_base=0) for _ in range(40)]
    drains = [sandbox.start_worker("--drain", ready=False) for _ in range(4)]
    for drain in drains:
        assert drain.wait() == 0, drain.said
    assert all(sandbox.outcomes(job) == ["failed", "succeeded"] for job in jobs)


def test_a_drain_reports_what_it_did(sandbox: Sandbox) -> None:
    """Its last line counts what was completed and what failed."""
    sandbox.enqueue("true")
    sandbox.enqueue("false", max_retries=1, backoff_base=0)
    worker = sandbox.drain()
    assert "1 run succeeded, 2 failed" in worker.said


def test_jobs_that_come_during_a_drain_are_done_too(sandbox: Sandbox) -> None:
    """What is enqueued while it still works belongs to it."""
    sandbox.enqueue("while [ ! -e go ]; do sleep 0.05; done")
    drain = sandbox.start_worker("--drain")
    wait_until(lambda: sandbox.count("processing") == 1)
    late = [sandbox.enqueue("true") for _ in range(10)]
    sandbox.touch("go")
    assert drain.wait() == 0, drain.said
    assert {sandbox.state(job) for job in late} == {"completed"}
