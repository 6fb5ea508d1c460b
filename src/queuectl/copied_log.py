"""A job's log where it is not all on this machine: put together from the log here and the database.

The database has what commands wrote. The lines that queuectl wrote between are made again from what
is known of each attempt: they are those of the log, and cost nothing for a command that wrote nothing.
"""

from __future__ import annotations

import io
import os
import time
import zlib

from queuectl.job_logs import JobLogs, own_lines
from queuectl.job_logs.blocks import BLOCK_BYTES
from queuectl.jobs.job_view import part
from queuectl.text import storable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO, Protocol

    from queuectl.jobs.job_view import Attempt, Job
    from queuectl.storage.job_storage import JobStorage
    from queuectl.storage.records import OutputRecord

    class Reader(Protocol):
        """Who is passed a log as it grows."""

        def output(self, data: bytes) -> object:
            """The next bytes that a command wrote."""

        def own_line(self, line: bytes) -> object:
            """A line about an attempt: its first, or its last."""

        def flush(self) -> object:
            """There is no more for now."""


_PAGE = 16
"""How many blocks are asked for at a time: 1 MiB, before they are compressed."""

_PAUSE_SECONDS = 0.3
"""Between two looks at a job that is being followed."""


class Place:
    """Where output is that is not in the log on this machine: in the log `path` on `host`, of whose
    `length` bytes the database has `copied`. Without a path, what `attempts` wrote there is nowhere
    that we know of; a `length` of 0 says then that it is not known whether they wrote anything.
    """

    __slots__ = ("attempts", "copied", "host", "length", "path", "worker")

    def __init__(self, host: str, path: str | None, worker: str = "?") -> None:
        self.host = host
        self.path = path
        self.worker = worker
        """The name of the one that ran the last of the attempts."""
        self.attempts: list[int] = []
        self.copied = 0
        self.length = 0

    @property
    def is_whole(self) -> bool:
        """Whether all of the output can be read here."""
        return self.path is not None and self.copied >= self.length


def is_here(
    storage: JobStorage, logs: JobLogs, host: str, job_id: str, attempt: Attempt, *, waits: bool
) -> bool:
    """Whether an attempt's part of the log is in the one on this machine, `host`.

    One that runs and has written nothing yet is where its worker is; whether its log is there, too,
    need not be known by someone who `waits` for it.
    """
    if attempt.log_end is not None:
        # Whichever machine it ran on: somebody may have copied the log here.
        return logs.has_end_of(job_id, attempt)
    if attempt.worker is not None and host_of(attempt) != host:
        return False
    # Two users of one machine have a folder each.
    record = storage.output(job_id, attempt.run)
    if record is not None and record.folder != storable(logs.folder):
        return False
    waits = waits and attempt.finished_at is None and record is None
    return waits or os.path.exists(logs.path(job_id))


def host_of(attempt: Attempt) -> str:
    """The name of the machine that it ran on."""
    return (attempt.worker or "?").rpartition(":")[0] or "?"


def written(job: Job, attempt: Attempt) -> int | None:
    """How many bytes its command wrote, as far as its place in the log tells: what is more in it than
    queuectl's own lines. None where nobody wrote that down, and it may have written something.
    """
    if attempt.log_start is None or attempt.log_end is None:
        # Of one that was lost while this database was its own, what it wrote was copied meanwhile.
        is_known = attempt.run is not None or attempt.outcome not in ("lost", "interrupted")
        return 0 if is_known else None
    own = len(header(job, attempt)) + len(closing(attempt, after=b""))
    return max(attempt.log_end - attempt.log_start - own, 0)


def gone(logs: JobLogs, job: Job, attempts: Sequence[Attempt]) -> list[Place]:
    """Where the output is of those of the attempts whose part of a log is not on this machine, for a
    queue that keeps no output elsewhere.
    """
    places: dict[str, Place] = {}
    for attempt in attempts:
        # One of the two lines is missing where the disk was full, or the command emptied its log.
        if (
            written(job, attempt)
            and not logs.has_end_of(job.id, attempt)
            and not logs.has_at(job.id, attempt.log_start or 0, header(job, attempt))
        ):
            _miss(places, job, attempt)
    return [*places.values()]


def gap(job: Job, attempt: Attempt, record: OutputRecord | None) -> bytes:
    """The line that tells of what is missing between an attempt's header line and the `record` of its
    output; nothing where that begins with its first block.
    """
    if record is None:
        count = written(job, attempt) if attempt.finished_at is not None else 0
        return own_lines.not_here(count, attempt.worker or "?") if count else b""
    count = record.length - sum(length for _, length in record.blocks)
    is_cut = count > 0 and record.blocks and record.blocks[0][0] > record.begins
    return own_lines.elsewhere(count, record.host) if is_cut else b""


def _length(record: OutputRecord, in_log: int) -> int:
    """How long the output is of which this is there, with what could not be copied any more when its
    command had ended: `in_log` says how much is in the log.
    """
    numbers = [number for number, _ in record.blocks]
    is_without_gap = numbers == [*range(record.begins, record.begins + len(numbers))]
    # Where the last line had no end, one was written behind it. Where something was cut out of the
    # middle, its room counts still.
    return in_log if is_without_gap and in_log > record.length + 1 else record.length


def _miss(places: dict[str, Place], job: Job, attempt: Attempt) -> None:
    """Notes that what an attempt wrote is not here, with what else its worker wrote."""
    place = places.setdefault(
        attempt.worker or "?", Place(host_of(attempt), None, attempt.worker or "?")
    )
    place.attempts.append(attempt.attempt)
    place.length += written(job, attempt) or 0


class CopiedLog:
    """The log of a job as of one moment. `here` says of each attempt whether its part is in the log on
    this machine.
    """

    def __init__(
        self,
        storage: JobStorage,
        logs: JobLogs,
        job: Job,
        attempts: Sequence[Attempt],
        here: Sequence[bool],
    ) -> None:
        self._storage = storage
        self._logs = logs
        self._job = job
        self._attempts = attempts
        self._here = here

    def copy(self, out: BinaryIO, chosen: int | None = None) -> None:
        """Writes it to `out`; of the attempts only the `chosen` one, by its place in their list."""
        for at in self._chosen(chosen):
            if self._here[at]:
                self._logs.copy(self._job.id, out, *self._part(at))
            else:
                last = b""
                out.write(header(self._job, self._attempts[at]))
                out.write(self._gap(at))
                for data in self._blocks(at):
                    out.write(data)
                    last = data or last
                out.write(closing(self._attempts[at], after=last))

    def tail(self, lines: int, chosen: int | None = None) -> bytes:
        """Its last lines."""
        pieces: list[bytes] = []
        wanted = lines + 1  # The end of the line before them.
        for at in reversed(self._chosen(chosen)):
            for piece in self._backward(at, lines):
                pieces.append(piece)
                wanted -= piece.count(b"\n")
                if wanted < 0:
                    break
            if wanted < 0:
                break
        return last_lines(b"".join(reversed(pieces)), lines)

    def places(self, chosen: int | None = None) -> list[Place]:
        """Where the output is that is not in the log on this machine: first what was read from the
        database, then what is not there either.
        """
        places: dict[tuple[str, str], Place] = {}
        missing: dict[str, Place] = {}
        for at in self._chosen(chosen):
            if self._here[at]:
                continue
            attempt, record = self._attempts[at], self._record(at)
            if record is not None:
                path = JobLogs(record.folder).path(self._job.id)
                place = places.setdefault((record.host, path), Place(record.host, path))
                place.copied += sum(count for _, count in record.blocks)
                place.length += _length(record, written(self._job, attempt) or 0)
            elif attempt.finished_at is not None and written(self._job, attempt) != 0:
                _miss(missing, self._job, attempt)
        return [*places.values(), *missing.values()]

    def _chosen(self, chosen: int | None) -> Sequence[int]:
        return range(len(self._attempts)) if chosen is None else [chosen]

    def _part(self, at: int) -> tuple[int, int | None]:
        """Where in the log on this machine the part of an attempt is."""
        others = [a for a, is_here in zip(self._attempts, self._here, strict=True) if is_here]
        return part(others, sum(self._here[:at]))

    def _record(self, at: int) -> OutputRecord | None:
        return self._storage.output(self._job.id, self._attempts[at].run)

    def _blocks(self, at: int) -> Iterator[bytes]:
        first = 0
        while page := self._page(at, first):
            yield from (data for _, data in page)
            first = page[-1][0] + 1

    def _page(self, at: int, first: int) -> list[tuple[int, bytes]]:
        run = self._attempts[at].run
        page = self._storage.output_blocks(self._job.id, run, first, _PAGE)
        return [(number, zlib.decompress(data)) for number, data in page]

    def _backward(self, at: int, lines: int) -> Iterator[bytes]:
        """The pieces of an attempt's part, the last one first: as many as `lines` lines take."""
        if self._here[at]:
            start, end = self._part(at)
            out = io.BytesIO()
            start = self._logs.tail_start(self._job.id, lines + 1, start=start, end=end)
            self._logs.copy(self._job.id, out, start, end)
            yield out.getvalue()
            return
        record = self._record(at)
        numbers = [] if record is None else [number for number, _ in record.blocks]
        is_first = True
        while numbers:
            page = [data for _, data in self._page(at, numbers[-_PAGE:][0])]
            del numbers[-_PAGE:]
            if is_first:
                yield closing(self._attempts[at], after=page[-1] if page else b"")
                is_first = False
            yield from reversed(page)
        if is_first:
            yield closing(self._attempts[at], after=b"")
        yield self._gap(at)
        yield header(self._job, self._attempts[at])

    def _gap(self, at: int) -> bytes:
        """What stands before the blocks of an attempt where others are missing."""
        return gap(self._job, self._attempts[at], self._record(at))


class CopiedFollower:
    """Follows a job in the database, from its attempt with the place `at` in their list on.

    `attempts` asks for all of them.
    """

    def __init__(
        self, storage: JobStorage, job: Job, attempts: Callable[[], list[Attempt]], at: int
    ) -> None:
        self._storage = storage
        self._job = job
        self._attempts = attempts
        self.at = at
        self._begin()

    def _begin(self) -> None:
        """Another attempt comes next."""
        self._has_begun = False
        self._number = -1
        """The number of the block that was passed on last."""
        self._passed = 0
        """How many bytes of it were."""
        self._passed_in_all = 0
        self._last = b""
        self._ends_in_cut = False

    def run(self, reader: Reader, is_finished: Callable[[], bool]) -> None:
        """Passes on what there is, and what comes, until the job has finished."""
        while True:
            # Asked before the last look, not after it: what is written up to the end is seen.
            finished = is_finished()
            self.look(reader)
            if finished:
                return
            time.sleep(_PAUSE_SECONDS)

    def look(self, reader: Reader) -> None:
        """Passes on what has come since the last look."""
        for attempt in self._attempts()[self.at :]:
            if not self._has_begun:
                self._has_begun = True
                reader.own_line(header(self._job, attempt))
            self._pass_on(attempt, reader)
            if attempt.finished_at is None:
                break
            if self._number < 0:
                missing = gap(self._job, attempt, None)
                if missing:
                    reader.output(missing)
            reader.own_line(closing(attempt, after=self._last))
            self.at += 1
            self._begin()
        reader.flush()

    def _pass_on(self, attempt: Attempt, reader: Reader) -> None:
        is_more = True
        while is_more:
            first = max(self._number, 0)
            page = self._storage.output_blocks(self._job.id, attempt.run, first, _PAGE)
            for number, packed in page:
                data = zlib.decompress(packed)
                if number != self._number:
                    self._go_on_at(number, attempt, reader)
                new = data[self._passed :]
                self._passed = max(self._passed, len(data))
                if new:
                    reader.output(new)
                    self._last = new
                    self._passed_in_all += len(new)
                self._ends_in_cut = any(end == len(data) for _, end, _ in own_lines.cuts(data))
            is_more = len(page) == _PAGE

    def _go_on_at(self, number: int, attempt: Attempt, reader: Reader) -> None:
        """Goes on with another block than the last one; says what is missing between them."""
        line = b""
        if self._number < number - 1 and not self._ends_in_cut:
            record = self._storage.output(self._job.id, attempt.run)
            if record is not None and self._number < 0:
                line = gap(self._job, attempt, record)
            # It is not missed where the command emptied its log.
            elif record is not None and record.begins <= self._number:
                # Of what was cut out of the middle, what stood before it is there still.
                if record.blocks and record.blocks[0][0] <= self._number:
                    missing = (number - self._number) * BLOCK_BYTES - self._passed
                    line = own_lines.missed(missing)
                else:
                    to_come = sum(length for n, length in record.blocks if n >= number)
                    missing = record.length - self._passed_in_all - to_come
                    line = b"\n" + own_lines.elsewhere(max(missing, 0), record.host)
        if line:
            reader.output(line)
        self._number, self._passed = number, 0


def header(job: Job, attempt: Attempt) -> bytes:
    """The line with which an attempt's part of the log begins."""
    return own_lines.started(
        attempt.attempt,
        max_retries=job.max_retries,
        started_at=attempt.started_at,
        worker=attempt.worker or "?",
        command=job.command,
        cwd=job.cwd,
    )


def closing(attempt: Attempt, *, after: bytes) -> bytes:
    """The line with which it ends; nothing for one that runs. On a line of its own, `after` that."""
    ended_at = attempt.finished_at
    if ended_at is None:
        return b""
    if attempt.outcome == "lost":
        line = own_lines.lost(attempt.attempt, ended_at)
    else:
        line = own_lines.ended(
            attempt.attempt,
            finished_at=ended_at,
            seconds=(ended_at - attempt.started_at) / 1e6,
            outcome_text=attempt.error or own_lines.SUCCEEDED,
        )
    return b"\n" + line if after and not after.endswith(b"\n") else line


def last_lines(text: bytes, lines: int) -> bytes:
    """The last `lines` lines of a text."""
    if lines <= 0:
        return b""
    at = len(text) - text.endswith(b"\n")
    for _ in range(lines):
        at = text.rfind(b"\n", 0, at)
        if at < 0:
            return text
    return text[at + 1 :]
