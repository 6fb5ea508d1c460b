"""Queues to measure: made through the program's own doors, and looked at through them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from bench._side_by_side import BenchError, run
from queuectl import Job, JobQueue, State

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_INSTALLED = os.path.join(os.path.dirname(sys.executable), "queuectl")
QUEUECTL = [_INSTALLED] if os.path.exists(_INSTALLED) else [sys.executable, f"{ROOT}/main.py"]
"""The words that start the program."""


def database(folder: str) -> str:
    """The database of the queue in `folder`."""
    return os.path.join(folder, "queuectl.db")


def queuectl(folder: str, *words: str, stdin: str | None = None) -> float:
    """Runs a command on the queue in `folder`; returns the seconds that it took."""
    return run([*QUEUECTL, *words], cwd=folder, stdin=stdin)


def fill(folder: str, command: str, count: int) -> None:
    """Makes a queue with `count` jobs of one command, and the folder for their logs."""
    with JobQueue.open(database(folder)) as queue:
        queue.enqueue_many([{"command": command, "cwd": folder}] * count)
        queue.logs.ensure_folder()


def drain(folder: str, *words: str) -> float:
    """Runs a worker until all is done; returns the seconds of its whole life."""
    return queuectl(folder, "worker-start", "--drain", "--quiet", *words)


def check_completed(folder: str, count: int) -> None:
    """Raises BenchError unless `count` jobs are completed, each with a log, and there are no others."""
    with JobQueue.open(database(folder), create=False) as queue:
        counts = {str(state): number for state, number in queue.counts().items() if number}
        kept = len(os.listdir(queue.workspace.logs))
    if counts != {"completed": count}:
        raise BenchError(f"{count} jobs should be completed, but there are {counts}")
    if kept != count:
        raise BenchError(f"{count} jobs should have left {count} logs, not {kept}")


class Spell:
    """When the jobs of a queue ran."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._runs = sorted(
            (job.started_at, job.finished_at)
            for job in jobs
            if job.started_at is not None and job.finished_at is not None
        )

    @classmethod
    def of(cls, *folders: str) -> Spell:
        """Reads the completed jobs of the queues in `folders`."""
        jobs: list[Job] = []
        for folder in folders:
            with JobQueue.open(database(folder), create=False) as queue:
                jobs += queue.list([State.COMPLETED])
        return cls(jobs)

    def steady_rate(self) -> float:
        """Jobs a second between the end of the first tenth and the end of the ninth."""
        ends = sorted(end for _, end in self._runs)
        first, last = len(ends) // 10, len(ends) * 9 // 10
        return (last - first) / (ends[last] - ends[first]) * 1e6

    def idle_share(self, slots: int) -> float:
        """The share of the slots' time in which no command ran in them, from the first start to the
        last one: what the queue takes for itself.
        """
        begin, end = self._runs[0][0], self._runs[-1][0]
        busy = sum(min(finished, end) - started for started, finished in self._runs)
        return 1 - busy / (slots * (end - begin))
