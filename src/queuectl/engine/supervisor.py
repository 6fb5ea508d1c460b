"""Several worker processes under one parent, which starts a crashed one again."""

from __future__ import annotations

import os
import signal
import time

from queuectl.errors import CouldNotDo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST_LIFE_SECONDS = 1.0
"""A process that ends sooner is started again only after this long, so that no loop spins."""


def supervise(
    count: int,
    work: Callable[[Callable[[], None]], int],
    *,
    say: Callable[[str], None],
    on_ready: Callable[[], None],
) -> None:
    """Runs `work(on_ready)` in `count` processes until each has ended with status 0.

    One that ends otherwise is started again, unless it had never been ready. SIGTERM and SIGINT
    are passed on, and end this too once the processes have ended. Raises CouldNotDo when a
    process cannot be started in the first place.
    """
    children: dict[int, float] = {}
    stopped_by = 0

    def tell_all(number: int, _frame: object) -> None:
        for pid in children:
            _kill(pid, number)

    def stop(number: int, _frame: object) -> None:
        nonlocal stopped_by
        stopped_by = number
        tell_all(number, None)

    def start_one() -> bool:
        pid, ready = _start(work)
        children[pid] = time.monotonic()
        if stopped_by:
            _kill(pid, stopped_by)  # It was not among those that were told.
        return ready

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, tell_all)

    while len(children) < count and not stopped_by:
        if not start_one() and not stopped_by:
            stop(signal.SIGTERM, None)
            while children:
                children.pop(os.waitpid(-1, 0)[0], None)
            raise CouldNotDo("a worker process could not be started; see what it said above")
    on_ready()
    while children:
        pid, status = os.waitpid(-1, 0)
        born = children.pop(pid, None)
        if born is None or status == 0 or stopped_by:
            continue
        say(f"worker process {pid} ended unexpectedly; starting another")
        time.sleep(max(0.0, _LEAST_LIFE_SECONDS - (time.monotonic() - born)))
        if not stopped_by:
            start_one()


def _start(work: Callable[[Callable[[], None]], int]) -> tuple[int, bool]:
    """Forks one process; returns its pid and whether it became ready."""
    ready_out, ready_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready_out)
        status = 1
        try:
            # A group of its own: Ctrl-C reaches the parent alone, which passes it on once.
            os.setpgid(0, 0)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)  # The parent's handlers are not for here.
            status = work(lambda: _tell(ready_in))
        finally:
            os._exit(status)
    os.close(ready_in)
    with os.fdopen(ready_out, "rb") as stream:
        return pid, stream.read() == b"ready"


def _tell(descriptor: int) -> None:
    os.write(descriptor, b"ready")
    os.close(descriptor)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
