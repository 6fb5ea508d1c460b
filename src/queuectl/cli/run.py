"""`run` and `wait`: until a job has ended, with its exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, cast

from queuectl.cli import values
from queuectl.cli.command import Command, Context, Result, StdoutBytes
from queuectl.cli.job_options import (
    add_command_options,
    add_job_options,
    job_from_options,
    submit_one,
)
from queuectl.cli.logs import note_places
from queuectl.errors import Conflict, InvalidInput
from queuectl.job_logs import own_lines
from queuectl.job_logs.command_output import CommandOutput
from queuectl.job_logs.following import Follower
from queuectl.jobs.lifecycle import FINISHED, State
from queuectl.quoting import join
from queuectl.text import visible

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from queuectl.copied_log import CopiedFollower
    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job_view import Job


def status_of(job: Job) -> int:
    """The exit status that tells how the job ended: 0 only when it was completed, its command's
    own where it has one, 128 and the signal that killed it, else 1.
    """
    if job.state == State.COMPLETED:
        return 0
    if job.signal is not None:
        return 128 + job.signal
    # A command that was stopped in time can still say that all is well.
    code = job.exit_code or 1
    # On Windows it has 32 bits, and we end with a C int.
    return code if code < 2**31 else code - 2**32


def _configure_run(parser: ArgumentParser) -> None:
    parser.usage = "queuectl run (--command LINE | --command-file PATH | -- WORD ...) [OPTION ...]"
    what = parser.add_argument_group(
        "What to run (one of these, or the words of a command behind --)"
    )
    add_command_options(what)
    add_job_options(parser)


def _run(context: Context) -> Result:
    args = context.args
    given = args.sources + (context.words is not None)
    if given != 1:
        raise InvalidInput(
            "more than one command was given" if given else "nothing to run",
            hint="Give one of: --command LINE, --command-file PATH, -- WORD ...",
        )
    queue = context.queue(create=True)
    job = job_from_options(context, queue)
    submit_one(context, queue, job, args.run_at)
    try:
        context.note(f"Enqueued job: {job.id}")
        context.note_missing_workers(queue, [job.requires])
        if not args.json:
            _stream(context, queue, job.id)
        ended = queue.wait([job.id])[0]
    except KeyboardInterrupt:
        context.note(
            f"\nThe job stays in the queue. See it with: {_command('show', job.id)}\n"
            f"Call it off with: {_command('cancel', job.id)}"
        )
        raise
    data = None
    if args.json:
        from queuectl.cli.json_output import job_with_attempts

        data = job_with_attempts(ended, queue.attempts(job.id), show_env=args.show_env)
    elif ended.state != State.COMPLETED:
        context.note(f"The job is {ended.state}: {visible(ended.error or 'it did not run')}")
    return Result(data=data, exit_status=status_of(ended))


def _stream(context: Context, queue: JobQueue, job_id: str) -> None:
    """Writes the command's output while it runs, and what queuectl says of it to stderr."""
    log = Follower(queue.logs.path(job_id), 0)
    out = CommandOutput(
        cast("BinaryIO", StdoutBytes()),
        lambda line: context.note(visible(line)),
        position=lambda: log.position,
        attempts=lambda: queue.attempts(job_id),
    )

    elsewhere: CopiedFollower | None = None

    def is_finished() -> bool:
        return queue.get(job_id).state in FINISHED

    def is_over_here() -> bool:
        nonlocal elsewhere
        finished = not (out.is_in_doubt and out.ask()) and is_finished()
        elsewhere = queue.output.follower(job_id, waits=not finished)
        return finished or elsewhere is not None

    try:
        # One that has no log was never started; how it ended says why.
        log.run(cast("BinaryIO", out), is_over_here)
    finally:
        log.close()
    out.end()
    if elsewhere is not None:
        elsewhere.run(_OutputAlone(context), is_finished)
        note_places(context, queue, job_id)


class _OutputAlone:
    """Takes a log as it comes: writes the command's output, and says how each attempt ended."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._out = StdoutBytes()
        self.output = self._out.write
        self.flush = self._out.flush

    def own_line(self, line: bytes) -> None:
        """Passes on what people are told."""
        self._out.flush()
        line = line.lstrip(b"\n")
        if line and not own_lines.may_begin_started(line, 0):
            self._context.note(visible(own_lines.told(line)))


def _configure_wait(parser: ArgumentParser) -> None:
    parser.add_argument(
        "ids", metavar="ID", nargs="+", help="a job; a beginning of its id, or @last"
    )
    parser.add_argument(
        "--timeout", metavar="TIME", help="give up after this long, with exit status 124"
    )
    parser.add_argument(
        "--show-env", action="store_true", help="show the values of --env in --json"
    )


def _wait(context: Context) -> Result:
    args = context.args
    timeout = None if args.timeout is None else values.length("--timeout", args.timeout)
    queue = context.queue()
    if queue.workspace.surrounding_job() in queue.resolve_all(args.ids):
        raise Conflict("a job cannot wait for itself", hint="Leave its own id out.")
    # With --json an error on stderr is JSON too, and a remark would be in its way.
    if not args.json:
        waited_for = [job for job in map(queue.get, args.ids) if job.state not in FINISHED]
        if waited_for:
            context.note_missing_workers(queue, {job.requires for job in waited_for})
    try:
        jobs = queue.wait(args.ids, timeout=timeout)
    except KeyboardInterrupt:
        context.note("\nThe jobs stay in the queue; only the waiting has ended.")
        raise
    if args.json:
        from queuectl.cli.json_output import job_object

        data = [job_object(job, show_env=args.show_env) for job in jobs]
    else:
        data = None
    lines = [f"{job.id}  {job.state}{f': {job.error}' if job.error else ''}" for job in jobs]
    return Result(
        data=data,
        text="\n".join(map(visible, lines)),
        ids=[job.id for job in jobs],
        exit_status=next(filter(None, map(status_of, jobs)), 0),
    )


def _command(name: str, job_id: str) -> str:
    return visible(join(["queuectl", name, job_id]))


COMMANDS = {
    "run": Command(
        "Queue a command, wait for it, show its output, and end with its exit status.",
        _run,
        examples="""
queuectl run -- make report
queuectl run --command 'make report | tail -5' --max-retries 0 --timeout 10m
""",
        configure=_configure_run,
        takes_command=True,
    ),
    "wait": Command(
        "Wait until jobs have ended; the exit status is that of the first one that failed.",
        _wait,
        examples="""
queuectl wait @last
queuectl wait 5f2c1a 77ab02 --timeout 10m && echo both are done
""",
        configure=_configure_wait,
    ),
}
