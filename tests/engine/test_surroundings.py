"""What a worker may find where it is started: closed descriptors, strange signals, small limits."""

from __future__ import annotations

import os
import resource
import signal
import subprocess

import pytest

from tests.support import Sandbox, wait_until

MARK = "echo $QUEUECTL_JOB_ID >> marks"


def test_a_worker_whose_parent_ignored_sigchld_knows_how_commands_ended(sandbox: Sandbox) -> None:
    """With SIGCHLD ignored the kernel reaps children by itself; outcomes are recorded all the same."""
    good = sandbox.enqueue("true")
    bad = sandbox.enqueue("exit 7", max_retries=0)

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    worker = sandbox.start_worker("--drain", limit=ignore, ready=False)
    assert worker.wait() == 0, worker.said
    assert sandbox.state(good) == "completed"
    assert sandbox.job(bad).exit_code == 7


def test_a_worker_whose_parent_blocked_signals_can_be_stopped(sandbox: Sandbox) -> None:
    """A signal mask it was born with keeps neither SIGTERM from it nor from its commands."""

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])

    worker = sandbox.start_worker(limit=block)
    sandbox.wait_state(sandbox.enqueue("true"), "completed")
    assert worker.stop() == 0, worker.said


@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_worker_without_standard_descriptors_mixes_nothing_up(
    sandbox: Sandbox, closed: str
) -> None:
    """What it opens takes their numbers; still each log has its own output and nothing else, and
    the database stays sound.
    """
    jobs = [sandbox.enqueue("echo out; echo err >&2; cat") for _ in range(20)]
    line = " ".join(sandbox.command_line("worker-start", "--drain", "--count", "4"))
    worker = sandbox.start_worker(program=["sh", "-c", f"exec {line} {closed}"], ready=False)
    assert worker.wait() == 0, worker.said
    for job in jobs:
        assert sandbox.state(job) == "completed"
        assert sandbox.output(job) == b"out\nerr\n"
    assert sandbox.queue.check() == []


def test_a_worker_with_few_descriptors_runs_everything(sandbox: Sandbox) -> None:
    """More slots than open files are allowed: it starts fewer at a time, and no attempt is burnt."""
    jobs = [sandbox.enqueue(f"{MARK}; sleep 0.2") for _ in range(60)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))

    worker = sandbox.start_worker("--drain", "--count", "50", limit=limit, ready=False)
    assert worker.wait(60) == 0, worker.said
    assert sorted(sandbox.marks()) == sorted(jobs)
    for job in jobs:
        assert sandbox.outcomes(job) == ["succeeded"]
        assert sandbox.job(job).attempts == 1


def test_a_job_whose_log_cannot_be_opened_keeps_no_other_from_running(sandbox: Sandbox) -> None:
    """What is wrong with one job's log is that job's failure, not everybody's."""
    blocked = sandbox.enqueue(MARK, max_retries=1, backoff_base=0, priority=5)
    (sandbox.folder / "job_logs").mkdir()
    (sandbox.folder / "job_logs" / f"{blocked}.log").mkdir()
    others = [sandbox.enqueue(MARK) for _ in range(5)]
    sandbox.start_worker()
    for job in others:
        sandbox.wait_state(job, "completed")
    found = sandbox.wait_state(blocked, "dead")
    assert "log" in str(found.error)
    assert blocked not in sandbox.marks()


def test_a_worker_nobody_listens_to_goes_on(sandbox: Sandbox) -> None:
    """With the reader of its remarks gone it works, stops in good order, and ends well."""
    line = " ".join(sandbox.command_line("worker-start", "--count", "2"))
    sandbox.start_worker(program=["sh", "-c", f"{line} 2>&1 >/dev/null | head -n 1 &"], ready=False)
    wait_until(sandbox.queue.workers, "it registers")
    (record,) = sandbox.queue.workers()
    wait_until(lambda: sandbox.processes() == [record.pid], "`head` has seen enough")
    job = sandbox.enqueue(f"{MARK}; while [ ! -e go ]; do sleep 0.05; done")
    sandbox.wait_marks(1)
    os.kill(record.pid, signal.SIGHUP)
    for _ in range(3):
        sandbox.wait_state(sandbox.enqueue("true"), "completed")
    os.kill(record.pid, signal.SIGTERM)
    sandbox.touch("go")
    wait_until(lambda: not sandbox.processes(), "it ends")
    assert sandbox.outcomes(job) == ["succeeded"]
    assert sandbox.queue.workers() == []


def test_a_command_that_kills_its_own_group_hurts_nobody_else(sandbox: Sandbox) -> None:
    """`kill -9 0` ends the command with what it started, and neither the worker nor its neighbour."""
    other = sandbox.enqueue(f"{MARK}; while [ ! -e go ]; do sleep 0.05; done")
    worker = sandbox.start_worker("--count", "2")
    sandbox.wait_marks(1)
    job = sandbox.enqueue("sleep 300 & kill -9 0", max_retries=0)
    assert sandbox.wait_state(job, "dead").signal == signal.SIGKILL
    sandbox.touch("go")
    sandbox.wait_state(other, "completed")
    assert worker.stop() == 0
    assert sandbox.processes() == []


def test_a_drain_inside_a_job_does_not_wait_for_that_job(sandbox: Sandbox) -> None:
    """A job may run a drain of its own queue: it does what is left, and both end."""
    drain = " ".join(sandbox.command_line("worker-start", "--drain"))
    outer = sandbox.enqueue(drain, max_retries=0)
    inner = sandbox.enqueue(MARK)
    sandbox.start_worker()
    sandbox.wait_state(outer, "completed")
    assert sandbox.state(inner) == "completed"
    assert sandbox.commands() == []


def test_two_queues_in_one_folder_of_jobs_do_not_meet(sandbox: Sandbox) -> None:
    """A worker only ever runs, ends and rescues the jobs of its own database."""
    here = sandbox.enqueue(f"{MARK}; while [ ! -e go ]; do sleep 0.05; done", id="same-id")
    sandbox.start_worker()
    sandbox.wait_marks(1)
    other = sandbox.folder / "other" / "queuectl.db"
    other.parent.mkdir()
    env = {"QUEUECTL_DB_PATH": str(other), "QUEUECTL_DATABASE_URL": ""}
    sandbox.run("enqueue", "--command", "sleep 300", "--id", "same-id", "--timeout", "0.3", env=env)
    sandbox.run("worker-start", "--drain", env={**env, "QUEUECTL_BACKOFF_BASE": "0"})
    assert sandbox.state(here) == "processing"
    sandbox.touch("go")
    sandbox.wait_state(here, "completed")


def test_a_worker_that_is_started_with_nohup_ignores_nothing(sandbox: Sandbox) -> None:
    """A command gets the signals it expects, also when the worker was told to ignore SIGHUP."""
    job = sandbox.enqueue("grep SigIgn /proc/self/status")
    line = sandbox.command_line("worker-start", "--drain")
    done = subprocess.run(
        ["nohup", *line], cwd=sandbox.folder, env=sandbox.environ, capture_output=True, check=False
    )
    assert done.returncode == 0
    ignored = int(sandbox.output(job).split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)
    assert not ignored & 1 << (signal.SIGHUP - 1)
