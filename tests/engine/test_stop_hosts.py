"""`worker-stop` for the workers of other machines."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from queuectl.processes import host_name
from queuectl.storage import open_worker_storage
from queuectl.storage.job_storage import WorkerStorage
from queuectl.storage.records import NewWorker
from tests.support import Sandbox, wait_until


@contextmanager
def far_worker(sandbox: Sandbox, host: str, pid: int = 7) -> Iterator[WorkerStorage]:
    """A worker, registered as one of another machine, that does nothing by itself."""
    sandbox.queue.counts()  # Makes the queue, if need be.
    storage = open_worker_storage(sandbox.location)
    name = f"{host}:{pid}"
    storage.register(NewWorker(name, name, host, "boot", "pid:[7]", pid, "1", 1, "background", 600))
    yield storage
    storage.close()


def begin_stop(sandbox: Sandbox, *options: str) -> subprocess.Popen[str]:
    """`worker-stop` in a process of its own."""
    return subprocess.Popen(
        sandbox.command_line("worker-stop", *options),
        cwd=sandbox.folder,
        env=sandbox.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_far(sandbox: Sandbox, storage: WorkerStorage, name: str, *options: str) -> tuple[str, str]:
    """Calls `worker-stop` with the options, and does what a worker of this name does then; what the
    call printed.
    """
    stop = begin_stop(sandbox, *options)
    wait_until(lambda: storage.outlook(name).stop_requested, "the worker is asked to stop")
    assert stop.poll() is None, "it waits until the worker is gone"
    storage.unregister(name)
    out, err = stop.communicate(timeout=30)
    assert stop.returncode == 0, err
    return out, err


def test_workers_of_a_host_are_stopped_from_another(sandbox: Sandbox) -> None:
    """`worker-stop --host` stops that machine's workers alone, and waits until they have left."""
    with far_worker(sandbox, "far") as storage, far_worker(sandbox, "other"):
        here = sandbox.start_worker()
        out, _ = stop_far(sandbox, storage, "far:7", "--host", "far")
        assert out == "Stopped 1 worker: far:7\n"
        left = sandbox.queue.workers()
        assert [worker.stop_requested_at for worker in left] == [None, None]
        assert {worker.host for worker in left} == {"other", host_name()}
        assert here.stop() == 0


def test_workers_of_this_host_are_stopped_by_its_name(sandbox: Sandbox) -> None:
    """Named, this machine is like any other: its workers in terminals are stopped, too."""
    with far_worker(sandbox, "far"):
        here = sandbox.start_worker()
        ran = sandbox.run("worker-stop", "--host", host_name())
        assert (ran.returncode, here.wait()) == (0, 0), ran
        assert [w.stop_requested_at for w in sandbox.queue.workers()] == [None]


def test_all_workers_are_stopped_on_every_host(sandbox: Sandbox) -> None:
    """`worker-stop --all` ends those here, and waits for those elsewhere."""
    with far_worker(sandbox, "far") as storage:
        here = sandbox.start_worker()
        out, _ = stop_far(sandbox, storage, "far:7", "--all")
        assert "Stopped 2 workers" in out
        assert here.wait() == 0
        assert sandbox.queue.workers() == []


def test_a_worker_elsewhere_that_does_not_stop_is_named(sandbox: Sandbox) -> None:
    """The wait for it has an end, which says where to look."""
    sandbox.configure(stop_timeout_seconds=0, kill_grace_seconds=0)
    with far_worker(sandbox, "far"):
        ran = sandbox.run("worker-stop", "--host", "far", "--timeout", "0")
        assert ran.returncode == 1
        assert "Waiting for far:7 to end" in ran.stderr
        assert "still running after 10 s: far:7" in ran.stderr


@pytest.mark.parametrize("sandbox", ["postgres"], indirect=True)
def test_worker_stop_alone_is_for_this_machine(sandbox: Sandbox) -> None:
    """Without an option those of other machines go on, and it is said how they are stopped."""
    with far_worker(sandbox, "far"):
        terminal = sandbox.start_worker()
        assert sandbox.run("worker-start", "--background").returncode == 0
        ran = sandbox.run("worker-stop")
        assert ran.returncode == 0, ran
        assert "1 worker on other machines (far) will go on; --host HOST" in ran.stderr
        assert f"1 worker in a terminal will go on; --host {host_name()} stops" in ran.stderr
        assert {w.pid for w in sandbox.queue.workers()} == {7, terminal.pid}
        assert terminal.stop() == 0


def test_an_unknown_host_is_refused(sandbox: Sandbox) -> None:
    """One line names it, and the hosts that there are; nobody is stopped."""
    with far_worker(sandbox, "far"):
        ran = sandbox.run("worker-stop", "--host", "far", "--host", "fra")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "there is no worker on a host 'fra'" in ran.stderr
        assert "Workers are on far. See: " in ran.stderr
        assert [w.stop_requested_at for w in sandbox.queue.workers()] == [None]
