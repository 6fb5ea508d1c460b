"""Stopping workers from outside, through the database, and waiting until they are gone."""

from __future__ import annotations

import os
import sys
import time

from queuectl import processes
from queuectl.engine import pidfile, supervisor
from queuectl.errors import CouldNotDo
from queuectl.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from queuectl.job_queue import JobQueue
    from queuectl.storage.records import WorkerRecord

_MARGIN_SECONDS = 10.0
"""What a worker may take beyond the time that its commands have."""


def stop(
    queue: JobQueue,
    workers: Sequence[WorkerRecord],
    *,
    timeout: float | None,
    wait: bool,
    say: Callable[[str], None],
) -> None:
    """Asks workers to stop; running commands may take `timeout` seconds (None: as configured).

    With `wait` it returns when their processes are gone. Raises CouldNotDo when they do not go.
    """
    parent = _parent_of(queue, workers)
    if parent and sys.platform != "win32":
        _signal(parent, supervisor.START_NO_MORE)
    queue.stop_workers([worker.id for worker in workers], timeout=timeout)
    if wait:
        patience = queue.config.stop_timeout_seconds if timeout is None else timeout
        patience += queue.config.kill_grace_seconds + _MARGIN_SECONDS
        _wait_until_gone(queue, workers, parent, timeout, patience, say)


def _parent_of(queue: JobQueue, workers: Sequence[WorkerRecord]) -> int:
    """With --use-processes, the parent of background workers, which is no worker itself; else 0."""
    if all(worker.mode != "background" for worker in workers):
        return 0
    holder = pidfile.holder(queue.workspace.pidfile)
    if holder and any(processes.parent(worker.pid) == holder for worker in workers):
        return holder
    return 0  # The number may be that of a parent that was killed, and by now anybody's.


def _wait_until_gone(
    queue: JobQueue,
    workers: Sequence[WorkerRecord],
    parent: int,
    timeout: float | None,
    patience: float,
    say: Callable[[str], None],
) -> None:
    background = any(worker.mode == "background" for worker in workers)
    asked = {worker.id for worker in workers}
    deadline = time.monotonic() + patience
    said = ""
    next_look, next_word = time.monotonic() + 1, time.monotonic() + 2
    registered: list[WorkerRecord] = []
    while True:
        left = [w.pid for w in workers if processes.started(w.pid) == w.process_started]
        if parent and processes.started(parent) is not None:
            left.append(parent)
        if not left and not (background and pidfile.holder(queue.workspace.pidfile)):
            return
        now = time.monotonic()
        if now > deadline:
            pids = " ".join(map(str, left))
            kill = "taskkill /f /pid" if sys.platform == "win32" else "kill -9"
            raise CouldNotDo(
                f"still running after {patience:g} s: pid {pids}",
                hint=f"It may be stuck. Ending it is safe, its jobs are taken back: {kill} {pids}",
            )
        if now > next_look:
            next_look = now + 1
            registered = [worker for worker in queue.workers() if worker.pid in left]
            # One that was given up for lost meanwhile is there again under another id, and has
            # not heard of it.
            unasked = [worker.id for worker in registered if worker.id not in asked]
            if unasked:
                queue.stop_workers(unasked, timeout=timeout)
                asked.update(unasked)
        if now > next_word:
            # What a worker holds beyond its slots is claimed, and does not run.
            running = sum(min(worker.running, worker.slots) for worker in registered)
            word = waiting_for(running, left)
            if word != said:
                say(word)
            said, next_word = word, now + 10
        time.sleep(0.02)


def waiting_for(running: int, pids: Sequence[int]) -> str:
    """What a stop that takes long is waiting for: jobs, else processes."""
    if running:
        return f"Waiting for {counted(running, 'running job')} to finish ..."
    if not pids:  # The pidfile is still held: there, somebody is just starting or ending.
        return "Waiting for the background worker to end ..."
    return f"Waiting for pid {' '.join(map(str, pids))} to end ..."


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # It has just ended.
