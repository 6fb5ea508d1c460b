from __future__ import annotations

from itertools import pairwise

import pytest

from queuectl.jobs.when import parse_iso
from tests.acceptance.support import Prompt
from tests.support import Sandbox


def test_retries_wait_exponentially_and_end_in_the_dead_letter_queue(
    sandbox: Sandbox, prompt: Prompt
) -> None:
    """Two retries, after backoff_base ** attempts seconds each, then the job is dead."""
    prompt.types("python main.py config set backoff_base 1.1")
    id = prompt.enqueues("python main.py enqueue --command false --max-retries 2")
    sandbox.drain()
    job = prompt.job(id)
    assert (job["state"], job["attempts"]) == ("dead", 3)
    runs = job["attempt_log"]
    waits = [
        (parse_iso(after["started_at"]) - parse_iso(before["finished_at"])) / 1e6
        for before, after in pairwise(runs)
    ]
    assert waits[0] >= 1.1
    assert waits[1] >= 1.1**2
    assert id in prompt.types("python main.py dlq list").stdout


def test_a_retry_from_the_dead_letter_queue_runs_again(sandbox: Sandbox, prompt: Prompt) -> None:
    """`dlq retry` makes a dead job pending with no attempts used; it can then succeed."""
    id = prompt.enqueues('python main.py enqueue --command "test -e mended" --max-retries 0')
    sandbox.drain()
    assert id in prompt.types("python main.py dlq list").stdout
    (prompt.folder / "mended").touch()
    prompt.types(f"python main.py dlq retry {id}")
    assert (sandbox.state(id), sandbox.job(id).attempts) == ("pending", 0)
    assert id not in prompt.types("python main.py dlq list").stdout
    sandbox.drain()
    assert sandbox.state(id) == "completed"


@pytest.mark.parametrize("command", ["true", "false"])
def test_only_a_dead_job_can_be_retried_from_there(
    sandbox: Sandbox, prompt: Prompt, command: str
) -> None:
    """`dlq retry` refuses a job that is not dead, and changes nothing."""
    id = prompt.enqueues(f"python main.py enqueue --command {command} --backoff-base 3600")
    worker = sandbox.start_worker()
    state = sandbox.wait_state(id, "completed", "failed").state
    worker.stop()
    refused = prompt.types(f"python main.py dlq retry {id}", status=4)
    assert f"is {state}, not dead" in refused.stderr
    assert sandbox.state(id) == state
