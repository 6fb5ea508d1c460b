"""What the storage contract is tried on: databases, a clock that the test moves, short builders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from queuectl.clock import Clock
from queuectl.jobs.claim import Claim
from queuectl.jobs.job import NewJob
from queuectl.jobs.job_view import Job
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import SUCCEEDED, Outcome, Policy, exited, judge
from queuectl.storage import open_job_storage, open_worker_storage
from queuectl.storage.job_storage import JobStorage, WorkerStorage
from queuectl.storage.records import NewWorker, Settlement
from queuectl.text import is_url
from tests import pooler, postgres

KINDS = ("sqlite", "postgres", "pooled")
"""The databases on which every test of the contract runs."""

START = 1_795_521_600_000_000  # 2026-11-24T12:00:00Z
SECOND = 1_000_000
HOUR = 3600 * SECOND

POLICY = Policy(backoff_base=2, max_losses=5)
FAILED = exited(1)


class MovableClock(Clock):
    """A clock that stands still until the test moves it."""

    def __init__(self, *, shared: bool = False) -> None:
        self.wall = START
        # Real ones to begin with: whoever looks at workers without a clock of the test's has those.
        self.elapsed = Clock().now() if shared else Clock().ticks()

    def now(self) -> int:
        return self.wall

    def ticks(self) -> int:
        return self.elapsed

    def go_on(self, seconds: float) -> None:
        """Time passes."""
        self.wall += int(seconds * SECOND)
        self.elapsed += int(seconds * SECOND)

    def set_wall(self, by_seconds: float) -> None:
        """Somebody sets the wall clock; no time passes."""
        self.wall += int(by_seconds * SECOND)


class Database:
    """One database of its own, to be opened as often as a test likes."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._opened: list[JobStorage | WorkerStorage] = []

    def open_jobs(self) -> JobStorage:
        storage = open_job_storage(self.location, create=True)
        self._opened.append(storage)
        return storage

    def open_work(self, clock: Clock | None) -> WorkerStorage:
        storage = open_worker_storage(self.location, clock)
        self._opened.append(storage)
        return storage

    def close(self) -> None:
        for storage in self._opened:
            storage.close()


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[Database]:
    """An empty database of one of `KINDS`; `folder` is for its files."""
    location = {
        "sqlite": lambda: str(folder / "queuectl.db"),
        "postgres": lambda: postgres.needed().new_schema(),
        "pooled": pooler.new_schema,
    }
    database = Database(location[kind]())
    try:
        yield database
    finally:
        database.close()


def new_job(
    id: str,
    *,
    command: str = "true",
    cwd: str = "/",
    env: dict[str, str] | None = None,
    priority: int = 0,
    max_retries: int = 3,
    backoff_base: float | None = None,
    timeout: float | None = None,
    run_at: int | None = None,
    on_lost: str = "retry",
    max_losses: int | None = None,
    requires: tuple[str, ...] = (),
) -> NewJob:
    """A job of which only what matters is said."""
    return NewJob(
        id=id,
        command=command,
        cwd=cwd,
        env=env,
        priority=priority,
        max_retries=max_retries,
        backoff_base=backoff_base,
        timeout=timeout,
        run_at=run_at,
        on_lost=on_lost,
        max_losses=max_losses,
        requires=requires,
    )


def new_worker(
    id: str, *, lease_seconds: float = 30, slots: int = 2, tags: tuple[str, ...] = ()
) -> NewWorker:
    """A worker as it registers, on a machine that does not exist."""
    return NewWorker(
        id=id,
        name=f"host:{id}",
        host="host",
        boot_id="boot",
        process_space="pid:[1]",
        pid=4_000_000,
        process_started="1",
        slots=slots,
        mode="foreground",
        lease_seconds=lease_seconds,
        tags=tags,
    )


class Pair:
    """Both sides of one queue with the clock they go by, and the steps that many tests take."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = MovableClock(shared=is_url(database.location))
        self.jobs = database.open_jobs()
        self.work = database.open_work(self.clock)

    def enqueue(self, *jobs: str | NewJob) -> None:
        """Puts jobs in, in one transaction; an id alone stands for an ordinary job."""
        self.jobs.enqueue([new_job(j) if isinstance(j, str) else j for j in jobs], self.clock.now())

    def register(
        self, *workers: str, lease_seconds: float = 30, tags: tuple[str, ...] = ()
    ) -> None:
        for worker in workers:
            self.work.register(new_worker(worker, lease_seconds=lease_seconds, tags=tags))

    def claim(self, worker: str, wanted: int = 1) -> list[Claim]:
        return self.work.exchange(worker, [], wanted).claims

    def claim_one(self, worker: str) -> Claim:
        (claim,) = self.claim(worker)
        return claim

    def settlement(self, claim: Claim, outcome: Outcome = SUCCEEDED) -> Settlement:
        """The attempt began when it was claimed in effect now, and ends now."""
        now = self.clock.now()
        verdict = judge(claim, outcome, POLICY)
        return Settlement(claim, outcome, verdict, "somebody", now, now, 0, 100)

    def settle(self, worker: str, claim: Claim, outcome: Outcome = SUCCEEDED) -> list[Claim]:
        """Returns what was refused."""
        return self.work.exchange(worker, [self.settlement(claim, outcome)], 0).refused

    def run(self, worker: str, outcome: Outcome = SUCCEEDED) -> Claim:
        """One job from its claim to its end."""
        claim = self.claim_one(worker)
        assert self.settle(worker, claim, outcome) == []
        return claim

    def job(self, id: str) -> Job:
        job = self.jobs.get(id)
        assert job is not None, f"job {id} is lost"
        return job

    def state(self, id: str) -> State:
        return self.job(id).state

    def ids(self, states: Sequence[State] = ()) -> list[str]:
        """The ids of the jobs in these states, in the order of their arrival."""
        found = self.jobs.list_jobs(states, sort="created", descending=False, limit=None)
        return [job.id for job in found]

    def everything(self) -> list[object]:
        """All that the storage tells of the jobs: what must be the same when nothing changed."""
        listed = self.jobs.list_jobs((), sort="created", descending=False, limit=None)
        return [(job, self.jobs.attempts(job.id)) for job in list(listed)]


def ids_of(claims: Iterable[Claim]) -> list[str]:
    """The ids of claimed jobs, in the order in which they were handed out."""
    return [claim.id for claim in claims]
