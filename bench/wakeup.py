"""From the return of `enqueue` to the start of the command on an idle worker; what idling costs.

The start is the time at which the command itself runs. Through the command line it can come before
the end of `enqueue` is seen: the job is on the disk, and seen by the worker, while Python still ends.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence

import psutil

from bench._queue import QUEUECTL, database
from bench._side_by_side import BenchError, Plan, environment, milliseconds, note, print_table, run
from queuectl import JobQueue


def measure(plan: Plan) -> None:
    """Prints the table."""
    folder = plan.scratch.new_folder()
    wake(plan, folder, database(folder), environment(), "")


def wake(plan: Plan, folder: str, location: str, environ: dict[str, str], where: str) -> None:
    """The same for the queue at a location, to which `environ` leads; `where` begins the title."""

    def by_api(command: str) -> float:
        with JobQueue.open(location, create=False) as queue:
            queue.enqueue(command, cwd=folder)
            return time.time()

    def by_cli(command: str) -> float:
        run([*QUEUECTL, "enqueue", "--command", command], cwd=folder, env=environ)
        return time.time()

    JobQueue.open(location).close()
    worker = subprocess.Popen(
        [*QUEUECTL, "worker-start", "--quiet"],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait(lambda: _is_ready(location), 10, "the worker to start")
        idle = _idle(worker.pid, plan.size(20, 5))
        api = _delays(folder, by_api, plan.size(200, 40))
        cli = _delays(folder, by_cli, plan.size(100, 20))
        busy = _idle(worker.pid, 2)
    finally:
        worker.terminate()
        worker.wait(timeout=60)
    print_table(
        f"{where}From the return of enqueue to the start of the command, on an idle worker",
        ["", "median ms", "p99 ms", "worst ms"],
        [_row("JobQueue.enqueue", api), _row("queuectl enqueue", cli)],
    )
    note(
        f"The idle worker: {idle[0]:.2%} of a core, {idle[1] / 1e6:.1f} MB resident;"
        f" {busy[1] / 1e6:.1f} MB after these jobs."
    )


def _is_ready(location: str) -> bool:
    with JobQueue.open(location, create=False) as queue:
        return bool(queue.workers())


def _idle(pid: int, seconds: float) -> tuple[float, int]:
    """The share of a core that the process uses, and its resident memory."""
    process = psutil.Process(pid)
    time.sleep(1)  # Whatever it had to do is done by then.
    before, start = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, end = process.cpu_times(), time.monotonic()
    used = after.user + after.system - before.user - before.system
    return max(0.0, used) / (end - start), process.memory_info().rss


def _delays(folder: str, enqueue: Callable[[str], float], count: int) -> Sequence[float]:
    delays = []
    for number in range(count):
        # Uneven pauses: nothing may fall into step with a clock of the worker's.
        time.sleep(random.uniform(0.05, 0.25))
        mark = os.path.join(folder, f"{enqueue.__name__}-{number}")
        returned_at = enqueue(f"date +%s.%N > {mark}.tmp; mv {mark}.tmp {mark}")
        _wait(lambda mark=mark: os.path.exists(mark), 10, "a job to run")  # type: ignore[misc]
        with open(mark, encoding="ascii") as file:
            delays.append(float(file.read()) - returned_at)
    return delays


def _row(name: str, delays: Sequence[float]) -> list[str]:
    worst = max(delays)
    p99 = statistics.quantiles(delays, n=100)[98]
    return [name, *map(milliseconds, (statistics.median(delays), min(p99, worst), worst))]


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {seconds:g} s for {what}")
        time.sleep(0.002)
