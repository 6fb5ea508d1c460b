"""Every verb of the storage as a step that is taken on the model too, for test_model.py."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from queuectl.errors import DuplicateJobId, JobNotFound, WorkerFenced, WrongState
from queuectl.jobs import outcome as outcomes
from queuectl.jobs.claim import Claim
from queuectl.jobs.job import NewJob
from queuectl.jobs.lifecycle import FINISHED, MOVES, State, sources
from queuectl.jobs.outcome import LOST, SUCCEEDED, Outcome, judge
from tests.contract.model import Model, ModelJob, ModelWorker
from tests.contract.support import POLICY, SECOND, Pair, new_database, new_job

LEGAL = {(source, target) for move in MOVES for source in move.sources for target in move.targets}

ENDINGS = st.sampled_from(
    [
        SUCCEEDED,
        outcomes.exited(3),
        outcomes.killed(11, "SIGSEGV"),
        outcomes.timed_out(1, None, 15),
        outcomes.not_started("no folder"),
        outcomes.cancelled(None, 15),
        outcomes.interrupted(None, 15),
    ]
)
JobDraft = tuple[int, int | None, int, float | None, str, int | None, tuple[str, ...]]
JOBS = st.tuples(
    st.integers(-1, 1),  # priority
    st.sampled_from([None, None, 0, -5, 5, 3600]),  # seconds until it may run
    st.integers(0, 2),  # max_retries
    st.sampled_from([None, 0, 0.5, 3]),  # backoff_base
    st.sampled_from(["retry", "fail", "hold"]),  # on_lost
    st.sampled_from([None, 1, 2]),  # max_losses
    st.sampled_from([(), (), ("gpu",), ("linux",), ("gpu", "linux")]),  # requires
)
TAGS = st.sampled_from([(), ("gpu",), ("gpu", "linux"), ("gp", "linux")])
ALL_TAGS = ("gpu", "linux")
SOME = st.integers(0, 10**6)
"""Chooses one of whatever there is."""

T = TypeVar("T")


def choose(among: list[T], number: int) -> T:
    """One of them, by a number of any size."""
    return among[number % len(among)]


class QueueVerbs(RuleBasedStateMachine):
    """Does the same to a storage and to the model."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._stack = ExitStack()
        # In memory where there is such a place: it is not the disk that is tried here.
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        self.pair = Pair(self._stack.enter_context(new_database(kind, folder)))
        self.model = Model()
        self.claims: list[tuple[str, Claim]] = []
        """Every claim ever handed out, with its worker: the old ones are for late answers."""
        self.seen: dict[str, State] = {}
        self.named = 0

    @property
    def now(self) -> int:
        return self.pair.clock.now()

    def close(self) -> None:
        self._stack.close()

    def new_name(self, letter: str) -> str:
        self.named += 1
        return f"{letter}{self.named}"

    def a_worker(self, number: int) -> str:
        return choose(sorted(self.model.workers), number)

    def a_job(self, number: int) -> ModelJob:
        return choose(list(self.model.jobs.values()), number)

    def unchanged(self, error: type[Exception], act: Callable[[], object]) -> None:
        """`act` must be refused, and leave everything as it was (which the invariants see)."""
        with pytest.raises(error):
            act()

    # ---- jobs

    @initialize(jobs=st.lists(JOBS, min_size=5, max_size=5), wanted=st.integers(0, 3))
    def begin(self, jobs: list[JobDraft], wanted: int) -> None:
        """A busy queue to start from, so that no sequence is wasted on an empty one."""
        for draft in jobs:
            self.enqueue(draft, 1)
        for worker, tags in enumerate([(), ALL_TAGS]):
            self.join(tags)
            self.claim(worker, wanted)
        self.seen.update((id, job.state) for id, job in self.model.jobs.items())

    @rule(draft=JOBS, count=st.integers(1, 3))
    def enqueue(self, draft: JobDraft, count: int) -> None:
        priority, delay, max_retries, backoff_base, on_lost, max_losses, requires = draft
        jobs = [
            new_job(
                self.new_name("j"),
                priority=priority,
                run_at=None if delay is None else self.now + delay * SECOND,
                max_retries=max_retries,
                backoff_base=backoff_base,
                on_lost=on_lost,
                max_losses=max_losses,
                requires=requires,
            )
            for _ in range(count)
        ]
        self.pair.enqueue(*jobs)
        for job in jobs:
            self.model.enqueue(job)
            self.seen[job.id] = State.PENDING

    @precondition(lambda self: self.model.jobs)
    @rule(number=SOME, place=st.integers(0, 2))
    def enqueue_a_taken_id(self, number: int, place: int) -> None:
        jobs: list[NewJob | str] = [self.new_name("j"), self.new_name("j")]
        jobs.insert(place, self.a_job(number).new.id)
        self.unchanged(DuplicateJobId, lambda: self.pair.enqueue(*jobs))

    @precondition(lambda self: self.model.jobs)
    @rule(numbers=st.lists(SOME, min_size=1, max_size=3))
    def cancel(self, numbers: list[int]) -> None:
        jobs = list({job.new.id: job for job in map(self.a_job, numbers)}.values())
        ids = [job.new.id for job in jobs]
        if any(job.state in FINISHED for job in jobs):
            self.unchanged(WrongState, lambda: self.pair.jobs.cancel(ids, self.now))
            return
        running = [job.new.id for job in jobs if job.state == State.PROCESSING]
        assert self.pair.jobs.cancel(ids, self.now) == running
        for job in jobs:
            self.model.cancel(job)

    @precondition(lambda self: self.model.jobs)
    @rule(number=SOME)
    def requeue(self, number: int) -> None:
        job = self.a_job(number)
        ids = [job.new.id]
        if job.state not in FINISHED:
            self.unchanged(
                WrongState, lambda: self.pair.jobs.requeue(ids, self.now, sources("requeue"))
            )
            return
        self.pair.jobs.requeue(ids, self.now, sources("requeue"))
        self.model.requeue(job)

    @rule()
    def requeue_dead(self) -> None:
        dead = [job for job in self.model.jobs.values() if job.state == State.DEAD]
        assert self.pair.jobs.requeue_dead(self.now) == len(dead)
        for job in dead:
            self.model.requeue(job)

    @precondition(lambda self: self.model.jobs)
    @rule(number=SOME)
    def delete(self, number: int) -> None:
        job = self.a_job(number)
        states = [state for state in State if state != State.PROCESSING]
        if job.state == State.PROCESSING:
            self.unchanged(WrongState, lambda: self.pair.jobs.delete([job.new.id], states))
            return
        self.pair.jobs.delete([job.new.id], states)
        self.forget(job)
        self.unchanged(JobNotFound, lambda: self.pair.jobs.delete([job.new.id], states))

    @rule(batch=st.integers(1, 3))
    def prune(self, batch: int) -> None:
        ended = [job for job in self.model.jobs.values() if job.state in FINISHED]
        assert self.pair.jobs.count_prunable(FINISHED, None) == len(ended)
        gone = self.pair.jobs.prune(FINISHED, None, batch)
        assert len(gone) == min(batch, len(ended))
        for id in gone:
            job = self.model.jobs[id]
            assert job in ended
            self.forget(job)

    def forget(self, job: ModelJob) -> None:
        del self.model.jobs[job.new.id]
        del self.seen[job.new.id]

    # ---- workers

    @precondition(lambda self: len(self.model.workers) < 4)
    @rule(tags=TAGS)
    def join(self, tags: tuple[str, ...]) -> None:
        worker = self.new_name("w")
        self.pair.register(worker, tags=tags)
        lease_ends = self.pair.clock.ticks() + 30 * SECOND
        self.model.workers[worker] = ModelWorker(lease_ends, frozenset(tags))

    @precondition(lambda self: self.model.workers)
    @rule(number=SOME, wanted=st.integers(0, 3))
    def claim(self, number: int, wanted: int) -> None:
        worker = self.a_worker(number)
        if not self.model.may_write(worker):
            self.unchanged(WorkerFenced, lambda: self.pair.claim(worker, wanted))
            return
        claims = self.pair.claim(worker, wanted)
        expected = self.model.claim(worker, wanted, self.now) if wanted else []
        assert [claim.id for claim in claims] == [job.new.id for job in expected]
        for claim, job in zip(claims, expected, strict=True):
            assert (claim.attempt, claim.losses) == (job.attempts, job.losses)
            job.claim = claim
            self.claims.append((worker, claim))

    @precondition(lambda self: self.claims)
    @rule(endings=st.lists(st.tuples(SOME, ENDINGS), min_size=1, max_size=3), latest=st.booleans())
    def settle(self, endings: list[tuple[int, Outcome]], latest: bool) -> None:
        """Some claims of one worker, most of them current, some late, some handed in twice."""
        known = self.claims[-4:] if latest else self.claims
        worker = choose(known, endings[0][0])[0]
        mine = [claim for holder, claim in known if holder == worker]
        chosen = [(choose(mine, number), ending) for number, ending in endings]
        settlements = [self.pair.settlement(claim, ending) for claim, ending in chosen]
        if not self.model.may_write(worker):
            self.unchanged(WorkerFenced, lambda: self.pair.work.exchange(worker, settlements, 1))
            return
        refused = []
        for claim, ending in chosen:
            if self.model.counts(worker, claim):
                self.model.settle(self.model.jobs[claim.id], ending, self.now)
            else:
                refused.append(claim)
        assert self.pair.work.exchange(worker, settlements, 0).refused == refused

    @precondition(lambda self: self.claims)
    @rule(number=SOME)
    def give_back(self, number: int) -> None:
        worker, claim = choose(self.claims, number)
        with suppress(WorkerFenced):
            self.pair.work.give_back(worker, [claim])
        if self.model.may_write(worker) and self.model.counts(worker, claim):
            self.model.give_back(self.model.jobs[claim.id])

    @precondition(lambda self: self.model.workers)
    @rule(number=SOME, lease=st.integers(2, 60))
    def heartbeat(self, number: int, lease: int) -> None:
        worker = self.a_worker(number)
        if not self.model.may_write(worker):
            self.unchanged(WorkerFenced, lambda: self.pair.work.heartbeat(worker, lease))
            return
        self.pair.work.heartbeat(worker, lease)
        self.model.workers[worker].lease_ends = self.pair.clock.ticks() + lease * SECOND

    @precondition(lambda self: self.model.workers)
    @rule(number=SOME)
    def fence(self, number: int) -> None:
        worker = self.a_worker(number)
        held = self.pair.work.fence(worker)
        assert {claim.id for claim in held} == {job.new.id for job in self.model.held_by(worker)}
        self.model.workers[worker].fenced = True

    @precondition(lambda self: any(worker.fenced for worker in self.model.workers.values()))
    @rule(number=SOME)
    def rescue(self, number: int) -> None:
        worker = choose([id for id, worker in self.model.workers.items() if worker.fenced], number)
        taken = self.pair.work.rescue(worker, lambda claim: (LOST, judge(claim, LOST, POLICY)))
        held = self.model.held_by(worker)
        assert {claim.id for claim, _ in taken} == {job.new.id for job in held}
        for job in held:
            self.model.settle(job, LOST, self.now)
        del self.model.workers[worker]

    @precondition(lambda self: self.model.workers)
    @rule(number=SOME)
    def leave(self, number: int) -> None:
        worker = self.a_worker(number)
        if not self.model.held_by(worker):
            self.pair.work.unregister(worker)
            del self.model.workers[worker]

    # ---- time

    @rule(seconds=st.sampled_from([0.000001, 1, 5, 31, 3600]))
    def time_passes(self, seconds: float) -> None:
        self.pair.clock.go_on(seconds)

    @rule(seconds=st.sampled_from([-7200, -3600, -1, 1, 3600]))
    def clock_is_set(self, seconds: int) -> None:
        self.pair.clock.set_wall(seconds)

    @rule()
    def rebase_retries(self) -> None:
        assert self.pair.work.rebase_retries() == self.model.rebase_retries(self.now)
