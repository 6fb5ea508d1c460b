from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from queuectl.bell import Bell
from queuectl.engine import birth, supervisor
from tests.support import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are told otherwise")


class Family:
    """Processes that are only numbers: which were started, what each was told, which have ended."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.ended: list[int] = []
        self.told: list[tuple[int, int]] = []

    def start(self, role: str, life: object) -> int:
        self.started.append(1001 + len(self.started))
        return self.started[-1]

    def tell(self, pid: int, number: int) -> None:
        self.told.append((pid, number))

    def wait_for_one(self, bell: Bell) -> tuple[int, int]:
        self.ended.append(self.started[len(self.ended)])
        return self.ended[-1], 0


class Stopped(Family):
    """The same, where SIGTERM comes while the second of them is being started."""

    def start(self, role: str, life: object) -> int:
        pid = super().start(role, life)
        if len(self.started) == 2:
            signal.raise_signal(signal.SIGTERM)
        return pid


@pytest.fixture
def supervise(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Supervises three processes of a family, or `count`, and leaves no handler behind."""
    numbers = (
        *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
        *(supervisor.START_NO_MORE, signal.SIGCHLD),
    )
    handlers = [signal.getsignal(number) for number in numbers]

    def run(family: Family, count: int = 3) -> None:
        monkeypatch.setattr(birth, "start", family.start)
        monkeypatch.setattr(supervisor, "_kill", family.tell)
        monkeypatch.setattr(supervisor, "_wait_for_one", family.wait_for_one)
        parent = supervisor.Supervisor(lambda ready: None, lambda line: None)
        parent.run(count, lambda: None)

    yield run
    signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def _interrupt_at(line: int, family: Family, run: Callable[[Family], None]) -> list[int] | None:
    """Sends SIGINT just before that many lines of the supervisor's code, from when it listens;
    returns which processes there were then, and None when it was over before.
    """
    passed = 0
    living: list[int] | None = None

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal passed, living
        if frame.f_code.co_filename != supervisor.__file__:
            return None
        listens = "Supervisor" in getattr(signal.getsignal(signal.SIGINT), "__qualname__", "")
        if event == "line" and listens:
            passed += 1
            if passed == line:
                living = [pid for pid in family.started if pid not in family.ended]
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(family)
    finally:
        sys.settrace(before)
    return living


@pytest.mark.parametrize("stopping", [False, True], ids=["first signal", "second signal"])
def test_every_process_is_told_once_whenever_a_signal_comes(
    supervise: Callable[[Family], None], stopping: bool
) -> None:
    """Wherever in the starting, the waiting and the telling of an earlier signal SIGINT comes, each
    process that lives hears of it, and none twice: a second interrupt would end its command at once.
    """
    before = signal.getsignal(signal.SIGINT)
    for line in itertools.count(1):
        signal.signal(signal.SIGINT, before)
        family = Stopped() if stopping else Family()
        living = _interrupt_at(line, family, supervise)
        if living is None:
            break
        assert len(set(family.told)) == len(family.told), f"twice, at line {line}: {family.told}"
        assert {(pid, signal.SIGINT) for pid in living} <= set(family.told), f"at line {line}"
        if stopping and len(family.started) > 1:
            assert {(pid, signal.SIGTERM) for pid in living} <= set(family.told), f"at line {line}"
    assert line > 20


def test_a_child_does_not_act_for_its_parent(
    supervise: Callable[[Family], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt of the terminal that reaches a new process before it has handlers of its own is
    its parent's to pass on: it tells nobody.
    """
    family = Family()

    def start(role: str, life: object) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 4711)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGHUP)
        return Family.start(family, role, life)

    family.start = start  # type: ignore[method-assign]
    supervise(family)
    assert family.started == [1001, 1002, 1003]
    assert family.told == []


@pytest.mark.skipif(sys.platform != "linux", reason="whether a thread sleeps is seen in /proc")
def test_a_signal_is_heard_that_does_not_interrupt_the_wait(supervise: Callable[..., None]) -> None:
    """One that comes just before the wait begins, as here one that another thread was given, is acted
    on at once, not when the next process ends.
    """
    family = Family()
    wait_for_one = supervisor._wait_for_one
    real = subprocess.Popen(["sleep", "300"])
    state = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
    waiting = threading.Event()
    heard = []

    def wait(bell: Bell) -> tuple[int, int]:
        waiting.set()
        return wait_for_one(bell)

    def interrupt() -> None:
        waiting.wait()
        try:
            wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "S")
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            wait_until(lambda: family.told, seconds=10)
            heard.append(True)
        finally:
            os.kill(real.pid, signal.SIGKILL)

    family.start = lambda role, life: real.pid  # type: ignore[method-assign]
    family.wait_for_one = wait  # type: ignore[method-assign]
    thread = threading.Thread(target=interrupt)
    thread.start()
    supervise(family, count=1)
    thread.join()
    real.poll()
    assert heard
    assert family.told == [(real.pid, signal.SIGTERM)]
