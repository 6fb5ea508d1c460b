"""A worker whose wall clock is set by a file: QUEUE_OF_A_TEST/skew holds microseconds to add."""

from __future__ import annotations

import os
import sys
import time

from queuectl.cli import main
from queuectl.clock import Clock

_PATH = os.path.join(os.environ["QUEUE_OF_A_TEST"], "skew")


def _now(_clock: Clock) -> int:
    try:
        with open(_PATH, encoding="ascii") as file:
            skew = int(file.read())
    except FileNotFoundError:
        skew = 0
    return time.time_ns() // 1000 + skew


if __name__ == "__main__":
    Clock.now = _now  # type: ignore[method-assign, assignment]
    sys.exit(main())
