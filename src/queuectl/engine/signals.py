"""What the worker does when the operating system speaks to it."""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.engine.worker import Worker


def install(worker: Worker, reload: Callable[[], None]) -> None:
    """SIGTERM and SIGINT stop the worker, a second SIGINT at once; SIGHUP calls `reload`.

    Must be called in the main thread. A signal also wakes the worker's loop.
    """
    signal.set_wakeup_fd(worker.wake_descriptor, warn_on_full_buffer=False)
    interrupts = 0

    def stop(number: int, _frame: object) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            worker.stop_now()
        else:
            worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, lambda number, frame: reload())
