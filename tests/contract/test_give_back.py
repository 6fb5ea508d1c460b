from __future__ import annotations

from contextlib import suppress

import pytest

from queuectl.errors import WorkerFenced
from queuectl.jobs import outcome as outcomes
from queuectl.jobs.lifecycle import FINISHED, State
from tests.contract.support import FAILED, Pair, new_job


@pytest.fixture
def manned(pair: Pair) -> Pair:
    """An empty queue with two workers."""
    pair.register("w", "v")
    return pair


def test_what_is_given_back_is_as_it_was(manned: Pair) -> None:
    """A job that was not started loses no attempt, no place and no history, and can be claimed at once."""
    manned.enqueue("a", "b")
    before = [
        (job.state, job.attempts, job.started_at, job.worker) for job in map(manned.job, "ab")
    ]
    claims = manned.claim("w", 2)
    manned.work.give_back("w", claims)
    after = [(job.state, job.attempts, job.started_at, job.worker) for job in map(manned.job, "ab")]
    assert after == before
    assert manned.jobs.attempts("a") == []
    again = manned.claim("v", 2)
    assert [(c.id, c.attempt) for c in again] == [("a", 1), ("b", 1)]
    assert {c.token for c in again}.isdisjoint(c.token for c in claims)


def test_a_retry_given_back_keeps_its_count(manned: Pair) -> None:
    """A job in its second attempt that is given back has one attempt behind it, not none."""
    manned.enqueue(new_job("a", max_retries=1))
    manned.run("w", FAILED)
    manned.clock.go_on(2)
    manned.work.give_back("w", [manned.claim_one("w")])
    assert manned.job("a").attempts == 1
    assert [attempt.outcome for attempt in manned.jobs.attempts("a")] == ["failed"]
    manned.run("w", FAILED)
    assert manned.state("a") == State.DEAD


def test_giving_back_counts_once(manned: Pair) -> None:
    """Giving back again, or after the job ended, takes nothing from whoever has it now."""
    manned.enqueue("a", "b")
    a, b = manned.claim("w", 2)
    manned.work.give_back("w", [a])
    manned.claim_one("v")
    manned.settle("w", b)
    before = manned.everything()
    manned.work.give_back("w", [a, b])
    assert manned.everything() == before


def test_a_fenced_worker_gives_nothing_back(manned: Pair) -> None:
    """What a worker given up for lost held stays where it is until it is rescued."""
    manned.enqueue("a")
    claim = manned.claim_one("w")
    manned.work.fence("w")
    before = manned.everything()
    with suppress(WorkerFenced):
        manned.work.give_back("w", [claim])
    assert manned.everything() == before
    assert manned.claim("v") == []


def test_a_finished_job_has_the_time_of_its_end(manned: Pair) -> None:
    """Whatever way a job ended, it says when: that is what decides when it may be pruned."""
    manned.enqueue(
        *(new_job(id, max_retries=0) for id in ("done", "dead", "stopped", "held", "off"))
    )
    manned.run("w")
    manned.run("w", FAILED)
    stopped, held = manned.claim("w", 2)
    manned.jobs.cancel(["stopped", "held", "off"], manned.clock.now())
    manned.settle("w", stopped, outcomes.cancelled(None, 15))
    manned.work.give_back("w", [held])
    for id in manned.ids():
        job = manned.job(id)
        assert job.state in FINISHED
        assert job.finished_at == manned.clock.now(), id
