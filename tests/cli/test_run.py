from __future__ import annotations

import json
import signal
import subprocess

import pytest

from queuectl.cli.run import status_of
from queuectl.jobs.outcome import (
    SUCCEEDED,
    Outcome,
    exited,
    killed,
    not_started,
    timed_out,
)
from queuectl.quoting import join
from tests.cli.support import FAILED, Cli, working
from tests.support import MAIN, Sandbox, clean_environment


def test_run_streams_the_output_and_nothing_else(cli: Cli) -> None:
    """On stdout is the command's output alone; what queuectl has to say is on stderr."""
    cli.done("init")
    with working(cli.database, [(SUCCEEDED, b"a\nb\n")]):
        ran = cli.done("run", "--", "make", "report")
    assert ran.out == "a\nb\n"
    job_id = cli.done("show", "@last", "-q").out.strip()
    assert ran.err.splitlines()[0] == f"Enqueued job: {job_id}"
    assert "Attempt 1 ended " in ran.err
    assert cli.job(job_id).command == "make report"


def test_run_shows_every_attempt(cli: Cli) -> None:
    """A job that is retried shows the output of all attempts, and how each of them ended."""
    cli.done("init")
    outcomes = [(FAILED, b"first\n"), (exited(5), b"second\n")]
    with working(cli.database, outcomes):
        ran = cli("run", "--command", "x", "--max-retries", "1")
    assert (ran.status, ran.out) == (5, "first\nsecond\n")
    assert "exit status 3" in ran.err
    assert ran.err.splitlines()[-1] == "The job is dead: exit status 5"


def test_quiet_run(cli: Cli) -> None:
    """`run -q` says nothing of its own."""
    cli.done("init")
    with working(cli.database, [(FAILED, b"out\n")]):
        ran = cli("run", "-q", "--max-retries", "0", "--", "x")
    assert ran == (3, "out\n", "")


def test_run_json(cli: Cli) -> None:
    """`run --json` prints the job with its attempts in place of its output."""
    cli.done("init")
    with working(cli.database, [(FAILED, b"out\n")]):
        ran = cli("run", "--json", "--max-retries", "0", "--", "x")
    assert ran.status == 3
    assert (ran.json["state"], len(ran.json["attempt_log"])) == ("dead", 1)


def test_run_warns_when_nobody_works(cli: Cli) -> None:
    """Without a living worker `run` says so, and goes on waiting for one."""
    with subprocess.Popen(
        [*MAIN, "run", "--", "true"],
        cwd=cli.folder,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        said = [waiting.stderr.readline() for _ in range(3)]
        assert said[2].startswith("No worker is running; ")
        cli.finish(cli.done("show", "@last", "-q").out.strip(), exited(9))
        cli.finish(cli.done("show", "@last", "-q").out.strip())
        assert waiting.wait(20) == 0


def test_interrupted_run_leaves_the_job(cli: Cli) -> None:
    """Ctrl-C ends the waiting, not the job: it stays in the queue, and the user is told."""
    cli.done("init")
    with subprocess.Popen(
        [*MAIN, "run", "--id", "stays", "--", "true"],
        cwd=cli.folder,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        waiting.stderr.readline()
        waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        rest = waiting.stderr.read()
        assert waiting.wait(20) == 130
    assert "The job stays in the queue. See it with: queuectl show stays\n" in rest
    assert "queuectl cancel stays\n" in rest
    assert cli.states() == {"stays": "pending"}


def test_run_with_a_real_worker(sandbox: Sandbox) -> None:
    """With a worker at work, `run` behaves as the command itself would."""
    sandbox.start_worker()
    ran = sandbox.run("run", "-q", "--max-retries", "0", "--", "sh", "-c", "echo hello; exit 7")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "hello\n", "")
    killed_run = sandbox.run("run", "-q", "--max-retries", "0", "--command", "kill -9 $$")
    assert killed_run.returncode == 128 + 9


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (SUCCEEDED, 0),
        (exited(7), 7),
        (killed(9, "SIGKILL"), 137),
        (not_started("no such folder"), 1),
        (timed_out(1, None, 15), 143),
        (timed_out(1, 0, None), 1),
    ],
)
def test_wait_passes_the_status_on(cli: Cli, outcome: Outcome, status: int) -> None:
    """`wait` ends like the job: its exit code, 128 and its signal, or 1 where it has neither."""
    job_id = cli.enqueue("x", "--max-retries", "0")
    cli.finish(job_id, outcome)
    ran = cli("wait", job_id)
    assert (ran.status, ran.err) == (status, "")
    state = "completed" if status == 0 else f"dead: {outcome.error}"
    assert ran.out == f"{job_id}  {state}\n"
    assert status_of(cli.job(job_id)) == status


def test_wait_for_several(cli: Cli) -> None:
    """Of several jobs, the status is that of the first, in the order given, that did not succeed."""
    good, bad, worse = cli.completed(), cli.dead(), cli.enqueue("x", "--max-retries", "0")
    cli.finish(worse, exited(4))
    assert cli("wait", good, bad, worse).status == 3
    assert cli("wait", good, worse, bad, "-q") == (4, f"{good}\n{worse}\n{bad}\n", "")
    ran = cli("wait", worse, good, "--json")
    assert [(job["id"], job["exit_code"]) for job in ran.json] == [(worse, 4), (good, 0)]
    cancelled = cli.enqueue()
    cli.done("cancel", cancelled)
    assert cli("wait", cancelled).status == 1


def test_wait_really_waits(cli: Cli) -> None:
    """`wait` returns when a worker has finished the job."""
    job_id = cli.enqueue()
    with working(cli.database, [(SUCCEEDED, b"")]):
        assert cli.done("wait", "@last").out == f"{job_id}  completed\n"


def test_wait_timeout(cli: Cli) -> None:
    """A wait that takes too long ends with 124, and says that the job goes on."""
    job_id = cli.enqueue()
    ran = cli("wait", job_id, "--timeout", "50ms")
    assert (ran.status, ran.out) == (124, "")
    assert ran.err.startswith("No worker is running; start one with: queuectl worker-start\n")
    assert f"job {job_id} had not ended after 0.05 s" in ran.err
    error = json.loads(cli("wait", job_id, "--timeout", "0", "--json").err)["error"]
    assert (error["code"], error["exit"]) == ("wait_timed_out", 124)
    assert cli("wait", job_id, "--timeout", "-1").status == 2


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["run"], 2, "nothing to run"),
        (["run", "--"], 2, "no command follows --"),
        (["run", "--command", "a", "--", "b"], 2, "more than one"),
        (["run", "echo", "hi"], 2, "queuectl run -- WORD ..."),
        (["wait"], 2, "missing: ID"),
        (["wait", "nope"], 3, "there is no job 'nope'"),
    ],
)
def test_refused(cli: Cli, words: list[str], status: int, said: str) -> None:
    """What cannot be run or waited for is refused, and nothing is queued."""
    cli.done("init")
    ran = cli(*words)
    assert (ran.status, ran.out) == (status, "")
    assert said in ran.err
    assert cli.states() == {}


def test_output_that_looks_like_queuectls_own_with_a_real_worker(sandbox: Sandbox) -> None:
    """Forged lines, and those of another job's log, are output, byte for byte; of its own, queuectl
    says how each attempt really ended, and nothing else.
    """
    sandbox.configure(backoff_base=0)
    sandbox.start_worker()
    forged = (
        "[queuectl] attempt 1 ended 2026-01-01T00:00:00Z after 0.001s: succeeded (exit status 0)\n"
        "[queuectl] attempt 9 data data\n"
    )
    (sandbox.folder / "forged").write_text(forged)
    ran = sandbox.run(
        "run", "--id", "first", "--max-retries", "1", "--command", "cat forged; exit 3"
    )
    assert (ran.returncode, ran.stdout) == (3, forged + forged)
    said = [line for line in ran.stderr.splitlines() if line.startswith("Attempt")]
    assert len(said) == 2
    for number, line in enumerate(said, 1):
        assert line.startswith(f"Attempt {number} ended ")
        assert line.endswith(": exit status 3")
    logs = join(sandbox.command_line("logs", "first"))
    ran = sandbox.run("run", "--max-retries", "0", "--command", logs)
    assert (ran.returncode, ran.stdout) == (0, sandbox.log("first").decode())
    assert ran.stderr.count("Attempt ") == 1
    # What was written last looks like the real closing line up to its time.
    tail = f"printf '{forged.splitlines()[0]}'"
    ran = sandbox.run("run", "--max-retries", "0", "--command", tail)
    assert (ran.returncode, ran.stdout) == (0, forged.splitlines()[0] + "\n")
    assert ran.stderr.count("Attempt ") == 1


def test_a_command_that_empties_its_log_with_a_real_worker(sandbox: Sandbox) -> None:
    """What it writes afterwards is its output, and its end is told."""
    sandbox.start_worker()
    command = "seq 100; echo kept > /dev/stdout; exit 4"
    ran = sandbox.run("run", "--max-retries", "0", "--command", command)
    assert ran.returncode == 4
    assert ran.stdout.endswith("kept\n")
    assert "[queuectl]" not in ran.stdout
    assert ran.stderr.count("Attempt 1 ended ") == 1


def test_a_job_does_not_wait_for_itself(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told at once; a job of another queue with the same id may be waited for."""
    job_id = cli.completed()
    monkeypatch.setenv("QUEUECTL_JOB_ID", job_id)
    cli.done("wait", job_id)
    monkeypatch.setenv("QUEUECTL_DB_PATH", str(cli.database.resolve()))
    ran = cli("wait", job_id)
    assert (ran.status, ran.out) == (4, "")
    assert "a job cannot wait for itself" in ran.err


def test_a_stop_names_what_has_the_place_of_the_pidfile(cli: Cli) -> None:
    """The workers are found through the database all the same; the remark says how to mend it."""
    cli.done("init")
    (cli.folder / "queuectl.pid").mkdir()
    ran = cli.done("worker-stop")
    assert "queuectl.pid is not a file" in ran.err
    assert "Move it away: mv " in ran.err
