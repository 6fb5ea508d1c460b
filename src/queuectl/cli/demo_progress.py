"""How the jobs of the demo get on: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from queuectl.cli.screen import progress_console
from queuectl.jobs.lifecycle import FINISHED, State
from queuectl.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.jobs.job_view import Job

_LINE_SECONDS = 1.0
"""Between two plain lines that only count."""


class Progress:
    """Tells what is new among the jobs: `tell` gets a line, `count` how many are done and of how many."""

    def __init__(self, tell: Callable[[str], None], count: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._count = count
        self._seen: dict[str, tuple[State, int]] = {}

    def show(self, jobs: Sequence[Job]) -> bool:
        """Shows how it goes; whether any of the jobs has yet to end."""
        for job in reversed(jobs):
            stage = job.state, job.attempts
            if self._seen.get(job.id) != stage:
                self._seen[job.id] = stage
                if line := news(job):
                    self._tell(line)
        done = sum(job.state in FINISHED for job in jobs)
        self._count(done, len(jobs))
        return done < len(jobs)


def news(job: Job) -> str:
    """What is worth telling about a job that has just come this far; empty for what goes smoothly."""
    if job.state == State.FAILED and job.next_run_at is not None:
        seconds = (job.next_run_at - job.updated_at) / 1e6
        return f"{job.id} failed ({visible(job.error or '')}); it runs again in {seconds:.1f} s"
    if job.state == State.DEAD:
        return f"{job.id} is dead after {job.attempts} runs ({visible(job.error or '')})"
    if job.state == State.COMPLETED and job.attempts > 1:
        return f"{job.id} completed in run {job.attempts}"
    return ""


@contextmanager
def new_progress(stream: TextIO) -> Iterator[Progress]:
    """A progress display on the stream, in the form that suits it."""
    if not stream.isatty():
        yield _plain(stream)
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} done"),
        console=progress_console(stream),
        transient=True,
    )
    task = bar.add_task("", total=1)
    with bar:
        yield Progress(
            bar.console.print, lambda done, total: bar.update(task, completed=done, total=total)
        )


def _plain(stream: TextIO) -> Progress:
    begun = time.monotonic()
    next_line = begun + _LINE_SECONDS

    def tell(line: str) -> None:
        print(f"{time.monotonic() - begun:5.1f} s  {line}", file=stream, flush=True)

    def count(done: int, total: int) -> None:
        nonlocal next_line
        now = time.monotonic()
        if now >= next_line or done == total:
            next_line = now + _LINE_SECONDS
            tell(f"{done} of {total} done")

    return Progress(tell, count)
