"""Starting commands: 2,000 times `true`, two at a time, beside xargs and other queues.

queuectl's time is that of a worker's whole life, start-up and last commit included, with every claim
and outcome on the disk, and a log file a job. Its steady rate is that of the middle eight tenths.
"""

from __future__ import annotations

import statistics

from bench import _peers
from bench._queue import Spell, check_completed, drain, fill
from bench._side_by_side import Contestant, Plan, note, per_second, print_table, race, times

SLOTS = 2


def measure(plan: Plan) -> None:
    """Prints the table."""
    count = plan.size(2_000, 500)
    steady: dict[str, list[float]] = {}

    def queuectl(name: str, command: str) -> Contestant:
        steady[name] = []
        return Contestant(name, lambda folder: _drain(folder, command, count, steady[name]), count)

    results = race(
        plan,
        [
            _peers.xargs(count, SLOTS),
            _peers.xargs_with_logs(count, SLOTS),
            queuectl("queuectl, `true`: started without a shell", "true"),
            # A builtin in a line that only a shell understands: the same work as `sh -c true`.
            queuectl("queuectl, `true;`: through the shell", "true;"),
            *_peers.installed(plan.size(500, 200), SLOTS),
        ],
        plan.rounds(7),
    )
    plain, with_logs = results[:2]
    print_table(
        f"Run {count:,} x `true`, {SLOTS} at a time",
        ["", "jobs/s", "steady", "to xargs", "to xargs with logs"],
        [
            [
                result.name,
                per_second(result.rate),
                per_second(statistics.median(steady[result.name])) if result.name in steady else "",
                times(result.times_the_rate_of(plain)),
                times(result.times_the_rate_of(with_logs)),
            ]
            for result in results
        ],
    )
    if missing := _peers.missing():
        note(f"Not installed here, so not measured: {', '.join(missing)}.")


def _drain(folder: str, command: str, count: int, steady: list[float]) -> float:
    fill(folder, command, count)
    seconds = drain(folder, "--count", str(SLOTS))
    check_completed(folder, count)
    steady.append(Spell.of(folder).steady_rate())
    return seconds
