"""Ids, commands and names that would be something else if a statement or a shell took them apart."""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuectl.job_queue import JobQueue
from tests import postgres
from tests.cli.support import Cli, Ran
from tests.contract.support import KINDS

TEXTS = [
    "'; DROP TABLE jobs; --",
    "'); DELETE FROM jobs; SELECT ('",
    "' OR '1'='1",
    '" OR ""="',
    '"; DROP SCHEMA queuectl CASCADE; --',
    "it's",
    "a''b",
    "\\",
    "\\'; SELECT 1; --",
    "\\\\x00",
    "\\N",
    "%",
    "%s",
    "%(id)s",
    "%%s %d 100%",
    "{id} {}",
    "$1 :id ?",
    "$$; DROP TABLE jobs; $$",
    "E'\\047'",
    "_%_",
    "/* */ --",
    "tab\tline\nreturn\r",
    "\x01\x1b[31m\x7f",
    "\N{SNOWMAN}\N{COMBINING ACUTE ACCENT}\u202e",
    "\U0001f984\U0010ffff\U00020000",
    "\ufeff\ufffd\uffff",
]

NUL = "a\0b'; DROP TABLE jobs; --"


@pytest.fixture(params=KINDS)
def queue(
    request: pytest.FixtureRequest, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cli]:
    """The command line on an empty queue of each kind."""
    if request.param == "postgres":
        monkeypatch.setenv("QUEUECTL_DATABASE_URL", postgres.needed().new_schema())
        monkeypatch.setenv("QUEUECTL_HOME", str(tmp_path / "home"))
    cli.done("enqueue", "--id", "bystander", "--command", "true")
    yield cli
    assert cli.done("list", "-q").lines.count("bystander") == 1
    assert json.loads(cli.done("show", "bystander", "--json").out)["state"] == "pending"


def ended_well(ran: Ran, *statuses: int) -> Ran:
    """It says what it has to say in few words, and is no defect."""
    assert ran.status in statuses, ran
    assert "Traceback" not in ran.err
    assert "defect" not in ran.err
    if ran.status:
        assert len(ran.err.splitlines()) <= 2, ran
    return ran


def shown(queue: Cli, id: str) -> Any:
    """The job as JSON."""
    return json.loads(queue.done("show", "--json", "--show-env", "--", id).out)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_it_is_kept_as_it_is_or_refused(queue: Cli, text: str) -> None:
    """As a command, a folder or a variable it comes out as it went in, or nothing is queued."""
    ran = ended_well(
        queue("enqueue", "-q", f"--command=: {text}", f"--cwd=/{text}", f"--env=X={text}"), 0, 2
    )
    if ran.status == 0:
        job = shown(queue, ran.out.strip())
        assert (job["command"], job["env"]) == (f": {text}", {"X": text})
        assert job["cwd"] == f"/{text}"
    ran = ended_well(queue("enqueue", "-q", f"--id={text}", "--command", "true"), 0, 2)
    if ran.status == 0:
        assert shown(queue, text)["id"] == text
        assert text in [job["id"] for job in json.loads(queue.done("list", "--json").out)]
        ended_well(queue("enqueue", f"--id={text}", "--command", "true"), 4)
        queue.done("cancel", "--", text)
        queue.done("retry", "--", text)
        queue.done("cancel", "--", text)
        queue.done("delete", "--yes", "--", text)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_it_names_no_job(queue: Cli, text: str) -> None:
    """Whatever a command takes for an id, a beginning of one, or a name: there is none like this."""
    for words in (
        ["show"],
        ["logs"],
        ["cancel"],
        ["retry"],
        ["delete", "--yes"],
        ["wait", "--timeout", "0"],
        ["dlq", "show"],
        ["dlq", "retry"],
    ):
        ended_well(queue(*words, "--", text), 3)
    for words in (
        ["list", f"--state={text}"],
        ["list", f"--sort={text}"],
        ["config", "get", f"{text}"],
        ["config", "set", f"{text}", "1"],
        ["enqueue", f"--on-lost={text}", "--command", "true"],
        ["enqueue", f"--priority={text}", "--command", "true"],
        ["prune", f"--older-than={text}", "--yes"],
    ):
        ended_well(queue(*words), 2, 3)


def test_many_at_once(queue: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same through a file of jobs, which goes another way into the database."""
    jobs = [{"command": f": {text}", "cwd": "/", "env": {"X": text}} for text in TEXTS * 2]
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    ids = json.loads(queue.done("enqueue", "--jobs-file", "-", "--json").out)["ids"]
    found = [shown(queue, id) for id in ids]
    assert [(job["command"], job["env"]["X"]) for job in found] == [
        (job["command"], job["env"]["X"])  # type: ignore[index]
        for job in jobs
    ]


@pytest.mark.parametrize("field", ["id", "command", "cwd", "env", "on_lost", "queue", "surprise"])
def test_a_nul_is_refused(queue: Cli, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No database, file name or command can hold one: one line says so, and nothing is queued."""
    job: dict[str, object] = {"command": "true", field: {"X": NUL} if field == "env" else NUL}
    for words, many in (("--job-file", 1), ("--jobs-file", 30)):
        text = (json.dumps(job) + "\n") * many
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        ended_well(queue("enqueue", words, "-"), 2)
    with JobQueue.open(find_location(queue)) as opened:
        assert [job.id for job in opened.list()] == ["bystander"]


def find_location(queue: Cli) -> str:
    """The queue that a command line without options means."""
    from queuectl.workspace import find

    return find(None, start=str(queue.folder)).location


def test_random_text(queue: Cli) -> None:
    """Mixtures that nobody thought of do no more harm."""
    seed = random.randrange(10**9)
    print(f"seed {seed}", file=sys.stderr)
    chance = random.Random(seed)
    pieces = ["'", '"', ";", "\\", "%", "s", "(", ")", "--", "\n", "$", "{", "}", "\U0001f984", "é"]
    for n in range(60):
        text = f"{n}" + "".join(chance.choices(pieces, k=chance.randrange(1, 12)))
        story = f"{seed}: {text!r}"
        ran = ended_well(queue("enqueue", "-q", f"--command=: {text}", f"--id={text}"), 0, 2)
        if ran.status == 0:
            assert shown(queue, text)["command"] == f": {text}", story
        ran = ended_well(queue("enqueue", "-q", f"--command=: {text}"), 0)
        assert shown(queue, ran.out.strip())["command"] == f": {text}", story
        ended_well(queue("show", "--", text), 0, 2, 3)
