from __future__ import annotations

import resource
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Sandbox, wait_until


class Supervisor:
    """The end of systemd at which a service's messages arrive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(30)

    def receive(self) -> str:
        """The next message."""
        return self._socket.recv(4096).decode()

    def forget(self) -> None:
        """Throws away what has come so far."""
        while not self.has_heard_all:
            self.receive()

    @property
    def has_heard_all(self) -> bool:
        return not select.select([self._socket], [], [], 0)[0]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A socket as systemd offers it."""
    supervisor = Supervisor(tmp_path_factory.mktemp("s") / "notify")
    yield supervisor
    supervisor.close()


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_systemd_hears_when_the_worker_is_ready_and_when_it_stops(
    sandbox: Sandbox, supervisor: Supervisor, processes: bool
) -> None:
    """READY comes once it is registered, STOPPING when it was told to stop; nothing else does."""
    options = ["--use-processes", "--count", "2"] if processes else []
    worker = sandbox.start_worker(
        *options, env={"NOTIFY_SOCKET": str(supervisor.path)}, ready=False
    )
    assert supervisor.receive() == "READY=1"
    assert len(sandbox.queue.workers()) == (2 if processes else 1)
    assert worker.stop() == 0
    assert supervisor.receive() == "STOPPING=1"
    assert supervisor.has_heard_all


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_systemd_hears_regularly_that_the_worker_lives(
    sandbox: Sandbox, supervisor: Supervisor, processes: bool
) -> None:
    """With a watchdog time set it says so, several times in that time, also with nothing to do."""
    options = ["--use-processes", "--count", "2"] if processes else []
    sandbox.start_worker(*options, env=_watched(supervisor, 3_000_000), ready=False)
    assert [supervisor.receive() for _ in range(4)] == ["READY=1"] + ["WATCHDOG=1"] * 3


@pytest.mark.sqlite_only("a worker can be kept from writing to a file; a server writes by itself")
def test_a_worker_that_cannot_write_lives(sandbox: Sandbox, supervisor: Supervisor) -> None:
    """While the database cannot be written for longer than the lease, it says all the same that it
    lives: a new start would mend nothing, and end its commands.
    """
    sandbox.configure(lease_seconds=2)
    sandbox.enqueue("echo start >> marks; while [ ! -e go ]; do sleep 0.05; done")
    worker = sandbox.start_worker(env=_watched(supervisor, 300_000))
    assert supervisor.receive() == "READY=1"
    sandbox.wait_marks(1)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    sandbox.touch("go")
    worker.wait_for("going on as soon as it can be written")
    wait_until(
        lambda: all(w.lease_left_seconds < -1 for w in sandbox.queue.workers()), "it runs out"
    )
    supervisor.forget()
    assert [supervisor.receive() for _ in range(12)] == ["WATCHDOG=1"] * 12
    assert all(w.lease_left_seconds < -1 for w in sandbox.queue.workers())


def test_a_worker_that_ends_what_another_left_lives(
    sandbox: Sandbox, supervisor: Supervisor
) -> None:
    """While it waits for the stubborn command of a lost worker, it says that it lives."""
    sandbox.configure(kill_grace_seconds=3)
    job = sandbox.enqueue(
        "trap '' TERM; echo start >> marks; test $QUEUECTL_ATTEMPT = 2 || while :; do sleep 1; done"
    )
    lost = sandbox.start_worker()
    sandbox.wait_marks(1)
    sandbox.start_worker(env=_watched(supervisor, 300_000))
    assert supervisor.receive() == "READY=1"
    lost.kill()
    wait_until(lambda: any(w.fenced_at for w in sandbox.queue.workers()), "it is given up")
    supervisor.forget()
    assert [supervisor.receive() for _ in range(3)] == ["WATCHDOG=1"] * 3
    assert sandbox.state(job) == "processing", "it took no time: this proves nothing"


def _watched(supervisor: Supervisor, microseconds: int) -> dict[str, str]:
    """What systemd tells a service that is to speak up at least that often."""
    return {"NOTIFY_SOCKET": str(supervisor.path), "WATCHDOG_USEC": str(microseconds)}


def test_commands_do_not_speak_to_systemd_in_the_workers_name(
    sandbox: Sandbox, supervisor: Supervisor
) -> None:
    """The socket is not handed down: a command that is a service itself would confuse it."""
    job = sandbox.enqueue("echo socket=$NOTIFY_SOCKET watchdog=$WATCHDOG_USEC")
    worker = sandbox.start_worker(
        "--drain",
        env=_watched(supervisor, 3_000_000),
        ready=False,
    )
    assert worker.wait() == 0, worker.said
    assert sandbox.output(job) == b"socket= watchdog=\n"


def test_a_worker_without_systemd_needs_none(sandbox: Sandbox) -> None:
    """An address at which nobody listens keeps nothing from working."""
    job = sandbox.enqueue("true")
    worker = sandbox.start_worker("--drain", env={"NOTIFY_SOCKET": "/no/such/socket"}, ready=False)
    assert worker.wait() == 0, worker.said
    assert sandbox.state(job) == "completed"
