from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from queuectl.engine.launcher import Launcher, NotStarted, OutOfResources
from tests.unit.engine.support import claim

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="commands are started otherwise")


def failing(number: int) -> OSError:
    """What a system call fails with."""
    return OSError(number, os.strerror(number))


def start(launcher: Launcher, folder: Path, number: int) -> None:
    """Starts a command where the system refuses to."""

    def spawn(*_: object) -> int:
        raise failing(number)

    launcher._spawn = spawn
    launcher.start(claim(cwd=str(folder)), 1)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_a_lack_of_room_is_not_blamed_on_the_folder(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When there is no room to start a command, the job is not to blame, whether or not its folder
    can be looked at; nor when there is none to look at the folder.
    """
    launcher = Launcher({"QUEUECTL_DB_PATH": "/q.db"})
    with pytest.raises(OutOfResources):
        start(launcher, tmp_path / "missing", number)

    def scandir(folder: str) -> None:
        raise failing(number)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OutOfResources):
        start(launcher, tmp_path, number)
    with pytest.raises(OutOfResources):
        start(launcher, tmp_path, errno.ENOENT)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """What keeps a command from being started is said: its folder, or else the shell."""
    launcher = Launcher({"QUEUECTL_DB_PATH": "/q.db"})
    with pytest.raises(NotStarted, match=r"cannot enter folder .*/missing: No such file"):
        start(launcher, tmp_path / "missing", errno.ENOENT)
    with pytest.raises(NotStarted, match="cannot start /bin/sh: No such file"):
        start(launcher, tmp_path, errno.ENOENT)
