"""Stopping workers from outside, through the database, and waiting until they are gone."""

from __future__ import annotations

import os
import sys
import time

from queuectl import processes
from queuectl.engine import pidfile, supervisor
from queuectl.errors import CouldNotDo, QueuectlError
from queuectl.text import counted, typed, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from queuectl.config import Config
    from queuectl.job_queue import JobQueue
    from queuectl.storage.records import WorkerRecord

_MARGIN_SECONDS = 10.0
"""What a worker may take beyond the time that its commands have."""

_FAR_LOOK_SECONDS = 0.25
"""How often the register is looked at for workers of other machines."""

_FAR_HINT = (
    "See on their machines what keeps them. What they hold is taken back when they are lost."
)

_FULL_BYTES = 1024 * 1024
"""A disk with less room is called full: an outcome takes a few pages of the database at once."""


def still_there(workers: Iterable[WorkerRecord]) -> list[WorkerRecord]:
    """Those whose very process exists on this machine, whatever has become of their lease: one that
    is suspended, or that cannot write, is silent and may be given up for lost, and yet works on.
    """
    return [
        worker
        for worker in _seen_from_here(workers)
        if processes.started(worker.pid) == worker.process_started
    ]


def _seen_from_here(workers: Iterable[WorkerRecord]) -> list[WorkerRecord]:
    """Those whose process id means something here. Of the others only the database tells."""
    me = processes.this_process()
    here = (me.boot_id, me.process_space)
    return [worker for worker in workers if (worker.boot_id, worker.process_space) == here]


def wait_for_unregistered(queue: JobQueue) -> None:
    """Waits until nobody has the pidfile, or a worker in the background is registered: somebody is
    just starting or ending.

    Raises CouldNotDo when neither comes about: one that was given up for lost and is suspended is
    in no list, and cannot be asked.
    """
    path = queue.workspace.pidfile
    deadline = time.monotonic() + _MARGIN_SECONDS
    while (pid := pidfile.holder(path)) is not None:
        if any(worker.mode == "background" for worker in still_there(queue.workers())):
            return
        if time.monotonic() > deadline:
            raise CouldNotDo(
                f"{_named(pid)} runs in the background and cannot be asked: it is not registered",
                hint=_what_to_do(queue, [pid] if pid else []),
            )
        time.sleep(0.02)


def stop(
    queue: JobQueue,
    workers: Sequence[WorkerRecord],
    *,
    timeout: float | None,
    wait: bool,
    say: Callable[[str], None],
) -> None:
    """Asks workers to stop; running commands may take `timeout` seconds (None: as configured).

    With `wait` it returns when their processes are gone, or, on other machines, when they are off the
    register. Raises CouldNotDo when they do not go; and,
    having asked nobody, what is wrong with the configuration that should tell how long to wait.
    """
    config = _config(queue, timeout, say) if wait else None
    parent = _parent_of(queue, workers)
    if parent and sys.platform != "win32":
        _signal(parent, supervisor.START_NO_MORE)
    queue.stop_workers([worker.id for worker in workers], timeout=timeout)
    if config is not None:
        patience = config.stop_timeout_seconds if timeout is None else timeout
        patience += config.kill_grace_seconds + _MARGIN_SECONDS
        _wait_until_gone(queue, workers, parent, timeout, patience, say)


def _config(queue: JobQueue, timeout: float | None, say: Callable[[str], None]) -> Config:
    """The settings to wait by. A broken file keeps nobody from stopping who says how long."""
    from queuectl.config import Config

    try:
        return queue.config
    except QueuectlError as error:
        if timeout is None:
            hint = f"{error.hint} Or say how long jobs may take: --timeout 30s".strip()
            raise type(error)(error.message, hint) from None
        say(f"{error.message}\n  Stopping the workers all the same.")
        return Config()


def _parent_of(queue: JobQueue, workers: Sequence[WorkerRecord]) -> int:
    """With --use-processes, the parent of background workers, which is no worker itself; else 0."""
    path = queue.workspace.pidfile
    background = [worker for worker in workers if worker.mode == "background"]
    parents = {processes.parent(worker.pid) for worker in still_there(background)}
    # Not the number in the file: that may be anybody's. When their parent was killed, the workers
    # are the children of a process that has nothing to do with the queue.
    return next((pid for pid in parents if pid and pidfile.is_held_by(path, pid)), 0)


def _wait_until_gone(
    queue: JobQueue,
    workers: Sequence[WorkerRecord],
    parent: int,
    timeout: float | None,
    patience: float,
    say: Callable[[str], None],
) -> None:
    here = _seen_from_here(workers)
    far = {_process(worker) for worker in workers if worker not in here}
    background = any(worker.mode == "background" for worker in here)
    asked = {worker.id for worker in workers}
    deadline = time.monotonic() + patience
    said = ""
    next_look, next_word = time.monotonic() + 1, time.monotonic() + 2
    registered = list(workers)
    while True:
        # One that was given up for lost, and is there again, is registered twice.
        left = list({w.pid for w in here if processes.started(w.pid) == w.process_started})
        far_left = list(dict.fromkeys(w.name for w in registered if _process(w) in far))
        if parent and processes.started(parent) is not None:
            left.append(parent)
        holder = pidfile.holder(queue.workspace.pidfile) if background and not left else None
        if not left and not far_left and holder is None:
            return
        now = time.monotonic()
        if now > deadline:
            left = left or ([holder] if holder else [])
            who = [f"pid {' '.join(map(str, left))}"] if left else []
            raise CouldNotDo(
                f"still running after {patience:g} s: {', '.join(who + far_left) or _named(0)}",
                hint=_what_to_do(queue, left) if left or not far_left else _FAR_HINT,
            )
        if now > next_look:
            next_look = now + (_FAR_LOOK_SECONDS if far_left else 1)
            known = {_process(worker) for worker in workers}
            registered = [
                w for w in queue.workers() if _process(w) in known and w.fenced_at is None
            ]
            # One that was given up for lost meanwhile is there again under another id, and has
            # not heard of it.
            unasked = [worker.id for worker in registered if worker.id not in asked]
            if unasked:
                queue.stop_workers(unasked, timeout=timeout)
                asked.update(unasked)
        if now > next_word:
            # What a worker holds beyond its slots is claimed, and does not run.
            running = sum(min(worker.running, worker.slots) for worker in registered)
            word = waiting_for(running, left, far_left)
            if suspended := _suspended(left):
                word += f" It is suspended; to let it go on: kill -CONT {suspended}"
            if word != said:
                say(word)
            said, next_word = word, now + 10
        time.sleep(0.02)


def _process(worker: WorkerRecord) -> tuple[object, ...]:
    """The same for one that was given up for lost, and is registered anew."""
    return worker.host, worker.boot_id, worker.process_space, worker.pid, worker.process_started


def waiting_for(running: int, pids: Sequence[int], far: Sequence[str] = ()) -> str:
    """What a stop that takes long is waiting for: jobs, else processes, else workers elsewhere."""
    if running:
        return f"Waiting for {counted(running, 'running job')} to finish ..."
    if far and not pids:
        return f"Waiting for {visible(', '.join(far))} to end ..."
    if not pids:  # The pidfile is still held: there, somebody is just starting or ending.
        return "Waiting for the background worker to end ..."
    return f"Waiting for pid {' '.join(map(str, pids))} to end ..."


def _named(pid: int) -> str:
    return f"pid {pid}" if pid else "a process that its pidfile does not name"


def _what_to_do(queue: JobQueue, pids: Sequence[int]) -> str:
    """What helps when workers do not end: ending them by force has a price, and comes last."""
    if not pids:
        return f"See who has the file open: {typed('fuser', queue.workspace.pidfile)}"
    kill = "taskkill /f /pid" if sys.platform == "win32" else "kill -9"
    force = (
        f"{kill} {' '.join(map(str, pids))}. Its jobs are taken back then, and those whose outcome"
        " it has not written yet run again."
    )
    if suspended := _suspended(pids):
        return f"It is suspended. Let it go on, and it stops: kill -CONT {suspended}. Or: {force}"
    if _disk_is_full(queue.workspace.folder):
        return (
            f"The disk of {visible(queue.workspace.folder)} is full. Make room, then it writes what"
            f" became of its jobs, and ends. Or: {force}"
        )
    if queue.workspace.is_remote and _is_silent(queue, pids):
        return (
            "It has written nothing to the database for some time. A worker that cannot reach it cannot"
            f" hear that it is to stop; it does when it can again. Or: {force}"
        )
    return f"It may be stuck. To end it: {force}"


def _is_silent(queue: JobQueue, pids: Sequence[int]) -> bool:
    """Whether one of these workers renewed its lease so long ago that it lacks the database, not time."""
    return any(
        worker.pid in pids and worker.lease_left_seconds < worker.lease_seconds / 2
        for worker in _seen_from_here(queue.workers())
    )


def _suspended(pids: Sequence[int]) -> str:
    """Those that were stopped, as by SIGSTOP, and hear nothing until they go on."""
    import psutil

    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
                found.append(str(pid))
        except psutil.Error:
            continue  # It has just ended.
    return " ".join(found)


def _disk_is_full(folder: str) -> bool:
    import shutil

    try:
        return shutil.disk_usage(folder).free < _FULL_BYTES
    except OSError:  # Of a queue on a server, another user's worker has another folder.
        return False


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # It has just ended.
