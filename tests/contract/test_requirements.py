"""Which worker may run which job: tags of the one, requirements of the other."""

from __future__ import annotations

import pytest

from queuectl.jobs.lifecycle import State
from tests.contract.support import FAILED, HOUR, SECOND, START, Pair, ids_of, new_job


@pytest.fixture
def mixed(pair: Pair) -> Pair:
    """Jobs that require one tag, two, or none, and workers with some of these tags."""
    pair.register("plain")
    pair.register("gpu", tags=("gpu", "linux-6"))
    pair.register("both", tags=("gpu", "linux"))
    pair.enqueue(
        new_job("both1", priority=1, requires=("gpu", "linux")),
        new_job("any1"),
        new_job("gpu1", priority=2, requires=("gpu",)),
        new_job("linux1", requires=("linux",)),
        new_job("any2", priority=2),
        new_job("both2", priority=2, requires=("gpu", "linux")),
    )
    return pair


def test_a_worker_claims_only_what_its_tags_allow(mixed: Pair) -> None:
    """Every requirement has to be among its tags, whole; what requires nothing runs anywhere."""
    assert ids_of(mixed.claim("plain", 9)) == ["any2", "any1"]
    assert ids_of(mixed.claim("gpu", 9)) == ["gpu1"]
    assert ids_of(mixed.claim("both", 9)) == ["both2", "both1", "linux1"]


@pytest.mark.parametrize("wanted", [1, 2, 4, 6])
def test_requirements_do_not_change_the_order(mixed: Pair, wanted: int) -> None:
    """Priority and arrival decide among all that a worker can run, whatever the jobs require."""
    order = ["gpu1", "any2", "both2", "both1", "any1", "linux1"]
    assert ids_of(mixed.claim("both", wanted)) == order[:wanted]
    assert ids_of(mixed.claim("both", 9)) == order[wanted:]


def test_a_job_that_nobody_can_run_stops_nobody(pair: Pair) -> None:
    """Jobs of a high priority that require a tag that a worker lacks are passed over."""
    pair.register("plain")
    pair.register("other", tags=("gp", "gpus"))
    pair.enqueue(*(new_job(f"g{n}", priority=9, requires=("gpu",)) for n in range(500)), "a", "b")
    assert ids_of(pair.claim("plain")) == ["a"]
    assert ids_of(pair.claim("other", 9)) == ["b"]
    assert pair.claim("plain", 9) == pair.claim("other", 9) == []
    assert not pair.work.outlook("plain").ready


def test_what_a_job_requires_goes_with_it(pair: Pair) -> None:
    """Through a run, its end, a new beginning and being called off, the requirements stay."""
    pair.register("w", tags=("gpu",))
    pair.enqueue(new_job("a", max_retries=0, requires=("gpu",)))
    pair.run("w", FAILED)
    assert (pair.state("a"), pair.job("a").requires) == (State.DEAD, ("gpu",))
    pair.jobs.requeue(["a"], START, [State.DEAD])
    assert pair.job("a").requires == ("gpu",)
    pair.work.give_back("w", [pair.claim_one("w")])
    claim = pair.claim_one("w")
    pair.jobs.cancel(["a"], START)
    pair.work.give_back("w", [claim])
    assert (pair.state("a"), pair.job("a").requires) == (State.CANCELLED, ("gpu",))
    assert [job.requires for job in pair.jobs.list_jobs((), sort="id", descending=False, limit=1)]


def test_a_job_for_later_is_for_the_same_workers_when_it_is_due(pair: Pair) -> None:
    """Whoever comes by makes it ready; only who has the tags may claim it."""
    pair.register("plain")
    pair.register("w", tags=("gpu",))
    pair.enqueue(new_job("a", run_at=START + SECOND, requires=("gpu",)))
    pair.clock.go_on(1)
    assert pair.work.outlook("plain").ready
    assert pair.claim("plain") == []
    assert not pair.work.outlook("plain").ready
    assert pair.work.outlook("w").ready
    assert ids_of(pair.claim("w")) == ["a"]


def test_a_drain_waits_only_for_what_it_could_run(pair: Pair) -> None:
    """A job that a worker cannot run is no unfinished business to it: ready, running, or failed."""
    pair.register("plain")
    pair.register("w", tags=("gpu",))
    pair.enqueue(new_job("a", max_retries=1, requires=("gpu",)))

    def seen() -> tuple[bool, bool]:
        return pair.work.outlook("plain").unfinished, pair.work.outlook("w").unfinished

    assert seen() == (False, True)
    claim = pair.claim_one("w")
    assert seen() == (False, True)
    pair.settle("w", claim, FAILED)
    assert seen() == (False, True)
    pair.enqueue(new_job("b", max_retries=1))
    pair.run("plain", FAILED)
    assert seen() == (True, True)


def test_what_a_worker_leaves_to_others_is_counted(mixed: Pair) -> None:
    """Ready jobs, and such that wait for their retry, by their tags; none that are for later."""
    assert mixed.work.left_to_others("both") == {}
    assert mixed.work.left_to_others("gpu") == {("linux",): 1, ("gpu", "linux"): 2}
    mixed.settle("gpu", mixed.claim("gpu", 2)[0], FAILED)
    mixed.enqueue(new_job("later", run_at=START + HOUR, requires=("gpu",)))
    assert mixed.work.left_to_others("plain") == {
        ("gpu",): 1,
        ("linux",): 1,
        ("gpu", "linux"): 2,
    }


def test_ready_jobs_are_counted_by_what_they_require(mixed: Pair) -> None:
    """What is due counts, whether a worker has come by since or not; what is not due does not."""
    mixed.enqueue(
        new_job("due", run_at=START - 1, requires=("gpu",)),
        new_job("later", run_at=START + HOUR, requires=("later",)),
    )
    expected = {("gpu",): 2, ("linux",): 1, ("gpu", "linux"): 2}
    assert mixed.jobs.ready_by_requirement(START) == expected
    mixed.claim("plain", 9)
    assert mixed.jobs.ready_by_requirement(START) == expected
    mixed.claim("both", 9)
    assert mixed.jobs.ready_by_requirement(START) == {}


def test_a_worker_is_known_with_its_tags(pair: Pair) -> None:
    """Both sides see them; one without has none."""
    pair.register("plain")
    pair.register("w", tags=("gpu", "linux"))
    for side in (pair.work, pair.jobs):
        assert {w.id: w.tags for w in side.workers()} == {"plain": (), "w": ("gpu", "linux")}


def test_many_sets_of_tags(pair: Pair) -> None:
    """However many different requirements there are, the first job that a worker can run is found."""
    pair.register("plain")
    pair.register("w", tags=("t7", "t70", "x"))
    pair.enqueue(*(new_job(f"j{n}", priority=n, requires=(f"t{n}",)) for n in range(100)), "any")
    assert ids_of(pair.claim("w", 2)) == ["j70", "j7"]
    assert ids_of(pair.claim("plain", 9)) == ["any"]
