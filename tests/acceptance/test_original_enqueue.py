from __future__ import annotations

import json
import re

import pytest

from queuectl.jobs.when import parse_iso
from tests.acceptance.support import Prompt
from tests.support import Sandbox

SCRIPT = "print('from the script')\n"


def test_enqueue_a_quoted_command(prompt: Prompt) -> None:
    """A command with quotes within quotes arrives as it was meant, and runs."""
    id = prompt.enqueues(
        r"""python main.py enqueue --command "python -c 'print(\"hello\")'" --max-retries 2"""
    )
    assert prompt.job(id)["command"] == """python -c 'print("hello")'"""
    assert prompt.job(id)["max_retries"] == 2
    prompt.sandbox.drain()
    assert prompt.job(id)["state"] == "completed"
    assert prompt.sandbox.output(id) == b"hello\n"


def test_enqueue_a_script(prompt: Prompt) -> None:
    """A script in the folder is found, because the job runs where it was queued."""
    (prompt.folder / "my_script.py").write_text(SCRIPT)
    id = prompt.enqueues('python main.py enqueue --command "python my_script.py" --max-retries 2')
    prompt.sandbox.drain()
    assert prompt.sandbox.output(id) == b"from the script\n"


def test_list_by_state(prompt: Prompt) -> None:
    """`list --state pending` shows what waits, and not what has run."""
    done = prompt.enqueues("python main.py enqueue --command true")
    prompt.sandbox.drain()
    waiting = prompt.enqueues("python main.py enqueue --command true")
    listed = prompt.types("python main.py list --state pending").stdout
    assert waiting in listed
    assert done not in listed


@pytest.mark.sqlite_only("it is about how a command is read, before any database sees it")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_enqueue_from_a_command_file(prompt: Prompt, encoding: str) -> None:
    """A command file is read as every Windows PowerShell writes it: with a BOM and CRLF or without."""
    command = 'python -c "import sys; sys.exit(0)"'
    (prompt.folder / "cmd.txt").write_bytes(f"{command}\r\n".encode(encoding))
    id = prompt.enqueues("python main.py enqueue --command-file cmd.txt --max-retries 2")
    assert prompt.job(id)["command"] == command
    prompt.sandbox.drain()
    assert prompt.job(id)["state"] == "completed"


def test_enqueue_from_a_job_file(prompt: Prompt) -> None:
    """A job file gives id, command and retries."""
    (prompt.folder / "job.json").write_text(
        r"""{"id":"job-file-1","command":"python -c \"print(1)\"","max_retries":1}"""
    )
    assert prompt.enqueues("python main.py enqueue --job-file job.json") == "job-file-1"
    assert prompt.job("job-file-1")["max_retries"] == 1
    prompt.sandbox.drain()
    assert prompt.sandbox.output("job-file-1") == b"1\n"


def test_a_delay_is_waited_for(prompt: Prompt) -> None:
    """A job with a delay of 5 seconds starts when they are over, not before."""
    (prompt.folder / "my_script.py").write_text(SCRIPT)
    id = prompt.enqueues('python main.py enqueue --command "python my_script.py" --delay 5')
    assert _seconds(prompt.job(id), "created_at", "next_run_at") == pytest.approx(5, abs=0.5)
    prompt.starts("python main.py worker-start --count 1")
    prompt.sandbox.wait_state(id, "completed")
    assert _seconds(prompt.job(id), "created_at", "started_at") >= 4.5


def test_a_time_in_the_past_is_now(prompt: Prompt) -> None:
    """A job for a moment that has passed runs at once."""
    (prompt.folder / "my_script.py").write_text(SCRIPT)
    id = prompt.enqueues(
        'python main.py enqueue --command "python my_script.py" --run-at 2025-11-09T12:00:00Z'
    )
    assert prompt.job(id)["next_run_at"] == "2025-11-09T12:00:00Z"
    prompt.sandbox.drain()
    assert prompt.job(id)["state"] == "completed"


def test_the_job_has_the_fields_of_the_model(prompt: Prompt) -> None:
    """A new job carries the fields of the original, under their names."""
    id = prompt.enqueues('python main.py enqueue --command "python my_script.py"')
    job = prompt.job(id)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", id)
    times = [job.pop("created_at"), job.pop("updated_at")]
    assert job.items() >= {
        ("id", id),
        ("command", "python my_script.py"),
        ("state", "pending"),
        ("attempts", 0),
        ("max_retries", 3),
        ("next_run_at", None),
    }
    for time in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", time)


def test_a_job_that_was_read_can_be_queued_again(prompt: Prompt) -> None:
    """The object of the model, as the original documents it, is a valid job file."""
    job = {
        "id": "fed-back",
        "command": "true",
        "state": "pending",
        "attempts": 0,
        "max_retries": 3,
        "created_at": "2025-11-04T10:30:00Z",
        "updated_at": "2025-11-04T10:30:00Z",
        "next_run_at": None,
    }
    (prompt.folder / "job.json").write_text(json.dumps(job))
    assert prompt.enqueues("python main.py enqueue --job-file job.json") == "fed-back"


def test_status_counts_by_state(sandbox: Sandbox, prompt: Prompt) -> None:
    """`status` has a line for each state, with how many jobs are in it."""
    for command in ("true", "true", "false"):
        prompt.enqueues(f"python main.py enqueue --command {command} --max-retries 0")
    sandbox.drain()
    prompt.enqueues("python main.py enqueue --command true")
    counts = dict(
        line.split() for line in prompt.types("python main.py status").stdout.splitlines()[:5]
    )
    assert counts == {
        "pending": "1",
        "processing": "0",
        "completed": "2",
        "failed": "0",
        "dead": "1",
    }


def _seconds(job: dict[str, str], start: str, end: str) -> float:
    return (parse_iso(job[end]) - parse_iso(job[start])) / 1e6
