from __future__ import annotations

import io
import json
import signal
import subprocess

import pytest

from queuectl.cli.run import _CommandOutput, status_of
from queuectl.jobs.outcome import (
    SUCCEEDED,
    Outcome,
    exited,
    killed,
    not_started,
    timed_out,
)
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
        (["wait"], 2, "the following arguments are required: ID"),
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


LOG = (
    b"[queuectl] attempt 1 of 2 started 2026-11-24T04:00:00Z by worker w in /: x\n"
    b"one\n[queuectl] attempts of mine\n\nmid [queuectl] attempt 9 ended\n[queuectl] bytes"
    b"\n[queuectl] attempt 1 ended 2026-11-24T04:00:01Z after 1s: exit status 3\n"
    b"[queuectl] attempt 2 of 2 started 2026-11-24T04:00:02Z by worker w in /: x\n"
    b"[queuectl] attempt 2 ended 2026-11-24T04:00:03Z after 1s: succeeded\n[queuectl] at"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 64, 1000])
def test_own_lines_are_told_apart(size: int) -> None:
    """However the log arrives in pieces, queuectl's lines leave the output, and no others."""
    out = io.BytesIO()
    told: list[str] = []
    passed = _CommandOutput(out, told.append)
    for at in range(0, len(LOG), size):
        passed.write(LOG[at : at + size])
    passed.end()
    assert out.getvalue() == (
        b"one\n[queuectl] attempts of mine\n\nmid [queuectl] attempt 9 ended\n[queuectl] bytes\n"
        b"[queuectl] at"
    )
    assert told == [
        "Attempt 1 ended 2026-11-24T04:00:01Z after 1s: exit status 3",
        "Attempt 2 ended 2026-11-24T04:00:03Z after 1s: succeeded",
    ]


def test_output_is_not_held_back() -> None:
    """What a command writes is passed on at once, also when it ends in the middle of a line."""
    out = io.BytesIO()
    passed = _CommandOutput(out, lambda _: None)
    for piece in (b"prompt> ", b"[queuectl] attempt no", b"\n[", b"x"):
        passed.write(piece)
    assert out.getvalue() == b"prompt> [queuectl] attempt no\n[x"
