"""Taking jobs back from workers that were lost: noticed by any living worker of the same queue.

The order matters. First the lost worker is fenced, so that nothing it may still write counts; then
what is left of its commands is ended; only then are its jobs taken from it, and may run again.
A maintainer that dies between these steps leaves a fenced worker, which the next one finishes.
"""

from __future__ import annotations

import os
import threading

from queuectl import processes
from queuectl.engine import tree
from queuectl.errors import DatabaseError
from queuectl.jobs.outcome import LOST, Policy, judge
from queuectl.processes import Judgement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Verdict
    from queuectl.processes import Identity
    from queuectl.storage.job_storage import WorkerStorage
    from queuectl.storage.records import WorkerRecord

EVERY_SECONDS = 1.0
"""How often a worker looks after the others."""


_CLOCK_STEP = 1_000_000
"""What the wall clock may fall behind the machine's own between two rounds (1 s): smaller steps
are those of a clock that is being kept in time."""


class Rescue:
    """What was done about one lost worker, for those who report it."""

    __slots__ = ("ended", "jobs", "worker")

    def __init__(self, worker: WorkerRecord, jobs: list[tuple[Claim, Verdict]], ended: int) -> None:
        self.worker = worker
        self.jobs = jobs
        self.ended = ended
        """Processes of its commands that were still running."""

    def describe(self) -> str:
        """One line for people."""
        count = len(self.jobs)
        line = f"worker {self.worker.name} was lost; took back {count} job{'s' * (count != 1)}"
        if self.ended:
            line += f" and ended {self.ended} process{'es' * (self.ended != 1)} it left behind"
        return line


def rescue_lost(
    storage: WorkerStorage,
    database: str,
    *,
    policy: Policy,
    clock: Clock,
    grace_seconds: float,
    myself: Identity | None = None,
    except_for: str | None = None,
) -> list[Rescue]:
    """One round: finds the lost workers and takes their jobs back. `except_for` is a worker's id."""
    me = myself or processes.this_process()
    rescues = []
    for worker in storage.workers():
        if worker.id == except_for or not _is_lost(worker, me, clock):
            continue
        held = storage.fence(worker.id)
        ended = tree.end_orphans(database, held, grace_seconds)
        if ended is None:
            continue  # Tried again in the next round; until then its jobs stay where they are.
        jobs = storage.rescue(worker.id, lambda claim: judge(claim, LOST, policy), LOST)
        # A worker that was only stopped may have started one more command as it woke.
        ended |= tree.end_orphans(database, held, 0) or set()
        rescues.append(Rescue(worker, jobs, len(ended)))
    return rescues


def _is_lost(worker: WorkerRecord, me: Identity, clock: Clock) -> bool:
    if worker.fenced_at is not None:
        return True
    return processes.judge_worker(worker, me, clock.now()) != Judgement.ALIVE


class Maintenance(threading.Thread):
    """Looks after the other workers, in a thread and with a connection of its own.

    Ending what a lost worker left behind can take a grace time; neither this worker's lease nor
    its commands may wait for that.
    """

    def __init__(
        self,
        open_storage: Callable[[], WorkerStorage],
        database: str,
        clock: Clock,
        *,
        worker_id: Callable[[], str],
        policy: Callable[[], Policy],
        grace_seconds: Callable[[], float],
        say: Callable[[str], None],
        each_round: Callable[[], None],
        database_gone: Callable[[], None],
    ) -> None:
        super().__init__(name="maintenance", daemon=True)
        self._open_storage = open_storage
        self._database = database
        self._clock = clock
        self._worker_id = worker_id
        self._policy = policy
        self._grace_seconds = grace_seconds
        self._say = say
        self._each_round = each_round
        self._database_gone = database_gone
        self._stopping = threading.Event()
        self._clock_offset: int | None = None

    def close(self) -> None:
        """Ends the thread, after the round it may be in."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """The thread's life: a round about every second."""
        file = _file_id(self._database)
        me = processes.this_process()
        storage = None
        complaint = ""
        # The first round was made before the worker began.
        while not self._stopping.wait(EVERY_SECONDS):
            self._each_round()
            try:
                storage = storage or self._open_storage()
                self._heed_clock(storage)
                self._round(storage, me)
                complaint = ""
            except DatabaseError as error:
                if error.message != complaint:
                    complaint = error.message
                    self._say(f"cannot look after other workers: {complaint}")
            if _file_id(self._database) != file:
                self._database_gone()
                break
        if storage is not None:
            storage.close()

    def _heed_clock(self, storage: WorkerStorage) -> None:
        """A clock that is set back would make every retry wait for that much longer."""
        offset = self._clock.now() - self._clock.ticks()
        if self._clock_offset is None or offset < self._clock_offset - _CLOCK_STEP:
            shortened = storage.rebase_retries()
            if shortened:
                self._say(f"the clock was set back; {shortened} retries wait no longer for that")
        self._clock_offset = offset

    def _round(self, storage: WorkerStorage, me: processes.Identity) -> None:
        rescues = rescue_lost(
            storage,
            self._database,
            policy=self._policy(),
            clock=self._clock,
            grace_seconds=self._grace_seconds(),
            myself=me,
            except_for=self._worker_id(),
        )
        for rescue in rescues:
            self._say(rescue.describe())


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
