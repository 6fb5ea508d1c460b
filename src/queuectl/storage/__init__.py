"""Where jobs are kept. Only the database that is asked for is imported."""

from __future__ import annotations

import os

from queuectl.text import is_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.clock import Clock
    from queuectl.storage.job_storage import JobStorage, WorkerStorage


def open_job_storage(location: str, *, create: bool = False) -> JobStorage:
    """The queue's database, for putting jobs in and looking at them.

    Raises QueueNotFound when there is none at `location`, a path or a URL, and `create` is false.
    """
    if is_url(location):
        try:
            from queuectl.storage.postgres.jobs import PostgresJobStorage
        except ImportError as error:
            raise _without_driver(error) from None
        return PostgresJobStorage(location, create=create)
    from queuectl.storage.sqlite.jobs import SqliteJobStorage

    return SqliteJobStorage(location, create=create)


def open_worker_storage(location: str, clock: Clock | None = None) -> WorkerStorage:
    """The queue's database, for running its jobs. Raises QueueNotFound when there is none.

    Without a `clock` it goes by the one that all workers of such a database go by.
    """
    if is_url(location):
        try:
            from queuectl.storage.postgres.work import PostgresWorkerStorage
        except ImportError as error:
            raise _without_driver(error) from None
        return PostgresWorkerStorage(location, clock)
    from queuectl.storage.sqlite.work import SqliteWorkerStorage

    return SqliteWorkerStorage(location, clock)


def _without_driver(error: ImportError) -> Exception:
    if not (error.name or "psycopg2").startswith("psycopg2"):
        return error
    from queuectl.errors import EnvironmentFault

    return EnvironmentFault(
        "the driver for PostgreSQL (psycopg2) is not installed, or cannot be loaded",
        hint="In the folder of queuectl's sources, run: pip install '.[postgres]'",
    )


def fingerprint(location: str) -> object | None:
    """Compares equal for as long as what a process has open is what others would open at
    `location`. None when a part of the database is gone that is there while anybody has it open.
    """
    if is_url(location):
        return location  # Nobody replaces a server unseen: its connections break.
    from queuectl.storage.sqlite import files

    return files.fingerprint(location)


def refuse_emptied(location: str, *, used: bool) -> None:
    """Raises DatabaseCorrupt when what is at `location` is empty and was not always: by what lies
    beside it, or because the queue is known to have been `used`.
    """
    if is_url(location):
        return
    from queuectl.storage.sqlite.connection import refuse_emptied

    refuse_emptied(location, used=used)


def way_back(location: str) -> str:
    """The commands for a shell that put a backup, called BACKUP there, in the place of a queue in a
    file. No worker may run meanwhile.
    """
    from queuectl.storage.sqlite import files

    return files.way_back(location)


def databases_in(folder: str, *, besides: str) -> list[str]:
    """The files in a folder that may be queues: databases of the kind that queues are kept in.

    They are opened to see that, which must not be done with one that this process uses: `besides`.
    """
    from queuectl.storage.sqlite.migrate import is_database

    return [
        entry.path
        for entry in os.scandir(folder)
        if entry.path != besides and entry.is_file() and is_database(entry.path)
    ]
