"""What a database must do for queuectl: the verbs, and what each guarantees.

Two protocols, for two kinds of caller. `JobStorage` is for whoever puts jobs in and looks at
them; `WorkerStorage` is for the processes that run them. Every verb is one transaction unless
it says otherwise, and raises a `queuectl.errors.DatabaseError` when the database fails it.
`now` is in microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol

from queuectl.clock import Clock
from queuectl.jobs.claim import Claim
from queuectl.jobs.job import NewJob
from queuectl.jobs.job_view import Attempt, Job
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import Outcome, Verdict
from queuectl.jobs.transfer import Record
from queuectl.storage.records import (
    Exchange,
    NewWorker,
    Outlook,
    OutputPart,
    OutputRecord,
    Rights,
    Settlement,
    WorkerRecord,
)


class JobStorage(Protocol):
    """Putting jobs in, looking at them, and deciding about them by hand."""

    created: bool
    """The queue was made when it was opened."""

    keeps_output: bool
    """Workers copy what commands write into it, for readers on other machines."""

    def enqueue(self, jobs: Sequence[NewJob], now: int) -> None:
        """Stores all of the jobs, or none. They are on the disk when this returns.

        Raises DuplicateJobId when an id is taken.
        """

    def resolve(self, reference: str) -> str:
        """The id that `reference` stands for: a whole id, a unique prefix of 4 or more
        characters, or `@last`. Raises JobNotFound, or InvalidInput for an ambiguous prefix.
        """

    def get(self, job_id: str) -> Job | None:
        """The job with exactly this id."""

    def attempts(self, job_id: str) -> list[Attempt]:
        """The job's attempts, oldest first, with the one that is running, if any, last."""

    def output(self, job_id: str, run: int | None) -> OutputRecord | None:
        """What is there of the output of one of the job's attempts, as its `run` names it; None when
        nothing is.
        """

    def output_blocks(
        self, job_id: str, run: int | None, first: int, most: int
    ) -> list[tuple[int, bytes]]:
        """Up to `most` blocks of it from the number `first` on: their numbers, and their bytes,
        compressed by zlib.
        """

    def list_jobs(
        self, states: Sequence[State], *, sort: str, descending: bool, limit: int | None
    ) -> Iterator[Job]:
        """Jobs in any of `states` (all states if empty), read as they are asked for.

        `sort` is one of the `SORT_KEYS` of `queuectl.jobs.job_view`. Sorting by anything but
        `created` reads every match first.
        """

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state, those with none left out."""

    def scheduled(self, now: int) -> int:
        """How many waiting jobs have a time that is yet to come."""

    def ready_by_requirement(self, now: int) -> dict[tuple[str, ...], int]:
        """How many jobs could run now, for each set of tags that some of them require; those that
        require none are left out.
        """

    def unfinished(self, job_ids: Sequence[str]) -> list[str]:
        """Those of the jobs that have not ended yet. One that is gone counts as ended."""

    def cancel(self, job_ids: Sequence[str], now: int) -> list[str]:
        """Cancels waiting jobs and asks for the running ones to be stopped; returns the ids of
        the latter. All or none: raises WrongState when one has ended already.
        """

    def requeue(self, job_ids: Sequence[str], now: int, states: Sequence[State]) -> None:
        """Gives jobs in one of `states` all their attempts back and makes them pending. All or
        none: raises WrongState when one is in another state.
        """

    def requeue_dead(self, now: int) -> int:
        """Requeues everything that is dead, in several transactions; returns how many."""

    def delete(
        self,
        job_ids: Sequence[str],
        states: Sequence[State],
        remove_output: Callable[[Sequence[str]], object] | None = None,
    ) -> None:
        """Removes jobs in one of `states` with their attempts, and what is kept here of their
        output. All or none: raises WrongState.

        `remove_output` is called with the ids as the last step before the commit: while nobody else
        can have a job of these ids, and when no more than the commit itself can fail. What it raises
        keeps the jobs. When the process dies in between, jobs are left whose output is gone; the
        other way round, the output of a new job with an old id would be removed.
        """

    def prune(
        self,
        states: Sequence[State],
        before: int | None,
        batch: int,
        remove_output: Callable[[Sequence[str]], object] | None = None,
    ) -> list[str]:
        """Removes up to `batch` jobs in `states` that ended before `before` (None: whenever),
        with their attempts; returns their ids. `remove_output` as for `delete`.
        """

    def count_prunable(self, states: Sequence[State], before: int | None) -> int:
        """How many jobs `prune` would remove in all."""

    def existing(self, job_ids: Sequence[str]) -> set[str]:
        """Those of the ids that belong to a job."""

    def workers(self) -> list[WorkerRecord]:
        """The registered workers, oldest first."""

    def request_stop(self, worker_ids: Sequence[str], timeout: float | None, now: int) -> None:
        """Asks workers to stop; running commands get `timeout` seconds (None: their own)."""

    def changes(self) -> int:
        """A number that is another one whenever somebody else changed the database. Cheap."""

    def engine_version(self) -> str:
        """The database and its version, for people."""

    def rights(self) -> Rights | None:
        """What this role may do with the queue, in which nothing is missing. None: whoever can open it
        may do everything.
        """

    def check(self) -> list[str]:
        """What an integrity check of the whole database finds wrong, a line each. Slow."""

    def backup(self, path: str) -> None:
        """Writes a consistent copy to a new file, while the queue goes on: all of it, or none.

        Raises CouldNotDo when there is a file, EnvironmentFault when it cannot be written.
        """

    def export_jobs(self) -> Generator[tuple[Job, list[Attempt]]]:
        """Every job as of one moment, in the order of arrival, with its attempts that ended, oldest
        first; read as they are asked for. Until it is closed nothing may be written here.
        """

    def import_jobs(
        self, records: Iterable[Record], finish: Callable[[], object] | None = None
    ) -> None:
        """Stores all of the jobs with their attempts as they are, behind those that are there; or
        none, when one cannot be stored, or `records` or `finish` raises. `finish` is called as the
        last step before the commit. Whoever would put in one of these ids waits until then; in a
        file, whoever would write.

        Raises DuplicateJobId, with the line, for the first id that is taken; InvalidInput for the
        first that an earlier record has.
        """

    def close(self) -> None:
        """Ends the connection."""


class WorkerStorage(Protocol):
    """Running jobs: every write is fenced, so that one from a worker given up for lost does nothing."""

    clock: Clock
    """What its times, leases and due jobs go by."""

    spans_machines: bool
    """Workers of other machines may take this worker's jobs when its lease is over."""

    keeps_output: bool
    """What commands write is to be copied into it."""

    def register(self, worker: NewWorker) -> None:
        """Makes the worker known, with its first lease."""

    def unregister(self, worker_id: str) -> None:
        """Forgets a worker that has settled or given back all its jobs. One that still holds a job
        stays known, so that the job is rescued.
        """

    def heartbeat(self, worker_id: str, lease_seconds: float) -> None:
        """Renews the lease on all the worker's jobs. Raises WorkerFenced when it was given up."""

    def require_known_schema(self) -> None:
        """Raises DatabaseTooNew when a later program has brought the schema up since it was opened."""

    def exchange(self, worker_id: str, settlements: Sequence[Settlement], wanted: int) -> Exchange:
        """Settles attempts that ended and claims up to `wanted` jobs, in one transaction.

        It claims what requires no more than the worker's tags, by priority, then by arrival; what
        requires more costs it nothing. A settlement whose claim is no longer the job's changes
        nothing and is reported in `refused`. Raises WorkerFenced, with nothing changed, when the worker was given up.
        """

    def keep_output(self, worker_id: str, parts: Sequence[OutputPart]) -> list[Claim]:
        """Keeps pieces of what this worker's commands write, up to one for each claim; of those that
        a settlement brings along, `exchange` does the same. Doing it twice does no more than once.

        A piece whose claim is no longer the job's changes nothing, and is reported. No heartbeat and
        no settlement waits for it.
        """

    def give_back(self, worker_id: str, claims: Sequence[Claim]) -> None:
        """Returns jobs that were claimed but not started; they lose no attempt."""

    def outlook(self, worker_id: str, inside: str | None = None) -> Outlook:
        """What there is to do, read without a write lock. `inside` is the id of the job in whose
        command the worker runs: it cannot end before the worker does, and is no unfinished business.
        """

    def left_to_others(self, worker_id: str) -> dict[tuple[str, ...], int]:
        """How many jobs are ready, or wait for their retry, that require more than this worker's
        tags, for each set of tags that they require.
        """

    def workers(self, *, count_running: bool = True) -> list[WorkerRecord]:
        """The registered workers, oldest first. Who does not need to know how many jobs each holds says
        so: a database for which counting is work leaves it at 0.
        """

    def give_up(self, worker_id: str, heartbeat_at: int) -> bool:
        """Fences a worker, unless it has given another sign of life than the one seen last, at
        `heartbeat_at`; whether it is fenced now.
        """

    def fence(self, worker_id: str) -> list[Claim]:
        """Gives a worker up for lost: from now on it can write nothing. Returns what it holds; for
        a worker given up already this writes nothing.
        """

    def suspended_writer(self) -> int | None:
        """The process of this machine that was suspended in the middle of a write, and so keeps all
        others from writing; None when there is none, or it cannot be told.
        """

    def rewrite_worker(self, worker_id: str) -> None:
        """Writes a worker's record as it is. Raises what would keep it from renewing its lease."""

    def rescue(
        self, worker_id: str, decide: Callable[[Claim], tuple[Outcome, Verdict]]
    ) -> list[tuple[Claim, Verdict]]:
        """Takes every job from a fenced worker, as `decide` says, and forgets the worker.

        `decide` is asked once for each, while nobody else can take them. An attempt that had not
        begun ended when it was claimed.
        """

    def watch(self, poll_seconds: float) -> ChangeWatch:
        """A way to sleep until somebody else changes the database; `poll_seconds` is how often to
        look where the system does not report changes.
        """

    def make_room(self) -> None:
        """Gives back what room on the disk the database can do without; never fails."""

    def rebase_retries(self) -> int:
        """After the clock was set back: makes retries wait no longer than their delay from now;
        returns how many would have.
        """

    def close(self) -> None:
        """Ends the connection."""


class ChangeWatch(Protocol):
    """Sleeping until the database changes. `wake` may be called from any thread, the rest from one."""

    def wake(self) -> None:
        """Ends the sleep of the other thread, or its next one. Never blocks."""

    def changed(self) -> bool:
        """Whether somebody else changed the database since this was last asked. Cheap."""

    def wait(self, seconds: float) -> bool:
        """Sleeps up to `seconds`; true when the database changed, false when woken or in time."""

    def doze(self, seconds: float) -> bool:
        """Sleeps up to `seconds`, whatever happens in the database; true when woken before."""

    def close(self) -> None:
        """Frees what it holds."""
