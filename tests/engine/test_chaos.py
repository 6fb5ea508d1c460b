"""Workers and commands are killed at random; then the history is checked, event by event."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import defaultdict
from typing import NamedTuple

import pytest

from queuectl.jobs.job_view import Attempt
from queuectl.jobs.outcome import LOST_BEFORE_START
from tests.support import Sandbox, WorkerProcess, wait_until

WORKERS = 3
SLOTS = 2

# A run holds a lock that the kernel frees on any death: one that finds it taken overlaps with
# another. What it starts does not hold it. Each line is one write to a file opened to append.
RUN = """
exec 9>> lock-$QUEUECTL_JOB_ID
mark() {
    read now rest < /proc/uptime
    echo "$1 $QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT $now" >> marks
}
flock -n 9 || mark overlap
mark start
setsid sleep $1 9>&- &
sleep $1 9>&-
test $QUEUECTL_ATTEMPT -gt $2 || exit 1
mark end
"""


class Policy(NamedTuple):
    """What a job is told to do when an attempt fails or its worker is lost."""

    max_retries: int
    on_lost: str
    max_losses: int
    fails: int
    """How many of its first attempts fail by themselves."""

    def fate(self, attempts: list[Attempt]) -> str:
        """What has to have become of the job: `unfinished` while another attempt was due to it, and
        `wrong` when one was made that was not.
        """
        fate, losses = "unfinished", 0
        for attempt, (outcome, begun) in enumerate(map(_ending, attempts), 1):
            if fate != "unfinished":
                return "wrong"
            losses += outcome == "lost"
            # What its worker never came to start begins again at once, whatever `on_lost` says.
            on_lost = self.on_lost if begun else "retry"
            if outcome == "succeeded":
                fate = "completed"
            elif outcome == "lost" and (on_lost == "hold" or losses >= self.max_losses):
                fate = "dead"
            elif outcome == "failed" or on_lost == "fail":
                fate = "dead" if attempt > self.max_retries else "unfinished"
            elif outcome != "lost":
                return "wrong"
        return fate


def _ending(attempt: Attempt) -> tuple[str, bool]:
    """The outcome, and whether the command had begun."""
    return attempt.outcome, attempt.error != LOST_BEFORE_START.error


class Mark(NamedTuple):
    """A line that a command wrote. `at` is in seconds since the machine booted."""

    kind: str
    job: str
    attempt: int
    at: float


def enqueue(sandbox: Sandbox, chance: random.Random, count: int) -> dict[str, Policy]:
    """Jobs of all kinds, with what each was told."""
    run = sandbox.script("run.sh", RUN)
    policies, jobs = {}, []
    for n in range(count):
        policy = Policy(
            max_retries=chance.choice([0, 3, 30]),
            on_lost=chance.choice(["retry", "retry", "retry", "fail", "hold"]),
            max_losses=chance.choice([2, 50]),
            fails=chance.choice([0, 0, 0, 1, 2]),
        )
        policies[f"job-{n}"] = policy
        jobs.append(
            {
                "id": f"job-{n}",
                "command": f"exec {run} {chance.uniform(0.1, 1.1):.2f} {policy.fails}",
                "cwd": str(sandbox.files),
                "priority": chance.randrange(3),
                "backoff_base": chance.choice([0, 0, 1]),
                "max_retries": policy.max_retries,
                "on_lost": policy.on_lost,
                "max_losses": policy.max_losses,
            }
        )
    sandbox.queue.enqueue_many(jobs)
    return policies


def kill_at_random(sandbox: Sandbox, chance: random.Random, seconds: float) -> int:
    """Keeps workers running, and kills them and what they run; returns how often it did."""
    workers = [_start(sandbox) for _ in range(WORKERS)]
    kills = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(chance.uniform(0.1, 0.5))
        if chance.random() < 0.5:
            victim = chance.randrange(WORKERS)
            workers[victim].kill()
            workers[victim] = _start(sandbox)
            kills += 1
        elif commands := sandbox.commands():
            kills += _kill(chance.choice(commands))
    return kills


def _start(sandbox: Sandbox) -> WorkerProcess:
    return sandbox.start_worker("--count", str(SLOTS), ready=False)


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def check_history(sandbox: Sandbox, policies: dict[str, Policy]) -> None:
    """Every job's attempts, marks and state tell one story, and it is the one it was promised."""
    marks: dict[str, list[Mark]] = defaultdict(list)
    for line in sandbox.marks():
        kind, job, attempt, at = line.split()
        marks[job].append(Mark(kind, job, int(attempt), float(at)))
    assert set(marks) <= set(policies)
    for job, policy in policies.items():
        attempts = sandbox.attempts(job)
        outcomes = [attempt.outcome for attempt in attempts]
        story = f"{job} {policy} {[*map(_ending, attempts)]} {marks[job]}"
        state = sandbox.job(job).state
        assert state in ("completed", "dead"), story
        assert policy.fate(attempts) == state, story
        assert [attempt.attempt for attempt in attempts] == list(range(1, len(attempts) + 1)), story
        assert sandbox.job(job).attempts == len(attempts), story
        assert sandbox.job(job).losses == outcomes.count("lost"), story
        _check_runs(attempts, marks[job], story)


def _check_runs(attempts: list[Attempt], marks: list[Mark], story: str) -> None:
    """No two runs overlapped, each success ran from its start to its end, and attempts are as many
    as the starts seen, plus those that died before they could tell of theirs.
    """
    assert all(mark.kind != "overlap" for mark in marks), story
    order = [(mark.attempt, mark.kind) for mark in marks]
    assert order == sorted(set(order), key=lambda mark: (mark[0], mark[1] != "start")), story
    assert [mark.at for mark in marks] == sorted(mark.at for mark in marks), story
    started = {mark.attempt for mark in marks if mark.kind == "start"}
    ended = {mark.attempt for mark in marks if mark.kind == "end"}
    assert ended <= started, story
    for attempt, following in zip(attempts, [*attempts[1:], None], strict=True):
        if attempt.outcome == "succeeded":
            assert attempt.attempt in ended, story
        elif not _ending(attempt)[1]:
            assert attempt.attempt not in started, story
        elif attempt.attempt not in started:
            # It was claimed, or started, and died before its first word.
            assert attempt.outcome == "lost" or attempt.signal == signal.SIGKILL, story
        assert attempt.finished_at is not None, story
        assert following is None or attempt.finished_at <= following.started_at, story
    assert started <= {attempt.attempt for attempt in attempts}, story


def run_chaos(sandbox: Sandbox, *, jobs: int, seconds: float, patience: float) -> None:
    """Kills for that long; then all jobs have `patience` seconds to end, and are looked at."""
    seed = int(os.environ.get("CHAOS_SEED") or time.time_ns() % 10**9)
    print(f"CHAOS_SEED={seed}")
    chance = random.Random(seed)
    sandbox.configure(kill_grace_seconds=0.2)
    policies = enqueue(sandbox, chance, jobs)
    kills = kill_at_random(sandbox, chance, seconds)
    print(f"{kills} kills, {sandbox.queue.counts()}")
    assert kills > seconds
    wait_until(lambda: not _unfinished(sandbox), "all jobs end", patience)
    for worker in sandbox.workers:
        if not worker.has_ended:
            assert worker.stop() == 0, worker.said
        assert "Traceback" not in worker.said
        assert "unexpected" not in worker.said
    check_history(sandbox, policies)
    # A sleep whose command was killed, and nothing else, may take to its own end.
    wait_until(lambda: not sandbox.processes(), "nothing is left running")
    assert sandbox.queue.workers() == []
    assert sandbox.queue.check() == []


def _unfinished(sandbox: Sandbox) -> int:
    return sum(sandbox.count(state) for state in ("pending", "processing", "failed"))


@pytest.mark.timeout(240)
def test_nothing_is_lost_and_nothing_overlaps_under_kill_9(sandbox: Sandbox) -> None:
    """300 jobs, 3 workers, 30 seconds of kill -9: every job ends by its own policy, no two runs of
    one overlap, what is completed ran to its end, and nothing is left running.
    """
    run_chaos(sandbox, jobs=300, seconds=30, patience=120)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_nothing_is_lost_and_nothing_overlaps_in_ten_minutes(sandbox: Sandbox) -> None:
    """The same for ten minutes and as many jobs as that takes."""
    run_chaos(sandbox, jobs=5000, seconds=600, patience=900)
