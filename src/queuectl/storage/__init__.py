"""Where jobs are kept. Only the database that is asked for is imported."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.clock import Clock
    from queuectl.storage.job_storage import JobStorage, WorkerStorage
    from queuectl.storage.sqlite.watch import ChangeWatch


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


def watch_changes(storage: WorkerStorage, path: str, poll_seconds: float) -> ChangeWatch:
    """A way to sleep until somebody else changes the database that `storage` has open.

    `poll_seconds` is how often to look where the operating system does not report changes.
    """
    from queuectl.storage.sqlite.watch import ChangeWatch

    return ChangeWatch(path, storage.changes, poll_seconds)
