"""A worker whose commands are over before they begin:
`python -m bench._noop_worker LOCATION SLOTS [COUNT]`.

Everything else is the worker's own: claims, outcomes, attempts, lease. What is left is what the
queue costs. It prints the seconds of its drain; with COUNT it puts so many jobs in first, and prints
the seconds of that before them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from queuectl import JobQueue
from queuectl.clock import Clock
from queuectl.config import Config
from queuectl.engine import run
from queuectl.engine.attempt import Attempt
from queuectl.job_logs.open_log import NoLog
from queuectl.jobs.claim import Claim
from queuectl.jobs.outcome import SUCCEEDED
from queuectl.workspace import Workspace

_NO_LOG = NoLog()


class NoopExecutor:
    """Takes the place of `queuectl.engine.execute.Executor`."""

    def __init__(self, *, clock: Clock, **_: object) -> None:
        self._clock = clock

    def configure(self, config: Config) -> None:
        """Has nothing to configure."""

    def start(self, claim: Claim, _may_start: Callable[[], bool]) -> Attempt:
        """An attempt that has succeeded already."""
        attempt = Attempt(
            claim,
            _NO_LOG,
            started_at=self._clock.now(),
            started_ticks=self._clock.ticks(),
            timeout=0,
        )
        attempt.end_with(SUCCEEDED)
        return attempt


def main() -> None:
    """Drains the queue at a location."""
    location, slots = sys.argv[1], int(sys.argv[2])
    setattr(run, "Executor", NoopExecutor)  # noqa: B010 - it is no attribute to assign to
    if len(sys.argv) > 3:
        jobs = [{"command": "true", "cwd": "/"}] * int(sys.argv[3])
        with JobQueue.open(location) as queue:
            start = time.perf_counter()
            queue.enqueue_many(jobs)
            print(time.perf_counter() - start)
    start = time.perf_counter()
    run.run_worker(Workspace(location), run.Orders(slots=slots, drain=True), say=lambda line: None)
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
