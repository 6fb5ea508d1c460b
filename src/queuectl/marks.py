"""Which processes belong to which job, wherever they moved.

A command carries its job's marks in its environment, and so does what it starts. QUEUECTL_CLAIM alone
says which run it belongs to: a command may point QUEUECTL_DB_PATH at another queue. One that has lost
its marks (`env -i`, or a program that writes over its environment) is still known by its output:
it goes into the job's log.
"""

from __future__ import annotations

import os
import threading
import time
from collections import namedtuple

from queuectl.processes import HAS_PROC, group_lives, living_groups, living_thread, process_ids
from queuectl.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import NamedTuple

    class Member(NamedTuple):
        """A process of a job."""

        pid: int
        job_id: str
        """"" when only the mark of its run can tell whether it is of a job of this queue."""
        attempt: str
        """The number of its attempt; "" when it has lost its marks."""
        claim: str
        """The mark of its run, which never comes again; "" when it has lost its marks."""

else:
    Member = namedtuple("Member", "pid job_id attempt claim")


JOB_MARKS = ("QUEUECTL_JOB_ID", "QUEUECTL_ATTEMPT", "QUEUECTL_MAX_RETRIES", "QUEUECTL_CLAIM")
"""The variables that a command has because it is a job's."""


def claim_mark(token: int, seq: int) -> str:
    """The value of QUEUECTL_CLAIM for the run of a job under its claim. A token alone may be
    shared with other jobs, which were claimed together.
    """
    return f"{token:x}-{seq}"


def members(database: str) -> list[Member]:
    """Every process of a job of this queue, but this one. Those of other users cannot be seen.

    Raises OSError when this machine does not let us look (no free descriptor, no memory).
    """
    return [member for member in carriers(database) if member.job_id]


def carriers(database: str) -> list[Member]:
    """As `members`, and those that carry the mark of a run and may be of this queue or of another:
    their `job_id` is "".
    """
    wanted = b"QUEUECTL_DB_PATH=" + os.fsencode(database)
    logs = os.path.realpath(Workspace(database).logs) + os.sep
    found = []
    me = os.getpid()
    for pid, place, environment in _environments():
        if pid == me:
            continue
        member = Member(pid, "", "", "")
        if b"QUEUECTL_" in environment:
            marks = environment.split(b"\0")
            member = _member(pid, marks)
            if member.job_id and wanted in marks:
                found.append(member)
                continue
        log = _writes_log_of(place, logs) if HAS_PROC else ""
        if not member.claim:
            if log:
                found.append(Member(pid, log, "", ""))
        elif member.job_id in ("", log):
            found.append(member._replace(job_id=log))
        else:
            # Of another queue's job, that was made to write here; or of a job of this queue, and
            # told of another.
            found.append(member._replace(job_id=""))
    return found


class Census:
    """The processes of a queue's jobs, looked for once for all who ask at about the same time.

    Many commands that are ended together are many questions, and each look reads all of /proc.
    `is_sure` says whether the jobs are surely still this worker's. When not, a process known by its
    log alone may be of a later run, and is left out.
    """

    def __init__(self, database: str, is_sure: Callable[[], bool] | None = None) -> None:
        self._database = database
        self._is_sure = is_sure
        self._lock = threading.Lock()
        self._taken = -1.0
        self._members: list[Member] = []
        self._groups: set[int] = set()

    def members(self, since: float) -> list[Member]:
        """As `carriers`, as of some moment not before `since` (of `time.monotonic`)."""
        with self._lock:
            self._look(since)
            return self._members

    def group_lives(self, group: int, since: float) -> bool:
        """Whether a process of this group ran at some moment not before `since`."""
        if not HAS_PROC:
            return group_lives(group)
        with self._lock:
            self._look(since)
            return group in self._groups

    def _look(self, since: float) -> None:
        if self._taken < since:
            taken = time.monotonic()
            self._groups = living_groups() if HAS_PROC else set()
            found = carriers(self._database)
            # Asked after the look, not before it: no later run had begun then.
            if self._is_sure is not None and not self._is_sure():
                found = [member for member in found if member.claim]
            self._members = found
            self._taken = taken


def of_runs(
    found: Iterable[Member], runs: dict[str, str], *, without_marks: bool = True
) -> set[int]:
    """The processes of these runs, given as claim marks with the ids of their jobs.

    `without_marks` takes in those that write into the job's log and have lost their marks; whose
    run they are of cannot be told.
    """
    ids = set(runs.values())
    return {
        member.pid
        for member in found
        if member.claim in runs or (without_marks and not member.claim and member.job_id in ids)
    }


def _member(pid: int, marks: list[bytes]) -> Member:
    values = {name: value for name, _, value in (mark.partition(b"=") for mark in marks)}
    names = (b"QUEUECTL_JOB_ID", b"QUEUECTL_ATTEMPT", b"QUEUECTL_CLAIM")
    return Member(pid, *(os.fsdecode(values.get(name, b"")) for name in names))


def _writes_log_of(place: str, logs: str) -> str:
    """The id of the job into whose log the process there writes; "" for most."""
    for descriptor in (1, 2):
        try:
            target = os.readlink(f"{place}/fd/{descriptor}")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if target.startswith(logs):
            return target[len(logs) :].removesuffix(" (deleted)").removesuffix(".log")
    return ""


def _environments() -> Iterator[tuple[int, str, bytes]]:
    """Each process, where in /proc to look at it, and its environment."""
    if not HAS_PROC:
        yield from _environments_elsewhere()
        return
    for pid in process_ids():
        place = f"/proc/{pid}"
        try:
            environment = _environment(place)
            if not environment:
                thread = living_thread(pid)
                if thread:
                    place, environment = thread, _environment(thread)
        except (FileNotFoundError, PermissionError):
            continue  # It is gone, or not ours.
        if environment is not None:
            yield pid, place, environment


def _environment(place: str) -> bytes | None:
    """None where there is no program any more, or never was; some systems show an empty one then."""
    try:
        with open(place + "/environ", "rb") as file:
            return file.read()
    except ProcessLookupError:
        return None


def _environments_elsewhere() -> Iterator[tuple[int, str, bytes]]:
    import psutil

    for process in psutil.process_iter():
        try:
            pairs = process.environ().items()
        except (psutil.Error, OSError):
            continue
        yield process.pid, "", b"\0".join(os.fsencode(f"{name}={value}") for name, value in pairs)
