"""Checking a queue's health, and mending what can be mended without losing anything."""

from __future__ import annotations

import os
import shutil
import stat
import time
from typing import TYPE_CHECKING

from queuectl import marks, processes
from queuectl.engine import pidfile, tree
from queuectl.engine.maintenance import EVERY_SECONDS
from queuectl.engine.rescue import ROUNDS_OF_SILENCE, Patience, rescue_lost
from queuectl.errors import (
    DatabaseError,
    DatabaseForeign,
    EnvironmentFault,
    QueuectlError,
    QueueNotFound,
)
from queuectl.job_logs import JobLogs
from queuectl.job_queue import JobQueue
from queuectl.jobs.duration import show
from queuectl.jobs.lifecycle import State
from queuectl.storage import databases_in, open_worker_storage, way_back
from queuectl.text import counted, typed, visible
from queuectl.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from queuectl.storage.records import Rights

_LEAST_FREE_BYTES = 200 * 1024 * 1024
_SECOND_LOOK_SECONDS = 0.25
_TOLERATED_SECONDS = 60.0
"""How far ahead of the clock a job's time of arrival may be: two machines' clocks may differ."""

_DAMAGED = (
    "Stop the workers. Rescue what can be read with SQLite's own `.recover`, or go back to the last"
    " backup: move the database away with all that belongs to it, and copy only then: "
)


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
    workspace.make_folder()
    yield _configuration(workspace)
    yield _guarded("disk", lambda: _disk(workspace))
    is_damaged = False
    try:
        with JobQueue(workspace) as queue:
            integrity = _integrity(workspace, queue)
            is_damaged = not integrity.ok
            yield integrity
            if not is_damaged and (rights := queue.rights()) is not None:
                yield _rights(rights)
            yield _clock(queue)
            yield _guarded("workers", lambda: _workers(workspace, queue))
            yield _guarded("commands", lambda: _commands(workspace, queue))
            yield _guarded("logs", lambda: _logs(workspace, queue))
    except (DatabaseError, EnvironmentFault) as error:
        # Whoever reads this has run `queuectl doctor` already, which other commands advise.
        advice = _damaged(workspace) if "queuectl doctor" in error.hint else error.hint
        yield Finding("database", error.message, ok=False, advice="" if is_damaged else advice)
    yield _guarded("pidfile", lambda: _pidfile(workspace))


def _guarded(check: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds. That it cannot look is found, too, and does not keep it from the rest."""
    try:
        return look()
    except OSError as error:
        where = f"{visible(str(error.filename))}: " if error.filename else ""
        return Finding(
            check,
            f"cannot be checked: {where}{error.strerror}",
            ok=False,
            advice="Check what is in that place, and its permissions.",
        )


def _configuration(workspace: Workspace) -> Finding:
    try:
        workspace.load_config()
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


def _damaged(workspace: Workspace) -> str:
    if workspace.is_remote:
        return "Stop the workers, and go back to the last backup: see docs/guides/postgresql.md."
    return _DAMAGED + way_back(workspace.database)


def _integrity(workspace: Workspace, queue: JobQueue) -> Finding:
    faults = queue.check()
    if faults:
        return Finding(
            "database",
            f"damaged: {visible(faults[0], 200)}"
            + (f" (and {len(faults) - 1} more)" if faults[1:] else ""),
            ok=False,
            advice=_damaged(workspace),
        )
    total = sum(queue.counts().values())
    return Finding("database", f"sound, {counted(total, 'job')}, {queue.engine_version()}", ok=True)


def _rights(rights: Rights) -> Finding:
    if not rights.missing:
        return Finding("rights", f"the role {rights.role} may run jobs", ok=True)
    if rights.only_looks:
        enqueues = "enqueue and look" if rights.enqueues else "look"
        return Finding("rights", f"the role {rights.role} may {enqueues}, not run jobs", ok=True)
    return Finding(
        "rights",
        f"the role {rights.role} lacks {', '.join(rights.missing)}",
        ok=False,
        advice="The owner of the tables gives the roles of the guide their rights with postgresql-grants.sql.",
    )


def _clock(queue: JobQueue) -> Finding:
    newest = next(queue.list(limit=1), None)
    ahead = 0.0 if newest is None else (newest.created_at - queue.now()) / 1e6
    if ahead > _TOLERATED_SECONDS:
        return Finding(
            "clock",
            f"the newest job was queued {show(round(ahead))} in the future",
            ok=False,
            advice="The clock was set back. A job that was given a time (--run-at, --delay) waits until the clock"
            " shows it. A retry waits no longer than its backoff, once a worker runs.",
        )
    return Finding("clock", "agrees with the jobs", ok=True)


def _workers(workspace: Workspace, queue: JobQueue) -> Finding:
    workers = queue.workers()
    alive = processes.living(workers)
    lost = [worker for worker in workers if worker not in alive]
    if not lost:
        text = f"{len(alive)} alive" if alive else "none is running"
        return Finding("workers", text, ok=True)
    held = sum(worker.running for worker in lost)
    names = ", ".join(worker.name for worker in lost)
    return Finding(
        "workers",
        f"{len(lost)} lost ({names}), still holding {counted(held, 'job')}",
        ok=False,
        advice="Any living worker takes the jobs back within seconds; so does --fix.",
        fix=lambda: _rescue(workspace, queue),
    )


def _rescue(workspace: Workspace, queue: JobQueue) -> str:
    config, patience = queue.config, Patience()
    storage = open_worker_storage(workspace.location)
    rescues = []
    try:
        for round_ in range(ROUNDS_OF_SILENCE):
            if round_:
                time.sleep(EVERY_SECONDS)
            rescues += rescue_lost(
                storage,
                workspace.database,
                policy=config.policy(),
                clock=storage.clock,
                grace_seconds=config.kill_grace_seconds,
                patience=patience,
            )
            if len(processes.living(workers := storage.workers())) == len(workers):
                break
    finally:
        storage.close()
    return (
        "; ".join(rescue.describe() for rescue in rescues)
        or "they were cleared away, or answered, meanwhile"
    )


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
        f"{counted(len(orphans), 'process')} of jobs that no longer run: pid {pids}",
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
    return f"ended {counted(len(orphans), 'process')}"


def _logs(workspace: Workspace, queue: JobQueue) -> Finding:
    if os.path.lexists(workspace.logs) and not os.path.isdir(workspace.logs):
        return Finding(
            "logs",
            f"{visible(workspace.logs)} is not a folder: no job can write its output, nor run",
            ok=False,
            advice=f"Move it away, and a worker makes the folder: {_moved(workspace.logs)}",
        )
    logs, known = JobLogs(workspace.logs), _known_here(workspace, queue)
    count = sum(1 for _ in logs.orphans(known))
    if not count:
        return Finding("logs", "each belongs to a job", ok=True)
    return Finding(
        "logs",
        "1 log of a job that is gone" if count == 1 else f"{count:,} logs of jobs that are gone",
        ok=False,
        advice="--fix removes them.",
        fix=lambda: _remove_logs(logs, known),
    )


def _known_here(workspace: Workspace, queue: JobQueue) -> Callable[[list[str]], set[str]]:
    """Which ids are those of jobs of this queue, or of another whose database, a backup for instance,
    lies in the same folder: those share the logs.
    """
    others = databases_in(workspace.folder, besides=workspace.database)

    def known(ids: list[str]) -> set[str]:
        found = queue.existing(ids)
        for path in others:
            try:
                with JobQueue(Workspace(path)) as other:
                    found |= other.existing([id for id in ids if id not in found])
            except (DatabaseForeign, QueueNotFound):
                continue
            except DatabaseError:
                return set(ids)  # Whose they are cannot be told.
        return found

    return known


def _remove_logs(logs: JobLogs, known: Callable[[list[str]], set[str]]) -> str:
    count = logs.remove(list(logs.orphans(known)))
    return f"removed {counted(count, 'log')}"


def _pidfile(workspace: Workspace) -> Finding:
    try:
        found = os.lstat(workspace.pidfile)
    except FileNotFoundError:
        return Finding("pidfile", "no background worker", ok=True)
    if not stat.S_ISREG(found.st_mode):
        return Finding(
            "pidfile",
            f"{visible(workspace.pidfile)} is not a file: no worker can start in the background",
            ok=False,
            advice=f"Move it away: {_moved(workspace.pidfile)}",
        )
    if not os.access(workspace.pidfile, os.R_OK | os.W_OK):
        return Finding(
            "pidfile",
            f"{visible(workspace.pidfile)} may not be written: no worker can start in the background",
            ok=False,
            advice="Check who owns it; a worker of another user may be running.",
        )
    pid = pidfile.holder(workspace.pidfile)
    if pid is not None:
        return Finding("pidfile", f"held by pid {pid}", ok=True)
    return Finding(
        "pidfile",
        "left behind by a worker that is gone; the next one takes it over",
        ok=True,
        fix=lambda: _remove_pidfile(workspace),
    )


def _moved(path: str) -> str:
    return typed("mv", path, path + ".old")


def _remove_pidfile(workspace: Workspace) -> str:
    pidfile.hold(workspace.pidfile).release()
    return "removed it"
