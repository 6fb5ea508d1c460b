"""Checking a queue's health, and mending what can be mended without losing anything."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

from queuectl import marks, processes
from queuectl.clock import Clock
from queuectl.config import Config
from queuectl.engine import pidfile, tree
from queuectl.engine.rescue import rescue_lost
from queuectl.errors import DatabaseError, QueuectlError
from queuectl.job_logs import JobLogs
from queuectl.job_queue import JobQueue
from queuectl.jobs.duration import show
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import Policy
from queuectl.processes import Judgement
from queuectl.storage import open_worker_storage
from queuectl.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from queuectl.workspace import Workspace

_LEAST_FREE_BYTES = 200 * 1024 * 1024
_SECOND_LOOK_SECONDS = 0.25
_TOLERATED_SECONDS = 60.0
"""How far ahead of the clock a job's time of arrival may be: two machines' clocks may differ."""


class Finding:
    """One thing that was checked. `advice` says what to do, `fix` does it where that is safe."""

    __slots__ = ("advice", "check", "fix", "message", "ok")

    def __init__(
        self,
        check: str,
        message: str,
        *,
        ok: bool,
        advice: str = "",
        fix: Callable[[], str] | None = None,
    ) -> None:
        self.check = check
        self.message = message
        self.ok = ok
        self.advice = advice
        self.fix = fix


def examine(workspace: Workspace) -> Iterator[Finding]:
    """Checks one thing after the other. A fault that keeps the rest from being checked ends it."""
    yield _configuration(workspace)
    yield _disk(workspace)
    try:
        with JobQueue(workspace) as queue:
            yield _integrity(queue)
            yield _clock(queue)
            yield _workers(workspace, queue)
            yield _commands(workspace, queue)
            yield _logs(workspace, queue)
    except DatabaseError as error:
        yield Finding("database", error.message, ok=False, advice=error.hint)
    yield _pidfile(workspace)


def _configuration(workspace: Workspace) -> Finding:
    try:
        Config.load(workspace.config, os.environ)
    except QueuectlError as error:
        return Finding("configuration", error.message, ok=False, advice=error.hint)
    return Finding("configuration", "can be read", ok=True)


def _disk(workspace: Workspace) -> Finding:
    free = shutil.disk_usage(workspace.folder).free
    message = f"{free / 2**30:.1f} GiB free"
    return Finding(
        "disk",
        message,
        ok=free >= _LEAST_FREE_BYTES,
        advice="Make room: `queuectl prune --older-than 7d` removes old jobs with their output.",
    )


def _integrity(queue: JobQueue) -> Finding:
    faults = queue.check()
    if faults:
        return Finding(
            "database",
            f"damaged: {visible(faults[0], 200)}"
            + (f" (and {len(faults) - 1} more)" if faults[1:] else ""),
            ok=False,
            advice="Stop the workers, keep a copy of the file, and go back to the last `queuectl backup`,"
            " or rescue what can be read with SQLite's own `.recover`.",
        )
    total = sum(queue.counts().values())
    return Finding(
        "database", f"sound, {total:,} job{'s' * (total != 1)}, {queue.engine_version()}", ok=True
    )


def _clock(queue: JobQueue) -> Finding:
    newest = next(queue.list(limit=1), None)
    ahead = 0.0 if newest is None else (newest.created_at - queue.now()) / 1e6
    if ahead > _TOLERATED_SECONDS:
        return Finding(
            "clock",
            f"the newest job was queued {show(round(ahead))} in the future",
            ok=False,
            advice="The clock was set back. Jobs that wait for their time will wait that much longer.",
        )
    return Finding("clock", "agrees with the jobs", ok=True)


def _workers(workspace: Workspace, queue: JobQueue) -> Finding:
    me, now = processes.this_process(), queue.now()
    workers = queue.workers()
    lost = [
        worker
        for worker in workers
        if worker.fenced_at is not None
        or processes.judge_worker(worker, me, now) != Judgement.ALIVE
    ]
    if not lost:
        alive = len(workers)
        return Finding("workers", f"{alive} alive" if alive else "none is running", ok=True)
    held = sum(worker.running for worker in lost)
    names = ", ".join(worker.name for worker in lost)
    return Finding(
        "workers",
        f"{len(lost)} lost ({names}), still holding {held} job{'s' * (held != 1)}",
        ok=False,
        advice="Any living worker takes the jobs back within seconds; so does --fix.",
        fix=lambda: _rescue(workspace, queue),
    )


def _rescue(workspace: Workspace, queue: JobQueue) -> str:
    config, clock = queue.config, Clock()
    storage = open_worker_storage(workspace.database, clock)
    try:
        rescues = rescue_lost(
            storage,
            workspace.database,
            policy=Policy(backoff_base=config.backoff_base, max_losses=config.max_losses),
            clock=clock,
            grace_seconds=config.kill_grace_seconds,
        )
    finally:
        storage.close()
    return "; ".join(rescue.describe() for rescue in rescues) or "they were cleared away meanwhile"


def _commands(workspace: Workspace, queue: JobQueue) -> Finding:
    orphans = _orphaned_commands(workspace, queue)
    if orphans:
        # The processes and the jobs are not read at one moment: what is amiss still is a bit later.
        time.sleep(_SECOND_LOOK_SECONDS)
        orphans &= _orphaned_commands(workspace, queue)
    if not orphans:
        return Finding("commands", "none runs without a worker", ok=True)
    pids = ", ".join(map(str, sorted(orphans)))
    return Finding(
        "commands",
        f"{len(orphans)} process{'es' * (len(orphans) != 1)} of jobs that no longer run: pid {pids}",
        ok=False,
        advice="A command may have left them on purpose, as a daemon. If not, --fix ends them.",
        fix=lambda: _end_commands(workspace, queue),
    )


def _orphaned_commands(workspace: Workspace, queue: JobQueue) -> set[int]:
    """Processes with the marks of a job of this queue that is not being run."""
    members = marks.members(workspace.database)
    running = {(job.id, str(job.attempts)) for job in queue.list([State.PROCESSING]) if job.worker}
    running_ids = {job_id for job_id, _ in running}
    mine = processes.ancestors()
    return {
        member.pid
        for member in members
        if member.pid not in mine
        and (member.job_id, member.attempt) not in running
        and not (not member.attempt and member.job_id in running_ids)
    }


def _end_commands(workspace: Workspace, queue: JobQueue) -> str:
    orphans = _orphaned_commands(workspace, queue)
    tree.end_processes(
        lambda: _orphaned_commands(workspace, queue) & orphans, queue.config.kill_grace_seconds
    )
    return f"ended {len(orphans)} process{'es' * (len(orphans) != 1)}"


def _logs(workspace: Workspace, queue: JobQueue) -> Finding:
    logs = JobLogs(workspace.logs)
    count = sum(1 for _ in logs.orphans(queue.existing))
    if not count:
        return Finding("logs", "each belongs to a job", ok=True)
    return Finding(
        "logs",
        f"{count:,} log{'s' * (count != 1)} of jobs that are gone",
        ok=False,
        advice="--fix removes them.",
        fix=lambda: f"removed {logs.remove(list(logs.orphans(queue.existing))):,} logs",
    )


def _pidfile(workspace: Workspace) -> Finding:
    if not os.path.exists(workspace.pidfile):
        return Finding("pidfile", "no background worker", ok=True)
    pid = pidfile.holder(workspace.pidfile)
    if pid is not None:
        return Finding("pidfile", f"held by pid {pid}", ok=True)
    return Finding(
        "pidfile",
        "left behind by a worker that is gone",
        ok=False,
        advice="It does no harm: the next background worker takes it over.",
        fix=lambda: _remove_pidfile(workspace),
    )


def _remove_pidfile(workspace: Workspace) -> str:
    pidfile.hold(workspace.pidfile).release()
    return "removed it"
