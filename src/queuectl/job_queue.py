"""`JobQueue`: the Python API, and the only way in for every screen."""

from __future__ import annotations

import os

from queuectl.clock import Clock
from queuectl.config import Config
from queuectl.errors import InvalidInput, WaitTimedOut
from queuectl.jobs.job import fresh_ids
from queuectl.jobs.lifecycle import FINISHED, State, sources
from queuectl.jobs.limits import LONGEST_SECONDS
from queuectl.jobs.spec import Defaults, job_from_fields
from queuectl.storage import open_job_storage
from queuectl.text import typed, visible
from queuectl.workspace import Workspace, current_folder, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self, TypedDict, Unpack

    from queuectl.dead_letter_queue import DeadLetterQueue
    from queuectl.job_logs import JobLogs
    from queuectl.job_output import JobOutput
    from queuectl.jobs.job import NewJob
    from queuectl.jobs.job_view import Attempt, Job
    from queuectl.storage.job_storage import JobStorage
    from queuectl.storage.records import Rights
    from queuectl.storage.records import WorkerRecord as WorkerRecord  # noqa: PLC0414 - the screens take it from here

    class JobOptions(TypedDict, total=False):
        """What `enqueue` may be told about a job; None is the same as not given."""

        id: str | None
        max_retries: int | None
        priority: int | None
        delay: float | str | None
        run_at: datetime | str | None
        timeout: float | str | None
        backoff_base: float | None
        cwd: str | os.PathLike[str] | None
        env: Mapping[str, str] | None
        on_lost: str | None
        max_losses: int | None
        requires: str | Sequence[str] | None


_PRUNE_BATCH = 1_000


class JobQueue:
    """A queue of shell commands, in one SQLite file or on a PostgreSQL server.

    Make one with `open`, and use it as a context manager or call `close`. One thread at a time
    may use it; any number of processes may have the same queue open.

    A job is named by its id, by a unique prefix of 4 or more characters of it, or by `@last`.
    Every method raises a `queuectl.errors.DatabaseError` when the database fails it.
    """

    def __init__(self, workspace: Workspace, *, create: bool = False) -> None:
        self.workspace = workspace
        self._clock = Clock()
        self._create = create
        self._config: Config | None = None
        self._opened: JobStorage | None = None
        self._is_closed = False

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None, *, create: bool = True) -> JobQueue:
        """The queue at `path`, a file or a URL, else where QUEUECTL_DATABASE_URL or QUEUECTL_DB_PATH
        says, else the nearest one from the current folder upwards; made if there is none, unless
        `create` is false.

        Raises QueueNotFound when there is none and `create` is false.
        """
        queue = cls(find(None if path is None else _path(path)), create=create)
        queue._storage  # noqa: B018 - opens it
        return queue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database. What needs it raises InvalidInput from then on."""
        self._is_closed = True
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _storage(self) -> JobStorage:
        """The database, opened when it is first needed: what is wrong with a new job is found
        before a queue is made for it.
        """
        if self._opened is None:
            if self._is_closed:
                raise InvalidInput(
                    "this JobQueue was closed", hint="Open another one with JobQueue.open."
                )
            refuse_emptied_queue(self.workspace)
            workspace = self.workspace if self._create else self.workspace.require()
            self._opened = open_job_storage(workspace.location, create=self._create)
        return self._opened

    @property
    def is_open(self) -> bool:
        """Whether the database is open: until it is needed, it is not, and no queue is made."""
        return self._opened is not None

    @property
    def created(self) -> bool:
        """Whether there was no queue, and it was made when it was opened here."""
        return self._storage.created

    @property
    def config(self) -> Config:
        """The settings in force. Raises InvalidInput when the configuration file is broken."""
        if self._config is None:
            self._config = self.workspace.load_config()
        return self._config

    def now(self) -> int:
        """The wall clock: microseconds since the epoch, UTC."""
        return self._clock.now()

    @property
    def dead_letters(self) -> DeadLetterQueue:
        """The jobs that used up their attempts."""
        from queuectl.dead_letter_queue import DeadLetterQueue

        return DeadLetterQueue(self, self._storage)

    @property
    def logs(self) -> JobLogs:
        """The output of the jobs."""
        from queuectl.job_logs import JobLogs

        return JobLogs(self.workspace.logs)

    @property
    def output(self) -> JobOutput:
        """What jobs wrote, wherever they ran."""
        from queuectl.job_output import JobOutput

        return JobOutput(self, self._storage)

    def read_log(self, reference: str, *, tail: int | None = None) -> bytes:
        """What is there of the job's log, or its last `tail` lines, wherever the job ran. Raises
        LogNotFound when it has not run.
        """
        return self.output.read(reference, tail=tail)

    # ---- putting jobs in

    def enqueue(self, command: str | Sequence[str], **options: Unpack[JobOptions]) -> str:
        """Queues a command and returns the id of its job, which is on the disk by then.

        `command` is a line for the shell, or a list of words that is quoted for it. Options:
        `id`, `max_retries`, `priority` (higher first), `delay` (seconds or '5m'), `run_at` (a
        datetime or ISO 8601 text, UTC where it has no offset, or words such as 'tomorrow 9:00'),
        `timeout` (seconds or '5m'), `backoff_base` (seconds), `cwd` (text or a path), `env` (names
        to values), `on_lost` ('retry', 'fail' or 'hold'), `max_losses`, `requires` (tags that its
        worker must have: 'gpu', 'gpu,linux', or a list).

        Raises InvalidInput for a value that cannot be accepted, DuplicateJobId for a taken id.
        """
        job = {"command": command, **options}
        return self.submit([job_from_fields(job, defaults=self.defaults(), now=self.now())])[0]

    def enqueue_many(self, jobs: Iterable[str | Sequence[str] | Mapping[str, object]]) -> list[str]:
        """Queues all of the jobs, or none, and returns their ids in the same order.

        A job is a command (a line, or a list of words), or a mapping with `command` and the
        options of `enqueue`. What is wrong with one is said with its number, from 1 on.
        """
        if isinstance(jobs, (str, bytes)) or hasattr(jobs, "keys") or not _is_iterable(jobs):
            raise InvalidInput(
                "enqueue_many takes several jobs, and was given one", hint="Give it to enqueue."
            )
        defaults, now = self.defaults(), self._clock.now()
        made: dict[str, NewJob] = {}
        ids = fresh_ids()
        for number, fields in enumerate(jobs, 1):
            try:
                job = job_from_fields(_fields(fields), defaults=defaults, now=now, id=next(ids))
                if job.id in made:
                    first = list(made).index(job.id) + 1
                    raise InvalidInput(f"id {visible(job.id)!r} is already used by item {first}")
            except InvalidInput as problem:
                raise InvalidInput(f"item {number}: {problem.message}", problem.hint) from None
            made[job.id] = job
        return self.submit([*made.values()])

    def defaults(self) -> Defaults:
        """What a new job takes where it says nothing: this folder, the configured retries."""
        config = self.config
        return Defaults(
            cwd=current_folder(),
            max_retries=config.max_retries,
            on_lost=config.on_lost,
            join=_join,
        )

    def submit(self, jobs: Sequence[NewJob]) -> list[str]:
        """Stores checked jobs, all or none, and returns their ids."""
        if jobs:
            self._storage.enqueue(jobs, self._clock.now())
        return [job.id for job in jobs]

    # ---- looking

    def get(self, reference: str) -> Job:
        """The job. Raises JobNotFound."""
        job = self._storage.get(self.resolve(reference))
        if job is None:  # It was deleted in between.
            return self.get(reference)
        return job

    def resolve(self, reference: str) -> str:
        """The whole id of the job. Raises JobNotFound, InvalidInput when several match."""
        if not isinstance(reference, str):
            raise InvalidInput(f"a job is named by text, not by {_what(reference)}")
        return self._storage.resolve(reference)

    def resolve_all(self, references: str | Sequence[str]) -> builtins.list[str]:
        """The whole ids of jobs, one or several, each once. Raises as `resolve`."""
        return list(dict.fromkeys(map(self.resolve, several(references))))

    def attempts(self, reference: str) -> list[Attempt]:
        """The job's attempts, oldest first; the last is the one that is running, if any."""
        return self._storage.attempts(self.resolve(reference))

    def list(
        self,
        states: str | Sequence[str] = (),
        *,
        sort: str = "created",
        descending: bool = True,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs in any of `states` (one or several; all if empty), newest first, read as they are
        asked for, `limit` of them at most.

        `sort`: created, updated, next_run, priority, attempts or id. Raises InvalidInput for a
        state or an order that there is not, or a limit below 1.
        """
        from queuectl.jobs.job_view import SORT_KEYS

        if sort not in tuple(SORT_KEYS):  # A tuple: a `sort` that cannot be hashed is refused, too.
            raise InvalidInput(
                f"cannot sort by {visible(str(sort), 60)!r}",
                hint=f"Sort by {', '.join(SORT_KEYS)}.",
            )
        if limit is not None and (type(limit) is not int or limit < 1):
            raise InvalidInput(
                f"limit must be 1 or more, not {limit if type(limit) is int else _what(limit)}"
            )
        return self._storage.list_jobs(
            _states(states), sort=sort, descending=descending, limit=limit
        )

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state; every state is there."""
        found = self._storage.counts()
        return {state: found.get(state, 0) for state in State}

    def scheduled(self) -> int:
        """How many waiting jobs have a time that is yet to come."""
        return self._storage.scheduled(self._clock.now())

    def ready_by_requirement(self) -> dict[tuple[str, ...], int]:
        """How many jobs could run now, for each set of tags that some of them require; those that
        require none are left out.
        """
        return self._storage.ready_by_requirement(self._clock.now())

    def wait(
        self,
        references: str | Sequence[str],
        *,
        timeout: float | str | None = None,
        tick: Callable[[], None] | None = None,
    ) -> builtins.list[Job]:
        """Waits until the jobs, one or several, have ended (completed, dead or cancelled) and
        returns them.

        `timeout` is in seconds, or '5m'; `tick` is called several times a second while waiting. Raises
        WaitTimedOut when they have not ended by then, JobNotFound when one does not exist, or
        is deleted meanwhile.
        """
        import time

        ids = [self.resolve(reference) for reference in several(references)]
        timeout = _seconds("timeout", timeout, float("inf"))
        deadline = None if timeout is None else time.monotonic() + timeout
        left, seen, pause = list(dict.fromkeys(ids)), -1, 0.005
        while True:
            before, seen = seen, self._storage.changes()
            if seen != before:
                left = self._storage.unfinished(left)
                pause = 0.005
            if not left:
                return [self.get(job_id) for job_id in ids]
            if deadline is not None and time.monotonic() >= deadline:
                others = f" and {len(left) - 1} more" if len(left) > 1 else ""
                raise WaitTimedOut(
                    f"job {left[0]}{others} had not ended after {timeout:g} s",
                    hint="It goes on by itself; wait again, or see it with: "
                    + typed("queuectl", "show", left[0]),
                )
            if tick is not None:
                tick()
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    def workers(self) -> builtins.list[WorkerRecord]:
        """The registered workers, oldest first, also those that died and were not cleared away."""
        return self._storage.workers()

    # ---- deciding by hand

    def cancel(self, references: str | Sequence[str]) -> builtins.list[str]:
        """Cancels jobs, all or none; returns the ids of those that were running, which a worker
        now ends. Raises WrongState when one has ended already.
        """
        return self._storage.cancel(self.resolve_all(references), self._clock.now())

    def retry(self, references: str | Sequence[str]) -> builtins.list[str]:
        """Makes dead, cancelled or completed jobs pending again with all their attempts, all or
        none; returns their ids. Raises WrongState for a job in another state.
        """
        ids = self.resolve_all(references)
        self._storage.requeue(ids, self._clock.now(), sources("requeue"))
        return ids

    def delete(self, references: str | Sequence[str]) -> builtins.list[str]:
        """Removes jobs that are not running, all or none, with their output; returns their ids."""
        ids = self.resolve_all(references)
        states = [state for state in State if state != State.PROCESSING]
        self._storage.delete(ids, states, self.logs.remove)
        return ids

    def prune(self, *, states: str | Sequence[str], older_than: float | str | None) -> int:
        """Removes jobs in finished `states` that ended over `older_than` ago (seconds, or '7d';
        None: all of them), with their output; returns how many. Works in batches: workers go on
        meanwhile.
        """
        chosen, before = self._prunable(states, older_than)
        removed = 0
        while batch := self._storage.prune(chosen, before, _PRUNE_BATCH, self.logs.remove):
            removed += len(batch)
        return removed

    def count_prunable(self, *, states: str | Sequence[str], older_than: float | str | None) -> int:
        """How many jobs `prune` would remove."""
        return self._storage.count_prunable(*self._prunable(states, older_than))

    def stop_workers(
        self, worker_ids: str | Sequence[str], *, timeout: float | str | None = None
    ) -> None:
        """Asks workers, one or several, to stop; their commands may run for `timeout` more seconds (None: as
        configured), then they are ended and given back.
        """
        seconds = _seconds("timeout", timeout, LONGEST_SECONDS)
        self._storage.request_stop(several(worker_ids), seconds, self._clock.now())

    # ---- the database as a whole

    def check(self) -> builtins.list[str]:
        """What an integrity check of the database finds wrong, a line each; reads all of it."""
        return self._storage.check()

    def rights(self) -> Rights | None:
        """What this role may do with a queue on a server; None for one in a file."""
        return self._storage.rights()

    def engine_version(self) -> str:
        """Which database holds the queue, for people: 'SQLite 3.54.1'."""
        return self._storage.engine_version()

    def backup(self, path: str | os.PathLike[str]) -> str:
        """Writes a consistent copy of the database to a new file while the queue goes on; returns
        its absolute path.

        Raises CouldNotDo when the file exists.
        """
        name = _path(path)
        if not name:
            raise InvalidInput("the name of the copy is empty", hint="Name the file to write.")
        target = os.path.abspath(name)
        self._storage.backup(target)
        return target

    def export_lines(self) -> Generator[str]:
        """The whole queue as of one moment, as lines of JSON, each with its line break, while the
        queue goes on: jobs, attempts and the settings in the configuration file. The values of
        environment variables are in it. Until it was read or closed, use this object for nothing
        else.
        """
        from contextlib import closing

        from queuectl import __version__
        from queuectl.config import in_file
        from queuectl.jobs.transfer import write_export

        settings = in_file(self.workspace.config)
        settings.pop("database_url", None)  # It is where this queue is, and may hold a password.
        with closing(self._storage.export_jobs()) as jobs:
            yield from write_export(
                jobs,
                settings=settings,
                version=__version__,
                database=self.engine_version(),
                policy=self.config.policy(),
                now=self.now(),
            )

    def import_lines(self, lines: Iterable[bytes]) -> tuple[int, int]:
        """Takes in what `export_lines` gave, all or nothing, behind the jobs that are there; returns
        how many jobs and attempts. Of the settings, those that the configuration file has stay.

        Raises InvalidInput for the first line that is wrong, and for an export that is not whole;
        DuplicateJobId for the first id that is taken. Nobody else can write to a queue in a file
        meanwhile; one on a server can be used.
        """
        from queuectl.config import add_missing, check_all
        from queuectl.jobs.transfer import ExportReader

        export = ExportReader(lines)
        export.settings.pop("database_url", None)  # As above.
        check_all(export.settings, "line 2")

        def keep_settings() -> None:
            if export.settings:
                add_missing(self.workspace.make_folder().config, export.settings)

        self._storage.import_jobs(export, keep_settings)
        self._config = None
        return export.jobs, export.attempts

    def existing(self, job_ids: str | Sequence[str]) -> set[str]:
        """Those of the ids, one or several, that belong to a job."""
        return self._storage.existing(several(job_ids))

    def _prunable(
        self, states: str | Sequence[str], older_than: float | str | None
    ) -> tuple[builtins.list[State], int | None]:
        chosen = _states(states)
        if not chosen or any(state not in FINISHED for state in chosen):
            raise InvalidInput("only jobs that have ended can be pruned: " + ", ".join(FINISHED))
        seconds = _seconds("older_than", older_than, LONGEST_SECONDS)
        return chosen, None if seconds is None else self._clock.now() - int(seconds * 1e6)


def refuse_emptied_queue(workspace: Workspace) -> None:
    """Raises DatabaseCorrupt when there is an empty file that held a queue: one that begins anew
    there would hide that all jobs are lost.
    """
    if workspace.exists or not os.path.lexists(workspace.database):
        return
    from queuectl.job_logs import JobLogs
    from queuectl.storage import refuse_emptied

    # Somebody may be making a queue just now, in a folder with logs of an earlier one.
    refuse_emptied(workspace.database, used=JobLogs(workspace.logs).holds_any())


def several(given: str | Sequence[str]) -> Sequence[str]:
    """One or several names, as several: a string is one, not one for each of its letters.

    Raises InvalidInput for what is neither.
    """
    if isinstance(given, str):
        return [given]
    if not _is_iterable(given):
        raise InvalidInput(f"one name, or several, were needed, not {_what(given)}")
    return given


def _is_iterable(given: object) -> bool:
    return hasattr(given, "__iter__")


def _what(value: object) -> str:
    """A value of the wrong type, for messages."""
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _seconds(name: str, value: float | str | None, most: float) -> float | None:
    from queuectl.jobs.fields import length

    return None if value is None else length(name, most)(value)


def _path(path: str | os.PathLike[str]) -> str:
    try:
        given = os.fspath(path)
        if "\0" not in given:
            return given
    except TypeError:
        raise InvalidInput(f"a path was needed, not {_what(path)}") from None
    raise InvalidInput("a path cannot contain a NUL character")


def _states(names: str | Sequence[str]) -> list[State]:
    chosen = []
    for name in several(names):
        try:
            chosen.append(State(name))
        except ValueError:
            known = ", ".join(State)
            raise InvalidInput(
                f"there is no state {visible(str(name), 60)!r}", hint=f"The states are {known}."
            ) from None
    return chosen


def _fields(job: str | Sequence[str] | Mapping[str, object]) -> Mapping[str, object]:
    if isinstance(job, (str, list, tuple)):
        return {"command": job}
    if not isinstance(job, dict):
        from collections.abc import Mapping

        if not isinstance(job, Mapping):
            raise InvalidInput(f"a job is a command or a mapping with its fields, not {_what(job)}")
    return job


def _join(words: Sequence[str]) -> str:
    from queuectl.quoting import join  # Most commands are a line already.

    return join(words)
