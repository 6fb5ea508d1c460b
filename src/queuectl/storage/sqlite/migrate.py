"""Bringing a database to the schema this program was written for; refusing one from a later program."""

from __future__ import annotations

import os
import time

import apsw

from queuectl.disk import sync_folder
from queuectl.errors import DatabaseForeign, DatabaseTooNew
from queuectl.storage.sqlite.transactions import transaction
from queuectl.text import visible

APPLICATION_ID = 0x51435431
"""Marks the file as queuectl's own ("QCT1" in its header)."""

_WAL_SECONDS = 30.0

SCHEMA_VERSION = 2
"""The number of the last file in schema/."""


def bring_up_to_date(db: apsw.Connection, path: str) -> None:
    """Applies the migrations that the database lacks, all in one transaction.

    Raises DatabaseTooNew for a schema of a later version, DatabaseForeign for a database that
    holds something else.
    """
    if _version(db, path) == SCHEMA_VERSION:
        return
    _use_wal(db)
    with transaction(db):
        # Another process may have done it while we waited for the lock.
        for number in range(_version(db, path) + 1, SCHEMA_VERSION + 1):
            db.execute(_migration(number))
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    sync_folder(path)


def require_known(db: apsw.Connection, path: str) -> None:
    """Raises DatabaseTooNew for a schema of a later version than this program knows."""
    _version(db, path)


def is_database(path: str) -> bool:
    """Whether the file is a SQLite database, ours or not: what marks ours may be in its log still."""
    try:
        with open(path, "rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def _use_wal(db: apsw.Connection) -> None:
    """Readers and the writer do not wait for each other then. It is kept in the file."""
    deadline = time.monotonic() + _WAL_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except apsw.BusyError:
            # SQLite does not wait here by itself: it could be for another that waits for it.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _version(db: apsw.Connection, path: str) -> int:
    version, application_id, is_empty = _header(db)
    if application_id != APPLICATION_ID:
        if not is_empty:
            raise DatabaseForeign(
                f"{visible(path)} is a database of another program",
                hint="Name another file with --db or QUEUECTL_DB_PATH.",
            )
        return 0
    if version > SCHEMA_VERSION:
        raise DatabaseTooNew(
            f"{visible(path)} has schema {version}; this queuectl knows up to {SCHEMA_VERSION}",
            hint="Upgrade queuectl, or name another database.",
        )
    return version


def _header(db: apsw.Connection) -> tuple[int, int, bool]:
    """The schema's version, whose file it is, and whether there is nothing in it yet."""
    version, application_id = int(db.pragma("user_version")), int(db.pragma("application_id"))
    if application_id == APPLICATION_ID:
        return version, application_id, False
    # Read once more, all at one moment: another process may be making the queue just now.
    begun = not db.in_transaction
    if begun:
        db.execute("BEGIN")
    try:
        version, application_id = int(db.pragma("user_version")), int(db.pragma("application_id"))
        is_empty = not version and not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        return version, application_id, is_empty
    finally:
        if begun:
            db.execute("ROLLBACK")


def _migration(number: int) -> str:
    folder = os.path.join(os.path.dirname(__file__), "schema")
    name = next(n for n in sorted(os.listdir(folder)) if n.startswith(f"{number:04d}_"))
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()
