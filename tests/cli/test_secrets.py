"""A password in the URL of a queue: it opens the database, and is shown nowhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl.cli import COMMANDS, main
from queuectl.processes import process_ids
from tests import postgres
from tests.support import MAIN, Sandbox, wait_until

PASSWORD = "s3cr3t-w0rd"
SSL_PASSWORD = "hidd3n-k3y"

LINES = [
    "init",
    "enqueue --id a --command true",
    "enqueue --id b --command false --max-retries 0 --env TOKEN=t0k3n",
    "worker-start --drain",
    "run true",
    "wait a",
    "list",
    "show a",
    "show b",
    "status",
    "logs a",
    "worker-list",
    "worker-stop",
    "dlq list",
    "dlq show b",
    "dlq retry b",
    "cancel b",
    "retry b",
    "cancel b",
    "delete b --yes",
    "export moved.jsonl",
    "import moved.jsonl",
    "dlq purge --yes",
    "prune --older-than 7d --yes",
    "config list",
    "config get database_url",
    "config get lease_seconds",
    "config set lease_seconds 30",
    "config unset lease_seconds",
    "doctor",
    "doctor --fix",
    "backup copy",
    "demo --help",
    "no-such-command",
    "enqueue --no-such-option",
    "enqueue",
    "show nothing",
    "config set lease_seconds never",
]
"""Every command, well used and ill."""


@pytest.fixture
def url() -> Iterator[str]:
    """An empty database, and two passwords in its URL."""
    for url in postgres.new_url():
        secret = url.replace("postgres@", f"postgres:{PASSWORD}@")
        yield f"{secret}&sslpassword={SSL_PASSWORD}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUEUECTL_HOME", str(tmp_path / "home"))
    return tmp_path


def broken(url: str) -> list[str]:
    """The URL with something wrong, that is found sooner or later."""
    return [
        url.replace("/test", "/no-such-database"),
        url.replace("postgres:", "nobody:"),
        url.replace("host=", "host=/nowhere"),
        url + "&nonsense=1",
        url.replace("@", "@@"),
        url.replace("s3cr3t", "s3cr3t/x"),
        url.replace("s3cr3t", "s3cr3t%zz"),
        url + "&sslmode=nonsense",
        url + "&schema=pg_x",
    ]


def check(text: str) -> None:
    """None of the secrets, nor a part of one, is in what was shown."""
    for secret in (PASSWORD, SSL_PASSWORD, "s3cr3t", "hidd3n", "t0k3n"):
        assert secret not in text, text


@pytest.mark.parametrize("way", ["environment", "option", "configuration"])
def test_no_command_shows_it(
    way: str,
    url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whichever way the URL came, in words or in JSON, in results or in errors, or in a file but the
    configuration.
    """
    for name in COMMANDS:
        assert any(line.startswith(name) for line in LINES), f"{name} is not tried"
    config = folder / "queuectl_config.json"
    before = ["--db", url] if way == "option" else []
    if way == "environment":
        monkeypatch.setenv("QUEUECTL_DATABASE_URL", url)
    elif way == "configuration":
        config.write_text(json.dumps({"database_url": url}))
    for line in LINES:
        for more in ([], ["--json"], ["-q"]):
            main([*before, *line.split(), *more])
    shown = "".join(capsys.readouterr())
    check(shown)
    if way != "configuration":
        assert "postgresql://postgres@/test" in shown
    for path in folder.rglob("*"):
        if path.is_file() and path != config:
            check(path.read_text(errors="replace"))


@pytest.mark.parametrize("way", ["environment", "option"])
def test_no_error_shows_it(
    way: str,
    url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is wrong with the URL or with the server, also when a traceback is asked for."""
    monkeypatch.setenv("QUEUECTL_DEBUG", "1")
    for wrong in broken(url):
        before = ["--db", wrong] if way == "option" else []
        if way == "environment":
            monkeypatch.setenv("QUEUECTL_DATABASE_URL", wrong)
        for line in ("status", "status --json", "enqueue --command true", "enqueue", "config list"):
            main([*before, *line.split()])
        check("".join(capsys.readouterr()))
    config = folder / "queuectl_config.json"
    for wrong in broken(url):
        monkeypatch.delenv("QUEUECTL_DATABASE_URL", raising=False)
        config.write_text(json.dumps({"database_url": wrong}))
        for line in ("status", "config list", "config get database_url --json", "doctor"):
            main(line.split())
        check("".join(capsys.readouterr()))


LIKE_URLS = [
    "postgresq://u:hunter2@h/db",
    "mysql://u:hunter2@h/db",
    "postgresql:/u:hunter2@h/db",
    "postgresql+psycopg2://u:hunter2@h/db",
    "jdbc:postgresql://h/db?password=hunter2",
    "user=u password=hunter2 host=h",
    "postgresql://u:hunter2/db",
    "postgresql://u@h/dbname=x password=hunter2",
]


@pytest.mark.parametrize("wrong", LIKE_URLS)
@pytest.mark.parametrize("way", ["option", "url", "path", "schema", "configuration", "word"])
def test_what_is_like_a_url_is_refused_unseen(
    wrong: str,
    way: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A scheme that is mistyped or foreign makes no file of it, wherever the queue is named: it is
    refused as an error of input, without its password.
    """
    before: list[str] = []
    after: list[str] = []
    if way == "option":
        before = ["--db", wrong]
    elif way == "schema":
        before = ["--db", "postgresql://h/d", "--schema", wrong]
    elif way == "word":
        after = [wrong]
    elif way == "configuration":
        (folder / "queuectl_config.json").write_text(json.dumps({"database_url": wrong}))
    else:
        name = "QUEUECTL_DATABASE_URL" if way == "url" else "QUEUECTL_DB_PATH"
        monkeypatch.setenv(name, wrong)
    there = sorted(folder.rglob("*"))
    for line in ("init", "status", "enqueue --command true", "config set max_retries 5", "doctor"):
        for more in ([], ["--json"]):
            assert main([*before, *line.split(), *after, *more]) == 2, line
            told = capsys.readouterr()
            assert "hunter2" not in told.out + told.err
            assert more or len(told.err.splitlines()) == 2, told.err
            assert way == "word" or "***" not in told.err, told.err
    assert sorted(folder.rglob("*")) == there


@pytest.mark.parametrize("scheme", ["postgres://", "PostgreSQL://", " postgresql://"])
def test_a_url_in_another_spelling_is_hidden_too(sandbox: Sandbox, url: str, scheme: str) -> None:
    """Letter case and the shorter scheme make no other queue of it, and its password is not in the
    list of processes either.
    """
    sandbox.environ["QUEUECTL_HOME"] = str(sandbox.folder / "home")
    spelled = url.replace("postgresql://", scheme)
    worker = sandbox.start_worker(program=[*MAIN, "worker-start", "--db", spelled], ready=False)
    worker.wait_for(" started: ")
    check(Path(f"/proc/{worker.pid}/cmdline").read_text())
    assert worker.stop() == 0
    check(worker.said)
    assert len(list((sandbox.folder / "home").iterdir())) == 1
    ran = sandbox.run("status", env={"QUEUECTL_DATABASE_URL": spelled})
    assert ran.returncode == 0, ran
    assert len(list((sandbox.folder / "home").iterdir())) == 1


def test_no_process_shows_it(sandbox: Sandbox, url: str) -> None:
    """Not in the words of a worker in the background, of its processes, or of what their jobs start,
    though the URL was in those of the command line; nor in their logs.
    """
    sandbox.environ["QUEUECTL_HOME"] = str(sandbox.folder / "home")
    # All processes are looked at, those of other tests, too.
    password = f"{PASSWORD}-{os.getpid()}"
    here = ["--db", url.replace(PASSWORD, password)]
    inner = "sh -c 'touch inner; until [ -e go ]; do sleep 0.02; done'"
    for n in range(2):
        ran = sandbox.run(*here, "enqueue", "--id", f"job-{n}", "--command", inner)
        assert ran.returncode == 0, ran
    ran = sandbox.run(*here, "worker-start", "--background", "--use-processes", "--count", "2")
    assert ran.returncode == 0, ran
    check(ran.stdout + ran.stderr)
    wait_until((sandbox.folder / "inner").exists)
    wait_until(lambda: len(sandbox.commands()) >= 2)
    found = [pid for pid in sandbox.processes() if pid != os.getpid()]
    assert len(found) >= 5
    for pid in [*found, *process_ids()]:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        assert password.encode() not in words, words
    sandbox.touch("go")
    for n in range(2):
        ran = sandbox.run(*here, "wait", f"job-{n}", "--timeout", "30")
        assert ran.returncode == 0, ran
    stopped = sandbox.run(*here, "worker-stop")
    assert stopped.returncode == 0, stopped
    files = [path for path in (sandbox.folder / "home").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"queuectl.log", "job-0.log"}
    for path in files:
        check(path.read_text(errors="replace"))


def test_what_is_printed_about_a_job_holds_no_url(sandbox: Sandbox, url: str) -> None:
    """The environment in which a job runs names the queue to it, and to nobody who looks at the job."""
    sandbox.environ["QUEUECTL_HOME"] = str(sandbox.folder / "home")
    sandbox.environ["QUEUECTL_DATABASE_URL"] = url
    line = " ".join([*MAIN, "status", "-q"])
    sandbox.run("enqueue", "--id", "a", "--env", f"MINE={url}", "--command", line)
    assert sandbox.run("worker-start", "--drain").returncode == 0
    for words in ("show a", "show a --json", "list --json", "logs a", "status --json"):
        ran = sandbox.run(*words.split())
        assert ran.returncode == 0, ran
        check(ran.stdout + ran.stderr)
