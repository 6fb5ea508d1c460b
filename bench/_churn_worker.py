"""A worker that never ends, whose commands are over before they begin, and which tells how it goes:
`python -m bench._churn_worker LOCATION SLOTS`.

Four times a second it prints, as one JSON list, how many outcomes it wrote since the last line, and
the milliseconds that the server took to find the jobs of each of its claims. SIGTERM stops it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence

from bench._noop_worker import NoopExecutor
from queuectl.clock import Clock
from queuectl.engine import run
from queuectl.storage.postgres.work import PostgresWorkerStorage
from queuectl.storage.records import Exchange, Settlement
from queuectl.workspace import Workspace

_EVERY_SECONDS = 0.25

_settled: list[int] = []
_claim_ms: list[float] = []


class _Watched(PostgresWorkerStorage):
    """Notes what it does, as the ledger's thread does it."""

    def exchange(self, worker_id: str, settlements: Sequence[Settlement], wanted: int) -> Exchange:
        done = super().exchange(worker_id, settlements, wanted)
        _settled.append(len(settlements) - len(done.refused))
        return done

    def _mind_the_front(self, where: int, found: int | None, walked: float, *, leads: bool) -> None:
        _claim_ms.append(walked * 1e3)
        super()._mind_the_front(where, found, walked, leads=leads)


def _open(location: str, clock: Clock | None = None) -> _Watched:
    return _Watched(location, clock)


def _tell() -> None:
    while True:
        time.sleep(_EVERY_SECONDS)
        # What is added meanwhile is told next time.
        settled, claims = _settled[:], _claim_ms[:]
        del _settled[: len(settled)], _claim_ms[: len(claims)]
        print(json.dumps([sum(settled), [round(ms, 3) for ms in claims]]), flush=True)


def main() -> None:
    """Works on the queue at a location."""
    location, slots = sys.argv[1], int(sys.argv[2])
    setattr(run, "Executor", NoopExecutor)  # noqa: B010 - it is no attribute to assign to
    setattr(run, "open_worker_storage", _open)  # noqa: B010 - nor is this
    threading.Thread(target=_tell, daemon=True).start()
    run.run_worker(Workspace(location), run.Orders(slots=slots), say=lambda line: None)


if __name__ == "__main__":
    main()
