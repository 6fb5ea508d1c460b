from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.jobs.retry import LONGEST_BACKOFF_SECONDS, backoff_seconds, exhausted

BASES = st.floats(0, 3600)
ATTEMPTS = st.integers(1, 2000) | st.integers(1, 10**400)


@pytest.mark.parametrize(
    ("base", "attempts", "seconds"),
    [
        (2, 1, 2),
        (2, 2, 4),
        (2, 10, 1024),
        (3, 3, 27),
        (1.5, 2, 2.25),
        (1, 1000, 1),
        (0, 1, 0),
        (0.5, 2, 0.25),
        (2, 25, LONGEST_BACKOFF_SECONDS),
        (3600, 1000, LONGEST_BACKOFF_SECONDS),
        (10, 10**30, LONGEST_BACKOFF_SECONDS),
    ],
)
def test_backoff_is_the_base_to_the_power_of_the_attempts(
    base: float, attempts: int, seconds: float
) -> None:
    """The original's formula, up to a year."""
    assert backoff_seconds(base, attempts) == seconds


@given(BASES, ATTEMPTS)
def test_backoff_is_always_a_usable_wait(base: float, attempts: int) -> None:
    """No base and no count of attempts gives anything but a number of seconds up to the longest."""
    seconds = backoff_seconds(base, attempts)
    assert isinstance(seconds, float)
    assert math.isfinite(seconds)
    assert 0 <= seconds <= LONGEST_BACKOFF_SECONDS


@given(st.floats(1, 3600), st.integers(1, 3000))
def test_backoff_never_falls(base: float, attempts: int) -> None:
    """With a base of 1 or more no attempt waits less than the one before."""
    assert backoff_seconds(base, attempts) <= backoff_seconds(base, attempts + 1)


@given(st.tuples(BASES, BASES), st.integers(1, 3000))
def test_backoff_grows_with_its_base(bases: tuple[float, float], attempts: int) -> None:
    """A larger base never gives a shorter wait."""
    smaller, larger = sorted(bases)
    assert backoff_seconds(smaller, attempts) <= backoff_seconds(larger, attempts)


@given(st.integers(0, 1000))
def test_attempts_are_exhausted_after_one_run_more_than_retries(max_retries: int) -> None:
    """max_retries of n allows n + 1 runs: the last of them, and no earlier one, exhausts the job."""
    verdicts = [exhausted(attempt, max_retries) for attempt in range(1, max_retries + 3)]
    assert verdicts == [False] * max_retries + [True, True]
