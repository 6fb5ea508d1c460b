from __future__ import annotations

import os
from pathlib import Path

import pytest

from queuectl.errors import QueuectlError, QueueNotFound
from queuectl.workspace import Workspace, find


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder three levels down, in none of which there is a queue."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    return folder


def found(start: Path, path: str | None = None, **environ: str) -> Workspace:
    """The queue that is meant by somebody in the folder `start`."""
    return find(path, environ=environ, start=str(start))


def test_everything_lies_beside_the_database(tmp_path: Path) -> None:
    """One folder holds the queue: configuration, logs, pidfile, the log of the worker."""
    queue = Workspace(str(tmp_path / "jobs.db"))
    assert queue.database == str(tmp_path / "jobs.db")
    assert queue.folder == str(tmp_path)
    assert queue.config == str(tmp_path / "queuectl_config.json")
    assert queue.logs == str(tmp_path / "job_logs")
    assert queue.pidfile == str(tmp_path / "queuectl.pid")
    assert queue.worker_log == str(tmp_path / "queuectl.log")


def test_the_configuration_may_lie_elsewhere(tmp_path: Path, deep: Path) -> None:
    """QUEUECTL_CONFIG_PATH names another file, wherever the queue is; empty is as if not set."""
    config = str(tmp_path / "mine.json")
    assert found(deep, QUEUECTL_CONFIG_PATH=config).config == config
    assert found(deep, "x/jobs.db", QUEUECTL_CONFIG_PATH=config).config == config
    assert found(deep, QUEUECTL_CONFIG_PATH="").config == str(deep / "queuectl_config.json")


def test_what_is_named_wins(tmp_path: Path, deep: Path) -> None:
    """A path given comes before QUEUECTL_DB_PATH, and both before a queue that lies near."""
    (deep / "queuectl.db").touch()
    one, two = str(tmp_path / "one.db"), str(tmp_path / "two.db")
    assert found(deep, one, QUEUECTL_DB_PATH=two).database == one
    assert found(deep, QUEUECTL_DB_PATH=two).database == two
    assert found(deep, QUEUECTL_DB_PATH="").database == str(deep / "queuectl.db")
    assert not found(deep, one).exists


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_the_nearest_queue_is_found(tmp_path: Path, deep: Path, levels: int) -> None:
    """The search goes up from the current folder and stops at the first queue."""
    folders = [deep, *deep.parents][: levels + 1]
    for folder in (folders[-1], tmp_path):
        (folder / "queuectl.db").write_text("a queue")
    queue = found(deep)
    assert (queue.database, queue.exists) == (str(folders[-1] / "queuectl.db"), True)
    assert queue.require() is queue


def test_no_queue_means_one_to_be_made_here(deep: Path) -> None:
    """Where there is none at all, it is the one that would be made here, and looking for it says so."""
    queue = found(deep)
    assert (queue.database, queue.exists) == (str(deep / "queuectl.db"), False)
    with pytest.raises(QueueNotFound) as caught:
        queue.require()
    assert "queuectl init" in caught.value.hint
    assert os.listdir(deep) == []


def test_a_relative_path_is_taken_from_here(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found does not change when the program changes its folder."""
    monkeypatch.chdir(deep)
    queue = find("../jobs.db", environ={})
    assert queue.database == str(deep.parent / "jobs.db")
    assert find(None, environ={}).database == str(deep / "queuectl.db")


def test_two_ways_to_one_file_are_one_queue(tmp_path: Path, deep: Path) -> None:
    """Through a link or not, it is the same database, with the same logs and the same pidfile."""
    (deep / "queuectl.db").touch()
    link = tmp_path / "link"
    link.symlink_to(deep)
    (tmp_path / "jobs.db").symlink_to(deep / "queuectl.db")
    straight = found(deep)
    for other in (
        found(link),
        Workspace(str(link / "queuectl.db")),
        Workspace(str(tmp_path / "jobs.db")),
    ):
        assert (other.database, other.logs, other.pidfile) == (
            straight.database,
            straight.logs,
            straight.pidfile,
        )


@pytest.mark.skipif(os.name == "nt", reason="a folder in use cannot be removed there")
def test_a_current_folder_that_is_gone(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called from a folder that was removed, the search ends in an error that a user can understand."""
    monkeypatch.chdir(deep)
    deep.rmdir()
    with pytest.raises(QueuectlError):
        find(None, environ={})
