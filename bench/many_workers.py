"""1, 2, 4 and 8 worker processes on one database, two slots each; and one with as many slots alone.

All are started together; the time is that until the last has ended, so that the start of every one
of them counts. The steady rate is that of the middle eight tenths. More commands at a time than there
are processors cost something by themselves, in one process too: with as many slots it is only the
sharing of the database that makes the difference.
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

_SLOTS = 2
_PROCESSES = (1, 2, 4, 8)


def measure(plan: Plan) -> None:
    """Prints the table."""
    count = plan.size(12_000, 1_000)
    # Processes, and the slots of each.
    crews = [(number, _SLOTS) for number in _PROCESSES]
    crews += [(1, number * _SLOTS) for number in _PROCESSES[1:]]
    steady: dict[tuple[int, int], list[float]] = {crew: [] for crew in crews}
    contestants = [_contestant(*crew, count, steady[crew]) for crew in crews]
    results = dict(zip(crews, race(plan, contestants, plan.rounds(5)), strict=True))

    def row(processes: int, slots: int) -> list[str]:
        crew, one, like = (processes, slots), (1, _SLOTS), (1, processes * slots)
        result, rates = results[crew], steady[crew]
        steady_to_like = (b / a for a, b in zip(steady[like], rates, strict=True))
        return [
            result.name,
            per_second(result.rate),
            per_second(statistics.median(rates)),
            times(result.times_the_rate_of(results[one])),
            times(result.times_the_rate_of(results[like])),
            times(statistics.median(steady_to_like)),
        ]

    print_table(
        f"Run {count:,} x `true` with several worker processes",
        [
            "",
            "jobs/s",
            "steady",
            f"to one with {_SLOTS} slots",
            "to one with as many",
            "steady, to that",
        ],
        [row(*crew) for crew in crews],
    )


def _contestant(processes: int, slots: int, count: int, steady: list[float]) -> Contestant:
    def turn(folder: str) -> float:
        fill(folder, "true", count)
        start = time.perf_counter()
        workers = [_start(folder, number, slots) for number in range(processes)]
        failed = [worker.wait() for worker in workers]
        seconds = time.perf_counter() - start
        said = "".join(_read(os.path.join(folder, f"worker-{n}")) for n in range(processes))
        if any(failed) or "locked" in said:
            raise BenchError(f"a worker said: {said.strip()[-500:]}")
        check_completed(folder, count)
        steady.append(Spell.of(folder).steady_rate())
        return seconds

    name = f"{processes} process{'es' * (processes > 1)}, {slots} slots{' each' * (processes > 1)}"
    return Contestant(name, turn, count)


def _start(folder: str, number: int, slots: int) -> subprocess.Popen[bytes]:
    with open(os.path.join(folder, f"worker-{number}"), "wb") as said:
        return subprocess.Popen(
            [*QUEUECTL, "worker-start", "--drain", "--count", str(slots)],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
