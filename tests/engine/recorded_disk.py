"""A disk that remembers what was written to it, and can be looked at as a power cut would leave it.

Every write, truncation, sync and deletion that SQLite asks for goes through a file system shim and
is noted. From the notes the files can be made as they may be after a power cut at any point: what
was synced is there; of what was written since, nothing, all, or any part is.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import apsw

from queuectl.jobs.job_view import Job

Promise = Callable[[Mapping[str, Job]], None]
"""Looks at the jobs, by their ids, that are there after a power cut; fails when it was not kept."""

_SECTOR = 512
_FOLDER = "."
"""The folder that the files are in: a name is gone for good only once this is synced."""


class Event(NamedTuple):
    """One thing that happened to a file; or, with the kind "ack", what the program then promised."""

    kind: str
    file: str = ""
    offset: int = 0
    data: bytes = b""
    promise: Promise | None = None


class RecordedDisk(apsw.VFS):
    """SQLite's view of the disk while this is registered. Use as a context manager."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.real = apsw.vfs_names()[0]
        self._fsync = os.fsync
        super().__init__("recorded", self.real, makedefault=True)

    def __enter__(self) -> Self:
        os.fsync = self._sync_folder  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync = self._fsync
        self.unregister()

    def _sync_folder(self, fd: int) -> None:
        self._fsync(fd)
        assert stat.S_ISDIR(os.fstat(fd).st_mode), "files are synced by SQLite alone"
        self.events.append(Event("sync", _FOLDER))

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name if isinstance(name, str | None) else name.filename()
        if path is None:
            return apsw.VFSFile(self.real, None, flags)  # A temporary file: nobody will miss it.
        return _RecordedFile(self, Path(path).name, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.events.append(Event("delete", Path(filename).name))
        if syncdir:
            self.events.append(Event("sync", _FOLDER))

    def promise(self, check: Promise) -> None:
        """The program was told something: from here on, whatever is lost, `check` has to hold."""
        self.events.append(Event("ack", promise=check))


class _RecordedFile(apsw.VFSFile):
    def __init__(
        self, disk: RecordedDisk, file: str, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__(disk.real, name, flags)
        self._events = disk.events
        self._file = file

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._events.append(Event("write", self._file, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._events.append(Event("truncate", self._file, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._events.append(Event("sync", self._file))


def after_power_cut(
    events: list[Event], folder: Path, keep: Callable[[Event], Event | None]
) -> None:
    """Writes into `folder` the files as they are when the power went after `events`.

    `keep` decides what became of each change that was not synced: it, a part of it, or nothing.
    """
    last_sync = {event.file: n for n, event in enumerate(events) if event.kind == "sync"}
    files: dict[str, bytearray] = {}
    for n, event in enumerate(events):
        if event.kind in ("sync", "ack"):
            continue
        is_safe = n < last_sync.get(event.file, -1)
        if event.kind == "delete":
            is_safe = is_safe or n < last_sync.get(_FOLDER, -1)
        change = event if is_safe else keep(event)
        if change is None:
            continue
        if change.kind == "delete":
            files.pop(change.file, None)
            continue
        content = files.setdefault(change.file, bytearray())
        if change.kind == "truncate":
            del content[change.offset :]
        else:
            content.extend(b"\0" * (change.offset - len(content)))
            content[change.offset : change.offset + len(change.data)] = change.data
    for name, content in files.items():
        (folder / name).write_bytes(content)


def nothing(_event: Event) -> Event | None:
    """The disk had written nothing yet of what was not synced."""
    return None


def everything(event: Event) -> Event | None:
    """The disk had written it all."""
    return event


def some_of_it(chance: random.Random) -> Callable[[Event], Event | None]:
    """The disk had written what it liked, in any order, and was in the middle of a write."""

    def keep(event: Event) -> Event | None:
        if chance.random() < 0.5:
            return None
        if event.kind == "write" and chance.random() < 0.3:
            sectors = chance.randrange(len(event.data) // _SECTOR + 1)
            return event._replace(data=event.data[: sectors * _SECTOR])
        return event

    return keep
