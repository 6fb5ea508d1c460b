from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import apsw
import pytest

from queuectl.storage.sqlite import writer
from tests.support import Sandbox, suspend, wait_until

DRIVER = [sys.executable, str(Path(__file__).with_name("faulty_worker.py")), "worker-start"]

# Holds a lock while it runs, which the kernel frees on any death: a run that finds it taken overlaps
# with another one.
GUARDED = """
exec 9>> lock-$QUEUECTL_JOB_ID
flock -n 9 || echo overlap >> marks
echo start $QUEUECTL_ATTEMPT $$ >> marks
if [ $QUEUECTL_ATTEMPT = 1 ]; then sleep 300; fi
echo end $QUEUECTL_ATTEMPT >> marks
"""


def test_a_stuck_worker_loses_its_job_and_changes_nothing_when_it_wakes(sandbox: Sandbox) -> None:
    """Stopped for longer than its lease, its command is ended and the job runs elsewhere; when it
    goes on, its job is not settled by it, and it works on as a new worker.
    """
    sandbox.configure(lease_seconds=2, kill_grace_seconds=0.5)
    job = sandbox.enqueue(sandbox.script("guarded.sh", GUARDED))
    stuck = sandbox.start_worker()
    sandbox.wait_marks(1)
    suspend(stuck.pid, sandbox)
    other = sandbox.start_worker()
    sandbox.wait_state(job, "completed")
    other.wait_for("was lost; took back 1 job and ended")
    settled = sandbox.job(job)
    other.send(signal.SIGTERM)
    other.wait()
    stuck.send(signal.SIGCONT)
    stuck.wait_for("given up for lost")
    after = sandbox.enqueue("echo after >> marks")
    sandbox.wait_state(after, "completed")
    assert sandbox.job(job) == settled
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert [mark.split()[0] for mark in sandbox.marks()] == ["start", "start", "end", "after"]
    assert stuck.stop() == 0, stuck.said
    assert sandbox.queue.workers() == []


def test_a_stuck_worker_that_wakes_during_its_rescue_changes_nothing(sandbox: Sandbox) -> None:
    """While the rescuer still waits for a stubborn command, the worker goes on: its jobs' outcomes
    are those of the rescue, no run is settled by it, and none overlaps.
    """
    sandbox.configure(lease_seconds=2, kill_grace_seconds=3)
    stubborn = sandbox.enqueue(sandbox.script("stubborn.sh", "trap '' TERM\n" + GUARDED))
    plain = sandbox.enqueue(sandbox.script("plain.sh", GUARDED))
    stuck = sandbox.start_worker("--count", "2")
    sandbox.wait_marks(2)
    suspend(stuck.pid, sandbox)
    sandbox.start_worker("--count", "2")
    wait_until(lambda: any(w.fenced_at for w in sandbox.queue.workers()), "it is given up")
    stuck.send(signal.SIGCONT)
    stuck.wait_for("starting anew")
    for job in (stubborn, plain):
        sandbox.wait_state(job, "completed")
        assert sandbox.outcomes(job) == ["lost", "succeeded"]
        assert sandbox.job(job).losses == 1
    assert "overlap" not in sandbox.marks()
    assert stuck.stop() == 0, stuck.said


def test_a_finished_command_of_a_stuck_worker_is_not_settled_late(sandbox: Sandbox) -> None:
    """A command that ended while its worker was stopped is run again, once; the late answer of the
    first run is refused.
    """
    sandbox.configure(lease_seconds=2)
    job = sandbox.enqueue(
        "echo start >> marks; while [ ! -e go ]; do sleep 0.05; done; echo end >> marks"
    )
    stuck = sandbox.start_worker()
    sandbox.wait_marks(1)
    suspend(stuck.pid, sandbox)
    sandbox.touch("go")
    sandbox.wait_marks(2)
    sandbox.drain()
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    settled = sandbox.job(job)
    stuck.send(signal.SIGCONT)
    stuck.wait_for("starting anew")
    assert stuck.stop() == 0
    assert sandbox.job(job) == settled
    assert sandbox.marks() == ["start", "end", "start", "end"]


@pytest.mark.sqlite_only("it is about the log; the tests before this one are tried on both")
def test_a_stuck_worker_cuts_nothing_out_of_a_later_runs_log(sandbox: Sandbox) -> None:
    """When it wakes, it leaves the log alone in which another worker's run of the job has its part
    by now: all that this run wrote is there, and nothing else; the lost run has one closing line.
    """
    sandbox.configure(lease_seconds=2, log_max_bytes=256 * 1024)
    job = sandbox.enqueue(
        "if [ $QUEUECTL_ATTEMPT = 1 ]; then seq 1 200000; sleep 300; fi;"
        " seq 1 35000; echo written >> marks; while [ ! -e go ]; do sleep 0.05; done"
    )
    stuck = sandbox.start_worker()
    log = sandbox.folder / "job_logs" / f"{job}.log"
    wait_until(lambda: log.exists() and b" bytes were cut here" in log.read_bytes(), "it is cut")
    suspend(stuck.pid, sandbox)
    sandbox.start_worker()
    sandbox.wait_marks(1)
    stuck.send(signal.SIGCONT)
    stuck.wait_for("starting anew")
    assert stuck.stop() == 0, stuck.said
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
    text = sandbox.log(job)
    part = text[sandbox.attempts(job)[1].log_start : sandbox.attempts(job)[1].log_end]
    header, *numbers, closing = part.splitlines()
    assert header.startswith(b"[queuectl] attempt 2 ")
    assert numbers == [b"%d" % n for n in range(1, 35001)]
    assert closing.startswith(b"[queuectl] attempt 2 ended")
    assert text.count(b"[queuectl] attempt 1 ended") == 1
    assert re.search(rb"^\[queuectl\] attempt 1 ended \S+: worker lost$", text, re.MULTILINE)


def test_a_worker_that_froze_before_a_start_does_not_start_late(sandbox: Sandbox) -> None:
    """Stopped between its claim and the start of the command, it does not run a job that another
    worker has taken over, once it wakes.
    """
    sandbox.configure(lease_seconds=2)
    job = sandbox.enqueue("echo run $QUEUECTL_ATTEMPT >> marks; sleep 0.5")
    stuck = sandbox.start_worker(
        program=DRIVER, env={"FAULT": "after claim commit: stop"}, ready=False
    )
    sandbox.wait_state(job, "processing")
    sandbox.drain()
    stuck.send(signal.SIGCONT)
    stuck.wait_for("starting anew")
    sandbox.wait_state(sandbox.enqueue("true"), "completed")
    assert sandbox.marks() == ["run 2"]
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert stuck.stop() == 0


def test_a_command_that_a_stuck_worker_starts_late_is_ended(sandbox: Sandbox) -> None:
    """Stopped in the very act of starting a command, it starts it when it wakes, and then ends it:
    nothing of it is left, and the job is what the other worker made of it.
    """
    sandbox.configure(lease_seconds=2, kill_grace_seconds=0.5)
    job = sandbox.enqueue("test $QUEUECTL_ATTEMPT = 2 || sleep 300")
    stuck = sandbox.start_worker(program=DRIVER, env={"FAULT": "before spawn: stop"}, ready=False)
    sandbox.wait_state(job, "processing")
    sandbox.drain()
    settled = sandbox.job(job)
    assert settled.state == "completed"
    stuck.send(signal.SIGCONT)
    stuck.wait_for("starting anew")
    wait_until(lambda: not sandbox.commands(), "what it started late ends")
    sandbox.wait_state(sandbox.enqueue("true"), "completed")
    assert sandbox.job(job) == settled
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert stuck.stop() == 0


def test_a_short_stop_costs_nothing(sandbox: Sandbox) -> None:
    """Stopped for less than its lease, a worker keeps its job, and nobody takes it."""
    job = sandbox.enqueue("echo start >> marks; while [ ! -e go ]; do sleep 0.05; done")
    worker = sandbox.start_worker()
    other = sandbox.start_worker()
    sandbox.wait_marks(1)
    suspend(worker.pid, sandbox)
    for _ in range(3):
        sandbox.wait_state(sandbox.enqueue("true"), "completed")
    worker.send(signal.SIGCONT)
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
    assert sandbox.outcomes(job) == ["succeeded"]
    assert [worker.stop(), other.stop()] == [0, 0]


def test_a_command_that_is_stopped_is_not_a_lost_worker(sandbox: Sandbox) -> None:
    """SIGSTOP to the command alone leaves the job running for as long as it takes; a cancel ends it."""
    sandbox.configure(lease_seconds=2, kill_grace_seconds=0.5)
    job = sandbox.enqueue("echo $$ >> marks; kill -STOP $$; echo went on >> marks")
    worker = sandbox.start_worker()
    other = sandbox.start_worker()
    sandbox.wait_marks(1)
    leases = {w.id: w.heartbeat_at for w in sandbox.queue.workers()}
    wait_until(
        lambda: all(w.heartbeat_at > leases[w.id] + 2_500_000 for w in sandbox.queue.workers()),
        "a lease and more goes by",
    )
    assert sandbox.state(job) == "processing"
    sandbox.queue.cancel([job])
    sandbox.wait_state(job, "cancelled")
    assert sandbox.commands() == []
    assert len(sandbox.marks()) == 1
    assert [worker.stop(), other.stop()] == [0, 0]


def test_workers_that_were_all_frozen_take_nothing_from_each_other(sandbox: Sandbox) -> None:
    """When everything stood still for longer than a lease, as in a paused container, nobody was
    stuck: all go on with their own jobs.
    """
    sandbox.configure(lease_seconds=2)
    jobs = [
        sandbox.enqueue("echo start >> marks; while [ ! -e go ]; do sleep 0.05; done")
        for _ in range(4)
    ]
    workers = [sandbox.start_worker() for _ in range(4)]
    sandbox.wait_marks(4)
    for worker in workers:
        suspend(worker.pid, sandbox)
    wait_until(
        lambda: all(w.lease_left_seconds < -1 for w in sandbox.queue.workers()), "leases run out"
    )
    for worker in workers:
        worker.send(signal.SIGCONT)
    for _ in range(8):
        renewed = _renewed(sandbox)
        assert len(renewed) == 4
        wait_until(partial(_is_renewed, sandbox, renewed), "a lease is renewed")
    sandbox.touch("go")
    for job in jobs:
        sandbox.wait_state(job, "completed")
        assert sandbox.outcomes(job) == ["succeeded"]
    assert [worker.stop() for worker in workers] == [0] * 4
    assert sandbox.marks() == ["start"] * 4


def _is_renewed(sandbox: Sandbox, before: dict[str, int]) -> bool:
    return _renewed(sandbox) != before


def _renewed(sandbox: Sandbox) -> dict[str, int]:
    return {w.id: w.heartbeat_at for w in sandbox.queue.workers()}


@pytest.mark.sqlite_only("it is about the lock of a file")
def test_a_long_lock_makes_no_worker_lost(sandbox: Sandbox) -> None:
    """Somebody keeps everyone from writing for longer than a lease: neither the other workers nor
    `doctor --fix` take a job from the one whose command runs, or has ended and waits to be written.
    """
    sandbox.configure(lease_seconds=2)
    ends = sandbox.enqueue(
        "echo run >> marks; while [ ! -e end ]; do sleep 0.05; done; echo end >> marks"
    )
    goes_on = sandbox.enqueue("echo run >> marks; while [ ! -e go ]; do sleep 0.05; done")
    workers = [sandbox.start_worker(), sandbox.start_worker(), sandbox.start_worker()]
    sandbox.wait_marks(2)
    lock = apsw.Connection(str(sandbox.database))
    lock.set_busy_timeout(10_000)  # The workers write now and then, too.
    lock.execute("BEGIN IMMEDIATE")
    sandbox.touch("end")
    sandbox.wait_marks(3)
    wait_until(
        lambda: all(w.lease_left_seconds < -1 for w in sandbox.queue.workers()), "leases run out"
    )
    doctor = subprocess.Popen(
        sandbox.command_line("doctor", "--fix"),
        cwd=sandbox.folder,
        env=sandbox.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    # It has found the workers silent, and waits for its turn to write.
    wait_until(lambda: waits_for_lock(doctor.pid), "doctor is kept from writing as well")
    lock.execute("ROLLBACK")
    said = doctor.communicate()[0]
    sandbox.wait_state(ends, "completed")
    assert sandbox.state(goes_on) == "processing", said
    sandbox.touch("go")
    sandbox.wait_state(goes_on, "completed")
    for job in (ends, goes_on):
        assert sandbox.outcomes(job) == ["succeeded"], said
    assert "took back" not in "".join([said, *(worker.said for worker in workers)])
    assert [worker.stop() for worker in workers] == [0, 0, 0]


def waits_for_lock(pid: int) -> bool:
    """Whether the process has the queue's database open and sleeps between attempts to write."""
    try:
        names = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    # doctor's own connection, and that of the rescue.
    return sum(name.endswith("queuectl.db-wal") for name in names) > 1


@pytest.mark.sqlite_only("it is about the lock of a file")
def test_a_worker_that_is_suspended_in_a_write_holds_nobody_up_for_long(sandbox: Sandbox) -> None:
    """Stopped while it holds the lock that every writer needs, it is ended once its lease is over:
    the others go on, its job runs again, and nothing is recorded twice.
    """
    sandbox.configure(lease_seconds=2, kill_grace_seconds=0.5)
    job = sandbox.enqueue(sandbox.script("guarded.sh", GUARDED))
    fault = {"FAULT": "before claim commit: stop", "FAULT_AT": "2"}
    stuck = sandbox.start_worker("--count", "2", program=DRIVER, env=fault)
    sandbox.wait_marks(1)
    after = sandbox.enqueue("echo after >> marks")
    wait_until(
        lambda: writer.suspended_writer(str(sandbox.database)) == stuck.pid, "it holds the lock"
    )
    other = sandbox.start_worker()  # It cannot begin before that.
    sandbox.wait_state(after, "completed")
    sandbox.wait_state(job, "completed")
    assert stuck.wait() == -signal.SIGKILL
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert sandbox.outcomes(after) == ["succeeded"]
    assert "overlap" not in sandbox.marks()
    assert other.stop() == 0, other.said
