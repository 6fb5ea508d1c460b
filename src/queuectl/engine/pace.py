"""How many jobs to claim ahead of the free slots, and how long to gather outcomes. Pure.

Claiming ahead hides the time that a commit takes, and is right only while jobs are short: a job
that is held must not wait behind a long one while another worker idles.
"""

from __future__ import annotations

HORIZON_SECONDS = 0.1
"""Only what will start within this time is claimed ahead."""

MOST_AHEAD = 512

GATHER_SECONDS = 0.025
"""The longest that outcomes are gathered for one commit."""

GATHER_AND_TWO_COMMITS_SECONDS = 0.04
"""An outcome may come just as a commit begins: that one, the gathering and the commit that takes it
must be over well within the 50 ms after which it is promised to be on the disk."""


class Pace:
    """Estimates how long attempts and commits take, from the recent ones."""

    __slots__ = ("_commit_seconds", "_mean_seconds", "_slots")

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._mean_seconds: float | None = None
        self._commit_seconds = 0.0

    def ended(self, seconds: float) -> None:
        """An attempt ended after `seconds`."""
        if self._mean_seconds is None:
            self._mean_seconds = seconds
        else:
            self._mean_seconds += (seconds - self._mean_seconds) / 8

    def committed(self, seconds: float) -> None:
        """A commit took so long."""
        self._commit_seconds += (seconds - self._commit_seconds) / 4

    def gather_seconds(self) -> float:
        """How long outcomes may be gathered after a commit: less where commits are slow."""
        room = GATHER_AND_TWO_COMMITS_SECONDS - 2 * self._commit_seconds
        return min(max(room, 0.0), GATHER_SECONDS)

    def slow(self) -> None:
        """What was claimed ahead could not be started in time: begin to learn anew."""
        self._mean_seconds = None

    def ahead(self) -> int:
        """How many jobs the slots will come to start within the horizon, from 0 to 512; none
        while nothing is known.
        """
        if self._mean_seconds is None:
            return 0
        if self._mean_seconds * MOST_AHEAD <= HORIZON_SECONDS * self._slots:
            return MOST_AHEAD
        return int(HORIZON_SECONDS * self._slots / self._mean_seconds)
