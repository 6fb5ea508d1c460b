from __future__ import annotations

from typing import cast

import pytest

from queuectl.bell import Bell
from queuectl.config import Config
from queuectl.engine import systemd
from queuectl.engine.execute import Executor
from queuectl.engine.ledger import Ledger
from queuectl.engine.worker import Worker
from tests.unit.engine.support import HandClock, HeldLease


class IdleLedger:
    """A ledger with nothing to do, whose thread goes round for the first ten seconds."""

    lease = HeldLease()
    may_be_cut_off = False
    failure = None
    outdated = None
    outlook = None
    is_drained = False
    held = 0

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self._hangs_from = clock.ticks() + 10_000_000

    def is_lively(self) -> bool:
        return self._clock.ticks() < self._hangs_from

    def give_back_waiting(self) -> None:
        pass

    def mind_silence(self) -> None:
        pass


class PassingTime:
    """A bell that is never rung: each wait takes its whole time. Ends the work after a minute."""

    def __init__(self, clock: HandClock, ledger: IdleLedger) -> None:
        self._clock = clock
        self._ledger = ledger
        self._ends = clock.ticks() + 60_000_000
        self.waits: list[float | None] = []

    def wait(self, seconds: float | None) -> bool:
        self.waits.append(seconds)
        self._clock.advance(60 if seconds is None else seconds)
        self._ledger.is_drained = self._clock.ticks() >= self._ends
        return False


class NoExecutor:
    """Nothing is executed."""

    def configure(self, config: Config) -> None:
        pass


def minute_of_idling(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[float | None]]:
    """When systemd heard something, in seconds, and for how long the worker slept each time."""
    clock = HandClock()
    begun = clock.ticks()
    heard: list[float] = []
    monkeypatch.setattr(
        systemd, "notify", lambda state: heard.append((clock.ticks() - begun) / 1e6)
    )
    ledger = IdleLedger(clock)
    worker = Worker(
        slots=1,
        drain=True,
        database="/q.db",
        config=Config(),
        clock=clock,
        executor=cast(Executor, NoExecutor()),
        make_ledger=lambda wake, policy: cast(Ledger, ledger),
        say=lambda line: None,
    )
    worker._bell.close()
    bell = PassingTime(clock, ledger)
    worker._bell = cast(Bell, bell)
    worker._work()
    return heard, bell.waits


@pytest.mark.parametrize(("asked", "every"), [("60000000", 1.0), ("1500000", 0.5)])
def test_systemd_hears_as_long_as_both_threads_go_round(
    monkeypatch: pytest.MonkeyPatch, asked: str, every: float
) -> None:
    """An idle worker wakes for it, at least three times in the time asked for and every second; once
    its ledger hangs, nothing is said any more.
    """
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", asked)
    heard, waits = minute_of_idling(monkeypatch)
    assert heard == pytest.approx([n * every for n in range(int(10 / every))])
    assert set(waits) == {every}


@pytest.mark.parametrize(
    ("socket", "asked"), [("", "60000000"), ("/run/x", None), ("/run/x", "0"), ("/run/x", "soon")]
)
def test_nobody_is_told_and_nothing_wakes_where_nobody_asked(
    monkeypatch: pytest.MonkeyPatch, socket: str, asked: str | None
) -> None:
    """Without a watchdog an idle worker sleeps until it is woken."""
    monkeypatch.setenv("NOTIFY_SOCKET", socket)
    if asked is None:
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    else:
        monkeypatch.setenv("WATCHDOG_USEC", asked)
    heard, waits = minute_of_idling(monkeypatch)
    assert heard == []
    assert waits == [None]
