from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from queuectl import processes
from queuectl.engine import maintenance
from queuectl.engine.maintenance import EVERY_SECONDS, EVERY_SECONDS_REMOTE, Maintenance
from queuectl.errors import DatabaseUnreachable
from queuectl.jobs.outcome import Policy
from queuectl.storage import open_job_storage
from queuectl.storage.job_storage import WorkerStorage
from tests.support import PATIENCE_SECONDS, wait_until
from tests.unit.engine.support import HandClock


class FakeStorage:
    """Knows no worker; counts the looks that were taken."""

    def __init__(self, *, spans_machines: bool = False) -> None:
        self.spans_machines = spans_machines
        self.looks = 0

    def rebase_retries(self) -> int:
        return 0

    def workers(self, *, count_running: bool = True) -> list[object]:
        self.looks += 1
        return []

    def close(self) -> None:
        pass


def maintain(
    path: str,
    storage: FakeStorage,
    said: list[str],
    is_told: Callable[[], bool] = lambda: False,
) -> Maintenance:
    """The thread, not started yet; what it says is noted, and that it found the database gone."""
    return Maintenance(
        lambda: cast(WorkerStorage, storage),
        path,
        HandClock(),
        worker_id=lambda: "w",
        policy=lambda: Policy(backoff_base=2, max_losses=5),
        grace_seconds=lambda: 0,
        say=said.append,
        on_clock_step=lambda: None,
        database_gone=lambda: said.append("gone"),
        is_told=is_told,
    )


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
@pytest.mark.parametrize("is_late", [False, True])
def test_any_part_of_the_database_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, is_late: bool
) -> None:
    """Whichever file is removed, also before the first look: it is told once, and the thread ends."""
    path = str(tmp_path / "queuectl.db")
    jobs = open_job_storage(path, create=True)
    monkeypatch.setattr(maintenance, "EVERY_SECONDS", 0.001)
    storage = FakeStorage()
    said: list[str] = []
    if not is_late:
        os.unlink(path + ending)
    thread = maintain(path, storage, said)
    thread.start()
    if is_late:
        wait_until(lambda: storage.looks, "it looks after the others")
        assert said == []
        os.unlink(path + ending)
    thread.join(PATIENCE_SECONDS)
    assert said == ["gone"]
    jobs.close()


def test_a_want_of_descriptors_at_its_start_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When this process cannot look at itself, that is said once, and tried again in later rounds."""
    path = str(tmp_path / "queuectl.db")
    jobs = open_job_storage(path, create=True)
    storage = FakeStorage()
    said: list[str] = []
    failures = [OSError(24, os.strerror(24)), OSError(24, os.strerror(24))]
    this_process = processes.this_process

    def look_at_itself() -> processes.Identity:
        if failures:
            raise failures.pop()
        return this_process()

    monkeypatch.setattr(processes, "this_process", look_at_itself)
    monkeypatch.setattr(maintenance, "EVERY_SECONDS", 0.001)
    thread = maintain(path, storage, said)
    thread.start()
    wait_until(lambda: storage.looks or not thread.is_alive(), "it looks after the others")
    thread.ask_to_close()
    thread.join()
    assert storage.looks
    assert said == ["cannot look after other workers: [Errno 24] Too many open files"]
    jobs.close()


class Stopping(threading.Event):
    """Notes how long is waited between the looks, waits for nothing, and ends the third wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout)
        return len(self.asked) == 3


@pytest.mark.parametrize("spans_machines", [False, True])
def test_a_server_is_asked_less_often(tmp_path: Path, spans_machines: bool) -> None:
    """Each look is a question to it; the first one comes as soon as anywhere."""
    path = str(tmp_path / "queuectl.db")
    jobs = open_job_storage(path, create=True)
    storage = FakeStorage(spans_machines=spans_machines)
    thread = maintain(path, storage, [])
    thread._stopping = stopping = Stopping()
    thread.run()
    later = EVERY_SECONDS_REMOTE if spans_machines else EVERY_SECONDS
    assert stopping.asked == [EVERY_SECONDS, later, later]
    assert storage.looks == 2
    jobs.close()


class Unreachable(FakeStorage):
    """A server that does not answer for some looks."""

    def __init__(self, failures: int) -> None:
        super().__init__(spans_machines=True)
        self._failures = failures

    def workers(self, *, count_running: bool = True) -> list[object]:
        self.looks += 1
        if self.looks <= self._failures:
            raise DatabaseUnreachable("cannot reach the server")
        return []


@pytest.mark.parametrize(
    ("failures", "is_told", "count"), [(2, False, 0), (3, False, 1), (9, False, 1), (9, True, 0)]
)
def test_a_server_that_is_away_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, failures: int, is_told: bool, count: int
) -> None:
    """A lost connection is nothing new to people when the worker has told of it; what lasts for several
    looks while the worker is well is.
    """
    monkeypatch.setattr(maintenance, "EVERY_SECONDS", 0.001)
    monkeypatch.setattr(maintenance, "EVERY_SECONDS_REMOTE", 0.001)
    storage = Unreachable(failures)
    said: list[str] = []
    thread = maintain("postgresql://db/queue", storage, said, lambda: is_told)
    thread.start()
    wait_until(lambda: storage.looks > failures, "it looks after the others again")
    thread.ask_to_close()
    thread.join()
    assert said == ["cannot look after other workers: cannot reach the server"] * count
