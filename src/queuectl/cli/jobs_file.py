"""Reading a file of jobs, with a progress bar on a terminal when that takes a while."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from queuectl.cli.job_options import unreadable
from queuectl.cli.screen import progress_console
from queuectl.errors import InvalidInput
from queuectl.jobs.jobs_file import read_jobs
from queuectl.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress

    from queuectl.cli.command import Context
    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job import NewJob

Line = TypeVar("Line", bytes, str)

_QUIET_SECONDS = 0.5
_STEP = 1_000
"""Lines between two looks at the clock."""


def read_with_progress(context: Context, queue: JobQueue) -> tuple[list[NewJob], dict[str, int]]:
    """The jobs in the file that `--jobs-file` names, every one of them checked, and the number of
    the line of each id that the file gives.

    Raises InvalidInput, with the line's number, for the first that is wrong.
    """
    path = context.args.jobs_file
    source = "stdin" if path == "-" else path
    numbers: dict[str, int] = {}
    try:
        with opened(path) as file:
            lines: Iterable[bytes] = file
            if sys.stderr.isatty() and not context.args.quiet:
                lines = watched(file, "{:,} jobs read", total=size_of(file), weight=len)
            jobs = list(
                read_jobs(
                    lines,
                    source=source,
                    defaults=queue.defaults(),
                    now=queue.now(),
                    numbers=numbers,
                )
            )
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if not jobs:
        raise InvalidInput(
            f"{visible(source, 200)} is empty: there are no jobs in it",
            hint="Write one JSON object a line.",
        )
    return jobs, numbers


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file to read, or stdin for `-`."""
    if path == "-":
        yield sys.stdin.buffer
        return
    with open(path, "rb") as file:
        yield file


def size_of(file: BinaryIO) -> int | None:
    """Its bytes; None for a pipe."""
    return os.fstat(file.fileno()).st_size or None


def watched(
    lines: Iterable[Line], words: str, *, total: int | None, weight: Callable[[Line], int]
) -> Generator[Line]:
    """The lines; shows on stderr how many there were, in these `words`, if they take noticeably
    long: what they weigh together, of the `total`.
    """
    begun = time.monotonic()
    bar, done = None, 0
    try:
        for number, line in enumerate(lines, 1):
            done += weight(line)
            yield line
            if number % _STEP:
                continue
            told = words.format(number)
            if bar is None and time.monotonic() - begun > _QUIET_SECONDS:
                bar = _new_bar()
                task = bar.add_task(told, total=total, completed=done)
                bar.start()
            if bar is not None:
                bar.update(task, completed=done, description=told)
    finally:
        if bar is not None:
            bar.stop()


def _new_bar() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=progress_console(sys.stderr),
        transient=True,
    )
