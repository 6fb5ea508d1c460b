"""Starting threads, where the system may have no room for them."""

from __future__ import annotations

from queuectl.errors import EnvironmentFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread


def start(thread: Thread) -> None:
    """Starts it. Raises EnvironmentFault where there is no room for another one."""
    try:
        thread.start()
    except RuntimeError:
        raise EnvironmentFault(
            "the system has no room for another thread",
            hint="Raise the limit (ulimit -u, ulimit -v), or give a smaller --count.",
        ) from None
