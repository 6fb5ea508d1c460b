"""Where claims begin to look, while dead entries pile up at the head of the index of ready jobs.

Jobs are claimed at the head of that index, so what has been claimed leaves its entries there. The
server clears them away, unless somebody holds a transaction open: a backup, a report, a forgotten
session. Then each claim would walk over the entries of all jobs that went through since.

So the first claim that finds the walk long leaves word of where it ended, in two sequences, which are
read without a lock and have no dead rows themselves. For a time that is a multiple of what the walk
took, all workers begin there; then one of them walks it all again. What came in before that place
meanwhile, a retry or a job of higher priority, waits until then, unless there is nothing else to do.
While no walk is long, every claim begins at the head.
"""

from __future__ import annotations

SLOW_SECONDS = 0.005
"""A walk that took less is not worth avoiding."""

MANY_DEAD = 20_000
"""Dead rows of the table, below which it was not they that made a walk slow."""

TIMES_THE_WALK = 20
"""How long the others begin at the front, in terms of the walk: a twentieth of one worker's time goes
into walking."""

LONGEST_SECONDS = 10.0
"""The longest that what came in before the front is left waiting."""

WALKING_SECONDS = 1.0
"""How long the others go on as they did while one walks."""

NOBODYS = 1
"""In place of a time: nobody needs a front."""

_RECENTLY = 60_000_000
"""Nobody minds a front that was left so long ago (60 s, in microseconds)."""

_BITS = 42
"""Those of a job's number: four million millions. With the priority above them it is one number."""

HEAD = -(1 << 62)


def place(priority: int, seq: int) -> int:
    """Where a job stands among the ready ones: the lower, the sooner it is claimed."""
    return (-priority << _BITS) + seq


def bounds(where: int) -> dict[str, int]:
    """A place as the statements have it: nothing that is claimed sooner is looked at."""
    return {"from_rank": where >> _BITS, "from_seq": where & ((1 << _BITS) - 1)}


class Front:
    """What one worker knows of it. Times are those of the database's clock."""

    __slots__ = ("_until", "_where")

    def __init__(self) -> None:
        self._where = HEAD
        self._until = 0

    def hear(self, where: int, until: int) -> None:
        """Takes over what the database says, unless this worker has come further since."""
        self._where = max(self._where, where) if until == self._until else where
        self._until = until

    def begin(self, now: int) -> int:
        """Where the next claim begins."""
        # A clock that was set back must not make it last.
        holds = now < self._until <= now + int(LONGEST_SECONDS * 1e6)
        return self._where if holds else HEAD

    def is_somebodys_turn(self, now: int) -> bool:
        """Whether one is to walk, while the others go on as they did."""
        return 0 <= now - self._until < _RECENTLY

    def advance(self, where: int) -> None:
        """A claim that began at the front found its first job here."""
        self._where = where


def until(now: int, seconds: float) -> int:
    """How long others begin at the front after a walk that took so long."""
    return now + int(min(seconds * TIMES_THE_WALK, LONGEST_SECONDS) * 1e6)
