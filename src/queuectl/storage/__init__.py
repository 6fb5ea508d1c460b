"""Where jobs are kept. Only the database that is asked for is imported."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.clock import Clock
    from queuectl.storage.job_storage import JobStorage, WorkerStorage


def open_job_storage(path: str, *, create: bool = False) -> JobStorage:
    """The queue's database, for putting jobs in and looking at them.

    Raises QueueNotFound when there is none at `path` and `create` is false.
    """
    from queuectl.storage.sqlite.jobs import SqliteJobStorage

    return SqliteJobStorage(path, create=create)


def open_worker_storage(path: str, clock: Clock) -> WorkerStorage:
    """The queue's database, for running its jobs. Raises QueueNotFound when there is none."""
    from queuectl.storage.sqlite.work import SqliteWorkerStorage

    return SqliteWorkerStorage(path, clock)


def databases_in(folder: str) -> list[str]:
    """The files in a folder that may be queues: databases of the kind that queues are kept in."""
    from queuectl.storage.sqlite.migrate import is_database

    return [
        entry.path for entry in os.scandir(folder) if entry.is_file() and is_database(entry.path)
    ]
