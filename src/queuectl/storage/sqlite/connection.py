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
from queuectl.storage.sqlite import migrate
from queuectl.text import typed, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any

BUSY_SECONDS = 60.0
"""How long to wait for another process's transaction. None of ours lasts a tenth of it."""


def connect(path: str, *, create: bool) -> apsw.Connection:
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
        elif not create and not os.path.getsize(path):
            raise QueueNotFound(
                f"{visible(path)} is empty: there is no queue in it",
                hint="Make one with: queuectl init",
            )
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.set_busy_handler(_wait_while_busy())
            # FULL: a commit is on the disk before it is reported (see docs/guarantees.md).
            db.execute("PRAGMA synchronous = FULL")
            migrate.bring_up_to_date(db, path)
        except BaseException:
            db.close()
            raise
        return db


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
            raise _translate(error, visible(self.path)) from error


def _translate(error: apsw.Error, path: str) -> QueuectlError:
    if isinstance(error, apsw.NotADBError):
        return DatabaseCorrupt(
            f"{path} is not a SQLite database",
            hint="Name another file with --db or QUEUECTL_DB_PATH.",
        )
    if isinstance(error, apsw.CorruptError):
        return DatabaseCorrupt(
            f"{path} is damaged: {error}",
            hint="Stop the workers, keep a copy of the file, and run: queuectl doctor",
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
        return DatabaseBusy(
            f"{path} was held by another program for over {BUSY_SECONDS:.0f} seconds",
            hint="Find who holds it (for example: fuser -v FILE), end it, and try again.",
        )
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
