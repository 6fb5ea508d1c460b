"""Putting files and their names on the disk, where nothing else does it."""

from __future__ import annotations

import os


def sync_file(path: str) -> None:
    """Puts what is in a file on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: str) -> None:
    """Puts the name of a file on the disk. Windows has no way to, and no need."""
    if os.name != "posix":
        return
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def holds_something(path: str) -> bool:
    """Whether there is more than an empty file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # Opening it says what is wrong.
    return found.st_size > 0 or not os.path.isfile(path)
