"""Learning that another process wrote to the database, without asking all the time.

On Linux the kernel reports writes to the write-ahead log (inotify). The report comes before the
write can be seen, so that what follows it is a short while of asking SQLite's change counter.
Elsewhere the counter is asked regularly.
"""

from __future__ import annotations

import os
import sys
import time

from queuectl.bell import Bell, drain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SETTLE_SECONDS = 0.05
"""How long after a report the change may take to become visible."""

SAFETY_SECONDS = 1.0
"""The longest time without asking, should a report be missed (some file systems have none)."""

_IN_MODIFY = 0x2
_IN_NONBLOCK = 0x800
_IN_CLOEXEC = 0x80000


class ChangeWatch:
    """Sleeps until the database changes, until it is woken, or until a time has passed.

    `changes` reads the change counter; `poll_seconds` is how often to do so where the kernel
    does not tell.
    """

    def __init__(self, database: str, changes: Callable[[], int], poll_seconds: float) -> None:
        self._database = database
        self._changes = changes
        self._longest = poll_seconds
        self._bell = Bell()
        self._is_watching = False
        self._inotify: int | None = None
        self._heard = 0.0
        self.seen = changes()
        """The change counter when it was last looked at."""

    def close(self) -> None:
        """Frees what it holds."""
        self._bell.close()
        if self._inotify is not None:
            os.close(self._inotify)

    def wake(self) -> None:
        """Ends the sleep of another thread, or its next one. Never blocks."""
        self._bell.ring()

    def changed(self) -> bool:
        """Whether somebody else changed the database since this was last asked."""
        before, self.seen = self.seen, self._changes()
        return before != self.seen

    def doze(self, seconds: float) -> bool:
        """Sleeps up to `seconds`, whatever happens in the database; true when woken before."""
        deadline = time.monotonic() + seconds
        while not self._bell.wait(max(0.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                return False
            self._hear()
        return True

    def wait(self, seconds: float) -> bool:
        """Sleeps up to `seconds`; true when the database changed, false when woken or in time."""
        if not self._is_watching:
            # The first sleep is a short one, without the kernel's help: taking that back at the
            # end costs 10 ms, which a worker that only drains the queue need not pay.
            if self.changed():
                return True
            if not self.doze(min(seconds, SETTLE_SECONDS)):
                self._begin_to_watch()
            return self.changed()
        deadline = time.monotonic() + seconds
        # Reports that lie there are mostly of our own writes. One may be of a write that cannot be
        # seen yet: so the first sleep is as short as that can take.
        self._hear()
        heard_seconds_ago = time.monotonic() - self._heard
        longest = SETTLE_SECONDS if heard_seconds_ago < SETTLE_SECONDS else self._longest
        while not self.changed():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._bell.wait(min(left, longest)):
                return self.changed()
            if self._hear() and self._see_change():
                return True
            longest = self._longest
        return True

    def _begin_to_watch(self) -> None:
        self._is_watching = True
        if sys.platform == "linux":
            self._inotify = _watch_file(self._database + "-wal")
            if self._inotify is not None:
                self._bell.listen(self._inotify)
                self._longest = SAFETY_SECONDS

    def _hear(self) -> bool:
        """Whether the kernel has reported a write."""
        heard = self._inotify is not None and drain(self._inotify)
        if heard:
            self._heard = time.monotonic()
        return heard

    def _see_change(self) -> bool:
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self.changed():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)
        return True


def _watch_file(path: str) -> int | None:
    """An inotify descriptor for writes to the file, or None where there is no such thing."""
    import ctypes

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
    except (OSError, AttributeError):
        return None
    if fd < 0:
        return None
    if libc.inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY) < 0:
        os.close(fd)  # The user's limit on watches is reached, or the file system has none.
        return None
    return int(fd)
