"""100,000 jobs in one call: a JSON object a line, checked, all or nothing.

Beside it, the smallest script that parses the same lines and stores two of their fields.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys

from bench._queue import database, queuectl
from bench._side_by_side import (
    BenchError,
    Contestant,
    Plan,
    per_second,
    print_table,
    race,
    run,
    times,
)
from queuectl import JobQueue, State

_SMALLEST = """\
import json, sqlite3, sys

db = sqlite3.connect("smallest.db", isolation_level=None)
db.execute("PRAGMA synchronous = FULL")
db.execute("BEGIN IMMEDIATE")
with open(sys.argv[1], "rb") as lines:
    jobs = map(json.loads, lines)
    db.executemany("INSERT INTO jobs VALUES (?, ?)", ((j["id"], j["command"]) for j in jobs))
db.execute("COMMIT")
db.close()
"""


def measure(plan: Plan) -> None:
    """Prints the table."""
    count = plan.size(100_000, 20_000)
    folder = plan.scratch.new_folder()
    named, plain = os.path.join(folder, "named.jsonl"), os.path.join(folder, "plain.jsonl")
    with open(named, "w", encoding="utf-8") as file:
        for number in range(count):
            job = {"id": f"resize-{number}", "command": f"convert photo-{number}.jpg"}
            file.write(json.dumps({**job, "priority": number % 3, "max_retries": 5}) + "\n")
    with open(plain, "w", encoding="utf-8") as file:
        file.write('{"command": "true"}\n' * count)
    script = os.path.join(folder, "smallest.py")
    with open(script, "w", encoding="utf-8") as file:
        file.write(_SMALLEST)

    results = race(
        plan,
        [
            Contestant("smallest script, sqlite3, FULL", lambda f: _small(f, script, named), count),
            Contestant("--jobs-file, command and id", lambda f: _enqueue(f, named, count), count),
            Contestant("--jobs-file, command alone", lambda f: _enqueue(f, plain, count), count),
            Contestant("--jobs-file - (stdin)", lambda f: _enqueue(f, "-", count, named), count),
        ],
        plan.rounds(5),
    )
    print_table(
        f"Enqueue {count:,} jobs in one call",
        ["", "seconds", "jobs/s", "time to the smallest"],
        [
            [
                result.name,
                f"{result.median:.2f}",
                per_second(result.rate),
                times(1 / result.times_the_rate_of(results[0])),
            ]
            for result in results
        ],
    )


def _small(folder: str, script: str, path: str) -> float:
    db = sqlite3.connect(os.path.join(folder, "smallest.db"))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, command TEXT)")
    db.close()
    return run([sys.executable, script, path], cwd=folder)


def _enqueue(folder: str, path: str, count: int, stdin: str | None = None) -> float:
    queuectl(folder, "init")
    seconds = queuectl(folder, "enqueue", "--quiet", "--jobs-file", path, stdin=stdin)
    with JobQueue.open(database(folder), create=False) as queue:
        stored = queue.counts()[State.PENDING]
    if stored != count:
        raise BenchError(f"{count} jobs were queued, and {stored} are there")
    return seconds
