"""Ten minutes of jobs that come and go on PostgreSQL: whether a claim becomes slower or a table grows.

Then the pruning of all that ended. The server is the bench's own and waits for its disk. The jobs do
nothing; they are put in as fast as they are worked off, so that some thousands wait at any time. Under a
transaction that is held open (`churn_held`) the server removes no dead row, in whatever table: the
worst that a backup, a report or a forgotten session does to a queue.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import psycopg2

from bench._queue import ROOT
from bench._server import processor_seconds, server
from bench._side_by_side import (
    BenchError,
    Plan,
    environment,
    note,
    per_second,
    print_table,
    times,
)
from queuectl import JobQueue, State
from queuectl.storage import open_job_storage
from tests.postgres import Server

_SLOTS = 8
_WAITING = 10_000
"""So many jobs are kept waiting."""

_AT_ONCE = 1_000
_PATIENCE_SECONDS = 60.0
_PRUNED_AT_ONCE = 1_000
"""As `JobQueue.prune` does."""

_INDEXES = ("jobs_ready", "jobs_by_state", "jobs_held", "jobs_pkey", "jobs_id_key")


def measure(plan: Plan) -> None:
    """Prints the tables."""
    with server(plan) as running:
        url = f"{running.url}&schema=churn"
        come_and_go(plan, running, url, is_held=False)
        _many_ended(plan, running, url)


class _Period(NamedTuple):
    """What was seen in one stretch of time."""

    jobs: int
    seconds: float
    claims: list[float]
    """Milliseconds of each."""
    sizes: dict[str, int]
    dead: int
    wal: int
    server_seconds: float
    """Of processor time."""

    @property
    def microseconds(self) -> float:
        """What a job took of the server's processor time."""
        return self.server_seconds / max(self.jobs, 1) * 1e6


class _Worker:
    """A worker with no-op commands in a process of its own, and what it has told."""

    def __init__(self, plan: Plan, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench._churn_worker", url, str(_SLOTS)],
            cwd=ROOT,
            env={**environment(), "QUEUECTL_HOME": plan.scratch.path},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.settled = 0
        self.claims: list[float] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            settled, claims = json.loads(line)
            self.claims += claims
            self.settled += settled

    def check(self) -> None:
        """Raises BenchError when it has ended."""
        if self._process.poll() is not None:
            raise BenchError(f"the worker ended with status {self._process.returncode}")

    def close(self) -> None:
        """Stops it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()


class _Producer:
    """Puts jobs in, in a thread, so that some are always waiting."""

    def __init__(self, url: str, worker: _Worker) -> None:
        self._url = url
        self._worker = worker
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.put_in = 0
        self._thread.start()

    def _run(self) -> None:
        jobs = [{"command": "true", "cwd": "/"}] * _AT_ONCE
        with JobQueue.open(self._url) as queue:
            while not self._is_over.is_set():
                if self.put_in - self._worker.settled < _WAITING:
                    queue.enqueue_many(jobs)
                    self.put_in += _AT_ONCE
                else:
                    self._is_over.wait(0.02)

    def close(self) -> None:
        """Stops it."""
        self._is_over.set()
        self._thread.join()


@contextmanager
def _snapshot(url: str) -> Iterator[None]:
    """A transaction that has looked at the queue, and still sees it as it was then."""
    db = psycopg2.connect(url.split("&schema=", maxsplit=1)[0])
    try:
        db.set_session(isolation_level="REPEATABLE READ", readonly=True)
        db.cursor().execute("SELECT count(*) FROM pg_class")
        yield
    finally:
        db.close()


@contextmanager
def _traffic(plan: Plan, url: str) -> Iterator[_Worker]:
    """Jobs that come and go."""
    JobQueue.open(url).close()
    worker = _Worker(plan, url)
    producer = _Producer(url, worker)
    try:
        yield worker
    finally:
        producer.close()
        worker.close()


def come_and_go(plan: Plan, running: Server, url: str, *, is_held: bool) -> None:
    """Jobs that come and go for 10 minutes; `is_held` says whether a transaction stays open meanwhile."""
    seconds = plan.minutes(10, 1) * 60
    # A row a minute, and in a short run at least six of them.
    period = min(60.0, seconds / 6)
    name = "one transaction held open" if is_held else "no other transaction"
    periods = []
    with _traffic(plan, url) as worker, _snapshot(url) if is_held else nullcontext():
        _begun(worker)
        end = time.monotonic() + seconds
        while time.monotonic() < end - period / 2:
            periods.append(_watch(running, url, worker, period))
    print_table(
        f"PostgreSQL: jobs that come and go for {seconds / 60:g} minutes, {name}",
        [
            "minute",
            "jobs/s",
            "CPU us/job",
            "claim ms",
            "p99 ms",
            "jobs MB",
            *_INDEXES,
            "dead rows",
            "WAL B/job",
        ],
        [
            [
                f"{(number + 1) * period / 60:.4g}",
                per_second(each.jobs / each.seconds),
                f"{each.microseconds:.0f}",
                f"{statistics.median(each.claims):.2f}",
                f"{_p99(each.claims):.1f}",
                _megabytes(each.sizes["jobs"]),
                *(_megabytes(each.sizes[index]) for index in _INDEXES),
                f"{each.dead:,}",
                f"{each.wal / max(each.jobs, 1):,.0f}",
            ]
            for number, each in enumerate(periods)
        ],
    )
    first, last = (each.jobs / each.seconds for each in (periods[0], periods[-1]))
    # The machine has other things to do in some minutes, so the median of all is said, too.
    median = statistics.median(each.jobs / each.seconds for each in periods)
    costs = periods[-1].microseconds / periods[0].microseconds
    note(
        f"Last to first: {times(last / first)}; median to first: {times(median / first)}; the"
        f" server's processor time for a job, last to first: {times(costs)}."
        f" {sum(each.jobs for each in periods):,} jobs went through; load"
        f" {os.getloadavg()[0]:.1f} at the end."
    )


def _begun(worker: _Worker) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while worker.settled < _AT_ONCE:
        worker.check()
        if time.monotonic() > deadline:
            raise BenchError("the worker settles nothing")
        time.sleep(0.05)


def _watch(running: Server, url: str, worker: _Worker, period: float) -> _Period:
    """What happens in a stretch of time, and how things are at its end."""
    jobs, claims, start = worker.settled, len(worker.claims), time.monotonic()
    used = processor_seconds(running)
    [(wal,)] = running.sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
    time.sleep(period)
    worker.check()
    seconds = time.monotonic() - start
    jobs, told = worker.settled - jobs, worker.claims[claims:]
    used = processor_seconds(running) - used
    [(wal_now,)] = running.sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
    schema = url.rsplit("=", maxsplit=1)[1]
    names = ["jobs", "ended_jobs", *_INDEXES]
    sizes = ", ".join(f"pg_total_relation_size('{schema}.{name}')" for name in names)
    [row] = running.sql(f"SELECT {sizes}")
    [(dead,)] = running.sql(
        f"SELECT n_dead_tup FROM pg_stat_user_tables WHERE schemaname = '{schema}' AND relname = 'jobs'"
    )
    return _Period(
        jobs,
        seconds,
        told,
        dict(zip(names, map(int, map(str, row)), strict=True)),
        int(str(dead)),
        int(str(wal_now)) - int(str(wal)),
        used,
    )


def _many_ended(plan: Plan, running: Server, url: str) -> None:
    """Claims beside millions of ended jobs, while those are pruned, and after."""
    count = plan.size(5_000_000, 200_000)
    period = 5.0 if plan.quick else 30.0
    schema = url.rsplit("=", maxsplit=1)[1]
    rows = []

    def row(name: str, seen: _Period, longest: str = "") -> None:
        rows.append(
            [
                name,
                per_second(seen.jobs / seen.seconds),
                f"{seen.microseconds:.0f}",
                f"{statistics.median(seen.claims):.2f}",
                f"{_p99(seen.claims):.1f}",
                _megabytes(seen.sizes["jobs"]),
                _megabytes(seen.sizes["ended_jobs"]),
                longest,
            ]
        )

    with _traffic(plan, url) as worker:
        _begun(worker)
        [(ended,)] = running.sql(f"SELECT count(*) FROM {schema}.ended_jobs")
        missing = count - int(str(ended))
        while worker.settled < missing:
            worker.check()
            time.sleep(0.2)
        row(f"{count:,} have ended", _watch(running, url, worker, period))
        pruning = _Pruning(url)
        jobs, start = worker.settled, time.monotonic()
        try:
            row("while they are pruned", _watch(running, url, worker, period))
            pruning.wait(count)
        finally:
            pruning.close()
        seconds, pruned_beside = time.monotonic() - start, worker.settled - jobs
        rows[-1][-1] = f"{max(pruning.seconds) * 1e3:,.0f}"
        row("after it", _watch(running, url, worker, period))
    print_table(
        f"PostgreSQL: beside {count:,} jobs that ended",
        [
            "",
            "jobs/s",
            "CPU us/job",
            "claim ms",
            "p99 ms",
            "jobs MB",
            "ended_jobs MB",
            "longest pruning, ms",
        ],
        rows,
    )
    note(
        f"Pruned {pruning.pruned:,} in {seconds:,.0f} s, {_PRUNED_AT_ONCE:,} a statement: median"
        f" {statistics.median(pruning.seconds) * 1e3:.1f} ms, first tenth"
        f" {_tenth(pruning.seconds, 0):.1f} ms, last tenth {_tenth(pruning.seconds, 9):.1f} ms;"
        f" {pruned_beside / seconds:,.0f} jobs/s went through beside it; load"
        f" {os.getloadavg()[0]:.1f}."
    )


class _Pruning:
    """Prunes what has ended, batch by batch, and notes how long each takes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_over = threading.Event()
        self.pruned = 0
        self.seconds: list[float] = []
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        storage = open_job_storage(self._url)
        try:
            # What ends meanwhile stays, as with any age that people ask for.
            before = int(time.time() * 1e6)
            while not self._is_over.is_set():
                start = time.perf_counter()
                gone = len(storage.prune([State.COMPLETED], before, _PRUNED_AT_ONCE))
                self.seconds.append(time.perf_counter() - start)
                self.pruned += gone
                if not gone:
                    break
        except Exception as error:  # noqa: BLE001 - told by who waits
            self._failure = error
        finally:
            storage.close()

    def wait(self, count: int) -> None:
        """Returns when all are gone. Raises BenchError when that were fewer than `count`."""
        self._thread.join()
        if self._failure is not None:
            raise BenchError(f"pruning failed: {self._failure}")
        if self.pruned < count:
            raise BenchError(f"{self.pruned} of {count} jobs were pruned")

    def close(self) -> None:
        """Stops it."""
        self._is_over.set()
        self._thread.join()


def _tenth(seconds: list[float], number: int) -> float:
    """The median milliseconds within a tenth of these."""
    size = max(len(seconds) // 10, 1)
    return statistics.median(seconds[number * size : (number + 1) * size] or seconds) * 1e3


def _p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
