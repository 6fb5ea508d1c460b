from __future__ import annotations

import subprocess

import pytest

from queuectl.jobs.outcome import SUCCEEDED
from queuectl.processes import host_name
from tests.cli.support import FAILED, Cli, hand_worker
from tests.support import MAIN, clean_environment


@pytest.fixture
def job_id(cli: Cli) -> str:
    """A job with two attempts, which wrote `one` and, in two lines, `two` and `three`."""
    job_id = cli.enqueue("make report", "--id", "job1")
    cli.finish(job_id, FAILED, b"one\n")
    cli.finish(job_id, SUCCEEDED, b"two\nthree\n")
    return job_id


def test_whole_log(cli: Cli, job_id: str) -> None:
    """`logs` prints the file as it is, with the lines that part the attempts."""
    log = (cli.folder / "job_logs" / "job1.log").read_text()
    assert cli.done("logs", job_id) == (0, log, "")
    assert [line for line in log.splitlines() if not line.startswith("[")] == [
        "one",
        "two",
        "three",
    ]


def test_tail(cli: Cli, job_id: str) -> None:
    """--tail N prints the last N lines, --tail 0 none."""
    whole = cli.done("logs", job_id).lines
    assert cli.done("logs", job_id, "--tail", "2").lines == whole[-2:]
    assert cli.done("logs", job_id, "-n", "0").out == ""
    assert cli.done("logs", job_id, "--tail", "999").lines == whole


def test_one_attempt(cli: Cli, job_id: str) -> None:
    """--attempt N prints what that attempt wrote, and --tail goes with it."""
    first, second = (cli.done("logs", job_id, "--attempt", n).lines for n in "12")
    assert [line for line in first if not line.startswith("[")] == ["one"]
    assert [line for line in second if not line.startswith("[")] == ["two", "three"]
    assert first + second == cli.done("logs", job_id).lines
    assert cli.done("logs", job_id, "--attempt", "1", "--tail", "1").lines == first[-1:]


def test_attempt_that_runs(cli: Cli, job_id: str) -> None:
    """The part of an attempt that has not ended is all that follows the others."""
    cli.done("retry", job_id)
    with hand_worker(cli.database) as worker:
        worker.claim()
        log = cli.folder / "job_logs" / "job1.log"
        with log.open("ab") as file:
            file.write(b"so far\n")
        # Its attempts were given back, so the new one has the number 1 again.
        assert cli.done("logs", job_id, "--attempt", "1").out == "so far\n"


def test_bytes_stay_bytes(cli: Cli) -> None:
    """What is no text in any encoding comes out as it was written."""
    data = bytes(range(256)) + b"\r\n\xff\xfe"
    job_id = cli.enqueue()
    cli.finish(job_id, SUCCEEDED, data)
    ran = subprocess.run(
        [*MAIN, "logs", job_id],
        cwd=cli.folder,
        env={**clean_environment(), "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert ran.stdout == (cli.folder / "job_logs" / f"{job_id}.log").read_bytes()
    assert data in ran.stdout


def test_json(cli: Cli, job_id: str) -> None:
    """`logs --json` has the output as text, bytes that are none escaped, and where the file is."""
    cli.done("retry", job_id)
    cli.finish(job_id, SUCCEEDED, b"\xff")
    ran = cli.done("logs", job_id, "--json", "--tail", "2").json
    assert list(ran) == ["id", "host", "path", "missing_bytes", "output"]
    assert (ran["host"], ran["missing_bytes"]) == (host_name(), 0)
    assert ran["path"] == str(cli.folder / "job_logs" / "job1.log")
    assert ran["output"].splitlines()[0] == "\\xff"


def test_follow_is_live_and_ends_with_the_job(cli: Cli) -> None:
    """--follow waits for a job that has not begun, prints what it writes at once, ends with it."""
    job_id = cli.enqueue()
    log = cli.folder / "job_logs" / f"{job_id}.log"
    with (
        hand_worker(cli.database) as worker,
        subprocess.Popen(
            [*MAIN, "logs", job_id, "--follow"],
            cwd=cli.folder,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as following,
    ):
        (claim,) = worker.claim()
        log.parent.mkdir()
        log.write_bytes(b"early\n")
        assert following.stdout is not None
        assert following.stdout.readline() == b"early\n"
        assert following.poll() is None
        worker.settle(claim, SUCCEEDED, b"late\n")
        assert b"\nlate\n" in following.stdout.read()
        assert following.stderr is not None
        assert following.stderr.read() == b""
        assert following.wait(20) == 0


def test_following_without_a_worker_says_so(cli: Cli) -> None:
    """--follow of a job that no worker can begin says that none runs, and goes on."""
    job_id = cli.enqueue()
    with subprocess.Popen(
        [*MAIN, "logs", job_id, "--follow"],
        cwd=cli.folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as following:
        assert following.stderr is not None
        assert following.stderr.readline().startswith(b"No worker is running; ")
        cli.finish(job_id, SUCCEEDED, b"out\n")
        assert following.stdout is not None
        assert b"\nout\n" in following.stdout.read()
        assert following.wait(20) == 0


def test_following_a_job_that_has_ended(cli: Cli, job_id: str) -> None:
    """--follow on a job that has ended is the log as it is; --tail says from where."""
    whole = cli.done("logs", job_id)
    assert cli.done("logs", job_id, "--follow") == whole
    assert cli.done("logs", job_id, "--follow", "--tail", "2").lines == whole.lines[-2:]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--attempt", "3"], 1, "has no attempt 3; its attempts are numbered 1 to 2\n"),
        (["--attempt", "0"], 2, "--attempt must be 1 or more"),
        (["--attempt", "x"], 2, "--attempt must be a whole number"),
        (["--tail", "-1"], 2, "--tail must be 0 or more"),
        (["--follow", "--attempt", "1"], 2, "does not go with --attempt"),
        (["--follow", "--json"], 2, "does not go with --json"),
    ],
)
def test_what_cannot_be_printed(
    cli: Cli, job_id: str, words: list[str], status: int, said: str
) -> None:
    """Parts that do not exist, and options that contradict each other, are refused."""
    ran = cli("logs", job_id, *words)
    assert (ran.status, ran.out) == (status, "")
    assert said in ran.err


def test_job_without_a_log(cli: Cli) -> None:
    """A job that has not run has no log, and following one that was called off ends."""
    job_id = cli.enqueue()
    ran = cli("logs", job_id)
    assert (ran.status, ran.out) == (1, "")
    assert "has no log" in ran.err
    assert "it has not run yet" in cli("logs", job_id, "--attempt", "1").err
    cli.done("cancel", job_id)
    assert "has no log" in cli("logs", job_id, "--follow").err


def test_numbers_that_begin_anew_are_explained(cli: Cli, job_id: str) -> None:
    """After a requeue a number can be that of several attempts: it is said which one is meant."""
    cli.done("retry", job_id)
    cli.finish(job_id, FAILED, b"again\n")
    ran = cli("logs", job_id, "--attempt", "3")
    assert "numbered 1 to 2, some of them alike; of these the latest is meant" in ran.err
    assert "again\n" in cli.done("logs", job_id, "--attempt", "1").out
    other = cli.completed("true", "--id", "other", "--priority", "9")
    assert "job other has no attempt 3; it has had 1\n" in cli("logs", other, "--attempt", "3").err
    cli.done("retry", other)
    cli.finish(other)
    ran = cli("logs", other, "--attempt", "2")
    assert "its attempts all have the number 1, by which the latest is meant" in ran.err


def test_log_that_is_gone_is_not_one_still_to_come(cli: Cli, job_id: str) -> None:
    """Of a job that has run it is said that its log was there, and where."""
    log = cli.folder / "job_logs" / "job1.log"
    log.unlink()
    ran = cli("logs", job_id)
    assert (ran.status, ran.out) == (1, "")
    assert f"job job1 has run, but its log is gone: {log}" in ran.err


@pytest.mark.parametrize("options", [[], ["--tail", "1"], ["--follow"], ["--json"]])
def test_folder_in_place_of_a_log_is_named(cli: Cli, job_id: str, options: list[str]) -> None:
    """What cannot be printed is named, with a way to move it out of the way."""
    log = cli.folder / "job_logs" / "job1.log"
    log.unlink()
    log.mkdir()
    ran = cli("logs", job_id, *options)
    assert (ran.status, ran.out) == (5, "")
    assert f"{log} is in the place of the log of job job1" in ran.err
    assert f"mv {log} {log}.old" in ran.err
