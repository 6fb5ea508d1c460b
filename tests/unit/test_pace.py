from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.engine.pace import HORIZON_SECONDS, MOST_AHEAD, Pace

SLOTS = st.integers(1, 4096)
SECONDS = st.floats(0, 1e9) | st.floats(0, 1e-300) | st.just(0.0)


def after(slots: int, lengths: Iterable[float]) -> Pace:
    """What a worker has learned from attempts of these lengths."""
    pace = Pace(slots)
    for seconds in lengths:
        pace.ended(seconds)
    return pace


@given(SLOTS)
def test_nothing_is_claimed_ahead_of_what_is_known(slots: int) -> None:
    """A new worker, which knows nothing of its jobs, claims for its free slots alone."""
    assert Pace(slots).ahead() == 0


@given(SLOTS, st.lists(SECONDS, max_size=200))
def test_what_is_claimed_ahead_has_bounds(slots: int, lengths: list[float]) -> None:
    """Whatever the jobs were like, the answer is a number from 0 to the most."""
    ahead = after(slots, lengths).ahead()
    assert isinstance(ahead, int)
    assert 0 <= ahead <= MOST_AHEAD


@pytest.mark.parametrize("slots", [1, 2, 64])
def test_thousands_of_jobs_that_take_no_time(slots: int) -> None:
    """Jobs that could not even be started take no time at all, and may be many: the most is still the most."""
    pace = Pace(slots)
    for _ in range(20_000):
        pace.ended(0.0)
        assert 0 <= pace.ahead() <= MOST_AHEAD
    assert pace.ahead() == MOST_AHEAD


@given(SLOTS, st.floats(1e-6, 10))
def test_what_is_claimed_ahead_starts_within_the_horizon(slots: int, seconds: float) -> None:
    """For jobs of one length it is as many as all slots start in that time, but for the rounding."""
    ahead = after(slots, [seconds] * 500).ahead()
    fitting = min(HORIZON_SECONDS * slots / seconds, MOST_AHEAD)
    assert fitting * 0.99 - 1 <= ahead <= fitting * 1.01


@given(SLOTS, st.floats(0, 0.01), st.floats(0.01, 100))
def test_longer_jobs_are_claimed_later(slots: int, shorter: float, longer: float) -> None:
    """Jobs that take longer are never claimed further ahead."""
    assert after(slots, [longer] * 50).ahead() <= after(slots, [shorter] * 50).ahead()


@given(SLOTS)
def test_one_long_job_among_short_ones_makes_it_careful(slots: int) -> None:
    """As soon as a job takes a second per slot, nothing is held that could wait behind such a one."""
    assert after(slots, [0.001] * 100 + [1.0 * slots]).ahead() == 0


@given(SLOTS, st.lists(SECONDS, max_size=50))
def test_what_could_not_be_started_in_time_begins_anew(slots: int, lengths: list[float]) -> None:
    """After a claim had to be given back, nothing is claimed ahead until jobs prove short again."""
    pace = after(slots, lengths)
    pace.slow()
    assert pace.ahead() == 0
    for _ in range(100):
        pace.ended(0.0001)
    assert pace.ahead() > 0
