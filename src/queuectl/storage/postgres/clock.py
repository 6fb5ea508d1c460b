"""The database's clock, as it can be read on this machine without asking every time."""

from __future__ import annotations

from queuectl.clock import Clock


class DatabaseClock(Clock):
    """What the database's clock showed when it was last asked, and what time has passed here since.

    `now` goes by it, so that all machines agree on what is due. Elapsed time stays this machine's
    own: nobody's clock change may end a command.
    """

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        self._ahead = super().now() - self.ticks()

    def learn(self, database_now: int, asked_ticks: int) -> None:
        """The database's clock showed this, between `asked_ticks` and now.

        What is known already stays as far as that allows: an answer that was long on its way tells
        little.
        """
        self._ahead = min(max(self._ahead, database_now - self.ticks()), database_now - asked_ticks)

    def now(self) -> int:
        """Microseconds since the epoch, by the database's clock."""
        return self.ticks() + self._ahead

    def shared(self) -> int:
        """The same: every machine can read it."""
        return self.now()
