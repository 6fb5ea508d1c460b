from __future__ import annotations

import pytest

from queuectl.jobs.lifecycle import State
from tests.contract.support import (
    FAILED,
    HOUR,
    SECOND,
    START,
    Pair,
    ids_of,
    new_job,
)


@pytest.fixture
def manned(pair: Pair) -> Pair:
    """An empty queue with two workers."""
    pair.register("w", "v")
    return pair


def test_a_claim_holds_what_the_worker_needs(manned: Pair) -> None:
    """A claim carries the job as it was put in, its attempt and losses, and a token of its own."""
    job = new_job("a", command="x y", cwd="/srv", env={"A": "é"}, timeout=5, backoff_base=0.5)
    manned.enqueue(job, new_job("b", max_retries=7, on_lost="fail", max_losses=3))
    a, b = manned.claim_one("w"), manned.claim_one("w")
    assert (a.id, a.command, a.cwd, a.timeout, a.backoff_base) == ("a", "x y", "/srv", 5, 0.5)
    assert a.env is not None
    assert "A" in a.env
    assert (b.id, b.env, b.timeout, b.backoff_base) == ("b", None, None, None)
    assert (b.max_retries, b.on_lost, b.max_losses) == (7, "fail", 3)
    assert (b.attempt, b.losses) == (1, 0)
    assert (a.seq, a.token) != (b.seq, b.token)


def test_a_claimed_job_says_who_has_it(manned: Pair) -> None:
    """From the claim on the job is processing, counts the attempt, and shows it as running."""
    manned.enqueue("a")
    manned.clock.go_on(5)
    now = manned.clock.now()
    manned.claim_one("w")
    job = manned.job("a")
    assert (job.state, job.attempts, job.worker) == (State.PROCESSING, 1, "host:w")
    assert (job.started_at, job.updated_at, job.finished_at) == (now, now, None)
    (attempt,) = manned.jobs.attempts("a")
    assert (attempt.attempt, attempt.outcome, attempt.worker) == (1, "running", "host:w")
    assert (attempt.started_at, attempt.finished_at) == (now, None)


def test_a_new_attempt_forgets_how_the_last_one_ended(manned: Pair) -> None:
    """A job that runs again does not show the exit code and the error of the attempt before."""
    manned.enqueue("a")
    manned.run("w", FAILED)
    assert (manned.job("a").exit_code, manned.job("a").error) == (1, "exit status 1")
    manned.clock.go_on(2)
    manned.claim_one("w")
    job = manned.job("a")
    assert (job.exit_code, job.signal, job.error, job.finished_at) == (None, None, None, None)
    assert (job.attempts, job.next_run_at) == (2, None)


def test_jobs_are_claimed_by_priority_then_by_arrival(manned: Pair) -> None:
    """Higher priorities go first, equal ones in the order in which they came, within and across claims."""
    priorities = [0, 5, -1, 5, 0, 1000, -1000, 5]
    manned.enqueue(*(new_job(f"j{n}", priority=p) for n, p in enumerate(priorities)))
    expected = ["j5", "j1", "j3", "j7", "j0", "j4", "j2", "j6"]
    assert ids_of(manned.claim("w", 2) + manned.claim("v", 3) + manned.claim("w", 100)) == expected


@pytest.mark.parametrize("wanted", [-1, 0, 1, 4, 5, 6])
def test_a_claim_takes_no_more_than_is_wanted(manned: Pair, wanted: int) -> None:
    """The storage hands out what it is asked for, or all that there is, and leaves the rest."""
    manned.enqueue("a", "b", "c", "d", "e")
    claimed = ids_of(manned.claim("w", wanted))
    assert claimed == ["a", "b", "c", "d", "e"][: max(wanted, 0)]
    assert manned.ids([State.PENDING]) == ["a", "b", "c", "d", "e"][len(claimed) :]
    assert manned.ids([State.PROCESSING]) == claimed


def test_only_what_waits_is_claimed(manned: Pair) -> None:
    """No job is handed out twice, nor one that has ended."""
    manned.enqueue("done", "dead", "off", "running")
    manned.jobs.cancel(["off"], START)
    manned.run("w")
    dead = manned.claim_one("w")
    manned.settle("w", dead._replace(max_retries=0), FAILED)
    manned.claim_one("v")
    assert manned.claim("w", 10) == manned.claim("v", 10) == []
    assert manned.state("dead") == State.DEAD


def test_a_job_is_claimed_from_its_time_on(manned: Pair) -> None:
    """A scheduled job is not handed out a microsecond early, and is at its very time."""
    manned.enqueue(new_job("a", run_at=START + SECOND))
    manned.clock.wall = START + SECOND - 1
    assert manned.claim("w") == []
    manned.clock.wall += 1
    assert ids_of(manned.claim("w")) == ["a"]


def test_a_job_of_the_past_is_due(manned: Pair) -> None:
    """A job whose time had passed when it came is handed out like any other."""
    manned.enqueue("a", new_job("b", run_at=START - HOUR), "c")
    assert ids_of(manned.claim("w", 3)) == ["a", "b", "c"]


def test_due_jobs_keep_their_place(manned: Pair) -> None:
    """Once its time has come a job stands where its priority and its arrival put it."""
    manned.enqueue(
        new_job("late", run_at=START + 9 * SECOND),
        "now",
        new_job("early", run_at=START + SECOND),
        new_job("urgent", run_at=START + 5 * SECOND, priority=1),
        new_job("unhurried", run_at=START + SECOND, priority=-1),
        "after",
    )
    manned.clock.go_on(10)
    assert ids_of(manned.claim("w", 2)) == ["urgent", "late"]
    assert ids_of(manned.claim("v", 9)) == ["now", "early", "after", "unhurried"]


def test_a_retry_keeps_its_place(manned: Pair) -> None:
    """A job that failed goes before later arrivals when it is due again, and not before that."""
    manned.enqueue("first", "second", "third")
    manned.run("w", FAILED)
    assert ids_of(manned.claim("w")) == ["second"]
    manned.clock.go_on(2)
    manned.enqueue("fourth")
    assert ids_of(manned.claim("w", 9)) == ["first", "third", "fourth"]


def test_jobs_for_later_hide_nothing(manned: Pair) -> None:
    """However many jobs of a high priority wait for their time, one that is ready is handed out."""
    future = START + HOUR
    manned.enqueue(*(new_job(f"f{n}", priority=9, run_at=future + n) for n in range(2_000)), "a")
    assert ids_of(manned.claim("w", 5)) == ["a"]
    assert manned.claim("w", 5) == []


def test_thousands_due_at_once_are_all_claimed(manned: Pair) -> None:
    """More jobs than are looked at in one claim may come due together: each is handed out, once."""
    ids = [f"j{n:04d}" for n in range(2_345)]
    manned.enqueue(*(new_job(id, run_at=START + SECOND) for id in ids))
    manned.clock.go_on(1)
    claimed: list[str] = []
    while batch := manned.claim("w", 500):
        assert len(batch) <= 500
        claimed += ids_of(batch)
        assert manned.work.outlook("v").ready == (len(claimed) < len(ids))
    assert claimed == ids


def test_old_due_jobs_do_not_keep_later_ones_waiting(manned: Pair) -> None:
    """With thousands due, small claims still come to jobs that are ready without a time."""
    manned.enqueue(*(new_job(f"j{n}", run_at=START + n) for n in range(1_500)))
    manned.enqueue(new_job("urgent", priority=1))
    manned.clock.go_on(1)
    assert ids_of(manned.claim("w", 3)) == ["urgent", "j0", "j1"]


# ---- what there is to do, as a worker sees it


def test_the_outlook_of_an_empty_queue(manned: Pair) -> None:
    """Nothing to do, nothing to wait for, nobody wants anything."""
    outlook = manned.work.outlook("w")
    assert (outlook.ready, outlook.next_due_at, outlook.unfinished) == (False, None, False)
    assert outlook.cancelling == []
    assert (outlook.stop_requested, outlook.stop_timeout, outlook.fenced) == (False, None, False)


def test_the_outlook_follows_a_job(manned: Pair) -> None:
    """A job makes the queue ready, then unfinished while it runs anywhere or waits for its retry."""
    manned.enqueue(new_job("a", max_retries=1))

    def seen() -> tuple[bool, int | None, bool]:
        outlook = manned.work.outlook("v")
        return outlook.ready, outlook.next_due_at, outlook.unfinished

    assert seen() == (True, None, True)
    claim = manned.claim_one("w")
    assert seen() == (False, None, True)
    manned.settle("w", claim, FAILED)
    due = START + 2 * SECOND
    assert seen() == (False, due, True)
    manned.clock.wall = due
    assert seen()[::2] == (True, True)
    manned.run("w", FAILED)
    assert seen() == (False, None, False)


def test_a_job_for_later_is_not_unfinished_business(manned: Pair) -> None:
    """A drain does not wait for jobs that are scheduled, but knows when the first is due."""
    manned.enqueue(new_job("b", run_at=START + HOUR), new_job("a", run_at=START + SECOND))
    outlook = manned.work.outlook("w")
    assert (outlook.ready, outlook.next_due_at, outlook.unfinished) == (
        False,
        START + SECOND,
        False,
    )
    manned.clock.go_on(1)
    outlook = manned.work.outlook("w")
    assert (outlook.ready, outlook.unfinished) == (True, True)


def test_a_worker_inside_a_job_does_not_count_that_job(manned: Pair) -> None:
    """The job in whose command a worker runs is no unfinished business to it, but to all others."""
    manned.enqueue(new_job("outer"))
    manned.claim("w")
    assert not manned.work.outlook("v", inside="outer").unfinished
    assert manned.work.outlook("v", inside="other").unfinished
    assert manned.work.outlook("v").unfinished


def test_a_worker_is_known_to_every_connection(manned: Pair) -> None:
    """What registered on one connection claims on another, under its own name."""
    manned.enqueue("a")
    (claim,) = manned.database.open_work(manned.clock).exchange("w", [], 1).claims
    assert claim.id == "a"
    job = manned.jobs.get("a")
    assert job is not None
    assert job.worker == "host:w"
