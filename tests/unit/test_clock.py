from __future__ import annotations

import subprocess
import sys
import time

import pytest

from queuectl.clock import Clock
from queuectl.storage.postgres.clock import DatabaseClock


def test_now_is_the_wall_clock_in_microseconds() -> None:
    """The time is that of the machine, as a whole number of microseconds."""
    before = time.time_ns() // 1000
    now = Clock().now()
    assert isinstance(now, int)
    assert before <= now <= time.time_ns() // 1000


def test_ticks_never_go_back() -> None:
    """Elapsed time only grows, in microseconds, whoever asks."""
    seen = [Clock().ticks() for _ in range(1_000)]
    assert seen == sorted(seen)
    before = time.monotonic_ns() // 1000
    assert before <= Clock().ticks() <= time.monotonic_ns() // 1000


def test_ticks_are_the_same_in_every_process() -> None:
    """Another process of this machine counts from the same moment, so that it can judge a lease."""
    before = Clock().ticks()
    script = "from queuectl.clock import Clock; print(Clock().ticks())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert before <= int(done.stdout) <= Clock().ticks()


@pytest.mark.parametrize(
    ("away", "back"),
    [(0, 0), (300, 100), (0, 9_000_000), (9_000_000, 0)],
    ids=["at once", "soon", "answer late", "question late"],
)
def test_a_late_answer_leaves_the_databases_clock_as_it_was_known(away: int, back: int) -> None:
    """The question, or the answer, was long on its way through a network that was cut: what was known
    before is not given up for a guess.
    """
    ticks, ahead = 50_000_000, 7_000_000_000

    class Here(DatabaseClock):
        __slots__ = ()

        def ticks(self) -> int:
            return ticks

    clock = Here()
    clock.learn(ticks + ahead, ticks)
    asked = ticks
    ticks += away + back
    clock.learn(asked + away + ahead, asked)
    assert clock.now() == ticks + ahead


def test_a_databases_clock_that_was_set_is_followed() -> None:
    """The next answer says so, and is believed."""
    clock = DatabaseClock()
    for jump in (3_600_000_000, -3_600_000_000):
        asked = clock.ticks()
        clock.learn(asked + 7_000_000_000 + jump, asked)
        assert abs(clock.now() - (clock.ticks() + 7_000_000_000 + jump)) < 1_000_000
