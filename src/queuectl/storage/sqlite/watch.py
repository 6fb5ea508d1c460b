"""Learning that another process wrote to the database, without asking all the time.

On Linux the kernel reports writes to the write-ahead log (inotify). The report comes before the
write can be seen, so that what follows it is a short while of asking SQLite's change counter.
Elsewhere the counter is asked regularly.
"""

from __future__ import annotations

import os
import select
import sys
import time

if sys.platform == "win32":
    from queuectl import windows

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
        self._poll_seconds = poll_seconds
        self._wake_out, self._wake_in = os.pipe()
        if sys.platform != "win32":
            os.set_blocking(self._wake_out, False)
            os.set_blocking(self._wake_in, False)
        self._alarm = _Poller([self._wake_out])
        self._everything: _Poller | None = None
        self._inotify: int | None = None
        self.seen = changes()
        """The change counter when it was last looked at."""

    def close(self) -> None:
        for fd in (self._wake_out, self._wake_in, self._inotify):
            if fd is not None:
                os.close(fd)

    def wake(self) -> None:
        """Ends the sleep of another thread in `wait`, or its next one. Never blocks."""
        try:
            os.write(self._wake_in, b".")
        except BlockingIOError:
            pass  # It is awake already, many times over.

    def changed(self) -> bool:
        """Whether somebody else changed the database since this was last asked."""
        before, self.seen = self.seen, self._changes()
        return before != self.seen

    def doze(self, seconds: float) -> None:
        """Sleeps up to `seconds`, or until woken, whatever happens in the database."""
        self._alarm.wait(seconds)
        _drain(self._wake_out)

    def wait(self, seconds: float) -> bool:
        """Sleeps up to `seconds`; true when the database changed, false when woken or in time."""
        if self._everything is None:
            # The first sleep is a short one, without the kernel's help: taking that back at the
            # end costs 10 ms, which a worker that only drains the queue need not pay.
            if self.changed():
                return True
            self.doze(min(seconds, SETTLE_SECONDS))
            self._everything = self._begin_to_watch()
            return self.changed()
        deadline = time.monotonic() + seconds
        # Reports that lie there are mostly of our own writes. One may be of a write that cannot be
        # seen yet: so the first sleep is as short as that can take.
        longest = self._poll_seconds
        if self._inotify is not None and _drain(self._inotify):
            longest = SETTLE_SECONDS
        elif self._inotify is not None:
            longest = SAFETY_SECONDS
        while True:
            if self.changed():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ready = self._everything.wait(min(left, longest))
            if self._wake_out in ready:
                _drain(self._wake_out)
                return self.changed()
            if self._inotify in ready:
                _drain(self._inotify)
                if self._see_change():
                    return True
            if self._inotify is not None:
                longest = SAFETY_SECONDS

    def _begin_to_watch(self) -> _Poller:
        if sys.platform == "linux":
            self._inotify = _watch_file(self._database + "-wal")
        return _Poller([fd for fd in (self._wake_out, self._inotify) if fd is not None])

    def _see_change(self) -> bool:
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self.changed():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)
        return True


if sys.platform == "win32":

    class PolledWatch(ChangeWatch):
        """The same with what there is on Windows: asking, and a bell to be woken by."""

        def __init__(self, changes: Callable[[], int], poll_seconds: float) -> None:
            self._changes = changes
            self._poll_seconds = poll_seconds
            self._bell = windows.Bell()
            self.seen = changes()

        def close(self) -> None:
            self._bell.close()

        def wake(self) -> None:
            self._bell.ring()

        def doze(self, seconds: float) -> None:
            self._bell.wait(seconds)

        def wait(self, seconds: float) -> bool:
            deadline = time.monotonic() + seconds
            while not self.changed():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                if self._bell.wait(min(left, self._poll_seconds)):
                    return self.changed()
            return True


class _Poller:
    """`select.poll`, which has no limit on the number of a descriptor."""

    def __init__(self, fds: list[int]) -> None:
        if sys.platform != "win32":
            self._poll = select.poll()
            for fd in fds:
                self._poll.register(fd, select.POLLIN)

    def wait(self, seconds: float) -> list[int]:
        ready: list[int] = []
        if sys.platform != "win32":
            ready = [fd for fd, _ in self._poll.poll(seconds * 1000)]
        return ready


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


def _drain(fd: int) -> bool:
    """Empties a pipe; whether there was anything in it."""
    drained = False
    try:
        while len(os.read(fd, 65536)) == 65536:
            drained = True
    except BlockingIOError:
        return drained
    return True
