from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import cast

import pytest

from queuectl.engine.attempt import Attempt
from queuectl.job_logs import OpenLog
from queuectl.jobs.outcome import SUCCEEDED
from queuectl.marks import Census
from tests.unit.engine.support import FakeLog, claim

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="commands are waited for otherwise")


class NobodyElse:
    """A census that finds nothing beside the first process."""

    def members(self, since: float) -> list[object]:
        return []

    def group_lives(self, group: int, since: float) -> bool:
        return False


CENSUS = cast(Census, NobodyElse())


@pytest.fixture
def commands() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What was started in a test; nothing of it runs on afterwards."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def attempt() -> tuple[Attempt, FakeLog]:
    """An attempt that was not begun yet, and its log."""
    log = FakeLog()
    made = Attempt(claim(), cast(OpenLog, log), started_at=0, started_ticks=0, timeout=1)
    return made, log


def run(started: list[subprocess.Popen[bytes]], line: str) -> tuple[Attempt, FakeLog]:
    """An attempt at a command, in a process group of its own."""
    process = subprocess.Popen(["sh", "-c", line], start_new_session=True)
    started.append(process)
    made, log = attempt()
    made.pid = process.pid
    return made, log


def end(ended: Attempt, why: str) -> bool:
    """Begins to end an attempt as a worker does."""
    return ended.end(why, kill_ticks=0, census=CENSUS, since=0.0, politely=True)


@pytest.mark.parametrize("why", ["timeout", "cancel", "stop", "fenced"])
@pytest.mark.parametrize(
    ("line", "kind", "code"), [("exit 0", "succeeded", 0), ("exit 5", "failed", 5)]
)
def test_what_ended_by_itself_just_before_is_not_ended(
    commands: list[subprocess.Popen[bytes]], why: str, line: str, kind: str, code: int
) -> None:
    """A command that has exited before anything was sent to it has ended in its own way, also when
    its slot's thread does not know yet.
    """
    ran, _ = run(commands, line)
    os.waitid(os.P_PID, ran.pid, os.WEXITED | os.WNOWAIT)
    assert not end(ran, why)
    ran.wait(CENSUS, lambda attempt: None)
    assert (ran.outcome().kind, ran.outcome().exit_code) == (kind, code)


def test_what_still_runs_is_ended(commands: list[subprocess.Popen[bytes]]) -> None:
    """A command that runs gets SIGTERM, once, and its outcome names the reason."""
    ran, _ = run(commands, "sleep 300")
    assert end(ran, "timeout")
    assert not end(ran, "cancel")
    ran.wait(CENSUS, lambda attempt: None)
    assert (ran.outcome().kind, ran.outcome().signal) == ("timeout", signal.SIGTERM)


def test_the_log_of_what_is_over_is_let_be(commands: list[subprocess.Popen[bytes]]) -> None:
    """A log is limited while its command runs, and not once that is over: the number of its
    descriptor may be another file's by then.
    """
    never_ran, log = attempt()
    never_ran.end_with(SUCCEEDED)
    never_ran.limit_log(lambda: True)
    assert log.limited == 0
    ran, log = run(commands, "sleep 300")
    ran.limit_log(lambda: True)
    assert log.limited == 1
    os.kill(ran.pid, signal.SIGKILL)
    ran.wait(CENSUS, lambda attempt: None)
    ran.limit_log(lambda: True)
    assert log.limited == 1
