from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.jobs import outcome as outcomes
from queuectl.jobs.claim import Claim
from queuectl.jobs.lifecycle import MOVES, State
from queuectl.jobs.outcome import (
    LOST,
    LOST_BEFORE_START,
    SUCCEEDED,
    Outcome,
    Policy,
    Verdict,
    judge,
)
from queuectl.jobs.retry import LONGEST_BACKOFF_SECONDS, backoff_seconds

CODES = st.none() | st.integers(0, 255)
SIGNALS = st.none() | st.integers(1, 64)

FAILURES = (
    st.integers(1, 2**32 - 1).map(outcomes.exited)
    | st.integers(1, 64).map(lambda number: outcomes.killed(number, f"SIG{number}"))
    | st.builds(outcomes.timed_out, st.floats(0.001, 1e9), CODES, SIGNALS)
    | st.text().map(outcomes.not_started)
)
OTHERS = (
    st.builds(outcomes.cancelled, CODES, SIGNALS)
    | st.builds(outcomes.interrupted, CODES, SIGNALS)
    | st.sampled_from([SUCCEEDED, LOST, LOST_BEFORE_START])
)
BASES = st.floats(0, 3600)
POLICIES = st.builds(Policy, backoff_base=BASES, max_losses=st.integers(1, 1000))
CLAIMS = st.builds(
    Claim,
    seq=st.just(1),
    id=st.just("a"),
    command=st.just("true"),
    cwd=st.just("/"),
    env=st.none(),
    attempt=st.integers(1, 2000),
    max_retries=st.integers(0, 1000),
    backoff_base=st.none() | BASES,
    timeout=st.none(),
    on_lost=st.sampled_from(["retry", "fail", "hold"]),
    max_losses=st.none() | st.integers(1, 1000),
    losses=st.integers(0, 1000),
    token=st.just(1),
)

MOVE_OF = {
    "succeeded": "succeed",
    "cancelled": "stop",
    "interrupted": "interrupt",
    "lost": "rescue",
}
"""Which move an outcome is; the others fail, or exhaust, the job."""


def claim(
    *,
    attempt: int = 1,
    max_retries: int = 3,
    backoff_base: float | None = None,
    on_lost: str = "retry",
    max_losses: int | None = None,
    losses: int = 0,
) -> Claim:
    """A claim of which only what decides is said."""
    return Claim(
        seq=1,
        id="a",
        command="true",
        cwd="/",
        env=None,
        attempt=attempt,
        max_retries=max_retries,
        backoff_base=backoff_base,
        timeout=None,
        on_lost=on_lost,
        max_losses=max_losses,
        losses=losses,
        token=1,
    )


POLICY = Policy(backoff_base=2, max_losses=5)


# ---- the words for an outcome


@pytest.mark.parametrize(
    ("outcome", "facts"),
    [
        (SUCCEEDED, ("succeeded", 0, None, None)),
        (outcomes.exited(0), ("succeeded", 0, None, None)),
        (outcomes.exited(3), ("failed", 3, None, "exit status 3")),
        (outcomes.exited(126), ("failed", 126, None, "exit status 126 (not executable)")),
        (outcomes.exited(127), ("failed", 127, None, "exit status 127 (command not found)")),
        (outcomes.killed(11, "SIGSEGV"), ("failed", None, 11, "killed by SIGSEGV (signal 11)")),
        (outcomes.timed_out(90, None, 15), ("timeout", None, 15, "timeout: ran for over 90 s")),
        (outcomes.timed_out(0.5, 7, None), ("timeout", 7, None, "timeout: ran for over 0.5 s")),
        (outcomes.not_started("no folder"), ("not_started", None, None, "no folder")),
        (outcomes.cancelled(None, 9), ("cancelled", None, 9, "cancelled while it ran")),
        (
            outcomes.interrupted(1, None),
            ("interrupted", 1, None, "interrupted: its worker stopped"),
        ),
        (LOST, ("lost", None, None, "worker lost")),
    ],
)
def test_an_outcome_says_what_happened(
    outcome: Outcome, facts: tuple[str, int | None, int | None, str | None]
) -> None:
    """Each way to end keeps the exit code or the signal, and one line for people."""
    assert (outcome.kind, outcome.exit_code, outcome.signal, outcome.error) == facts


# ---- what becomes of the job


@given(CLAIMS, FAILURES | OTHERS, POLICIES)
def test_every_verdict_is_a_legal_move(claimed: Claim, outcome: Outcome, policy: Policy) -> None:
    """Whatever ran and however it ended, the job goes where the table of moves lets it go."""
    verdict = judge(claimed, outcome, policy)
    names = [MOVE_OF[outcome.kind]] if outcome.kind in MOVE_OF else ["fail", "exhaust"]
    targets = {target for move in MOVES if move.name in names for target in move.targets}
    assert all(State.PROCESSING in move.sources for move in MOVES if move.name in names)
    assert verdict.state in targets


@given(CLAIMS, FAILURES | OTHERS, POLICIES)
def test_a_verdict_counts_right(claimed: Claim, outcome: Outcome, policy: Policy) -> None:
    """Only an interruption takes an attempt back, only a loss counts as one, only a retry waits."""
    verdict = judge(claimed, outcome, policy)
    assert verdict.attempts == claimed.attempt - (outcome.kind == "interrupted")
    assert verdict.losses == claimed.losses + (outcome.kind == "lost")
    if verdict.delay is not None:
        assert verdict.state == State.FAILED
        assert 0 <= verdict.delay <= LONGEST_BACKOFF_SECONDS
    elif verdict.state == State.FAILED:
        assert outcome.kind == "lost"
        assert claimed.on_lost == "retry" or not outcome.begun


@given(CLAIMS, FAILURES | OTHERS, POLICIES)
def test_the_same_ending_gets_the_same_verdict(
    claimed: Claim, outcome: Outcome, policy: Policy
) -> None:
    """Nothing but the claim, the outcome and the policy decides."""
    assert judge(claimed, outcome, policy) == judge(claimed, outcome, policy)


@given(FAILURES, st.integers(0, 50), st.none() | BASES)
def test_a_failing_job_runs_once_more_than_its_retries(
    outcome: Outcome, max_retries: int, base: float | None
) -> None:
    """Each failure but the last gives a retry after base ** attempts seconds; the last one is the end."""
    attempt = 1
    while True:
        claimed = claim(attempt=attempt, max_retries=max_retries, backoff_base=base)
        verdict = judge(claimed, outcome, POLICY)
        if verdict.state == State.DEAD:
            break
        assert verdict == Verdict(
            State.FAILED, attempt, 0, backoff_seconds(2 if base is None else base, attempt)
        )
        attempt += 1
    assert attempt == max_retries + 1


def test_a_job_decides_before_the_configuration() -> None:
    """backoff_base and max_losses of the job win; 0 is a value like any other."""
    assert judge(claim(), outcomes.exited(1), POLICY).delay == 2
    assert judge(claim(backoff_base=0), outcomes.exited(1), POLICY).delay == 0
    assert judge(claim(losses=3), LOST, POLICY).state == State.FAILED
    assert judge(claim(losses=3, max_losses=4), LOST, POLICY).state == State.DEAD


@pytest.mark.parametrize(
    ("on_lost", "attempt", "verdict"),
    [
        ("retry", 1, Verdict(State.FAILED, 1, 1, None)),
        ("retry", 9, Verdict(State.FAILED, 9, 1, None)),
        ("fail", 1, Verdict(State.FAILED, 1, 1, 2.0)),
        ("fail", 3, Verdict(State.FAILED, 3, 1, 8.0)),
        ("fail", 4, Verdict(State.DEAD, 4, 1)),
        ("hold", 1, Verdict(State.DEAD, 1, 1)),
    ],
)
def test_a_lost_worker_is_the_jobs_own_affair(on_lost: str, attempt: int, verdict: Verdict) -> None:
    """`retry` is due at once and past max_retries, `fail` is an ordinary failure, `hold` waits for a person."""
    assert judge(claim(on_lost=on_lost, attempt=attempt), LOST, POLICY) == verdict


@pytest.mark.parametrize("on_lost", ["retry", "fail", "hold"])
def test_what_had_not_begun_is_due_at_once(on_lost: str) -> None:
    """Whatever on_lost says, also past max_retries; the loss counts, and ends a job like any other."""
    claimed = claim(on_lost=on_lost, attempt=9, losses=3)
    assert judge(claimed, LOST_BEFORE_START, POLICY) == Verdict(State.FAILED, 9, 4, None)
    claimed = claimed._replace(losses=4)
    assert judge(claimed, LOST_BEFORE_START, POLICY) == Verdict(State.DEAD, 9, 5)


@given(CLAIMS, POLICIES, st.sampled_from([LOST, LOST_BEFORE_START]))
def test_a_job_that_kills_its_workers_comes_to_an_end(
    claimed: Claim, policy: Policy, lost: Outcome
) -> None:
    """Lost again and again, a job is dead after at most max_losses runs more, whether or not it is
    known to have begun.
    """
    limit = policy.max_losses if claimed.max_losses is None else claimed.max_losses
    claimed = claimed._replace(losses=0)
    for _ in range(limit):
        verdict = judge(claimed, lost, policy)
        if verdict.state == State.DEAD:
            return
        claimed = claimed._replace(losses=verdict.losses, attempt=verdict.attempts + 1)
    pytest.fail(f"still {verdict.state} after {limit} losses")


def test_verdicts_are_compared_by_what_they_say() -> None:
    """Two verdicts are equal when all of it is; a verdict is equal to nothing else, and has no hash."""
    verdict = Verdict(State.FAILED, 1, 0, 2.0)
    assert verdict == Verdict(State.FAILED, 1, 0, 2.0)
    for other in (
        Verdict(State.DEAD, 1, 0, 2.0),
        Verdict(State.FAILED, 2, 0, 2.0),
        Verdict(State.FAILED, 1, 1, 2.0),
        Verdict(State.FAILED, 1, 0),
    ):
        assert verdict != other
    assert verdict != (State.FAILED, 1, 0, 2.0)
    with pytest.raises(TypeError):
        hash(verdict)
    assert "failed" in repr(verdict)
    assert "exit status 3" in repr(outcomes.exited(3))
