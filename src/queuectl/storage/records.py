"""What passes between the engine and a storage: settlements, claims, workers. Values, no behaviour.

Written twice, with types for the reader and the checker and without them for the program: a worker
that drains a short queue notices the time that `typing` takes to load.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Outcome, Verdict

    class Settlement(NamedTuple):
        """How one claimed attempt ended, and what becomes of its job."""

        claim: Claim
        outcome: Outcome
        verdict: Verdict
        worker: str
        """The name of the worker that ran it."""
        started_at: int
        finished_at: int
        log_start: int | None
        log_end: int | None
        output: OutputPart | None = None
        """What is still to be copied of its output, where the storage keeps that."""

    class OutputPart(NamedTuple):
        """A piece of the copy of what one claimed attempt writes."""

        claim: Claim
        host: str
        folder: str
        """Where the whole log is: the machine, and the folder of logs on it."""
        begins: int
        """The number of the first block of the log as it is now."""
        length: int
        """How many bytes of output are in that log."""
        dropped: list[tuple[int, int]]
        """Blocks that are not to be kept any more, as (from, before)."""
        blocks: list[tuple[int, int, bytes]]
        """Number, length, and bytes that zlib has compressed; one of a number that is there takes
        its place."""

    class OutputRecord(NamedTuple):
        """The copy of what one attempt wrote. Fields as in `OutputPart`."""

        host: str
        folder: str
        begins: int
        length: int
        blocks: list[tuple[int, int]]
        """The numbers and lengths of the blocks that are there, in their order."""

    class Exchange(NamedTuple):
        """What came of an exchange."""

        claims: list[Claim]
        refused: list[Claim]
        """Settlements that came too late: their jobs were taken away."""

    class Outlook(NamedTuple):
        """What there is to do, for one worker, at one moment."""

        ready: bool
        """A job can be claimed now, or made ready to be."""
        next_due_at: int | None
        """When the first of the waiting jobs has its time."""
        unfinished: bool
        """A job that this worker can run is ready, running (in any worker) or waiting for its retry:
        a drain is not over.
        """
        cancelling: list[tuple[int, int]]
        """(token, seq) of this worker's claims that somebody wants cancelled."""
        stop_requested: bool
        stop_timeout: float | None
        fenced: bool
        """This worker was given up for lost."""

    class NewWorker(NamedTuple):
        """A worker as it registers. Fields as in `WorkerRecord`."""

        id: str
        name: str
        host: str
        boot_id: str
        process_space: str
        pid: int
        process_started: str
        slots: int
        mode: str
        lease_seconds: float
        tags: tuple[str, ...] = ()

    class WorkerRecord(NamedTuple):
        """A registered worker. Times are microseconds since the epoch."""

        id: str
        name: str
        host: str
        boot_id: str
        """Names one run of one machine: another value on the same host means that it rebooted."""
        process_space: str
        """Where `pid` means something: the machine, or one container on it."""
        pid: int
        process_started: str
        """With `pid`, tells the worker from a later process that was given the same number."""
        slots: int
        mode: str
        """foreground or background."""
        started_at: int
        heartbeat_at: int
        lease_seconds: float
        lease_left_seconds: float
        """Until it may be given up; negative when that time has come. Not counted by the wall clock."""
        stop_requested_at: int | None
        fenced_at: int | None
        running: int
        """How many jobs it holds."""
        tags: tuple[str, ...] = ()
        """It claims no job that requires others."""
        lease_is_shared: bool = False
        """Its lease is counted by a clock that all machines read."""

    class Rights(NamedTuple):
        """What the role as which a server knows us may do with the queue."""

        role: str
        missing: list[str]
        """What a worker needs and this role lacks: `UPDATE on jobs`."""
        enqueues: bool
        only_looks: bool
        """It may read everything, and write nothing but new jobs: as programs that enqueue are meant to."""

else:
    Settlement = namedtuple(
        "Settlement",
        "claim outcome verdict worker started_at finished_at log_start log_end output",
        defaults=(None,),
    )
    OutputPart = namedtuple("OutputPart", "claim host folder begins length dropped blocks")
    OutputRecord = namedtuple("OutputRecord", "host folder begins length blocks")
    Exchange = namedtuple("Exchange", "claims refused")
    Outlook = namedtuple(
        "Outlook",
        "ready next_due_at unfinished cancelling stop_requested stop_timeout fenced",
    )
    NewWorker = namedtuple(
        "NewWorker",
        "id name host boot_id process_space pid process_started slots mode lease_seconds tags",
        defaults=((),),
    )
    WorkerRecord = namedtuple(
        "WorkerRecord",
        "id name host boot_id process_space pid process_started slots mode started_at"
        " heartbeat_at lease_seconds lease_left_seconds stop_requested_at fenced_at running"
        " tags lease_is_shared",
        defaults=((), False),
    )
    Rights = namedtuple("Rights", "role missing enqueues only_looks")
