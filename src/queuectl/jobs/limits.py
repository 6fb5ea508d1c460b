"""The largest values there may be, for a job as for the setting it falls back on."""

from __future__ import annotations

QUEUE = "default"
"""The one queue there is so far: no worker looks for jobs of another."""

MOST_RETRIES = 1_000

LARGEST_BACKOFF_BASE = 3_600

LONGEST_TIMEOUT_SECONDS = 31_536_000
"""A year."""

MOST_LOSSES = 1_000

LONGEST_SECONDS = 315_360_000
"""Ten years: the longest of all lengths of time."""

ON_LOST = ("retry", "fail", "hold")
"""What may become of a job whose worker is lost."""
