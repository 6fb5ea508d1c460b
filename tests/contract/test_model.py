"""The storage against a model in plain Python: any verbs, in any order, with late answers and clock moves."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from queuectl.jobs.lifecycle import FINISHED, MOVES, State
from queuectl.jobs.outcome import LOST, judge
from tests.contract.queue_verbs import ALL_TAGS, QueueVerbs
from tests.contract.support import KINDS, POLICY, SECOND

LEGAL = {(source, target) for move in MOVES for source in move.sources for target in move.targets}

EXAMPLES = {"sqlite": 80, "postgres": 40, "pooled": 5}
"""How many sequences are tried: each takes a server ten times as long."""


class QueueMachine(QueueVerbs):
    """Says after each verb what must hold."""

    def teardown(self) -> None:
        """Whatever happened, every job that is left can be brought to its end."""
        try:
            self.finish_everything()
        finally:
            self.close()

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.pair.ids() == list(self.model.jobs)
        counts: dict[State, int] = {}
        for job in self.model.jobs.values():
            counts[job.state] = counts.get(job.state, 0) + 1
        assert self.pair.jobs.counts() == counts

    @invariant()
    def every_job_is_as_it_should_be(self) -> None:
        for id, expected in self.model.jobs.items():
            job = self.pair.job(id)
            assert (job.state, job.attempts, job.losses, job.next_run_at, job.error) == (
                expected.state,
                expected.attempts,
                expected.losses,
                expected.next_run_at,
                expected.error,
            )
            assert (job.cancel_requested_at is not None) == expected.cancelling
            assert job.requires == expected.new.requires
            if job.state in FINISHED:
                assert job.finished_at is not None

    @invariant()
    def attempts_are_as_they_should_be(self) -> None:
        for id, expected in self.model.jobs.items():
            attempts = self.pair.jobs.attempts(id)
            running = [(expected.attempts, "running")] if expected.holder else []
            assert [(a.attempt, a.outcome) for a in attempts] == expected.history + running
            for attempt in attempts:
                assert attempt.finished_at is None or attempt.finished_at >= attempt.started_at

    @invariant()
    def states_change_by_legal_moves_alone(self) -> None:
        for job in self.pair.jobs.list_jobs((), sort="created", descending=False, limit=None):
            before = self.seen[job.id]
            assert before == job.state or (before, job.state) in LEGAL
            self.seen[job.id] = job.state

    @invariant()
    def workers_are_as_they_should_be(self) -> None:
        workers = {worker.id: worker for worker in self.pair.work.workers()}
        assert set(workers) == set(self.model.workers)
        for id, expected in self.model.workers.items():
            left = (expected.lease_ends - self.pair.clock.ticks()) / SECOND
            assert workers[id].lease_left_seconds == left
            assert (workers[id].fenced_at is not None) == expected.fenced
            assert workers[id].running == len(self.model.held_by(id))
            assert frozenset(workers[id].tags) == expected.tags

    @invariant()
    def the_outlook_is_as_it_should_be(self) -> None:
        waiting = self.model.waiting()
        times = [job.next_run_at for job in waiting if job.next_run_at is not None]
        due = min(times, default=self.now + 1) <= self.now
        busy = {State.PROCESSING, State.FAILED}
        for worker, known in self.model.workers.items():
            mine = [j for j in self.model.jobs.values() if known.tags.issuperset(j.new.requires)]
            ready = due or any(job in waiting and job.next_run_at is None for job in mine)
            unfinished = ready or any(job.state in busy for job in mine)
            outlook = self.pair.work.outlook(worker)
            assert (outlook.ready, outlook.unfinished) == (ready, unfinished)
            assert outlook.next_due_at == min(times, default=None)
            assert outlook.fenced == known.fenced
            others = [j for j in waiting if not known.tags.issuperset(j.new.requires)]
            left = [j for j in others if j.next_run_at is None or j.state == State.FAILED]
            assert sum(self.pair.work.left_to_others(worker).values()) == len(left)
            assert {seq for _, seq in outlook.cancelling} == {
                job.claim.seq for job in self.model.held_by(worker) if job.claim and job.cancelling
            }

    def finish_everything(self) -> None:
        for worker in list(self.model.workers):
            self.pair.work.fence(worker)
            self.pair.work.rescue(worker, lambda claim: (LOST, judge(claim, LOST, POLICY)))
        self.pair.clock.go_on(1e6)
        self.pair.register("last", tags=ALL_TAGS)
        while self.pair.work.outlook("last").unfinished:
            claims = self.pair.claim("last", 10)
            endings = [self.pair.settlement(claim) for claim in claims]
            assert claims, "unfinished jobs that nobody can claim"
            assert self.pair.work.exchange("last", endings, 0).refused == []
        assert set(self.pair.jobs.counts()) <= set(FINISHED)


@pytest.mark.parametrize("kind", KINDS)
def test_the_storage_does_as_the_model_says(kind: str) -> None:
    """Any sequence of verbs leaves the storage exactly where the rules put it, and loses nothing."""
    run_state_machine_as_test(
        lambda: QueueMachine(kind),  # type: ignore[arg-type] # any factory will do
        settings=settings(
            max_examples=EXAMPLES[kind],
            stateful_step_count=40,
            deadline=None,
            # To explain a failure takes minutes more than to find and to shorten it.
            phases=[Phase.reuse, Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
        ),
    )
