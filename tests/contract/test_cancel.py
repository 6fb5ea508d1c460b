from __future__ import annotations

import pytest

from queuectl.errors import JobNotFound, WrongState
from queuectl.jobs import outcome as outcomes
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import LOST, SUCCEEDED, Outcome, judge
from tests.contract.support import FAILED, HOUR, POLICY, START, Pair, new_job


@pytest.fixture
def manned(pair: Pair) -> Pair:
    """An empty queue with two workers."""
    pair.register("w", "v")
    return pair


def test_waiting_jobs_are_cancelled_at_once(manned: Pair) -> None:
    """Ready, scheduled and retried jobs are cancelled when the call returns, and never run."""
    manned.enqueue("failed", "ready", new_job("later", run_at=START + HOUR))
    manned.run("w", FAILED)
    manned.clock.go_on(1)
    now = manned.clock.now()
    assert manned.jobs.cancel(["later", "failed", "ready"], now) == []
    for id in ("failed", "ready", "later"):
        job = manned.job(id)
        assert (job.state, job.next_run_at) == (State.CANCELLED, None)
        assert (job.finished_at, job.updated_at, job.cancel_requested_at) == (now, now, None)
    manned.clock.go_on(7200)
    assert manned.claim("w", 9) == []
    assert manned.jobs.scheduled(START) == 0
    assert manned.job("failed").error == "exit status 1"


def test_a_running_job_is_asked_to_stop(manned: Pair) -> None:
    """A running job goes on until its worker ends it, which sees the wish in its outlook."""
    manned.enqueue("a", "b", "c")
    a, _ = manned.claim("w", 2)
    manned.clock.go_on(1)
    assert manned.jobs.cancel(["a", "c"], manned.clock.now()) == ["a"]
    job = manned.job("a")
    assert (job.state, job.cancel_requested_at) == (State.PROCESSING, manned.clock.now())
    assert manned.state("c") == State.CANCELLED
    assert manned.work.outlook("w").cancelling == [(a.token, a.seq)]
    assert manned.work.outlook("v").cancelling == []
    assert manned.settle("w", a, outcomes.cancelled(None, 15)) == []
    assert manned.state("a") == State.CANCELLED
    assert manned.work.outlook("w").cancelling == []


def test_asking_again_changes_nothing(manned: Pair) -> None:
    """A second cancel of a running job is accepted, and keeps the time of the first."""
    manned.enqueue("a")
    manned.claim_one("w")
    assert manned.jobs.cancel(["a"], START + 1) == ["a"]
    assert manned.jobs.cancel(["a"], START + 2) == ["a"]
    assert manned.job("a").cancel_requested_at == START + 1


@pytest.mark.parametrize(
    "outcome",
    [
        FAILED,
        outcomes.killed(9, "SIGKILL"),
        outcomes.timed_out(5, None, 15),
        outcomes.not_started("no folder"),
        outcomes.cancelled(None, 15),
        outcomes.interrupted(None, 15),
        LOST,
    ],
)
@pytest.mark.parametrize("max_retries", [0, 3])
def test_a_cancel_wins_over_every_ending_but_success(
    manned: Pair, outcome: Outcome, max_retries: int
) -> None:
    """A job that was called off is not retried, dead or pending again, however its run ended."""
    manned.enqueue(new_job("a", max_retries=max_retries))
    claim = manned.claim_one("w")
    manned.jobs.cancel(["a"], START)
    manned.settle("w", claim, outcome)
    job = manned.job("a")
    assert (job.state, job.next_run_at, job.cancel_requested_at) == (State.CANCELLED, None, None)
    assert job.error == outcome.error
    manned.clock.go_on(1e6)
    assert manned.claim("w") == []
    assert [attempt.outcome for attempt in manned.jobs.attempts("a")] == [outcome.kind]


def test_success_wins_over_a_cancel(manned: Pair) -> None:
    """A job that came to its end before the cancel reached it is completed."""
    manned.enqueue("a")
    claim = manned.claim_one("w")
    manned.jobs.cancel(["a"], START)
    manned.settle("w", claim, SUCCEEDED)
    job = manned.job("a")
    assert (job.state, job.cancel_requested_at) == (State.COMPLETED, None)


def test_a_cancel_of_a_job_not_started_yet(manned: Pair) -> None:
    """A claimed job that is given back after a cancel is cancelled, and not handed out again."""
    manned.enqueue("a")
    claim = manned.claim_one("w")
    manned.jobs.cancel(["a"], START)
    manned.work.give_back("w", [claim])
    job = manned.job("a")
    assert (job.state, job.attempts, job.cancel_requested_at) == (State.CANCELLED, 0, None)
    assert manned.claim("w") == []


def test_a_cancel_survives_the_loss_of_the_worker(manned: Pair) -> None:
    """A called-off job whose worker died is cancelled by the rescue, not run once more."""
    manned.enqueue("a", "b")
    manned.claim("w", 2)
    manned.jobs.cancel(["a"], START)
    manned.work.fence("w")
    manned.work.rescue("w", lambda claim: (LOST, judge(claim, LOST, POLICY)))
    assert manned.state("a") == State.CANCELLED
    assert manned.state("b") == State.FAILED


@pytest.mark.parametrize("ended", ["done", "dead", "off"])
def test_an_ended_job_cannot_be_cancelled(manned: Pair, ended: str) -> None:
    """All or none: one job that has ended leaves waiting and running ones as they were."""
    manned.enqueue(new_job("done"), new_job("dead", max_retries=0), "off", "running", "waiting")
    manned.run("w")
    manned.run("w", FAILED)
    manned.jobs.cancel(["off"], START)
    manned.claim_one("w")
    before = manned.everything()
    with pytest.raises(WrongState, match=f"{ended} is "):
        manned.jobs.cancel(["waiting", "running", ended], START + 5)
    assert manned.everything() == before
    assert manned.work.outlook("w").cancelling == []


def test_an_unknown_job_cannot_be_cancelled(manned: Pair) -> None:
    """All or none: an id that no job has leaves the others as they were."""
    manned.enqueue("a")
    before = manned.everything()
    with pytest.raises(JobNotFound, match="nobody"):
        manned.jobs.cancel(["a", "nobody"], START)
    assert manned.everything() == before


def test_nothing_of_a_cancel_is_left_in_the_next_run(manned: Pair) -> None:
    """A job that was called off while it ran, and is requeued, runs and fails as if new."""
    manned.enqueue("a")
    claim = manned.claim_one("w")
    manned.jobs.cancel(["a"], START)
    manned.settle("w", claim, outcomes.cancelled(None, 15))
    manned.jobs.requeue(["a"], START, [State.CANCELLED])
    manned.claim_one("w")
    assert manned.work.outlook("w").cancelling == []
    assert manned.job("a").cancel_requested_at is None
