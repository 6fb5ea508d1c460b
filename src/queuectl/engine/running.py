"""The attempts that run in one worker, looked after by its main thread: timeouts, log sizes, ends."""

from __future__ import annotations

import time

from queuectl.marks import Census

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from queuectl.clock import Clock
    from queuectl.engine.attempt import Attempt

LOOK_SECONDS = 0.1
"""How often running attempts are looked at."""

LOOK_CLOSELY_SECONDS = 0.01
"""The same while one is being ended, for that is soon over."""


class Running:
    """The attempts in a worker's slots. Slots add and remove them; the main thread does the rest.

    `has_lease` tells whether what runs is surely still this worker's.
    """

    def __init__(self, database: str, clock: Clock, has_lease: Callable[[], bool]) -> None:
        self.census = Census(database, has_lease)
        self._clock = clock
        self.has_lease = has_lease
        # No lock: a set adds, discards and copies as one step.
        self._attempts: set[Attempt] = set()
        self.latest: Attempt | None = None
        """What was started last."""
        self.grace_seconds = 0.0
        """Between SIGTERM and SIGKILL, unless there is a hurry."""
        self._in_a_hurry = False

    def __len__(self) -> int:
        return len(self._attempts)

    def hurry(self) -> None:
        """From now on nothing is asked to end: it is killed."""
        self._in_a_hurry = True

    def add(self, attempt: Attempt) -> None:
        """An attempt was started."""
        self._attempts.add(attempt)
        self.latest = attempt

    def remove(self, attempt: Attempt) -> None:
        """It has ended."""
        self._attempts.discard(attempt)

    def all(self) -> set[Attempt]:
        """What runs at this moment."""
        return self._attempts.copy()

    def end(self, attempts: Iterable[Attempt], why: str) -> None:
        """Begins to end these."""
        since = time.monotonic()  # One look at all processes serves all of them.
        for attempt in attempts:
            self._end(attempt, why, since)

    def end_claims(self, claims: Iterable[tuple[int, int]], why: str) -> None:
        """Begins to end the attempts of these claims, given as (token, seq)."""
        wanted, since = set(claims), time.monotonic()
        for attempt in self._attempts.copy():
            if (attempt.claim.token, attempt.claim.seq) in wanted:
                self._end(attempt, why, since)

    def end_rest(self, attempt: Attempt) -> None:
        """Begins to end what an attempt left behind whose first process was killed."""
        self._end(attempt, "killed", time.monotonic())

    def look_after(self) -> float:
        """Ends what has run for too long, kills what would not end, limits the logs; returns how
        many seconds this may be left alone.
        """
        ticks, since = self._clock.ticks(), time.monotonic()
        pause = LOOK_SECONDS
        for attempt in self._attempts.copy():
            if attempt.ending is not None:
                pause = LOOK_CLOSELY_SECONDS
                if ticks >= attempt.kill_ticks or self._in_a_hurry:
                    attempt.kill(self.census, since)
            elif attempt.deadline_ticks is not None and ticks >= attempt.deadline_ticks:
                pause = LOOK_CLOSELY_SECONDS
                self._end(attempt, "timeout", since)
            else:
                attempt.limit_log(self.has_lease)
        return pause

    def _end(self, attempt: Attempt, why: str, since: float) -> None:
        grace_seconds = 0.0 if self._in_a_hurry else self.grace_seconds
        attempt.end(
            why,
            kill_ticks=self._clock.ticks() + int(grace_seconds * 1e6),
            census=self.census,
            since=since,
            politely=grace_seconds > 0,
        )
