"""1, 2, 4 and 8 worker processes on one database, two slots each.

All are started together; the time is that until the last has ended, so that the start of every one
of them counts. The steady rate is that of the middle eight tenths.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time

from bench._queue import QUEUECTL, Spell, check_completed, fill
from bench._side_by_side import (
    BenchError,
    Contestant,
    Plan,
    environment,
    per_second,
    print_table,
    race,
    times,
)

_PROCESSES = (1, 2, 4, 8)


def measure(plan: Plan) -> None:
    """Prints the table."""
    count = plan.size(4_000, 1_000)
    steady: list[list[float]] = [[] for _ in _PROCESSES]
    contestants = [
        _contestant(number, count, rates) for number, rates in zip(_PROCESSES, steady, strict=True)
    ]
    results = race(plan, contestants, plan.rounds(5))
    print_table(
        f"Run {count:,} x `true` with several worker processes",
        ["", "jobs/s", "to one process", "steady", "to one process"],
        [
            [
                result.name,
                per_second(result.rate),
                times(result.times_the_rate_of(results[0])),
                per_second(statistics.median(rates)),
                times(statistics.median(b / a for a, b in zip(steady[0], rates, strict=True))),
            ]
            for result, rates in zip(results, steady, strict=True)
        ],
    )


def _contestant(processes: int, count: int, steady: list[float]) -> Contestant:
    def turn(folder: str) -> float:
        fill(folder, "true", count)
        start = time.perf_counter()
        workers = [_start(folder, number) for number in range(processes)]
        failed = [worker.wait() for worker in workers]
        seconds = time.perf_counter() - start
        said = "".join(_read(os.path.join(folder, f"worker-{n}")) for n in range(processes))
        if any(failed) or "locked" in said:
            raise BenchError(f"a worker said: {said.strip()[-500:]}")
        check_completed(folder, count)
        steady.append(Spell.of(folder).steady_rate())
        return seconds

    return Contestant(f"{processes} process{'es' * (processes > 1)}", turn, count)


def _start(folder: str, number: int) -> subprocess.Popen[bytes]:
    with open(os.path.join(folder, f"worker-{number}"), "wb") as said:
        return subprocess.Popen(
            [*QUEUECTL, "worker-start", "--drain", "--count", "2"],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
