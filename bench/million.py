"""The commands that a person waits for, with 1,000 jobs in the queue and with 1,000,000.

Six in ten are completed; the others are dead, cancelled, pending, and scheduled for next week at a
high priority.
"""

from __future__ import annotations

import os

from bench._clones import fill_with_clones
from bench._queue import database, queuectl
from bench._side_by_side import Contestant, Plan, milliseconds, note, print_table, race, times

_COMMANDS = (
    ("status",),
    ("list", "--limit", "50"),
    ("list", "--state", "pending", "--limit", "50"),
    ("show", "job-0000500"),
    ("enqueue", "--command", "true"),
    ("dlq", "list", "--limit", "50"),
)


def measure(plan: Plan) -> None:
    """Prints the table."""
    small, large = 1_000, plan.size(1_000_000, 100_000)
    folders = {count: plan.scratch.new_folder() for count in (small, large)}
    for count, folder in folders.items():
        fill_with_clones(folder, count)

    def turn(folder: str, words: tuple[str, ...]) -> Contestant:
        name = f"{folder} {' '.join(words)}"
        return Contestant(name, lambda _: queuectl(folder, *words))

    contestants = [turn(folders[n], words) for words in _COMMANDS for n in (small, large)]
    race(plan, contestants, 1)
    results = race(plan, contestants, plan.asked_rounds or plan.size(15, 5))
    pairs = zip(results[::2], results[1::2], strict=True)
    print_table(
        f"Wall time with {large:,} jobs in the queue",
        ["", f"ms with {small:,}", f"ms with {large:,}", "ratio"],
        [
            [
                "queuectl " + " ".join(words),
                milliseconds(few.median),
                milliseconds(many.median),
                times(1 / many.times_the_rate_of(few)),
            ]
            for words, (few, many) in zip(_COMMANDS, pairs, strict=True)
        ],
    )
    size = os.path.getsize(database(folders[large]))
    note(f"The database with {large:,} jobs takes {size / 1e6:,.0f} MB.")
