"""A worker's lease: until when nobody may take what it holds.

Its registration begins one, each heartbeat renews it. Used by the ledger's thread; others only ask.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.storage.job_storage import WorkerStorage
    from queuectl.storage.records import NewWorker

LONGEST_BEAT_SECONDS = 10.0
"""How often a lease is renewed, however long it is: what cannot be reached is noticed by that."""


class Lease:
    """`new_worker` makes the record to register, anew after each loss."""

    def __init__(
        self, storage: WorkerStorage, clock: Clock, new_worker: Callable[[], NewWorker]
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._new_worker = new_worker
        self._seconds = new_worker().lease_seconds
        self._has_changed = False
        self.lost = False
        """This worker was given up for lost: whatever it still runs must end, and does not count."""
        self.begin()

    def configure(self, seconds: float) -> bool:
        """How long it is from now on; whether that is news. Called by another thread."""
        if seconds == self._seconds:
            return False
        self._seconds, self._has_changed = seconds, True
        return True

    def begin(self) -> None:
        """Registers a new worker, which holds nothing yet."""
        worker = self._new_worker()._replace(lease_seconds=self._seconds)
        ends_ticks = self._end_from(self._clock.ticks(), worker)
        self._storage.register(worker)
        self.worker = worker
        self._ends_ticks = ends_ticks
        self.lost = False

    def renew(self) -> None:
        """Raises WorkerFenced when the worker was given up for lost."""
        self._has_changed = False
        self.worker = self.worker._replace(lease_seconds=self._seconds)
        ticks = self._clock.ticks()  # Before it is written: nobody may think it ends earlier.
        self._storage.heartbeat(self.worker.id, self.worker.lease_seconds)
        self._ends_ticks = self._end_from(ticks, self.worker)

    def is_due(self) -> bool:
        """Whether it is time to renew it: a third of it has passed, or 10 s; or its length has changed."""
        if self._has_changed:
            return True
        left_ticks = self._ends_ticks - self._clock.ticks()
        return left_ticks <= int((self.worker.lease_seconds - self.renewed_every_seconds) * 1e6)

    @property
    def renewed_every_seconds(self) -> float:
        """How long no heartbeat is needed."""
        return min(self.worker.lease_seconds / 3, LONGEST_BEAT_SECONDS)

    def holds(self, ticks: int | None = None) -> bool:
        """Whether it is sure to be in force at `ticks` (None: now): nobody else can have been given
        what this worker holds.
        """
        return (
            not self.lost and (self._clock.ticks() if ticks is None else ticks) < self._ends_ticks
        )

    @staticmethod
    def _end_from(ticks: int, worker: NewWorker) -> int:
        return ticks + int(worker.lease_seconds * 1e6)
