from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Sandbox


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


def test_systemd_hears_regularly_that_the_worker_lives(
    sandbox: Sandbox, supervisor: Supervisor
) -> None:
    """With a watchdog time set it says so, several times in that time."""
    sandbox.start_worker(
        env={"NOTIFY_SOCKET": str(supervisor.path), "WATCHDOG_USEC": "3000000"}, ready=False
    )
    assert [supervisor.receive() for _ in range(4)] == ["READY=1"] + ["WATCHDOG=1"] * 3


def test_commands_do_not_speak_to_systemd_in_the_workers_name(
    sandbox: Sandbox, supervisor: Supervisor
) -> None:
    """The socket is not handed down: a command that is a service itself would confuse it."""
    job = sandbox.enqueue("echo socket=$NOTIFY_SOCKET watchdog=$WATCHDOG_USEC")
    worker = sandbox.start_worker(
        "--drain",
        env={"NOTIFY_SOCKET": str(supervisor.path), "WATCHDOG_USEC": "3000000"},
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
