from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from queuectl.storage.job_storage import ChangeWatch
from tests.contract.support import Pair

LONG = 60.0
"""Longer than any of these may sleep: a test that waits for it to pass has failed."""


@pytest.fixture
def watch(pair: Pair) -> Iterator[ChangeWatch]:
    """The watch of a worker on a queue in which nothing happens."""
    pair.register("w")
    watch = pair.work.watch(0.01)
    watch.wait(0)  # The first sleep may be a shorter one.
    yield watch
    watch.close()


def from_another_thread(act: Callable[[], None]) -> threading.Thread:
    """Does it beside this thread."""
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_a_change_by_others_is_told_once(pair: Pair, watch: ChangeWatch) -> None:
    """What was put in since one last asked is a change, and after that it is not."""
    assert not watch.changed()
    pair.enqueue("a")
    pair.enqueue("b")
    assert watch.changed()
    assert not watch.changed()


def test_the_workers_own_writes_are_no_change(pair: Pair, watch: ChangeWatch) -> None:
    """A worker is not woken by what it wrote itself."""
    pair.enqueue("a")
    assert watch.changed()
    pair.run("w")
    pair.work.heartbeat("w", 30)
    assert not watch.changed()
    assert not watch.wait(0.05)


def test_a_change_ends_the_sleep(pair: Pair, watch: ChangeWatch) -> None:
    """A sleeping worker is woken by each job that comes."""
    began = time.monotonic()
    for n in range(5):
        enqueuer = from_another_thread(partial(Pair(pair.database).enqueue, f"j{n}"))
        assert watch.wait(LONG)
        enqueuer.join()
        watch.changed()
    assert time.monotonic() - began < LONG


def test_a_change_from_before_the_sleep_ends_it_too(pair: Pair, watch: ChangeWatch) -> None:
    """A job that came just before the worker fell asleep is not slept over."""
    pair.enqueue("a")
    began = time.monotonic()
    assert watch.wait(LONG)
    assert time.monotonic() - began < LONG


def test_a_wake_ends_the_sleep(watch: ChangeWatch) -> None:
    """Another thread ends the sleep of the watch, or its next one, and that is no change."""
    began = time.monotonic()
    watch.wake()
    assert not watch.wait(LONG)
    thread = from_another_thread(watch.wake)
    assert not watch.wait(LONG)
    thread.join()
    for _ in range(100_000):  # Whatever is filled by it does not make it wait.
        watch.wake()
    assert not watch.wait(LONG)
    assert time.monotonic() - began < LONG


def test_without_a_change_the_time_passes(watch: ChangeWatch) -> None:
    """When nothing happens the sleep ends in time."""
    began = time.monotonic()
    assert not watch.wait(0.05)
    assert 0.04 < time.monotonic() - began < LONG


def test_a_doze_is_ended_by_a_wake_alone(pair: Pair, watch: ChangeWatch) -> None:
    """It sleeps over changes, which are told afterwards, and ends when it is woken."""
    began = time.monotonic()
    pair.enqueue("a")
    watch.doze(0.05)
    assert time.monotonic() - began > 0.04
    assert watch.changed()
    watch.wake()
    watch.doze(LONG)
    assert time.monotonic() - began < LONG
