"""The life of a job, as data: the states, and every move that is allowed between them.

The program takes the states, and the states a move may start from, from here; the tests hold it and the
documents to the rest.
"""

from __future__ import annotations

from collections import namedtuple
from enum import StrEnum


class State(StrEnum):
    """Where a job is in its life. The values are what JSON and the database hold."""

    PENDING = "pending"
    """Waits for a worker, or for its time (`next_run_at`)."""
    PROCESSING = "processing"
    """Runs, or was claimed by a worker that is about to start it."""
    COMPLETED = "completed"
    """Its command ended with exit status 0."""
    FAILED = "failed"
    """Its last attempt failed; it waits for the next one."""
    DEAD = "dead"
    """It used up its attempts, and is in the dead letter queue until somebody decides."""
    CANCELLED = "cancelled"
    """Somebody called it off."""
    BLOCKED = "blocked"
    """Waits for other jobs."""


Move = namedtuple("Move", ["name", "sources", "targets", "by"])
"""One kind of change: its name, the states it may start from and end in, and who makes it."""

MOVES = (
    Move("enqueue", (), (State.PENDING, State.BLOCKED), "job queue"),
    Move("unblock", (State.BLOCKED,), (State.PENDING, State.CANCELLED), "settle"),
    Move("claim", (State.PENDING, State.FAILED), (State.PROCESSING,), "engine"),
    Move("succeed", (State.PROCESSING,), (State.COMPLETED,), "settle"),
    Move("fail", (State.PROCESSING,), (State.FAILED,), "settle"),
    Move("exhaust", (State.PROCESSING,), (State.DEAD,), "settle"),
    Move("interrupt", (State.PROCESSING,), (State.PENDING,), "settle"),
    Move("rescue", (State.PROCESSING,), (State.FAILED, State.DEAD), "maintenance"),
    Move("stop", (State.PROCESSING,), (State.CANCELLED,), "settle"),
    Move("cancel", (State.PENDING, State.FAILED, State.BLOCKED), (State.CANCELLED,), "job queue"),
    Move(
        "requeue",
        (State.DEAD, State.CANCELLED, State.COMPLETED),
        (State.PENDING,),
        "dead letter queue, job queue",
    ),
)

FINISHED = (State.COMPLETED, State.DEAD, State.CANCELLED)
"""Nothing more happens to a job in one of these by itself."""


def sources(move: str) -> tuple[State, ...]:
    """The states from which a job can make this move."""
    return next(m.sources for m in MOVES if m.name == move)


WAITING = sources("claim")
"""A worker may claim a job in one of these, once its time has come."""


def may(move: str, state: State) -> bool:
    """Whether a job in `state` can make this move."""
    return state in sources(move)
