from __future__ import annotations

import os
import signal
import subprocess

import pytest

from queuectl import processes
from tests.support import Sandbox, wait_until

# Each leaves its marks in a file `started`, one line a process, and then stays.
TREES = {
    "child": "echo $$ >> started; sh -c 'echo $$ >> started; sleep 300; :' ; :",
    "ignores SIGTERM": "trap '' TERM; echo 1 >> started; echo 2 >> started; sleep 300; sleep 300",
    "child in a session of its own": (
        "setsid sh -c 'echo $$ >> started; sleep 300; :' & echo $$ >> started; wait"
    ),
    "session of its own that ignores SIGTERM": (
        "setsid sh -c 'trap \"\" TERM; echo $$ >> started; sleep 300; sleep 300' &"
        " echo $$ >> started; wait"
    ),
    "orphan in a session of its own": (
        "(setsid sh -c 'echo $$ >> started; sleep 300; :' &) ; echo $$ >> started; sleep 300"
    ),
    "parent that leaves at SIGTERM": (
        "trap 'exit 0' TERM; (trap '' TERM; echo 1 >> started; sleep 300; sleep 300) &"
        " echo $$ >> started; wait"
    ),
    "hundreds of children": (
        "i=0; while [ $i -lt 300 ]; do sleep 300 & i=$((i+1)); done;"
        " echo $$ >> started; echo all >> started; wait"
    ),
    "without output": "exec >&- 2>&-; echo $$ >> started; echo $$ >> started; sleep 300; :",
}

OTHER_GROUP = """
import os, time
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    time.sleep(300)
while os.getpgid(child) != child:
    time.sleep(0.01)
os.setpgid(0, child)
with open("started", "a") as file:
    file.write("1\\n2\\n")
time.sleep(300)
"""


DAEMON = "setsid sh -c 'echo $$ > daemon; exec sleep 300' >/dev/null 2>&1 & sleep 0.1"


@pytest.fixture(params=[*TREES, "moved to another group"])
def tree(request: pytest.FixtureRequest, sandbox: Sandbox) -> str:
    """A command that starts more than one process, or is hard to end."""
    (sandbox.folder / "other_group.py").write_text(OTHER_GROUP)
    return TREES.get(request.param, "exec python3 other_group.py")


def test_a_command_that_is_killed_takes_what_it_started_with_it(
    sandbox: Sandbox, tree: str
) -> None:
    """When somebody else kills a command's first process, what that leaves behind is ended before
    the run is over, so that it cannot run beside the next; and the signal is the run's end.
    """
    sandbox.configure(kill_grace_seconds=0.3)
    job = sandbox.enqueue(tree, max_retries=0)
    worker = sandbox.start_worker("--drain")
    sandbox.wait_marks(2, "started")
    (first,) = [pid for pid in sandbox.commands() if processes.parent(pid) == worker.process.pid]
    os.kill(first, signal.SIGKILL)
    assert worker.wait() == 0
    assert sandbox.commands() == []
    ended = sandbox.job(job)
    assert (ended.state, ended.signal, ended.error) == ("dead", 9, "killed by SIGKILL (signal 9)")


def test_a_timeout_ends_the_whole_tree(sandbox: Sandbox, tree: str) -> None:
    """Once the attempt is over nothing of it runs, wherever it had moved; its reason is timeout."""
    sandbox.configure(kill_grace_seconds=0.3)
    job = sandbox.enqueue(tree, timeout=2, max_retries=0)
    sandbox.drain()
    assert len(sandbox.marks("started")) == 2, "it was to have started all of its processes"
    found = sandbox.job(job)
    assert (found.state, found.error) == ("dead", "timeout: ran for over 2 s")
    assert sandbox.outcomes(job) == ["timeout"]
    assert sandbox.processes() == []


def test_a_cancel_ends_the_whole_tree(sandbox: Sandbox, tree: str) -> None:
    """When the job is shown as cancelled nothing of it runs any more; the worker goes on."""
    sandbox.configure(kill_grace_seconds=0.3)
    job = sandbox.enqueue(tree)
    worker = sandbox.start_worker()
    sandbox.wait_marks(2, "started")
    assert sandbox.run("cancel", job).returncode == 0
    sandbox.wait_state(job, "cancelled")
    assert sandbox.commands() == []
    assert sandbox.outcomes(job) == ["cancelled"]
    after = sandbox.enqueue("true")
    sandbox.wait_state(after, "completed")
    assert worker.stop() == 0


def test_a_command_gets_a_grace_time_to_tidy_up(sandbox: Sandbox) -> None:
    """SIGTERM comes first: a command that handles it ends in its own way, and that is recorded."""
    job = sandbox.enqueue(
        "trap 'echo tidied; exit 3' TERM; while :; do sleep 0.05 2>&-; done",
        timeout=1,
        max_retries=0,
    )
    sandbox.drain()
    assert b"tidied\n" in sandbox.output(job)
    found = sandbox.job(job)
    assert (found.exit_code, found.error) == (3, "timeout: ran for over 1 s")


def test_a_timeout_is_an_ordinary_failure(sandbox: Sandbox) -> None:
    """It is tried again as often as any other, and each attempt has a time of its own."""
    job = sandbox.enqueue(
        "test $QUEUECTL_ATTEMPT = 3 || sleep 300", timeout=0.3, backoff_base=0, max_retries=5
    )
    sandbox.drain()
    assert sandbox.outcomes(job) == ["timeout", "timeout", "succeeded"]
    assert sandbox.job(job).attempts == 3


def test_one_job_timing_out_disturbs_no_other(sandbox: Sandbox) -> None:
    """A stubborn tree that is being ended does not keep other slots from working."""
    sandbox.configure(kill_grace_seconds=3)
    slow = sandbox.enqueue("trap '' TERM; sleep 300; sleep 300", timeout=0.2, max_retries=0)
    sandbox.start_worker("--count", "2")
    wait_until(lambda: b"started" in sandbox.log(slow) if _has_log(sandbox, slow) else False)
    others = [sandbox.enqueue("true") for _ in range(20)]
    for job in others:
        sandbox.wait_state(job, "completed")
    assert sandbox.wait_state(slow, "dead").error == "timeout: ran for over 0.2 s"


def _has_log(sandbox: Sandbox, job: str) -> bool:
    return (sandbox.folder / "job_logs" / f"{job}.log").exists()


def test_a_cancelled_job_that_waits_never_runs(sandbox: Sandbox) -> None:
    """One cancelled before any worker took it, or while it waits for its retry, is left alone."""
    fresh = sandbox.enqueue("echo fresh >> marks")
    failed = sandbox.enqueue("echo failed >> marks; exit 1", backoff_base=3600)
    sandbox.queue.cancel([fresh])
    sandbox.start_worker()
    sandbox.wait_state(failed, "failed")
    sandbox.queue.cancel([failed])
    sandbox.wait_state(sandbox.enqueue("true"), "completed")
    assert sandbox.marks() == ["failed"]
    assert [sandbox.state(job) for job in (fresh, failed)] == ["cancelled", "cancelled"]


def test_jobs_that_are_held_but_not_started_can_be_cancelled(sandbox: Sandbox) -> None:
    """Cancelling everything while a worker claims ahead leaves no job running, lost or unfinished."""
    jobs = [sandbox.enqueue("echo $QUEUECTL_JOB_ID >> marks; sleep 0.02") for _ in range(200)]
    worker = sandbox.start_worker("--count", "2")
    sandbox.wait_marks(20)
    for job in reversed(jobs):
        _cancel(sandbox, job)
    for job in jobs:
        sandbox.wait_state(job, "cancelled", "completed")
    assert worker.stop() == 0
    assert sandbox.commands() == []
    assert "cancelled" in [sandbox.state(job) for job in jobs]
    for job in jobs:
        found = sandbox.job(job)
        assert found.finished_at is not None, f"{found.state}, but it never ended"
        assert found.worker is None or found.started_at is not None


def _cancel(sandbox: Sandbox, job: str) -> None:
    from queuectl.errors import WrongState

    try:
        sandbox.queue.cancel([job])
    except WrongState:
        pass  # It had ended in the meantime.


def test_a_cancel_that_races_with_the_end_leaves_one_outcome(sandbox: Sandbox) -> None:
    """Whoever comes first, the job ends as completed or cancelled, its attempt says the same, and
    the outcome of a command that ran to its end is not thrown away.
    """
    jobs = [sandbox.enqueue("sleep 0.05; echo $QUEUECTL_JOB_ID >> marks") for _ in range(40)]
    sandbox.start_worker("--count", "4")
    for job in jobs:
        sandbox.wait_state(job, "processing", "completed")
        _cancel(sandbox, job)
    for job in jobs:
        found = sandbox.wait_state(job, "completed", "cancelled")
        kinds = sandbox.outcomes(job)
        if found.state == "completed":
            assert kinds == ["succeeded"]
            assert job in sandbox.marks()
        else:
            assert kinds in (["cancelled"], [])
            assert found.cancel_requested_at is None


def test_a_cancel_reaches_a_long_job_while_short_ones_flow(sandbox: Sandbox) -> None:
    """A worker that is busy settling and claiming still hears that a running job is cancelled."""
    long = [sandbox.enqueue("sleep 300", priority=1) for _ in range(6)]
    sandbox.queue.enqueue_many([{"command": "true", "cwd": "/"}] * 12_000)
    last = sandbox.enqueue("true")
    sandbox.start_worker("--count", "8")
    for job in long:
        sandbox.wait_state(job, "processing")
    for job in long:
        sandbox.queue.cancel([job])
        sandbox.wait_state(job, "cancelled")
        assert sandbox.state(last) == "pending", "the worker had run dry: this test is too small"


def test_a_stop_reaches_a_worker_while_short_jobs_flow(sandbox: Sandbox) -> None:
    """A worker that is busy settling and claiming still hears that it is to stop."""
    sandbox.queue.enqueue_many([{"command": "true", "cwd": "/"}] * 12_000)
    last = sandbox.enqueue("true")
    worker = sandbox.start_worker("--count", "2")
    wait_until(lambda: sandbox.count("completed") > 100)
    assert sandbox.run("worker-stop", "--all").returncode == 0
    assert worker.wait() == 0
    assert sandbox.state(last) == "pending", "it stopped only because there was nothing left"


def test_what_lost_its_marks_is_found_by_its_output(sandbox: Sandbox) -> None:
    """A process in a session of its own and with an empty environment still writes to the job's
    log: it ends with the job, when that is cancelled as when its worker is lost.
    """
    line = "setsid env -i /bin/sh -c 'echo $$ >> unmarked; exec /bin/sleep 300' & wait"
    cancelled = sandbox.enqueue(line)
    lost = sandbox.enqueue(f"test $QUEUECTL_ATTEMPT = 2 || {{ {line}; }}")
    try:
        worker = sandbox.start_worker("--count", "2")
        first, second = (int(pid) for pid in sandbox.wait_marks(2, "unmarked"))
        sandbox.queue.cancel([cancelled])
        sandbox.wait_state(cancelled, "cancelled")
        assert [_lives(first), _lives(second)].count(True) == 1
        worker.kill()
        sandbox.drain()
        assert sandbox.outcomes(lost) == ["lost", "succeeded"]
        assert not _lives(first)
        assert not _lives(second)
    finally:
        for pid in sandbox.marks("unmarked"):
            subprocess.run(["kill", "-9", pid], stderr=subprocess.DEVNULL, check=False)


def _lives(pid: int) -> bool:
    return processes.started(pid) is not None


def test_nothing_is_sent_to_processes_that_are_not_the_jobs(sandbox: Sandbox) -> None:
    """Ending a job spares a daemon that another job left on purpose."""
    daemon = sandbox.enqueue(DAEMON)
    sandbox.start_worker()
    sandbox.wait_state(daemon, "completed")
    doomed = sandbox.enqueue("sleep 300", timeout=0.2, max_retries=0)
    sandbox.wait_state(doomed, "dead")
    assert _lives(int(sandbox.marks("daemon")[0]))


def test_a_daemon_of_an_earlier_run_is_not_of_this_one(sandbox: Sandbox) -> None:
    """A job that is run once more has the attempt's number again, and its id; what its first run
    left on purpose survives the end of the second, by a cancel as by the loss of its worker.
    """
    job = sandbox.enqueue(f"echo run >> marks; test ! -e again || sleep 300; {DAEMON}")
    worker = sandbox.start_worker()
    sandbox.wait_state(job, "completed")
    (daemon,) = (int(pid) for pid in sandbox.wait_marks(1, "daemon"))
    sandbox.touch("again")
    sandbox.queue.retry([job])
    sandbox.wait_marks(2)
    worker.kill()
    sandbox.start_worker()
    sandbox.wait_marks(3)
    assert _lives(daemon)
    sandbox.queue.cancel([job])
    sandbox.wait_state(job, "cancelled")
    assert _lives(daemon)
