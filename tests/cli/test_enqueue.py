from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.support import Cli, Terminal
from tests.support import MAIN, ROOT, clean_environment

JOB_FIELDS = [
    "id",
    "command",
    "state",
    "attempts",
    "max_retries",
    "created_at",
    "updated_at",
    "next_run_at",
    "priority",
    "queue",
    "cwd",
    "env",
    "timeout",
    "backoff_base",
    "on_lost",
    "max_losses",
    "losses",
    "exit_code",
    "signal",
    "error",
    "started_at",
    "finished_at",
    "worker",
    "cancel_requested_at",
    "requires",
]


def test_says_one_line_on_stdout(cli: Cli) -> None:
    """The line that the original printed is alone on stdout; that a queue was made is talk."""
    first = cli.done("enqueue", "--command", "true", "--id", "one")
    assert first.out == "Enqueued job: one\n"
    assert first.err == f"Made a new queue: {cli.database}\n"
    assert cli.done("enqueue", "--command", "true", "--id", "two") == (0, "Enqueued job: two\n", "")


def test_job_keeps_what_the_options_say(cli: Cli) -> None:
    """Every option of the job arrives in the queue, lengths of time in seconds."""
    (cli.folder / "work").mkdir()
    options = (
        "--id j --max-retries 7 --priority -5 --timeout 1h30m --backoff-base 1.5 --cwd work"
        " --env A=1 --env B=x=y --on-lost hold --max-losses 2 --delay 90s"
    )
    cli.done("enqueue", "--command", "echo hi", *options.split())
    job = cli.job("j")
    assert (job.command, job.max_retries, job.priority) == ("echo hi", 7, -5)
    assert (job.timeout, job.backoff_base) == (5400, 1.5)
    assert (job.on_lost, job.max_losses) == ("hold", 2)
    assert job.cwd == str(cli.folder / "work")
    assert job.env == {"A": "1", "B": "x=y"}
    assert job.next_run_at is not None
    assert job.next_run_at - job.created_at == pytest.approx(90e6, abs=5e6)


def test_job_runs_where_it_was_queued_and_not_where_the_queue_is(cli: Cli) -> None:
    """From a folder below the queue's, the queue above is used and the job keeps its own folder."""
    cli.done("init")
    below = cli.folder / "a" / "b"
    below.mkdir(parents=True)
    os.chdir(below)
    ran = cli.done("enqueue", "--command", "true", "--id", "j")
    assert ran.err == ""
    assert cli.job("j").cwd == str(below)


@pytest.mark.parametrize(
    ("content", "command"),
    [
        (b"echo one\n", "echo one"),
        (b"\xef\xbb\xbfecho two", "echo two"),
        ("echo three\r\n".encode("utf-16"), "echo three"),
        (b"a\r\nb\r\n", "a\nb"),
    ],
)
def test_command_from_a_file(cli: Cli, content: bytes, command: str) -> None:
    """A command file may be what Windows' editors write; a script keeps its lines."""
    (cli.folder / "cmd.txt").write_bytes(content)
    cli.done("enqueue", "--command-file", "cmd.txt", "--id", "j")
    assert cli.job("j").command == command


def test_command_from_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """--command-file - reads the command from stdin."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"echo piped\n")))
    cli.done("enqueue", "--command-file", "-", "--id", "j")
    assert cli.job("j").command == "echo piped"


def test_job_as_json_argument_and_file(cli: Cli) -> None:
    """One JSON object, as an argument or in a file, is a whole job; options win over its fields."""
    cli.done("enqueue", '{"id": "job1", "command": "sleep 2", "max_retries": 1}')
    (cli.folder / "job.json").write_text('{"id": "x", "command": "true", "delay": 60}')
    cli.done(
        "enqueue", "--job-file", "job.json", "--id", "job2", "--run-at", "2030-01-01T00:00:00Z"
    )
    assert (cli.job("job1").command, cli.job("job1").max_retries) == ("sleep 2", 1)
    at = cli.job("job2").next_run_at
    assert at == int(datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1e6)


def test_json_may_hold_the_words_of_a_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of words is a command in each form of JSON, quoted as the words behind -- are."""
    words = ["echo", "a b", "it's"]
    text = json.dumps({"command": words})
    cli.done("enqueue", "--id", "plain", "--", *words)
    cli.done("enqueue", text, "--id", "argument")
    (cli.folder / "job.json").write_text(text)
    cli.done("enqueue", "--job-file", "job.json", "--id", "file")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    [many] = cli.done("enqueue", "--jobs-file", "-", "-q").lines
    line = cli.job("plain").command
    assert [cli.job(name).command for name in ("argument", "file", many)] == [line] * 3


def test_whole_shown_job_is_refused_readably(cli: Cli) -> None:
    """What only the queue writes is told in one sentence and one hint when a job is fed back."""
    cli.enqueue("true", "--id", "one")
    ran = cli("enqueue", json.dumps(cli.done("show", "one", "--json").json))
    first, *others = ran.err.splitlines()
    assert first.startswith("queuectl: the JSON argument: queue, losses, exit_code, ")
    assert first.count("written by the queue") == 1
    assert others == ["  Leave out what the queue itself writes."]


@pytest.mark.parametrize(
    "words",
    [
        ["enqueue", "--command", "echo first", "--command", "echo second"],
        ["enqueue", "--command-file", "a", "--command-file", "b"],
        ["enqueue", "--job-file", "a.json", "--job-file", "b.json"],
        ["enqueue", "--jobs-file", "a.jsonl", "--jobs-file", "b.jsonl"],
        ["enqueue", "--command", "a", "--", "b"],
        ["enqueue", "{}", "--job-file", "b"],
        ["run", "--command", "echo first", "--command", "echo second"],
    ],
)
def test_no_command_is_dropped(cli: Cli, words: list[str]) -> None:
    """Of two commands none is run silently in place of both, also where one option gave them."""
    ran = cli(*words)
    assert (ran.status, ran.out) == (2, "")
    assert "more than one command" in ran.err
    assert cli.states() == {}


def test_another_option_given_twice_counts_the_last_time(cli: Cli) -> None:
    """An option that says how a job runs may be given again, as in any other program."""
    cli.done("enqueue", "--command", "true", "--id", "j", "--priority", "1", "--priority", "2")
    assert cli.job("j").priority == 2


def test_jobs_from_nothing_names_stdin(cli: Cli) -> None:
    """Where a pipe brought no jobs, the message says so as it does of a file."""
    assert "stdin is empty: there are no jobs in it" in cli("enqueue", "--jobs-file", "-").err


def test_folder_that_is_none_now_is_pointed_out(cli: Cli) -> None:
    """A job may wait for a folder that is still to be made: it is queued, with a remark."""
    (cli.folder / "file").write_text("")
    for place in ("file", "not/yet"):
        ran = cli.done("enqueue", "--command", "true", "--cwd", place)
        assert f"{cli.folder / place} is not a folder now" in ran.err
    assert "not a folder" not in cli.done("enqueue", "--command", "true", "--cwd", ".").err


def test_hidden_value_is_not_queued_as_the_secret(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was shown without the values of its environment cannot be queued again; a value
    of --env is taken as it is written.
    """
    cli.enqueue("true", "--id", "one", "--env", "SECRET=hunter2")
    shown = cli.done("show", "one", "--json").json
    job = json.dumps({"id": "two", "command": shown["command"], "env": shown["env"]})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(job.encode())))
    for words in (["enqueue", job], ["enqueue", "--jobs-file", "-"]):
        ran = cli(*words)
        assert ran.status == 2
        assert "env SECRET is ***" in ran.err
        assert "--show-env" in ran.err
    cli.done("enqueue", job, "--env", "SECRET=***")
    assert cli.job("two").env == {"SECRET": "***"}


def test_shown_job_can_be_queued_again(cli: Cli) -> None:
    """The fields a new job has in `show --json` make the same job once more."""
    cli.enqueue("echo again", "--id", "one", "--priority", "4")
    shown = cli.done("show", "one", "--json").json
    wanted = (
        "command",
        "state",
        "attempts",
        "max_retries",
        "created_at",
        "next_run_at",
        "priority",
    )
    cli.done("enqueue", json.dumps({"id": "two", **{name: shown[name] for name in wanted}}))
    assert (cli.job("two").command, cli.job("two").priority) == ("echo again", 4)


def test_time_in_words_is_echoed(cli: Cli) -> None:
    """What a time in words was taken for is said on stderr, in UTC; ISO 8601 needs no echo."""
    cli.done("init")
    said = cli.done("enqueue", "--command", "true", "--id", "j", "--run-at", "in 2 hours")
    at = cli.job("j").next_run_at
    assert at is not None
    moment = datetime.fromtimestamp(at // 1_000_000, UTC)
    assert said.err == f"Runs at {moment:%Y-%m-%dT%H:%M:%SZ}\n"
    assert cli.done("enqueue", "--command", "true", "--run-at", "2030-01-01T00:00:00Z").err == ""
    (cli.folder / "job.json").write_text('{"command": "true", "run_at": "in 2 hours"}')
    for words in (["--job-file", "job.json"], ['{"command": "true", "next_run_at": "in 2 hours"}']):
        assert cli.done("enqueue", *words).err.startswith("Runs at 2")
        assert cli.done("enqueue", *words, "--delay", "5").err == ""


def test_json_is_the_job_object(cli: Cli) -> None:
    """`enqueue --json` prints the whole job, the original's fields first, and hides its secrets."""
    ran = cli.done("enqueue", "--command", "true", "--env", "TOKEN=secret", "--json")
    assert list(ran.json) == JOB_FIELDS
    assert ran.json["env"] == {"TOKEN": "***"}
    shown = cli.done("enqueue", "--command", "x", "--env", "TOKEN=secret", "--json", "--show-env")
    assert shown.json["env"] == {"TOKEN": "secret"}


def test_jobs_file(cli: Cli) -> None:
    """A file of jobs is queued whole, in its order; -q prints the ids, --json counts them too."""
    (cli.folder / "jobs.jsonl").write_text(
        '{"command": "a", "id": "a"}\n\n{"command": "b", "id": "b"}\n'
    )
    assert cli.done("enqueue", "--jobs-file", "jobs.jsonl").out == "Enqueued 2 jobs\n"
    assert list(cli.states()) == ["b", "a"]
    (cli.folder / "jobs.jsonl").write_text('{"command": "c", "id": "c"}\n')
    ran = cli.done("enqueue", "--jobs-file", "jobs.jsonl", "--json")
    assert ran.json == {"enqueued": 1, "ids": ["c"]}


def test_jobs_file_from_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """--jobs-file - reads the jobs from stdin."""
    stdin = io.TextIOWrapper(
        io.BytesIO(b'{"command": "a", "id": "a"}\n{"command": "b", "id": "b"}\n')
    )
    monkeypatch.setattr("sys.stdin", stdin)
    assert cli.done("enqueue", "--jobs-file", "-", "-q").lines == ["a", "b"]


def test_slow_jobs_file_shows_progress(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a file that takes long shows how far it is; one that does not, nothing."""
    lines = "".join(f'{{"command": "true", "id": "{n}"}}\n' for n in range(2_000))
    (cli.folder / "jobs.jsonl").write_text(lines)
    cli.done("init")
    quick, slow = Terminal(), Terminal()
    monkeypatch.setattr("sys.stderr", quick)
    monkeypatch.setattr("queuectl.cli.jobs_file._QUIET_SECONDS", 1_000)
    cli.done("enqueue", "--jobs-file", "jobs.jsonl")
    cli.done("delete", "--yes", *cli.states())
    monkeypatch.setattr("sys.stderr", slow)
    monkeypatch.setattr("queuectl.cli.jobs_file._QUIET_SECONDS", 0)
    cli.done("enqueue", "--jobs-file", "jobs.jsonl")
    assert quick.getvalue() == ""
    assert "jobs read" in slow.getvalue()


BAD = [
    (["enqueue"], 2, "nothing to queue"),
    (["enqueue", "--command", "a", "--command-file", "b"], 2, "more than one"),
    (["enqueue", "--command", "a", "--", "b"], 2, "more than one"),
    (["enqueue", "--"], 2, "no command follows --"),
    (["enqueue", "--", ""], 2, "no command follows --"),
    (["enqueue", "--", " ", "x"], 2, "no command follows --"),
    (["enqueue", "--command", ""], 2, "empty"),
    (["enqueue", "--command", " \t"], 2, "empty"),
    (["enqueue", "--command", "a\0b"], 2, "NUL"),
    (["enqueue", "--command", "x" * 10_000_000], 2, "bytes long"),
    (["enqueue", "--command", "a", "--id", "a/b"], 2, "id 'a/b'"),
    (["enqueue", "--command", "a", "--id", ".."], 2, "id"),
    (["enqueue", "--command", "a", "--id", "x\x1b[2J"], 2, "\\x1b"),
    (["enqueue", "--command", "a", "--id", "x" * 201], 2, "id"),
    (["enqueue", "--command", "a", "--id", "a\u200bb"], 2, "id 'a\\u200bb' contains U+200B"),
    (["enqueue", "--command", "a", "--id", "taken"], 4, "already in the queue"),
    (["enqueue", "--command", "a", "--max-retries", "-1"], 2, "--max-retries"),
    (["enqueue", "--command", "a", "--max-retries", "1_0"], 2, "--max-retries"),
    (["enqueue", "--command", "a", "--max-retries", "9" * 5_000], 2, "from 0 to 1000"),
    (["enqueue", "--command", "a", "--priority", "1.5"], 2, "--priority"),
    (["enqueue", "--command", "a", "--backoff-base", "nan"], 2, "--backoff-base"),
    (["enqueue", "--command", "a", "--backoff-base", "many"], 2, "--backoff-base"),
    (["enqueue", "--command", "a", "--backoff-base", "-1"], 2, "not -1\n"),
    (["enqueue", "--command", "a", "--delay", "-5"], 2, "--delay"),
    (["enqueue", "--command", "a", "--delay", "soon"], 2, "--delay: "),
    (["enqueue", "--command", "a", "--run-at", "whenever"], 2, "--run-at: "),
    (
        ["enqueue", "--command", "a", "--run-at", "now", "--delay", "5"],
        2,
        "--run-at and --delay are",
    ),
    (["enqueue", "--command", "a", "--timeout", "1e99"], 2, "timeout"),
    (["enqueue", "--command", "a", "--timeout", "3650d"], 2, "'3650d' is longer than 365d"),
    (["enqueue", "--command", "a", "--on-lost", "panic"], 2, "--on-lost"),
    (["enqueue", "--command", "a", "--env", "NOVALUE"], 2, "KEY=VALUE"),
    (["enqueue", "--command", "a", "--env", "=x"], 2, "env"),
    (["enqueue", '{"command": "a"}', "--max-retries", "-1"], 2, ": --max-retries must"),
    (["enqueue", '{"command": "a", "max_retries": -1}'], 2, ": max_retries must"),
    (["enqueue", "--job-file", ""], 2, "cannot read '': the name of the file is empty"),
    (["enqueue", "[1]"], 2, "not a JSON object"),
    (["enqueue", '{"command": "a"'], 2, "the JSON argument"),
    (["enqueue", '{"command": "a", "comand": "b"}'], 2, "Did you mean 'command'"),
    (["enqueue", '{"command": 5}'], 2, "must be a string"),
    (["enqueue", '{"command": []}'], 2, "the command is empty"),
    (["enqueue", '{"command": ["sleep", 5]}'], 2, "word 2 of the command must be a string"),
    (["enqueue", '{"command": "a", "state": "dead"}'], 2, "pending"),
    (["enqueue", '{"command": "a", "attempts": 2}'], 2, "attempts"),
    (["enqueue", "--job-file", "missing.json"], 2, "missing.json: No such file"),
    (["enqueue", "--command-file", "missing.txt"], 2, "missing.txt: No such file"),
    (["enqueue", "--command-file", "."], 2, "cannot read ."),
    (["enqueue", "--command-file", "empty.txt"], 2, "empty"),
    (["enqueue", "--command-file", "latin1.txt"], 2, "not UTF-8"),
    (["enqueue", "--jobs-file", "missing.jsonl"], 2, "missing.jsonl: No such file"),
    (["enqueue", "--jobs-file", "empty.txt"], 2, "empty.txt is empty: there are no jobs"),
    (["enqueue", "--jobs-file", "bad.jsonl"], 2, "bad.jsonl: line 3:"),
    (
        ["enqueue", "--jobs-file", "taken.jsonl"],
        4,
        "taken.jsonl: line 3: a job with the id 'taken'",
    ),
    (["enqueue", "--job-file", "empty.txt"], 2, "empty.txt is empty"),
    (["enqueue", "--jobs-file", "good.jsonl", "--priority", "5"], 2, "--priority"),
]


@pytest.mark.parametrize(("words", "status", "said"), BAD)
def test_bad_input_changes_nothing(cli: Cli, words: list[str], status: int, said: str) -> None:
    """What cannot be accepted is refused with one clear line, and the queue stays as it was."""
    cli.enqueue("true", "--id", "taken")
    (cli.folder / "empty.txt").write_text("\n")
    (cli.folder / "latin1.txt").write_bytes(b"echo caf\xe9")
    (cli.folder / "good.jsonl").write_text('{"command": "a"}\n')
    (cli.folder / "bad.jsonl").write_text('{"command": "a"}\n\n{"command": ""}\n')
    (cli.folder / "taken.jsonl").write_text('{"command": "a"}\n\n{"command": "a", "id": "taken"}\n')
    ran = cli(*words)
    assert (ran.status, ran.out) == (status, "")
    first, *others = ran.err.splitlines()
    assert first.startswith("queuectl: ")
    assert said in ran.err
    assert all(line.startswith("  ") for line in others)
    assert len(others) <= 1
    assert cli.states() == {"taken": "pending"}


def test_bad_input_makes_no_queue(cli: Cli) -> None:
    """A refused job leaves no new queue behind."""
    assert cli("enqueue", "--command", "").status == 2
    assert list(cli.folder.iterdir()) == []


def test_secrets_stay_out_of_errors(cli: Cli) -> None:
    """An error about an environment variable never repeats its value."""
    pairs = ["=hunter2", "hunter2", "QUEUECTL_JOB_ID=hunter2", "A=hunter2\0"]
    if os.name == "posix":
        pairs += ["B AD=hunter2", "A-B=hunter2"]
    for pair in pairs:
        ran = cli("enqueue", "--command", "true", "--env", pair)
        assert ran.status == 2
        assert "hunter2" not in ran.err


def test_files_are_private(cli: Cli) -> None:
    """Commands and their environment can be read by nobody but their owner."""
    cli.enqueue()
    assert stat.S_IMODE(cli.database.stat().st_mode) == 0o600


HEAVY = (
    "typing dataclasses json datetime pathlib uuid subprocess logging shlex importlib.metadata inspect"
    " socket rich psutil random contextlib tempfile sqlite3 queuectl.job_logs queuectl.jobs.when"
    " queuectl.jobs.duration queuectl.jobs.job_view queuectl.storage.job_storage"
    " queuectl.storage.refusals queuectl.storage.postgres queuectl.location psycopg2"
).split()


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["enqueue", "--command", "true"], HEAVY),
        (["enqueue", "--command", "true", "--priority", "3", "--max-retries", "1"], HEAVY),
        (["--help"], [*HEAVY, "argparse", "apsw", "re"]),
        (["status"], [name for name in HEAVY if name != "socket"]),
        (
            ["worker-start", "--drain"],
            ["queuectl.storage.postgres", "queuectl.location", "psycopg2"],
        ),
    ],
)
def test_frequent_commands_load_little(tmp_path: Path, words: list[str], heavy: list[str]) -> None:
    """What is started often loads no module that it does not need: that is most of its time."""
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT / "src")}
    # -S: what an environment's own start-up files load is not ours to answer for.
    script = (
        f"import sys; sys.path += {sys.path!r}\nfrom queuectl.cli import main\n"
        "assert main(sys.argv[1:]) == 0; print(*sys.modules)"
    )
    for _ in range(2):  # The first makes the queue.
        subprocess.run(
            [*MAIN, "enqueue", "--command", "true"], cwd=tmp_path, env=environment, check=True
        )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", script, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(heavy) & set(ran.stdout.splitlines()[-1].split())
