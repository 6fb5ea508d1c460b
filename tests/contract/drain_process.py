"""A process that claims and settles until nothing is left: `python drain_process.py LOCATION WORKER`.

It waits for a line on stdin before it begins, and prints a line "id attempt" for each claim.
"""

from __future__ import annotations

import sys

from queuectl.clock import Clock
from queuectl.jobs.outcome import SUCCEEDED, judge
from queuectl.storage import open_worker_storage
from queuectl.storage.records import Settlement
from tests.contract.support import FAILED, POLICY, new_worker


def main(location: str, worker: str) -> None:
    """Runs every job of the queue, each of which fails once."""
    clock = Clock()
    storage = open_worker_storage(location, clock)
    storage.register(new_worker(worker))
    print("ready", flush=True)
    sys.stdin.readline()
    settlements: list[Settlement] = []
    while True:
        exchange = storage.exchange(worker, settlements, wanted=4)
        assert exchange.refused == []
        if not exchange.claims and not storage.outlook(worker).unfinished:
            break
        settlements = []
        for claim in exchange.claims:
            print(claim.id, claim.attempt)
            # Each job fails at first, and is due again at once.
            outcome = FAILED if claim.attempt == 1 else SUCCEEDED
            verdict = judge(claim, outcome, POLICY)
            now = clock.now()
            settlements.append(Settlement(claim, outcome, verdict, worker, now, now, None, None))
    storage.unregister(worker)
    storage.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
