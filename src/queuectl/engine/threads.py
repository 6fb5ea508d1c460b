"""Starting threads, where the system may have no room for them."""

from __future__ import annotations

import threading

from queuectl.errors import EnvironmentFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def started(threads: Iterable[threading.Thread]) -> Iterator[threading.Thread]:
    """Starts one after the other. Raises EnvironmentFault where there is no room for the next."""
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:
            raise EnvironmentFault(
                "the system has no room for another thread",
                hint="Raise the limit (ulimit -u, ulimit -v), or give a smaller --count.",
            ) from None
        yield thread
