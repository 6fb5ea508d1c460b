"""The dead letter queue: jobs that used up their attempts, until somebody decides about them."""

from __future__ import annotations

from queuectl.errors import JobNotFound
from queuectl.job_queue import several
from queuectl.jobs.lifecycle import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Sequence

    from queuectl.errors import WrongState
    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job_view import Job
    from queuectl.storage.job_storage import JobStorage

_HINT = "See what is dead with: queuectl dlq list"


class DeadLetterQueue:
    """The dead jobs of one queue. Made by `JobQueue.dead_letters`."""

    def __init__(self, queue: JobQueue, storage: JobStorage) -> None:
        self._queue = queue
        self._storage = storage

    def list(self, *, limit: int | None = None) -> Iterator[Job]:
        """The dead jobs, newest first."""
        return self._queue.list([State.DEAD], limit=limit)

    def count(self) -> int:
        """How many jobs are dead."""
        return self._queue.counts()[State.DEAD]

    def get(self, reference: str) -> Job:
        """The dead job. Raises JobNotFound, or WrongState when the job is not dead."""
        try:
            job = self._queue.get(reference)
        except JobNotFound as error:
            raise JobNotFound(error.message, _HINT) from None
        if job.state != State.DEAD:
            raise _not_dead(job)
        return job

    def retry(self, references: str | Sequence[str]) -> builtins.list[str]:
        """Makes dead jobs pending again with all their attempts, all or none; returns their ids.

        Raises JobNotFound, or WrongState when one of the jobs is not dead.
        """
        ids = list(dict.fromkeys(self.get(name).id for name in several(references)))
        self._storage.requeue(ids, self._queue.now(), [State.DEAD])
        return ids

    def retry_all(self) -> int:
        """Makes every dead job pending again; returns how many there were."""
        return self._storage.requeue_dead(self._queue.now())

    def purge(self, *, older_than: float | str | None = None) -> int:
        """Removes the jobs that died over `older_than` ago (seconds, or '7d'; None: all), with
        their output; returns how many.
        """
        return self._queue.prune(states=[State.DEAD], older_than=older_than)


def _not_dead(job: Job) -> WrongState:
    from queuectl.errors import WrongState

    return WrongState(f"job {job.id} is {job.state}, not dead", hint=_HINT)
