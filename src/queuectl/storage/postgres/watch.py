"""Learning that somebody else changed the queue, without asking all the time.

A worker that waits says so in its row, and whoever changes the queue has the server notify it: only
then, for notifications take turns and would slow down every enqueue. Of hundreds that wait for a job not all
are told, but as many as may be of use: each one that is asks a dozen questions. Behind a pooler, which hands
our transactions to different sessions, nobody can be notified: there the counter of changes is
asked regularly.
"""

from __future__ import annotations

import sys
import time

from queuectl.bell import Bell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.storage.postgres.connection import Connection

FIRST_SECONDS = 0.05
"""The first sleep is a short one, without notifications: most drains never need them."""

SAFETY_SECONDS = 10.0
"""The longest time without asking: whoever changed the queue may have died before it could tell."""


_CAN_LISTEN = sys.platform != "win32"
"""Windows can wait for a bell or for a server, but not for both."""


class ChangeWatch:
    """Sleeps until the queue changes, until it is woken, or until a time has passed.

    `worker_id` names the row in which the one who waits says so; `poll_seconds` is how often to ask
    where nobody is notified.
    """

    def __init__(
        self, db: Connection, worker_id: Callable[[], str | None], poll_seconds: float
    ) -> None:
        self._db = db
        self._worker_id = worker_id
        self._poll_seconds = poll_seconds
        self._bell = Bell()
        self._has_slept = False
        self._listens_on = 0
        self._waiting_as: str | None = None
        self.seen = db.counter()
        """The counter of changes when it was last looked at."""

    def close(self) -> None:
        """Frees what it holds."""
        self._bell.close()

    def wake(self) -> None:
        """Ends the sleep of another thread, or its next one. Never blocks."""
        self._bell.ring()

    def rang(self, counter: int | None) -> None:
        """This worker told others of a change of its own, which is none for itself."""
        if counter == self.seen + 1:
            self.seen = counter

    def changed(self) -> bool:
        """Whether somebody else changed the queue since this was last asked."""
        # Mostly the last commit has asked along the way.
        counter, self._db.fresh_counter = self._db.fresh_counter, None
        before, self.seen = self.seen, self._db.counter() if counter is None else counter
        return before != self.seen

    def doze(self, seconds: float) -> bool:
        """Sleeps up to `seconds`, whatever happens in the database; true when woken before."""
        return self._bell.wait(max(0.0, seconds))

    def wait(self, seconds: float) -> bool:
        """Sleeps up to `seconds`; true when the queue changed, false when woken or in time."""
        self._db.fresh_counter = None
        deadline = time.monotonic() + seconds
        if not self._has_slept:
            if self.changed():
                return True
            self._has_slept = not self._bell.wait(min(seconds, FIRST_SECONDS))
            return self.changed()
        if self._db.is_pooled or not _CAN_LISTEN:
            return self._poll(deadline, self._poll_seconds)
        return self._listen(deadline)

    def _poll(self, deadline: float, longest: float) -> bool:
        while not self.changed():
            if self._sleep(min(deadline, time.monotonic() + longest)):
                return self.changed()
            if time.monotonic() >= deadline:
                return False  # Whoever waits looks by itself now.
        return True

    def _sleep(self, until: float) -> bool:
        """Sleeps until then, until this worker is told of a change, or until it is woken: true then."""
        while not (self._listens_on and self._db.hear(self._worker_id())):
            left = until - time.monotonic()
            if left <= 0:
                break
            if self._bell.wait(left):
                return True
        return False

    def _listen(self, deadline: float) -> bool:
        worker_id = self._worker_id()
        if self._listens_on != self._db.made:
            self._db.listen()
            self._listens_on, self._waiting_as = self._db.made, None
        # Before the queue is looked at: what comes later is told.
        if self._waiting_as != worker_id:
            self._db.note("UPDATE workers SET waiting = true WHERE id = %s", (worker_id,))
            self._waiting_as = worker_id
        descriptor = self._db.descriptor
        self._bell.listen(descriptor)
        try:
            changed = self._poll(deadline, SAFETY_SECONDS)
        finally:
            self._bell.forget(descriptor)
        if changed or time.monotonic() < deadline:
            self._waiting_as = None  # There is work: until it is done nobody needs to tell more.
            self._db.note("UPDATE workers SET waiting = false WHERE id = %s", (worker_id,))
        return changed
