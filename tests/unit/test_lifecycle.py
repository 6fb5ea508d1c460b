from __future__ import annotations

import pytest

from queuectl.jobs.lifecycle import FINISHED, MOVES, WAITING, State, may, sources

BY_ITSELF = {
    "enqueue",
    "unblock",
    "claim",
    "succeed",
    "fail",
    "exhaust",
    "interrupt",
    "rescue",
    "stop",
}
"""The moves that happen without a person asking for them."""


def reachable(start: set[State], names: set[str]) -> set[State]:
    """The states that a job comes to from these by the moves of these names."""
    found = set(start)
    while True:
        more = {
            target
            for move in MOVES
            if move.name in names and found.intersection(move.sources)
            for target in move.targets
        }
        if more <= found:
            return found
        found |= more


def test_states_are_written_as_outside() -> None:
    """The values are the words of JSON and the database, the original's five among them."""
    assert [state.value for state in State] == [
        "pending",
        "processing",
        "completed",
        "failed",
        "dead",
        "cancelled",
        "blocked",
    ]
    assert f"{State.DEAD}" == "dead"


def test_every_state_is_finished_waiting_or_on_its_way() -> None:
    """No state is left out, and none is two things at once."""
    assert set(FINISHED).isdisjoint(WAITING)
    assert set(State) == {*FINISHED, *WAITING, State.PROCESSING, State.BLOCKED}


def test_every_state_can_be_come_to() -> None:
    """A new job can reach every state there is."""
    entries = {target for move in MOVES if move.name == "enqueue" for target in move.targets}
    assert reachable(entries, {move.name for move in MOVES}) == set(State)


@pytest.mark.parametrize("state", FINISHED)
def test_a_finished_job_stays_finished(state: State) -> None:
    """Nothing but a person's requeue leads out of a state that counts as finished."""
    assert reachable({state}, BY_ITSELF) == {state}
    assert [move.name for move in MOVES if state in move.sources] == ["requeue"]


@pytest.mark.parametrize("state", [state for state in State if state not in FINISHED])
def test_an_unfinished_job_can_always_end(state: State) -> None:
    """From every other state a job can come to each of the ends, and a person can call it off."""
    assert set(FINISHED) <= reachable({state}, BY_ITSELF | {"cancel"})
    assert may("cancel", state) or state == State.PROCESSING


def test_a_worker_claims_what_waits() -> None:
    """The states that count as waiting are the ones that a claim starts from, and nothing else runs."""
    assert set(sources("claim")) == set(WAITING)
    assert {move.name for move in MOVES if State.PROCESSING in move.targets} == {"claim"}


def test_moves_are_named_once_and_say_who() -> None:
    """A name stands for one move, which leads somewhere and is somebody's."""
    names = [move.name for move in MOVES]
    assert len(names) == len(set(names))
    for move in MOVES:
        assert move.targets
        assert move.by
        assert set(move.sources).isdisjoint(move.targets)


@pytest.mark.parametrize("state", State)
def test_may_and_sources_agree(state: State) -> None:
    """The two ways to ask give one answer for every move."""
    for move in MOVES:
        assert may(move.name, state) == (state in sources(move.name)) == (state in move.sources)


def test_a_move_that_does_not_exist_is_a_mistake() -> None:
    """A misspelt move is an error, not a silent no."""
    with pytest.raises(StopIteration):
        sources("resurrect")
