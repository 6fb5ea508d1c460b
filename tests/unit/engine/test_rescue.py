from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from queuectl import processes
from queuectl.engine import tree
from queuectl.engine.rescue import ROUNDS_OF_SILENCE, Patience, Rescue, rescue_lost
from queuectl.errors import DiskFull
from queuectl.jobs.claim import Claim
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import Outcome, Policy, Verdict
from queuectl.processes import WorkerHealth
from queuectl.storage.job_storage import WorkerStorage
from queuectl.storage.records import WorkerRecord
from tests.support import wait_until
from tests.unit.engine.support import HandClock, claim


class FakeStorage:
    """Knows one worker, given up already unless told otherwise, that holds one job; notes what is done about it."""

    def __init__(self, held: Claim | None = None, *, fenced_at: int | None = 1) -> None:
        self.done: list[str] = []
        self.is_full = False
        self.lives = False
        self.fenced_at = fenced_at
        self.held = held or claim()

    def workers(self, *, count_running: bool = True) -> list[WorkerRecord]:
        me = processes.this_process()
        return [
            WorkerRecord(
                id="lost",
                name="lost",
                host=me.host,
                boot_id=me.boot_id,
                process_space=me.process_space,
                pid=me.pid,
                process_started=me.process_started,
                slots=1,
                mode="foreground",
                started_at=0,
                heartbeat_at=0,
                lease_seconds=30,
                lease_left_seconds=-60,
                stop_requested_at=None,
                fenced_at=self.fenced_at,
                running=1,
            )
        ]

    def suspended_writer(self) -> int | None:
        return None

    def rewrite_worker(self, worker_id: str) -> None:
        if self.is_full:
            raise DiskFull("the disk is full")

    def give_up(self, worker_id: str, heartbeat_at: int) -> bool:
        return not self.lives

    def fence(self, worker_id: str) -> list[Claim]:
        self.done.append("fence")
        return [self.held]

    def rescue(
        self, worker_id: str, decide: Callable[[Claim], tuple[Outcome, Verdict]]
    ) -> list[tuple[Claim, Verdict]]:
        self.done.append("rescue")
        return [(self.held, decide(self.held)[1])]


def one_round(storage: FakeStorage, folder: Path, patience: Patience | None = None) -> list[Rescue]:
    """One look at all workers."""
    return rescue_lost(
        cast(WorkerStorage, storage),
        str(folder / "queuectl.db"),
        policy=Policy(backoff_base=2, max_losses=5),
        clock=HandClock(),
        grace_seconds=0,
        patience=patience or Patience(),
    )


def test_a_jump_of_the_shared_clock_ends_no_lease() -> None:
    """A worker whose lease goes by the database's clock is lost when a whole lease has passed here,
    too, without a heartbeat; one that is heard of meanwhile is not.
    """
    [worker] = FakeStorage().workers()
    worker = worker._replace(fenced_at=None, lease_is_shared=True)
    patience, second = Patience(), 1_000_000
    for at in range(30):
        patience.begin_round(at * second)
        assert not patience.is_over(worker, WorkerHealth.SILENT)
    heard = worker._replace(heartbeat_at=1)
    for at in range(30, 60):
        patience.begin_round(at * second)
        assert not patience.is_over(heard, WorkerHealth.SILENT)
    patience.begin_round(60 * second)
    assert patience.is_over(heard, WorkerHealth.SILENT)
    assert patience.is_over(heard, WorkerHealth.LOST)


@pytest.mark.parametrize("differs", ["host", "boot_id", "process_space"])
def test_the_logs_of_another_machine_do_not_tell(tmp_path: Path, differs: str) -> None:
    """That there is no log of it here does not mean that the command had not begun there. Two machines,
    or two containers, may have one name.
    """
    storage = FakeStorage(claim()._replace(on_lost="hold"))
    me = processes.this_process()
    [worker] = storage.workers()
    mine: dict[str, Any] = {
        "host": me.host,
        "boot_id": me.boot_id,
        "process_space": me.process_space,
    }
    elsewhere = worker._replace(**{**mine, differs: "there"}, lease_is_shared=True)
    storage.workers = lambda **_: [elsewhere]  # type: ignore[method-assign]
    ((_, verdict),) = one_round(storage, tmp_path)[0].jobs
    assert verdict.state == "dead"


def let_end_orphans(
    monkeypatch: pytest.MonkeyPatch, storage: FakeStorage, result: Callable[[], set[int] | None]
) -> None:
    """Puts something in the place of a look at all processes."""

    def end_orphans(
        database: str, claims: Iterable[Claim], grace: float, still_held: object
    ) -> set[int] | None:
        storage.done.append("end orphans")
        return result()

    monkeypatch.setattr(tree, "end_orphans", end_orphans)


def test_silence_counts_only_while_writing_is_possible(tmp_path: Path) -> None:
    """A worker that lives and does not answer is given up after some rounds, but none in which the one
    that judges it could not write either: what keeps that one silent may be the same full disk. Nor is
    one given up that renewed its lease just before.
    """
    storage = FakeStorage(fenced_at=None)
    (tmp_path / "job_logs").mkdir()
    patience = Patience()

    def look() -> list[Rescue]:
        return one_round(storage, tmp_path, patience)

    for _ in range(ROUNDS_OF_SILENCE - 1):
        assert look() == []
    storage.is_full = True
    with pytest.raises(DiskFull):
        look()
    patience.forget()
    storage.is_full = False
    for _ in range(ROUNDS_OF_SILENCE - 1):
        assert look() == []
    assert storage.done == []
    storage.lives = True
    assert look() == []
    assert storage.done == []
    storage.lives = False
    assert [len(rescue.jobs) for rescue in look()] == [1]


def test_a_job_whose_processes_would_not_end_is_not_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While something of its run is left it stays where it is, and its log says nothing; once all is
    gone, the next round puts it back.
    """
    storage = FakeStorage()
    log = tmp_path / "job_logs" / "job-1.log"
    log.parent.mkdir()
    log.touch()
    let_end_orphans(monkeypatch, storage, lambda: None)
    assert one_round(storage, tmp_path) == []
    assert storage.done == ["fence", "end orphans"]
    assert log.read_bytes() == b""
    storage.done.clear()
    let_end_orphans(monkeypatch, storage, lambda: {4711})
    (rescue,) = one_round(storage, tmp_path)
    assert storage.done == ["fence", "end orphans", "rescue", "end orphans"]
    assert (len(rescue.jobs), rescue.ended) == (1, 1)
    assert b"[queuectl] attempt 1 ended" in log.read_bytes()


@pytest.mark.parametrize("held_until", [0, 2])
def test_a_slower_rescuer_spares_a_later_run(tmp_path: Path, held_until: int) -> None:
    """What has no marks and writes into the log may be of a later run as soon as another rescuer has
    taken the job, also while this one still ends what it found: then it is left alone.
    """
    (tmp_path / "job_logs").mkdir()
    asked = 0

    def still_held() -> list[Claim]:
        nonlocal asked
        asked += 1
        return [claim()] if asked <= held_until else []

    with open(tmp_path / "job_logs" / "job-1.log", "wb") as log:
        bare = subprocess.Popen(
            # What SIGTERM does to it is seen, and does not end it.
            ["sh", "-c", "trap 'echo told' TERM; echo ready; while :; do sleep 0.01; done"],
            env={"PATH": os.environ["PATH"]},
            stdout=log,
            process_group=0,
        )
        try:
            wait_until(lambda: os.path.getsize(log.name) > 0, "it is ready for the signal")
            found = tree.end_orphans(str(tmp_path / "queuectl.db"), [claim()], 60, still_held)
            assert found is not None
            assert (bare.pid in found) == (held_until > 0)
            assert bare.poll() is None
            assert asked == held_until + 1
        finally:
            os.killpg(bare.pid, signal.SIGKILL)
            bare.wait()


def test_what_had_not_begun_is_due_at_once(tmp_path: Path) -> None:
    """A job whose log shows no beginning of its attempt is not held, though it is to be held when its
    worker is lost; nothing is written about an attempt that there was not.
    """
    storage = FakeStorage(claim()._replace(on_lost="hold"))
    (rescue,) = one_round(storage, tmp_path)
    ((_, verdict),) = rescue.jobs
    assert verdict == Verdict(State.FAILED, 1, 1)
    assert not (tmp_path / "job_logs" / "job-1.log").exists()
    (tmp_path / "job_logs").mkdir()
    (tmp_path / "job_logs" / "job-1.log").write_bytes(b"[queuectl] attempt 1 of 4 started\n")
    (rescue,) = one_round(storage, tmp_path)
    ((_, verdict),) = rescue.jobs
    assert verdict == Verdict(State.DEAD, 1, 1)


def test_a_job_whose_processes_cannot_be_looked_for_is_not_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this machine does not let us look, for want of a descriptor, the round ends there."""
    storage = FakeStorage()

    def cannot_look() -> set[int]:
        raise OSError("Too many open files")

    let_end_orphans(monkeypatch, storage, cannot_look)
    with pytest.raises(OSError, match="Too many open files"):
        one_round(storage, tmp_path)
    assert storage.done == ["fence", "end orphans"]
