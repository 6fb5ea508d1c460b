from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuectl.errors import InvalidInput
from queuectl.job_queue import JobQueue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    """An empty queue, as a program opens it."""
    with JobQueue.open(tmp_path / "queuectl.db") as queue:
        yield queue


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ("true", "several jobs, and was given one"),
        ({"command": "true"}, "several jobs, and was given one"),
        (["true", " "], "item 2: the command is empty"),
        ([{"command": []}], "item 1: the command is empty"),
        ([{"command": [""]}], "item 1: the command is empty"),
        (
            [{"command": "a", "id": "x"}, "b", {"command": "c", "id": "x"}],
            "item 3: id 'x' is already used by item 1",
        ),
    ],
)
def test_enqueue_many_refuses_all_for_one(queue: JobQueue, jobs: Any, said: str) -> None:
    """One wrong job, or one job where several belong, queues nothing, and the error says which."""
    with pytest.raises(InvalidInput, match=said):
        queue.enqueue_many(jobs)
    assert sum(queue.counts().values()) == 0


def test_one_name_is_one_job(queue: JobQueue) -> None:
    """Where several jobs can be named, a string is one of them and not one for each letter."""
    job_id = queue.enqueue("true", id="abcd")
    assert queue.cancel("abcd") == []
    assert [job.id for job in queue.wait("abcd")] == [job_id]
    assert queue.retry("abcd") == [job_id]
    assert [job.id for job in queue.list("pending")] == [job_id]
    assert queue.delete("abcd") == [job_id]


@pytest.mark.parametrize(
    ("states", "options", "said"),
    [
        ("nope", {}, "there is no state 'nope'"),
        (["dead", "nope"], {}, "there is no state 'nope'"),
        ((), {"limit": 0}, "limit must be 1 or more, not 0"),
        ((), {"limit": -1}, "limit must be 1 or more, not -1"),
        ((), {"sort": "size"}, "cannot sort by 'size'"),
    ],
)
def test_list_refuses_what_cannot_be_meant(
    queue: JobQueue, states: Any, options: dict[str, Any], said: str
) -> None:
    """A state, an order or a number of jobs that makes no sense is an error, not an empty list."""
    with pytest.raises(InvalidInput, match=said):
        queue.list(states, **options)
