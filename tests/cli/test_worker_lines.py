from __future__ import annotations

import pytest

from queuectl.cli.worker import _what_follows
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
