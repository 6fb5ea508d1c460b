"""The command line in this process, on a queue of its own, and a worker that does as it is told."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from queuectl.cli import main
from queuectl.clock import Clock
from queuectl.job_logs import JobLogs
from queuectl.job_queue import JobQueue
from queuectl.jobs.claim import Claim
from queuectl.jobs.job_view import Job
from queuectl.jobs.outcome import SUCCEEDED, Outcome, Policy, exited, judge
from queuectl.storage import open_worker_storage
from queuectl.storage.records import Settlement
from tests.support import this_process_as_worker, wait_until

FAILED = exited(3)


class Ran(NamedTuple):
    """What one command line did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Terminal(io.StringIO):
    """Text that claims to come from, or go to, a terminal."""

    def isatty(self) -> bool:
        return True


class Cli:
    """Command lines of queuectl, run one after the other in `folder`, which is the current one."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.database = folder / "queuectl.db"
        self._capture = capture

    def __call__(self, *words: str) -> Ran:
        self._capture.readouterr()
        status = main(words)
        return Ran(status, *self._capture.readouterr())

    def done(self, *words: str) -> Ran:
        """A command line that has to end well."""
        ran = self(*words)
        assert ran.status == 0, ran
        return ran

    def enqueue(self, command: str = "true", *options: str) -> str:
        """Queues a command and returns the id of its job."""
        return self.done("enqueue", "-q", "--command", command, *options).out.strip()

    def dead(self, command: str = "exit 3", *options: str) -> str:
        """A job that failed its only attempt."""
        job_id = self.enqueue(command, "--max-retries", "0", *options)
        self.finish(job_id, FAILED)
        return job_id

    def completed(self, command: str = "true", *options: str) -> str:
        job_id = self.enqueue(command, *options)
        self.finish(job_id)
        return job_id

    def finish(self, job_id: str, outcome: Outcome = SUCCEEDED, output: bytes = b"") -> None:
        """Runs the job, which has to be the next one, and lets it end like this."""
        with hand_worker(self.database) as worker:
            (claim,) = worker.claim()
            assert claim.id == job_id
            worker.settle(claim, outcome, output)

    def job(self, job_id: str) -> Job:
        with JobQueue.open(self.database, create=False) as queue:
            return queue.get(job_id)

    def states(self) -> dict[str, str]:
        """Each job's id and state; nothing when there is no queue."""
        if not self.database.exists():
            return {}
        with JobQueue.open(self.database, create=False) as queue:
            return {job.id: job.state.value for job in queue.list()}


class HandWorker:
    """A registered worker whose every step the test takes. It lives as long as the test's process."""

    def __init__(self, database: Path, *, slots: int = 4, like: HandWorker | None = None) -> None:
        self._id = os.urandom(8).hex()
        self._storage = open_worker_storage(str(database), Clock())
        self._logs = JobLogs(str(database.parent / "job_logs"))
        if like is not None:  # Another thread of that worker, with a connection of its own.
            self._id = like._id
            return
        self._storage.register(this_process_as_worker(self._id, name="hand:1", slots=slots))

    def claim(self, wanted: int = 1) -> list[Claim]:
        return self._storage.exchange(self._id, [], wanted).claims

    def settle(self, claim: Claim, outcome: Outcome = SUCCEEDED, output: bytes = b"") -> None:
        """Ends a claimed attempt, with this output in its log."""
        now = Clock().now()
        self._logs.ensure_folder()
        log = self._logs.open_attempt(
            claim.id,
            claim.attempt,
            max_retries=claim.max_retries,
            started_at=now,
            worker="hand:1",
            command=claim.command,
            cwd=claim.cwd,
        )
        os.write(log.fd, output)
        end = log.close(outcome.error or outcome.kind, now, 0.5)
        verdict = judge(claim, outcome, Policy(backoff_base=0, max_losses=5))
        settlement = Settlement(claim, outcome, verdict, "hand:1", now, now, log.start, end)
        assert not self._storage.exchange(self._id, [settlement], 0).refused

    def is_asked_to_cancel(self) -> bool:
        return bool(self._storage.outlook(self._id).cancelling)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._storage.unregister(self._id)
        self._storage.close()


@contextlib.contextmanager
def hand_worker(database: Path, *, like: HandWorker | None = None) -> Iterator[HandWorker]:
    """A worker that is registered until the block ends."""
    worker = HandWorker(database, like=like)
    try:
        yield worker
    finally:
        worker.close()


@contextlib.contextmanager
def working(database: Path, outcomes: Sequence[tuple[Outcome, bytes]]) -> Iterator[None]:
    """Meanwhile a worker takes one job after the other, and ends each like the next of `outcomes`."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            wait_until(database.exists)
            with hand_worker(database) as worker:
                for outcome, output in outcomes:
                    (claim,) = wait_until(worker.claim)
                    worker.settle(claim, outcome, output)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the test's thread
            failures.append(error)

    with meanwhile(work):
        yield
    if failures:
        raise failures[0]


@contextlib.contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Runs `work` in a thread while the block runs, and waits for it."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
