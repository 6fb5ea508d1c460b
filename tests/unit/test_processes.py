from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from queuectl import processes
from queuectl.processes import Identity, WorkerHealth, health_of
from queuectl.storage.records import WorkerRecord

NOW = 1_795_521_600_000_000

Start = Callable[..., "subprocess.Popen[bytes]"]


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Waits for a condition; fails when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that wait until they are ended, at the latest with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str, **environ: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            words or ("sleep", "60"), env={"PATH": os.environ["PATH"], **environ}, process_group=0
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


# ---- who a process is


def test_this_process_is_told_from_every_other() -> None:
    """The identity is the same each time, names this process, and can be found by another."""
    one, two = processes.this_process(), processes.this_process()
    for name in Identity.__slots__:
        assert getattr(one, name) == getattr(two, name)
        assert getattr(one, name)
    assert one.pid == os.getpid()
    assert one.process_started == processes.started(os.getpid())
    script = "from queuectl.processes import *; print(started(%d), boot_id(), process_space())"
    done = subprocess.run(
        [sys.executable, "-c", script % os.getpid()], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [one.process_started, one.boot_id, one.process_space]


def test_the_name_of_a_machine_can_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes need not be UTF-8; those that are not are written out."""
    odd = SimpleNamespace(nodename="mill\udcff")
    monkeypatch.setattr(os, "uname", lambda: odd)
    assert processes.host_name() == "mill\\udcff"
    odd.nodename = "m\u00fchle"
    assert processes.host_name() == "m\u00fchle"


def test_a_process_has_one_beginning(start: Start) -> None:
    """It says the same as long as it lives, and something else for one that began at another time."""
    process = start()
    began = processes.started(process.pid)
    assert began is not None
    assert processes.started(process.pid) == began
    assert began != processes.started(1)


def test_a_process_that_ended_is_gone(start: Start) -> None:
    """Once it was reaped there is nothing of it."""
    process = start()
    process.kill()
    process.wait()
    assert processes.started(process.pid) is None


def test_a_zombie_is_gone(start: Start) -> None:
    """A process that ended and that nobody reaped will do nothing any more."""
    process = start()
    assert process.pid in processes.living_groups()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists() or sys.platform != "linux"
    assert processes.started(process.pid) is None
    assert process.pid not in processes.living_groups()
    process.wait()
    assert process.pid not in processes.living_groups()


# Its first thread ends, the other one goes on.
OUTLIVED = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are seen there only")
def test_a_process_whose_first_thread_has_ended_lives(start: Start) -> None:
    """It looks like a zombie, but goes on in its other threads; when they end too, it is gone."""
    process = start(sys.executable, "-c", OUTLIVED)
    began = processes.started(process.pid)
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: b") Z " in stat.read_bytes())
    assert processes.started(process.pid) == began
    assert process.pid in processes.living_groups()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes.started(process.pid) is None
    assert process.pid not in processes.living_groups()


@pytest.mark.skipif(
    sys.platform != "linux", reason="the name is in a line that we take apart there only"
)
def test_a_process_with_an_odd_name_is_read_right(start: Start, tmp_path: Path) -> None:
    """A program may be called anything, also what looks like the fields that follow its name."""
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to("/bin/sleep")
    process = start(str(odd), "60")
    wait_until(lambda: b"a) Z" in Path(f"/proc/{process.pid}/comm").read_bytes())
    began = processes.started(process.pid)
    assert began is not None
    assert began.isdigit()
    assert int(began) >= int(processes.started(os.getpid()) or "0")


def test_a_group_lives_as_long_as_one_of_it(start: Start) -> None:
    """When the first process of a group has ended, what it started may still run."""
    leader = start("sh", "-c", "sleep 60 & echo; exec sleep 60")
    wait_until(lambda: _members(leader.pid) == 2)
    leader.kill()
    leader.wait()
    assert leader.pid in processes.living_groups()
    os.killpg(leader.pid, signal.SIGKILL)
    wait_until(lambda: leader.pid not in processes.living_groups())


def _members(group: int) -> int:
    import psutil

    found = 0
    for process in psutil.process_iter():
        try:
            found += os.getpgid(process.pid) == group and process.name() == "sleep"
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def test_ancestors_go_up_from_here() -> None:
    """This process and its parent are among them, a child is not."""
    assert {os.getpid(), os.getppid()} <= processes.ancestors()
    script = "from queuectl.processes import ancestors; print(*ancestors())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert processes.ancestors() <= set(map(int, done.stdout.split()))


# ---- whether a worker lives


ME = Identity("here", "boot-1", "pid:[1]", 10, "100")


def record(
    *,
    host: str = "here",
    boot_id: str = "boot-1",
    process_space: str = "pid:[1]",
    process_started: str = "200",
    lease_left_seconds: float = 10,
    silent_seconds: float = 0,
) -> WorkerRecord:
    """A worker on this machine of which only what decides is said."""
    return WorkerRecord(
        id="w",
        name="here:20",
        host=host,
        boot_id=boot_id,
        process_space=process_space,
        pid=20,
        process_started=process_started,
        slots=1,
        mode="foreground",
        started_at=NOW,
        heartbeat_at=NOW - int(silent_seconds * 1e6),
        lease_seconds=30,
        lease_left_seconds=lease_left_seconds,
        stop_requested_at=None,
        fenced_at=None,
        running=1,
    )


def shared(*, lease_left_seconds: float, silent_seconds: float) -> WorkerRecord:
    """One on another machine, whose lease goes by a clock that this one reads, too."""
    return record(
        host="there",
        boot_id="boot-9",
        lease_left_seconds=lease_left_seconds,
        silent_seconds=silent_seconds,
    )._replace(lease_is_shared=True)


@pytest.mark.parametrize(
    ("worker", "health"),
    [
        (record(), WorkerHealth.ALIVE),
        (record(silent_seconds=1e6), WorkerHealth.ALIVE),
        (record()._replace(fenced_at=NOW), WorkerHealth.LOST),
        (record(lease_left_seconds=-1), WorkerHealth.SILENT),
        (record(process_started="201"), WorkerHealth.LOST),
        (record(process_started="201", lease_left_seconds=-1), WorkerHealth.LOST),
        (record(process_space="pid:[2]", process_started="201"), WorkerHealth.ALIVE),
        (record(process_space="pid:[2]", lease_left_seconds=-1), WorkerHealth.SILENT),
        (shared(lease_left_seconds=1, silent_seconds=9)._replace(host="here"), WorkerHealth.ALIVE),
        (
            shared(lease_left_seconds=-1, silent_seconds=9)._replace(host="here"),
            WorkerHealth.SILENT,
        ),
        (record(boot_id="boot-0"), WorkerHealth.LOST),
        (record(boot_id="boot-0", lease_left_seconds=1e6), WorkerHealth.LOST),
        (record(host="there", boot_id="boot-9", silent_seconds=59), WorkerHealth.ALIVE),
        (record(host="there", boot_id="boot-9", silent_seconds=61), WorkerHealth.SILENT),
        (record(host="there", boot_id="boot-9", lease_left_seconds=-99), WorkerHealth.ALIVE),
        (record(host="there", boot_id="boot-9", silent_seconds=-3600), WorkerHealth.ALIVE),
        (shared(lease_left_seconds=1, silent_seconds=99), WorkerHealth.ALIVE),
        (shared(lease_left_seconds=-1, silent_seconds=-3600), WorkerHealth.SILENT),
    ],
)
def test_a_worker_is_judged_by_what_can_be_seen_of_it(
    monkeypatch: pytest.MonkeyPatch, worker: WorkerRecord, health: WorkerHealth
) -> None:
    """Its process where that is visible, its lease where not, and its heartbeat from another machine."""
    monkeypatch.setattr(processes, "started", {20: "200"}.get)
    assert health_of(worker, ME, NOW) == health


def test_a_worker_whose_process_ended_is_gone(start: Start) -> None:
    """It is noticed at once, with the lease still running: also when nobody reaps it."""
    process = start()
    me = processes.this_process()
    worker = record(
        host=me.host,
        boot_id=me.boot_id,
        process_space=me.process_space,
        process_started=processes.started(process.pid) or "",
    )._replace(pid=process.pid)
    assert health_of(worker, me, NOW) == WorkerHealth.ALIVE
    assert processes.living([worker]) == [worker]
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert health_of(worker, me, NOW) == WorkerHealth.LOST
    assert processes.living([worker]) == []
