"""`run` and `wait`: until a job has ended, with its exit status."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, cast

from queuectl.cli import values
from queuectl.cli.command import Command, Context, Result, StdoutBytes
from queuectl.cli.job_options import (
    add_command_options,
    add_job_options,
    job_from_options,
    submit_one,
)
from queuectl.errors import Conflict, InvalidInput
from queuectl.job_logs.following import Follower
from queuectl.jobs.lifecycle import FINISHED, State
from queuectl.jobs.when import iso
from queuectl.quoting import join
from queuectl.text import visible

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Sequence

    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job_view import Attempt, Job


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
    log = _Log(queue.logs.path(job_id), 0)
    out = _CommandOutput(
        cast("BinaryIO", StdoutBytes()),
        lambda line: context.note(visible(line)),
        position=lambda: log.position,
        attempts=lambda: queue.attempts(job_id),
    )

    def is_finished() -> bool:
        return not (out.is_in_doubt and out.ask()) and queue.get(job_id).state in FINISHED

    try:
        # One that has no log was never started; how it ended says why.
        log.run(cast("BinaryIO", out), is_finished)
    finally:
        log.close()
    out.end()


class _Log(Follower):
    """A log that is followed, and where in it."""

    @property
    def position(self) -> int:
        """While a block is written, the offset at which it begins."""
        return self._position


_MARK = b"[queuectl] attempt "
_LONGEST = 4_096
_OWN_LINE = re.compile(
    rb"^\[queuectl\] attempt (\d{1,9}) (?:of \d{1,9} )?(started|ended) [^\n]{0,4000}\n",
    re.MULTILINE,
)
_OPEN_LINE = re.compile(rb"\[queuectl\] attempt (\d{0,9})([^\n]{0,4000})")
_STARTED = (b" of ", b" started ")
_ENDED = (b" ended ",)


class _CommandOutput:
    """Passes a log on without the lines that queuectl wrote in it; tells how each attempt ended.

    A command can write lines that look the same, so their place decides. A header line is
    queuectl's where an attempt's part begins. A closing line is where an attempt ended, as the
    database says a moment after the line is in the log. Until then it is held back, unless more
    comes behind it: then it is the command's, if the database does not say otherwise by now.
    """

    def __init__(
        self,
        out: BinaryIO,
        tell: Callable[[str], None],
        *,
        position: Callable[[], int],
        attempts: Callable[[], Sequence[Attempt]],
    ) -> None:
        self._out = out
        self._tell = tell
        self._position = position
        self._attempts = attempts
        self._ended: Sequence[Attempt] = ()
        """The attempts that have ended, as far as their closing lines were not seen yet."""
        self._seen = 0
        """How many came before those."""
        self._has_asked = False
        """Whether the database was asked for them since the last block came."""
        self._next = 0
        """The offset at which the log goes on."""
        self._held = b""
        """The beginning of a line, or more, that may turn out to be queuectl's own."""
        self._passed: tuple[bytes, int] | None = None
        """The last closing line that was passed on, as more came behind it, and where it ended."""
        self._in_line = False
        """Whether what was passed on so far ends in the middle of a line."""
        self._in_part = False
        """Whether an attempt's part has begun, and not ended."""

    @property
    def is_in_doubt(self) -> bool:
        """Whether it takes the database to tell whose a line is."""
        return b"\n" in self._held or self._passed is not None

    def write(self, data: bytes) -> int:
        position = self._position()
        if position != self._next:
            # The log was cut, or emptied: what is held has no end in it any more.
            self._release()
            if position == 0:
                self._in_line = self._in_part = False
                self._passed = None
        self._next = position + len(data)
        self._has_asked = False
        self._take(self._held + data)
        return len(data)

    def flush(self) -> None:
        self._out.flush()

    def ask(self) -> bool:
        """Asks the database whose the lines in doubt are; says whether the job is running."""
        is_running = self._load()
        if self._passed is not None and self._is_an_end(*self._passed):
            self._close(self._passed[0])
        if b"\n" in self._held:
            self._take(self._held)
        return is_running

    def end(self) -> None:
        """Passes on what was held back, now that there is no more to come."""
        if self.is_in_doubt:
            self.ask()
        self._release()
        self.flush()

    def _load(self) -> bool:
        attempts = self._attempts()
        self._ended = [a for a in attempts[self._seen :] if a.finished_at is not None]
        self._has_asked = True
        return bool(attempts) and attempts[-1].finished_at is None

    def _take(self, text: bytes) -> None:
        """Passes on what is the command's in what was held and has come."""
        offset = self._next - len(text)
        self._held = b""
        if offset == 0 and not _begins_header(text, 0):
            self._in_part = True  # The command emptied the log before its header line was seen.
        done = 0
        for line in _OWN_LINE.finditer(text):
            if line.start() == 0 and self._in_line:
                continue
            is_header = line[2] == b"started"
            is_own = self._is_header() if is_header else self._is_closing(line, offset)
            if is_own is None:
                self._pass_on(text[done : line.start()])
                self._held = text[line.start() :]
                return
            if is_own:
                self._pass_on(text[done : line.start()])
                done = line.end()
                if is_header:
                    self._in_part = True
                else:
                    self._close(line[0])
        last = max(text.rfind(b"\n") + 1, done)
        words = _ENDED if self._in_part else _ENDED + _STARTED
        if (last or not self._in_line) and _may_become_own(text[last:], words):
            self._held = text[last:]
            text = text[:last]
        self._pass_on(text[done:])

    def _is_header(self) -> bool:
        """Whether what looks like a header line is one: no part that has begun is still open."""
        if self._in_part and self._passed is not None:
            # A process that the command left behind may have written behind its closing line.
            if not self._has_asked:
                self._load()
            if self._is_an_end(*self._passed):
                self._close(self._passed[0])
        return not self._in_part

    def _is_closing(self, line: re.Match[bytes], offset: int) -> bool | None:
        """Whether what looks like a closing line is one; None when that is not known yet."""
        text, end = line.string, line.end()
        may_be_last = end == len(text) or _begins_header(text, end)
        if self._is_an_end(line[0], offset + end, may_be_last=may_be_last):
            return True
        if may_be_last and b"\n" not in text[end:]:
            return None
        # The next attempt is begun only when the database has the end of this one.
        if not self._has_asked:
            self._load()
            if self._is_an_end(line[0], offset + end, may_be_last=may_be_last):
                return True
        self._passed = (line[0], offset + end)
        return False

    def _is_an_end(self, line: bytes, end: int, *, may_be_last: bool = False) -> bool:
        """Whether one of the attempts that have ended has this closing line, which ends there."""
        for n, attempt in enumerate(self._ended):
            begins = b"%s%d ended " % (_MARK, attempt.attempt)
            if attempt.log_end is None:
                # Its worker was lost: nobody wrote down where the line is that says so.
                fits = may_be_last and attempt.outcome == "lost"
            else:
                fits = attempt.log_end == end
                begins += iso(attempt.finished_at or 0).encode()
            if fits and line.startswith(begins):
                self._ended = self._ended[n + 1 :]
                self._seen += n + 1
                return True
        return False

    def _close(self, line: bytes) -> None:
        """Tells how the attempt ended whose closing line this is."""
        self._in_part = False
        self._passed = None
        self._out.flush()
        self._tell("Attempt " + line[len(_MARK) : -1].decode(errors="replace"))

    def _release(self) -> None:
        text, self._held = self._held, b""
        self._pass_on(text)

    def _pass_on(self, text: bytes) -> None:
        if text:
            self._out.write(text)
            self._in_line = not text.endswith(b"\n")


def _begins_header(text: bytes, at: int) -> bool:
    """Whether a header line is what `text` goes on with, or may be once more of it has come."""
    if text.find(b"\n", at, at + _LONGEST) < 0:
        return _may_become_own(text[at : at + _LONGEST], _STARTED)
    line = _OWN_LINE.match(text, at)
    return line is not None and line[2] == b"started"


def _may_become_own(line: bytes, words: tuple[bytes, ...]) -> bool:
    """Whether a line that begins like this can be queuectl's, with one of `words` in its place."""
    if _MARK.startswith(line):
        return True
    found = _OPEN_LINE.fullmatch(line)
    return found is not None and any(
        found[2].startswith(word) or (word.startswith(found[2]) and found[1]) for word in words
    )


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
