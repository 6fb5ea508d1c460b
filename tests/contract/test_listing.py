from __future__ import annotations

from collections.abc import Callable

import pytest

from queuectl.errors import WrongState
from queuectl.jobs.job_view import SORT_KEYS, Job
from queuectl.jobs.lifecycle import State
from tests.contract.support import FAILED, HOUR, SECOND, START, Pair, new_job


@pytest.fixture
def busy(pair: Pair) -> Pair:
    """A queue with jobs in every state that a worker and a person can bring them to."""
    pair.register("w")
    pair.enqueue(
        new_job("done", priority=3),
        new_job("dead", priority=3, max_retries=0),
        new_job("failed", priority=2),
        new_job("running", priority=2),
    )
    for outcome in (None, FAILED, FAILED):
        pair.clock.go_on(1)
        pair.run("w", outcome) if outcome else pair.run("w")
    pair.claim("w")
    pair.enqueue(
        new_job("later", run_at=pair.clock.now() + HOUR, priority=9),
        new_job("soon", run_at=pair.clock.now() + SECOND),
        "a",
        new_job("b", priority=-1),
        "called-off",
    )
    pair.clock.go_on(0.5)
    pair.jobs.cancel(["called-off"], pair.clock.now())
    return pair


def listed(
    pair: Pair,
    *states: State,
    sort: str = "created",
    descending: bool = False,
    limit: int | None = None,
) -> list[str]:
    """The ids of a list."""
    found = pair.jobs.list_jobs(states, sort=sort, descending=descending, limit=limit)
    return [job.id for job in found]


ALL = ["done", "dead", "failed", "running", "later", "soon", "a", "b", "called-off"]


def test_jobs_are_listed_by_arrival_either_way(busy: Pair) -> None:
    """Without states every job is listed once, and the other direction is the exact reverse."""
    assert listed(busy) == ALL
    assert listed(busy, descending=True) == ALL[::-1]


@pytest.mark.parametrize(
    ("states", "ids"),
    [
        ([State.COMPLETED], ["done"]),
        ([State.DEAD], ["dead"]),
        ([State.PROCESSING], ["running"]),
        ([State.PENDING], ["later", "soon", "a", "b"]),
        ([State.BLOCKED], []),
        ([State.CANCELLED, State.FAILED, State.DEAD], ["dead", "failed", "called-off"]),
        ([State.PENDING, State.PENDING], ["later", "soon", "a", "b"]),
        ([State.PENDING, State.DEAD, State.PENDING], ["dead", "later", "soon", "a", "b"]),
        (list(State), ALL),
    ],
)
def test_jobs_are_chosen_by_state(busy: Pair, states: list[State], ids: list[str]) -> None:
    """Any set of states gives its jobs, each once, by arrival however the states were named."""
    assert listed(busy, *states) == ids
    assert listed(busy, *states, descending=True) == ids[::-1]


@pytest.mark.parametrize("limit", [0, 1, 3, 100])
@pytest.mark.parametrize("states", [(), (State.PENDING,), (State.PENDING, State.DEAD)])
def test_a_limit_cuts_the_list(busy: Pair, limit: int, states: tuple[State, ...]) -> None:
    """A limited list is the beginning of the whole one, whatever it is chosen and sorted by."""
    for sort in SORT_KEYS:
        whole = listed(busy, *states, sort=sort, descending=True)
        assert listed(busy, *states, sort=sort, descending=True, limit=limit) == whole[:limit]


@pytest.mark.parametrize("sort", SORT_KEYS)
@pytest.mark.parametrize(
    "states", [(), (State.PENDING,), (State.PENDING, State.DEAD, State.FAILED)]
)
def test_jobs_are_sorted(busy: Pair, sort: str, states: tuple[State, ...]) -> None:
    """Each key sorts both ways, those alike by arrival; jobs that wait for no time come first."""
    keys: dict[str, Callable[[Job], int | str]] = {
        "created": lambda job: 0,
        "updated": lambda job: job.updated_at,
        "next_run": lambda job: job.next_run_at or 0,
        "priority": lambda job: job.priority,
        "attempts": lambda job: job.attempts,
        "id": lambda job: job.id,
    }
    by_arrival = list(busy.jobs.list_jobs(states, sort="created", descending=False, limit=None))
    expected = [job.id for job in sorted(by_arrival, key=keys[sort])]
    assert listed(busy, *states, sort=sort) == expected
    assert listed(busy, *states, sort=sort, descending=True) == expected[::-1]


@pytest.mark.parametrize("limit", [None, 2_345])
@pytest.mark.parametrize("states", [(), (State.PENDING, State.CANCELLED)])
def test_long_lists_are_whole(pair: Pair, states: tuple[State, ...], limit: int | None) -> None:
    """Thousands of jobs are listed each once, in order, however many are read at a time."""
    ids = [f"j{n}" for n in range(3_000)]
    pair.enqueue(*(new_job(id, priority=n % 7) for n, id in enumerate(ids)))
    pair.jobs.cancel(ids[::3], START)
    by_priority = sorted(ids, key=lambda id: int(id[1:]) % 7)
    for descending in (False, True):
        step = -1 if descending else 1
        found = listed(pair, *states, descending=descending, limit=limit)
        assert found == ids[::step][:limit]
        found = listed(pair, *states, sort="priority", descending=descending, limit=limit)
        assert found == by_priority[::step][:limit]


def test_the_queue_goes_on_while_it_is_listed(busy: Pair) -> None:
    """Somebody in the middle of a long list hinders nobody, and can act on what was read."""
    listing = busy.jobs.list_jobs((), sort="created", descending=False, limit=None)
    seen = [next(listing).id]
    busy.clock.go_on(10)
    busy.run("w")
    with pytest.raises(WrongState):
        busy.jobs.cancel(["done"], busy.clock.now())
    busy.jobs.cancel(["b"], busy.clock.now())
    seen += [job.id for job in listing]
    assert seen == ALL


def test_a_list_that_is_left_off_is_forgotten(busy: Pair) -> None:
    """Reading only the first of many jobs leaves nothing open behind it."""
    next(busy.jobs.list_jobs((), sort="id", descending=False, limit=None))
    before = busy.jobs.changes()
    busy.run("w")
    assert busy.jobs.changes() != before


def test_counts_are_by_state(busy: Pair) -> None:
    """Every job is counted once, and states that no job is in are left out."""
    assert busy.jobs.counts() == {
        State.PENDING: 4,
        State.PROCESSING: 1,
        State.COMPLETED: 1,
        State.FAILED: 1,
        State.DEAD: 1,
        State.CANCELLED: 1,
    }


def test_scheduled_counts_what_waits_for_its_time(busy: Pair) -> None:
    """New jobs and retries are scheduled until their time has come, and not from that moment on."""
    now = busy.clock.now()
    failed, soon = busy.job("failed").next_run_at, busy.job("soon").next_run_at
    assert failed is not None
    assert soon is not None
    assert failed > soon > now
    assert busy.jobs.scheduled(now) == 3
    assert busy.jobs.scheduled(soon - 1) == 3
    assert busy.jobs.scheduled(soon) == 2
    assert busy.jobs.scheduled(failed) == 1
    assert busy.jobs.scheduled(START + 2 * HOUR) == 0


def test_unfinished_names_what_has_not_ended(busy: Pair) -> None:
    """Waiting and running jobs are unfinished; ended ones and such as do not exist are not."""
    ids = ["gone", *reversed(ALL)]
    assert busy.jobs.unfinished(ids) == ["b", "a", "soon", "later", "running", "failed"]
    assert busy.jobs.unfinished([]) == []
