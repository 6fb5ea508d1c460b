"""What is particular to SQLite: statements use the index made for them, and cost the same in a large queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from queuectl.jobs.lifecycle import State
from tests.contract.support import FAILED, HOUR, START, Database, Pair, new_job


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A queue of which this test sees the inside."""
    database = Database(str(tmp_path / "queuectl.db"))
    yield Pair(database)
    database.close()


def inside(storage: object) -> apsw.Connection:
    """The connection of either side."""
    db: apsw.Connection = storage._db  # type: ignore[attr-defined]
    return db


@contextmanager
def watching(pair: Pair, attach: Callable[[apsw.Connection], None]) -> Iterator[None]:
    """Attaches something to both sides of the queue, and to whatever they open meanwhile."""
    for db in (inside(pair.jobs), inside(pair.work)):
        attach(db)
    apsw.connection_hooks.append(attach)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(attach)
        for db in (inside(pair.jobs), inside(pair.work)):
            db.exec_trace = None
            db.trace_v2(0, None)


def plan(pair: Pair, act: Callable[[], object]) -> list[str]:
    """The steps of the query plans of all statements on jobs that `act` runs."""
    statements: list[tuple[str, Any]] = []

    def note(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        if " jobs" in statement:
            statements.append((statement, bindings))
        return True

    with watching(pair, lambda db: setattr(db, "exec_trace", note)):
        act()
    explain = inside(pair.jobs).execute
    return [
        str(row[3])
        for statement, bindings in statements
        for row in explain("EXPLAIN QUERY PLAN " + statement, bindings)
    ]


@pytest.fixture(params=["young", "analysed"])
def filled(pair: Pair, request: pytest.FixtureRequest) -> Pair:
    """A queue with some of everything; once as it grew, once after somebody ran ANALYZE on it."""
    pair.register("w")
    pair.register("tagged", tags=("gpu", "linux"))
    pair.enqueue(*(new_job(f"g{n}", priority=9, requires=("gpu",)) for n in range(50)))
    pair.enqueue(*(new_job(f"d{n}", priority=n % 2, max_retries=0) for n in range(40)))
    pair.work.exchange("w", [pair.settlement(c, FAILED) for c in pair.claim("w", 20)], 0)
    pair.claim("w", 5)
    pair.enqueue(*(new_job(f"s{n}", priority=9, run_at=START + HOUR + n) for n in range(200)))
    if request.param == "analysed":
        inside(pair.jobs).execute("ANALYZE")
    return pair


PLANS: dict[str, tuple[Callable[[Pair], object], list[str]]] = {
    "claim": (lambda p: p.claim("w", 2), ["jobs_ready", "jobs_scheduled"]),
    "claim with tags": (lambda p: p.claim("tagged", 2), ["jobs_ready", "jobs_scheduled"]),
    "outlook with tags": (lambda p: p.work.outlook("tagged"), ["jobs_ready"]),
    "left to others": (lambda p: p.work.left_to_others("w"), ["jobs_ready", "jobs_retrying"]),
    "requirements": (lambda p: p.jobs.ready_by_requirement(START), ["jobs_ready"]),
    "ready": (lambda p: p.work.outlook("w"), ["jobs_ready"]),
    "next due": (lambda p: p.work.outlook("w"), ["jobs_scheduled"]),
    "cancelling": (lambda p: p.work.outlook("w"), ["jobs_cancelling"]),
    "unfinished": (lambda p: (p.claim("w", 99), p.work.outlook("w")), ["jobs_by_state"]),
    "scheduled": (lambda p: p.jobs.scheduled(START), ["jobs_scheduled"]),
    "counts": (lambda p: p.jobs.counts(), ["jobs_by_state"]),
    "held": (lambda p: p.work.fence("w"), ["jobs_by_state"]),
    "workers": (lambda p: p.work.workers(), ["jobs_by_state"]),
    "list": (lambda p: listed(p, State.DEAD), ["jobs_by_state"]),
    "list several": (lambda p: listed(p, State.DEAD, State.PENDING), ["jobs_by_state"]),
    "prune": (lambda p: p.jobs.prune([State.DEAD], START, 5), ["jobs_by_state"]),
    "requeue": (lambda p: p.jobs.requeue_dead(START), ["jobs_by_state"]),
}


@pytest.mark.parametrize("name", PLANS)
def test_statements_use_the_index_made_for_them(filled: Pair, name: str) -> None:
    """The plan names the index, whatever the statistics say."""
    act, indexes = PLANS[name]
    steps = "\n".join(plan(filled, lambda: act(filled)))
    for index in indexes:
        assert f"INDEX {index}" in steps, steps


def listed(pair: Pair, *states: State) -> list[str]:
    """The beginning of a list, newest first."""
    found = pair.jobs.list_jobs(states, sort="created", descending=True, limit=5)
    return [job.id for job in found]


@pytest.mark.parametrize(
    "act",
    [
        lambda p: p.claim("w", 2),
        lambda p: p.claim("tagged", 2),
        lambda p: p.work.outlook("w"),
        lambda p: p.enqueue("new"),
        lambda p: p.jobs.get("d7"),
        lambda p: p.jobs.resolve("s100"),
        lambda p: p.jobs.cancel(["d38"], START),
        lambda p: listed(p, State.DEAD),
        lambda p: p.settle("w", p.claim_one("w")),
    ],
    ids="claim claim-with-tags outlook enqueue get resolve cancel list settle".split(),
)
def test_statements_of_every_day_sort_and_scan_nothing(
    filled: Pair, act: Callable[[Pair], object]
) -> None:
    """What runs all the time finds its rows in order, without a walk over the queue or a sort."""
    for step in plan(filled, lambda: act(filled)):
        assert "TEMP B-TREE" not in step, step
        assert not step.startswith("SCAN jobs"), step


def steps_of(pair: Pair, act: Callable[[], object]) -> int:
    """How many steps of its virtual machine SQLite took for what `act` did."""
    taken = 0

    def note(event: Any) -> None:
        nonlocal taken
        taken += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    with watching(pair, lambda db: db.trace_v2(apsw.SQLITE_TRACE_PROFILE, note)):
        act()
    return taken


DAILY: dict[str, Callable[[Pair, str], object]] = {
    "enqueue": lambda p, id: p.enqueue(id),
    "claim": lambda p, _: p.claim("w", 2),
    "claim, fail and retry": lambda p, _: p.run("w", FAILED),
    "claim and settle": lambda p, _: p.run("w"),
    "outlook": lambda p, _: p.work.outlook("w"),
    "claim with tags": lambda p, _: p.claim("tagged", 2),
    "outlook with tags": lambda p, _: p.work.outlook("tagged"),
    "show": lambda p, _: (p.job("known"), p.jobs.attempts("known")),
    "prefix": lambda p, _: p.jobs.resolve("know"),
    "last": lambda p, _: p.jobs.resolve("@last"),
    "list": lambda p, _: listed(p),
    "dead letters": lambda p, _: listed(p, State.DEAD),
    "several states": lambda p, _: listed(p, State.DEAD, State.COMPLETED, State.PENDING),
    "heartbeat": lambda p, _: p.work.heartbeat("w", 30),
}


def test_cost_does_not_grow_with_the_queue(pair: Pair) -> None:
    """In a queue fifty times as large, most of it urgent, and for later or for other workers, no daily
    act takes more steps.
    """
    pair.register("w")
    pair.register("tagged", tags=("linux",))
    pair.enqueue("known")
    pair.run("w", FAILED)

    def grow(label: str, size: int) -> None:
        """As many finished, dead, ready, and urgent but scheduled jobs."""
        names = [f"{label}{n}" for n in range(size)]
        pair.enqueue(*(new_job("c" + name) for name in names))
        claims = pair.claim("w", size)
        pair.work.exchange("w", [pair.settlement(claim) for claim in claims], 0)
        pair.enqueue(*(new_job("d" + name, max_retries=0) for name in names))
        claims = pair.claim("w", size)
        pair.work.exchange("w", [pair.settlement(claim, FAILED) for claim in claims], 0)
        pair.enqueue(*(new_job("s" + name, priority=9, run_at=START + HOUR) for name in names))
        pair.enqueue(*(new_job("r" + name) for name in names))
        pair.enqueue(*(new_job("g" + name, priority=9, requires=("gpu",)) for name in names))

    def measure(label: str) -> dict[str, int]:
        return {
            name: steps_of(pair, partial(act, pair, label + name)) for name, act in DAILY.items()
        }

    grow("small", 100)
    measure("warm")
    small = measure("a")
    grow("large", 5_000)
    large = measure("b")
    assert min(small.values()) > 0
    for name, steps in large.items():
        assert steps <= small[name] * 1.5 + 20, (name, small[name], steps)
