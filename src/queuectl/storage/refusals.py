"""What every database refuses, in the same words."""

from __future__ import annotations

from queuectl.errors import DuplicateJobId, InvalidInput, JobNotFound, WorkerFenced, WrongState
from queuectl.jobs.lifecycle import WAITING, State
from queuectl.text import typed, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SHORTEST_PREFIX = 4
"""Characters of a beginning of an id that stands for the whole."""


def duplicate_id(job_id: str) -> DuplicateJobId:
    """A job with this id is there already."""
    return DuplicateJobId(
        f"a job with the id {visible(job_id)!r} is already in the queue",
        hint=f"Look at it with: {typed('queuectl', 'show', job_id)}",
    )


def id_of_another(line: int, job_id: str, *, imported: bool) -> DuplicateJobId | InvalidInput:
    """A job of an export has the id of one that is there, or was just `imported` itself."""
    if imported:
        return InvalidInput(
            f"line {line}: the id {visible(job_id)!r} is that of an earlier line",
            hint="Keep the one that is meant.",
        )
    error = duplicate_id(job_id)
    return DuplicateJobId(f"line {line}: {error.message}; nothing was imported", error.hint)


def job_not_found(reference: str) -> JobNotFound:
    """No job has this id, nor one that begins like this."""
    return JobNotFound(
        f"there is no job {visible(reference, 200)!r}",
        hint="See which there are with: queuectl list",
    )


def prefix_too_short(reference: str) -> JobNotFound:
    """No job has this id, and it is too short for a beginning of one."""
    error = job_not_found(reference)
    error.hint = f"A beginning of an id needs {SHORTEST_PREFIX} or more characters. {error.hint}"
    return error


def no_last_job() -> JobNotFound:
    """There is no job at all."""
    return JobNotFound("the queue is empty: there is no last job")


def ambiguous(reference: str) -> InvalidInput:
    """Several jobs have ids that begin like this."""
    return InvalidInput(
        f"{visible(reference)!r} is the beginning of several job ids", hint="Give more of the id."
    )


def wrong_state(job_id: str, state: State, done: str, allowed: Sequence[State]) -> WrongState:
    """The job is in a state in which it cannot be `done`: "cancelled", "requeued", "deleted"."""
    if state == State.PROCESSING:
        hint = f"Stop it first: {typed('queuectl', 'cancel', job_id)}"
    elif state in WAITING and State.DEAD in allowed:
        hint = "A worker will run it when its time comes; there is nothing to do."
    elif done == "cancelled":
        hint = f"It has ended. To run it once more: {typed('queuectl', 'retry', job_id)}"
    else:
        hint = ""
    names = ", ".join(allowed[:-1]) + " or " + allowed[-1] if len(allowed) > 1 else allowed[0]
    return WrongState(
        f"job {visible(job_id)} is {state} and cannot be {done}; only a job that is {names} can",
        hint,
    )


def fenced() -> WorkerFenced:
    """The worker that asks was given up for lost."""
    return WorkerFenced(
        "this worker was given up for lost, and its jobs were taken back",
        hint="It was stopped or starved for longer than its lease (lease_seconds).",
    )
