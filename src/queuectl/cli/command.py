"""One command: its parser, its run, its result. Everything that all commands share."""

from __future__ import annotations

import argparse
import sys

from queuectl.errors import InvalidInput, QueuectlError
from queuectl.text import visible
from queuectl.workspace import Workspace, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import NoReturn, TextIO

    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job import NewJob


_WORDS = {
    "usage: ": "Usage: ",
    "positional arguments": "Arguments",
    "options": "Options",
    "argument %(argument_name)s: %(message)s": "%(argument_name)s %(message)s",
    "expected one argument": "needs a value",
    "the following arguments are required: %s": "missing: %s",
    "ignored explicit argument %r": "takes no value, and was given %r",
}
"""argparse's words in every version, and what is said here."""

# Else argparse looks for translations of its few words in a dozen folders, at every start.
argparse._ = lambda text: _WORDS.get(text, text)  # type: ignore[attr-defined]


class Result:
    """What a command found or did. One place (`execute`) prints it, in the form that was asked for.

    `data` is what `--json` prints: a value, or an iterator of values that is printed as an array
    while it is read. `text` is for people: a string, or a function that writes to a stream.
    `ids` is what `-q` prints, a line each. `kept` says what was done and stays so even if the
    result cannot be printed.
    """

    __slots__ = ("data", "exit_status", "ids", "kept", "text")

    def __init__(
        self,
        *,
        data: object = None,
        text: str | Callable[[TextIO], None] = "",
        ids: Iterable[str] = (),
        kept: str = "",
        exit_status: int = 0,
    ) -> None:
        self.data = data
        self.text = text
        self.ids = ids
        self.kept = kept
        self.exit_status = exit_status


class Context:
    """What a command may use: its arguments, its queue, and a way to talk to the user."""

    __slots__ = ("_has_told_of_queue", "_queue", "args", "words")

    def __init__(self, args: argparse.Namespace, words: list[str] | None) -> None:
        self.args = args
        self.words = words
        """What stood behind `--`, for the commands that take a command; None without `--`."""
        self._queue: JobQueue | None = None
        self._has_told_of_queue = False

    def workspace(self) -> Workspace:
        """Where the queue is, or would be."""
        return find(self.args.db, schema=self.args.schema)

    def queue(self, *, create: bool = False) -> JobQueue:
        """The queue that is meant, open until the result is printed; asked for once a command.

        With `create` it is made when something is put in. Raises QueueNotFound when there is none
        and `create` is false.
        """
        from queuectl.job_queue import JobQueue, refuse_emptied_queue

        workspace = self.workspace()
        if not create:
            refuse_emptied_queue(workspace)
            workspace.require()
        self._queue = JobQueue(workspace, create=create)
        return self._queue

    def close(self) -> None:
        """Closes the queue, if the command used one."""
        if self._queue is not None:
            self._queue.close()

    def submit(self, queue: JobQueue, jobs: Sequence[NewJob]) -> None:
        """Puts checked jobs into the queue, and says so if that made a new one."""
        queue.submit(jobs)
        self.note_new_queue()

    def note_new_queue(self) -> None:
        """Says so, once, if this command has made its queue: it stays, whatever becomes of the rest."""
        queue = self._queue
        if queue is None or not queue.is_open or not queue.created or self._has_told_of_queue:
            return
        self._has_told_of_queue = True
        self.note(f"Made a new queue: {visible(queue.workspace.database)}")

    def note(self, line: str) -> None:
        """A remark on stderr, unless `-q` asks for silence, or `--json`, with which an error is all
        that stands there. `line` must be safe to show.
        """
        if not self.args.json:
            self.say(self.pasteable(line))

    def say(self, line: str) -> None:
        """The same of what goes on for long, and is told with `--json` too."""
        if not self.args.quiet:
            from queuectl.cli.talk import fitted

            line = fitted(line, sys.stderr)
            try:
                # In one piece: the threads of a worker all speak here.
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except (OSError, ValueError):
                pass  # Nobody listens; that must not stop a worker.

    def pasteable(self, text: str) -> str:
        """The text, with this command line's queue in the commands that it proposes."""
        from queuectl.cli.talk import pasteable

        return pasteable(text, getattr(self.args, "db", None), getattr(self.args, "schema", None))

    def note_missing_workers(self, queue: JobQueue, required: Iterable[tuple[str, ...]]) -> None:
        """Says that what waits would wait for ever, if no worker runs, or none with the tags that
        are `required` by one of the jobs.
        """
        from queuectl.processes import living

        alive = living(queue.workers())
        if not alive:
            self.note("No worker is running; start one with: queuectl worker-start")
        for tags in required:
            if alive and not any(set(worker.tags).issuperset(tags) for worker in alive):
                self.note(
                    f"No running worker has the tags that are required ({', '.join(tags)}); start one"
                    f" with: queuectl worker-start --host-tag {','.join(tags)}"
                )

    def confirm(self, question: str) -> None:
        """Lets the user decide on a terminal; elsewhere `--yes` must be given.

        Raises CouldNotDo when the answer is no, InvalidInput when nobody can answer.
        """
        if self.args.yes:
            return
        if not sys.stdin.isatty():
            raise InvalidInput(
                f"nothing was done, for nobody can answer here: {question}",
                hint="Add --yes to do it without being asked.",
            )
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        try:
            answer = sys.stdin.readline()
        except KeyboardInterrupt:
            print(file=sys.stderr)  # Else the shell's prompt would stand behind the question.
            raise
        if answer.strip().lower() not in ("y", "yes"):
            from queuectl.errors import CouldNotDo

            raise CouldNotDo("nothing was done")


class Command:
    """A command as its module defines it."""

    __slots__ = ("configure", "examples", "has_queue", "run", "summary", "takes_command")

    def __init__(
        self,
        summary: str,
        run: Callable[[Context], Result],
        *,
        examples: str,
        configure: Callable[[argparse.ArgumentParser], object] = lambda parser: None,
        takes_command: bool = False,
        has_queue: bool = True,
    ) -> None:
        self.summary = summary
        self.run = run
        self.examples = examples
        """Lines of examples, which its help begins with."""
        self.configure = configure
        self.takes_command = takes_command
        """Whether the words behind `--` are a command to queue."""
        self.has_queue = has_queue
        """Whether it works on the queue that `--db` names."""


def add_yes_option(parser: argparse.ArgumentParser) -> None:
    """`--yes`, which every command that calls `confirm` has."""
    parser.add_argument("-y", "--yes", action="store_true", help="do it without being asked")


class _Parser(argparse.ArgumentParser):
    """Raises InvalidInput instead of exiting, names the nearest option, shows examples first."""

    color: bool
    of: Command
    given: tuple[str, ...] = ()
    begins_with_word = False
    """Whether what it reads begins with neither an option nor a job in JSON."""

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Reads the arguments. Where several ids may stand, options may stand between them."""
        self.given = tuple(arguments)
        args, others = self.parse_known_args(arguments)
        end = others.index("--") if "--" in others else len(others)
        ids = others[:end] + others[end + 1 :]
        if ids and (not hasattr(args, "ids") or any(word[:1] == "-" for word in others[:end])):
            self._refuse(others)
        if ids:
            args.ids += ids
        return args

    @property
    def _behind(self) -> tuple[str, ...]:
        """What stands behind `--`, where nothing is an option."""
        at = self.given.index("--") if "--" in self.given else len(self.given)
        return self.given[at + 1 :]

    def _refuse(self, others: list[str]) -> NoReturn:
        others = [word for word in others if word != "--"] or others
        options = [w for w in others if w.startswith("-") and w not in self._behind]
        self.error("unrecognized arguments: " + (options or others)[0])

    def _refuse_unknown_options(self) -> None:
        """Says which option there is not, when something that is required is missing as well: it
        may be missing because of that.
        """
        for action in self._actions:
            action.required = False
        others = self.parse_known_args(list(self.given))[1]
        if any(word.startswith("-") for word in others):
            self._refuse(others)

    def error(self, message: str) -> NoReturn:
        if message.startswith("missing: "):
            self._refuse_unknown_options()
        hint = f"See: {self.prog} --help"
        words_hint = f"The words of a command go behind --: {self.prog} -- WORD ..."
        # argparse words it so in every version.
        unknown = message.removeprefix("unrecognized arguments: ")
        if message.endswith("needs a value"):
            hint = f"A value that begins with a dash is written --option=VALUE. {hint}"
        elif unknown != message:
            word = unknown
            message = f"unexpected argument '{visible(word, 80)}'"
            if word.startswith("-") and word not in self._behind:
                from queuectl.cli.guess import asked, guesses

                message = f"there is no option '{visible(word.split('=')[0], 80)}' here"
                meant = guesses(word.split("=")[0], list(self._option_string_actions))
                if self.of.takes_command and self.begins_with_word:
                    hint = words_hint
                elif meant:
                    hint = f"{asked(meant)} {hint}"
            elif self.of.takes_command:
                hint = words_hint
        raise InvalidInput(message, hint=hint)

    def format_help(self) -> str:
        from queuectl.cli.wrapping import fitted

        examples = ["  " + line for line in self.of.examples.strip().splitlines()]
        usage, _, options = super().format_help().partition("\n\n")
        if any(line.startswith(" " * 24) for line in usage.splitlines()):
            usage = " ".join(usage.split())  # argparse leaves little room beside a long name.
        lines = [self.of.summary, "", "Examples:", *examples, "", *usage.split("\n"), ""]
        return fitted(lines + options.split("\n"))


def build_parser(name: str, command: Command) -> _Parser:
    """The parser of one command; the others' are never built."""
    parser = _Parser(
        prog=f"queuectl {name}",
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.color = False  # Python 3.14 colours the help, but not what we put in front of it.
    parser.of = command
    command.configure(parser)
    common = parser.add_argument_group("Options for every command")
    if command.has_queue:
        common.add_argument("--db", metavar="PATH", help="the queue's database: a file, or a URL")
        common.add_argument("--schema", metavar="NAME", help="its schema, on PostgreSQL")
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("-q", "--quiet", action="store_true", help="print ids alone, or nothing")
    common.add_argument("-h", "--help", action="help", help="show this help")
    return parser


def execute(name: str, command: Command, arguments: list[str]) -> int:
    """Parses the arguments, runs the command, prints its result; returns the exit status."""
    words = None
    if command.takes_command and "--" in arguments:
        split = arguments.index("--")
        arguments, words = arguments[:split], arguments[split + 1 :]
    try:
        parser = build_parser(name, command)
        parser.begins_with_word = arguments[:1] != [] and arguments[0].lstrip()[:1] not in (
            "-",
            "{",
        )
        args = parser.parse(arguments)
    except SystemExit:  # --help has printed itself.
        return 0
    context = Context(args, words)
    try:
        result = command.run(context)
        try:
            _print(result, args)
            sys.stdout.flush()  # Before the queue is closed: that can take a moment.
        except OSError as error:
            if isinstance(error, BrokenPipeError) or error.filename:
                raise
            raise unwritable(error, result.kept) from None
    except BaseException:
        context.note_new_queue()
        raise
    finally:
        context.close()
    return result.exit_status


class StdoutBytes:
    """Where bytes go that are the result of a command. Says of an error that it is stdout's."""

    def write(self, data: bytes) -> int:
        """Writes all of the bytes."""
        try:
            return sys.stdout.buffer.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritable(error) from None

    def flush(self) -> None:
        """Passes on what was held back."""
        try:
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritable(error) from None


def unwritable(error: OSError, hint: str = "") -> QueuectlError:
    """The error for a result that could not be printed."""
    from queuectl.errors import EnvironmentFault

    return EnvironmentFault(f"cannot write to stdout: {error.strerror or error}", hint=hint)


def _print(result: Result, args: argparse.Namespace) -> None:
    if args.json:
        from queuectl.cli.json_output import write_json

        write_json(result.data, sys.stdout)
    elif args.quiet:
        for job_id in result.ids:
            sys.stdout.write(job_id + "\n")
    elif callable(result.text):
        result.text(sys.stdout)
    elif result.text:
        sys.stdout.write(result.text + "\n")
