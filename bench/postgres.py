"""The queue on a PostgreSQL server: beside the queue in a file, and beside others on the same server.

The server is the bench's own, on a socket, and waits for its disk. No-op jobs are over before they
begin, so that the queue is measured and not the kernel.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Callable

from bench._queue import QUEUECTL, ROOT, drain, fill
from bench._server import server
from bench._side_by_side import (
    BenchError,
    Contestant,
    Plan,
    Result,
    environment,
    milliseconds,
    note,
    per_second,
    print_table,
    race,
    run,
    times,
)
from bench.wakeup import wake
from queuectl import JobQueue, State

_PEERS = {"pgqueuer": 1, "procrastinate": 10}
"""The names, and by how much to divide the number of their jobs: their rates do not depend on it, and
time does.
"""

_SMALLEST = """
import psycopg2, sys
db = psycopg2.connect(sys.argv[1])
db.cursor().execute("INSERT INTO smallest (command) VALUES (%s)", ("true",))
db.commit()
"""


def measure(plan: Plan) -> None:
    """Prints the tables."""
    with server(plan) as running:
        numbers = itertools.count(1)

        def new_queue(_folder: str) -> str:
            return f"{running.url}&schema=bench{next(numbers)}"

        running.sql("CREATE TABLE smallest (seq bigserial PRIMARY KEY, command text)")
        _measure_enqueue(plan, running.url)
        _measure_drain(plan, new_queue)
        _measure_noop(plan, new_queue, running.new_database)
        folder = plan.scratch.new_folder()
        url = new_queue(folder)
        environ = {**environment(), "QUEUECTL_HOME": folder, "QUEUECTL_DATABASE_URL": url}
        wake(plan, folder, url, environ, "PostgreSQL: ")


def _measure_enqueue(plan: Plan, url: str) -> None:
    environ = {**environment(), "QUEUECTL_HOME": plan.scratch.new_folder()}
    JobQueue.open(url).close()
    script = [sys.executable, "-c", _SMALLEST, url]
    enqueue = [*QUEUECTL, "enqueue", "--db", url, "--command", "true"]
    results = race(
        plan,
        [
            Contestant(
                "smallest script, psycopg2", lambda folder: run(script, cwd=folder, env=environ)
            ),
            Contestant("queuectl enqueue", lambda folder: run(enqueue, cwd=folder, env=environ)),
        ],
        plan.rounds(40),
    )
    print_table(
        "PostgreSQL: enqueue one command, wall time",
        ["", "median ms", "to the smallest"],
        [
            [each.name, milliseconds(each.median), times(1 / each.times_the_rate_of(results[0]))]
            for each in results
        ],
    )


def _measure_drain(plan: Plan, new_queue: Callable[[str], str]) -> None:
    count = plan.size(2_000, 500)

    def in_a_file(folder: str) -> float:
        fill(folder, "true", count)
        return drain(folder, "--count", "2")

    def on_a_server(folder: str) -> float:
        url = new_queue(folder)
        environ = {**environment(), "QUEUECTL_HOME": folder, "QUEUECTL_DATABASE_URL": url}
        with JobQueue.open(url) as queue:
            queue.enqueue_many([{"command": "true", "cwd": folder}] * count)
        words = ["worker-start", "--drain", "--quiet", "--count", "2"]
        seconds = run([*QUEUECTL, *words], cwd=folder, env=environ)
        _check(url, count)
        return seconds

    results = race(
        plan,
        [
            Contestant("in a file", in_a_file, count),
            Contestant("on PostgreSQL", on_a_server, count),
        ],
        plan.rounds(5),
    )
    print_table(
        f"PostgreSQL: run {count:,} x `true`, 2 at a time",
        ["", "jobs/s", "to a file"],
        [
            [each.name, per_second(each.rate), times(each.times_the_rate_of(results[0]))]
            for each in results
        ],
    )


def _measure_noop(
    plan: Plan, new_queue: Callable[[str], str], new_database: Callable[[], str]
) -> None:
    count = plan.size(20_000, 5_000)
    bulk: dict[str, list[float]] = {}
    """Jobs a second."""

    def queuectl(slots: int) -> Callable[[str], float]:
        def turn(folder: str) -> float:
            url = new_queue(folder)
            words = ["-m", "bench._noop_worker", url, str(slots), str(count)]
            seconds = drained("queuectl", words)
            _check(url, count)
            return seconds

        return turn

    def peer(name: str, slots: int) -> Callable[[str], float]:
        script = os.path.join(ROOT, "bench", "_postgres_peers.py")
        return lambda _folder: drained(
            name, [script, name, new_database(), str(count // _PEERS[name]), str(slots)]
        )

    def drained(name: str, words: list[str]) -> float:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={**environment(), "QUEUECTL_HOME": plan.scratch.path},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{name} said: {done.stderr.strip()[-500:]}")
        filling, draining = map(float, done.stdout.split())
        bulk.setdefault(name, []).append(count / _PEERS.get(name, 1) / filling)
        return draining

    peers = [name for name in _PEERS if importlib.util.find_spec(name)]
    rows: list[list[str]] = []
    for slots in (10, 20, 64):
        contestants = [Contestant(f"queuectl, {slots} slots", queuectl(slots), count)]
        contestants += [
            Contestant(f"{name}, {slots} at a time", peer(name, slots), count // _PEERS[name])
            for name in peers
        ]
        results: list[Result] = race(plan, contestants, plan.rounds(3))
        rows += [
            [each.name, per_second(each.rate), times(each.times_the_rate_of(results[0]))]
            for each in results
        ]
    print_table(
        f"PostgreSQL: claim to settle, {count:,} no-op jobs, one worker process",
        ["", "jobs/s", "to queuectl"],
        rows,
    )
    print_table(
        f"PostgreSQL: enqueue {count:,} jobs in bulk",
        ["", "jobs/s"],
        [[name, per_second(statistics.median(rates))] for name, rates in bulk.items()],
    )
    if missing := [name for name in _PEERS if name not in peers]:
        note(f"Not installed here, so not measured: {', '.join(missing)}.")


def _check(url: str, count: int) -> None:
    with JobQueue.open(url, create=False) as queue:
        counts = {state: number for state, number in queue.counts().items() if number}
    if counts != {State.COMPLETED: count}:
        raise BenchError(f"{count} jobs should be completed, but there are {counts}")
