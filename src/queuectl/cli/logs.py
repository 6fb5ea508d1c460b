"""`logs`: what a job wrote, byte for byte."""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, cast

from queuectl.cli import values
from queuectl.cli.command import Command, Context, Result, StdoutBytes
from queuectl.copied_log import last_lines
from queuectl.errors import CouldNotDo, EnvironmentFault, InvalidInput
from queuectl.job_logs import LogNotFound
from queuectl.jobs.job_view import part
from queuectl.jobs.lifecycle import FINISHED
from queuectl.processes import host_name
from queuectl.text import counted, typed, visible

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence

    from queuectl.copied_log import CopiedLog, Place
    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job_view import Attempt


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the job; a beginning of its id, or @last")
    parser.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="go on as the job writes, until it has ended (all attempts, so not with --attempt;"
        " nor with --json)",
    )
    parser.add_argument("-n", "--tail", metavar="N", help="only the last N lines")
    parser.add_argument(
        "--attempt",
        metavar="N",
        help="only what this attempt wrote; of several with this number, the latest",
    )


def _run(context: Context) -> Result:
    args = context.args
    if args.follow and args.attempt is not None:
        raise InvalidInput("--follow shows every attempt, and does not go with --attempt")
    if args.follow and args.json:
        raise InvalidInput("--follow does not go with --json")
    tail = None if args.tail is None else values.whole_number("--tail", args.tail)
    if tail is not None and tail < 0:
        raise InvalidInput(f"--tail must be 0 or more, not {tail}")
    number = None if args.attempt is None else values.whole_number("--attempt", args.attempt)
    if number is not None and number < 1:
        raise InvalidInput(f"--attempt must be 1 or more, not {number}")
    queue = context.queue()
    job_id = queue.resolve(args.id)
    if args.follow:
        return _follow(context, queue, job_id, tail)
    attempts = queue.attempts(job_id)
    chosen = None if number is None else _latest(job_id, attempts, number)
    copied = queue.output.copied(job_id)
    logs = queue.logs
    if copied is None:
        _check_place(logs.path(job_id), job_id, attempts)
    places = queue.output.elsewhere(job_id, chosen=chosen)
    for place in places:
        context.note(told(place, logs.path(job_id)))
    if copied is not None:
        return _copied(context, copied, job_id, tail, chosen, places)
    start, end = (0, None) if chosen is None else part(attempts, chosen)
    if chosen is not None and places:
        end = start  # What stands there is of another run.
    if tail is not None:
        start = logs.tail_start(job_id, tail, start=start, end=end)
    if args.json:
        out = io.BytesIO()
        logs.copy(job_id, out, start, end)
        missing = sum(place.length for place in places)
        return _as_json(job_id, host_name(), logs.path(job_id), out.getvalue(), missing)
    logs.copy(job_id, _stdout(), start, end)
    return Result()


def _stdout() -> BinaryIO:
    return cast("BinaryIO", StdoutBytes())


def _copied(
    context: Context,
    copied: CopiedLog,
    job_id: str,
    tail: int | None,
    chosen: int | None,
    places: list[Place],
) -> Result:
    """The same of a log that is not all on this machine."""
    out = io.BytesIO() if context.args.json else _stdout()
    if tail is None:
        copied.copy(out, chosen)
    else:
        out.write(copied.tail(tail, chosen))
    if isinstance(out, io.BytesIO):
        last = places[-1] if places else None
        missing = sum(place.length - place.copied for place in places)
        host, path = (last.host, last.path) if last else (None, None)
        return _as_json(job_id, host, path, out.getvalue(), missing)
    return Result()


def _as_json(
    job_id: str, host: str | None, path: str | None, output: bytes, missing: int = 0
) -> Result:
    text = output.decode("utf-8", "backslashreplace")
    data = {"id": job_id, "host": host, "path": path, "missing_bytes": missing, "output": text}
    return Result(data=data)


def told(place: Place, here: str) -> str:
    """What of a log was read from the database, and where the whole is, in one line; or who wrote what
    is not here. `here` is where the log would be on this machine.
    """
    if place.path is None:
        return _told_missing(place, here)
    if place.copied < place.length:
        what = f"{place.copied:,} of {place.length:,} bytes of output are"
    else:
        what = f"all {place.length:,} bytes of output are"
    return f"From the database, where {what}; the log itself is on {visible(place.host)}: {visible(place.path)}"


def _told_missing(place: Place, here: str) -> str:
    numbers = [*dict.fromkeys(place.attempts)]
    which = f"attempt {numbers[0]}"
    if len(numbers) > 1:
        which = f"attempts {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
    what = f"What {which} wrote, if anything,"
    if place.length:
        what = f"The output of {which} ({counted(place.length, 'byte')})"
    host = visible(place.host)
    copy = "" if os.path.exists(here) else f", and copy it to {visible(here)}"
    return (
        f"{what} is not here: worker {visible(place.worker)} ran on {host}, and neither this machine's"
        " log nor the database has it. If the queue was moved, or its URL is written in another way"
        f" now, look for {visible(os.path.basename(here))} in its earlier job_logs folder on {host}{copy}."
    )


def _follow(context: Context, queue: JobQueue, job_id: str, tail: int | None) -> Result:
    """The log on this machine for as long as all is in it, then what the database has of the rest."""
    logs, path = queue.logs, queue.logs.path(job_id)
    _check_place(path, job_id)
    job = queue.get(job_id)
    if job.state not in FINISHED:
        context.note_missing_workers(queue, [job.requires])
    elsewhere = queue.output.follower(job_id)

    def is_finished() -> bool:
        return queue.get(job_id).state in FINISHED

    def is_over_here() -> bool:
        nonlocal elsewhere
        # Asked first: where the last attempt ran is known when the job has finished.
        finished = is_finished()
        elsewhere = queue.output.follower(job_id, waits=not finished)
        return finished or elsewhere is not None

    out = _stdout()
    if elsewhere is None:
        start = 0
        if tail is not None and os.path.exists(path):
            start, tail = logs.tail_start(job_id, tail), None
        try:
            logs.follow(job_id, out, is_over_here, start=start)
        except LogNotFound:
            if elsewhere is None:
                raise
    elif (copied := queue.output.copied(job_id)) is not None:
        # What is before that part; of the end, as much as is wanted, when that is known.
        before = out if tail is None else io.BytesIO()
        for at in range(elsewhere.at):
            copied.copy(before, at)
        if isinstance(before, io.BytesIO):
            elsewhere.look(_Writer(before))
            out.write(last_lines(before.getvalue(), tail or 0))
    if elsewhere is not None:
        elsewhere.run(_Writer(out), is_finished)
        note_places(context, queue, job_id)
    return Result()


class _Writer:
    """Takes a log as it comes, all of it."""

    def __init__(self, out: BinaryIO) -> None:
        self.output = self.own_line = out.write
        self.flush = out.flush


def note_places(context: Context, queue: JobQueue, job_id: str) -> None:
    """Says where the output of a job is that is not in its log on this machine."""
    here = queue.logs.path(job_id)
    for place in queue.output.elsewhere(job_id):
        context.note(told(place, here))


def _check_place(path: str, job_id: str, attempts: Sequence[Attempt] = ()) -> None:
    """Raises an error that says so when something else is where the log should be, or nothing after
    these attempts.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if attempts:
            worker = attempts[-1].worker
            ran = "" if worker is None else f"Worker {visible(worker)} ran it last; "
            raise LogNotFound(
                f"job {visible(job_id)} has run, but its log is gone: {visible(path)}",
                hint=f"{ran}if the queue was moved, look in its earlier job_logs folder there."
                f" See how it ended with: {typed('queuectl', 'show', job_id)}",
            ) from None
        return
    except OSError:
        return  # Opening it says what is wrong.
    if not stat.S_ISREG(mode):
        raise EnvironmentFault(
            f"{visible(path)} is in the place of the log of job {visible(job_id)}, and is no file",
            hint=f"Move it away: {typed('mv', path, path + '.old')}",
        )


def _latest(job_id: str, attempts: Sequence[Attempt], number: int) -> int:
    """Which of the attempts has this number."""
    # The last of them: an attempt that was given back has its number used again.
    at = max((at for at, attempt in enumerate(attempts) if attempt.attempt == number), default=None)
    if at is not None:
        return at
    known = "it has not run yet"
    if attempts:
        highest = max(attempt.attempt for attempt in attempts)
        known = f"its attempts are numbered 1 to {highest}" if highest > 1 else "it has had 1"
        if len(attempts) > highest > 1:
            known += ", some of them alike; of these the latest is meant"
        elif len(attempts) > highest:
            known = "its attempts all have the number 1, by which the latest is meant"
    raise CouldNotDo(
        f"job {visible(job_id)} has no attempt {number}; {known}",
        hint=f"See its attempts with: {typed('queuectl', 'show', job_id)}",
    )


COMMANDS = {
    "logs": Command(
        "Print what a job wrote, its attempts one after the other.",
        _run,
        examples="""
queuectl logs @last
queuectl logs @last --follow
queuectl logs nightly-backup --attempt 2 --tail 20
""",
        configure=_configure,
    )
}
