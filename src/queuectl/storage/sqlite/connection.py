"""Opening the SQLite file, and saying in our own errors what SQLite says in its."""

from __future__ import annotations

import os
import time

import apsw

from queuectl.errors import (
    DatabaseBusy,
    DatabaseCorrupt,
    DatabaseError,
    DatabaseForeign,
    DatabaseReadOnly,
    DiskFull,
    EnvironmentFault,
    QueuectlError,
    QueueNotFound,
)
from queuectl.storage.sqlite import files, migrate
from queuectl.text import typed, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any

BUSY_SECONDS = 60.0
"""How long to wait for another process's transaction. None of ours lasts a tenth of it."""

_MAKING_SECONDS = 1.0
"""How long the file of a queue that another process is making may be empty."""


def connect(path: str, *, create: bool) -> QueueConnection:
    """A connection to the queue at `path`, brought to the current schema.

    Raises QueueNotFound when there is no such file and `create` is false, and a DatabaseError
    when there is one that cannot be used.
    """
    with translated(path):
        if not os.path.exists(path):
            if not create:
                raise QueueNotFound(
                    f"there is no queue at {visible(path)}", hint="Make one with: queuectl init"
                )
            create_private(path)
        elif os.path.isdir(path):
            raise DatabaseError(
                f"{visible(path)} is a folder, not a database",
                hint="Name a file, for example: "
                + typed("--db", os.path.join(path, "queuectl.db")),
            )
        elif not os.path.isfile(path):
            raise DatabaseError(
                f"{visible(path)} is a device or a pipe, not a database",
                hint="Name another file with --db or QUEUECTL_DB_PATH.",
            )
        else:
            refuse_emptied(path)
            if not create and files.is_empty(path):
                raise QueueNotFound(
                    f"{visible(path)} is empty: there is no queue in it",
                    hint="Make one with: queuectl init",
                )
        db = QueueConnection(path)
        try:
            db.set_busy_handler(_wait_while_busy())
            # FULL: a commit is on the disk before it is reported (see docs/guarantees.md).
            db.execute("PRAGMA synchronous = FULL")
            migrate.bring_up_to_date(db, path)
            db.note_files()
        except BaseException:
            db.close()
            raise
        return db


class QueueConnection(apsw.Connection):
    """A connection that writes into the files that are there now, or not at all.

    When the database, its -wal or its -shm was removed or replaced meanwhile, what is written into
    the old files is lost, or overwrites what others write. Nor may it remove anything at its end:
    the last connection to a database removes the -wal, by its name, and SQLite does not look whether
    that is another one by now, with jobs in it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, flags=apsw.SQLITE_OPEN_READWRITE)
        self._path = path
        self._files: _OpenFiles | None = None

    def note_files(self) -> None:
        """Takes the files that are there for those that it has open; from now on they are watched."""
        self._files = _OpenFiles(self._path)
        # Also when nobody closes it, but Python clears it away.
        self.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        # Not a method of this one: nothing would ever free a connection that holds itself.
        self.set_commit_hook(self._files.require)

    def require_files(self) -> None:
        """Raises EnvironmentFault when it has other files open than those that are there."""
        if self._files is not None:
            self._files.require()

    def close(self, force: bool = False) -> None:
        if self._files is not None and self._files.are_there():
            self.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        self._files = None  # It may be closed twice.
        super().close(force)


class _OpenFiles:
    """The files of a database as they were when it was opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = files.fingerprint(path)

    def are_there(self) -> bool:
        return self._seen is not None and self._seen == files.fingerprint(self._path)

    def require(self) -> bool:
        """Raises EnvironmentFault when they are not. False: SQLite asks whether to refuse a commit."""
        if self.are_there():
            return False
        raise EnvironmentFault(
            f"{visible(self._path)}, or its -wal or -shm, was removed or replaced;"
            " nothing that is written here would be seen",
            hint="Start the worker again, or repeat the command, so that it opens the file that is"
            " there now.",
        )


def refuse_emptied(path: str, *, used: bool = False) -> None:
    """Raises DatabaseCorrupt for a file that is empty, and stays so for longer than it takes to make
    a queue, although it has a log of changes beside it, or is known to have been `used`.

    SQLite would remove the log, and begin anew.
    """
    deadline = time.monotonic() + _MAKING_SECONDS
    while (used or files.has_changes(path)) and files.is_empty(path):
        if time.monotonic() > deadline:
            raise _emptied(path)
        time.sleep(0.01)


def _emptied(path: str) -> DatabaseCorrupt:
    return DatabaseCorrupt(
        f"{visible(path)} is empty, but lies beside what belongs to a queue: it was emptied",
        hint=f"Stop the workers, and go back to the last backup: {files.way_back(path)}"
        " (for a new queue, leave out the last command)",
    )


def create_private(path: str) -> bool:
    """Makes an empty file that only its owner may read: commands and their environment are
    private. False when there is one already.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    except OSError as error:
        folder = os.path.dirname(os.path.abspath(path))
        hint = (
            ""
            if os.path.isdir(folder)
            else f"Make the folder first: {typed('mkdir', '-p', folder)}"
        )
        raise EnvironmentFault(
            f"cannot create {visible(path)}: {error.strerror}", hint=hint
        ) from None
    return True


def _wait_while_busy() -> Callable[[int], bool]:
    """SQLite's own handler backs off to 100 ms, which starves some of many workers."""
    deadline = [0.0]

    def wait(prior_calls: int) -> bool:
        now = time.monotonic()
        if prior_calls == 0:
            deadline[0] = now + BUSY_SECONDS
        elif now > deadline[0]:
            return False
        import random  # Rarely needed, and slow to load.

        time.sleep(random.uniform(0.0002, 0.002))
        return True

    return wait


_KEEP = "Stop the workers, keep a copy of the file with its -wal and -shm, and run: queuectl doctor"


def fetch(db: apsw.Connection, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return db.execute(query, values).fetchall()


def fetch_one(
    db: apsw.Connection, query: str, values: Sequence[Any] = ()
) -> tuple[Any, ...] | None:
    """The first row of a query."""
    return db.execute(query, values).fetchone()


class translated:  # noqa: N801 - reads as a statement: `with translated(path):`
    """Raises SQLite's errors as queuectl's, with the file's name and what to do."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, apsw.Error):
            raise _translate(error, self.path) from error


def _translate(error: apsw.Error, location: str) -> QueuectlError:
    path = visible(location)
    if isinstance(error, apsw.NotADBError):
        if files.looks_used(location):
            return DatabaseCorrupt(
                f"{path} is damaged, or is not a SQLite database",
                hint=f"{_KEEP}. If it never was a queue, name another file with --db or QUEUECTL_DB_PATH.",
            )
        return DatabaseCorrupt(
            f"{path} is not a SQLite database",
            hint="Name another file with --db or QUEUECTL_DB_PATH.",
        )
    if isinstance(error, apsw.CorruptError):
        return DatabaseCorrupt(
            f"{path} is damaged: {error}",
            hint=_KEEP,
        )
    if isinstance(error, apsw.FullError) or _is_out_of_room(error):
        return DiskFull(
            f"no room to write {path}: the disk is full; nothing was changed",
            hint="Make room on the disk, then try again.",
        )
    if isinstance(error, apsw.ReadOnlyError):
        return DatabaseReadOnly(
            f"{path} is read-only", hint="Check the permissions of the file and of its folder."
        )
    if isinstance(error, apsw.CantOpenError):
        return DatabaseReadOnly(
            f"cannot open {path}", hint="Check the permissions of the file and of its folder."
        )
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        from queuectl.storage.sqlite.writer import described

        who, hint = described(location)
        return DatabaseBusy(f"{path} was held by {who} for over {BUSY_SECONDS:.0f} seconds", hint)
    if isinstance(error, apsw.SQLError) and "no such" in str(error):
        return DatabaseForeign(
            f"{path} lacks a part of queuectl's schema: {error}",
            hint="Run: queuectl doctor",
        )
    return DatabaseError(f"{path}: {error}")


def _is_out_of_room(error: apsw.Error) -> bool:
    # A file size limit (ulimit -f) and a quota come as a failed write, not as SQLITE_FULL.
    return isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) in (
        apsw.SQLITE_IOERR_WRITE,
        apsw.SQLITE_IOERR_TRUNCATE,
        apsw.SQLITE_IOERR_SHMSIZE,
    )
