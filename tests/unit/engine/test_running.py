from __future__ import annotations

from typing import cast

from queuectl.bell import Bell
from queuectl.config import Config
from queuectl.engine.attempt import Attempt
from queuectl.engine.execute import Executor
from queuectl.engine.ledger import Ledger
from queuectl.engine.running import LOOK_SECONDS, Running
from queuectl.engine.worker import Worker
from queuectl.job_logs import OpenLog
from tests.unit.engine.support import FakeLog, HandClock, HeldLease, claim


class Noted(Attempt):
    """An attempt of which only is noted why it was to end."""

    __slots__ = ("noted",)

    def __init__(self, clock: HandClock, timeout: float) -> None:
        log = cast(OpenLog, FakeLog())
        started = clock.ticks()
        super().__init__(claim(), log, started_at=0, started_ticks=started, timeout=timeout)
        self.noted: list[str] = []

    def end(self, why: str, **_: object) -> bool:
        self.noted.append(why)
        return True


def test_a_timeout_is_acted_on_when_its_time_has_come() -> None:
    """At every look before the deadline nothing happens, at the first one after it the attempt is
    ended, and no look lies more than a tenth of a second after the one before.
    """
    clock = HandClock()
    running = Running("/q.db", clock, lambda: True)
    attempt = Noted(clock, timeout=2)
    running.add(attempt)
    begun = clock.ticks()
    while not attempt.noted:
        before = clock.ticks()
        pause = running.look_after()
        assert bool(attempt.noted) == (before - begun >= 2_000_000)
        assert 0 < pause <= 0.1
        clock.advance(pause)
    assert attempt.noted == ["timeout"]
    assert before - begun < 2_100_000


class FakeLedger:
    """A ledger that holds a claim until it is told otherwise."""

    lease = HeldLease()
    may_be_cut_off = False
    failure = None
    outdated = None
    outlook = None
    is_drained = False
    held = 1

    def is_lively(self) -> bool:
        return True

    def give_back_waiting(self) -> None:
        pass

    def mind_silence(self) -> None:
        pass


class NotedBell:
    """A bell that notes for how long it was to be waited for, and ends the work after some waits."""

    def __init__(self, ledger: FakeLedger) -> None:
        self._ledger = ledger
        self.waits: list[float | None] = []

    def wait(self, seconds: float | None) -> bool:
        self.waits.append(seconds)
        if len(self.waits) == 3:
            self._ledger.held = 0
            self._ledger.is_drained = True
        return False


def test_a_worker_never_sleeps_past_its_next_look() -> None:
    """While it holds a claim, its main thread waits no longer than until what runs is due a look."""
    ledger = FakeLedger()
    worker = Worker(
        slots=1,
        drain=True,
        database="/q.db",
        config=Config(),
        clock=HandClock(),
        executor=cast(Executor, _NoExecutor()),
        make_ledger=lambda wake, policy: cast(Ledger, ledger),
        say=lambda line: None,
    )
    worker._bell.close()
    bell = NotedBell(ledger)
    worker._bell = cast(Bell, bell)
    worker._work()
    assert bell.waits == [LOOK_SECONDS] * 3


class _NoExecutor:
    def configure(self, config: Config) -> None:
        pass
