from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from queuectl.clock import Clock
from queuectl.errors import WrongState
from queuectl.jobs.claim import Claim
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import LOST, judge
from queuectl.storage.job_storage import JobStorage, WorkerStorage
from tests.contract.support import (
    FAILED,
    KINDS,
    POLICY,
    START,
    Database,
    MovableClock,
    Pair,
    new_database,
    new_job,
    new_worker,
)

WORKERS = 4


def at_once(*tasks: Callable[[], None]) -> None:
    """Runs the tasks in a thread each, from the same moment on; raises what one of them raised."""
    barrier = threading.Barrier(len(tasks))
    errors: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            barrier.wait(30)
            task()
        except BaseException as error:  # noqa: BLE001 - handed on below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_no_job_is_claimed_twice_by_threads(pair: Pair) -> None:
    """Workers that claim at the same time, in batches of any size, share the jobs out without overlap."""
    pair.enqueue(*(new_job(f"j{n}", priority=n % 3) for n in range(300)))
    claimed: list[list[Claim]] = [[] for _ in range(WORKERS)]

    def work(number: int, storage: WorkerStorage) -> None:
        storage.register(new_worker(f"w{number}"))
        while claims := storage.exchange(f"w{number}", [], number + 1).claims:
            claimed[number] += claims

    stores = [pair.database.open_work(MovableClock()) for _ in range(WORKERS)]
    at_once(*(lambda n=n: work(n, stores[n]) for n in range(WORKERS)))
    ids = Counter(claim.id for claims in claimed for claim in claims)
    assert len(ids) == 300
    assert set(ids.values()) == {1}
    for number, claims in enumerate(claimed):
        assert all(pair.job(claim.id).worker == f"host:w{number}" for claim in claims)


def test_no_job_is_claimed_twice_by_processes(pair: Pair) -> None:
    """Processes that claim and settle at the same time run each attempt once, and none is lost."""
    ids = [f"j{n}" for n in range(150)]
    pair.enqueue(*(new_job(id, max_retries=1, backoff_base=0) for id in ids))
    script = str(Path(__file__).with_name("drain_process.py"))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _RUN, script, pair.database.location, f"w{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    claims: Counter[str] = Counter()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        output, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        claims.update(output.splitlines())
    assert claims == Counter(f"{id} {attempt}" for id in ids for attempt in (1, 2))
    assert pair.jobs.counts() == {State.COMPLETED: len(ids)}
    outcomes = {tuple(a.outcome for a in pair.jobs.attempts(id)) for id in ids}
    assert outcomes == {("failed", "succeeded")}
    assert pair.work.workers() == []


_RUN = (
    "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def test_a_job_is_cancelled_or_claimed_not_both(pair: Pair) -> None:
    """A cancel and a claim at the same moment: the one sees the other, and no job gets away."""
    pair.enqueue(*(f"j{n}" for n in range(60)))
    jobs = pair.database.open_jobs()
    work = pair.database.open_work(MovableClock())
    work.register(new_worker("w"))
    claimed: list[Claim] = []
    asked: list[str] = []

    def claim() -> None:
        while claims := work.exchange("w", [], 1).claims:
            claimed.extend(claims)

    def cancel() -> None:
        for n in reversed(range(60)):
            asked.extend(jobs.cancel([f"j{n}"], START))

    at_once(claim, cancel)
    running = {claim.id for claim in claimed}
    assert set(asked) == set(pair.ids([State.PROCESSING])) == running
    assert {seq for _, seq in work.outlook("w").cancelling} == {claim.seq for claim in claimed}
    assert pair.jobs.counts().get(State.CANCELLED, 0) == 60 - len(running)


def test_a_decision_by_two_people_is_made_once(pair: Pair) -> None:
    """Of two that requeue the same dead jobs, one at a time wins; nothing is requeued twice."""
    pair.register("w")
    pair.enqueue(*(new_job(f"j{n}", max_retries=0) for n in range(40)))
    for claim in pair.claim("w", 40):
        pair.settle("w", claim, FAILED)
    won: Counter[str] = Counter()

    def requeue(jobs: JobStorage) -> None:
        for n in range(40):
            try:
                jobs.requeue([f"j{n}"], START, [State.DEAD])
            except WrongState:
                continue
            won[f"j{n}"] += 1

    stores = [pair.database.open_jobs() for _ in range(2)]
    at_once(*(lambda s=s: requeue(s) for s in stores))
    assert won == Counter(f"j{n}" for n in range(40))


def test_only_one_of_two_rescuers_gets_the_jobs(pair: Pair) -> None:
    """Maintainers that find the same lost worker take each of its jobs once between them."""
    pair.register("w")
    pair.enqueue(*(f"j{n}" for n in range(40)))
    pair.claim("w", 40)
    taken: list[str] = []

    def rescue(storage: WorkerStorage) -> None:
        storage.fence("w")
        lost = storage.rescue("w", lambda claim: (LOST, judge(claim, LOST, POLICY)))
        taken.extend(claim.id for claim, _ in lost)

    stores = [pair.database.open_work(Clock()) for _ in range(3)]
    at_once(*(lambda s=s: rescue(s) for s in stores))
    assert sorted(taken) == sorted(pair.ids())
    assert all(len(pair.jobs.attempts(id)) == 1 for id in pair.ids())


@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_is_made_once_by_many(kind: str, tmp_path: Path) -> None:
    """Processes that make the same queue at the same moment all get it, and lose no job of the others."""
    for round_ in range(25):
        folder = tmp_path / str(round_)
        folder.mkdir()
        with new_database(kind, folder) as database:

            def begin(id: str, database: Database = database) -> None:
                database.open_jobs().enqueue([new_job(id)], START)

            at_once(*(lambda n=n: begin(f"j{n}") for n in range(6)))
            assert sorted(Pair(database).ids()) == [f"j{n}" for n in range(6)]
