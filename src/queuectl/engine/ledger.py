"""The ledger of one worker: settles and claims in a thread of its own, and keeps the lease.

What makes a commit slow is waiting for the disk. Here that wait is spent beside the commands:
outcomes that arrive while one commit is on its way go into the next one together, with the claim
of what runs next. The worker never waits for it unless it has nothing left to start.

This thread alone uses the worker's `WorkerStorage`.
"""

from __future__ import annotations

import threading

from queuectl.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseForeign,
    DatabaseTooNew,
    QueuectlError,
    WorkerFenced,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.jobs.claim import Claim
    from queuectl.storage.job_storage import NewWorker, Outlook, Settlement, WorkerStorage
    from queuectl.storage.sqlite.watch import ChangeWatch

_RETRY_SECONDS = 1.0
"""Between attempts to write while the database cannot be written (a full disk, a long lock)."""

_FATAL = (DatabaseCorrupt, DatabaseForeign, DatabaseTooNew)
"""Errors that no waiting mends."""


class Ledger(threading.Thread):
    """`wake_worker` is called, in this thread, whenever there is something new to look at."""

    def __init__(
        self,
        storage: WorkerStorage,
        worker: NewWorker,
        watch: ChangeWatch,
        clock: Clock,
        *,
        wake_worker: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name="ledger", daemon=True)
        self._storage = storage
        self._worker = worker
        self._watch = watch
        self._clock = clock
        self._wake_worker = wake_worker
        self._say = say
        self._lock = threading.Lock()
        # Guarded by the lock:
        self._settlements: list[Settlement] = []
        self._returned: list[Claim] = []
        self._claimed: list[Claim] = []
        self._wanted = 0
        self._outlook: Outlook | None = None
        self._closing = False
        self._sleeping = False
        # Written by this thread alone:
        self.lease_ends_ticks = clock.ticks() + int(worker.lease_seconds * 1e6)
        """Until when nobody may take this worker's jobs; nothing is started after it."""
        self.fenced = False
        """This worker was given up for lost: whatever it still runs must end, and does not count."""
        self.failure: QueuectlError | None = None
        """Why this thread has ended, when it could not go on."""
        self.in_trouble = False
        """The database cannot be written just now."""

    # ---- for the worker's thread

    @property
    def worker_id(self) -> str:
        """The id its worker is registered under."""
        return self._worker.id

    def trade(self, settlements: list[Settlement], capacity: int) -> list[Claim]:
        """Hands over what ended and takes what was claimed.

        `capacity` is how many claims the worker would like to hold that it does not hold yet.
        """
        with self._lock:
            claims, self._claimed = self._claimed, []
            self._wanted = max(0, capacity - len(claims))
            if settlements:
                self._settlements += settlements
                self._outlook = None
            rouse = self._sleeping and (bool(settlements) or self._wanted > 0)
            if rouse:
                self._sleeping = False
        if rouse:
            self._watch.wake()
        return claims

    def give_back(self, claims: list[Claim]) -> None:
        """Returns claims that will not be started; their jobs lose no attempt."""
        with self._lock:
            self._returned += claims
            self._outlook = None
            self._sleeping = False
        self._watch.wake()

    def outlook(self) -> Outlook | None:
        """What there is to do, as of after everything that was handed over; None if not known yet."""
        with self._lock:
            return self._outlook

    def close(self) -> None:
        """Writes what was handed over, and ends the thread."""
        with self._lock:
            self._closing = True
            self._sleeping = False
        self._watch.wake()
        self.join()
        self._watch.close()

    # ---- the thread

    def run(self) -> None:
        """The thread's life; it ends early when the worker is fenced or the database is beyond use."""
        try:
            self._run()
        except WorkerFenced:
            self.fenced = True
        except QueuectlError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 - a worker must not go on without its ledger
            self.failure = QueuectlError(f"unexpected {type(error).__name__}: {error}")
        self._wake_worker()

    def _run(self) -> None:
        try_claim = True
        while True:
            settlements, returned, wanted, closing = self._next_batch()
            if closing:
                wanted = 0
            if settlements or returned or (wanted and try_claim):
                claimed = self._write(settlements, returned, wanted)
                # Fewer than wanted: nothing is left that could be claimed, until something changes.
                try_claim = claimed == wanted if wanted else try_claim
                if claimed:
                    self._wake_worker()
                if self._watch.changed():
                    try_claim = True
                    self._look_around()
            elif closing:
                self._return_untaken()
                return
            else:
                try_claim = self._rest(wanted)
            self._keep_lease()

    def _return_untaken(self) -> None:
        """What was claimed while the worker closed this ledger is not going to be started."""
        with self._lock:
            untaken, self._claimed = self._claimed, []
        if untaken:
            self._storage.give_back(self._worker.id, untaken)

    def _next_batch(self) -> tuple[list[Settlement], list[Claim], int, bool]:
        with self._lock:
            batch = self._settlements, self._returned, self._wanted, self._closing
            self._settlements, self._returned = [], []
        return batch

    def _write(self, settlements: list[Settlement], returned: list[Claim], wanted: int) -> int:
        """One commit; tried until it succeeds. Returns how many jobs were claimed."""
        while True:
            try:
                if returned:
                    self._storage.give_back(self._worker.id, returned)
                    returned = []
                exchange = self._storage.exchange(self._worker.id, settlements, wanted)
                break
            except _FATAL:
                raise
            except DatabaseError as error:
                wanted = (
                    0  # Only what must be kept is tried again; work is claimed when all is well.
                )
                self._wait_out(error)
                if not settlements and not returned:
                    return 0
        self._recovered()
        with self._lock:
            self._claimed += exchange.claims
            self._wanted = max(0, self._wanted - len(exchange.claims))
        return len(exchange.claims)

    def _wait_out(self, error: DatabaseError) -> None:
        if not self.in_trouble:
            self.in_trouble = True
            self._say(f"{error.message}; going on as soon as it can be written")
        self._watch.wait(_RETRY_SECONDS)

    def _recovered(self) -> None:
        if self.in_trouble:
            self.in_trouble = False
            self._say("the database can be written again")

    def _rest(self, wanted: int) -> bool:
        """Sleeps until there is something to do; whether a claim is worth trying then."""
        outlook = self._look_around()
        if outlook.fenced:
            raise WorkerFenced("this worker was given up for lost")
        if wanted and outlook.ready:
            return True
        with self._lock:
            if self._settlements or self._returned or self._closing or self._wanted != wanted:
                return False
            self._sleeping = True
        if self._watch.wait(self._seconds_to_sleep(outlook, wanted)):
            self._look_around()
        with self._lock:
            self._sleeping = False
        return True

    def _look_around(self) -> Outlook:
        """Reads the outlook and shows it to the worker, unless it is out of date by now."""
        outlook = self._storage.outlook(self._worker.id)
        with self._lock:
            news = outlook != self._outlook and not self._settlements
            if news:
                self._outlook = outlook
        if news:
            self._wake_worker()
        return outlook

    def _seconds_to_sleep(self, outlook: Outlook, wanted: int) -> float:
        seconds = self._worker.lease_seconds / 3
        if wanted and outlook.next_due_at is not None:
            # A clock that is set back must not make it sleep for that long: at most a lease.
            seconds = min(seconds, (outlook.next_due_at - self._clock.now()) / 1e6)
        return max(seconds, 0.0)

    def _keep_lease(self) -> None:
        third = int(self._worker.lease_seconds * 1e6 / 3)
        ticks = self._clock.ticks()
        if self.lease_ends_ticks - ticks > 2 * third:
            return
        try:
            self._storage.heartbeat(self._worker.id, self._worker.lease_seconds)
        except _FATAL:
            raise
        except DatabaseError as error:
            self._wait_out(error)
            return
        self.lease_ends_ticks = ticks + 3 * third
