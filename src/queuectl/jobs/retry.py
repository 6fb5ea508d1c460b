"""When a failed attempt is tried again: exponential backoff."""

from __future__ import annotations

LONGEST_BACKOFF_SECONDS = 365 * 86400.0
"""No retry waits for longer than a year, whatever its base and attempts make of it."""


def backoff_seconds(base: float, attempts: int) -> float:
    """The wait after the `attempts`-th attempt failed: `base ** attempts`, at most a year."""
    try:
        return min(float(base) ** attempts, LONGEST_BACKOFF_SECONDS)
    except OverflowError:
        return LONGEST_BACKOFF_SECONDS


def exhausted(attempts: int, max_retries: int) -> bool:
    """Whether a job that failed its `attempts`-th attempt is out of attempts.

    `max_retries` counts the runs after the first: 3 allows up to 4 runs.
    """
    return attempts > max_retries
