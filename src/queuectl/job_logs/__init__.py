"""The logs of the jobs: one file a job, which its commands write into directly.

Each attempt is a part of the file, between a header line and a closing line. A part that outgrows
its limit has its middle cut out, see `cutting`.
"""

from __future__ import annotations

import os
import sys

from queuectl.errors import CouldNotDo, EnvironmentFault
from queuectl.job_logs import files, own_lines
from queuectl.job_logs.open_log import OpenLog
from queuectl.text import typed, visible

if sys.platform == "win32":
    from queuectl import windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from queuectl.jobs.job_view import Attempt

__all__ = ["JobLogs", "LogNotFound", "OpenLog"]

_ENDING = ".log"
_BATCH = 500


class LogNotFound(CouldNotDo):
    """The job has no log: it has not run yet, or its log was removed."""

    code = "log_not_found"


class JobLogs:
    """The folder of the logs. `folder` need not exist before the first attempt."""

    __slots__ = ("folder",)

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, id: str) -> str:
        """Where the log of a job is, or would be."""
        return f"{self.folder}{os.sep}{id}{_ENDING}"

    def ensure_folder(self) -> None:
        """Make the folder, private to the user, if it is missing. Raises EnvironmentFault."""
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(
                f"the folder for job logs, {visible(self.folder)}, cannot be made: {error.strerror}",
                hint="Check what is in its place, its permissions, and the room on the disk.",
            ) from error

    def open_attempt(
        self,
        id: str,
        attempt: int,
        *,
        max_retries: int,
        started_at: int,
        worker: str,
        command: str,
        cwd: str,
        max_bytes: int = 0,
    ) -> OpenLog:
        """Begin an attempt's part of the job's log, with its header line.

        `started_at` is in microseconds since the epoch; `max_bytes` is the setting log_max_bytes
        (0 for no limit). Raises OSError when there is no folder, no room, or no permission.
        """
        path = self.path(id)
        line = own_lines.started(
            attempt,
            max_retries=max_retries,
            started_at=started_at,
            worker=worker,
            command=command,
            cwd=cwd,
        )
        fd, is_new = _open_append(path, may_be_new=attempt == 1)
        try:
            return OpenLog(fd, path, attempt, line, max_bytes, is_new=is_new)
        except OSError:
            os.close(fd)
            raise

    def close_lost(self, id: str, attempt: int, ended_at: int) -> bool:
        """Say in the job's log that this attempt ended with its worker, which could not say so;
        returns whether it had begun at all.

        It had not when there is no log, or when the log ends with the closing line of another
        attempt: one that begins writes its header line behind that. Then there is nothing to close;
        nor is there when this attempt's closing line is there already. A log that cannot be read or
        written is let be, and its attempt taken for begun.
        """
        from queuectl.job_logs.open_log import append_lost

        try:
            fd = os.open(self.path(id), files.APPEND & ~os.O_CREAT)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return append_lost(fd, attempt, ended_at)

    def has_end_of(self, id: str, attempt: Attempt) -> bool:
        """Whether the log has the closing line of this attempt where that ended."""
        try:
            fd = os.open(self.path(id), files.READ)
        except OSError:
            return False
        try:
            end = attempt.log_end or 0
            start = max(end - own_lines.LONGEST, 0)
            text = files.read_at(fd, end - start, start)
        finally:
            os.close(fd)
        line = text[text.rfind(b"\n", 0, -1) + 1 :]
        return len(text) == end - start and own_lines.is_end_of(
            line, attempt.attempt, attempt.finished_at
        )

    def has_at(self, id: str, offset: int, line: bytes) -> bool:
        """Whether this line stands there in the log."""
        try:
            fd = os.open(self.path(id), files.READ)
        except OSError:
            return False
        try:
            return files.read_at(fd, len(line), offset) == line
        finally:
            os.close(fd)

    def tail_start(self, id: str, lines: int, *, start: int = 0, end: int | None = None) -> int:
        """The offset at which the last `lines` lines of the log, or of that part of it, begin.

        Looks at the log from its end: the cost is that of those lines. Raises LogNotFound.
        """
        from queuectl.job_logs.reading import tail_start

        fd = self._open(id)
        try:
            size = os.fstat(fd).st_size
            return tail_start(fd, lines, start, size if end is None else min(end, size))
        finally:
            os.close(fd)

    def read_tail(self, id: str, lines: int) -> bytes:
        """The last `lines` lines of the log. Raises LogNotFound."""
        import io

        out = io.BytesIO()
        self.copy(id, out, self.tail_start(id, lines))
        return out.getvalue()

    def copy(self, id: str, out: BinaryIO, start: int = 0, end: int | None = None) -> None:
        """Write the log, from the byte `start` to before the byte `end`, to `out`.

        Raises LogNotFound, and whatever `out` raises.
        """
        from queuectl.job_logs.reading import copy

        fd = self._open(id)
        try:
            copy(fd, out, start, end)
        finally:
            os.close(fd)

    def follow(
        self, id: str, out: BinaryIO, is_finished: Callable[[], bool], *, start: int = 0
    ) -> None:
        """Write the log from the byte `start` to `out` as it grows, until the job has finished.

        Waits for a log that is not there yet. `is_finished` is asked a few times a second, when
        there is nothing new to write; what was in the log when it said yes is written too.
        Raises LogNotFound when the job finished without a log, and whatever `out` raises.
        """
        from queuectl.job_logs.following import Follower

        follower = Follower(self.path(id), start)
        try:
            if not follower.run(out, is_finished):
                raise _missing(id)
        finally:
            follower.close()

    def remove(self, ids: Iterable[str]) -> int:
        """Remove the logs of these jobs, and say how many there were.

        Raises EnvironmentFault at the first one that cannot be removed; those before it are gone.
        """
        removed = 0
        for id in ids:
            try:
                os.unlink(self.path(id))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unusable(id, "removed", error) from error
            removed += 1
        return removed

    def holds_any(self) -> bool:
        """Whether any job has a log here."""
        try:
            with os.scandir(self.folder) as entries:
                return any(entry.name.endswith(_ENDING) for entry in entries)
        except OSError:
            return False

    def orphans(self, known: Callable[[list[str]], set[str]]) -> Iterator[str]:
        """The ids of logs whose job is gone. `known` says which of up to 500 ids are jobs."""
        # Listed before the first question, so that no log of a job enqueued since is in it.
        try:
            with os.scandir(self.folder) as entries:
                ids = [
                    entry.name.removesuffix(_ENDING)
                    for entry in entries
                    if entry.name.endswith(_ENDING) and entry.is_file(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return
        # What is not UTF-8 is no id of a job, and no database would take it for a question.
        ids = [id for id in ids if not any("\ud800" <= c <= "\udfff" for c in id)]
        for at in range(0, len(ids), _BATCH):
            batch = ids[at : at + _BATCH]
            jobs = known(batch)
            yield from (id for id in batch if id not in jobs)

    def _open(self, id: str) -> int:
        try:
            return os.open(self.path(id), files.READ)
        except FileNotFoundError:
            raise _missing(id) from None
        except OSError as error:
            raise _unusable(id, "read", error) from error


def _open_append(path: str, *, may_be_new: bool) -> tuple[int, bool]:
    """The descriptor, and whether the file is known to be new: empty, then."""
    if sys.platform == "win32":
        fd = windows.open_append(path)
    else:
        if may_be_new:
            try:
                return os.open(path, files.APPEND | os.O_EXCL, 0o600), True
            except FileExistsError:
                pass  # The job has run before, and begins to count anew.
        fd = os.open(path, files.APPEND, 0o600)
    return fd, False


def _missing(id: str) -> LogNotFound:
    return LogNotFound(
        f"job {visible(id)} has no log",
        hint="A log begins with the job's first attempt. See if there was one with:"
        f" {typed('queuectl', 'show', id)}",
    )


def _unusable(id: str, what: str, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(f"the log of job {visible(id)} cannot be {what}: {error.strerror}")
