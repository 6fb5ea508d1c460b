from __future__ import annotations

from collections.abc import Callable

from queuectl.clock import Clock
from queuectl.jobs.claim import Claim


def claim(number: int = 1, *, timeout: float | None = None, cwd: str = "/") -> Claim:
    """A claim of which only what matters is said."""
    return Claim(
        seq=number,
        id=f"job-{number}",
        command="true",
        cwd=cwd,
        env=None,
        attempt=1,
        max_retries=3,
        backoff_base=None,
        timeout=timeout,
        on_lost="retry",
        max_losses=None,
        losses=0,
        token=7,
    )


class HandClock(Clock):
    """Both clocks in one, which goes on only when it is told to."""

    __slots__ = ("moment",)

    def __init__(self) -> None:
        self.moment = 1_000_000_000

    def now(self) -> int:
        return self.moment

    def ticks(self) -> int:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += round(seconds * 1e6)


class FakeLog:
    """A log that only counts what is done to it."""

    fd = -1
    start = 0

    def __init__(self) -> None:
        self.limited = 0
        self.discarded = 0

    def limit(self, may_cut: Callable[[], bool]) -> None:
        self.limited += 1

    def discard(self) -> None:
        self.discarded += 1

    def shorten(self, may_cut: Callable[[], bool]) -> None:
        pass

    def close(self, words: str, at: int, seconds: float) -> int:
        return 0

    def abandon(self) -> int:
        return 0


class HeldLease:
    """A lease that never ends."""

    lost = False

    def configure(self, seconds: float) -> bool:
        return False

    def holds(self, ticks: int | None = None) -> bool:
        return True
