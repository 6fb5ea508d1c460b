"""`export` and `import`: a whole queue as JSON Lines, to another database or to keep."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, BinaryIO

from queuectl.cli.command import Command, Context, Result, StdoutBytes
from queuectl.cli.job_options import unreadable
from queuectl.cli.jobs_file import opened, size_of, watched
from queuectl.disk import sync_folder
from queuectl.errors import CouldNotDo, DuplicateJobId, EnvironmentFault, InvalidInput
from queuectl.text import counted, visible

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterable, Iterator

    from queuectl.job_queue import JobQueue


def _configure_export(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="the file to write; it must not exist yet (default: -, stdout)",
    )


def _export(context: Context) -> Result:
    path = context.args.file
    if path == "-" and context.args.json:
        raise InvalidInput("--json needs a FILE: the export itself goes to stdout without one")
    queue = context.queue()
    if path == "-":
        out = StdoutBytes()
        with _lines(context, queue) as lines:
            for line in lines:
                out.write(line.encode())
        out.flush()
        return Result()
    line = ""
    with _new_file(path) as file, _lines(context, queue) as lines:
        for line in lines:
            file.write(line.encode())
    counts = json.loads(line)["end"]  # The last one closes it.
    path = os.path.abspath(path)
    return Result(
        data={"export": path, **counts},
        text=f"Wrote {visible(path)}: {_told(counts['jobs'], counts['attempts'])}",
    )


def _told(jobs: int, attempts: int) -> str:
    return f"{counted(jobs, 'job')} with {counted(attempts, 'attempt')}"


@contextmanager
def _lines(context: Context, queue: JobQueue) -> Iterator[Iterable[str]]:
    # Closed before the queue is, whatever happens: they are read from it.
    with closing(queue.export_lines()) as lines:
        if not _shows_progress(context) or (context.args.file == "-" and sys.stdout.isatty()):
            yield lines
            return
        total = sum(queue.counts().values())
        with closing(watched(lines, "{:,} jobs written", total=total, weight=lambda _: 1)) as told:
            yield told


@contextmanager
def _new_file(path: str) -> Iterator[BinaryIO]:
    """A file that only its owner may read, for the variables of jobs are in it; on the disk when the
    block ends, and gone when that fails.
    """
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise CouldNotDo(
            f"{visible(path)} exists already", hint="Name a file that does not exist yet."
        ) from None
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path)
    except BaseException as error:
        os.unlink(path)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from None
        raise


def _unwritable(path: str, error: OSError | ValueError) -> EnvironmentFault:
    why = getattr(error, "strerror", None) or error
    return EnvironmentFault(f"cannot write {visible(path)}: {why}")


def _configure_import(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="what `queuectl export` wrote (default: -, stdin)",
    )


def _import(context: Context) -> Result:
    path = context.args.file
    queue = context.queue(create=True)
    try:
        with opened(path) as file:
            lines: Iterable[bytes] = file
            if _shows_progress(context):
                lines = watched(file, "{:,} jobs read", total=size_of(file), weight=len)
            jobs, attempts = queue.import_lines(lines)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    except (InvalidInput, DuplicateJobId) as error:
        source = "stdin" if path == "-" else visible(path, 200)
        raise type(error)(f"{source}: {error.message}", error.hint) from None
    context.note_new_queue()
    done = _told(jobs, attempts)
    return Result(
        data={"imported": jobs, "attempts": attempts},
        text=f"Imported {done}",
        kept=f"All the same, {done} were imported.",
    )


def _shows_progress(context: Context) -> bool:
    return sys.stderr.isatty() and not (context.args.quiet or context.args.json)


COMMANDS = {
    "export": Command(
        "Write the whole queue as JSON Lines: jobs, attempts, settings, as of one moment. It holds the values of"
        " --env, but not the output of jobs. Stop the workers first if you move it: what runs will run again.",
        _export,
        examples="""
queuectl export queue.jsonl
queuectl export | gzip > queue.jsonl.gz
queuectl export | queuectl --db postgresql://db.example.org/queue import
""",
        configure=_configure_export,
    ),
    "import": Command(
        "Take in what export wrote, into a queue in a file or on a server: all of it, or nothing."
        " Settings that are set here stay.",
        _import,
        examples="""
queuectl import queue.jsonl
queuectl --db postgresql://db.example.org/queue import queue.jsonl
gunzip -c queue.jsonl.gz | queuectl --db other.db import
""",
        configure=_configure_import,
    ),
}
