"""A worker that outlives its terminal, whose start is reported in the foreground."""

from __future__ import annotations

import os
import sys

from queuectl.engine import birth, pidfile, stopping
from queuectl.engine.worker_log import WorkerLog, check_log
from queuectl.errors import CouldNotDo, QueuectlError
from queuectl.storage import open_worker_storage

if sys.platform != "win32":
    import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.workspace import Workspace

    Work = Callable[[Callable[[str], None], Callable[[], None]], None]


def start(workspace: Workspace, work: Work) -> int:
    """Starts `work(say, on_ready)` in a process of its own, in a session of its own; returns its
    pid once it has called `on_ready`.

    Its remarks go to the worker log beside the database. Raises the QueuectlError that its start
    ended with: Conflict when a background worker already runs for this queue.
    """
    check_log(workspace.worker_log)
    parent = os.getpid()
    pid = birth.start(birth.BACKGROUND, lambda on_ready: _live(workspace, work, on_ready, parent))
    # In a virtual environment on Windows, what was started only starts the one that holds the file.
    return pidfile.holder(workspace.pidfile) or pid


def _live(workspace: Workspace, work: Work, on_ready: Callable[[], None], parent: int) -> None:
    if sys.platform != "win32":
        os.setsid()
        on_ready = _end_with(parent, on_ready)
    held = pidfile.hold(workspace.pidfile)
    try:
        _refuse_second(workspace)
        say = WorkerLog(workspace.worker_log).say
        _close_stdin()
        try:
            work(say, on_ready)
        except QueuectlError as error:
            say(error.message)  # Once it has reported that it is ready, nobody else hears of it.
            raise
    finally:
        held.release()


def _refuse_second(workspace: Workspace) -> None:
    """Raises Conflict when another one works in the background: its pidfile may have been removed."""
    if not workspace.exists and not workspace.is_remote:
        return  # It has just been made.
    storage = open_worker_storage(workspace.location)
    try:
        workers = stopping.still_there(storage.workers())
    finally:
        storage.close()
    pids = sorted({worker.pid for worker in workers if worker.mode == "background"})
    if pids:
        more = f" and {len(pids) - 1} more" if pids[1:] else ""
        raise pidfile.taken(f"pid {pids[0]}{more}")


if sys.platform != "win32":

    def _end_with(parent: int, on_ready: Callable[[], None]) -> Callable[[], None]:
        """Ends this process together with `parent`, until what is returned is called in place of
        `on_ready`: nobody would hear that it is ready, or why it is not.
        """
        is_told = birth.tell_of_death(signal.SIGTERM)
        if os.getppid() != parent:
            raise CouldNotDo("the process that started this one is gone")
        me = os.getpid()

        def ready() -> None:
            if is_told:
                birth.tell_of_death(0)
            elif os.getppid() != parent:
                os.kill(me, signal.SIGTERM)
            on_ready()

        return ready


def _close_stdin() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
