from __future__ import annotations

import pytest

from queuectl import processes
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import LOST, judge
from tests.contract.support import FAILED, HOUR, POLICY, SECOND, Pair, ids_of, new_job, new_worker

JUMPS = pytest.mark.parametrize("jump", [-3600, 3600], ids=["back", "forward"])


@JUMPS
def test_a_set_clock_moves_no_lease(pair: Pair, jump: int) -> None:
    """What is left of a lease is the same after the wall clock was set by an hour."""
    pair.register("w", lease_seconds=10)
    pair.clock.go_on(4)
    pair.clock.set_wall(jump)
    (worker,) = pair.work.workers()
    assert worker.lease_left_seconds == 6
    pair.work.heartbeat("w", 10)
    (worker,) = pair.work.workers()
    assert worker.lease_left_seconds == 10


@JUMPS
def test_a_set_clock_makes_no_living_worker_lost(pair: Pair, jump: int) -> None:
    """A worker that lives, as this process does, is judged alive before and after the jump."""
    me = processes.this_process()
    pair.work.register(
        new_worker("w", lease_seconds=10)._replace(
            host=me.host,
            boot_id=me.boot_id,
            process_space=me.process_space,
            pid=me.pid,
            process_started=me.process_started,
        )
    )
    pair.clock.set_wall(jump)
    (worker,) = pair.work.workers()
    assert processes.health_of(worker, me, pair.clock.now()) == processes.WorkerHealth.ALIVE
    pair.clock.go_on(11)
    (worker,) = pair.work.workers()
    assert processes.health_of(worker, me, pair.clock.now()) == processes.WorkerHealth.SILENT


@JUMPS
def test_a_set_clock_freezes_nothing(pair: Pair, jump: int) -> None:
    """Jobs that came before the jump and after it run, in the order in which they came."""
    pair.register("w")
    pair.enqueue("running", "before")
    running = pair.claim_one("w")
    pair.clock.set_wall(jump)
    pair.enqueue("after")
    assert pair.settle("w", running) == []
    assert ids_of(pair.claim("w", 9)) == ["before", "after"]
    assert pair.ids() == ["running", "before", "after"]


@JUMPS
def test_a_retry_is_counted_from_the_new_time(pair: Pair, jump: int) -> None:
    """A job that fails after the jump waits for its backoff, no less and not an hour more."""
    pair.register("w")
    pair.enqueue("a")
    claim = pair.claim_one("w")
    pair.clock.set_wall(jump)
    pair.settle("w", claim, FAILED)
    assert pair.job("a").next_run_at == pair.clock.now() + 2 * SECOND
    pair.clock.go_on(2)
    assert pair.claim_one("w").attempt == 2


def test_what_was_due_stays_due(pair: Pair) -> None:
    """A job whose time had come, and was seen to have come, does not wait for it once more."""
    pair.register("w")
    pair.enqueue(new_job("a", priority=1, run_at=pair.clock.now()), new_job("b"))
    pair.enqueue(new_job("c", run_at=pair.clock.now()))
    assert ids_of(pair.claim("w")) == ["a"]
    pair.clock.set_wall(-3600)
    assert ids_of(pair.claim("w", 9)) == ["b", "c"]


def test_a_retry_from_before_the_jump_waits_no_longer_than_its_delay(pair: Pair) -> None:
    """After the clock was set back, retries are due within their backoff again; jobs for a time are not moved."""
    pair.register("w")
    pair.enqueue("retry", new_job("scheduled", run_at=pair.clock.now() + HOUR))
    pair.run("w", FAILED)
    scheduled = pair.job("scheduled")
    pair.clock.set_wall(-3600)
    assert pair.work.rebase_retries() == 1
    assert pair.job("retry").next_run_at == pair.clock.now() + 2 * SECOND
    assert pair.job("scheduled") == scheduled
    assert pair.work.rebase_retries() == 0
    pair.clock.go_on(1.999999)
    assert pair.claim("w") == []
    pair.clock.go_on(0.000001)
    assert pair.claim_one("w").id == "retry"


@pytest.mark.parametrize("jump", [0, 1, 3600])
def test_without_a_jump_back_no_retry_is_moved(pair: Pair, jump: int) -> None:
    """Time that passes, and a clock that was set forward, leave retries where they are."""
    pair.register("w")
    pair.enqueue(new_job("a", backoff_base=10_000))
    pair.run("w", FAILED)
    before = pair.everything()
    pair.clock.set_wall(jump)
    assert pair.work.rebase_retries() == 0
    assert pair.everything() == before


def test_a_job_for_a_time_of_day_goes_by_the_wall_clock(pair: Pair) -> None:
    """Somebody who sets the clock forward makes a scheduled job due; back, makes it wait again."""
    pair.register("w")
    pair.enqueue(new_job("a", run_at=pair.clock.now() + HOUR))
    pair.clock.set_wall(3599)
    assert pair.claim("w") == []
    pair.clock.set_wall(-1800)
    assert pair.claim("w") == []
    pair.clock.set_wall(1801)
    assert ids_of(pair.claim("w")) == ["a"]


def test_a_rescued_attempt_does_not_end_before_it_began(pair: Pair) -> None:
    """When the clock was set back since the claim, the lost attempt still has a length, not a negative one."""
    pair.register("w")
    pair.enqueue("a")
    pair.claim_one("w")
    pair.clock.set_wall(-3600)
    pair.work.fence("w")
    pair.work.rescue("w", lambda claim: (LOST, judge(claim, LOST, POLICY)))
    (attempt,) = pair.jobs.attempts("a")
    assert attempt.finished_at is not None
    assert attempt.finished_at >= attempt.started_at
    assert pair.state("a") == State.FAILED
