"""What a worker in the foreground says on stderr, without ever waiting for who reads it.

A terminal that was stopped (Ctrl-S), or whose connection hangs, takes no more. Then the lines wait,
the oldest of too many are left out, and the worker goes on and can be stopped.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_LINES = 1_000

_PATIENCE_SECONDS = 1.0
"""How long the last lines are waited for at the end."""


class Remarks:
    """Lines for `descriptor`, written by a thread of their own; `shown` makes a line fit to be read."""

    def __init__(self, descriptor: int, shown: Callable[[str], str]) -> None:
        self._descriptor = descriptor
        self._shown = shown
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._changed = threading.Condition()
        self._is_writing = False
        self._thread: threading.Thread | None = None

    def say(self, line: str) -> None:
        """Has the line written. Never blocks; may be called from any thread."""
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()
            if self._thread is None:
                thread = threading.Thread(target=self._write_all, name="remarks", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # The system has no room for it now; the next line tries again.
                self._thread = thread

    def flush(self) -> None:
        """Returns once all is written, or when that takes longer than a second."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        with self._changed:
            while self._thread is not None and (self._lines or self._is_writing):
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                while not self._lines:
                    self._changed.wait()
                text = "".join(self._shown(line) + "\n" for line in self._lines)
                self._lines.clear()
                self._is_writing = True
            rest = text.encode(errors="backslashreplace")
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                pass  # Nobody listens; that must not stop a worker.
