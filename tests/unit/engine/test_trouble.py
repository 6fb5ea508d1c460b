"""What people are told of a database that cannot be used."""

from __future__ import annotations

from queuectl.engine.trouble import Trouble
from queuectl.errors import DatabaseReadOnly, DatabaseUnreachable, DiskFull


def test_trouble_is_told_of_when_it_changes() -> None:
    """Once for each kind, and in other words when these last: while a server goes down and comes up
    there are many of them.
    """
    said: list[str] = []
    trouble = Trouble(said.append)
    ended, refused, starts = (
        DatabaseUnreachable(f"cannot reach pg: {why}") for why in ("ended", "refused", "starts")
    )
    for error in (ended, refused, ended, starts, starts, refused, refused, ended):
        trouble.met(error)
    assert said == ["lost the connection to pg: ended; trying again"]
    for _ in range(9):
        trouble.met(refused)
    for other in (DatabaseReadOnly("pg takes no writes"), DiskFull("the disk is full"), refused):
        trouble.met(other)
        trouble.met(other)
    before = [trouble.is_known]
    trouble.is_over()
    trouble.is_over()
    assert [*before, trouble.is_known] == [True, False]
    assert said[1:] == [
        "cannot reach pg: refused; trying again",
        "pg takes no writes; going on as soon as it can be written",
        "the disk is full; going on as soon as it can be written",
        "lost the connection to pg: refused; trying again",
        "connected to the database again",
    ]


def test_silence_is_told_of_once_it_lasts() -> None:
    """Not at first sight, for a process that stood still sees it for a moment; once, and with its end."""
    said: list[str] = []
    trouble, second = Trouble(said.append), 1_000_000
    trouble.mind_silence(0, 4 * second, 60)
    trouble.mind_silence(1, 9 * second, 60)
    trouble.mind_silence(2, 0, 60)  # It was no more than that.
    trouble.mind_silence(10 * second, 6 * second, 60)
    assert said == []
    trouble.mind_silence(11 * second, 7 * second, 60)
    trouble.mind_silence(20 * second, 16 * second, 60)
    assert len(said) == 1
    assert "has not answered for 7 s" in said[0]
    assert trouble.is_known
    trouble.is_over()
    trouble.is_over()
    assert said[1:] == ["the database answers again"]
    assert not trouble.is_known


def test_a_short_lease_is_less_patient() -> None:
    """What it holds is ended before the lease is over: that is said before."""
    said: list[str] = []
    trouble = Trouble(said.append)
    trouble.mind_silence(0, 1_000_000, 6)
    trouble.mind_silence(1_000_000, 2_000_000, 6)
    assert len(said) == 1
