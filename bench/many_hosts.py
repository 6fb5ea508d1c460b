"""200 workers, each as on a machine of its own, on one PostgreSQL: what they cost it while they idle,
with jobs of a second, and with jobs that do nothing; beside a model that was fed with fewer of them.

The workers are threads of a few processes on the machine of the server. Each runs all the code of a worker
and has its connections; what is missing are the commands, the network, and processors of their own. So
what the server spends is measured, and how the workers behave towards each other, and not what 200
machines would get done.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from typing import NamedTuple

from bench._queue import ROOT
from bench._server import processes, processor_seconds, server
from bench._side_by_side import (
    BenchError,
    Plan,
    environment,
    note,
    per_second,
    print_table,
    times,
)
from queuectl import JobQueue
from tests.postgres import Server

_SLOTS = 2
_PROCESSES = 4
"""The workers are shared out among so many."""

_PATIENCE_SECONDS = 300.0


def measure(plan: Plan) -> None:
    """Prints the tables."""
    numbers = itertools.count(1)
    counts = (1, 5, 20) if plan.quick else (1, 10, 50, 200)
    with server(plan, max_connections=500) as running:
        seen = [_Trial(plan, running, next(numbers), count).result() for count in counts]
    _print(seen)
    _print_model(seen)


class _Reading(NamedTuple):
    """What had come together at some moment, since the start."""

    at: float
    settled: int
    sent: int
    clients_ns: int
    server_seconds: float
    transactions: int
    wal: int


class _Span(NamedTuple):
    """What came together between two moments."""

    seconds: float
    settled: int
    sent: int
    clients_seconds: float
    server_seconds: float
    transactions: int
    wal: int


class _Seen(NamedTuple):
    """What was seen of so many workers, in this order."""

    workers: int
    connections: int
    megabytes: float
    idle: _Span
    enqueued: _Span
    """One job was put in meanwhile, while all were idle."""
    paced: _Span
    noop: _Span


class _Trial:
    """So many workers on one queue."""

    def __init__(self, plan: Plan, running: Server, number: int, count: int) -> None:
        self._plan = plan
        self._server = running
        self._count = count
        self._url = f"{running.url}&schema=fleet{number}"
        self._fleets: list[subprocess.Popen[str]] = []

    def result(self) -> _Seen:
        """Starts them, and looks at them idle and at work."""
        JobQueue.open(self._url).close()
        processes = min(self._count, _PROCESSES)
        try:
            for number in range(processes):
                mine = self._count // processes + (number < self._count % processes)
                self._fleets.append(self._start(mine))
            for fleet in self._fleets:
                assert fleet.stdout is not None
                if fleet.stdout.readline() != "ready\n":
                    raise BenchError("the workers did not start")
            return self._look()
        finally:
            for fleet in self._fleets:
                assert fleet.stdin is not None
                fleet.stdin.close()
            for fleet in self._fleets:
                try:
                    fleet.wait(_PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    fleet.kill()

    def _start(self, workers: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "bench._fleet", self._url, str(workers), str(_SLOTS)],
            cwd=ROOT,
            env={**environment(), "QUEUECTL_HOME": self._plan.scratch.path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _look(self) -> _Seen:
        time.sleep(self._plan.size(12, 6))  # Their first sleep is a short one.
        connections, megabytes = self._memory()
        idle = self._span(self._plan.size(30, 10))
        with JobQueue.open(self._url) as queue:
            before = self._read()
            queue.enqueue("true", cwd="/")
            enqueued = self._until(before, 1, 3.0)
            # In this order: workers that have learned that jobs take no time claim far ahead.
            paced = self._paced(queue, self._plan.size(20, 5))
            noop = self._noop(queue, self._plan.size(40_000, 5_000))
        return _Seen(self._count, connections, megabytes, idle, enqueued, paced, noop)

    def _noop(self, queue: JobQueue, count: int) -> _Span:
        before = self._read()
        for _ in range(10):
            queue.enqueue_many([{"command": "true", "cwd": "/"}] * (count // 10))
        return self._until(before, count, 0)

    def _paced(self, queue: JobQueue, rounds: int) -> _Span:
        """Commands of a second, for some seconds: the first two and the last two are left out."""
        self._read(seconds=1.0)
        count = self._count * _SLOTS * (rounds + 4)
        put_in = self._read()
        queue.enqueue_many([{"command": "true", "cwd": "/"}] * count)
        time.sleep(2)
        span = self._span(rounds)
        self._until(put_in, count, 0)
        self._read(seconds=0.0)
        return span

    def _span(self, seconds: float) -> _Span:
        before = self._read()
        time.sleep(seconds)
        return _between(before, self._read())

    def _until(self, before: _Reading, settled: int, at_least_seconds: float) -> _Span:
        """Waits until so many more are settled."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            now = self._read()
            is_over = now.settled - before.settled >= settled
            if is_over and now.at - before.at >= at_least_seconds:
                return _between(before, now)
            if time.monotonic() > deadline:
                raise BenchError(f"{now.settled - before.settled} of {settled} jobs were settled")
            time.sleep(0.02)

    def _read(self, seconds: float | None = None) -> _Reading:
        settled, sent, clients_ns = 0, 0, 0
        for fleet in self._fleets:
            assert fleet.stdin is not None
            assert fleet.stdout is not None
            fleet.stdin.write("\n" if seconds is None else f"{seconds}\n")
            fleet.stdin.flush()
            answer = json.loads(fleet.stdout.readline())
            settled, sent, clients_ns = (
                settled + answer[0],
                sent + answer[1],
                clients_ns + answer[2],
            )
        [(transactions, wal)] = self._server.sql(
            """SELECT xact_commit, pg_current_wal_lsn() - '0/0'::pg_lsn
               FROM pg_stat_database WHERE datname = current_database()"""
        )
        return _Reading(
            time.monotonic(),
            settled,
            sent,
            clients_ns,
            processor_seconds(self._server),
            int(str(transactions)),
            int(str(wal)),
        )

    def _memory(self) -> tuple[int, float]:
        """Connections, and the megabytes of the whole server, what is shared counted once."""
        [(connections,)] = self._server.sql(
            """SELECT count(*) FROM pg_stat_activity
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
        )
        return int(str(connections)), sum(map(_pss_bytes, processes(self._server))) / 1e6


def _between(before: _Reading, after: _Reading) -> _Span:
    return _Span(
        after.at - before.at,
        after.settled - before.settled,
        after.sent - before.sent,
        (after.clients_ns - before.clients_ns) / 1e9,
        after.server_seconds - before.server_seconds,
        after.transactions - before.transactions,
        after.wal - before.wal,
    )


def _pss_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except OSError:
        return 0


def _print(seen: list[_Seen]) -> None:
    print_table(
        "Idle workers on one PostgreSQL",
        [
            "workers",
            "connections",
            "server MB",
            "statements/s",
            "server CPU",
            "statements for one enqueue",
            "server ms for it",
        ],
        [
            [
                str(each.workers),
                str(each.connections),
                f"{each.megabytes:,.0f}",
                f"{each.idle.sent / each.idle.seconds:,.1f}",
                f"{each.idle.server_seconds / each.idle.seconds:.2%}",
                f"{_beside_idling(each.enqueued.sent, each.idle.sent, each):,.0f}",
                f"{1e3 * _beside_idling(each.enqueued.server_seconds, each.idle.server_seconds, each):,.1f}",
            ]
            for each in seen
        ],
    )
    for title, spans in (
        (f"Jobs of a second, {_SLOTS} slots a worker", [each.paced for each in seen]),
        ("Jobs that do nothing, as fast as it goes", [each.noop for each in seen]),
    ):
        print_table(
            title,
            [
                "workers",
                "jobs/s",
                "to the first",
                "server CPU",
                "server ms/job",
                "workers' CPU",
                "statements/job",
                "transactions/job",
                "WAL B/job",
            ],
            [
                [
                    str(each.workers),
                    per_second(_rate(span)),
                    times(_rate(span) / _rate(spans[0])),
                    f"{span.server_seconds / span.seconds:.0%}",
                    f"{1e3 * span.server_seconds / span.settled:.3f}",
                    f"{span.clients_seconds / span.seconds:.0%}",
                    f"{span.sent / span.settled:.2f}",
                    f"{span.transactions / span.settled:.2f}",
                    f"{span.wal / span.settled:,.0f}",
                ]
                for each, span in zip(seen, spans, strict=True)
            ],
        )
    note(f"The load at the end: {os.getloadavg()[0]:.1f}.")


def _print_model(seen: list[_Seen]) -> None:
    """What the trials before the last say of the last.

    Idling costs the server something for each worker, and, since each looks at all the others,
    something for each pair of them. A job costs it what it cost with fewer workers.
    """
    fewer, more, last = seen[-3:]
    idle = [each.idle.server_seconds / each.idle.seconds for each in (fewer, more)]
    slope = (idle[1] / more.workers - idle[0] / fewer.workers) / (more.workers - fewer.workers)
    pair = max(slope, 0.0)  # Less than nothing is what a busy machine makes of little.
    each_one = idle[0] / fewer.workers - pair * fewer.workers
    statements = more.idle.sent / more.idle.seconds / more.workers
    job = (more.paced.server_seconds / more.paced.seconds - idle[1]) * more.paced.seconds
    job /= more.paced.settled
    n = last.workers
    idle_load = each_one * n + pair * n * n
    rows = [
        ("statements/s, idle", statements * n, last.idle.sent / last.idle.seconds),
        (
            "server CPU in %, idle",
            100 * idle_load,
            100 * last.idle.server_seconds / last.idle.seconds,
        ),
        (
            "server CPU in %, jobs of a second",
            100 * (idle_load + job * _SLOTS * n),
            100 * last.paced.server_seconds / last.paced.seconds,
        ),
        ("jobs/s, jobs of a second", float(_SLOTS * n), _rate(last.paced)),
    ]
    print_table(
        f"The model, fed with {fewer.workers} and {more.workers} workers, and {n} as they were seen",
        ["", "model", "seen", "seen to model"],
        [
            [name, f"{model:,.1f}", f"{found:,.1f}", times(found / model)]
            for name, model, found in rows
        ],
    )
    note(
        f"Fed: {each_one * 1e6:,.0f} us of the server's processors a second for each worker,"
        f" {pair * 1e6:,.2f} us for each pair, {job * 1e3:.3f} ms for each job of a second,"
        f" {statements:.2f} statements a second for each idle worker."
    )


def _beside_idling(amount: float, idle: float, each: _Seen) -> float:
    """What one job more cost, without what idling costs in the same time."""
    return amount - idle / each.idle.seconds * each.enqueued.seconds


def _rate(span: _Span) -> float:
    return span.settled / span.seconds
