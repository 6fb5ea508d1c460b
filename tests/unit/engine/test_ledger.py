from __future__ import annotations

from collections.abc import Sequence
from queue import Empty
from typing import NamedTuple, cast

import pytest

from queuectl.engine.attempt import Attempt
from queuectl.engine.closing import Closing
from queuectl.engine.lease import Lease
from queuectl.engine.ledger import Ledger
from queuectl.errors import DiskFull, WorkerFenced
from queuectl.jobs.claim import Claim
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import SUCCEEDED, Verdict
from queuectl.storage.job_storage import ChangeWatch, WorkerStorage
from queuectl.storage.records import Exchange, NewWorker, Outlook, Settlement
from tests.unit.engine.support import HandClock, claim

COMMIT_SECONDS = 0.005
PROMISE = 50_000


class Ended(NamedTuple):
    """What the ledger has to know of an attempt."""

    claim: Claim
    seconds: float


class World:
    """A database, a bell and some slots that a ledger cannot tell from real ones, in one thread: time
    goes on only while the ledger sleeps or writes, and what ends meanwhile ends at its own moment.
    """

    spans_machines = False

    def __init__(self, *, slots: int, lengths: Sequence[float], failures: int = 0) -> None:
        self.clock = HandClock()
        self.said: list[str] = []
        self.dozes: list[float] = []
        self.dozes_after_failures: list[float] = []
        self.abandoned: list[Claim] = []
        self.late: list[int] = []
        """Of each outcome, how long it took to be written, counted from when writing was possible."""
        self.last_commits = 0
        """How many there were after the last job was claimed."""
        self._lengths = lengths
        self._left = len(lengths)
        self._free = slots
        self._running: list[tuple[int, Claim]] = []
        self._handed_over: dict[int, int] = {}
        self._failures = failures
        self._has_failed = False
        self._possible_since = 0
        self._woken = False
        storage = cast(WorkerStorage, self)
        record = NewWorker("w", "w", "h", "b", "p", 1, "s", slots, "foreground", lease_seconds=30)
        self.ledger = Ledger(
            storage,
            cast(ChangeWatch, self),
            self.clock,
            Lease(storage, self.clock, lambda: record),
            closing=cast(Closing, self),
            wake_worker=lambda: None,
            say=self.said.append,
        )

    # ---- the slots

    def pass_time(self, seconds: float, *, until_woken: bool) -> bool:
        """Lets so much time go by, or less when the ledger is woken; whether it was."""
        end = self.clock.moment + round(seconds * 1e6)
        self._begin()
        while not (until_woken and self._woken) and self._running and self._running[0][0] <= end:
            moment, ended = self._running.pop(0)
            self.clock.moment = max(self.clock.moment, moment)
            self._free += 1
            self._handed_over[ended.seq] = self.clock.moment
            self.ledger.settle(cast(Attempt, Ended(ended, self._length(ended))))
            self._begin()
        if until_woken and self._woken:
            self._woken = False
            return True
        self.clock.moment = max(self.clock.moment, end)
        return False

    def _begin(self) -> None:
        try:
            while self._free:
                begun = self.ledger.ready.get_nowait()
                assert begun is not None
                self._free -= 1
                ends = self.clock.moment + round(self._length(begun) * 1e6)
                self._running = sorted([*self._running, (ends, begun)])
                self.ledger.took_one(self.clock.moment)
        except Empty:
            pass

    def _length(self, of: Claim) -> float:
        return self._lengths[of.seq - 1]

    # ---- closing what has ended

    def settlement(self, attempt: Attempt) -> Settlement:
        assert self.ledger.lease.holds(), "it may be another worker's by now"
        verdict = Verdict(State.COMPLETED, 1, 0)
        return Settlement(attempt.claim, SUCCEEDED, verdict, "w", 0, 0, None, None)

    def abandon(self, attempt: Attempt) -> None:
        self.abandoned.append(attempt.claim)

    # ---- the database

    def register(self, worker: NewWorker) -> None:
        pass

    def heartbeat(self, worker_id: str, lease_seconds: float) -> None:
        pass

    def require_known_schema(self) -> None:
        pass

    def make_room(self) -> None:
        pass

    def outlook(self, worker_id: str, inside: str | None = None) -> Outlook:
        return Outlook(self._left > 0, None, True, [], False, None, False)

    def exchange(self, worker_id: str, settlements: Sequence[Settlement], wanted: int) -> Exchange:
        self.pass_time(COMMIT_SECONDS, until_woken=False)
        if self._failures and settlements:
            self._failures -= 1
            self._has_failed = True
            self._possible_since = self.clock.moment + 1_000_000
            raise DiskFull("the disk is full; nothing was changed")
        self._has_failed = False
        self.last_commits += not self._left
        for settlement in settlements:
            since = max(self._handed_over[settlement.claim.seq], self._possible_since)
            self.late.append(self.clock.moment - since)
        if len(self.late) == len(self._lengths):
            self.ledger.ask_to_close()
        first = len(self._lengths) - self._left + 1
        count = min(wanted, self._left)
        self._left -= count
        return Exchange([claim(number) for number in range(first, first + count)], [])

    # ---- the bell

    def wake(self) -> None:
        self._woken = True

    def changed(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.pass_time(seconds, until_woken=True)
        return False

    def doze(self, seconds: float) -> bool:
        (self.dozes_after_failures if self._has_failed else self.dozes).append(seconds)
        return self.pass_time(seconds, until_woken=True)


def test_outcomes_come_together_at_the_end_too() -> None:
    """When nothing is left to claim, and 100 ms of work are in stock, each commit still takes what ends
    within some time: no slot could start anything sooner. Only the last outcomes go at once.
    """
    world = World(slots=2, lengths=[0.001] * 1000)
    assert world.ledger._serve()
    assert len(world.late) == 1000
    assert world.last_commits <= 5


LENGTHS = {
    "0.1 ms": [0.0001] * 2000,
    "1 ms": [0.001] * 2000,
    "7 ms": [0.007] * 500,
    "0.3 s": [0.3] * 100,
    "20 s": [20.0] * 20,
    # By what was learned from the short ones, there is enough to do for now.
    "short, then long": ([0.001] * 200 + [0.3] * 8) * 5,
}


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_an_outcome_is_written_within_50_ms(slots: int, lengths: list[float]) -> None:
    """However long jobs take and however many run at once: with commits of 5 ms, what is gathered,
    the commit under way and its own one make no outcome wait for longer than was promised.
    """
    world = World(slots=slots, lengths=lengths)
    assert world.ledger._serve()
    assert len(world.late) == len(lengths)
    assert max(world.late) <= PROMISE
    if lengths[0] < 0.005:
        assert world.dozes, "nothing was gathered: this proves little"


class Watched(World):
    """The same, whose database hangs for a minute at the third commit; notes when the ledger's thread
    was taken for alive: within that minute, and in all its sleeps.
    """

    def __init__(self) -> None:
        self.hung: list[bool] = []
        self.slept: list[bool] = []
        self._hangs_in = 3
        super().__init__(slots=1, lengths=[20.0] * 6, failures=1)

    def exchange(self, worker_id: str, settlements: Sequence[Settlement], wanted: int) -> Exchange:
        self._hangs_in -= 1
        if self._hangs_in == 0:
            for _ in range(60):
                self.clock.advance(1)
                self.hung.append(self.ledger.is_lively())
        return super().exchange(worker_id, settlements, wanted)

    def wait(self, seconds: float) -> bool:
        self._note_sleep(seconds)
        return super().wait(seconds)

    def doze(self, seconds: float) -> bool:
        self._note_sleep(seconds)
        return super().doze(seconds)

    def _note_sleep(self, seconds: float) -> None:
        self.slept.append(self.ledger.is_lively())
        now = self.clock.moment
        self.clock.advance(seconds)
        self.slept.append(self.ledger.is_lively())
        self.clock.moment = now


class Frozen(World):
    """The same, stopped for longer than its lease while a job runs; its jobs were taken away, or not,
    which the database can say only after some `failing` tries.
    """

    def __init__(self, *, taken: bool, failing: int) -> None:
        self._taken = taken
        self.failing = failing
        super().__init__(slots=1, lengths=[60.0])

    def wait(self, seconds: float) -> bool:
        return self.pass_time(100.0, until_woken=True)

    def heartbeat(self, worker_id: str, lease_seconds: float) -> None:
        if self.failing:
            self.failing -= 1
            raise DiskFull("the disk is full; nothing was changed")
        if self._taken:
            raise WorkerFenced("given up for lost")


@pytest.mark.parametrize("failing", [0, 3])
def test_what_ended_after_the_lease_is_closed_once_it_is_known_to_count(failing: int) -> None:
    """Nothing is written into a log, nor of an outcome, before the lease was renewed."""
    world = Frozen(taken=False, failing=failing)
    assert world.ledger._serve()
    assert (len(world.late), world.failing) == (1, 0)
    assert not world.abandoned


@pytest.mark.parametrize("failing", [0, 3])
def test_what_ended_in_a_worker_that_was_given_up_leaves_its_log_alone(failing: int) -> None:
    """It is neither closed nor written; the worker begins a new life once it holds nothing."""
    world = Frozen(taken=True, failing=failing)
    assert not world.ledger._serve()
    assert world.failing == 0
    world.ledger._register_anew()
    assert [claim.seq for claim in world.abandoned] == [1]
    assert not world.late


class Busy(World):
    """The same, without a pause; notes whether the ledger's thread was taken for alive."""

    def __init__(self) -> None:
        self.lively: list[bool] = []
        super().__init__(slots=1, lengths=[0.001] * 20_000)

    def exchange(self, worker_id: str, settlements: Sequence[Settlement], wanted: int) -> Exchange:
        self.lively.append(self.ledger.is_lively())
        return super().exchange(worker_id, settlements, wanted)


def test_a_thread_that_never_sleeps_is_alive() -> None:
    """One that writes without a pause, for longer than it would ever sleep, is not taken for one that
    hangs.
    """
    world = Busy()
    begun = world.clock.ticks()
    assert world.ledger._serve()
    assert world.clock.ticks() - begun > 15_000_000
    assert all(world.lively)


def test_a_thread_that_hangs_is_told_from_one_that_waits() -> None:
    """However long it sleeps, until a write is tried again as well, it is alive; in a call that does
    not return it is not, after two seconds.
    """
    world = Watched()
    assert world.ledger._serve()
    assert world.dozes_after_failures == [1.0]
    assert len(world.slept) > 6
    assert all(world.slept)
    assert world.hung == [True] + [False] * 59


@pytest.mark.parametrize("failures", [1, 3])
def test_what_could_not_be_written_is_written_at_the_next_try(failures: int) -> None:
    """After a write that failed there is one a second later, and nothing else is waited for: what
    came meanwhile is written within 50 ms of the one that succeeds.
    """
    lengths = LENGTHS["short, then long"]
    world = World(slots=2, lengths=lengths, failures=failures)
    assert world.ledger._serve()
    assert len(world.late) == len(lengths)
    assert max(world.late) <= PROMISE
    assert world.dozes_after_failures == [1.0] * failures
