"""Taking jobs back from workers that were lost.

The order matters. First the lost worker is fenced, so that nothing it may still write counts; then
what is left of its commands is ended; only then are its jobs taken from it, and may run again.
A rescuer that dies between these steps leaves a fenced worker, which the next one finishes.
"""

from __future__ import annotations

from functools import partial

from queuectl import processes
from queuectl.engine import tree
from queuectl.job_logs import JobLogs
from queuectl.jobs.outcome import LOST, LOST_BEFORE_START, judge
from queuectl.processes import WorkerHealth
from queuectl.text import counted
from queuectl.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.clock import Clock
    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Outcome, Policy, Verdict
    from queuectl.processes import Identity
    from queuectl.storage.job_storage import WorkerStorage
    from queuectl.storage.records import WorkerRecord

ROUNDS_OF_SILENCE = 4
"""How often in a row a worker must have been seen with the same expired lease to be given up."""

_LATENESS_TICKS = 2_000_000
"""A look that comes later than this (2 s) means that the one who looks was frozen as well."""


class Patience:
    """Decides when silence means loss: not at first sight.

    Workers that were all kept from renewing their leases, by a frozen machine or a full disk, must
    not take each other's jobs the moment they can write again: only rounds in which this one could
    write count. A process that is gone needs no patience. Where a lease goes by a clock that all
    machines read, a jump of that clock must not end it: there a whole lease has to pass here as well
    without a sign of life.
    """

    def __init__(self) -> None:
        self.every_seconds = 0.5
        """How often there is a look."""
        self._silent: dict[str, tuple[int, int]] = {}
        self._beats: dict[str, tuple[int, int]] = {}
        self._last_ticks: int | None = None

    def begin_round(self, ticks: int) -> None:
        """Another look at all workers begins."""
        longest_ticks = int(self.every_seconds * 1e6) + _LATENESS_TICKS
        if self._last_ticks is None or ticks - self._last_ticks > longest_ticks:
            self.forget()
        self._last_ticks = ticks

    def forget(self) -> None:
        """A look failed: whatever kept this one from reading may have kept others from writing."""
        self._silent.clear()
        self._beats.clear()

    def is_over(self, worker: WorkerRecord, health: WorkerHealth) -> bool:
        """Whether this worker is to be given up, found like this in this round."""
        may_be_over = not worker.lease_is_shared or self._has_missed_a_lease(worker)
        if health == WorkerHealth.LOST:
            return True
        if health == WorkerHealth.ALIVE:
            self._silent.pop(worker.id, None)
            return False
        heartbeat, rounds = self._silent.get(worker.id, (worker.heartbeat_at, 0))
        rounds = rounds + 1 if heartbeat == worker.heartbeat_at else 1
        self._silent[worker.id] = (worker.heartbeat_at, rounds)
        return rounds >= ROUNDS_OF_SILENCE and may_be_over

    def _has_missed_a_lease(self, worker: WorkerRecord) -> bool:
        ticks = self._last_ticks or 0
        heartbeat, since_ticks = self._beats.get(worker.id, (None, 0))
        if heartbeat != worker.heartbeat_at:
            since_ticks = ticks
            self._beats[worker.id] = (worker.heartbeat_at, ticks)
        return ticks - since_ticks >= int(worker.lease_seconds * 1e6)


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
        line = f"worker {self.worker.name} was lost; took back {counted(len(self.jobs), 'job')}"
        if self.ended:
            line += f" and ended {counted(self.ended, 'process')} it left behind"
        return line


def is_held_up_by(
    storage: WorkerStorage, worker: WorkerRecord, health: WorkerHealth, me: Identity
) -> bool:
    """Whether this worker keeps everybody from writing, itself included: it was suspended in the
    middle of a write, for longer than its lease. It has to be ended before anything can be taken
    from it.
    """
    return (
        health == WorkerHealth.SILENT
        and (worker.boot_id, worker.process_space) == (me.boot_id, me.process_space)
        and storage.suspended_writer() == worker.pid
    )


def rescue_lost(
    storage: WorkerStorage,
    database: str,
    *,
    policy: Policy,
    clock: Clock,
    grace_seconds: float,
    patience: Patience,
    myself: Identity | None = None,
    except_for: str | None = None,
) -> list[Rescue]:
    """One round: finds the lost workers and takes their jobs back. `except_for` is a worker's id.

    Raises OSError when this machine does not let us look at its processes, and a DatabaseError, not
    only for trouble of its own, when it finds a worker silent and could not renew a lease either.
    """
    me = myself or processes.this_process()
    patience.begin_round(clock.ticks())
    logs = JobLogs(Workspace(database).logs)
    rescues = []
    for worker in storage.workers(count_running=False):
        if worker.id == except_for:
            continue
        health = processes.health_of(worker, me, clock.now())
        is_in_the_way = is_held_up_by(storage, worker, health, me)
        if health == WorkerHealth.SILENT and not is_in_the_way:
            storage.rewrite_worker(worker.id)
        if not patience.is_over(worker, health):
            continue
        if is_in_the_way:
            tree.kill(worker.pid)
        # It may have come to its heartbeat while this one waited for its turn to write.
        if not storage.give_up(worker.id, worker.heartbeat_at):
            continue
        is_elsewhere = processes.is_elsewhere(worker, me)
        fence = partial(storage.fence, worker.id)
        held = fence()
        ended = tree.end_orphans(database, held, grace_seconds, fence)
        if ended is None:
            continue  # Tried again in the next round; until then its jobs stay where they are.

        def decide(claim: Claim, is_elsewhere: bool = is_elsewhere) -> tuple[Outcome, Verdict]:
            # The line is written while nobody else can take the job: there is one, and no later
            # run has begun. The logs of another machine are there, and do not tell.
            begun = is_elsewhere or logs.close_lost(claim.id, claim.attempt, clock.now())
            outcome = LOST if begun else LOST_BEFORE_START
            return outcome, judge(claim, outcome, policy)

        jobs = storage.rescue(worker.id, decide)
        # A worker that was only stopped may have started one more command as it woke.
        ended |= tree.end_orphans(database, held, 0, None) or set()
        rescues.append(Rescue(worker, jobs, len(ended)))
    return rescues
