"""How jobs, attempts and workers look to people."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TextIO

from queuectl.cli.json_output import worker_state
from queuectl.cli.screen import STATE_COLOURS, Screen
from queuectl.cli.tables import Column, write_table
from queuectl.jobs import duration
from queuectl.jobs.lifecycle import WAITING, State
from queuectl.jobs.when import ago, iso
from queuectl.quoting import join
from queuectl.text import HIDDEN

if TYPE_CHECKING:
    from queuectl.cli.tables import Row
    from queuectl.job_queue import JobQueue, WorkerRecord
    from queuectl.jobs.job_view import Attempt, Job

_JOB_COLUMNS = (
    Column("ID", least=8, distinct=True),
    Column("STATE"),
    Column("RUNS", right=True),
    Column("PRIORITY", right=True, extra=True),
    Column("CREATED", right=True, extra=True),
    Column("DUE", right=True, extra=True),
    Column("REQUIRES", least=8, sparse=True),
    Column("COMMAND", least=30),
)
_DEAD_COLUMNS = (
    Column("ID", least=8, distinct=True),
    Column("RUNS", right=True),
    Column("DIED", right=True),
    Column("ERROR", least=20),
    Column("COMMAND", least=20),
)
_ATTEMPT_COLUMNS = (
    Column("RUN", right=True),
    Column("STARTED"),
    Column("TOOK", right=True),
    Column("OUTCOME"),
    Column("WORKER", least=6),
    Column("ERROR", least=12),
)
_WORKER_COLUMNS = (
    Column("WORKER", least=6),
    Column("STATE"),
    Column("PID", right=True),
    Column("HOST", least=6),
    Column("MODE"),
    Column("TAGS", least=6, sparse=True),
    Column("RUNNING", right=True),
    Column("STARTED", right=True),
    Column("HEARD OF", right=True),
)
_LAST_LINES = 10
_LAST_BYTES = 8_192
_LONGEST_COMMAND = 2_000


class LastOutput(NamedTuple):
    """The end of a job's output."""

    where: str
    lines: list[str]
    """None where there is no log."""
    remarks: list[str]
    """What is not here."""
    is_whole: bool


def write_jobs(screen: Screen, jobs: Iterable[Job], now: int) -> None:
    """Jobs, a line each."""
    write_table(screen, _JOB_COLUMNS, (_job_row(job, now) for job in jobs))


def write_dead_jobs(screen: Screen, jobs: Iterable[Job], now: int) -> None:
    """Dead jobs, a line each, with what went wrong."""
    rows = (
        (job.id, _runs(job), _ago(job.finished_at, now), job.error or "-", job.command)
        for job in jobs
    )
    write_table(screen, _DEAD_COLUMNS, rows)


def workers_table(
    workers: Sequence[tuple[WorkerRecord, bool]], now: int
) -> Callable[[TextIO], None]:
    """Workers, each with whether it is alive, a line each: the text of a result."""
    rows = [_worker_row(worker, alive, now) for worker, alive in workers]
    return lambda stream: write_table(Screen(stream), _WORKER_COLUMNS, rows)


def write_job(
    screen: Screen,
    job: Job,
    attempts: Sequence[Attempt],
    output: LastOutput,
    *,
    now: int,
    show_env: bool,
) -> None:
    """One job: its fields, its attempts, the end of its `output`, and what can be done next."""
    fields = [(label, value) for label, value in _fields(job, now, show_env=show_env) if value]
    width = max(len(label) for label, _ in fields)
    for label, value in fields:
        colour = STATE_COLOURS[job.state] if label == "State" else ""
        screen.write(f"{label:<{width}}  {screen.paint(screen.shown(value), colour)}")
    if attempts:
        screen.write()
        write_table(screen, _ATTEMPT_COLUMNS, (_attempt_row(attempt, now) for attempt in attempts))
    if output.lines:
        screen.write(f"\nThe last lines of {screen.shown(output.where)}:")
        for line in output.lines:
            screen.write(screen.fit(f"  {screen.shown(line)}"))
    for remark in output.remarks:
        screen.write(f"\n{screen.shown(remark)}")


def write_next_steps(
    screen: Screen, job: Job, output: LastOutput, pasteable: Callable[[str], str]
) -> None:
    """Writes what can be done about a job that failed; `pasteable` names the queue in a command."""
    steps = list(_next_steps(job, has_log=bool(output.lines), is_whole=output.is_whole))
    if steps:
        screen.write()
        for what, words in steps:
            screen.write(f"{what}: {screen.shown(pasteable(join(words)))}")


def _job_row(job: Job, now: int) -> Row:
    return (
        job.id,
        (job.state, STATE_COLOURS[job.state]),
        _runs(job),
        str(job.priority),
        ago(job.created_at, now),
        _due(job, now),
        ",".join(job.requires) or "-",
        job.command,
    )


def _attempt_row(attempt: Attempt, now: int) -> Row:
    ended = attempt.finished_at
    colour = {"succeeded": "green", "running": "cyan"}.get(attempt.outcome, "yellow")
    return (
        str(attempt.attempt),
        _moment(attempt.started_at),
        _took((now if ended is None else ended) - attempt.started_at),
        (attempt.outcome, colour),
        attempt.worker or "-",
        attempt.error or "-",
    )


def _worker_row(worker: WorkerRecord, alive: bool, now: int) -> Row:
    state = worker_state(worker, alive)
    return (
        worker.name,
        (state, {"alive": "green", "stopping": "yellow", "lost": "red"}[state]),
        str(worker.pid),
        worker.host,
        worker.mode,
        ",".join(worker.tags) or "-",
        f"{worker.running}/{worker.slots}",
        ago(worker.started_at, now),
        ago(worker.heartbeat_at, now),
    )


def _fields(job: Job, now: int, *, show_env: bool) -> Iterator[tuple[str, str]]:
    """The labels and values of a job; those without a value are empty."""
    yield "Job", job.id
    yield "Command", job.command[:_LONGEST_COMMAND] + "..." * (len(job.command) > _LONGEST_COMMAND)
    yield "State", job.state + (", being cancelled" if job.cancel_requested_at is not None else "")
    yield (
        "Runs",
        f"{job.attempts} of {job.max_retries + 1}"
        + (f", {job.losses} lost with their worker" if job.losses else ""),
    )
    yield "Error", job.error or ""
    yield "Exit code", "" if job.exit_code is None else str(job.exit_code)
    yield "Signal", "" if job.signal is None else str(job.signal)
    yield "Folder", job.cwd
    env = (f"{name}={value if show_env else HIDDEN}" for name, value in sorted(job.env.items()))
    yield "Environment", " ".join(env)
    yield "Priority", str(job.priority)
    if job.timeout is not None:
        yield "Timeout", duration.show(job.timeout) if job.timeout else "none"
    if job.backoff_base is not None:
        yield "Backoff", f"{job.backoff_base:g} s to the power of the run's number"
    yield (
        "If lost",
        job.on_lost + ("" if job.max_losses is None else f", up to {job.max_losses} times"),
    )
    yield "Requires", " and ".join(job.requires)
    yield "Worker", job.worker or ""
    yield "Created", _moment(job.created_at, now)
    if job.state in WAITING:
        yield "Due", _moment(job.next_run_at, now) or "now"
    yield "Started", _moment(job.started_at, now)
    yield "Ended", _moment(job.finished_at, now)


def _next_steps(job: Job, *, has_log: bool, is_whole: bool) -> Iterator[tuple[str, list[str]]]:
    if job.state not in (State.DEAD, State.FAILED):
        return
    if has_log:
        what = "See all of its output" if is_whole else "See what is here of its output"
        yield what, ["queuectl", "logs", job.id]
    if job.state == State.DEAD:
        yield "Run it again", ["queuectl", "retry", job.id]
    else:
        yield "Call it off", ["queuectl", "cancel", job.id]


def last_output(queue: JobQueue, job_id: str) -> LastOutput:
    """Where the job's log is, its last lines, and what of its output is missing here."""
    from queuectl.cli.logs import told
    from queuectl.job_logs import LogNotFound

    logs = queue.logs
    where = here = logs.path(job_id)
    places = queue.output.elsewhere(job_id)
    remarks = [told(place, here) for place in places if place.path is None]
    is_whole = all(place.is_whole for place in places)
    try:
        copied = queue.output.copied(job_id)
        if copied is not None:
            found = [f"{place.path} on {place.host}" for place in places if place.path is not None]
            where = ", ".join(found) or "its log"
            data = copied.tail(_LAST_LINES)[-_LAST_BYTES:]
        else:
            size = os.path.getsize(where)
            # A line can be as long as the whole log.
            start = max(logs.tail_start(job_id, _LAST_LINES), size - _LAST_BYTES)
            with open(where, "rb") as log:
                log.seek(start)
                data = log.read(_LAST_BYTES)
    except (OSError, ValueError, LogNotFound):  # It may have a name that this locale cannot say.
        return LastOutput(where, [], remarks, is_whole)
    lines = data.decode(errors="replace").split("\n")
    shown = [line.rstrip("\r").expandtabs() for line in lines if line]
    return LastOutput(where, shown, remarks, is_whole)


def _runs(job: Job) -> str:
    return f"{job.attempts}/{job.max_retries + 1}"


def _due(job: Job, now: int) -> str:
    if job.state not in WAITING:
        return "-"
    return "now" if job.next_run_at is None or job.next_run_at <= now else ago(job.next_run_at, now)


def _ago(at: int | None, now: int) -> str:
    return "-" if at is None else ago(at, now)


def _moment(at: int | None, now: int | None = None) -> str:
    """A time to the second, and how far it is from now."""
    if at is None:
        return ""
    shown = iso(at // 1_000_000 * 1_000_000)
    return shown if now is None else f"{shown} ({ago(at, now)})"


def _took(microseconds: int) -> str:
    seconds = microseconds / 1e6
    return duration.show(seconds if seconds < 60 else round(seconds))
