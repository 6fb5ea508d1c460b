from __future__ import annotations

from typing import Any

import pytest

from queuectl.errors import WorkerFenced
from queuectl.jobs import outcome as outcomes
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import SUCCEEDED, Outcome
from tests.contract.support import FAILED, SECOND, START, Pair, ids_of, new_job


@pytest.fixture
def manned(pair: Pair) -> Pair:
    """An empty queue with two workers."""
    pair.register("w", "v")
    return pair


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (SUCCEEDED, State.COMPLETED),
        (outcomes.exited(3), State.FAILED),
        (outcomes.killed(11, "SIGSEGV"), State.FAILED),
        (outcomes.timed_out(5, None, 15), State.FAILED),
        (outcomes.not_started("no folder"), State.FAILED),
        (outcomes.cancelled(None, 15), State.CANCELLED),
        (outcomes.interrupted(None, 9), State.PENDING),
    ],
)
def test_an_ending_is_written_whole(manned: Pair, outcome: Outcome, state: State) -> None:
    """The job shows how its last attempt ended, and the attempt is kept with the same facts."""
    manned.enqueue("a")
    claim = manned.claim_one("w")
    manned.clock.go_on(5)
    settlement = manned.settlement(claim, outcome)._replace(
        worker="me",
        started_at=START + SECOND,
        finished_at=START + 4 * SECOND,
        log_start=7,
        log_end=99,
    )
    exchange = manned.work.exchange("w", [settlement], 0)
    assert exchange == ([], [])
    job = manned.job("a")
    assert job.state == state
    assert (job.exit_code, job.signal, job.error) == (
        outcome.exit_code,
        outcome.signal,
        outcome.error,
    )
    assert (job.started_at, job.finished_at) == (START + SECOND, START + 4 * SECOND)
    assert job.updated_at == manned.clock.now()
    assert job.attempts == (0 if outcome.kind == "interrupted" else 1)
    delay = 2 * SECOND if state == State.FAILED else None
    assert job.next_run_at == (None if delay is None else manned.clock.now() + delay)
    (attempt,) = manned.jobs.attempts("a")
    assert attempt[:10] == (
        1,
        START + SECOND,
        START + 4 * SECOND,
        outcome.kind,
        outcome.exit_code,
        outcome.signal,
        outcome.error,
        "me",
        7,
        99,
    )


def test_a_job_runs_until_its_attempts_are_used_up(manned: Pair) -> None:
    """max_retries of 2 are 3 runs, each after a longer wait; then the job is dead and stays so."""
    manned.enqueue(new_job("a", max_retries=2))
    waits = []
    while manned.state("a") != State.DEAD:
        manned.run("w", FAILED)
        due = manned.job("a").next_run_at
        if due is not None:
            waits.append((due - manned.clock.now()) / SECOND)
            manned.clock.wall = due
    assert waits == [2, 4]
    manned.clock.go_on(1e6)
    assert manned.claim("w") == []
    assert [a.attempt for a in manned.jobs.attempts("a")] == [1, 2, 3]


def test_attempts_come_oldest_first(manned: Pair) -> None:
    """Attempts are listed as they ran, also past a requeue and a clock that was set back."""
    manned.enqueue(new_job("a", max_retries=0))
    marks = [f"exit status {n}" for n in (1, 2, 3)]
    for n in (1, 2, 3):
        claim = manned.claim_one("w")
        manned.clock.go_on(1)
        manned.settle("w", claim, outcomes.exited(n))
        manned.clock.set_wall(-3600)
        manned.jobs.requeue(["a"], manned.clock.now(), [State.DEAD])
    manned.claim_one("w")
    attempts = manned.jobs.attempts("a")
    assert [attempt.error for attempt in attempts] == [*marks, None]
    assert [attempt.outcome for attempt in attempts][-1] == "running"


def test_attempts_of_no_job(manned: Pair) -> None:
    """A job that does not exist has no attempts, which is no error."""
    assert manned.jobs.attempts("nobody") == []


def test_settling_and_claiming_go_together(manned: Pair) -> None:
    """One exchange writes several endings and hands out what comes next."""
    manned.enqueue("a", "b", "c", "d", "e")
    a, b = manned.claim("w", 2)
    exchange = manned.work.exchange("w", [manned.settlement(b), manned.settlement(a, FAILED)], 2)
    assert ids_of(exchange.claims) == ["c", "d"]
    assert exchange.refused == []
    assert [manned.state(id) for id in "abcde"] == [
        State.FAILED,
        State.COMPLETED,
        State.PROCESSING,
        State.PROCESSING,
        State.PENDING,
    ]


# ---- late answers


def test_an_ending_counts_once(manned: Pair) -> None:
    """The same ending handed in again, with or after the first, is refused and changes nothing."""
    manned.enqueue("a", "b")
    a, b = manned.claim("w", 2)
    twice = [manned.settlement(a), manned.settlement(a, FAILED)]
    assert manned.work.exchange("w", twice, 0).refused == [a]
    assert manned.state("a") == State.COMPLETED
    manned.settle("w", b, FAILED)
    before = manned.everything()
    assert manned.settle("w", b) == [b]
    assert manned.settle("w", a, FAILED) == [a]
    assert manned.everything() == before


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, outcomes.interrupted(None, 15)])
def test_an_ending_of_an_earlier_claim_is_refused(manned: Pair, outcome: Outcome) -> None:
    """Once the job was handed out again, by whatever way, the first claim's answer changes nothing."""
    manned.enqueue("a")
    first = manned.claim_one("w")
    manned.work.give_back("w", [first])
    second = manned.claim_one("v")
    before = manned.everything()
    assert (second.id, second.attempt) == (first.id, first.attempt)
    assert manned.settle("w", first, outcome) == [first]
    assert manned.everything() == before
    assert manned.settle("v", second) == []
    assert manned.settle("w", first, outcome) == [first]
    assert manned.state("a") == State.COMPLETED


@pytest.mark.parametrize("part", ["token", "attempt", "seq"])
def test_every_part_of_a_claim_must_fit(manned: Pair, part: str) -> None:
    """An answer with another token, another attempt or another job is refused."""
    manned.enqueue("a")
    claim = manned.claim_one("w")
    before = manned.everything()
    change: dict[str, Any] = {part: getattr(claim, part) + 1}
    forged = claim._replace(**change)
    assert manned.settle("w", forged) == [forged]
    manned.work.give_back("w", [forged])
    assert manned.everything() == before
    assert manned.settle("w", claim) == []


def test_only_the_worker_that_holds_a_job_may_settle_it(manned: Pair) -> None:
    """Another worker that hands in the very claim is refused, and cannot give it back either."""
    manned.enqueue("a")
    claim = manned.claim_one("w")
    before = manned.everything()
    assert manned.settle("v", claim) == [claim]
    manned.work.give_back("v", [claim])
    assert manned.everything() == before


def test_a_late_answer_spoils_nothing_beside_it(manned: Pair) -> None:
    """Of endings handed in together, the ones that count are written and only the late are refused."""
    manned.enqueue("a", "b", "c")
    a, b, c = manned.claim("w", 3)
    manned.work.give_back("w", [b])
    settlements = [manned.settlement(claim) for claim in (a, b, c)]
    exchange = manned.work.exchange("w", settlements, 5)
    assert exchange.refused == [b]
    assert ids_of(exchange.claims) == ["b"]
    assert manned.ids([State.COMPLETED]) == ["a", "c"]


@pytest.mark.parametrize("late_first", [True, False])
def test_two_answers_for_one_job_are_told_apart(manned: Pair, late_first: bool) -> None:
    """A late and a current ending of the same job, handed in together: the current one is the one written."""
    manned.enqueue("a")
    late = manned.claim_one("w")
    manned.work.give_back("w", [late])
    current = manned.claim_one("w")
    endings = [manned.settlement(late, outcomes.exited(9)), manned.settlement(current)]
    refused = manned.work.exchange("w", endings if late_first else endings[::-1], 0).refused
    assert refused == [late]
    assert (manned.state("a"), manned.job("a").exit_code) == (State.COMPLETED, 0)
    assert [attempt.outcome for attempt in manned.jobs.attempts("a")] == ["succeeded"]


def test_an_id_used_again_is_another_job(manned: Pair) -> None:
    """The answer to a job that was deleted does not reach the next one with its id and place."""
    manned.enqueue("a")
    first = manned.claim_one("w")
    manned.work.fence("w")
    manned.work.rescue("w", lambda claim: (outcomes.LOST, outcomes.Verdict(State.DEAD, 1, 1)))
    manned.jobs.delete(["a"], [State.DEAD])
    manned.enqueue("a")
    second = manned.claim_one("v")
    manned.register("x")
    before = manned.everything()
    assert manned.settle("x", first) == [first]
    assert manned.settle("v", second._replace(token=first.token)) != []
    assert manned.everything() == before
    assert manned.jobs.attempts("a")[0].outcome == "running"


@pytest.mark.parametrize("worker", ["fenced", "unheard-of"])
def test_a_worker_without_leave_changes_nothing(manned: Pair, worker: str) -> None:
    """Given up for lost or never registered: it is told so, settles nothing and gets nothing."""
    manned.enqueue("a", "b")
    manned.register("fenced")
    claim = manned.claim_one("fenced")
    manned.work.fence("fenced")
    before = manned.everything()
    with pytest.raises(WorkerFenced):
        manned.work.exchange(worker, [manned.settlement(claim)], 1)
    assert manned.everything() == before
    assert manned.ids([State.PENDING]) == ["b"]
