from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from queuectl import processes
from queuectl.engine import maintenance
from queuectl.engine.maintenance import Maintenance
from queuectl.jobs.outcome import Policy
from queuectl.storage import open_job_storage
from queuectl.storage.job_storage import WorkerStorage
from tests.support import PATIENCE_SECONDS, wait_until
from tests.unit.engine.support import HandClock


class FakeStorage:
    """Knows no worker; counts the looks that were taken."""

    def __init__(self) -> None:
        self.looks = 0

    def rebase_retries(self) -> int:
        return 0

    def workers(self) -> list[object]:
        self.looks += 1
        return []

    def close(self) -> None:
        pass


def maintain(path: str, storage: FakeStorage, said: list[str]) -> Maintenance:
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
