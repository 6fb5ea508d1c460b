"""The error tree: each error has a stable code, an exit status, and a hint that says what to do next."""

from __future__ import annotations


class QueuectlError(Exception):
    """An error a user can understand: one line that says what is wrong, and a hint about what to do.

    `code` is stable, for programs. `exit_status` is what the command line exits with.
    """

    code = "error"
    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, object]:
        """The error as `--json` prints it."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint or None,
            "exit": self.exit_status,
        }


class CouldNotDo(QueuectlError):
    """The request was understood but could not be carried out."""

    code = "could_not_do"


class InvalidInput(QueuectlError):
    """A value, a file or an option that cannot be accepted; nothing was changed."""

    code = "invalid_input"
    exit_status = 2


class JobNotFound(QueuectlError):
    """No job has this id, or this prefix of an id."""

    code = "job_not_found"
    exit_status = 3


class QueueNotFound(QueuectlError):
    """There is no queue here or in any parent folder."""

    code = "queue_not_found"
    exit_status = 3


class Conflict(QueuectlError):
    """The request clashes with what the queue already holds or does."""

    code = "conflict"
    exit_status = 4


class WrongState(Conflict):
    """The job is in a state in which this cannot be done to it."""

    code = "wrong_state"


class DuplicateJobId(Conflict):
    """A job with this id is already in the queue."""

    code = "duplicate_job_id"


class WorkerFenced(Conflict):
    """This worker was given up for lost: its jobs were taken back, and nothing it writes counts any more."""

    code = "worker_fenced"


class EnvironmentFault(QueuectlError):
    """Something on this machine stands in the way: a permission, a missing program, a broken installation."""

    code = "environment"
    exit_status = 5


class DatabaseError(QueuectlError):
    """The database cannot be used."""

    code = "database"
    exit_status = 5


class DatabaseBusy(DatabaseError):
    """Another process has held the database for longer than anyone should wait."""

    code = "database_busy"


class DatabaseCorrupt(DatabaseError):
    """The file is damaged, or is not a SQLite database at all."""

    code = "database_corrupt"


class DatabaseForeign(DatabaseError):
    """The file is a database, but not one of queuectl's."""

    code = "database_foreign"


class DatabaseTooNew(DatabaseError):
    """The database was written by a newer queuectl."""

    code = "database_too_new"


class DatabaseUnreachable(DatabaseError):
    """The database server does not answer, went away meanwhile, or does not let us in."""

    code = "database_unreachable"


class DatabaseReadOnly(DatabaseError):
    """The database, or its folder, may not be written."""

    code = "database_read_only"


class DiskFull(DatabaseError):
    """There is no room to write; nothing was changed."""

    code = "disk_full"


PASSING = (DatabaseUnreachable, DatabaseBusy, DatabaseReadOnly, DiskFull)
"""What is wrong with a database for a time: waiting mends it."""


class WaitTimedOut(QueuectlError):
    """The jobs did not end within the time given."""

    code = "wait_timed_out"
    exit_status = 124
