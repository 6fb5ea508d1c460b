"""`logs`: what a job wrote, byte for byte."""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, cast

from queuectl.cli import values
from queuectl.cli.command import Command, Context, Result, StdoutBytes
from queuectl.errors import CouldNotDo, EnvironmentFault, InvalidInput
from queuectl.job_logs import LogNotFound
from queuectl.jobs.lifecycle import FINISHED
from queuectl.text import typed, visible

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence

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
    queue = context.queue()
    job_id, logs = queue.resolve(args.id), queue.logs
    attempts = queue.attempts(job_id)
    _check_place(logs.path(job_id), job_id, has_run=bool(attempts) and not args.follow)
    start, end = 0, None
    if args.attempt is not None:
        number = values.whole_number("--attempt", args.attempt)
        if number < 1:
            raise InvalidInput(f"--attempt must be 1 or more, not {number}")
        start, end = _part(job_id, attempts, number)
    if tail is not None and (not args.follow or os.path.exists(logs.path(job_id))):
        start = logs.tail_start(job_id, tail, start=start, end=end)
    if args.json:
        out = io.BytesIO()
        logs.copy(job_id, out, start, end)
        text = out.getvalue().decode("utf-8", "backslashreplace")
        return Result(data={"id": job_id, "path": logs.path(job_id), "output": text})
    if args.follow:
        job = queue.get(job_id)
        if job.state not in FINISHED:
            context.note_missing_workers(queue, [job.requires])
        logs.follow(
            job_id,
            cast("BinaryIO", StdoutBytes()),
            lambda: queue.get(job_id).state in FINISHED,
            start=start,
        )
    else:
        logs.copy(job_id, cast("BinaryIO", StdoutBytes()), start, end)
    return Result()


def _check_place(path: str, job_id: str, *, has_run: bool) -> None:
    """Raises an error that says so when something else, or nothing, is where the log should be."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if has_run:
            raise LogNotFound(
                f"job {visible(job_id)} has run, but its log is gone: {visible(path)}",
                hint=f"See how it ended with: {typed('queuectl', 'show', job_id)}",
            ) from None
        return
    except OSError:
        return  # Opening it says what is wrong.
    if not stat.S_ISREG(mode):
        raise EnvironmentFault(
            f"{visible(path)} is in the place of the log of job {visible(job_id)}, and is no file",
            hint=f"Move it away: {typed('mv', path, path + '.old')}",
        )


def _part(job_id: str, attempts: Sequence[Attempt], number: int) -> tuple[int, int | None]:
    """Where in the log the part of an attempt begins and ends (None: with the log)."""
    # The last of them: an attempt that was given back has its number used again.
    at = max((at for at, attempt in enumerate(attempts) if attempt.attempt == number), default=None)
    if at is None:
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
    start, end = attempts[at].log_start, attempts[at].log_end
    # Nobody wrote down where the part of one that still runs, or was lost, is: between the others.
    if start is None:
        start = max((a.log_end for a in attempts[:at] if a.log_end is not None), default=0)
    if end is None:
        end = min(
            (a.log_start for a in attempts[at + 1 :] if a.log_start is not None), default=None
        )
    return start, end


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
