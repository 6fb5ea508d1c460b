from __future__ import annotations

import pytest

from queuectl.cli.worker import _what_follows
from queuectl.engine.stopping import waiting_for
from queuectl.jobs.outcome import SUCCEEDED, Outcome, Policy, exited
from tests.cli.support import Cli, hand_worker


@pytest.mark.parametrize(
    ("outcome", "retries", "said"),
    [
        (SUCCEEDED, "3", ""),
        (exited(3), "3", "exit status 3; runs again in 2s"),
        (exited(3), "0", "exit status 3; dead"),
    ],
)
def test_failed_attempt_says_why_and_what_follows(
    cli: Cli, outcome: Outcome, retries: str, said: str
) -> None:
    """Whoever watches a worker is told the reason of a failure, and what becomes of the job."""
    cli.enqueue("x", "--max-retries", retries)
    with hand_worker(cli.database) as worker:
        (claim,) = worker.claim()
    follows = _what_follows(claim, outcome, Policy(backoff_base=2, max_losses=5))
    assert follows.strip() == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["worker-stop", "--timeout", "x"], "--timeout: 'x'"),
        (["worker-start", "--poll-interval", "nan"], "--poll-interval: 'nan'"),
    ],
)
def test_wrong_length_of_time_names_its_option(cli: Cli, words: list[str], said: str) -> None:
    """A length of time that is none is refused with the option it was given to."""
    ran = cli(*words)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err


@pytest.mark.parametrize(
    ("running", "pids", "said"),
    [
        (1, [7], "Waiting for 1 running job to finish ..."),
        (2, [7], "Waiting for 2 running jobs to finish ..."),
        (0, [7, 8], "Waiting for pid 7 8 to end ..."),
        (0, [], "Waiting for the background worker to end ..."),
    ],
)
def test_a_stop_that_takes_long_says_what_it_waits_for(
    running: int, pids: list[int], said: str
) -> None:
    """One job is not several, and where no job runs, the process that stays is named."""
    assert waiting_for(running, pids) == said
