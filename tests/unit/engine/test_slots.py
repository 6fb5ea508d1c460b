from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import cast

from queuectl.engine.attempt import Attempt
from queuectl.engine.execute import Executor
from queuectl.engine.ledger import Ledger
from queuectl.engine.running import Running
from queuectl.engine.slots import Slots
from queuectl.job_logs.open_log import OpenLog
from queuectl.jobs.claim import Claim
from queuectl.jobs.outcome import SUCCEEDED, Policy
from tests.support import wait_until
from tests.unit.engine.support import FakeLog, HandClock, claim


class SlowLog(FakeLog):
    """A log that takes until it is told to be cut to its length."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = threading.Event()

    def shorten(self, may_cut: Callable[[], bool]) -> None:
        assert self.may_end.wait(20)


class Counter:
    """In the places of the executor and the ledger: starts what has ended already, notes its end."""

    def __init__(self) -> None:
        self.ready: SimpleQueue[Claim | None] = SimpleQueue()
        self.log = SlowLog()
        self.ended: list[int] = []

    def start(self, claim: Claim, may_start: object) -> Attempt:
        log = self.log if claim.seq == 1 else FakeLog()
        attempt = Attempt(claim, cast(OpenLog, log), started_at=0, started_ticks=0, timeout=0)
        attempt.end_with(SUCCEEDED)
        return attempt

    def took_one(self, ticks: int) -> None:
        pass

    def settle(self, attempt: Attempt) -> None:
        self.ended.append(attempt.claim.seq)


def test_a_long_log_keeps_no_other_outcome_waiting() -> None:
    """While the log of one run is cut to its length, the outcomes of others are handed over."""
    counter, clock = Counter(), HandClock()
    slots = Slots(
        2,
        clock=clock,
        executor=cast(Executor, counter),
        running=Running("/q.db", clock, lambda: True),
        ledger=cast(Ledger, counter),
        may_start=lambda ticks: True,
        on_no_room=lambda reason: None,
        on_defect=lambda what: None,
        on_ended=None,
        policy=lambda: Policy(backoff_base=2, max_losses=5),
    )
    slots.start()
    for seq in (1, 2, 3):
        counter.ready.put(claim()._replace(seq=seq))
    wait_until(lambda: len(counter.ended) == 2)
    assert sorted(counter.ended) == [2, 3]
    counter.log.may_end.set()
    slots.close()
    assert sorted(counter.ended) == [1, 2, 3]
