"""Reading a file of jobs, with a progress bar on a terminal when that takes a while."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

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
        with _opened(path) as file:
            lines: Iterable[bytes] = file
            if sys.stderr.isatty() and not context.args.quiet:
                lines = _watched(file)
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
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    with open(path, "rb") as file:
        yield file


def _watched(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; shows on stderr how far the reader is, if it takes noticeably long."""
    begun = time.monotonic()
    size = os.fstat(file.fileno()).st_size or None  # None for a pipe.
    bar, read = None, 0
    try:
        for number, line in enumerate(file, 1):
            read += len(line)
            yield line
            if number % _STEP:
                continue
            if bar is None and time.monotonic() - begun > _QUIET_SECONDS:
                bar = _new_bar()
                task = bar.add_task(f"{number:,} jobs read", total=size, completed=read)
                bar.start()
            if bar is not None:
                bar.update(task, completed=read, description=f"{number:,} jobs read")
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
