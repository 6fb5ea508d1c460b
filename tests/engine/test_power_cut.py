from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import apsw
import pytest

from queuectl.clock import Clock
from queuectl.jobs.job import NewJob
from queuectl.jobs.job_view import Job
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import SUCCEEDED, Policy, exited, judge
from queuectl.storage import open_job_storage, open_worker_storage
from queuectl.storage.job_storage import JobStorage, WorkerStorage
from queuectl.storage.records import NewWorker, Settlement
from tests.engine.recorded_disk import (
    Event,
    Promise,
    RecordedDisk,
    after_power_cut,
    everything,
    nothing,
    some_of_it,
)

pytestmark = pytest.mark.sqlite_only(
    "what a power cut leaves of a file; a server sees to that itself"
)

SEED = 20_261_124
CUTS = 450
POLICY = Policy(backoff_base=0, max_losses=5)
WORKER = NewWorker("w", "w", "host", "boot", "space", 1, "1", 4, "foreground", 30)


def there(ids: list[str], accept: Callable[[Job], bool] = lambda job: True) -> Promise:
    """All of these jobs are there, and in a state that is acceptable."""

    def check(jobs: Mapping[str, Job]) -> None:
        for id in ids:
            assert id in jobs, f"job {id} was acknowledged, and is lost"
            assert accept(jobs[id]), f"what was decided about job {id} is lost: {jobs[id]}"

    return check


def work(disk: RecordedDisk, path: Path) -> None:
    """A life of a queue in small: jobs come one by one and in groups, run, fail, are cancelled and
    removed; the write-ahead log is moved into the file many times, and begun anew.
    """
    jobs = open_job_storage(str(path), create=True)
    worker = open_worker_storage(str(path), Clock())
    for storage in (jobs, worker):
        _connection(storage).execute("PRAGMA wal_autocheckpoint = 25")
    worker.register(WORKER)
    number = 0
    for round_ in range(12):
        count = [1, 1, 30, 1][round_ % 4]
        ids = [f"job-{number + n}" for n in range(count)]
        number += count
        jobs.enqueue([_job(id) for id in ids], Clock().now())
        disk.promise(there(ids))
        _run_some(disk, worker, round_)
        if round_ % 3 == 2:
            _cancel_one(disk, jobs)
        if round_ == 7:
            # The last to leave cleans up; the file is opened again, as after a quiet night.
            worker.close()
            jobs.close()
            jobs = open_job_storage(str(path))
            worker = open_worker_storage(str(path), Clock())
            _connection(worker).execute("PRAGMA wal_autocheckpoint = 25")
    worker.close()
    jobs.close()


def _connection(storage: object) -> apsw.Connection:
    """What a storage keeps to itself; its settings are looked at, or made harder, here."""
    found: apsw.Connection = vars(storage)["_db"]
    return found


def _job(id: str) -> NewJob:
    return NewJob(
        id=id, command=f"echo {id * 20}", cwd="/", max_retries=1, on_lost="retry", backoff_base=0
    )


def _run_some(disk: RecordedDisk, worker: WorkerStorage, round_: int) -> None:
    claims = worker.exchange("w", [], 4).claims
    now = Clock().now()
    settlements = []
    for claim in claims:
        outcome = exited(1) if round_ % 2 else SUCCEEDED
        verdict = judge(claim, outcome, POLICY)
        settlements.append(Settlement(claim, outcome, verdict, "w", now, now, 0, 100))
    assert worker.exchange("w", settlements, 0).refused == []
    for settlement in settlements:
        attempts, state = settlement.claim.attempt, settlement.verdict.state
        disk.promise(
            there(
                [settlement.claim.id],
                lambda job, attempts=attempts, state=state: (
                    (  # type: ignore[misc]
                        job.state == state
                        or job.attempts > attempts
                        or job.state in (State.PROCESSING, State.CANCELLED)
                    )
                    and job.attempts >= attempts
                ),
            )
        )


def _cancel_one(disk: RecordedDisk, jobs: JobStorage) -> None:
    waiting = next(jobs.list_jobs([State.PENDING], sort="created", descending=True, limit=1))
    jobs.cancel([waiting.id], Clock().now())
    disk.promise(there([waiting.id], lambda job: job.state == State.CANCELLED))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """All that a queue's life wrote to the disk, and what was promised when."""
    with RecordedDisk() as disk:
        work(disk, tmp_path_factory.mktemp("recorded") / "queuectl.db")
    return disk.events


KEEPERS = {
    "nothing unsynced": lambda chance: nothing,
    "everything unsynced": lambda chance: everything,
    "some of it": some_of_it,
}


@pytest.mark.parametrize("what", KEEPERS)
def test_a_power_cut_loses_nothing_that_was_promised(
    recording: list[Event], tmp_path: Path, what: str
) -> None:
    """Wherever the power goes, and whatever the disk made of what was not synced: the file is
    sound, and every acknowledged job, outcome and cancel is in it.
    """
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    first = next(n for n, event in enumerate(recording) if event.kind == "ack")
    assert len(recording) - first > CUTS, "too little was recorded to be worth cutting"
    for cut in sorted(chance.sample(range(first + 1, len(recording) + 1), CUTS)):
        check_cut(recording[:cut], tmp_path, KEEPERS[what](chance))


def check_cut(events: list[Event], folder: Path, keep: Callable[[Event], Event | None]) -> None:
    """Everything that was promised before the cut holds after it."""
    after = folder / "after"
    after.mkdir()
    after_power_cut(events, after, keep)
    storage = open_job_storage(str(after / "queuectl.db"))
    assert storage.check() == []
    found = storage.list_jobs([], sort="created", descending=False, limit=None)
    jobs = {job.id: job for job in found}
    storage.close()
    for event in events:
        if event.promise is not None:
            event.promise(jobs)
    shutil.rmtree(after)


def test_the_recording_would_notice_a_missing_sync(tmp_path: Path) -> None:
    """The same test on a database that does not sync its commits finds lost jobs: it can fail."""
    with RecordedDisk() as disk:
        path = tmp_path / "queuectl.db"
        jobs = open_job_storage(str(path), create=True)
        _connection(jobs).execute("PRAGMA synchronous = NORMAL")
        for n in range(5):
            jobs.enqueue([_job(f"job-{n}")], Clock().now())
            disk.promise(there([f"job-{n}"]))
        events = list(disk.events)
        jobs.close()
    with pytest.raises(AssertionError, match="acknowledged, and is lost"):
        check_cut(events, tmp_path, nothing)


def test_the_database_syncs_every_commit(tmp_path: Path) -> None:
    """Both kinds of connection are opened with synchronous = FULL, on a write-ahead log."""
    path = str(tmp_path / "queuectl.db")
    jobs = open_job_storage(path, create=True)
    worker = open_worker_storage(path, Clock())
    for storage in (jobs, worker):
        db = _connection(storage)
        assert (db.pragma("synchronous"), db.pragma("journal_mode")) == (2, "wal")
        storage.close()
