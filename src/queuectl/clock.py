"""The two clocks: the wall clock for what people read, and one that no clock change can move."""

from __future__ import annotations

import time


class Clock:
    """Wall time and elapsed time of this machine, both in microseconds. Tests put in their own."""

    __slots__ = ()

    def now(self) -> int:
        """Microseconds since the epoch, UTC. May jump when somebody sets the clock."""
        return time.time_ns() // 1000

    def ticks(self) -> int:
        """Microseconds that this machine has been awake. Never jumps.

        It is the same in every process of the machine, so that one can judge another's lease;
        and it stands still while the machine sleeps, so that no lease runs out meanwhile.
        """
        return time.monotonic_ns() // 1000

    def shared(self) -> int:
        """Microseconds by the clock that all who share a queue can read: their leases go by it.

        That is `ticks` where all of them are on one machine.
        """
        return self.ticks()
