from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from queuectl.errors import EnvironmentFault, JobNotFound, WrongState
from queuectl.jobs.lifecycle import FINISHED, State, sources
from queuectl.jobs.outcome import LOST, Verdict
from tests.contract.support import FAILED, HOUR, SECOND, START, Pair, new_job

NOT_RUNNING = [state for state in State if state != State.PROCESSING]


@pytest.fixture
def ended(pair: Pair) -> Pair:
    """A queue with a job in every state, whose ended ones ended an hour apart."""
    pair.register("w")
    pair.enqueue(new_job("dead", max_retries=0), "done", "off", "failed", "running", "waiting")
    pair.run("w", FAILED)
    pair.clock.go_on(3600)
    pair.run("w")
    pair.clock.go_on(3600)
    pair.jobs.cancel(["off"], pair.clock.now())
    pair.run("w", FAILED)
    pair.claim("w")
    return pair


# ---- requeue


@pytest.mark.parametrize("id", ["dead", "done", "off"])
def test_an_ended_job_starts_afresh(ended: Pair, id: str) -> None:
    """A requeued job is pending with all its attempts, and can be claimed; its history is kept."""
    history = ended.jobs.attempts(id)
    ended.jobs.requeue([id], START + 9 * HOUR, sources("requeue"))
    job = ended.job(id)
    assert (job.state, job.attempts, job.losses, job.next_run_at) == (State.PENDING, 0, 0, None)
    assert (job.exit_code, job.signal, job.error, job.worker) == (None,) * 4
    assert (job.started_at, job.finished_at) == (None, None)
    assert (job.created_at, job.updated_at) == (START, START + 9 * HOUR)
    assert ended.jobs.attempts(id) == history
    claim = ended.claim_one("w")
    assert (claim.id, claim.attempt) == (id, 1)
    ended.settle("w", claim)
    assert len(ended.jobs.attempts(id)) == len(history) + 1


def test_requeued_losses_are_forgiven(ended: Pair) -> None:
    """A job that died because its workers were lost may lose as many again."""
    ended.work.fence("w")
    ended.work.rescue("w", lambda claim: (LOST, Verdict(State.DEAD, claim.attempt, 5)))
    assert ended.job("running").losses == 5
    ended.jobs.requeue(["running"], START, [State.DEAD])
    ended.register("v")
    assert (ended.claim_one("v").losses, ended.job("running").losses) == (0, 0)


@pytest.mark.parametrize("id", ["waiting", "failed", "running", "done"])
def test_only_the_states_asked_for_are_requeued(ended: Pair, id: str) -> None:
    """All or none: a job in another state than asked for leaves the others as they were."""
    before = ended.everything()
    with pytest.raises(WrongState, match=f"{id} is "):
        ended.jobs.requeue(["dead", id], START, [State.DEAD])
    assert ended.everything() == before
    with pytest.raises(JobNotFound):
        ended.jobs.requeue(["dead", "nobody"], START, [State.DEAD])
    assert ended.everything() == before


def test_everything_dead_is_requeued(pair: Pair) -> None:
    """However many are dead, all are requeued and counted, and nothing else is touched."""
    pair.register("w")
    ids = [f"j{n}" for n in range(4_100)]
    pair.enqueue(*(new_job(id, max_retries=0) for id in ids), "failed", "done")
    pair.work.exchange("w", [pair.settlement(c, FAILED) for c in pair.claim("w", 4_101)], 0)
    pair.run("w")
    assert pair.jobs.counts() == {State.DEAD: 4_100, State.FAILED: 1, State.COMPLETED: 1}
    assert pair.jobs.requeue_dead(START + 1) == 4_100
    assert pair.jobs.counts() == {State.PENDING: 4_100, State.FAILED: 1, State.COMPLETED: 1}
    assert pair.jobs.requeue_dead(START + 2) == 0


# ---- delete


@pytest.mark.parametrize("id", ["dead", "done", "off", "failed", "waiting"])
def test_a_deleted_job_is_gone_with_its_attempts(ended: Pair, id: str) -> None:
    """Nothing of it is left, and its id may be used for another job."""
    ended.jobs.delete([id], NOT_RUNNING)
    assert ended.jobs.get(id) is None
    assert id not in ended.ids()
    ended.enqueue(new_job(id, command="another"))
    assert ended.job(id).command == "another"
    assert ended.jobs.attempts(id) == []


def test_the_place_of_a_deleted_job_holds_nothing_of_it(pair: Pair) -> None:
    """The job that comes after the last one was deleted inherits no attempts from it."""
    pair.register("w")
    pair.enqueue("a")
    pair.run("w", FAILED)
    pair.jobs.delete(["a"], NOT_RUNNING)
    pair.enqueue("b")
    pair.run("w")
    assert [attempt.outcome for attempt in pair.jobs.attempts("b")] == ["succeeded"]


@pytest.mark.parametrize("remove", [lambda p, ids: p.jobs.delete(ids, NOT_RUNNING)])
def test_deleting_is_all_or_none(ended: Pair, remove: Callable[[Pair, list[str]], None]) -> None:
    """A running job, or an id that no job has, leaves the others where they are."""
    before = ended.everything()
    with pytest.raises(WrongState, match="running is processing"):
        remove(ended, ["dead", "running"])
    with pytest.raises(JobNotFound, match="nobody"):
        remove(ended, ["dead", "nobody"])
    assert ended.everything() == before


# ---- the output goes with the job


def remove(
    pair: Pair, how: str, ids: list[str], remove_output: Callable[[Sequence[str]], object]
) -> None:
    """Removes ended jobs with their output, one way or the other."""
    if how == "delete":
        pair.jobs.delete(ids, NOT_RUNNING, remove_output)
    else:
        pair.jobs.prune(FINISHED, None, 100, remove_output)


@pytest.mark.parametrize("how", ["delete", "prune"])
def test_output_is_removed_while_the_ids_are_taken(ended: Pair, how: str) -> None:
    """Once, with all the ids, and before anybody could enqueue another job with one of them."""
    other = ended.database.open_jobs()
    calls = []

    def remove_output(ids: Sequence[str]) -> None:
        calls.append(sorted(ids))
        assert other.existing(ids) == set(ids)

    remove(ended, how, ["dead", "done", "off"], remove_output)
    assert calls == [["dead", "done", "off"]]
    assert other.existing(calls[0]) == set()


@pytest.mark.parametrize("how", ["delete", "prune"])
def test_output_that_cannot_be_removed_keeps_the_jobs(ended: Pair, how: str) -> None:
    """What the removal raises is raised, and nothing has changed."""
    before = ended.everything()

    def remove_output(ids: Sequence[str]) -> None:
        raise EnvironmentFault("it is not ours")

    with pytest.raises(EnvironmentFault, match="not ours"):
        remove(ended, how, ["dead", "done", "off"], remove_output)
    assert ended.everything() == before


def test_output_of_jobs_that_stay_is_not_removed(ended: Pair) -> None:
    """A request that is refused, or that finds nothing, removes no output."""

    def remove_output(ids: Sequence[str]) -> None:
        raise AssertionError(f"removed {ids}")

    with pytest.raises(WrongState):
        ended.jobs.delete(["dead", "running"], NOT_RUNNING, remove_output)
    assert ended.jobs.prune([State.DEAD], START - HOUR, 10, remove_output) == []


# ---- prune


@pytest.mark.parametrize(
    ("states", "before", "ids"),
    [
        (FINISHED, None, {"dead", "done", "off"}),
        (FINISHED, START + 2 * HOUR, {"dead", "done"}),
        (FINISHED, START + 2 * HOUR + 1, {"dead", "done", "off"}),
        (FINISHED, START + HOUR, {"dead"}),
        (FINISHED, START, set()),
        ([State.COMPLETED], None, {"done"}),
        ([State.COMPLETED, State.CANCELLED], START + HOUR + 1, {"done"}),
    ],
)
def test_prune_removes_what_ended_before(
    ended: Pair, states: list[State], before: int | None, ids: set[str]
) -> None:
    """Jobs in the states that ended before the time go, as many as were counted; the rest stays."""
    everyone = set(ended.ids())
    assert ended.jobs.count_prunable(states, before) == len(ids)
    assert set(ended.jobs.prune(states, before, 100)) == ids
    assert set(ended.ids()) == everyone - ids
    assert ended.jobs.count_prunable(states, before) == 0
    for id in ids:
        ended.enqueue(id)
        assert ended.jobs.attempts(id) == []


def test_prune_works_in_batches(pair: Pair) -> None:
    """No call removes more than a batch, each goes on where the last one stopped, and the end is told."""
    pair.register("w")
    pair.enqueue(*(f"j{n}" for n in range(25)), "waiting")
    pair.work.exchange("w", [pair.settlement(claim) for claim in pair.claim("w", 25)], 0)
    pair.clock.go_on(1)
    removed = []
    for size in (10, 10, 5, 0):
        batch = pair.jobs.prune([State.COMPLETED], START + SECOND, 10)
        assert len(batch) == size
        removed += batch
    assert sorted(removed) == sorted(f"j{n}" for n in range(25))
    assert pair.ids() == ["waiting"]


def test_prune_finds_what_ended_between_its_batches(pair: Pair) -> None:
    """A job that came early and ends late is not passed over, wherever the last batch stopped."""
    pair.register("w")
    pair.enqueue("early", "a", "b", "c")
    early, *others = pair.claim("w", 4)
    pair.work.exchange("w", [pair.settlement(claim) for claim in others], 0)
    pair.clock.go_on(1)
    removed = pair.jobs.prune([State.COMPLETED], None, 2)
    assert len(removed) == 2
    pair.settle("w", early)
    removed += pair.jobs.prune([State.COMPLETED], None, 2)
    assert sorted(removed) == ["a", "b", "c", "early"]


def test_a_job_cancelled_before_it_started_is_pruned_too(pair: Pair) -> None:
    """A job that its worker gave back because it was called off grows old like every other."""
    pair.register("w")
    pair.enqueue("a")
    claim = pair.claim_one("w")
    pair.jobs.cancel(["a"], START)
    pair.work.give_back("w", [claim])
    assert pair.jobs.prune([State.CANCELLED], START + HOUR, 10) == ["a"]
