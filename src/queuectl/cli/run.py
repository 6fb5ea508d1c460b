"""`run` and `wait`: until a job has ended, with its exit status."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, BinaryIO, cast

from queuectl.cli import values
from queuectl.cli.command import Command, Context, Result
from queuectl.cli.job_options import (
    add_command_options,
    add_job_options,
    job_from_options,
    submit_one,
)
from queuectl.errors import InvalidInput
from queuectl.job_logs import LogNotFound
from queuectl.jobs.lifecycle import FINISHED, State
from queuectl.quoting import join
from queuectl.text import visible

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable

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
    given = [v for v in (args.command, args.command_file, context.words) if v is not None]
    if len(given) != 1:
        raise InvalidInput(
            "more than one command was given" if given else "nothing to run",
            hint="Give one of: --command LINE, --command-file PATH, -- WORD ...",
        )
    queue = context.queue(create=True)
    job = job_from_options(context, queue)
    submit_one(context, queue, job, args.run_at)
    try:
        context.note(f"Enqueued job: {job.id}")
        context.note_missing_workers(queue)
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
    out = _CommandOutput(sys.stdout.buffer, lambda line: context.note(visible(line)))
    try:
        queue.logs.follow(
            job_id, cast("BinaryIO", out), lambda: queue.get(job_id).state in FINISHED
        )
    except LogNotFound:
        pass  # It never started; how it ended says why.
    out.end()


class _CommandOutput:
    """Passes a log on without the lines that queuectl wrote in it; tells how each attempt ended."""

    _MARK = b"[queuectl] attempt "
    _OWN_LINE = re.compile(rb"^\[queuectl\] attempt (\d+ ended )?([^\n]*)\n", re.MULTILINE)

    _LONGEST_OWN_LINE = 4_096

    def __init__(self, out: BinaryIO, tell: Callable[[str], None]) -> None:
        self._out = out
        self._tell = tell
        self._held = b""
        """The beginning of a line that may turn out to be queuectl's own."""
        self._in_line = False
        """Whether what was passed on so far ends in the middle of a line."""

    def write(self, data: bytes) -> int:
        text = self._held + data
        last = text.rfind(b"\n") + 1
        self._held = b""
        if last or not self._in_line:
            end = text[last:]
            is_mark = end.startswith(self._MARK) or self._MARK.startswith(end)
            if is_mark and len(end) < self._LONGEST_OWN_LINE:
                text, self._held = text[:last], end
        self._pass_on(text)
        return len(data)

    def flush(self) -> None:
        self._out.flush()

    def end(self) -> None:
        """Passes on what was held back."""
        self._pass_on(self._held)
        self._held = b""
        self.flush()

    def _pass_on(self, text: bytes) -> None:
        if not text:
            return
        at = 0
        for line in self._OWN_LINE.finditer(text):
            if line.start() or not self._in_line:
                self._out.write(text[at : line.start()])
                at = line.end()
                if line[1]:
                    self._out.flush()
                    self._tell(f"Attempt {(line[1] + line[2]).decode(errors='replace')}")
        self._out.write(text[at:])
        self._in_line = not text.endswith(b"\n")


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
    # With --json an error on stderr is JSON too, and a remark would be in its way.
    if not args.json and any(queue.get(job_id).state not in FINISHED for job_id in args.ids):
        context.note_missing_workers(queue)
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
