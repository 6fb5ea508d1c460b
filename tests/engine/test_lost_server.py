"""Workers whose server goes away: restarted, its sessions ended, or out of reach for longer than a lease."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl.storage import open_worker_storage
from queuectl.storage.records import NewWorker
from queuectl.workspace import Workspace
from tests import postgres
from tests.postgres import Server
from tests.support import ROOT, Sandbox, wait_until

pytestmark = pytest.mark.parametrize("sandbox", ["postgres"], indirect=True)

_PROXY = ROOT / "tests" / "engine" / "stalling_proxy.py"
_WAITS = "echo $QUEUECTL_JOB_ID >> marks; until [ -e go ]; do sleep 0.02; done"
_LOST = "lost the connection to postgresql://"
_TRYING = "; trying again"
_BACK = "connected to the database again"
_SILENT = "the database has not answered for "
_ENDING = "ending 1 running job: this worker's lease could not be renewed and is about to end"
_ANSWERS = "the database answers again"


@pytest.fixture
def server() -> Iterator[Server]:
    """The server of this test process, which runs again afterwards."""
    server = postgres.needed()
    yield server
    if not server.is_running:
        server.start()


def _schema(location: str) -> str:
    return location.rpartition("schema=")[2]


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
    """It says that the server is away, and that it is back, each once and no more than that, and runs
    what comes then.
    """
    sandbox.configure(lease_seconds=3)
    sandbox.enqueue("true")
    worker = sandbox.start_worker()
    wait_until(lambda: sandbox.count("completed") == 1)
    sandbox.close_queue()
    lose(server, how)
    worker.wait_for(_BACK)
    sandbox.wait_state(sandbox.enqueue("true"), "completed")
    looks = f"""SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                AND query LIKE '%"{_schema(sandbox.location)}".workers ORDER BY%'"""
    wait_until(lambda: server.sql(looks) == [(1,)], "who looks after other workers is back, too")
    assert worker.stop() == 0
    assert worker.said.count(_LOST) == worker.said.count(_BACK) == 1
    assert worker.said.count(_TRYING) == 1
    assert "cannot" not in worker.said.replace("cannot connect now", "")


class Proxy:
    """What a worker's packets pass through, and where they vanish. `url` is that of the queue through it."""

    def __init__(self, server: Server, location: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_PROXY), f"{server.folder}/.s.PGSQL.5432"], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        port = int(self._process.stdout.readline())
        self.url = location.replace(f"host={server.folder}", f"host=127.0.0.1&port={port}")

    def swallow(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._process.send_signal(signal.SIGSTOP)

    def pass_on(self) -> None:
        """Everything comes through again, also what was sent meanwhile."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def proxy(sandbox: Sandbox, server: Server) -> Iterator[Proxy]:
    """Between a worker and the server."""
    proxy = Proxy(server, sandbox.location)
    yield proxy
    proxy.close()


def through(proxy: Proxy, **settings: object) -> dict[str, str]:
    """The environment of a worker behind it."""
    told = {f"QUEUECTL_{name.upper()}": str(value) for name, value in settings.items()}
    return {"QUEUECTL_DATABASE_URL": proxy.url, **told}


def test_a_server_that_answers_no_more_is_told_of(sandbox: Sandbox, proxy: Proxy) -> None:
    """Where packets vanish no question fails. The worker says that it gets no answer, that it ends its
    command before another worker may run that, and that the server is back, each once.
    """
    job = sandbox.enqueue(_WAITS)
    worker = sandbox.start_worker(env=through(proxy, lease_seconds=4, kill_grace_seconds=1))
    sandbox.wait_marks(1)
    proxy.swallow()
    worker.wait_for(_SILENT)
    worker.wait_for(_ENDING)
    wait_until(lambda: not sandbox.commands(), "the command was ended")
    assert worker.said.index(_SILENT) < worker.said.index(_ENDING)
    sandbox.touch("go")
    proxy.pass_on()
    worker.wait_for(_ANSWERS)
    sandbox.wait_state(job, "completed")
    assert worker.stop() == 0
    for words in (_SILENT, _ENDING, _ANSWERS):
        assert worker.said.count(words) == 1
    assert "cannot" not in worker.said


def test_a_worker_with_nothing_to_do_tells_of_a_silent_server(
    sandbox: Sandbox, proxy: Proxy, server: Server
) -> None:
    """Also while it idles, and in the background, in its log."""
    env = through(proxy, lease_seconds=6)
    worker = sandbox.run("worker-start", "--background", env=env)
    assert worker.returncode == 0, worker
    log = Path(Workspace(proxy.url).folder) / "queuectl.log"
    idles = f"SELECT bool_and(waiting) FROM {_schema(sandbox.location)}.workers"
    url = sandbox.location.partition("&schema=")[0]
    for _ in range(2):
        wait_until(lambda: server.sql(idles, url) == [(True,)], "it idles")
        proxy.swallow()
        wait_until(lambda: log.read_text().count(_SILENT) > log.read_text().count(_ANSWERS))
        proxy.pass_on()
        wait_until(lambda: log.read_text().count(_SILENT) == log.read_text().count(_ANSWERS))
    assert log.read_text().count(_SILENT) == 2
    assert sandbox.run("worker-stop", env=env).returncode == 0


def test_another_reason_is_told_of(sandbox: Sandbox, server: Server) -> None:
    """Where the server that comes back takes no writes, the worker says so while it waits."""
    job = sandbox.enqueue(_WAITS)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    sandbox.close_queue()
    server.stop()
    worker.wait_for(_LOST)
    settings = server.data / "postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text(f"{before}default_transaction_read_only = on\n")
    server.start()
    try:
        worker.wait_for(" takes no writes: ")
    finally:
        settings.write_text(before)
        server.sql("SELECT pg_reload_conf()")
    worker.wait_for("the database can be written again")
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
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
    worker.wait_for(_LOST)
    worker.wait_for(_ENDING)
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
