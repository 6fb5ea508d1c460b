from __future__ import annotations

import json
import os
import pty
import signal
from functools import partial

from tests.support import Sandbox, bring_schema_up, wait_until

BUSY = "echo start >> marks; while [ ! -e go ]; do sleep 0.02; done; echo end >> marks"
LOOP = "while :; do sleep 0.05; done"
STUBBORN = f"trap '' TERM INT; echo start >> marks; {LOOP}"


def test_sigterm_lets_running_jobs_finish_and_starts_no_more(sandbox: Sandbox) -> None:
    """The worker ends when its running command has, with success; what waits stays untouched."""
    running = sandbox.enqueue(BUSY)
    waiting = sandbox.enqueue("true")
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    worker.send(signal.SIGTERM)
    worker.wait_for("stopping; 1 running job may take 30 s to finish")
    sandbox.touch("go")
    assert worker.wait() == 0, worker.said
    assert sandbox.marks() == ["start", "end"]
    assert sandbox.outcomes(running) == ["succeeded"]
    assert (sandbox.state(waiting), sandbox.job(waiting).attempts) == ("pending", 0)
    assert sandbox.queue.workers() == []


def test_a_worker_of_an_older_version_starts_no_more(sandbox: Sandbox) -> None:
    """Once a later program has brought the schema up, a worker that had been running takes no more
    jobs. It lets the running one finish, records that, and ends with status 5 and the reason.
    """
    sandbox.configure(lease_seconds=2)
    running = sandbox.enqueue(BUSY)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    waiting = sandbox.enqueue("true")
    bring_schema_up(sandbox.location)
    worker.wait_for("stopping; 1 running job")
    sandbox.touch("go")
    assert worker.wait() == 5
    assert "this queuectl knows up to" in worker.said
    assert (sandbox.state(running), sandbox.state(waiting)) == ("completed", "pending")
    assert sandbox.queue.workers() == []


def test_a_stop_that_waited_long_enough_gives_the_job_back(sandbox: Sandbox) -> None:
    """After stop_timeout_seconds the tree is ended, the job is pending again, the attempt is not
    counted, and the next worker runs it as the same attempt.
    """
    sandbox.configure(stop_timeout_seconds=0.2, kill_grace_seconds=0.2)
    job = sandbox.enqueue(f'(setsid sh -c "{STUBBORN}" &); {BUSY}')
    worker = sandbox.start_worker()
    sandbox.wait_marks(2)
    assert worker.stop() == 0, worker.said
    assert sandbox.processes() == []
    found = sandbox.job(job)
    assert (found.state, found.attempts, found.losses) == ("pending", 0, 0)
    assert sandbox.outcomes(job) == ["interrupted"]
    sandbox.close_queue()
    sandbox.touch("go")
    sandbox.configure()
    sandbox.enqueue("true")
    again = sandbox.start_worker()
    found = sandbox.wait_state(job, "completed")
    assert found.attempts == 1
    assert sandbox.outcomes(job) == ["interrupted", "succeeded"]
    assert [attempt.attempt for attempt in sandbox.attempts(job)] == [1, 1]
    assert again.stop() == 0


def test_worker_stop_gives_jobs_back_after_its_own_timeout(sandbox: Sandbox) -> None:
    """`worker-stop --timeout` goes before the configured time, and returns when all are gone."""
    sandbox.configure(stop_timeout_seconds=3600, kill_grace_seconds=0.2)
    jobs = [sandbox.enqueue(STUBBORN, max_retries=0) for _ in range(3)]
    workers = [sandbox.start_worker("--count", "2"), sandbox.start_worker()]
    sandbox.wait_marks(3)
    stop = sandbox.run("worker-stop", "--all", "--timeout", "0.3")
    assert stop.returncode == 0, stop.stderr
    assert "Stopped 2 workers" in stop.stdout
    assert sandbox.processes() == []
    assert [worker.wait() for worker in workers] == [0, 0]
    for job in jobs:
        assert (sandbox.state(job), sandbox.job(job).attempts) == ("pending", 0)
        assert sandbox.outcomes(job) == ["interrupted"]


def test_worker_stop_waits_for_running_jobs(sandbox: Sandbox) -> None:
    """Without a timeout the running command finishes, and its outcome counts."""
    job = sandbox.enqueue(BUSY)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    (sandbox.folder / "stop.sh").write_text("sleep 1; touch go\n")
    sandbox.start_worker(program=["sh", "stop.sh"], ready=False)
    assert sandbox.run("worker-stop", "--all").returncode == 0
    assert worker.wait() == 0
    assert sandbox.outcomes(job) == ["succeeded"]


def test_a_cancelled_job_is_not_given_back_by_a_stop(sandbox: Sandbox) -> None:
    """A job that is being cancelled when its worker is stopped as well ends as cancelled."""
    sandbox.configure(kill_grace_seconds=1)
    job = sandbox.enqueue("trap 'echo told >> marks' TERM; echo start >> marks; " + LOOP)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    sandbox.queue.cancel([job])
    sandbox.wait_marks(2)
    assert sandbox.run("worker-stop", "--all", "--timeout", "0").returncode == 0
    assert worker.wait() == 0
    assert sandbox.state(job) == "cancelled"
    assert sandbox.outcomes(job) == ["cancelled"]


def test_a_second_interrupt_ends_everything_at_once(sandbox: Sandbox) -> None:
    """After it the most stubborn command is gone without a grace time, and given back."""
    sandbox.configure(stop_timeout_seconds=3600, kill_grace_seconds=3600)
    job = sandbox.enqueue(STUBBORN, max_retries=0)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    worker.send(signal.SIGINT)
    worker.wait_for("stopping")
    worker.send(signal.SIGINT)
    assert worker.wait() == 0, worker.said
    assert sandbox.processes() == []
    assert (sandbox.state(job), sandbox.job(job).attempts) == ("pending", 0)


def test_a_second_interrupt_also_hurries_an_end_that_has_begun(sandbox: Sandbox) -> None:
    """It cuts short the grace time of commands that were already told to end."""
    sandbox.configure(stop_timeout_seconds=0, kill_grace_seconds=3600)
    job = sandbox.enqueue(
        "trap 'echo told >> marks' TERM; echo start >> marks; while :; do sleep 0.05; done"
    )
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    worker.send(signal.SIGINT)
    sandbox.wait_marks(2)
    worker.send(signal.SIGINT)
    assert worker.wait() == 0, worker.said
    assert sandbox.processes() == []
    assert sandbox.state(job) == "pending"


def test_ctrl_c_in_a_terminal_does_not_reach_the_commands(sandbox: Sandbox) -> None:
    """The interrupt that a terminal sends to its foreground group stops the worker, while its
    command runs on to its end.
    """
    job = sandbox.enqueue(f"trap 'echo interrupted >> marks' INT; {BUSY}")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(sandbox.folder)
        line = sandbox.command_line("worker-start")
        os.execve(line[0], line, sandbox.environ)
    try:
        sandbox.wait_marks(1)
        os.write(terminal, b"\x03")
        said = b""
        while b"stopping" not in said:
            said += os.read(terminal, 4096)
        sandbox.touch("go")
        status = wait_until(lambda: _status(pid), "the worker ends")
    finally:
        os.close(terminal)
    assert status == "exited 0"
    assert sandbox.marks() == ["start", "end"]
    assert sandbox.outcomes(job) == ["succeeded"]


def _status(pid: int) -> str:
    """How a child of this process has ended; nothing while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return f"exited {os.waitstatus_to_exitcode(status)}" if found else ""


def test_a_terminal_that_closes_does_not_reach_the_commands(sandbox: Sandbox) -> None:
    """SIGHUP makes the worker read its configuration again; it and its command go on."""
    job = sandbox.enqueue(BUSY)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    sandbox.configure(job_timeout=0.3)
    worker.send(signal.SIGHUP)
    worker.wait_for("read the configuration again")
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
    after = sandbox.enqueue("sleep 300", max_retries=0)
    assert sandbox.wait_state(after, "dead").error == "timeout: ran for over 0.3 s"


def test_sighup_changes_the_lease_of_a_running_worker(sandbox: Sandbox) -> None:
    """The lease of a worker that sleeps is the configured one as soon as SIGHUP has told it."""
    worker = sandbox.start_worker()
    sandbox.configure(lease_seconds=3)
    worker.send(signal.SIGHUP)
    wait_until(lambda: [w.lease_seconds for w in sandbox.queue.workers()] == [3], "it is renewed")
    assert worker.stop() == 0


def test_a_broken_configuration_is_not_taken_over(sandbox: Sandbox) -> None:
    """SIGHUP with a broken file is reported, and the worker goes on with what it had."""
    worker = sandbox.start_worker()
    (sandbox.folder / "queuectl_config.json").write_text('{"max_retries": }')
    worker.send(signal.SIGHUP)
    worker.wait_for("kept the old configuration")
    assert "queuectl_config.json" in worker.said
    (sandbox.folder / "queuectl_config.json").unlink()
    sandbox.wait_state(sandbox.enqueue("true"), "completed")


def test_signals_that_come_at_any_time_stop_a_worker_cleanly(sandbox: Sandbox) -> None:
    """Whenever SIGTERM comes after the worker said that it started, it ends with status 0, nothing
    stays claimed, and no attempt is burnt.
    """
    jobs = [sandbox.enqueue("sleep 0.01") for _ in range(300)]
    for n in range(8):
        worker = sandbox.start_worker("--count", "2")
        finished = sandbox.count("completed")
        wait_until(partial(_have_completed, sandbox, finished + n))
        assert worker.stop() == 0, worker.said
        assert sandbox.count("processing") == 0
        assert sandbox.queue.workers() == []
    sandbox.drain("--count", "4")
    for job in jobs:
        assert sandbox.outcomes(job) == ["succeeded"]
        assert sandbox.job(job).attempts == 1


def _have_completed(sandbox: Sandbox, count: int) -> bool:
    return sandbox.count("completed") >= count


def test_worker_stop_without_a_worker_says_so(sandbox: Sandbox) -> None:
    """There is nothing to stop, which is no error."""
    sandbox.queue.counts()
    stop = sandbox.run("worker-stop")
    assert (stop.returncode, stop.stdout) == (0, "No workers are running in the background.\n")


def test_worker_stop_leaves_alone_what_a_pidfile_only_names(sandbox: Sandbox) -> None:
    """A pidfile that is stale, or that names a process which is no worker, is never believed."""
    sandbox.queue.counts()
    bystander = sandbox.start_worker(program=["sleep", "300"], ready=False)
    for pid in (bystander.pid, 999_999_999):
        (sandbox.folder / "queuectl.pid").write_text(f"{pid}\n")
        stop = sandbox.run("worker-stop", "--json")
        assert (stop.returncode, json.loads(stop.stdout)) == (0, {"stopped": []})
        assert not bystander.has_ended
