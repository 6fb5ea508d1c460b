from __future__ import annotations

import pytest

from tests.cli.support import Cli
from tests.cli.test_enqueue import JOB_FIELDS


def test_list(cli: Cli) -> None:
    """`dlq list` has the dead jobs alone, the newest first, with what went wrong."""
    cli.completed("true", "--id", "fine")
    cli.dead("exit 3 # one", "--id", "one")
    cli.dead("exit 3 # two", "--id", "two")
    ran = cli.done("dlq", "list")
    assert ran.lines[0].split() == "ID RUNS DIED ERROR COMMAND".split()
    assert [line.split()[0] for line in ran.lines[1:]] == ["two", "one"]
    assert all("exit status 3" in line for line in ran.lines[1:])
    assert cli.done("dlq", "list", "-q").lines == ["two", "one"]
    assert cli.done("dlq", "list", "--limit", "1", "-q").lines == ["two"]


def test_list_json(cli: Cli) -> None:
    """`dlq list --json` is an array of job objects, empty where nothing is dead."""
    cli.done("init")
    assert cli.done("dlq", "list", "--json").json == []
    cli.dead("exit 3", "--id", "one")
    (job,) = cli.done("dlq", "list", "--json").json
    assert list(job) == JOB_FIELDS
    assert (job["id"], job["state"], job["exit_code"]) == ("one", "dead", 3)


def test_show(cli: Cli) -> None:
    """`dlq show` is `show` for a dead job."""
    job_id = cli.dead()
    assert cli.done("dlq", "show", "@last").out == cli.done("show", job_id).out
    assert cli.done("dlq", "show", job_id, "--json").json["attempt_log"][0]["outcome"] == "failed"


def test_retry_some(cli: Cli) -> None:
    """`dlq retry` of named jobs makes them pending with all their attempts, and names them."""
    one, two, three = cli.dead(), cli.dead(), cli.dead()
    assert cli.done("dlq", "retry", one).out == f"Requeued job: {one}\n"
    assert cli.done("dlq", "retry", two, "--json").json == {"requeued": 1, "ids": [two]}
    assert cli.states() == {three: "dead", two: "pending", one: "pending"}
    assert cli.job(one).attempts == 0


def test_retry_all(cli: Cli) -> None:
    """`dlq retry --all` takes every dead job and says how many there were."""
    cli.dead()
    cli.dead()
    assert cli.done("dlq", "retry", "--all").out == "Requeued 2 jobs\n"
    assert set(cli.states().values()) == {"pending"}
    assert cli.done("dlq", "retry", "--all", "--json").json == {"requeued": 0}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["dlq", "retry"], 2, "no job was given"),
        (["dlq", "retry", "dead", "--all"], 2, "both jobs and --all"),
        (["dlq", "retry", "dead", "waits"], 4, "job waits is pending, not dead"),
        (["dlq", "retry", "dead", "nope"], 3, "there is no job 'nope'"),
        (["dlq", "retry", "nope"], 3, "queuectl dlq list"),
        (["dlq", "show", "waits"], 4, "job waits is pending, not dead"),
        (["dlq", "list", "--limit", "0"], 2, "--limit"),
        (["dlq", "purge", "--older-than", "x", "--yes"], 2, "--older-than: 'x'"),
    ],
)
def test_refused(cli: Cli, words: list[str], status: int, said: str) -> None:
    """What is not dead is none of the dead letter queue's business, and all stays as it is."""
    cli.dead("false", "--id", "dead")
    cli.enqueue("true", "--id", "waits")
    before = cli.states()
    ran = cli(*words)
    assert (ran.status, ran.out) == (status, "")
    assert said in ran.err
    assert cli.states() == before


def test_purge(cli: Cli) -> None:
    """`dlq purge` removes the dead jobs that are old enough, and nothing else."""
    cli.dead()
    kept = cli.completed()
    assert (
        cli.done("dlq", "purge", "--older-than", "1h", "--yes").out
        == "There is nothing to remove.\n"
    )
    ran = cli.done("dlq", "purge", "--yes", "--json")
    assert ran.json == {"matched": 1, "removed": 1, "dry_run": False}
    assert cli.states() == {kept: "completed"}
