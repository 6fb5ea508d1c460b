"""Facts about processes: who this one is, and whether another, a group, a worker still lives."""

from __future__ import annotations

import os
import sys
from enum import StrEnum

from queuectl.text import storable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from queuectl.storage.records import WorkerRecord

HAS_PROC = sys.platform != "win32" and os.path.exists("/proc/self/stat")


class Identity:
    """Names one process so that no other, before or after, can be taken for it."""

    __slots__ = ("boot_id", "host", "pid", "process_space", "process_started")

    def __init__(
        self, host: str, boot_id: str, process_space: str, pid: int, process_started: str
    ) -> None:
        self.host = host
        self.boot_id = boot_id
        self.process_space = process_space
        self.pid = pid
        self.process_started = process_started


def this_process() -> Identity:
    """The identity of this process."""
    pid = os.getpid()
    return Identity(host_name(), boot_id(), process_space(), pid, started(pid) or "")


def host_name() -> str:
    """The name of this machine, in a form that can be stored and compared: it may be any bytes."""
    if hasattr(os, "uname"):
        name: str = os.uname().nodename
    else:
        import socket

        name = socket.gethostname()
    return storable(name)


def boot_id() -> str:
    """Names this run of this machine, as far as is needed to tell its processes from earlier ones."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        # Elsewhere the start of a process is a date, which is enough. That of the machine would
        # move whenever the clock is set.
        return host_name()


def process_space() -> str:
    """Where a process id means something: containers on one machine number theirs apart."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "machine"


def started(pid: int) -> str | None:
    """When the process began, as text to compare; None when it is gone.

    A zombie is gone: nothing of it will run any more, whether or not its parent reaps it.
    """
    if not HAS_PROC:
        return _started_elsewhere(pid)
    fields = _status(pid)
    if fields is None:
        # With /proc mounted to hide other users' processes, only a signal tells that one is there.
        return UNKNOWN if _is_hidden(pid) else None
    return None if fields[0] in _ZOMBIE else fields[19].decode("ascii")


UNKNOWN = "unknown"
"""What `started` says of a process that exists and does not show itself to us."""


def _is_hidden(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def group_lives(group: int) -> bool:
    """Whether there is a process of this group. Where it can be told, `living_groups` is better:
    this counts zombies, and whoever should reap them may be slow about it.
    """
    if sys.platform != "win32":
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
    return True


def living_groups() -> set[int]:
    """The process groups in which something runs. Zombies do not count. Needs /proc.

    Raises OSError when that cannot be told, for want of a descriptor or of memory.
    """
    statuses = map(_status, process_ids())
    return {int(fields[2]) for fields in statuses if fields and fields[0] not in _ZOMBIE}


_ZOMBIE = (b"Z", b"X")


def process_ids() -> list[int]:
    """All processes there are, as /proc shows them."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _status(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the state on (proc_pid_stat(5)); None when it is gone.

    Raises OSError when that cannot be told, for want of a descriptor or of memory.
    """
    fields = _fields(f"/proc/{pid}")
    # A process whose first thread has ended looks like a zombie while its other threads go on.
    if fields and fields[0] in _ZOMBIE and fields[17] > b"1":
        place = living_thread(pid)
        if place:
            fields[0] = (_fields(place) or fields)[0]
    return fields


def _fields(place: str) -> list[bytes] | None:
    try:
        with open(place + "/stat", "rb") as file:
            # The name in parentheses may hold anything, also spaces and parentheses.
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def living_thread(pid: int) -> str:
    """Where in /proc to look at a process whose first thread has ended and another has not: what it
    has is shown there alone. "" for any other process.
    """
    place = f"/proc/{pid}/task"
    try:
        # Two, and one for each thread: most that are asked about have one, and cost no more.
        if os.stat(place).st_nlink <= 3:
            return ""
        threads = [f"{place}/{name}" for name in os.listdir(place)]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
    first = _fields(f"{place}/{pid}")
    if first and first[0] in _ZOMBIE:
        for thread in threads:
            fields = _fields(thread)
            if fields and fields[0] not in _ZOMBIE:
                return thread
    return ""


def _started_elsewhere(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def parent(pid: int) -> int | None:
    """The parent of a process; None when that cannot be told."""
    import psutil

    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return None


def ancestors() -> set[int]:
    """This process, its parent, and so on up to the first one."""
    import psutil

    try:
        return {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    except psutil.Error:
        return {os.getpid(), os.getppid()}


class WorkerHealth(StrEnum):
    """What can be said of a registered worker."""

    ALIVE = "alive"
    LOST = "lost"
    """Its process is gone, or it has been given up (fenced): what it holds is to be taken back."""
    SILENT = "silent"
    """It may still exist, but its lease has run out."""


def health_of(worker: WorkerRecord, me: Identity, now: int) -> WorkerHealth:
    """Whether a registered worker lives: by its process where that can be seen, else by its lease."""
    if worker.fenced_at is not None:
        return WorkerHealth.LOST
    if worker.boot_id == me.boot_id:
        same_space = worker.process_space == me.process_space
        if same_space and started(worker.pid) not in (worker.process_started, UNKNOWN):
            return WorkerHealth.LOST
        return WorkerHealth.ALIVE if worker.lease_left_seconds > 0 else WorkerHealth.SILENT
    if worker.lease_is_shared:
        # Another machine, whatever its name: names are given twice. This one before it was started
        # anew looks the same, and costs a lease.
        return WorkerHealth.ALIVE if worker.lease_left_seconds > 0 else WorkerHealth.SILENT
    if worker.host == me.host:
        return WorkerHealth.LOST  # The machine was started anew since.
    # Another machine, whose clock is not ours: only the wall clock of its heartbeat is left.
    silent_seconds = (now - worker.heartbeat_at) / 1e6
    return WorkerHealth.ALIVE if silent_seconds < 2 * worker.lease_seconds else WorkerHealth.SILENT


def is_elsewhere(worker: WorkerRecord, me: Identity) -> bool:
    """Whether a registered worker may have had another machine's logs and processes, or another
    container's.
    """
    there = (worker.host, worker.boot_id, worker.process_space)
    return worker.lease_is_shared and there != (me.host, me.boot_id, me.process_space)


def living(workers: Iterable[WorkerRecord]) -> list[WorkerRecord]:
    """Those of the workers that live, for those who only want to show or to ask them."""
    from queuectl.clock import Clock

    me, now = this_process(), Clock().now()
    return [worker for worker in workers if health_of(worker, me, now) == WorkerHealth.ALIVE]
