"""The JSON shapes that scripts depend on. Change them only by adding."""

from __future__ import annotations

from collections.abc import Iterator

from queuectl.jobs.when import iso
from queuectl.text import HIDDEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from queuectl.job_queue import WorkerRecord
    from queuectl.jobs.job_view import Attempt, Job


def write_json(data: object, stream: TextIO) -> None:
    """Writes a value, or an iterator of values as an array, one to a line, while it is read."""
    import json

    if not isinstance(data, Iterator):
        json.dump(data, stream, indent=2)
        stream.write("\n")
        return
    separator = "[\n"
    for item in data:
        stream.write(separator + json.dumps(item))
        separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def job_object(job: Job, *, show_env: bool = False) -> dict[str, object]:
    """A job as JSON shows it: the original's fields under their names, then the others."""
    return {
        "id": job.id,
        "command": job.command,
        "state": job.state.value,
        "attempts": job.attempts,
        "max_retries": job.max_retries,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.updated_at),
        "next_run_at": _time(job.next_run_at),
        "priority": job.priority,
        "queue": job.queue,
        "cwd": job.cwd,
        "env": {name: value if show_env else HIDDEN for name, value in job.env.items()},
        "timeout": job.timeout,
        "backoff_base": job.backoff_base,
        "on_lost": job.on_lost,
        "max_losses": job.max_losses,
        "losses": job.losses,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "error": job.error,
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "worker": job.worker,
        "cancel_requested_at": _time(job.cancel_requested_at),
        "requires": list(job.requires),
    }


def job_with_attempts(
    job: Job, attempts: Sequence[Attempt], *, show_env: bool = False
) -> dict[str, object]:
    """A job as `show --json` prints it, with its attempts in `attempt_log`."""
    return {
        **job_object(job, show_env=show_env),
        "attempt_log": [attempt_object(attempt) for attempt in attempts],
    }


def attempt_object(attempt: Attempt) -> dict[str, object]:
    """One run of a job."""
    return {
        "attempt": attempt.attempt,
        "started_at": iso(attempt.started_at),
        "finished_at": _time(attempt.finished_at),
        "outcome": attempt.outcome,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "error": attempt.error,
        "worker": attempt.worker,
    }


def worker_object(worker: WorkerRecord, alive: bool) -> dict[str, object]:
    """A registered worker."""
    return {
        "id": worker.id,
        "name": worker.name,
        "host": worker.host,
        "pid": worker.pid,
        "slots": worker.slots,
        "mode": worker.mode,
        "tags": list(worker.tags),
        "state": worker_state(worker, alive),
        "running": worker.running,
        "started_at": iso(worker.started_at),
        "heartbeat_at": iso(worker.heartbeat_at),
    }


def worker_state(worker: WorkerRecord, alive: bool) -> str:
    """alive, stopping (it was asked to), or lost (its jobs wait to be taken back)."""
    if not alive:
        return "lost"
    return "alive" if worker.stop_requested_at is None else "stopping"


def _time(at: int | None) -> str | None:
    return None if at is None else iso(at)
