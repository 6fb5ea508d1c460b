from __future__ import annotations

from contextlib import suppress

import pytest

from queuectl.errors import DatabaseTooNew, WorkerFenced
from queuectl.jobs.claim import Claim
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import LOST, LOST_BEFORE_START, SUCCEEDED, Outcome, Verdict, judge
from queuectl.storage.records import WorkerRecord
from tests.contract.support import POLICY, START, Database, Pair, ids_of, new_job, new_worker
from tests.support import bring_schema_up


def record(pair: Pair, id: str) -> WorkerRecord:
    """What is known of the worker."""
    (found,) = [worker for worker in pair.work.workers() if worker.id == id]
    return found


def rescue(pair: Pair, worker: str) -> list[str]:
    """Takes a worker's jobs by the rules, and returns their ids."""
    return ids_of(c for c, _ in pair.work.rescue(worker, lambda c: (LOST, judge(c, LOST, POLICY))))


def test_a_worker_is_known_as_it_registered(pair: Pair) -> None:
    """Both sides see the worker, its first heartbeat and lease, and how many jobs it holds."""
    new = new_worker("w", lease_seconds=12.5, slots=7)
    pair.work.register(new)
    pair.enqueue("a", "b", "c")
    pair.claim("w", 2)
    found = record(pair, "w")
    assert found[:9] == new[:9]
    assert (found.started_at, found.heartbeat_at) == (START, START)
    assert (found.lease_seconds, found.lease_left_seconds) == (12.5, 12.5)
    assert (found.stop_requested_at, found.fenced_at, found.running) == (None, None, 2)
    (seen,) = pair.jobs.workers()
    assert seen._replace(lease_left_seconds=12.5) == found


def test_workers_are_listed_oldest_first(pair: Pair) -> None:
    """The order is that of their start, whatever their ids."""
    for id in ("m", "z", "a"):
        pair.register(id)
        pair.clock.go_on(1)
    assert [worker.id for worker in pair.work.workers()] == ["m", "z", "a"]
    assert [worker.id for worker in pair.jobs.workers()] == ["m", "z", "a"]


def test_a_heartbeat_renews_the_lease(pair: Pair) -> None:
    """Time eats the lease up, past zero; a heartbeat makes it whole, and may change its length."""
    pair.register("w", "v", lease_seconds=30)
    pair.clock.go_on(20)
    assert record(pair, "w").lease_left_seconds == 10
    pair.work.heartbeat("w", 60)
    assert (record(pair, "w").lease_seconds, record(pair, "w").lease_left_seconds) == (60, 60)
    assert record(pair, "w").heartbeat_at == pair.clock.now()
    assert record(pair, "v").lease_left_seconds == 10
    pair.clock.go_on(15)
    assert record(pair, "v").lease_left_seconds == -5
    pair.work.heartbeat("v", 30)
    assert record(pair, "v").lease_left_seconds == 30


def test_a_worker_past_its_lease_that_nobody_gave_up_goes_on(pair: Pair) -> None:
    """The lease only says when others may act; until they do, its answers count."""
    pair.register("w", lease_seconds=2)
    pair.enqueue("a")
    claim = pair.claim_one("w")
    pair.clock.go_on(1000)
    assert pair.settle("w", claim) == []
    assert pair.state("a") == State.COMPLETED


def test_a_worker_that_leaves_is_forgotten(pair: Pair) -> None:
    """After it is off the register it is in no list, and may not write any more."""
    pair.register("w", "v")
    pair.work.unregister("w")
    assert [worker.id for worker in pair.work.workers()] == ["v"]
    assert pair.work.outlook("w").fenced
    with pytest.raises(WorkerFenced):
        pair.work.heartbeat("w", 30)
    with pytest.raises(WorkerFenced):
        pair.work.exchange("w", [], 1)


# ---- giving a worker up


def test_a_fenced_worker_can_write_nothing(pair: Pair) -> None:
    """Fencing names what the worker held, and from then on none of its writes does anything."""
    pair.register("w", "v")
    pair.enqueue("a", "b", "c")
    held = pair.claim("w", 2)
    other = pair.claim_one("v")
    assert pair.work.fence("w") == held
    before = pair.everything()
    assert pair.work.outlook("w").fenced
    assert not pair.work.outlook("v").fenced
    with pytest.raises(WorkerFenced):
        pair.work.heartbeat("w", 30)
    with pytest.raises(WorkerFenced):
        pair.work.exchange("w", [pair.settlement(claim) for claim in held], 5)
    with suppress(WorkerFenced):
        pair.work.give_back("w", held)
    with suppress(WorkerFenced):
        pair.work.unregister("w")
    assert pair.everything() == before
    assert pair.claim("v", 5) == []
    assert rescue(pair, "w") == ["a", "b"]
    assert pair.settle("v", other) == []


def test_fencing_again_is_the_same(pair: Pair) -> None:
    """Two maintainers that give up the same worker see the same jobs and one time."""
    pair.register("w")
    pair.enqueue("a")
    first = pair.work.fence("w")
    pair.clock.go_on(5)
    assert pair.work.fence("w") == first
    assert record(pair, "w").fenced_at == START
    assert pair.work.fence("nobody") == []


def test_a_worker_back_under_a_new_name_cannot_settle_the_old_claims(pair: Pair) -> None:
    """Between the fence and the rescue a lost worker that registers anew holds nothing of before."""
    pair.register("w")
    pair.enqueue("a")
    claim = pair.claim_one("w")
    pair.work.fence("w")
    pair.register("w2")
    before = pair.everything()
    assert pair.settle("w2", claim) == [claim]
    pair.work.give_back("w2", [claim])
    assert pair.everything() == before
    assert rescue(pair, "w") == ["a"]


def test_unregistering_hides_no_jobs(pair: Pair) -> None:
    """A worker that leaves while it holds jobs, by whatever mistake, does not take them with it."""
    pair.register("w")
    pair.enqueue("a", "b")
    pair.claim("w", 2)
    pair.work.unregister("w")
    for worker in pair.work.workers():
        pair.work.fence(worker.id)
        rescue(pair, worker.id)
    assert pair.ids([State.PROCESSING]) == []


# ---- taking its jobs back


def test_a_rescue_does_as_it_is_told(pair: Pair) -> None:
    """Each job goes where the verdict says, its attempt is kept as lost, and the worker is forgotten."""
    pair.register("w", "v")
    pair.enqueue(
        "retry",
        new_job("fail", on_lost="fail"),
        new_job("hold", on_lost="hold"),
        new_job("worn", max_losses=1),
    )
    claims = {claim.id: claim for claim in pair.claim("w", 4)}
    pair.enqueue("other")
    other = pair.claim_one("v")
    pair.clock.go_on(7)
    pair.work.fence("w")
    verdicts = pair.work.rescue("w", lambda claim: (LOST, judge(claim, LOST, POLICY)))
    assert {claim.id: verdict.state for claim, verdict in verdicts} == {
        "retry": State.FAILED,
        "fail": State.FAILED,
        "hold": State.DEAD,
        "worn": State.DEAD,
    }
    assert [claim for claim, _ in verdicts] == list(claims.values())
    now = pair.clock.now()
    for id in claims:
        job = pair.job(id)
        assert (job.attempts, job.losses, job.error) == (1, 1, "worker lost")
        (attempt,) = pair.jobs.attempts(id)
        assert (attempt.outcome, attempt.worker) == ("lost", "host:w")
        assert (attempt.started_at, attempt.finished_at) == (START, now)
    assert pair.job("retry").next_run_at is None
    assert pair.job("fail").next_run_at == now + 2_000_000
    assert [worker.id for worker in pair.work.workers()] == ["v"]
    assert pair.settle("v", other) == []
    assert ids_of(pair.claim("v", 9)) == ["retry"]


def test_what_had_not_begun_took_no_time(pair: Pair) -> None:
    """It counts as an attempt and as a loss, is due at once whatever its on_lost says, and ended
    when it was claimed; what had begun beside it lasted until the rescue.
    """
    pair.register("w", "v")
    pair.enqueue(
        new_job("held", on_lost="hold"),
        new_job("failing", on_lost="fail", max_retries=0),
        new_job("begun", on_lost="hold"),
    )
    pair.claim("w", 3)
    pair.clock.go_on(7)
    pair.work.fence("w")

    def decide(claim: Claim) -> tuple[Outcome, Verdict]:
        outcome = LOST if claim.id == "begun" else LOST_BEFORE_START
        return outcome, judge(claim, outcome, POLICY)

    pair.work.rescue("w", decide)
    for id in ("held", "failing"):
        job = pair.job(id)
        assert (job.state, job.attempts, job.losses) == (State.FAILED, 1, 1)
        assert (job.error, job.next_run_at) == ("worker lost before the command was started", None)
        (attempt,) = pair.jobs.attempts(id)
        assert (attempt.outcome, attempt.error) == ("lost", job.error)
        assert (attempt.started_at, attempt.finished_at) == (START, START)
    assert pair.job("begun").state == State.DEAD
    assert pair.jobs.attempts("begun")[0].finished_at == START + 7_000_000
    assert ids_of(pair.claim("v", 9)) == ["held", "failing"]


def test_a_rescue_happens_once(pair: Pair) -> None:
    """Whoever comes second finds nothing left to take, also when the jobs run again by then."""
    pair.register("w", "v")
    pair.enqueue("a")
    late = pair.claim_one("w")
    pair.work.fence("w")
    assert rescue(pair, "w") == ["a"]
    again = pair.claim_one("v")
    before = pair.everything()
    assert pair.work.fence("w") == []
    assert rescue(pair, "w") == []
    assert pair.settle("v", late) == [late]
    assert pair.everything() == before
    assert pair.settle("v", again) == []
    assert [attempt.outcome for attempt in pair.jobs.attempts("a")] == ["lost", "succeeded"]


def test_a_rescue_is_all_or_nothing(pair: Pair) -> None:
    """When it cannot be decided for one job, none is taken, and the worker stays for another try."""
    pair.register("w")
    pair.enqueue("a", "b")
    pair.claim("w", 2)
    pair.work.fence("w")
    before = pair.everything()

    def decide(claim: object) -> tuple[Outcome, Verdict]:
        if getattr(claim, "id", "") == "b":
            raise RuntimeError("cannot decide")
        return LOST, Verdict(State.FAILED, 1, 1)

    with pytest.raises(RuntimeError):
        pair.work.rescue("w", decide)
    assert pair.everything() == before
    assert rescue(pair, "w") == ["a", "b"]


def test_a_rescue_of_nothing_forgets_the_worker(pair: Pair) -> None:
    """A lost worker that held no job is cleared away all the same."""
    pair.register("w")
    pair.work.fence("w")
    assert rescue(pair, "w") == []
    assert pair.work.workers() == []


def test_what_ended_before_the_rescue_is_not_rescued(pair: Pair) -> None:
    """An ending that was written before the worker was given up stands."""
    pair.register("w")
    pair.enqueue("a", "b")
    a, _ = pair.claim("w", 2)
    pair.settle("w", a, SUCCEEDED)
    pair.work.fence("w")
    assert rescue(pair, "w") == ["b"]
    assert pair.state("a") == State.COMPLETED


# ---- asking a worker to stop


def test_a_stop_reaches_the_workers_it_is_for(pair: Pair) -> None:
    """The named workers see it with its time limit; the others, and ids of nobody, are unaffected."""
    pair.register("w", "v", "u")
    pair.jobs.request_stop(["w", "nobody"], 1.5, START + 1)
    pair.jobs.request_stop(["v"], None, START + 2)
    seen = {id: pair.work.outlook(id) for id in "wvu"}
    assert [(o.stop_requested, o.stop_timeout) for o in seen.values()] == [
        (True, 1.5),
        (True, None),
        (False, None),
    ]
    assert record(pair, "w").stop_requested_at == START + 1
    assert [worker.stop_requested_at for worker in pair.jobs.workers()].count(None) == 1


def test_a_worker_that_is_to_stop_still_settles(pair: Pair) -> None:
    """A stop is a wish: the worker ends what it runs, and its answers and heartbeats count."""
    pair.register("w")
    pair.enqueue("a", "b")
    a, b = pair.claim("w", 2)
    pair.jobs.request_stop(["w"], 0, START)
    pair.work.heartbeat("w", 30)
    assert pair.settle("w", a) == []
    pair.work.give_back("w", [b])
    assert pair.work.outlook("w").stop_requested
    assert (pair.state("a"), pair.state("b")) == (State.COMPLETED, State.PENDING)


def test_a_schema_brought_up_meanwhile_is_noticed(database: Database, pair: Pair) -> None:
    """Whoever had the queue open before can ask, and is told that a later program has been there; the
    lease is renewed all the same.
    """
    pair.register("w")
    pair.work.require_known_schema()
    bring_schema_up(database.location)
    with pytest.raises(DatabaseTooNew, match="99"):
        pair.work.require_known_schema()
    pair.work.heartbeat("w", 30)
