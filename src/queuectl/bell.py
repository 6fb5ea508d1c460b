"""A bell: wakes the one thread that waits for it, from other threads and from signal handlers."""

from __future__ import annotations

import os
import select
import sys

if sys.platform == "win32":
    from queuectl.windows import Bell as Bell  # noqa: PLC0414 - it is taken from here
else:

    class Bell:
        """A pipe that is waited for. What rings it while nobody waits is heard in the next wait."""

        def __init__(self) -> None:
            self._out, self.descriptor = os.pipe()
            """A byte written to `descriptor` rings it: what `signal.set_wakeup_fd` wants."""
            os.set_blocking(self._out, False)
            os.set_blocking(self.descriptor, False)
            self._poll = select.poll()
            self._poll.register(self._out, select.POLLIN)

        def listen(self, descriptor: int) -> None:
            """Lets `wait` end also when there is something to read from this descriptor."""
            self._poll.register(descriptor, select.POLLIN)

        def forget(self, descriptor: int) -> None:
            """What is there to read from it ends no wait any more."""
            self._poll.unregister(descriptor)

        def ring(self) -> None:
            """Ends the wait, or the next one. Never blocks."""
            try:
                os.write(self.descriptor, b".")
            except OSError:
                pass  # It has been rung many times over; or it is closed, and nobody waits.

        def wait(self, seconds: float | None) -> bool:
            """Waits up to `seconds` (None: without end); true when it was rung."""
            ready = self._poll.poll(None if seconds is None else seconds * 1000)
            rung = any(descriptor == self._out for descriptor, _ in ready)
            if rung:
                drain(self._out)
            return rung

        def close(self) -> None:
            """Gives the pipe back."""
            number, self.descriptor = (
                self.descriptor,
                -1,
            )  # It may be another file's by the next ring.
            os.close(self._out)
            os.close(number)


def drain(descriptor: int) -> bool:
    """Empties what does not block; whether there was anything in it."""
    drained = False
    try:
        while len(os.read(descriptor, 65536)) == 65536:
            drained = True
    except BlockingIOError:
        return drained
    return True
