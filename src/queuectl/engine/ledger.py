"""The ledger of one worker: settles and claims in a thread of its own, and keeps the lease.

What makes a commit slow is waiting for the disk. Here that wait is spent beside the commands:
outcomes that arrive while one commit is on its way, or within a few milliseconds after it, go into
the next one together, with the claim of what runs next. A slot waits for it only when there is
nothing left to start.

This thread alone uses the worker's `WorkerStorage`.
"""

from __future__ import annotations

import signal
import sys
import threading
from queue import Empty, SimpleQueue

from queuectl.engine.pace import Pace
from queuectl.engine.trouble import Trouble
from queuectl.errors import (
    PASSING,
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
    from queuectl.engine.attempt import Attempt
    from queuectl.engine.closing import Closing
    from queuectl.engine.lease import Lease
    from queuectl.jobs.claim import Claim
    from queuectl.storage.job_storage import ChangeWatch, WorkerStorage
    from queuectl.storage.records import Outlook, Settlement

_LOOK_TICKS = 50_000
"""While there is work, what others ask for (a stop, a cancel) is read at most this often (50 ms), and
only after somebody changed the database."""

_RETRY_SECONDS = 1.0
"""Between attempts to write while the database cannot be written (a full disk, a long lock)."""

_LONGEST_RETRY_SECONDS = 5.0
"""The same for a server that is out of reach: between tries the wait grows up to this."""

_PATIENCE_TICKS = 100_000
"""A claimed job that has found no slot for this long (0.1 s) goes back, for another worker to run."""

_LIVELY_TICKS = 2_000_000
"""The thread is taken to hang this long after it was to stir (2 s)."""

_FATAL = (DatabaseCorrupt, DatabaseForeign, DatabaseTooNew)
"""Errors that no waiting mends."""


class Ledger(threading.Thread):
    """`closing` makes of an attempt that ended what is written of it. `wake_worker` is called whenever
    there is something new for the main thread to look at; `say` prints a line for people; `inside`
    is the job in whose command the worker runs, if any.
    """

    def __init__(
        self,
        storage: WorkerStorage,
        watch: ChangeWatch,
        clock: Clock,
        lease: Lease,
        *,
        closing: Closing,
        wake_worker: Callable[[], None],
        say: Callable[[str], None],
        inside: str | None = None,
    ) -> None:
        super().__init__(name="ledger", daemon=True)
        self._storage = storage
        self._watch = watch
        self._clock = clock
        self.lease = lease
        self._closing = closing
        self._wake_worker = wake_worker
        self._say = say
        self.trouble = Trouble(say)
        self._inside = inside
        self.ready: SimpleQueue[Claim | None] = SimpleQueue()
        """What was claimed and not started yet, for the slots to take."""
        self._lock = threading.Lock()
        # Guarded by the lock; where a flag is cleared without it, all that a stale one costs is
        # being woken once for nothing:
        self._ended: list[Attempt] = []
        self._returned: list[Claim] = []
        self._held = 0
        self._accepting = True
        self._asked_to_close = False
        self._resting = False
        self._gathering = False
        self._slots = lease.worker.slots
        self._pace = Pace(self._slots)
        self.on_dropped_output: Callable[[Exception], object] = lambda error: None
        """Told why an outcome was written without the rest of its output."""
        self.may_be_cut_off = storage.spans_machines
        """The database may be out of reach here while workers elsewhere go on."""
        # One step to read or write, by whatever thread:
        self._worth_a_claim = True
        self._giving_up = False
        self._moved_ticks = 0
        # Written by this thread alone:
        self._stirs_at_ticks = clock.ticks()
        self.outlook: Outlook | None = None
        """What there is to do, as last seen."""
        self.is_drained = False
        """Nothing is left to do: nothing ready, running or waiting for its retry, in any worker."""
        self.outdated: DatabaseTooNew | None = None
        """A later program has brought the schema up. What runs can be settled still, and no more."""
        self.failure: QueuectlError | None = None
        """Why this thread has ended, when it could not go on."""
        self.completed = 0
        self.failed = 0
        self._troubles = 0
        """How many tries in a row have failed."""
        self._has_news = False
        self._looks_at_ticks = 0

    # ---- for the slots

    def took_one(self, ticks: int) -> None:
        """A claimed job was started."""
        self._moved_ticks = ticks

    def settle(self, attempt: Attempt) -> None:
        """An attempt has ended; its outcome will be on the disk within 50 ms."""
        with self._lock:
            self._held -= 1
            self._ended.append(attempt)
            self._pace.ended(attempt.seconds)
            wake = self._resting or (self._gathering and not self._may_gather())
            if wake:
                self._resting = self._gathering = False
        if wake:
            self._watch.wake()

    def give_back(self, claims: list[Claim]) -> None:
        """Returns claims that will not be started; their jobs lose no attempt."""
        if claims:
            with self._lock:
                self._held -= len(claims)
                self._returned += claims
            self._watch.wake()

    def forfeit(self) -> None:
        """A slot failed with a claim in its hands. Nobody settles it: the job stays claimed until
        this worker is gone, and is rescued then.
        """
        with self._lock:
            self._held -= 1

    # ---- for the main thread

    def is_lively(self) -> bool:
        """Whether its thread has gone round lately, or sleeps and was not to wake yet."""
        return self._clock.ticks() < self._stirs_at_ticks + _LIVELY_TICKS

    def mind_silence(self) -> None:
        """Says so when the server does not answer. To be called every few seconds."""
        if self.may_be_cut_off and self.is_alive():
            ticks = self._clock.ticks()
            silent_ticks = ticks - self._stirs_at_ticks
            self.trouble.mind_silence(ticks, silent_ticks, self.lease.worker.lease_seconds)

    @property
    def held(self) -> int:
        """How many claims are in the slots, or ready for them."""
        return self._held

    def accept(self, accepting: bool) -> None:
        """Whether to claim more jobs. What was claimed stays ready."""
        with self._lock:
            changed = self._accepting != accepting
            self._accepting = accepting
        if changed:
            self._watch.wake()

    def give_back_ready(self) -> None:
        """Returns everything that no slot has taken yet."""
        self.give_back(self._take_ready())

    def _take_ready(self) -> list[Claim]:
        claims = []
        try:
            while True:
                claim = self.ready.get_nowait()
                if claim is not None:
                    claims.append(claim)
        except Empty:
            return claims

    def look_again(self) -> None:
        """The wall clock was set: what is due now may be more, or less, than what it sleeps for."""
        self._watch.wake()

    def give_back_waiting(self) -> None:
        """Returns what was claimed ahead, when no slot had room for any of it for some time."""
        if not self.ready.empty() and self._clock.ticks() - self._moved_ticks > _PATIENCE_TICKS:
            with self._lock:
                self._pace.slow()
            self.give_back_ready()

    def give_up(self) -> None:
        """Tries no failed write again. Outcomes that were not written are lost, and their jobs are
        rescued later.
        """
        self._giving_up = True
        self._watch.wake()

    def ask_to_close(self) -> None:
        """Has the thread end once all that was handed over is written; everything must have been."""
        with self._lock:
            self._asked_to_close = True
        self._watch.wake()

    def free(self) -> None:
        """Gives back what it waited with. The thread must have ended."""
        self._watch.close()

    # ---- the thread

    def run(self) -> None:
        """The thread's life; it ends early only when the database is beyond use."""
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self._serve():
                self._register_anew()
        except QueuectlError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 - a worker must not go on without its ledger
            self.failure = QueuectlError(f"unexpected {type(error).__name__}: {error}")
        self._wake_worker()

    def _serve(self) -> bool:
        """Works until closed (true) or given up for lost (false)."""
        self._worth_a_claim = True
        while True:
            try:
                ended, returned, wanted, is_last = self._next_batch()
                if ended or returned or (wanted and self._worth_a_claim):
                    claimed = self._write(self._settlements_of(ended), returned, wanted)
                    if wanted:
                        # Fewer than wanted: there are no more, until something changes.
                        self._worth_a_claim = claimed == wanted
                    if self._watch.changed():
                        self._worth_a_claim = self._has_news = True
                    if self._has_news and self._clock.ticks() >= self._looks_at_ticks:
                        self._look_around()
                    self._gather()
                elif is_last:
                    self._return_untaken()
                    return True
                else:
                    self._worth_a_claim = self._rest(wanted)
                self._keep_lease()
            except WorkerFenced:
                self._recover()  # That is an answer.
                return False
            except DatabaseError as error:
                self._wait_out(error)

    def _return_untaken(self) -> None:
        """What a claim that was on its way brought after the last slot had closed."""
        untaken = self._take_ready()
        if untaken:
            self._storage.give_back(self.lease.worker.id, untaken)

    def _next_batch(self) -> tuple[list[Attempt], list[Claim], int, bool]:
        with self._lock:
            ended, self._ended = self._ended, []
            returned, self._returned = self._returned, []
            return ended, returned, self._wanted(), self._asked_to_close

    def _settlements_of(self, ended: list[Attempt]) -> list[Settlement]:
        """What to write of the attempts that ended. Not before it is known that they still count:
        after a lease that ran out somebody else may be writing into the same logs.
        """
        try:
            while ended and not self.lease.holds():
                self._renew_lease()
        except WorkerFenced:
            with self._lock:
                self._ended = ended + self._ended
            raise
        return [self._closing.settlement(attempt) for attempt in ended]

    def _wanted(self) -> int:
        """How many more claims to hold: one for each free slot, and some ahead."""
        if self._asked_to_close or not self._accepting:
            return 0
        ahead = self._pace.ahead()
        wanted = self._slots + ahead - self._held
        # In bulk, or not at all: each claim is a commit.
        return wanted if wanted > ahead // 2 else 0

    def _write(self, settlements: list[Settlement], returned: list[Claim], wanted: int) -> int:
        """One commit, tried until it succeeds; returns how many jobs were claimed."""
        while True:
            try:
                if returned:
                    self._storage.give_back(self.lease.worker.id, returned)
                    returned = []
                began_ticks = self._clock.ticks()
                exchange = self._storage.exchange(self.lease.worker.id, settlements, wanted)
                self._pace.committed((self._clock.ticks() - began_ticks) / 1e6)
                break
            except WorkerFenced:
                raise
            except Exception as error:
                if not isinstance(error, PASSING) and any(s.output for s in settlements):
                    # No outcome may depend on what is copied along with it.
                    self.on_dropped_output(error)
                    settlements = [s._replace(output=None) for s in settlements]
                    continue
                if not isinstance(error, DatabaseError):
                    raise
                self._wait_out(error)
                # Only what must be kept is tried again; work is claimed when all is well.
                wanted = 0
                if not settlements and not returned:
                    return 0
        self._recover()
        self._deliver(exchange.claims)
        self._tally(settlements, exchange.refused)
        return len(exchange.claims)

    def _deliver(self, claims: list[Claim]) -> None:
        with self._lock:
            begins = claims and not self._held
            self._held += len(claims)
        if begins:
            self._wake_worker()  # It sleeps for as long as there is nothing to look after.
        self._moved_ticks = self._clock.ticks()
        for claim in claims:
            self.ready.put(claim)

    def _tally(self, settlements: list[Settlement], refused: list[Claim]) -> None:
        for settlement in settlements:
            kind = settlement.outcome.kind
            if settlement.claim in refused or kind in ("interrupted", "cancelled"):
                continue
            if kind == "succeeded":
                self.completed += 1
            else:
                self.failed += 1

    def _gather(self) -> None:
        """Lets some outcomes come together, unless a slot would have to wait for that."""
        with self._lock:
            if self._asked_to_close or not self._may_gather():
                return
            self._gathering = True
        self._watch.doze(self._pace.gather_seconds())
        self._gathering = False

    def _may_gather(self) -> bool:
        """Whether no slot will have to wait for a claim within the next few milliseconds; where there
        is nothing to claim, whether all of them are busy.
        """
        if not self._worth_a_claim:
            return self._held >= self._slots
        return self._held > self._slots + self._pace.ahead() // 4

    def _rest(self, wanted: int) -> bool:
        """Sleeps until there is something to do; whether a claim is worth trying then."""
        outlook = self._look_around()
        if outlook.fenced:
            raise WorkerFenced("this worker was given up for lost")
        if wanted and outlook.ready:
            return True
        with self._lock:
            if self._ended or self._returned or self._asked_to_close or self._wanted() != wanted:
                return False
            self._resting = True
            drained = self._held == 0 and not outlook.unfinished
        if drained != self.is_drained:
            self.is_drained = drained
            self._wake_worker()
        seconds = self._seconds_to_sleep(outlook, wanted)
        self._will_stir_in(seconds)
        changed = self._watch.wait(seconds)
        self._will_stir_in(0)
        self._resting = False
        self.is_drained = False
        if changed:
            self._look_around()
        # In time: what is due by then is seen in the next look.
        return changed

    def _look_around(self) -> Outlook:
        self._has_news = False
        self._looks_at_ticks = self._clock.ticks() + _LOOK_TICKS
        outlook = self._storage.outlook(self.lease.worker.id, self._inside)
        if self.trouble.ends_with_an_answer:
            self._recover()  # Whether it can be written will be seen.
        if outlook != self.outlook:
            self.outlook = outlook
            self._wake_worker()
        return outlook

    def _seconds_to_sleep(self, outlook: Outlook, wanted: int) -> float:
        seconds = self.lease.renewed_every_seconds
        if wanted and outlook.next_due_at is not None:
            # A clock that is set back must not make it sleep for that long: at most as long as the lease
            # needs no heartbeat.
            seconds = min(seconds, (outlook.next_due_at - self._clock.now()) / 1e6)
        return max(seconds, 0.0)

    def _will_stir_in(self, seconds: float) -> None:
        self._stirs_at_ticks = self._clock.ticks() + int(seconds * 1e6)

    # ---- the lease

    def _keep_lease(self) -> None:
        self._will_stir_in(0)
        if self.lease.is_due():
            self._renew_lease()

    def _renew_lease(self) -> None:
        """Tries to, and waits a while where the database cannot be written."""
        try:
            self.lease.renew()
            if self.may_be_cut_off:  # A full disk may have room for that, and not for an outcome.
                self._recover()
            self._mind_schema()
        except DatabaseError as error:
            self._wait_out(error)

    def _mind_schema(self) -> None:
        try:
            if self.outdated is None:
                self._storage.require_known_schema()
        except DatabaseTooNew as error:
            self.outdated = error
            self._wake_worker()

    def _register_anew(self) -> None:
        """After being given up for lost: waits until everything it held has ended, and is a new
        worker then. What ended meanwhile is somebody else's by now, and is not written.
        """
        self._say("this worker was given up for lost and its jobs were taken back; starting anew")
        self.lease.lost = True
        self._wake_worker()
        while True:
            with self._lock:
                ended, self._ended = self._ended, []
                self._returned.clear()
                is_over = self._held == 0
                self._resting = not is_over
            for attempt in ended:
                self._closing.abandon(attempt)
            if is_over:
                break
            self._will_stir_in(_RETRY_SECONDS)
            self._watch.doze(_RETRY_SECONDS)
        self.outlook = None
        while self.lease.lost:
            try:
                self.lease.begin()
                self._recover()
            except DatabaseError as error:
                self._wait_out(error)

    # ---- trouble

    def _wait_out(self, error: DatabaseError) -> None:
        """Called while an error is handled: raises it again when no waiting will mend it."""
        if self._giving_up or isinstance(error, _FATAL):
            raise error
        self.trouble.met(error)
        seconds = self._seconds_to_retry()
        self._troubles += 1
        self._storage.make_room()
        self._will_stir_in(seconds)
        self._watch.doze(seconds)

    def _seconds_to_retry(self) -> float:
        if not self.may_be_cut_off:
            return _RETRY_SECONDS
        # Not all at once: a server that comes back has hundreds of workers waiting for it.
        import random

        longest = min(_LONGEST_RETRY_SECONDS, self.lease.worker.lease_seconds / 6)
        return min(longest, 0.1 * 2.0 ** min(self._troubles, 10)) * random.uniform(0.5, 1)

    def _recover(self) -> None:
        self._troubles = 0
        self.trouble.is_over()
