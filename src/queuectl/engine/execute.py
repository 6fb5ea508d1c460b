"""Starting an attempt: its log, its command, its deadline."""

from __future__ import annotations

import errno
import sys

from queuectl.engine.attempt import Attempt
from queuectl.engine.launcher import NotStarted, OutOfResources
from queuectl.errors import EnvironmentFault
from queuectl.job_logs.open_log import NoLog
from queuectl.jobs.outcome import not_started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.config import Config
    from queuectl.engine.launcher import Launcher
    from queuectl.job_logs import JobLogs, OpenLog
    from queuectl.jobs.claim import Claim


_NO_ROOM = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
)
"""What keeps any log from being written; other errors are about the log of this job."""


_RESERVED_DESCRIPTORS = 8
"""Kept free of logs: to find and end what commands have started, to rescue, to write."""


def _descriptor_limit() -> int:
    limit = 1 << 30  # Far more than there are slots.
    if sys.platform != "win32":
        import resource

        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if soft != resource.RLIM_INFINITY:
            limit = soft
    return limit


class Executor:
    """Makes attempts out of claims, for one worker with this `name`."""

    __slots__ = (
        "_clock",
        "_job_timeout",
        "_launcher",
        "_log_max_bytes",
        "_logs",
        "_most_descriptors",
        "_name",
    )

    def __init__(
        self, *, name: str, logs: JobLogs, launcher: Launcher, clock: Clock, config: Config
    ) -> None:
        self._name = name
        self._logs = logs
        self._launcher = launcher
        self._clock = clock
        self._most_descriptors = _descriptor_limit() - _RESERVED_DESCRIPTORS
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Takes over the settings, for the attempts that begin from now on."""
        self._job_timeout = config.job_timeout
        self._log_max_bytes = config.log_max_bytes

    def start(self, claim: Claim, may_start: Callable[[int], bool]) -> Attempt | None:
        """Starts the command. When the job's own fault keeps it from starting, the attempt has
        ended already. None, with nothing left behind, when `may_start`, asked with the ticks of the
        moment, says no.

        Raises OutOfResources, with nothing left behind, when the machine has no room for it now.
        """
        ticks, now = self._clock.ticks(), self._clock.now()
        if not may_start(ticks):
            return None
        timeout = self._job_timeout if claim.timeout is None else claim.timeout
        fault = None
        try:
            log: OpenLog | NoLog = self._open_log(claim, now)
        except NotStarted as error:
            log, fault = NoLog(), error
        attempt = Attempt(claim, log, started_at=now, started_ticks=ticks, timeout=timeout)
        if fault is not None:
            attempt.end_with(not_started(str(fault)))
            return attempt
        # Opening the log may have taken a while: a stop, a whole lease.
        if not may_start(self._clock.ticks()):
            log.discard()
            return None
        try:
            attempt.pid = self._launcher.start(claim, log.fd)
        except NotStarted as error:
            attempt.end_with(not_started(str(error)))
        except OutOfResources:
            log.discard()
            raise
        return attempt

    def _open_log(self, claim: Claim, now: int) -> OpenLog:
        try:
            log = self._logs.open_attempt(
                claim.id,
                claim.attempt,
                max_retries=claim.max_retries,
                started_at=now,
                worker=self._name,
                command=claim.command,
                cwd=claim.cwd,
                max_bytes=self._log_max_bytes,
            )
        except FileNotFoundError:
            try:
                self._logs.ensure_folder()  # Somebody removed it while we ran.
            except EnvironmentFault as error:
                raise OutOfResources(error.message) from None
            raise OutOfResources("the folder of the logs was gone; made it again") from None
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise OutOfResources(f"cannot write the log of a job: {error.strerror}") from None
            raise NotStarted(f"cannot write its log: {error.strerror}") from None
        # The lowest free number is handed out: so it says how many are left.
        if log.fd >= self._most_descriptors:
            log.discard()
            raise OutOfResources("nearly all file descriptors are in use (ulimit -n)")
        return log
