"""What the worker does when the operating system speaks to it."""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.engine.worker import Worker


def install(worker: Worker, reload: Callable[[], None]) -> None:
    """SIGTERM and SIGINT stop the worker, a second SIGINT at once; SIGHUP calls `reload`.

    Windows has Ctrl-Break in place of SIGTERM, and nothing in place of SIGHUP.
    Must be called in the main thread. A handler does nothing itself, for it may have come in the
    middle of anything, of a remark for instance: it wakes the worker's loop, which does it.
    """
    signal.set_wakeup_fd(worker.wake_descriptor, warn_on_full_buffer=False)
    interrupts = 0

    def stop(number: int, _frame: object) -> None:
        nonlocal interrupts
        interrupts += number != signal.SIGTERM
        worker.soon(worker.stop_now if interrupts > 1 else worker.stop)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, stop)
    else:
        signal.signal(signal.SIGHUP, lambda number, frame: worker.soon(reload))
        # Whoever started this may have had other ideas. With SIGCHLD ignored, the system forgets how
        # a command ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(
            signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
        )
