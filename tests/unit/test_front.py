"""Where claims begin to look on PostgreSQL, while dead entries pile up."""

from __future__ import annotations

import itertools

import pytest

from queuectl.storage.postgres import front
from queuectl.storage.postgres.front import HEAD, Front, bounds, place

NOW = 1_795_521_600_000_000
SECOND = 1_000_000


def test_places_are_in_the_order_of_claims() -> None:
    """Higher priorities come first, then whoever came first, up to the limits of both."""
    jobs = list(itertools.product([1_000_000, 1, 0, -1, -1_000_000], [1, 2, 10**12]))
    places = [place(priority, seq) for priority, seq in jobs]
    assert places == sorted(places)
    assert len(set(places)) == len(places)
    assert places[0] > HEAD
    assert -(1 << 63) <= places[0] <= places[-1] < 1 << 63


@pytest.mark.parametrize("priority", [1_000_000, 7, 0, -7, -1_000_000])
def test_a_place_is_told_as_it_was_made(priority: int) -> None:
    """The statements get the priority, turned round, and the number."""
    assert bounds(place(priority, 12_345)) == {"from_rank": -priority, "from_seq": 12_345}


def test_the_head_is_before_every_job() -> None:
    """A claim from the head passes over none."""
    rank = bounds(HEAD)["from_rank"]
    assert rank < -1_000_000


def test_a_front_holds_for_its_time() -> None:
    """Until then claims begin there, and at the head before there was one and after."""
    known = Front()
    assert known.begin(NOW) == HEAD
    known.hear(place(0, 50), NOW + SECOND)
    assert known.begin(NOW) == place(0, 50)
    assert known.begin(NOW + SECOND) == HEAD


def test_a_clock_that_was_set_back_ends_it() -> None:
    """A front never holds for longer than it may, whatever becomes of the clock."""
    known = Front()
    known.hear(place(0, 50), front.until(NOW, 100))
    assert known.begin(NOW) == place(0, 50)
    assert known.begin(NOW - SECOND) == HEAD


def test_what_a_worker_came_across_counts_until_there_is_a_new_front() -> None:
    """Its own claims bring it further than the word that was left; a new walk begins it anew."""
    known = Front()
    known.hear(place(0, 50), NOW + SECOND)
    known.advance(place(0, 90))
    known.hear(place(0, 60), NOW + SECOND)
    assert known.begin(NOW) == place(0, 90)
    known.hear(place(5, 10), NOW + 2 * SECOND)
    assert known.begin(NOW) == place(5, 10)


def test_one_walks_when_it_is_over() -> None:
    """It is somebody's turn once the front is over, and nobody's where there was none lately."""
    known = Front()
    assert not known.is_somebodys_turn(NOW)
    known.hear(place(0, 50), NOW + SECOND)
    assert not known.is_somebodys_turn(NOW)
    assert known.is_somebodys_turn(NOW + SECOND)
    assert not known.is_somebodys_turn(NOW + 3600 * SECOND)
    known.hear(place(0, 50), front.NOBODYS)
    assert not known.is_somebodys_turn(NOW)


def test_it_holds_in_terms_of_the_walk() -> None:
    """A longer walk is made less often, up to a limit."""
    assert front.until(NOW, 0.1) == NOW + 2 * SECOND
    assert front.until(NOW, 60) == NOW + 10 * SECOND
