"""The options that describe a job, shared by `enqueue` and `run`."""

from __future__ import annotations

import os
import sys
from argparse import Action

from queuectl.cli import values
from queuectl.errors import InvalidInput
from queuectl.jobs.spec import job_from_fields
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _ArgumentGroup
    from collections.abc import Iterable, Mapping

    from queuectl.cli.command import Context
    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job import NewJob

_MOST_BYTES = 16 * 1024 * 1024
"""Of a file with one command or job: many times more than can be run."""


class Source(Action):
    """An option that says what to queue. Each time it is given counts in `sources`: that the last
    one wins, as elsewhere, would drop a command without a word.
    """

    def __call__(
        self,
        parser: ArgumentParser,  # noqa: ARG002 - argparse gives it
        namespace: Namespace,
        values: object,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Keeps the value."""
        setattr(namespace, self.dest, values)
        namespace.sources += 1


def add_command_options(group: _ArgumentGroup) -> None:
    """`--command` and `--command-file`."""
    group.set_defaults(sources=0)
    group.add_argument("--command", metavar="LINE", action=Source, help="a line for the shell")
    group.add_argument(
        "--command-file",
        metavar="PATH",
        action=Source,
        help="a file with the line, or a whole script for the shell (- for stdin)",
    )


def add_job_options(parser: ArgumentParser) -> None:
    """The options that say how and when a job runs."""
    group = parser.add_argument_group("The job")
    group.add_argument("--id", metavar="ID", help="a name of your own (default: a random UUID)")
    group.add_argument(
        "--max-retries", metavar="N", help="runs after the first one fails, 0 to 1000"
    )
    group.add_argument("--delay", metavar="TIME", help="wait first: seconds, or 90s, 5m, 1h30m, 2d")
    group.add_argument(
        "--run-at",
        metavar="WHEN",
        help="not before: 2027-01-31T09:00:00Z, 'tomorrow 9:00', 'in 2 hours'",
    )
    group.add_argument("--priority", metavar="N", help="higher runs first (default 0)")
    group.add_argument("--timeout", metavar="TIME", help="end it after this long; 0 for never")
    group.add_argument(
        "--backoff-base", metavar="N", help="seconds; the n-th retry waits N to the power of n"
    )
    group.add_argument("--cwd", metavar="DIR", help="run there (default: the current folder)")
    group.add_argument(
        "--env",
        metavar="KEY=VALUE",
        action="append",
        help="add to the worker's environment (may be repeated)",
    )
    group.add_argument(
        "--on-lost", metavar="WHAT", help="if its worker dies: retry (default), fail or hold"
    )
    group.add_argument(
        "--max-losses", metavar="N", help="lost workers before the job is given up as dead"
    )
    group.add_argument(
        "--requires",
        metavar="TAG",
        action="append",
        help="run it only where a worker has this --host-tag (several: with commas, or repeated)",
    )
    group.add_argument("--show-env", action="store_true", help="show the values of --env in --json")


def given_fields(context: Context) -> dict[str, object]:
    """The fields of the job that were given as options, and no others: these win over a file."""
    args = context.args
    fields: dict[str, object] = {}
    for name, convert in _FIELDS:
        value = getattr(args, name)
        if value is not None:
            fields[name] = convert("--" + name.replace("_", "-"), value) if convert else value
    if args.env is not None:
        fields["env"] = dict(map(_variable, args.env))
    if args.requires is not None:
        fields["requires"] = ",".join(args.requires)
    return fields


def job_from_options(context: Context, queue: JobQueue) -> NewJob:
    """The job that the command and the options describe. Raises InvalidInput."""
    given = given_fields(context)
    try:
        return job_from_fields(
            {"command": _command(context), **given}, defaults=queue.defaults(), now=queue.now()
        )
    except InvalidInput as problem:
        raise _of_options(problem, given) from None


def check_options(given: Mapping[str, object], queue: JobQueue) -> None:
    """Raises InvalidInput for what is wrong with the options alone, whatever a job's JSON says."""
    try:
        job_from_fields({"command": "true", **given}, defaults=queue.defaults(), now=queue.now())
    except InvalidInput as problem:
        raise _of_options(problem, given) from None


def _of_options(problem: InvalidInput, given: Iterable[str]) -> InvalidInput:
    """The same problem, with the options that were typed in place of the names of the fields."""
    import re

    message = problem.message
    for name in given:
        message = re.sub(rf"(^|; | and ){name}\b", rf"\1--{name.replace('_', '-')}", message)
    return InvalidInput(message, problem.hint)


def submit_one(context: Context, queue: JobQueue, job: NewJob, words: str | None) -> None:
    """Puts the job into the queue, and says what its start time was taken for if it was given in
    `words` (None: there was none).
    """
    context.submit(queue, [job])
    if not os.path.isdir(job.cwd):
        context.note(f"{visible(job.cwd, 200)} is not a folder now; when the job runs it must be")
    if words is not None and job.run_at is not None:
        from queuectl.jobs.when import iso, parse

        if parse(words, now=queue.now()).spoken:
            shown = iso(job.run_at // 1_000_000 * 1_000_000)
            is_past = job.run_at <= queue.now()
            context.note(f"{shown} is past: it runs now" if is_past else f"Runs at {shown}")


def read_file(path: str) -> bytes:
    """The bytes of a file, or of stdin for `-`. Raises InvalidInput when it cannot be read."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if len(data) > _MOST_BYTES:
        raise InvalidInput(f"{visible(path, 200)} is over 16 MiB: too long for one job")
    return data


def unreadable(path: str, error: OSError | ValueError) -> InvalidInput:
    """The error for a file that was named and cannot be read."""
    reason = getattr(error, "strerror", None) or str(error)
    if not path:
        reason = "the name of the file is empty"
    return InvalidInput(f"cannot read {visible(path, 200) or repr(path)}: {reason}")


def _command(context: Context) -> str:
    args = context.args
    if context.words is not None:
        # A program without a name cannot be run either.
        if not context.words or not context.words[0].strip():
            raise InvalidInput(
                "no command follows --", hint="For example: queuectl enqueue -- python my_script.py"
            )
        from queuectl.quoting import join

        return join(context.words)
    if args.command_file is None:
        return str(args.command)
    from queuectl.jobs.spec import decode_text_file

    source = "stdin" if args.command_file == "-" else args.command_file
    text = decode_text_file(read_file(args.command_file), source)
    if os.name == "posix":
        text = text.replace("\r\n", "\n")  # The shell would take the \r for a part of a word.
    if not text.strip():
        raise InvalidInput(f"{visible(source, 200)} is empty: there is no command in it")
    return text.rstrip("\r\n")


def _variable(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals:
        # It is not repeated: what stands there may be a secret.
        raise InvalidInput("--env needs KEY=VALUE", hint="For example: --env LEVEL=debug")
    return name, value


_FIELDS = (
    ("id", None),
    ("max_retries", values.whole_number),
    ("delay", None),
    ("run_at", None),
    ("priority", values.whole_number),
    ("timeout", None),
    ("backoff_base", values.number),
    ("cwd", None),
    ("on_lost", None),
    ("max_losses", values.whole_number),
)
"""Each field that is an option, and what turns its text into what job JSON would hold."""
