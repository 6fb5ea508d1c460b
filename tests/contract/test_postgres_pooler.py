"""Behind a pooler: what is left in the sessions that all share, and a pooler that does not show."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl.errors import DatabaseBusy, DatabaseUnreachable
from queuectl.storage import open_job_storage
from queuectl.storage.postgres import watch
from queuectl.storage.postgres.work import PostgresWorkerStorage
from tests import pooler
from tests.contract.support import FAILED, START, Pair, ids_of, new_database, new_job, new_worker

FIRST_SLEEP = watch.FIRST_SECONDS + 0.01


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A queue behind a pooler."""
    with new_database("pooled", tmp_path) as database:
        yield Pair(database)


def work_of(pair: Pair) -> PostgresWorkerStorage:
    """The worker's side."""
    assert isinstance(pair.work, PostgresWorkerStorage)
    return pair.work


@pytest.mark.parametrize("kind", ["postgres", "pooled"])
def test_a_pooler_is_known_for_one(kind: str, tmp_path: Path) -> None:
    """And a server is not taken for one."""
    with new_database(kind, tmp_path) as database:
        assert work_of(Pair(database))._db.is_pooled == (kind == "pooled")


def test_nothing_is_left_in_a_session(pair: Pair) -> None:
    """No statement, no channel, no setting, no lock: whoever has the session next finds it as it was."""
    pair.register("w")
    pair.enqueue("a", "b", "c")
    pair.enqueue(*(f"many-{n}" for n in range(100)))
    pair.run("w")
    pair.run("w", FAILED)
    pair.work.outlook("w")
    pair.work.heartbeat("w", 30)
    watching = pair.work.watch(0.01)
    assert not any(watching.wait(FIRST_SLEEP) for _ in range(3))
    watching.close()
    pair.jobs.cancel(["c"], START)
    assert len(list(pair.jobs.export_jobs())) == 103
    assert pooler.left_behind(pair.database.location) == []


def test_a_worker_that_waits_asks(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell it of a job: it finds that by itself, and asks nobody to try."""
    monkeypatch.setattr(watch, "SAFETY_SECONDS", 600)
    pair.register("w")
    watching = pair.work.watch(0.05)
    watching.wait(FIRST_SLEEP)
    job = [new_job("a")]
    enqueuer = threading.Timer(
        0.1, lambda: open_job_storage(pair.database.location).enqueue(job, START)
    )
    enqueuer.start()
    assert watching.wait(30)
    enqueuer.join()
    watching.close()
    assert work_of(pair)._db.fetch("SELECT waiting FROM workers") == [(False,)]


@pytest.fixture
def fresh_sessions() -> Iterator[None]:
    """What a test leaves in the pooler's sessions ends with them."""
    yield
    pooler.end_sessions()


@pytest.mark.skipif(bool(pooler.PGBOUNCER), reason="pgbouncer shows, and need not take turns")
def test_a_pooler_that_does_not_show_is_found_out(pair: Pair, fresh_sessions: None) -> None:
    """One that answers in a session's name. A session knows no plans, or has those of another worker
    already: either tells, and costs no job.
    """
    other = pair.database.open_work(pair.clock)
    assert isinstance(other, PostgresWorkerStorage)
    pair.register("w")
    other.register(new_worker("v"))
    pair.enqueue("a", "b")
    workers = {"w": work_of(pair), "v": other}
    for id, work in workers.items():
        work._db.is_pooled = False
        with pytest.raises(DatabaseBusy, match="a pooler hands out its sessions in turn"):
            work.exchange(id, [], 1)
    assert [ids_of(work.exchange(id, [], 1).claims) for id, work in workers.items()] == [
        ["a"],
        ["b"],
    ]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("no more connections allowed (max_client_conn)", "raise its max_client_conn"),
        ("unsupported startup parameter: options", "Leave it out"),
    ],
)
def test_what_pgbouncer_refuses_has_its_own_hint(tmp_path: Path, said: str, hint: str) -> None:
    """In its own words, as a client hears them when it connects."""
    words = b"SFATAL\0VFATAL\0C08P01\0M" + said.encode() + b"\0\0"

    def refuse() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(1000)
            client.sendall(b"E" + (len(words) + 4).to_bytes(4, "big") + words)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen()
        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(DatabaseUnreachable, match="FATAL: ") as told:
            open_job_storage(f"postgresql://me@/db?host={tmp_path}")
        thread.join()
    assert said in told.value.message
    assert hint in str(told.value.hint)
