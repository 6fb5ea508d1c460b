"""Workers whose server goes away: restarted, its sessions ended, or out of reach for longer than a lease."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from queuectl.storage import open_worker_storage
from queuectl.storage.records import NewWorker
from tests import postgres
from tests.postgres import Server
from tests.support import Sandbox, wait_until

pytestmark = pytest.mark.parametrize("sandbox", ["postgres"], indirect=True)

_WAITS = "echo $QUEUECTL_JOB_ID >> marks; until [ -e go ]; do sleep 0.02; done"
_CANNOT = "going on as soon as it can be written"
_CAN_AGAIN = "the database can be written again"


@pytest.fixture
def server() -> Iterator[Server]:
    """The server of this test process, which runs again afterwards."""
    server = postgres.needed()
    yield server
    if not server.is_running:
        server.start()


def lose(server: Server, how: str) -> None:
    """Ends every connection, in one of the ways in which that happens; the server can be used then."""
    if how == "sessions ended":
        server.end_connections(server.url)
        return
    server.stop(signal.SIGQUIT if how == "crash" else signal.SIGINT)
    server.start()


@pytest.mark.parametrize("how", ["crash", "restart", "sessions ended"])
def test_running_commands_survive_their_server(sandbox: Sandbox, server: Server, how: str) -> None:
    """What runs goes on while the server is away, is settled when it is back, and ran once."""
    ids = [sandbox.enqueue(_WAITS) for _ in range(2)]
    more = sandbox.enqueue("echo $QUEUECTL_JOB_ID >> marks")
    worker = sandbox.start_worker("--count", "2")
    sandbox.wait_marks(2)
    sandbox.close_queue()
    lose(server, how)
    sandbox.touch("go")
    for id in [*ids, more]:
        sandbox.wait_state(id, "completed")
    assert sorted(sandbox.marks()) == sorted([*ids, more])
    assert [sandbox.outcomes(id) for id in [*ids, more]] == [["succeeded"]] * 3
    assert worker.stop() == 0, worker.said


@pytest.mark.parametrize("how", ["crash", "sessions ended"])
def test_an_idle_worker_finds_its_server_again(sandbox: Sandbox, server: Server, how: str) -> None:
    """It says that the server is away, and that it is back, and runs what comes then."""
    sandbox.configure(lease_seconds=3)
    sandbox.enqueue("true")
    worker = sandbox.start_worker()
    wait_until(lambda: sandbox.count("completed") == 1)
    sandbox.close_queue()
    lose(server, how)
    worker.wait_for(_CAN_AGAIN)
    assert worker.said.count(_CANNOT) == 1
    sandbox.wait_state(sandbox.enqueue("true"), "completed")
    assert worker.stop() == 0


@pytest.mark.parametrize("how", ["crash", "sessions ended"])
def test_claims_and_settles_survive_their_server(
    sandbox: Sandbox, server: Server, how: str
) -> None:
    """The server goes away again and again while jobs are claimed and settled, at moments that nobody
    chose: each runs once, and its outcome is kept.
    """
    count, times = (150, 4) if how == "crash" else (400, 60)
    ids = [f"job-{n}" for n in range(count)]
    sandbox.queue.enqueue_many(
        {"id": id, "command": "echo $QUEUECTL_JOB_ID >> marks", "cwd": str(sandbox.files)}
        for id in ids
    )
    sandbox.close_queue()
    workers = [sandbox.start_worker("--count", "2") for _ in range(2)]
    for n in range(1, times + 1):
        sandbox.wait_marks(count * n // (times + 2))
        lose(server, how)
    sandbox.wait_marks(count)
    wait_until(lambda: sandbox.count("completed") == count, "all are settled")
    assert sorted(sandbox.marks()) == sorted(ids)
    assert {id: sandbox.outcomes(id) for id in ids} == {id: ["succeeded"] for id in ids}
    assert {sandbox.job(id).attempts for id in ids} == {1}
    for worker in workers:
        assert worker.stop() == 0, worker.said
        assert "Traceback" not in worker.said


def test_what_cannot_be_kept_is_ended_before_it_is_anothers(
    sandbox: Sandbox, server: Server
) -> None:
    """A worker that cannot renew its lease ends its commands, which costs the jobs no attempt, and
    runs them again when it is back.
    """
    sandbox.configure(lease_seconds=2, kill_grace_seconds=1)
    job = sandbox.enqueue(_WAITS)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    sandbox.close_queue()
    server.stop(signal.SIGQUIT)
    wait_until(lambda: not sandbox.commands(), "the command was ended")
    worker.wait_for(_CANNOT)
    sandbox.touch("go")
    server.start()
    assert sandbox.wait_state(job, "completed").attempts == 1
    assert sandbox.marks() == [job, job]
    assert sandbox.outcomes(job)[-1] == "succeeded"
    assert sandbox.outcomes(job)[0] in ("interrupted", "lost")
    assert worker.stop() == 0


def test_a_command_line_without_its_server_says_so(sandbox: Sandbox, server: Server) -> None:
    """One line and a hint, status 5; in JSON the code of that error."""
    job = sandbox.enqueue("true")
    sandbox.close_queue()
    server.stop()
    for words in (["status"], ["enqueue", "--command", "true"], ["show", job], ["worker-list"]):
        ran = sandbox.run(*words)
        assert ran.returncode == 5
        assert ran.stderr.startswith("queuectl: cannot reach postgresql://"), ran
        assert len(ran.stderr.splitlines()) == 2
    error = json.loads(sandbox.run("status", "--json").stderr)["error"]
    assert (error["code"], error["exit"]) == ("database_unreachable", 5)
    server.start()
    assert sandbox.run("show", job).returncode == 0


def test_a_worker_of_another_machine_is_lost_with_its_lease(sandbox: Sandbox) -> None:
    """Nothing but its silence tells: its job is left alone as long as the lease lasts, then it runs
    here, and the loss counts.
    """
    job = sandbox.enqueue("true")
    storage = open_worker_storage(sandbox.location)
    storage.register(
        NewWorker("far", "far:7", "far", "boot", "pid:[7]", os.getpid(), "1", 1, "background", 4)
    )
    assert storage.exchange("far", [], 1).claims
    worker = sandbox.start_worker()
    wait_until(lambda: sandbox.queue.workers()[0].lease_left_seconds < 1)
    assert sandbox.state(job) == "processing"
    sandbox.wait_state(job, "completed")
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert sandbox.job(job).losses == 1
    storage.close()
    worker.wait_for("worker far:7 was lost; took back 1 job")


def test_a_worker_of_another_machine_is_not_stopped_here(sandbox: Sandbox) -> None:
    """`worker-stop` says that there are others, and stops those of its own machine."""
    sandbox.enqueue("true")
    storage = open_worker_storage(sandbox.location)
    storage.register(
        NewWorker("far", "far:7", "far", "boot", "pid:[7]", os.getpid(), "1", 1, "background", 60)
    )
    worker = sandbox.start_worker()
    ran = sandbox.run("worker-stop", "--all")
    assert ran.returncode == 0, ran
    assert "1 on other machines" in ran.stderr
    assert worker.wait() == 0
    assert [w.name for w in sandbox.queue.workers()] == ["far:7"]
    storage.close()
