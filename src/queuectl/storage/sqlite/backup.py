"""Copying the database to a new file: never over another one, and under its name only when whole."""

from __future__ import annotations

import os
import re
import sys

import apsw

from queuectl.disk import sync_file, sync_folder
from queuectl.errors import CouldNotDo, EnvironmentFault
from queuectl.storage.sqlite.connection import create_private, translated
from queuectl.text import visible

_ENDINGS = ("-journal", "-wal", "-shm", "")
"""What SQLite may make of a copy. VACUUM writes with a rollback journal; only then it is in WAL mode."""

_being_written: set[str] = set()
"""The unfinished copies of this process."""


def back_up(db: apsw.Connection, source: str, path: str) -> None:
    """Copies the database `db`, which is the file `source`, to the new file `path`.

    Of two backups to one file at once the first that is whole stays. Raises CouldNotDo when there
    is a file, EnvironmentFault when it cannot be written.
    """
    path = os.path.abspath(path)
    if os.path.lexists(path):
        raise _exists(path)
    _remove_abandoned(path)
    part = f"{path}.{os.getpid()}-{os.urandom(4).hex()}.part"
    _being_written.add(part)
    try:
        _create(part, path)
        with translated(path):
            _copy(db, source, part)
        sync_file(part)
        _put_in_place(part, path)
        sync_folder(path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise EnvironmentFault(f"cannot write {visible(path)}: {error.strerror}") from None
    finally:
        _remove(part)
        _being_written.discard(part)


def _copy(db: apsw.Connection, source: str, part: str) -> None:
    try:
        # One read transaction over the whole file: what is copied is one moment of the queue.
        db.execute("VACUUM INTO ?", (part,))
    except apsw.CorruptError:
        with translated(source):
            raise
    # Not made anew, where somebody removed it: that would be an empty one.
    copy = apsw.Connection(part, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        copy.execute("PRAGMA journal_mode = WAL")
    finally:
        copy.close()


def _create(part: str, path: str) -> None:
    try:
        create_private(part)
    except EnvironmentFault as error:
        # What it is called meanwhile is nobody's business.
        message = error.message.replace(visible(part), visible(path))
        raise EnvironmentFault(message, error.hint) from None


def _put_in_place(part: str, path: str) -> None:
    """Gives the copy its name. Raises FileExistsError when something has that name by now."""
    if sys.platform == "win32":
        os.rename(part, path)  # It replaces nothing there.
    else:
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:
            _replace_nothing(part, path)


def _replace_nothing(part: str, path: str) -> None:
    """As `os.link`, where the file system has no hard links; `part` is gone then."""
    # An empty file keeps the name for the moment that it takes to put the copy there.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        os.replace(part, path)
    except BaseException:
        os.unlink(path)
        raise


def _remove_abandoned(path: str) -> None:
    """Removes the unfinished copies of backups to this file that were killed.

    Seen from another machine or container a living one may look dead. It then fails: no two copies
    have the same name, so that it cannot take another one, half written, for its own.
    """
    folder, name = os.path.split(path)
    beside = "|".join(filter(None, _ENDINGS))
    unfinished = re.compile(rf"({re.escape(name)}\.(\d{{1,9}})-[0-9a-f]{{8}}\.part)(?:{beside})?")
    try:
        names = os.listdir(folder)
    except OSError:
        return  # Making the copy says what is wrong.
    for found in filter(None, map(unfinished.fullmatch, names)):
        # What SQLite keeps beside a copy may be left without it.
        part = os.path.join(folder, found[1])
        if part not in _being_written and not _is_another(int(found[2])):
            try:
                _remove(part)
            except OSError:
                pass  # Somebody else's. It is in nobody's way.


def _is_another(pid: int) -> bool:
    """Whether another process has this number. Ours may be that of one before us, in a container."""
    import psutil

    return pid != os.getpid() and psutil.pid_exists(pid)


def _remove(part: str) -> None:
    for ending in _ENDINGS:
        try:
            os.unlink(part + ending)
        except FileNotFoundError:
            pass


def _exists(path: str) -> CouldNotDo:
    return CouldNotDo(
        f"{visible(path)} exists already", hint="Name a file that does not exist yet."
    )
