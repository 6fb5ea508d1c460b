from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from queuectl.config import Config
from queuectl.engine.execute import Executor
from queuectl.engine.launcher import Launcher
from queuectl.job_logs import JobLogs
from queuectl.jobs.claim import Claim
from tests.unit.engine.support import FakeLog, HandClock, claim


class FakeLogs:
    """Opens the same log each time, and takes a while about it."""

    def __init__(self, clock: HandClock) -> None:
        self.log = FakeLog()
        self.opened = 0
        self._clock = clock

    def open_attempt(self, id: str, attempt: int, **_: object) -> FakeLog:
        self.opened += 1
        self._clock.advance(60)
        return self.log


class FakeLauncher:
    """Starts nothing, and counts how often it was to."""

    def __init__(self) -> None:
        self.started = 0

    def start(self, claim: Claim, output: int) -> int:
        self.started += 1
        return 12345


def start(may_start: Callable[[int], bool]) -> tuple[bool, FakeLogs, FakeLauncher]:
    """Starts an attempt; whether it was started, and what was done for that."""
    clock = HandClock()
    logs, launcher = FakeLogs(clock), FakeLauncher()
    executor = Executor(
        name="w",
        logs=cast(JobLogs, logs),
        launcher=cast(Launcher, launcher),
        clock=clock,
        config=Config(),
    )
    return executor.start(claim(), may_start) is not None, logs, launcher


@pytest.mark.parametrize("answers", [[False], [True, False]], ids=["at first", "after the log"])
def test_nothing_is_started_without_leave(answers: list[bool]) -> None:
    """When a stop came before the log was opened or meanwhile, the command is not started, and the
    log says nothing of it.
    """
    left = answers.copy()
    started, logs, launcher = start(lambda ticks: left.pop(0))
    assert (started, launcher.started, left) == (False, 0, [])
    assert logs.opened == logs.log.discarded == len(answers) - 1


def test_leave_is_asked_for_at_the_moment_of_the_start() -> None:
    """A lease that ends while the log is opened, which can take a while, ends the leave as well."""
    lease_ends = HandClock().ticks() + 30_000_000
    started, logs, launcher = start(lambda ticks: ticks < lease_ends)
    assert (started, launcher.started, logs.log.discarded) == (False, 0, 1)
    started, logs, launcher = start(lambda ticks: ticks < lease_ends + 60_000_000)
    assert (started, launcher.started, logs.log.discarded) == (True, 1, 0)
