"""A whole queue as JSON Lines, and back: a header, the settings, a line for each job, a closing line.

What differs between databases is not in it, so that a queue looks the same from whichever it comes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from queuectl.errors import InvalidInput
from queuectl.jobs.claim import Claim
from queuectl.jobs.fields import CHECKS, string, whole
from queuectl.jobs.job_view import Attempt, Job
from queuectl.jobs.jobs_file import as_utf8
from queuectl.jobs.lifecycle import WAITING, State
from queuectl.jobs.limits import QUEUE
from queuectl.jobs.outcome import LOST, MOVED, Policy, cancelled, judge
from queuectl.jobs.spec import decode_text_file
from queuectl.jobs.strict_json import parse_object
from queuectl.jobs.when import iso
from queuectl.text import counted, visible

FORMAT = 1
"""To be raised when what an older program would read wrongly, or not at all, is written."""

_EXPORT_AGAIN = "Export the queue again, and copy the file whole."


class Record(NamedTuple):
    """One job of an export."""

    line: int
    """Its number, from 1 on."""
    job: Job
    attempts: list[Attempt]


# ---- writing


def write_export(
    jobs: Iterable[tuple[Job, list[Attempt]]],
    *,
    settings: Mapping[str, object],
    version: str,
    database: str,
    policy: Policy,
    now: int,
) -> Iterator[str]:
    """The lines of an export, one by one. `version` is queuectl's, `database` says what kind it is
    from, `policy` is for the jobs that run; `now` is in microseconds since the epoch.
    """
    yield _line(
        {
            "queuectl_export": FORMAT,
            "queuectl": version,
            "exported_at": iso(now),
            "database": database,
        }
    )
    yield _line({"settings": settings})
    jobs_written = attempts_written = 0
    for found in jobs:
        job, attempts = at_rest(*found, policy, now)
        yield _line(
            {
                "job": job._asdict(),
                "attempts": [dict(zip(ATTEMPT_FIELDS, exported(a), strict=True)) for a in attempts],
            }
        )
        jobs_written += 1
        attempts_written += len(attempts)
    yield _line({"end": {"jobs": jobs_written, "attempts": attempts_written}})


def at_rest(
    job: Job, attempts: list[Attempt], policy: Policy, now: int
) -> tuple[Job, list[Attempt]]:
    """What a job is for another queue, to which the worker that runs it, if any does, will not report.

    The run counts as interrupted, and costs nothing. But it may have done its work, and may go on:
    a job that must not run twice for that (`on_lost`) is as if its worker had been lost.
    """
    if job.state != State.PROCESSING:
        return job, attempts
    outcome = MOVED if job.on_lost == "retry" else LOST
    if job.cancel_requested_at is not None:
        outcome = cancelled(None, None)
    verdict = judge(_claim(job), outcome, policy)
    started_at = now if job.started_at is None else job.started_at
    run = Attempt(
        attempt=job.attempts,
        started_at=started_at,
        finished_at=max(started_at, now),
        outcome=outcome.kind,
        exit_code=None,
        signal=None,
        error=outcome.error,
        worker=job.worker,
        log_start=None,
        log_end=None,
    )
    job = job._replace(
        state=verdict.state,
        attempts=verdict.attempts,
        losses=verdict.losses,
        next_run_at=None if verdict.delay is None else now + int(verdict.delay * 1e6),
        error=outcome.error,
        started_at=started_at,
        finished_at=run.finished_at,
        updated_at=now,
        cancel_requested_at=None,
    )
    return job, [*attempts, run]


def _claim(job: Job) -> Claim:
    """The claim of a job that runs, as far as it decides what becomes of it."""
    return Claim(
        seq=0,
        id=job.id,
        command=job.command,
        cwd=job.cwd,
        env=None,
        attempt=job.attempts,
        max_retries=job.max_retries,
        backoff_base=job.backoff_base,
        timeout=job.timeout,
        on_lost=job.on_lost,
        max_losses=job.max_losses,
        losses=job.losses,
        token=0,
    )


def _line(value: dict[str, object]) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


# ---- reading


class ExportReader:
    """The jobs of an export, to be read once; `settings` are there from the beginning.

    Raises InvalidInput "line N: ..." at the first line that is wrong, and where it is not whole; what
    was read before must then not be used. `jobs` and `attempts` count what was read.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.jobs = 0
        self.attempts = 0
        self._number = 0
        self._rest = _numbered(lines)
        self._check_header(self._next())
        self.settings = self._object(self._next(), "settings")

    def __iter__(self) -> Iterator[Record]:
        while "end" not in (fields := self._next()):
            try:
                record = Record(self._number, *_job(fields))
            except InvalidInput as problem:
                raise self._wrong(problem.message, problem.hint) from None
            self.jobs += 1
            self.attempts += len(record.attempts)
            yield record
        self._check_end(self._object(fields, "end"))

    def _next(self) -> dict[str, object]:
        before = self._number
        try:
            self._number, line = next(self._rest)
        except StopIteration:
            raise InvalidInput(
                f"it ends behind line {before}, without the line that closes an export"
                if before
                else "it is empty: it holds no export of a queue",
                hint=_EXPORT_AGAIN,
            ) from None
        try:
            return parse_object(decode_text_file(line, "the line"), one_line=True, nested=True)
        except InvalidInput as problem:
            if not line.endswith(b"\n") and next(self._rest, None) is None:
                raise self._wrong("it ends in the middle of this line", _EXPORT_AGAIN) from None
            raise self._wrong(problem.message) from None

    def _check_header(self, fields: dict[str, object]) -> None:
        version = fields.get("queuectl_export")
        if type(version) is not int:
            raise self._wrong(
                "this is not the beginning of an export of a queue",
                "Jobs that somebody wrote are queued with: queuectl enqueue --jobs-file",
            )
        if version != FORMAT:
            raise self._wrong(
                f"the export has format {version}; this queuectl knows up to {FORMAT}",
                "Upgrade queuectl.",
            )

    def _check_end(self, counts: dict[str, object]) -> None:
        if counts != {"jobs": self.jobs, "attempts": self.attempts}:
            found = f"{counted(self.jobs, 'job')} with {counted(self.attempts, 'attempt')}"
            raise self._wrong(f"it counts other numbers than the {found} before it", _EXPORT_AGAIN)
        if next(self._rest, None) is not None:
            raise self._wrong("this line closes the export, but more follows it")

    def _object(self, fields: dict[str, object], name: str) -> dict[str, object]:
        value = fields.get(name)
        if len(fields) != 1 or not isinstance(value, dict):
            raise self._wrong(f"an object with {name!r} alone was expected")
        return value

    def _wrong(self, message: str, hint: str = "") -> InvalidInput:
        return InvalidInput(f"line {self._number}: {message}", hint or _EXPORT_AGAIN)


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank."""
    return ((n, line) for n, line in enumerate(as_utf8(lines, "the file"), 1) if line.strip())


def _job(fields: dict[str, object]) -> tuple[Job, list[Attempt]]:
    job, attempts = fields.get("job"), fields.get("attempts")
    if len(fields) != 2 or not isinstance(job, dict) or not isinstance(attempts, list):
        raise InvalidInput("an object with 'job' and 'attempts' was expected")
    found = Job._make(_checked(job, JOB_FIELDS))
    if found.next_run_at is not None and found.state not in WAITING:
        raise InvalidInput(f"next_run_at must be null in a job that is {found.state}")
    return found, [Attempt(*_checked(attempt, ATTEMPT_FIELDS)) for attempt in attempts]


def _checked(values: object, checks: dict[str, Callable[[Any], Any]]) -> Iterable[Any]:
    if not isinstance(values, dict):
        raise InvalidInput("an attempt is not an object")
    if values.keys() != checks.keys():
        for name in checks:
            if name not in values:
                raise InvalidInput(f"{name} is missing")
        unknown = next(name for name in values if name not in checks)
        raise InvalidInput(f"unknown field '{visible(unknown, 40)}'")
    return [check(values[name]) for name, check in checks.items()]


_LAST_AT = 253_402_300_799_999_999
"""The end of the year 9999: no later time can be shown."""


_MOST_COUNTED = 1_000_000_000
"""Each further run adds one, in columns of 32 bits: a job at their end would fail every claim that it
is a part of.
"""

_LAST_BYTE = 2**53 - 1
"""No file is longer, and no reader's arithmetic ends sooner."""

_LONGEST_NAME = 1_000
_LONGEST_ERROR = 1_000_000


def _time(name: str) -> Callable[[object], int]:
    return whole(name, 0, _LAST_AT)


def _count(name: str, most: int = _MOST_COUNTED) -> Callable[[object], int]:
    return whole(name, 0, most)


def _text(name: str, longest: int) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = string(name, value)
        if len(text) > longest:
            raise InvalidInput(f"{name} is longer than {longest:,} characters")
        return text

    return check


def _one_of(name: str, choices: Iterable[str]) -> Callable[[object], str]:
    known = {choice: choice for choice in choices}

    def check(value: object) -> str:
        if isinstance(value, str) and value in known:
            return known[value]
        shown = visible(value, 40) if isinstance(value, str) else type(value).__name__
        raise InvalidInput(f"{name} must be {' or '.join(known)}, not {shown!r}")

    return check


def _optional(check: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else check(value)


def _null(name: str) -> Callable[[object], None]:
    def check(value: object) -> None:
        if value is not None:
            raise InvalidInput(f"{name} must be null in a job of an export")

    return check


# What runs is put to rest, and so far nothing waits for other jobs: nothing would ever unblock it.
_STATES = {s.value: s for s in State if s not in (State.PROCESSING, State.BLOCKED)}


def _state(value: object) -> State:
    if isinstance(value, str) and value in _STATES:
        return _STATES[value]
    raise InvalidInput(f"a job of an export cannot be in the state {visible(str(value), 40)!r}")


_OUTCOMES = (
    "succeeded",
    "failed",
    "timeout",
    "not_started",
    "lost",
    "interrupted",
    "cancelled",
)


def _env(value: object) -> dict[str, str]:
    return CHECKS["env"](value) or {}


JOB_FIELDS: dict[str, Callable[[Any], Any]] = {
    "id": CHECKS["id"],
    "command": CHECKS["command"],
    "state": _state,
    "attempts": _count("attempts"),
    "max_retries": CHECKS["max_retries"],
    "created_at": _time("created_at"),
    "updated_at": _time("updated_at"),
    "next_run_at": _optional(_time("next_run_at")),
    "priority": CHECKS["priority"],
    "queue": _one_of("queue", [QUEUE]),
    "cwd": CHECKS["cwd"],
    "env": _env,
    "timeout": _optional(CHECKS["timeout"]),
    "backoff_base": _optional(CHECKS["backoff_base"]),
    "on_lost": CHECKS["on_lost"],
    "max_losses": _optional(CHECKS["max_losses"]),
    "losses": _count("losses"),
    "exit_code": _optional(whole("exit_code", -(2**31), 2**32 - 1)),
    "signal": _optional(_count("signal")),
    "error": _optional(_text("error", _LONGEST_ERROR)),
    "started_at": _optional(_time("started_at")),
    "finished_at": _optional(_time("finished_at")),
    "worker": _optional(_text("worker", _LONGEST_NAME)),
    "cancel_requested_at": _null("cancel_requested_at"),
    "requires": CHECKS["requires"],
}
"""The fields of a `Job` in their order, and the check of each."""

ATTEMPT_FIELDS: dict[str, Callable[[Any], Any]] = {
    "attempt": _count("attempt"),
    "started_at": _time("started_at"),
    "finished_at": _time("finished_at"),
    "outcome": _one_of("outcome", _OUTCOMES),
    "exit_code": JOB_FIELDS["exit_code"],
    "signal": JOB_FIELDS["signal"],
    "error": JOB_FIELDS["error"],
    "worker": JOB_FIELDS["worker"],
    "log_start": _optional(_count("log_start", _LAST_BYTE)),
    "log_end": _optional(_count("log_end", _LAST_BYTE)),
}
"""The first fields of an `Attempt` in their order, and the check of each."""


def exported(attempt: Attempt) -> tuple[object, ...]:
    """The values of these fields: what names the attempt to its database is not among them."""
    return attempt[: len(ATTEMPT_FIELDS)]
