from __future__ import annotations

import subprocess
import sys
import time

from queuectl.clock import Clock


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
