"""A server that dies, and another that has followed it and takes its place."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl.errors import DatabaseError
from tests import postgres
from tests.postgres import Server
from tests.support import Sandbox, new_sandbox, wait_until


class Couple:
    """A server, and one that follows it and confirms each commit. `url` is that of whichever leads."""

    def __init__(self, primary: Server, standby: Server) -> None:
        self.primary = primary
        self.standby = standby
        self.url = (
            f"postgresql://postgres@/postgres?host={primary.folder},{standby.folder}"
            "&target_session_attrs=read-write"
        )

    def fail_over(self) -> None:
        """The one that leads is gone for good; the other leads."""
        self.primary.stop(signal.SIGQUIT)
        self.standby.promote()


@pytest.fixture
def couple() -> Iterator[Couple]:
    """Both run, and the second one confirms what the first one is told."""
    programs = postgres.needed().programs
    if not os.access(programs / "pg_basebackup", os.X_OK):
        pytest.skip("this PostgreSQL has no pg_basebackup, so no server can follow another")
    primary = Server(programs, settings={"synchronous_standby_names": "second"})
    standby = Server(programs)
    try:
        primary.begin()
        standby.follow(primary, "second")
        state = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: primary.sql(state) == [("sync",)], "the second one follows")
        yield Couple(primary, standby)
    finally:
        standby.close()
        primary.close()


@pytest.fixture
def followed(couple: Couple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A queue on the couple."""
    monkeypatch.setenv("QUEUECTL_HOME", str(tmp_path / "home"))
    with new_sandbox(tmp_path, url=couple.url) as sandbox:
        yield sandbox


def enqueue_until(sandbox: Sandbox, prefix: str, count: int) -> list[str]:
    """Puts jobs in one by one, whatever becomes of the server; the ids that were confirmed."""
    confirmed: list[str] = []

    def put(id: str) -> bool:
        try:
            sandbox.enqueue("echo $QUEUECTL_JOB_ID >> marks", id=id)
        except DatabaseError:
            return False
        confirmed.append(id)
        return True

    for n in range(count):
        tries = iter(range(10**6))
        wait_until(lambda n=n, tries=tries: put(f"{prefix}-{n}-{next(tries)}"))  # type: ignore[misc]
    return confirmed


def test_workers_go_on_with_the_server_that_takes_over(followed: Sandbox, couple: Couple) -> None:
    """A command runs on meanwhile, every job that was confirmed is completed, and each ran once."""
    sandbox = followed
    long = sandbox.enqueue("echo $QUEUECTL_JOB_ID >> marks; until [ -e go ]; do sleep 0.02; done")
    workers = [sandbox.start_worker("--count", "2") for _ in range(2)]
    before = enqueue_until(sandbox, "before", 60)
    sandbox.wait_marks(20)
    couple.fail_over()
    after = enqueue_until(sandbox, "after", 20)
    sandbox.touch("go")
    for id in [long, *before, *after]:
        sandbox.wait_state(id, "completed")
        assert sandbox.outcomes(id) == ["succeeded"]
        assert sandbox.job(id).attempts == 1
    marks = sandbox.marks()
    assert len(marks) == len(set(marks))
    assert {long, *before, *after} <= set(marks)
    assert sandbox.queue.check() == []
    for worker in workers:
        assert worker.stop() == 0, worker.said
        assert "Traceback" not in worker.said
    assert sandbox.queue.workers() == []
