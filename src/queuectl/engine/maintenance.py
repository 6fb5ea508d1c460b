"""Looking after what no single job is about: lost workers, a clock that was set back, the database."""

from __future__ import annotations

import threading

from queuectl import processes
from queuectl.engine.rescue import Patience, rescue_lost
from queuectl.errors import PASSING
from queuectl.storage import fingerprint
from queuectl.text import is_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.jobs.outcome import Policy
    from queuectl.processes import Identity
    from queuectl.storage.job_storage import WorkerStorage

EVERY_SECONDS = 0.5
"""How often a worker looks after the others."""

EVERY_SECONDS_REMOTE = 2.5
"""The same where each look is a question to a server, which all workers ask."""

_CLOCK_STEP = 1_000_000
"""How far the wall clock may get away from the machine's own between two rounds (1 s): smaller
steps are those of a clock that is being kept in time."""


_ROUNDS_TO_TELL = 3
"""A server that is away for a moment is the ledger's to tell of: what lasts for so many rounds is not."""


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
        on_clock_step: Callable[[], None],
        database_gone: Callable[[], None],
        is_told: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_told` says whether people know that the database cannot be used."""
        super().__init__(name="maintenance", daemon=True)
        self._open_storage = open_storage
        self._database = database
        self._clock = clock
        self._worker_id = worker_id
        self._policy = policy
        self._grace_seconds = grace_seconds
        self._say = say
        self._on_clock_step = on_clock_step
        self._database_gone = database_gone
        self._is_told = is_told
        self._stopping = threading.Event()
        self._clock_offset: int | None = None
        self._patience = Patience()
        # This worker has it open already: all that belongs to it is there.
        self._fingerprint = fingerprint(database)

    def ask_to_close(self) -> None:
        """Has the thread end, after the round it may be in."""
        self._stopping.set()

    def run(self) -> None:
        """The thread's life: a round every EVERY_SECONDS."""
        me = None
        storage = None
        complaint = ""
        failed = 0
        self._patience.every_seconds = EVERY_SECONDS
        # The first round was made before the worker began.
        while not self._stopping.wait(self._patience.every_seconds):
            if self._fingerprint is None or fingerprint(self._database) != self._fingerprint:
                self._database_gone()
                break
            try:
                # Either may want for a descriptor, and have one in a later round.
                me = me or processes.this_process()
                storage = storage or self._open_storage()
                if storage.spans_machines:
                    self._patience.every_seconds = EVERY_SECONDS_REMOTE
                self._heed_clock(storage)
                self._round(storage, me)
                complaint = ""
                failed = 0
            except Exception as error:  # noqa: BLE001 - the next round may go well
                self._patience.forget()
                if isinstance(error, PASSING) and is_url(self._database):
                    failed = 0 if self._is_told() else failed + 1
                    if failed < _ROUNDS_TO_TELL:
                        continue
                if str(error) != complaint:
                    complaint = str(error)
                    self._say(f"cannot look after other workers: {complaint}")
        if storage is not None:
            storage.close()

    def _heed_clock(self, storage: WorkerStorage) -> None:
        """A clock that is set back would make every retry wait for that much longer."""
        offset = self._clock.now() - self._clock.ticks()
        before, self._clock_offset = self._clock_offset, offset
        if before is not None and abs(offset - before) > _CLOCK_STEP:
            self._on_clock_step()
        if before is None or offset < before - _CLOCK_STEP:
            shortened = storage.rebase_retries()
            if shortened:
                self._say(f"the clock was set back; {shortened} retries wait no longer for that")

    def _round(self, storage: WorkerStorage, me: Identity) -> None:
        rescues = rescue_lost(
            storage,
            self._database,
            policy=self._policy(),
            clock=self._clock,
            grace_seconds=self._grace_seconds(),
            patience=self._patience,
            myself=me,
            except_for=self._worker_id(),
        )
        for rescue in rescues:
            self._say(rescue.describe())
