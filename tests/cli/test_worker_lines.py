from __future__ import annotations

import pytest

from queuectl.cli.worker import _what_follows
from queuectl.engine.stopping import waiting_for
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import SUCCEEDED, Outcome, Verdict, exited
from tests.cli.support import Cli


@pytest.mark.parametrize(
    ("outcome", "verdict", "said"),
    [
        (SUCCEEDED, Verdict(State.COMPLETED, 1, 0), ""),
        (exited(3), Verdict(State.FAILED, 1, 0, 2), "exit status 3; runs again in 2s"),
        (exited(3), Verdict(State.FAILED, 1, 0, 0), "exit status 3; runs again at once"),
        (exited(3), Verdict(State.DEAD, 1, 0), "exit status 3; dead"),
    ],
)
def test_failed_attempt_says_why_and_what_follows(
    outcome: Outcome, verdict: Verdict, said: str
) -> None:
    """Whoever watches a worker is told the reason of a failure, and what becomes of the job."""
    assert _what_follows(outcome, verdict).strip() == said


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
