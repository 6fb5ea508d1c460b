"""8 and 64 slots with jobs that take 10 ms and 100 ms: how much of the time is the queue's own.

The queue's own share is that of the slots' time in which no command runs in them, from the first
start to the last. Where the slots ask for more than the machine can start, xargs shows what it can.
"""

from __future__ import annotations

import statistics

from bench import _peers
from bench._queue import Spell, check_completed, drain, fill
from bench._side_by_side import Contestant, Plan, per_second, print_table, race, times

_CASES = ((8, 0.01, 1_600), (8, 0.1, 320), (64, 0.01, 2_560), (64, 0.1, 2_560))


def measure(plan: Plan) -> None:
    """Prints the table."""
    rows = []
    for slots, seconds, usual in _CASES:
        count = plan.size(usual, usual // 4)
        shares: list[float] = []
        command = f"sleep {seconds}"
        theirs, ours = race(
            plan,
            [
                _peers.xargs(count, slots, command),
                _contestant(slots, command, count, shares),
            ],
            plan.rounds(5),
        )
        rows.append(
            [
                f"{slots} slots, {seconds * 1e3:.0f} ms",
                per_second(slots / seconds),
                per_second(theirs.rate),
                per_second(ours.rate),
                times(ours.times_the_rate_of(theirs)),
                # Slots that wait for a processor tell nothing about the queue.
                f"{statistics.median(shares):.1%}"
                if theirs.rate > slots / seconds / 2
                else "machine's limit",
            ]
        )
    headings = ["", "ideal jobs/s", "xargs", "queuectl", "to xargs", "the queue's own share"]
    print_table("Slots and the queue's own share of their time", headings, rows)


def _contestant(slots: int, command: str, count: int, shares: list[float]) -> Contestant:
    def turn(folder: str) -> float:
        fill(folder, command, count)
        seconds = drain(folder, "--count", str(slots))
        check_completed(folder, count)
        shares.append(Spell.of(folder).idle_share(slots))
        return seconds

    return Contestant("queuectl", turn, count)
