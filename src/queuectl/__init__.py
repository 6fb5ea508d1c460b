"""queuectl: the queue for commands.

    from queuectl import JobQueue

    with JobQueue.open() as queue:
        job_id = queue.enqueue("make report", max_retries=5)

Names are imported when they are first used, so that a program pays only for what it needs.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.dead_letter_queue import DeadLetterQueue as DeadLetterQueue
    from queuectl.errors import QueuectlError as QueuectlError
    from queuectl.job_queue import JobQueue as JobQueue
    from queuectl.jobs.job_view import Attempt as Attempt
    from queuectl.jobs.job_view import Job as Job
    from queuectl.jobs.lifecycle import State as State

_HOMES = {
    "Attempt": "queuectl.jobs.job_view",
    "DeadLetterQueue": "queuectl.dead_letter_queue",
    "Job": "queuectl.jobs.job_view",
    "JobQueue": "queuectl.job_queue",
    "QueuectlError": "queuectl.errors",
    "State": "queuectl.jobs.lifecycle",
}
__all__ = ["Attempt", "DeadLetterQueue", "Job", "JobQueue", "QueuectlError", "State"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'queuectl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    # A shell that completes names, and `help`, see those that were not used yet, too.
    return sorted({*globals(), *__all__})
