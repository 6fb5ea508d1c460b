"""Who is told of new jobs on PostgreSQL, when many workers wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg2
import pytest

from queuectl.storage.postgres.watch import FIRST_SECONDS, ChangeWatch
from tests import postgres
from tests.contract.support import SECOND, START, Database, Pair, new_job, new_worker
from tests.support import wait_until

SLEEPERS = 30
PATIENCE = 20.0


@pytest.fixture
def database(own_database: Database) -> Database:
    """A database of its own."""
    return own_database


@pytest.fixture
def pair(database: Database) -> Pair:
    """Both sides of it, with many workers that say that they wait."""
    pair = Pair(database)
    for number in range(SLEEPERS):
        pair.work.register(new_worker(f"w{number}"))
    run(database, "UPDATE workers SET waiting = true")
    return pair


def run(database: Database, statement: str) -> None:
    """Runs a statement in the queue's schema."""
    postgres.needed().sql(f"SET search_path = queuectl; {statement}", database.location)


class Listener:
    """Hears what all workers hear."""

    def __init__(self, database: Database) -> None:
        self._db = psycopg2.connect(database.location)
        self._db.autocommit = True
        self._db.cursor().execute("LISTEN queuectl")

    def heard(self) -> list[list[str]]:
        """The names in each notification since this was last asked, of which there is one at least."""

        def one() -> bool:
            self._db.poll()
            return bool(self._db.notifies)

        wait_until(one, "a notification")
        names = [notice.payload.split() for notice in self._db.notifies]
        self._db.notifies.clear()
        return names

    def close(self) -> None:
        self._db.close()


@pytest.fixture
def listener(database: Database, pair: Pair) -> Iterator[Listener]:
    """Somebody who listens when the workers are there."""
    listener = Listener(database)
    yield listener
    listener.close()


def test_a_job_is_told_to_a_few(pair: Pair, listener: Listener) -> None:
    """One job needs one worker: a few others are told in case that one stands still, and by chance, so
    that it is not always the same ones.
    """
    told = set()
    for number in range(20):
        pair.enqueue(f"{number}")
        [names] = listener.heard()
        assert len(names) == len(set(names)) == 8
        told.update(names)
    assert len(told) > 8


def test_many_jobs_are_told_to_as_many(pair: Pair, listener: Listener) -> None:
    """Ten jobs are told to ten and a few more, and a thousand to everybody."""
    pair.enqueue(*(f"{n}" for n in range(10)))
    [names] = listener.heard()
    assert len(names) == 17
    pair.enqueue(*(f"more-{n}" for n in range(1_000)))
    assert listener.heard() == [[]]


@pytest.mark.parametrize(
    "job", [new_job("gpu", requires=("gpu",)), new_job("later", run_at=START + 5 * SECOND)]
)
def test_what_only_some_can_run_is_told_to_all(pair: Pair, listener: Listener, job: object) -> None:
    """A job that requires tags, and one that has to be begun in time by whoever is free then."""
    pair.enqueue(job)  # type: ignore[arg-type]
    assert listener.heard() == [[]]


def test_whoever_has_been_silent_is_told_last(
    database: Database, pair: Pair, listener: Listener
) -> None:
    """What a crash left in the list of workers takes no place of one that lives."""
    run(database, "UPDATE workers SET heartbeat_at = 0")
    now = "extract(epoch FROM now()) * 1000000"
    run(database, f"UPDATE workers SET heartbeat_at = {now} WHERE id IN ('w3', 'w7')")
    pair.enqueue("a")
    [names] = listener.heard()
    assert {"w3", "w7"} < set(names)


def test_what_is_told_to_others_wakes_nobody(database: Database, pair: Pair) -> None:
    """A worker that is not named sleeps on, and asks the server nothing; one that is wakes up."""
    pair.work.register(new_worker("me"))
    watch = pair.work.watch(PATIENCE)
    assert isinstance(watch, ChangeWatch)
    looks = []
    counter = watch._db.counter

    def look() -> int:
        looks.append(counter())
        return looks[-1]

    watch._db.counter = look  # type: ignore[method-assign]
    watch.wait(FIRST_SECONDS)  # The first sleep listens to nobody.
    looks.clear()
    woken: list[bool] = []
    sleeper = threading.Thread(target=lambda: woken.append(watch.wait(PATIENCE)), daemon=True)
    sleeper.start()
    wait_until(lambda: looks, "its look before it sleeps")
    for _ in range(3):
        run(database, "SELECT nextval('changes'); SELECT pg_notify('queuectl', 'w1 w2')")
    run(database, "SELECT pg_notify('queuectl', 'w1 me')")
    sleeper.join(PATIENCE)
    assert woken == [True]
    assert len(looks) == 2
    watch.close()
