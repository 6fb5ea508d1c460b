from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from queuectl.job_logs import JobLogs
from queuectl.job_queue import JobQueue
from tests.cli.support import Cli


@pytest.mark.parametrize(
    "remove",
    [
        lambda queue, id: queue.delete(id),
        lambda queue, id: queue.prune(states="completed", older_than=None),
        lambda queue, id: queue.prune(states=["completed", "dead"], older_than=0),
    ],
    ids=["delete", "prune", "prune old ones"],
)
def test_a_log_is_removed_while_its_id_is_taken(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, remove: Callable[[JobQueue, str], object]
) -> None:
    """A job that takes the id over can have no log yet that might be removed in place of the old one."""
    job = cli.completed()
    remove_logs = JobLogs.remove
    taken: list[set[str]] = []

    def look(logs: JobLogs, ids: Iterable[str]) -> int:
        with JobQueue.open(cli.database) as other:
            taken.append(other.existing([job]))
        return remove_logs(logs, ids)

    monkeypatch.setattr(JobLogs, "remove", look)
    with JobQueue.open(cli.database) as queue:
        remove(queue, job)
        assert queue.existing([job]) == set()
    assert taken == [{job}]
    assert not (cli.folder / "job_logs" / f"{job}.log").exists()


def test_a_log_that_cannot_be_removed_keeps_its_job(cli: Cli) -> None:
    """The error says which one, and the job can be deleted as soon as the way is free."""
    job = cli.completed()
    log = cli.folder / "job_logs" / f"{job}.log"
    log.unlink()
    log.mkdir()
    ran = cli("delete", "--yes", job)
    assert ran.status == 5
    assert f"the log of job {job} cannot be removed" in ran.err
    assert cli.done("show", job)
    log.rmdir()
    cli.done("delete", "--yes", job)
