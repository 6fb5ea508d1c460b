from __future__ import annotations

import uuid

import pytest

from queuectl.jobs.job import NewJob, new_id, new_ids


def test_an_id_is_a_random_uuid() -> None:
    """The id is a version 4 UUID as the standard library would write it, and never the same."""
    ids = {new_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    for id in ids:
        parsed = uuid.UUID(id)
        assert str(parsed) == id
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)


@pytest.mark.parametrize("count", [0, 1, 2, 5_000])
def test_many_ids_are_ascending(count: int) -> None:
    """As many as asked for, each another, in the order that a database likes."""
    ids = new_ids(count)
    assert len(ids) == count
    assert ids == sorted(set(ids))
    assert all(uuid.UUID(id).version == 4 for id in ids[:50])


def test_a_new_job_leaves_open_what_it_is_not_told() -> None:
    """What the configuration decides later is None, and a job has no priority of its own."""
    job = NewJob(id="a", command="true", cwd="/", max_retries=3, on_lost="retry")
    assert (job.env, job.backoff_base, job.timeout, job.run_at, job.max_losses) == (None,) * 5
    assert job.priority == 0


def test_a_job_does_not_show_its_environment() -> None:
    """Values of variables may be secret, and reprs end up in logs."""
    job = NewJob(
        id="a", command="true", cwd="/", max_retries=3, on_lost="retry", env={"KEY": "hunter2"}
    )
    assert "hunter2" not in repr(job)
    assert "KEY" not in repr(job)
    assert repr(job) == "NewJob(id='a', command='true')"
