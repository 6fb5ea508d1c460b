"""What jobs wrote: in the logs on this machine, or in the database when they ran on another one."""

from __future__ import annotations

import io

from queuectl.copied_log import CopiedFollower, CopiedLog, gone, is_here
from queuectl.processes import host_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.copied_log import Place
    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job_view import Attempt
    from queuectl.storage.job_storage import JobStorage


class JobOutput:
    """The output of the jobs of one queue. Made by `JobQueue.output`."""

    def __init__(self, queue: JobQueue, storage: JobStorage) -> None:
        self._queue = queue
        self._storage = storage

    def copied(self, reference: str) -> CopiedLog | None:
        """The job's log, if it is not all on this machine; None when `JobQueue.logs` has it, or would."""
        if not self._storage.keeps_output:
            return None
        job = self._queue.get(reference)
        attempts = self._storage.attempts(job.id)
        here = self._which_are_here(job.id, attempts, waits=False)
        if all(here):
            return None
        return CopiedLog(self._storage, self._queue.logs, job, attempts, here)

    def elsewhere(self, reference: str, *, chosen: int | None = None) -> list[Place]:
        """Where that part of the job's output is that is not in its log on this machine, of all of its
        attempts or of the `chosen` one, by its place in their list.
        """
        copied = self.copied(reference)
        if copied is not None:
            return copied.places(chosen)
        if self._storage.keeps_output:
            return []
        job = self._queue.get(reference)
        attempts = self._storage.attempts(job.id)
        return gone(self._queue.logs, job, attempts if chosen is None else [attempts[chosen]])

    def follower(self, reference: str, *, waits: bool = True) -> CopiedFollower | None:
        """What follows the job from its first attempt on that is not in the log on this machine; None
        when there is no such attempt (yet, for someone who `waits` for a log here).
        """
        if not self._storage.keeps_output:
            return None
        job_id = self._queue.resolve(reference)
        here = self._which_are_here(job_id, self._storage.attempts(job_id), waits=waits)
        if all(here):
            return None
        job = self._queue.get(job_id)
        return CopiedFollower(
            self._storage, job, lambda: self._storage.attempts(job_id), here.index(False)
        )

    def read(self, reference: str, *, tail: int | None = None) -> bytes:
        """As `JobQueue.read_log`."""
        job_id, logs, out = self._queue.resolve(reference), self._queue.logs, io.BytesIO()
        copied = self.copied(job_id)
        if copied is None:
            logs.copy(job_id, out, 0 if tail is None else logs.tail_start(job_id, tail))
        elif tail is None:
            copied.copy(out)
        else:
            return copied.tail(tail)
        return out.getvalue()

    def _which_are_here(self, job_id: str, attempts: list[Attempt], *, waits: bool) -> list[bool]:
        host, logs = host_name(), self._queue.logs
        return [is_here(self._storage, logs, host, job_id, a, waits=waits) for a in attempts]
