from __future__ import annotations

import errno
import io

from queuectl.job_logs import JobLogs, OpenLog

STARTED = 1795492800123456  # 2026-11-24T04:00:00.123456Z


def begin(
    logs: JobLogs, id: str = "a", *, attempt: int = 1, command: str = "true", max_bytes: int = 0
) -> OpenLog:
    """Open an attempt of which only what matters is said."""
    return logs.open_attempt(
        id,
        attempt,
        max_retries=3,
        started_at=STARTED,
        worker="w1",
        command=command,
        cwd="/srv",
        max_bytes=max_bytes,
    )


def end(log: OpenLog) -> int:
    """Close an attempt that succeeded."""
    log.shorten()
    return log.close("succeeded, exit status 0", STARTED + 12_000, 0.012)


def whole(logs: JobLogs, id: str = "a") -> bytes:
    """The log as `copy` writes it."""
    out = io.BytesIO()
    logs.copy(id, out)
    return out.getvalue()


def refuse_to_punch(fd: int, start: int, end: int) -> None:
    """A file system that has no holes."""
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")
