"""The command line on a queue that is on a server: which one is meant, and what is shown of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl.cli import COMMANDS
from queuectl.engine import stopping
from queuectl.job_queue import JobQueue
from queuectl.storage import open_worker_storage
from queuectl.storage.postgres.migrate import SCHEMA_VERSION
from tests import postgres
from tests.support import (
    MAIN,
    ROOT,
    Sandbox,
    clean_environment,
    this_process_as_worker,
    wait_until,
)

PASSWORD = "s3cr3t-w0rd"

DUMPS = ROOT / "tests" / "contract" / "data"


@pytest.fixture
def url() -> Iterator[str]:
    """An empty database, and a password in its URL."""
    for url in postgres.new_url():
        yield url.replace("postgres@", f"postgres:{PASSWORD}@")


@pytest.fixture
def remote(sandbox: Sandbox, url: str) -> Sandbox:
    """A folder without a queue, in whose environment one on a server is named."""
    sandbox.environ |= {
        "QUEUECTL_DATABASE_URL": url,
        "QUEUECTL_HOME": str(sandbox.folder / "home"),
    }
    return sandbox


def folder_of(remote: Sandbox) -> Path:
    """This machine's folder for the queue."""
    (folder,) = (remote.folder / "home").iterdir()
    return folder


def done(sandbox: Sandbox, *words: str) -> str:
    """A command line that has to end well; what it printed."""
    ran = sandbox.run(*words)
    assert ran.returncode == 0, ran
    return ran.stdout


def test_a_queue_from_its_making_to_its_end(remote: Sandbox) -> None:
    """The same commands as on a file: made, filled, drained, looked at, and its files in a folder
    that nobody else may enter.
    """
    assert "Made a new queue: postgresql://" in done(remote, "init")
    assert "There is a queue already" in done(remote, "init")
    job_id = done(remote, "enqueue", "-q", "--command", "echo out").strip()
    dead = done(remote, "enqueue", "-q", "--command", "exit 3", "--max-retries", "0").strip()
    done(remote, "worker-start", "--drain", "--count", "2")
    assert json.loads(done(remote, "show", job_id, "--json"))["state"] == "completed"
    assert "out\n" in done(remote, "logs", job_id)
    assert done(remote, "dlq", "list", "-q").strip() == dead
    done(remote, "dlq", "retry", dead)
    done(remote, "cancel", dead)
    counts = json.loads(done(remote, "status", "--json"))["jobs"]
    assert (counts["completed"], counts["cancelled"]) == (1, 1)
    done(remote, "delete", dead)
    assert done(remote, "list", "-q").strip() == job_id
    assert "sound, 1 job, PostgreSQL" in done(remote, "doctor")
    folder = folder_of(remote)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "job_logs" / f"{job_id}.log").exists()
    assert not remote.database.exists()


def test_the_first_job_makes_the_queue(remote: Sandbox) -> None:
    """As with a file, and it is said once."""
    assert "Made a new queue: postgresql://" in remote.run("enqueue", "--command", "true").stderr
    assert "Made" not in remote.run("enqueue", "--command", "true").stderr


def test_a_worker_in_the_background(remote: Sandbox) -> None:
    """It is started, listed, runs a job and is stopped, by its pidfile in the queue's folder."""
    done(remote, "worker-start", "--background")
    assert (folder_of(remote) / "queuectl.pid").exists()
    assert remote.run("worker-start", "--background").returncode == 4
    (folder_of(remote) / "queuectl.pid").unlink()
    assert remote.run("worker-start", "--background").returncode == 4
    job_id = done(remote, "enqueue", "-q", "--command", "true").strip()
    done(remote, "wait", job_id, "--timeout", "30")
    assert len(json.loads(done(remote, "worker-list", "--json"))) == 1
    assert "Stopped 1 worker" in done(remote, "worker-stop")
    assert json.loads(done(remote, "worker-list", "--json")) == []


def test_the_password_of_a_command_line_cannot_be_seen(remote: Sandbox, url: str) -> None:
    """A process that was started with it in its words soon runs without it, and works."""
    del remote.environ["QUEUECTL_DATABASE_URL"]
    worker = remote.start_worker(
        program=[*MAIN, "--schema", "other", "worker-start", "--db", url], ready=False
    )
    worker.wait_for(" started: ")
    words = Path(f"/proc/{worker.pid}/cmdline").read_bytes().split(b"\0")
    assert PASSWORD.encode() not in b"".join(words)
    assert [word for word in words if b"--schema" in word]
    assert "schema=other" in worker.said
    assert worker.stop() == 0


def test_a_job_can_enqueue_jobs(remote: Sandbox, url: str) -> None:
    """Whatever named the queue to the worker, plain `queuectl enqueue` in a command means it too."""
    del remote.environ["QUEUECTL_DATABASE_URL"]
    here = [f"--db={url}", "--schema", "of jobs"]
    line = " ".join([*MAIN, "enqueue", "--id", "inner", "--command", "true"])
    done(remote, *here, "enqueue", "--id", "outer", "--cwd", "/", "--command", line)
    done(remote, *here, "worker-start", "--drain")
    assert done(remote, *here, "list", "-q", "--state", "completed").split() == ["inner", "outer"]


def test_a_job_of_a_file_is_told_of_no_server(remote: Sandbox) -> None:
    """A worker on a file hands no URL on: its commands would put jobs into another queue."""
    path = str(remote.folder / "file.db")
    line = " ".join([*MAIN, "enqueue", "--id", "inner", "--command", "true"])
    done(remote, "--db", path, "enqueue", "--id", "outer", "--command", line)
    done(remote, "--db", path, "worker-start", "--drain")
    assert done(remote, "--db", path, "list", "-q").split() == ["inner", "outer"]


def test_which_queue_is_meant(remote: Sandbox, url: str) -> None:
    """--db goes before the URL of the environment, that before a path, that before the nearest
    folder's: of its URL and its file, the URL.
    """
    del remote.environ["QUEUECTL_DATABASE_URL"]
    (remote.folder / "queuectl_config.json").write_text(
        json.dumps({"database_url": url + "&schema=config"})
    )
    remote.queue.enqueue("true", id="in-the-file")
    path = str(remote.folder / "named.db")
    inner = remote.folder / "inner"
    inner.mkdir()
    env: dict[str, str] = {}
    found = []
    for more, words in (
        ({}, []),
        ({"QUEUECTL_DB_PATH": path}, []),
        ({"QUEUECTL_DATABASE_URL": url}, []),
        ({"QUEUECTL_SCHEMA": "s"}, []),
        ({}, ["--schema", "t"]),
        ({}, ["--db", path]),
    ):
        env |= more
        ran = subprocess.run(
            [*MAIN, *words, "init", "--json"]
            if more or words
            else [*MAIN, "enqueue", "--command", "true"],
            cwd=inner,
            env={**remote.environ, **env},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(ran.stdout)["database"] if more or words else ran.stderr.split()[4])
    shown = url.replace(f":{PASSWORD}", "")
    assert found == [
        f"{shown}&schema=config",
        path,
        f"{shown}&schema=queuectl",
        f"{shown}&schema=s",
        f"{shown}&schema=t",
        path,
    ]
    (inner / "queuectl.db").write_bytes(b"")
    ran = subprocess.run(
        [*MAIN, "status"],
        cwd=inner,
        env=remote.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{inner}/queuectl.db is empty" in ran.stderr


def test_init_below_a_folder_whose_queue_is_on_a_server(remote: Sandbox, url: str) -> None:
    """With --schema it is made where every other command looks for that schema; without, in a file here,
    and the queue that it hides is named.
    """
    del remote.environ["QUEUECTL_DATABASE_URL"]
    (remote.folder / "queuectl_config.json").write_text(json.dumps({"database_url": url}))
    inner = remote.folder / "inner"
    inner.mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MAIN, *words],
            cwd=inner,
            env=remote.environ,
            capture_output=True,
            text=True,
            check=True,
        )

    assert "schema=team2" in run("--schema", "team2", "init").stdout
    assert list(inner.iterdir()) == []
    run("--schema", "team2", "status")
    ran = run("init")
    assert f"Made a new queue: {inner}/queuectl.db" in ran.stdout
    assert "Here it is used in place of postgresql://" in ran.stderr


@pytest.mark.parametrize("words", ["init", "enqueue --command true", "status", "config list"])
def test_a_schema_without_a_server_is_refused(sandbox: Sandbox, words: str) -> None:
    """No command makes a file of it, or looks at one."""
    ran = sandbox.run("--schema", "team2", *words.split())
    assert ran.returncode == 2, ran
    assert "--schema is for a queue on PostgreSQL" in ran.stderr
    assert not sandbox.database.exists()


def proposed(ran: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The commands of queuectl that were proposed, each in its words."""
    found = re.findall(
        r"queuectl (--db|--schema|[a-z]+(?:-[a-z]+)?)([^`\n)]*)", ran.stdout + ran.stderr
    )
    return [shlex.split(first + rest) for first, rest in found]


@pytest.mark.parametrize("way", ["option", "with a schema", "schema alone", "schema in the URL"])
def test_commands_that_are_proposed_are_about_the_same_queue(
    remote: Sandbox, url: str, way: str
) -> None:
    """Each can be pasted as it stands, and finds the queue that this command line named: with its schema,
    and without its password.
    """
    here = ["--db", url] if way != "schema alone" else []
    if way == "schema in the URL":
        here = ["--db", f"{url}&schema=team2"]
    elif way != "option":
        here += ["--schema", "team2"]
    if here[0] == "--db":
        del remote.environ["QUEUECTL_DATABASE_URL"]
    seen: list[list[str]] = []
    identity = ""
    for line in (
        "status",
        "init --json",
        "enqueue --id a --command false --max-retries 0",
        "enqueue --id a --command true",
        "worker-start --drain",
        "show a",
        "status",
        "enqueue --id b --command false",
        "enqueue --id c --command true --requires gpu",
        "show nothing",
        "cancel a",
        "worker-start --background",
        "worker-start --background",
        "worker-stop --host nowhere",
        "worker-stop",
        "logs c",
        "dlq show c",
    ):
        ran = remote.run(*here, *line.split())
        assert PASSWORD not in ran.stdout + ran.stderr, ran
        if line == "init --json":
            identity = json.loads(ran.stdout)["database"]
        seen += proposed(ran)
    assert len(seen) >= 8, seen
    for words in seen:
        named = words[: len(here)]
        assert [*named[::2]] == here[::2], words
        assert words[len(here)] in {name.split()[0] for name in COMMANDS}, words
        assert json.loads(done(remote, *named, "status", "--json"))["database"] == identity


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        (["--schema", "x", "--db", "q.db"], {}, "--schema is for a queue on PostgreSQL"),
        (["--schema", "pg_x"], {}, "PostgreSQL's own"),
        (["--schema", "x" * 64], {}, "cannot be called"),
        ([], {"QUEUECTL_DATABASE_URL": "mysql://h/d"}, "holds no URL of PostgreSQL"),
    ],
)
def test_what_names_no_queue_is_refused(
    remote: Sandbox, words: list[str], env: dict[str, str], said: str
) -> None:
    """One line, exit status 2."""
    ran = remote.run(*words, "status", env=env)
    assert ran.returncode == 2, ran
    assert said in ran.stderr


def test_looking_at_no_queue_says_how_to_make_one(remote: Sandbox) -> None:
    """A schema that is not there is no queue, as a file that is not there."""
    ran = remote.run("status")
    assert ran.returncode == 3
    assert "there is no queue at postgresql://" in ran.stderr
    assert "queuectl init" in ran.stderr


def test_without_a_server_there_is_one_line(remote: Sandbox) -> None:
    """Nothing listens there: each command says so and ends with the status of a database error."""
    env = {"QUEUECTL_DATABASE_URL": f"postgresql://me@/db?host={remote.folder}"}
    for words in (["status"], ["enqueue", "--command", "true"], ["worker-start", "--drain"]):
        ran = remote.run(*words, env=env)
        assert ran.returncode == 5, ran
        assert ran.stderr.count("cannot reach postgresql://me@/db") == 1
        assert "Traceback" not in ran.stderr
        assert len(ran.stderr.splitlines()) == 2


def test_a_missing_driver_says_how_to_install_it(remote: Sandbox, tmp_path: Path) -> None:
    """Without psycopg2 there is one line, the command that installs it, and the status of the
    environment's faults.
    """
    script = (
        "import sys; sys.modules['psycopg2'] = None\n"
        "from queuectl.cli import main; sys.exit(main(['enqueue', '--command', 'true']))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**clean_environment(), **remote.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 5, ran
    assert "psycopg2" in ran.stderr
    assert "pip install '.[postgres]'" in ran.stderr
    assert len(ran.stderr.splitlines()) == 2


@pytest.mark.parametrize("source", [None, *sorted(DUMPS.glob("v*.sql"))], ids=str)
def test_ten_workers_that_start_at_once_find_one_queue(
    remote: Sandbox, url: str, source: Path | None
) -> None:
    """Made by one of them, or left by an earlier version and brought up to date by one; all work."""
    if source is not None:
        postgres.needed().sql(source.read_text(encoding="utf-8"), url)
    workers = [remote.start_worker(ready=False) for _ in range(10)]
    for worker in workers:
        worker.wait_for(" started: ")
    listed = json.loads(done(remote, "worker-list", "--json"))
    pids = {worker["pid"] for worker in listed}
    assert {worker.pid for worker in workers} <= pids
    versions = postgres.needed().sql("SELECT version FROM queuectl.queuectl_schema", url)
    assert versions == [(SCHEMA_VERSION,)]
    id = done(remote, "enqueue", "-q", "--command", "true").strip()
    done(remote, "wait", id, "--timeout", "30")
    for worker in workers:
        assert worker.stop() == 0, worker.said
        assert "Traceback" not in worker.said
    assert os.listdir(remote.folder / "home") == [folder_of(remote).name]


def test_a_worker_that_cannot_hear_is_told_from_one_that_is_stuck(
    remote: Sandbox, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not stop, for it has not reached the database for long: ending it by force comes last."""
    monkeypatch.setenv("QUEUECTL_HOME", str(remote.folder / "home"))
    done(remote, "init")
    storage = open_worker_storage(url)
    storage.register(this_process_as_worker("w"))
    try:
        with JobQueue.open(url, create=False) as queue:
            hint = stopping._what_to_do(queue, [os.getpid()])
            assert hint.startswith("It may be stuck.")
            late = "UPDATE queuectl.workers SET lease_ends_at = lease_ends_at - 20000000"
            postgres.needed().sql(late, url)
            hint = stopping._what_to_do(queue, [os.getpid()])
            assert "cannot reach it cannot hear that it is to stop" in hint
            assert f"Or: kill -9 {os.getpid()}." in hint
    finally:
        storage.close()


@pytest.mark.parametrize("way", ["variable", "option"])
def test_a_queue_has_one_set_of_settings_in_a_folder(remote: Sandbox, url: str, way: str) -> None:
    """That of the file with its URL, whether the queue is named besides or not; a file about another
    schema, or a broken one, has no part in it. `config set` says where it wrote.
    """
    del remote.environ["QUEUECTL_DATABASE_URL"]
    config = remote.folder / "queuectl_config.json"
    config.write_text(json.dumps({"database_url": url, "max_retries": 7}))
    bare = url.replace(f":{PASSWORD}", "")
    named = [] if way == "variable" else ["--db", bare]
    if way == "variable":
        remote.environ["QUEUECTL_DATABASE_URL"] = bare
    assert done(remote, *named, "config", "get", "max_retries") == "7\n"
    said = done(remote, *named, "config", "set", "max_retries", "8")
    assert said == f"Set max_retries = 8, in {config}: for this machine, not for others\n"
    assert json.loads(config.read_text())["max_retries"] == 8
    assert done(remote, *named, "--schema", "x", "config", "get", "max_retries") == "8\n"
    for text in (json.dumps({"database_url": url + "&schema=y", "max_retries": 7}), "{broken"):
        config.write_text(text)
        assert done(remote, *named, "config", "get", "max_retries") == "3\n"
    said = done(remote, *named, "config", "set", "max_retries", "9")
    assert f", in {folder_of(remote)}/queuectl_config.json: " in said
    assert config.read_text() == "{broken"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TABLE attempts CASCADE", "damaged: the table attempts is missing"),
        ("DROP TABLE workers", "damaged: the table workers is missing"),
        ("DROP SEQUENCE changes", "damaged: the sequence changes is missing"),
        (
            "ALTER TABLE ended_jobs DROP COLUMN requires",
            "damaged: the column requires of the table ended_jobs is missing",
        ),
    ],
)
def test_doctor_finds_what_is_missing(remote: Sandbox, url: str, statement: str, said: str) -> None:
    """A part of the tables that is gone is no sound database; the advice is not about a file."""
    done(remote, "init")
    assert "WRONG" not in done(remote, "doctor")
    postgres.needed().sql(f"SET search_path = queuectl; {statement}", url)
    ran = remote.run("doctor")
    assert ran.returncode == 1, ran
    assert f"WRONG   database: {said}" in ran.stdout
    assert "go back to the last backup: see docs/guides/postgresql.md" in ran.stdout
    assert "SQLite" not in ran.stdout
    assert "sound" not in ran.stdout


def test_an_old_program_leaves_a_newer_queue_alone(remote: Sandbox, url: str) -> None:
    """Each command says which version there is, in two lines; a worker that had begun before the queue
    was migrated ends, and its command with it, when it finds that out.
    """
    done(remote, "enqueue", "--id", "a", "--command", "touch begun; sleep 1000")
    worker = remote.start_worker()
    wait_until((remote.folder / "begun").exists)
    server = postgres.needed()
    server.sql("UPDATE queuectl.queuectl_schema SET version = 99", url)
    before = server.sql("SELECT * FROM queuectl.jobs", url)
    for words in ("status", "enqueue --command true", "worker-start", "init", "cancel a", "doctor"):
        ran = remote.run(*words.split())
        assert ran.returncode == (1 if words == "doctor" else 5), ran
        assert "has schema version 99" in ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        assert words == "doctor" or len(ran.stderr.splitlines()) == 2
    server.end_connections(url.replace(f":{PASSWORD}", ""))
    assert worker.wait() == 5
    assert "has schema version 99" in worker.said
    assert "Traceback" not in worker.said
    assert remote.commands() == []
    assert server.sql("SELECT * FROM queuectl.jobs", url) == before
