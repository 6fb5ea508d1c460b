from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from queuectl.errors import InvalidInput
from queuectl.jobs.job_view import Attempt, Job
from queuectl.jobs.lifecycle import State
from queuectl.jobs.transfer import ATTEMPT_FIELDS, JOB_FIELDS, ExportReader, at_rest
from tests.exports import POLICY, QUEUES, START, as_file, attempt, job, written

LATER = START + 5_000_000

SMALL = as_file(written([(job("a"), [attempt(1)]), (job("b"), [])]))
"""Header, settings, two jobs, and the closing line."""


@settings(deadline=None)
@given(QUEUES)
def test_what_is_written_is_read_back(jobs: list[tuple[Job, list[Attempt]]]) -> None:
    """Any job and attempt comes back as it was, in its order, with the number of its line."""
    export = ExportReader(as_file(written(jobs)))
    assert export.settings == {"max_retries": 5}
    read = list(export)
    assert [(record.job, record.attempts) for record in read] == jobs
    assert [record.line for record in read] == list(range(3, 3 + len(jobs)))
    assert (export.jobs, export.attempts) == (len(jobs), sum(len(runs) for _, runs in jobs))


def test_every_field_has_its_check() -> None:
    """A field that a job or an attempt is given later cannot be forgotten when it is read."""
    assert tuple(JOB_FIELDS) == Job._fields
    assert (*ATTEMPT_FIELDS, "run") == Attempt._fields  # That is for the database it was read from.


def test_lines_are_plain() -> None:
    """Each is one line of ASCII, whatever is in it: no tool on its way can spoil it."""
    lines = written([(job("é", command="a\n\u2028'日本"), [])])
    assert all(line.isascii() and line.count("\n") == 1 for line in lines)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_windows_makes_of_it_is_read(encoding: str) -> None:
    """With a byte order mark, other line ends or in UTF-16 it is the same export."""
    text = b"".join(SMALL).decode().replace("\n", "\r\n") + "\r\n"
    lines = text.encode(encoding).splitlines(keepends=True)
    assert [record.job.id for record in ExportReader(lines)] == ["a", "b"]


# ---- jobs that run


@pytest.mark.parametrize(
    ("fields", "state", "attempts", "losses", "outcome"),
    [
        ({}, State.PENDING, 1, 0, "interrupted"),
        ({"on_lost": "hold"}, State.DEAD, 2, 1, "lost"),
        ({"on_lost": "fail"}, State.FAILED, 2, 1, "lost"),
        ({"on_lost": "fail", "max_retries": 1}, State.DEAD, 2, 1, "lost"),
        ({"cancel_requested_at": START}, State.CANCELLED, 2, 0, "cancelled"),
    ],
)
def test_a_job_that_runs_is_put_to_rest(
    fields: dict[str, object], state: State, attempts: int, losses: int, outcome: str
) -> None:
    """It waits, its run kept but not counted; one that must not run twice is as if its worker was
    lost, and one that is being cancelled is cancelled.
    """
    running = job("a", State.PROCESSING, attempts=2, started_at=START, worker="w", **fields)
    rest, runs = at_rest(running, [attempt(1)], POLICY, LATER)
    assert (rest.state, rest.attempts, rest.losses) == (state, attempts, losses)
    assert rest.cancel_requested_at is None
    assert rest.next_run_at == (LATER + 4_000_000 if state == State.FAILED else None)
    assert (rest.started_at, rest.finished_at, rest.updated_at) == (START, LATER, LATER)
    assert [run.attempt for run in runs] == [1, 2]
    assert (runs[1].outcome, runs[1].finished_at, runs[1].worker) == (outcome, LATER, "w")
    [record] = ExportReader(as_file(written([(running, [])])))
    assert record.job.state == state


def test_nothing_ends_before_it_began() -> None:
    """A clock that was set back leaves no run of negative length."""
    running = job("a", State.PROCESSING, attempts=1, started_at=LATER)
    [run] = at_rest(running, [], POLICY, START)[1]
    assert run.finished_at == LATER


# ---- what is refused


def changed(number: int, change: Callable[[dict[str, Any]], object]) -> list[bytes]:
    """The small export with one of its lines changed."""
    fields = json.loads(SMALL[number - 1])
    change(fields)
    return [*SMALL[: number - 1], json.dumps(fields).encode() + b"\n", *SMALL[number:]]


REFUSED = [
    ([], "it is empty"),
    (SMALL[:1], "behind line 1, without the line that closes"),
    (SMALL[:2], "behind line 2, without the line that closes"),
    (SMALL[:4], "behind line 4, without the line that closes"),
    ([*SMALL[:3], SMALL[3][:80]], "line 4: it ends in the middle of this line"),
    ([*SMALL[:4], SMALL[4][:-3]], "line 5: it ends in the middle of this line"),
    ([SMALL[0][:5]], "line 1: it ends in the middle"),
    ([*SMALL[:3], b"rubbish\n", *SMALL[4:]], "line 4: not valid JSON"),
    ([*SMALL[:3], b"\xff\xff{}\n", *SMALL[4:]], "line 4: .*not UTF-8"),
    ([*SMALL[:3], SMALL[4]], "line 4: it counts other numbers than the 1 job with 1 attempt"),
    ([*SMALL[:3], *SMALL[2:]], "line 6: it counts other numbers than the 3 jobs"),
    ([*SMALL, SMALL[3]], "line 5: this line closes the export, but more follows"),
    ([b'{"command": "true"}\n'], "line 1: this is not the beginning of an export"),
    (as_file([], '{"queuectl_export": true}\n'), "line 1: this is not the beginning"),
    (as_file([], '{"queuectl_export": 2}\n'), "line 1: the export has format 2; .* up to 1"),
    ([SMALL[0], *SMALL[2:]], "line 2: an object with 'settings' alone"),
    ([*SMALL[:3], b'{"a": 1}\n', *SMALL[4:]], "line 4: an object with 'job' and 'attempts'"),
    ([*SMALL[:3], b'{"job": {}, "attempts": {}}\n'], "line 4: an object with 'job'"),
    (changed(3, lambda f: f["job"].pop("cwd")), "line 3: cwd is missing"),
    (changed(3, lambda f: f["job"].update(colour=1)), "line 3: unknown field 'colour'"),
    (changed(3, lambda f: f["job"].update(id="../../etc")), "line 3: id '../../etc' begins with"),
    (changed(3, lambda f: f["job"].update(command="")), "line 3: the command is empty"),
    (changed(3, lambda f: f["job"].update(state="processing")), "line 3: .* state 'processing'"),
    (changed(3, lambda f: f["job"].update(state=["dead"])), "line 3: .* cannot be in the state"),
    (
        changed(3, lambda f: f["job"].update(created_at="now")),
        "line 3: created_at must be .* not 'now'",
    ),
    (changed(3, lambda f: f["job"].update(created_at=None)), "line 3: created_at must be"),
    # A claim or a loss adds one: in 32 bits such a job would fail the claims of all.
    (changed(3, lambda f: f["job"].update(attempts=10**9 + 1)), "line 3: attempts must be"),
    (changed(3, lambda f: f["job"].update(losses=10**9 + 1)), "line 3: losses must be"),
    (changed(3, lambda f: f["attempts"][0].update(attempt=2**31)), "line 3: attempt must be"),
    # What no worker ever takes, or takes to end it.
    (
        changed(3, lambda f: f["job"].update(queue="mail")),
        "line 3: queue must be default, not 'mail'",
    ),
    (changed(3, lambda f: f["job"].update(queue=["mail"])), "line 3: queue must be default"),
    (changed(3, lambda f: f["job"].update(state="blocked")), "line 3: .* state 'blocked'"),
    (
        changed(3, lambda f: f["job"].update(cancel_requested_at=1)),
        "line 3: cancel_requested_at must be null",
    ),
    # What is due would be looked for among the ended ones.
    (
        changed(3, lambda f: f["job"].update(state="dead", next_run_at=1)),
        "line 3: next_run_at must be null in a job that is dead",
    ),
    # What no reader of a log can look for.
    (changed(3, lambda f: f["attempts"][0].update(log_start=2**63 - 1)), "line 3: log_start must"),
    (changed(3, lambda f: f["attempts"][0].update(log_end=2**53)), "line 3: log_end must be"),
    (changed(3, lambda f: f["attempts"][0].update(outcome="running")), "line 3: outcome must be"),
    (changed(3, lambda f: f["attempts"][0].update(outcome={})), "line 3: outcome must .* 'dict'"),
    (changed(3, lambda f: f["job"].update(worker="w" * 1_001)), "line 3: worker is longer than"),
    (changed(3, lambda f: f["job"].update(error="e" * 1_000_001)), "line 3: error is longer than"),
    (changed(3, lambda f: f["job"].update(error="\0")), "line 3: error contains a NUL"),
    (changed(3, lambda f: f["job"].update(worker="\ud800")), "line 3: worker cannot be written"),
    (changed(3, lambda f: f["job"].update(env={"A": 1})), "line 3: env A must be a string"),
    (changed(3, lambda f: f["job"].update(timeout=-1)), "line 3: timeout must be"),
    (changed(3, lambda f: f.update(attempts=[1])), "line 3: an attempt is not an object"),
    (changed(3, lambda f: f.update(attempts=[{}])), "line 3: attempt is missing"),
    ([*SMALL[:2], SMALL[2].replace(b'"id"', b'"cwd"'), *SMALL[3:]], "line 3: 'cwd' is given twice"),
]


@pytest.mark.parametrize(("lines", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_is_damaged_is_refused(lines: list[bytes], said: str) -> None:
    """What is cut off, changed, foreign or of a newer version is refused with its line, and a hint."""
    with pytest.raises(InvalidInput, match=said) as told:
        list(ExportReader(lines))
    assert told.value.hint


def test_a_part_of_an_export_is_never_taken_for_one() -> None:
    """Wherever a file is cut off, it is refused."""
    whole = b"".join(SMALL)
    for end in range(len(whole) - 1):
        with pytest.raises(InvalidInput):
            list(ExportReader(whole[:end].splitlines(keepends=True)))
