"""What the queue itself can do: 1,000,000 jobs from claim to settle, with commands that do nothing.

One worker process. A second row has as many jobs more, scheduled for next week at the highest
priority, which must cost nothing.
"""

from __future__ import annotations

import subprocess
import sys

import apsw

from bench._clones import fill_with_clones
from bench._queue import database
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

_SLOTS = 8
_TENTHS: dict[str, list[float]] = {}


def measure(plan: Plan) -> None:
    """Prints the table."""
    count = plan.size(1_000_000, 100_000)
    _TENTHS.clear()
    results = race(
        plan,
        [
            _contestant("pending jobs", count, count, ("pending",)),
            _contestant(
                "the same beside as many scheduled ones", count, 2 * count, ("pending", "scheduled")
            ),
        ],
        plan.rounds(3),
    )
    print_table(
        f"Claim to settle, {count:,} no-op jobs, {_SLOTS} slots in one process",
        ["", "jobs/s", "last tenth to first tenth"],
        [
            [result.name, per_second(result.rate), times(_median(_TENTHS[result.name]))]
            for result in results
        ],
    )


def _contestant(name: str, count: int, rows: int, mixture: tuple[str, ...]) -> Contestant:
    def turn(folder: str) -> float:
        fill_with_clones(folder, rows, mixture)
        done = subprocess.run(
            [sys.executable, "-m", "bench._noop_worker", database(folder), str(_SLOTS)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"the worker said: {done.stderr.strip()[-500:]}")
        _TENTHS.setdefault(name, []).append(_last_to_first(folder, count))
        return float(done.stdout)

    return Contestant(name, turn, count)


def _last_to_first(folder: str, count: int) -> float:
    """The rate over the last tenth of the jobs in terms of that over the first."""
    tenth = count // 10
    query = "SELECT finished_at FROM attempts ORDER BY ended LIMIT 1 OFFSET ?"
    db = apsw.Connection(database(folder))
    rows = [db.execute(query, (at,)).fetchall() for at in (0, tenth, count - tenth, count - 1)]
    db.close()
    marks = [float(str(row[0][0])) for row in rows]
    return (marks[1] - marks[0]) / (marks[3] - marks[2])


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
