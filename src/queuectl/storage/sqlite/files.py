"""The files of a queue's database, seen from outside.

Nothing here opens one. Whoever closes a file gives up all the locks that his process has on it
(fcntl(2)), those of SQLite's connections among them: others would take the database for unused.
"""

from __future__ import annotations

import os

from queuectl.text import typed

_WAL, _SHM = "-wal", "-shm"
_PAGE = 4096

Fingerprint = tuple[tuple[int, int], ...]


def fingerprint(path: str) -> Fingerprint | None:
    """Which files make up the database while somebody has it open; None when one is not there.

    SQLite makes -wal and -shm with the first connection and removes them with the last, so that
    they are the same for as long as any lives. When somebody else removes or replaces one, those who
    have it open go on in the old one, and no later process sees what they write.
    """
    try:
        found = [os.stat(path + ending) for ending in ("", _WAL, _SHM)]
    except OSError:
        return None
    return tuple((status.st_dev, status.st_ino) for status in found)


def has_changes(path: str) -> bool:
    """Whether there is a log of changes to the database, with something in it. A queue that is being
    made has its first page before that.
    """
    try:
        return os.path.getsize(path + _WAL) > 0
    except OSError:
        return False


def is_empty(path: str) -> bool:
    """Whether there is a file, with nothing in it."""
    try:
        return os.path.getsize(path) == 0
    except OSError:
        return False


def looks_used(path: str) -> bool:
    """Whether what is not readable as a database may well have been one: a queue is larger than a
    page, and has its log beside it while it is open.
    """
    if any(os.path.lexists(path + ending) for ending in (_WAL, _SHM)):
        return True
    try:
        return os.path.getsize(path) > _PAGE
    except OSError:
        return False


def way_back(path: str) -> str:
    """How to put a backup in the place of the database, as commands for a shell.

    A -wal that is left would be replayed into the backup: it brings the old queue back, or makes
    rubbish of both. All that begins with the database's name is moved, since -wal and -shm are not
    always there. When they cannot be moved, nothing is copied.
    """
    away = typed(os.path.join(os.path.dirname(path), "damaged"))
    return f"mkdir {away} && mv {typed(path)}* {away}/ && cp BACKUP {typed(path)}"
