from __future__ import annotations

import os
from pathlib import Path

import pytest

from queuectl import job_logs
from queuectl.errors import EnvironmentFault
from queuectl.job_logs import JobLogs
from tests.unit.job_logs.support import begin, end, whole


def test_remove_counts_what_was_there(logs: JobLogs) -> None:
    """Only the logs that are named are removed; one that is not there is no error."""
    for id in ("a", "b", "c"):
        end(begin(logs, id))
    assert logs.remove(["a", "b", "x"]) == 2
    assert os.listdir(logs.folder) == ["c.log"]


def test_what_is_in_the_way_of_a_log_is_reported(logs: JobLogs) -> None:
    """A log that cannot be removed or read is an error that names the job and the reason."""
    os.mkdir(logs.path("a"))
    with pytest.raises(EnvironmentFault, match="the log of job a cannot be removed"):
        logs.remove(["a"])
    os.symlink("/etc/passwd", logs.path("b"))
    with pytest.raises(EnvironmentFault, match="the log of job b cannot be read"):
        whole(logs, "b")


def test_orphans_are_the_logs_without_a_job(logs: JobLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is asked in batches, for logs only, whatever else is in the folder."""
    monkeypatch.setattr(job_logs, "_BATCH", 10)
    for n in range(25):
        Path(logs.path(f"job-{n}")).touch()
    Path(logs.folder, "notes.txt").touch()
    Path(logs.folder, "folder.log").mkdir()
    Path(os.fsdecode(os.fsencode(logs.folder) + b"/\xff.log")).touch()
    asked: list[list[str]] = []

    def known(ids: list[str]) -> set[str]:
        asked.append(ids)
        return set(ids) - {"job-3", "job-24"}

    assert sorted(logs.orphans(known)) == ["job-24", "job-3"]
    assert [len(ids) for ids in asked] == [10, 10, 5]


def test_a_missing_folder_has_no_orphans(tmp_path: Path) -> None:
    """A queue that never ran a job has no folder of logs, and nothing in it."""
    assert list(JobLogs(str(tmp_path / "none")).orphans(set)) == []
