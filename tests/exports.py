"""Exports of queues that never were: any job and attempt that an export may hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hypothesis import strategies as st

from queuectl.jobs import limits
from queuectl.jobs.fields import COMMAND_BYTES
from queuectl.jobs.job_view import Attempt, Job
from queuectl.jobs.lifecycle import WAITING, State
from queuectl.jobs.limits import QUEUE
from queuectl.jobs.outcome import Policy
from queuectl.jobs.transfer import Record, write_export

START = 1_795_521_600_000_000  # 2026-11-24T12:00:00Z
POLICY = Policy(backoff_base=2, max_losses=5)

STATES = [s for s in State if s not in (State.PROCESSING, State.BLOCKED)]
"""Those in which a job can be in an export."""

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_LINE = (
    st.sampled_from(["\\N", "\t", "a\\tb\r\n", "'; DROP TABLE jobs; --", "\x1b[2J", "日本"]) | _TEXT
)
_SMALL = st.integers(0, 1_000_000_000)
_PLACE = st.none() | st.integers(0, 2**53 - 1)
_OUTCOMES = "succeeded failed timeout not_started lost interrupted cancelled".split()
_TIME = st.integers(0, 253_402_300_799_999_999)
_EXIT = st.none() | st.integers(-(2**31), 2**32 - 1)


def _number(most: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(0, most).map(abs)


ATTEMPTS = st.builds(
    Attempt,
    attempt=_SMALL,
    started_at=_TIME,
    finished_at=_TIME,
    outcome=st.sampled_from(_OUTCOMES),
    exit_code=_EXIT,
    signal=st.none() | _SMALL,
    error=st.none() | _LINE,
    worker=st.none() | _LINE,
    log_start=_PLACE,
    log_end=_PLACE,
    run=st.none(),
)

JOBS = st.builds(
    Job,
    id=st.uuids().map(str),
    command=_LINE.filter(lambda text: 0 < len(text.strip()) < COMMAND_BYTES),
    state=st.sampled_from(STATES),
    attempts=_SMALL,
    max_retries=st.integers(0, limits.MOST_RETRIES),
    created_at=_TIME,
    updated_at=_TIME,
    next_run_at=st.none() | _TIME,
    priority=st.integers(-1_000_000, 1_000_000),
    queue=st.just(QUEUE),
    cwd=_LINE.filter(bool),
    env=st.dictionaries(st.from_regex(r"[A-P_][A-Z0-9_]{0,8}", fullmatch=True), _LINE, max_size=3),
    timeout=_number(limits.LONGEST_TIMEOUT_SECONDS),
    backoff_base=_number(limits.LARGEST_BACKOFF_BASE),
    on_lost=st.sampled_from(limits.ON_LOST),
    max_losses=st.none() | st.integers(1, limits.MOST_LOSSES),
    losses=_SMALL,
    exit_code=_EXIT,
    signal=st.none() | _SMALL,
    error=st.none() | _LINE,
    started_at=st.none() | _TIME,
    finished_at=st.none() | _TIME,
    worker=st.none() | _LINE,
    cancel_requested_at=st.none(),
    requires=st.sets(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,7}", fullmatch=True), max_size=3).map(
        lambda tags: tuple(sorted(tags))
    ),
).map(lambda job: job if job.state in WAITING else job._replace(next_run_at=None))

QUEUES = st.lists(
    st.tuples(JOBS, st.lists(ATTEMPTS, max_size=3)), max_size=8, unique_by=lambda found: found[0].id
)
"""Jobs with their attempts, in the order of their arrival."""


def job(id: str, state: State = State.PENDING, **fields: object) -> Job:
    """A job of which only what matters is said."""
    values: dict[str, object] = dict.fromkeys(Job._fields)
    values |= {"id": id, "command": "true", "state": state, "queue": "default", "cwd": "/"}
    values |= {"attempts": 0, "max_retries": 3, "priority": 0, "losses": 0, "on_lost": "retry"}
    values |= {"created_at": START, "updated_at": START, "env": {}, "requires": ()}
    return Job(**{**values, **fields})  # type: ignore[arg-type]


def attempt(number: int, **fields: object) -> Attempt:
    """A run that failed at once."""
    values: dict[str, object] = dict.fromkeys(Attempt._fields)
    values |= {"attempt": number, "outcome": "failed", "started_at": START, "finished_at": START}
    return Attempt(**{**values, **fields})  # type: ignore[arg-type]


def records(jobs: Iterable[Job | tuple[Job, list[Attempt]]]) -> Iterator[Record]:
    """The jobs as an export has them, the first in line 3."""
    for line, found in enumerate(jobs, 3):
        yield Record(line, *(found if isinstance(found[0], Job) else (found, [])))


def written(jobs: Iterable[tuple[Job, list[Attempt]]], now: int = START) -> list[str]:
    """The lines of an export but for its header."""
    lines = write_export(
        jobs, settings={"max_retries": 5}, version="1", database="none", policy=POLICY, now=now
    )
    return list(lines)[1:]


def as_file(lines: Sequence[str], header: str = '{"queuectl_export": 1}\n') -> list[bytes]:
    """The lines as a file gives them, with a header."""
    return [line.encode() for line in (header, *lines)]
