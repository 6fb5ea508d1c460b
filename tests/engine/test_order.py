from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.support import Sandbox, wait_until

NAME = "echo $QUEUECTL_JOB_ID >> marks"


def test_jobs_run_by_priority_then_in_the_order_of_their_arrival(sandbox: Sandbox) -> None:
    """A higher priority goes first, also a negative one behind none; among equals the older one."""
    for name, priority in [("a", 0), ("b", -1), ("c", 5), ("d", 0), ("e", 5), ("f", -1), ("g", 0)]:
        sandbox.enqueue(NAME, id=name, priority=priority)
    sandbox.drain()
    assert sandbox.marks() == ["c", "e", "a", "d", "g", "b", "f"]


def test_a_later_job_of_higher_priority_goes_before_those_that_wait(sandbox: Sandbox) -> None:
    """A worker that has claimed ahead does not run what it holds before something more urgent
    that came in long before the end of what runs.
    """
    for n in range(20):
        sandbox.enqueue("sleep 0.001", id=f"short-{n}")
    sandbox.enqueue("touch reached; while [ ! -e go ]; do sleep 0.05; done")
    for n in range(4):
        sandbox.enqueue(NAME, id=f"later-{n}")
    sandbox.start_worker()
    wait_until((sandbox.folder / "reached").exists)
    urgent = sandbox.enqueue(NAME, id="urgent", priority=9)
    wait_until(lambda: sandbox.count("processing") == 1)
    sandbox.touch("go")
    sandbox.wait_state("later-3", "completed")
    assert sandbox.marks() == [urgent, "later-0", "later-1", "later-2", "later-3"]


def test_a_scheduled_job_runs_at_its_time_and_not_before(sandbox: Sandbox) -> None:
    """Delays and points in time are kept; what waits holds nobody up, whatever its priority."""
    soon = datetime.now(UTC) + timedelta(seconds=2)
    at = sandbox.enqueue(NAME, run_at=soon.isoformat(), priority=9)
    delayed = sandbox.enqueue(NAME, delay=1, priority=9)
    far = sandbox.enqueue(NAME, delay="7d", priority=9)
    now = sandbox.enqueue(NAME)
    sandbox.start_worker()
    sandbox.wait_state(at, "completed")
    assert sandbox.marks() == [now, delayed, at]
    for job in (at, delayed):
        found, (attempt,) = sandbox.job(job), sandbox.attempts(job)
        assert attempt.started_at >= found.created_at + 900_000
    (attempt,) = sandbox.attempts(at)
    assert attempt.started_at >= soon.timestamp() * 1e6
    assert sandbox.state(far) == "pending"


def test_enqueue_wakes_an_idle_worker(sandbox: Sandbox) -> None:
    """Jobs that come one by one to a worker that sleeps are run, each within the deadline."""
    sandbox.start_worker("--poll-interval", "60")
    for _ in range(10):
        enqueued = sandbox.run("enqueue", "--command", "true", "-q")
        sandbox.wait_state(enqueued.stdout.strip(), "completed", seconds=10)


def test_a_job_can_enqueue_jobs(sandbox: Sandbox) -> None:
    """Into its own queue, whatever folder it runs in, and a drain waits for those too."""
    elsewhere = sandbox.folder / "elsewhere"
    elsewhere.mkdir()
    queuectl = " ".join(sandbox.command_line("enqueue", "--command"))
    inner = "echo inner $QUEUECTL_ATTEMPT >> marks"
    sandbox.enqueue(f"{queuectl} '{inner}' --id inner --cwd ..", cwd=str(elsewhere), max_retries=0)
    sandbox.drain()
    assert sandbox.state("inner") == "completed"
    assert sandbox.marks() == ["inner 1"]
    assert sandbox.job("inner").max_retries == 3


def test_eight_workers_share_one_queue(sandbox: Sandbox) -> None:
    """Each job runs exactly once, nobody is told that the database is locked, and all end well."""
    jobs = sandbox.queue.enqueue_many([{"command": NAME, "cwd": str(sandbox.folder)}] * 400)
    workers = [sandbox.start_worker("--drain", ready=False) for _ in range(8)]
    added = [sandbox.run("enqueue", "--command", NAME, "-q") for _ in range(10)]
    for worker in workers:
        assert worker.wait(60) == 0, worker.said
    jobs += [result.stdout.strip() for result in added]
    sandbox.drain()
    assert sorted(sandbox.marks()) == sorted(jobs)
    assert all(sandbox.outcomes(job) == ["succeeded"] for job in jobs)
    said = "".join(worker.said for worker in workers) + "".join(r.stderr for r in added)
    assert "lock" not in said
    assert "held by another" not in said
    assert {result.returncode for result in added} == {0}
    assert sandbox.queue.workers() == []


def test_a_job_is_not_held_behind_a_long_one_while_another_worker_idles(sandbox: Sandbox) -> None:
    """What a worker claimed ahead goes back when it cannot start it soon."""
    for _ in range(100):
        sandbox.enqueue("true")
    sandbox.enqueue("while [ ! -e go ]; do sleep 0.05; done", id="long")
    rest = [sandbox.enqueue(NAME) for _ in range(10)]
    sandbox.start_worker()
    sandbox.wait_state("long", "processing")
    sandbox.start_worker()
    for job in rest:
        sandbox.wait_state(job, "completed")
    assert sandbox.state("long") == "processing"
    sandbox.touch("go")
