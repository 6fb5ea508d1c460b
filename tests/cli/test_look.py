from __future__ import annotations

import pytest

from queuectl.jobs.outcome import exited
from tests.cli.support import FAILED, Cli, hand_worker
from tests.cli.test_enqueue import JOB_FIELDS

STATES = ["pending", "processing", "completed", "failed", "dead", "cancelled", "blocked"]


def _one_in_each_state(cli: Cli) -> None:
    cli.completed("echo completed", "--id", "completed")
    cli.dead("echo dead", "--id", "dead")
    cli.enqueue("echo failed", "--id", "failed", "--backoff-base", "3600")
    cli.finish("failed", FAILED)
    cli.enqueue("echo cancelled", "--id", "cancelled")
    cli.done("cancel", "cancelled")
    cli.enqueue("echo later", "--id", "later", "--delay", "1h")
    cli.enqueue("echo now", "--id", "now", "--priority", "9")


def test_list_shows_the_newest_first(cli: Cli) -> None:
    """The table has a line for each job, the newest on top, with its state and its runs."""
    _one_in_each_state(cli)
    ran = cli.done("list")
    assert ran.lines[0].split() == "ID STATE RUNS PRIORITY CREATED DUE COMMAND".split()
    rows = [line.split(maxsplit=3) for line in ran.lines[1:]]
    assert [row[:3] for row in rows] == [
        ["now", "pending", "0/4"],
        ["later", "pending", "0/4"],
        ["cancelled", "cancelled", "0/4"],
        ["failed", "failed", "1/4"],
        ["dead", "dead", "1/1"],
        ["completed", "completed", "1/4"],
    ]
    assert "in 1h" in ran.lines[2]
    assert ran.err == ""


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--state", "dead"], ["dead"]),
        (["--state", "dead", "--state", "completed"], ["dead", "completed"]),
        (["--state", "pending,FAILED"], ["now", "later", "failed"]),
        (["--limit", "2"], ["now", "later"]),
        (["--limit", "2", "--reverse"], ["completed", "dead"]),
        (["--sort", "id"], ["cancelled", "completed", "dead", "failed", "later", "now"]),
        (["--sort", "priority", "--limit", "1"], ["now"]),
        (["--sort", "attempts", "--limit", "3"], ["failed", "dead", "completed"]),
        (["--state", "pending,failed", "--sort", "next_run"], ["now", "failed", "later"]),
        (["--sort", "updated", "--limit", "1"], ["now"]),
    ],
)
def test_list_options(cli: Cli, options: list[str], ids: list[str]) -> None:
    """States, order and number of the jobs are the ones asked for, and -q prints ids alone."""
    _one_in_each_state(cli)
    assert cli.done("list", "-q", *options).lines == ids


def test_long_table_is_cut_and_says_so(cli: Cli) -> None:
    """Without --limit a table ends after 50 rows, with a remark; --json and -q give everything."""
    (cli.folder / "jobs.jsonl").write_text('{"command": "true"}\n' * 60)
    cli.done("enqueue", "--jobs-file", "jobs.jsonl")
    ran = cli.done("list")
    assert len(ran.lines) == 51
    assert ran.err == "Showing 50 of 60; see more with --limit N or --limit all.\n"
    for options in (["--limit", "all"], ["--limit", "60"]):
        whole = cli.done("list", *options)
        assert (len(whole.lines), whole.err) == (61, "")
    assert len(cli.done("list", "-q").lines) == 60
    assert len(cli.done("list", "--json").json) == 60
    assert len(cli.done("list", "--json", "--limit", "7").json) == 7


def test_nothing_to_list(cli: Cli) -> None:
    """An empty list is nothing on stdout, a remark on stderr, and an empty array in JSON."""
    cli.done("init")
    assert cli.done("list") == (0, "", "The queue is empty.\n")
    assert cli.done("list", "--state", "dead") == (0, "", "There are no such jobs.\n")
    assert cli.done("dlq", "list") == (0, "", "The dead letter queue is empty.\n")
    assert cli.done("worker-list") == (0, "", "No workers.\n")
    assert cli.done("list", "-q") == (0, "", "")
    assert cli.done("list", "--json").json == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--limit", "0"], "--limit must be from 1"),
        (["--limit", "-3"], "--limit must be from 1"),
        (["--limit", "9" * 12], "--limit must be from 1"),
        (["--limit", "few"], "--limit must be a whole number"),
        (["--state", "scheduled"], "scheduled is not a state"),
        (["--state", "dead,nope"], "--state cannot be 'nope'"),
        (["--state", ""], "--state cannot be ''"),
        (["--sort", "size"], "--sort cannot be 'size'"),
    ],
)
def test_bad_list_options(cli: Cli, options: list[str], said: str) -> None:
    """A value that cannot be meant is refused before anything is read."""
    cli.done("init")
    ran = cli("list", *options)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err


def test_list_json(cli: Cli) -> None:
    """`list --json` is an array of job objects in which secrets are hidden, unless asked for."""
    cli.enqueue("true", "--id", "j", "--env", "TOKEN=secret")
    (job,) = cli.done("list", "--json").json
    assert list(job) == JOB_FIELDS
    assert (job["id"], job["env"]) == ("j", {"TOKEN": "***"})
    assert cli.done("list", "--json", "--show-env").json[0]["env"] == {"TOKEN": "secret"}


def test_show_tells_all_of_a_dead_job(cli: Cli) -> None:
    """`show` has the fields, the attempts, the end of the output, and what can be done next."""
    job_id = cli.enqueue(
        "make report", "--max-retries", "1", "--env", "TOKEN=secret", "--timeout", "90"
    )
    cli.finish(job_id, exited(2), b"first\n")
    cli.finish(job_id, FAILED, b"".join(b"line %d\n" % n for n in range(30)))
    text = cli.done("show", job_id).out
    fields = dict(line.split(maxsplit=1) for line in text.split("\n\n")[0].splitlines())
    assert fields["Job"] == job_id
    assert fields["Command"] == "make report"
    assert fields["State"] == "dead"
    assert fields["Runs"] == "2 of 2"
    assert fields["Error"] == "exit status 3"
    assert fields["Environment"] == "TOKEN=***"
    assert fields["Timeout"] == "1m 30s"
    assert "exit status 2" in text.split("\n\n")[1].splitlines()[1]
    assert "  line 29\n" in text
    assert "line 20\n" not in text
    assert f"queuectl retry {job_id}\n" in text
    assert "TOKEN=secret" in cli.done("show", job_id, "--show-env").out


def test_show_json(cli: Cli) -> None:
    """`show --json` is the job object with its attempts, oldest first, in the pinned shape."""
    job_id = cli.enqueue("true", "--env", "TOKEN=secret")
    cli.finish(job_id, FAILED)
    shown = cli.done("show", job_id, "--json").json
    assert list(shown) == [*JOB_FIELDS, "attempt_log"]
    (attempt,) = shown["attempt_log"]
    assert list(attempt) == (
        "attempt started_at finished_at outcome exit_code signal error worker".split()
    )
    assert (attempt["outcome"], attempt["exit_code"]) == ("failed", 3)
    assert (shown["state"], shown["error"], shown["worker"]) == (
        "failed",
        "exit status 3",
        "hand:1",
    )
    assert shown["env"] == {"TOKEN": "***"}
    assert shown["created_at"].endswith("Z")


def test_show_a_running_job(cli: Cli) -> None:
    """A job that runs shows its unfinished attempt."""
    job_id = cli.enqueue("sleep 60")
    with hand_worker(cli.database) as worker:
        worker.claim()
        shown = cli.done("show", job_id, "--json").json
        assert [a["outcome"] for a in shown["attempt_log"]] == ["running"]
        assert shown["attempt_log"][0]["finished_at"] is None
        assert "running" in cli.done("show", job_id).out


def test_every_way_to_name_a_job(cli: Cli) -> None:
    """The whole id, the beginning of an id and @last name a job; -q says which it is."""
    cli.enqueue("true", "--id", "nightly-1")
    last = cli.enqueue("true", "--id", "weekly-1")
    assert cli.done("show", "nightly-1", "-q").out == "nightly-1\n"
    assert cli.done("show", "nigh", "-q").out == "nightly-1\n"
    assert cli.done("show", "@last", "-q").out == f"{last}\n"


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("nope", 3, "there is no job 'nope'"),
        ("nig", 3, "there is no job 'nig'"),
        ("nightly", 2, "several"),
        ("x\x1b[2J", 3, "\\x1b[2J"),
    ],
)
def test_names_that_name_no_job(cli: Cli, name: str, status: int, said: str) -> None:
    """An unknown, a too short and an ambiguous name are told apart."""
    cli.enqueue("true", "--id", "nightly-1")
    cli.enqueue("true", "--id", "nightly-2")
    ran = cli("show", name)
    assert (ran.status, ran.out) == (status, "")
    assert said in ran.err
    assert "\x1b" not in ran.err


def test_control_characters_are_made_visible(cli: Cli) -> None:
    """What a command or its output does to a terminal is shown, not done."""
    job_id = cli.dead("printf '\x1b[2J\x07' # \u202e")
    cli.finish(cli.enqueue("x"), FAILED, b"\x1b]0;title\x07\rred\n")
    for words in (["list"], ["dlq", "list"], ["show", job_id], ["show", "@last"]):
        out = cli.done(*words).out
        assert not any(ch in out for ch in "\x1b\x07\r\u202e"), words
    assert "\\x1b[2J\\x07" in cli.done("list").out
    assert "\\x1b]0;title\\x07" in cli.done("show", "@last").out


def test_output_of_one_endless_line(cli: Cli) -> None:
    """`show` stays short when the output is one line of many megabytes."""
    job_id = cli.enqueue()
    cli.finish(job_id, FAILED, b"x" * 3_000_000)
    assert len(cli.done("show", job_id).out) < 20_000


def test_status_counts_every_state(cli: Cli) -> None:
    """`status` has a line for each state, and says where the queue is and that nobody works."""
    _one_in_each_state(cli)
    ran = cli.done("status")
    counts = dict(line.split() for line in ran.lines[: len(STATES)])
    assert counts == dict(zip(STATES, "2 0 1 1 1 1 0".split(), strict=True))
    text = ran.out.split("\n\n")[1]
    assert "scheduled   2 " in text
    assert "none alive; start one with: queuectl worker-start" in text
    assert str(cli.database) in text


def test_status_json(cli: Cli) -> None:
    """`status --json` has the pinned shape, and a worker is seen at work."""
    cli.enqueue("sleep 60")
    with hand_worker(cli.database) as worker:
        worker.claim()
        status = cli.done("status", "--json").json
        assert list(status) == ["jobs", "scheduled", "workers", "unmet", "database"]
        assert list(status["jobs"]) == STATES
        assert status["jobs"]["processing"] == 1
        (shown,) = status["workers"]
        assert list(shown) == (
            "id name host pid slots mode tags state running started_at heartbeat_at".split()
        )
        assert (shown["name"], shown["state"], shown["running"]) == ("hand:1", "alive", 1)
        assert "1 alive, 1 of 4 slots in use\n" in cli.done("status").out


def test_status_tells_what_runs_from_what_is_claimed_ahead(cli: Cli) -> None:
    """No more slots are in use than there are, worker by worker; what is held beyond them is named."""
    for _ in range(8):
        cli.enqueue("sleep 60")
    with hand_worker(cli.database) as worker, hand_worker(cli.database) as other:
        worker.claim(4)
        other.claim(1)
        assert "2 alive, 5 of 8 slots in use\n" in cli.done("status").out
        worker.claim(1)
        assert "2 alive, 5 of 8 slots in use; 1 more job claimed to run next\n" in (
            cli.done("status").out
        )
        worker.claim(2)
        assert "2 alive, 5 of 8 slots in use; 3 more jobs claimed to run next\n" in (
            cli.done("status").out
        )
        shown = cli.done("status", "--json").json["workers"]
        assert [each["running"] for each in shown] == [7, 1]


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["status"],
        ["show", "x"],
        ["logs", "x"],
        ["wait", "x"],
        ["cancel", "x"],
        ["retry", "x"],
        ["delete", "x"],
        ["prune", "--older-than", "0"],
        ["dlq", "list"],
        ["dlq", "retry", "--all"],
        ["dlq", "purge", "--yes"],
        ["worker-list"],
    ],
)
def test_without_a_queue(cli: Cli, words: list[str]) -> None:
    """Commands that only read or decide make no queue: they say that there is none, and how to."""
    ran = cli(*words)
    assert (ran.status, ran.out) == (3, "")
    assert "there is no queue" in ran.err
    assert "queuectl init" in ran.err
    assert list(cli.folder.iterdir()) == []
