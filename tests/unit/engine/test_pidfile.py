"""The pidfile, and what may be in its place."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from queuectl.engine import pidfile
from queuectl.errors import EnvironmentFault


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _link(path: Path) -> None:
    path.symlink_to("elsewhere")


def _pipe_with_a_reader(path: Path) -> None:
    os.mkfifo(path)
    _readers.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


_readers: list[int] = []

OTHERS = {
    "folder": os.mkdir,
    "pipe": os.mkfifo,
    "pipe with a reader": _pipe_with_a_reader,
    "socket": _socket,
    "link": _link,
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the pidfile would be: a short name, as that of a socket has to be."""
    monkeypatch.chdir(tmp_path)
    return Path("queuectl.pid")


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_file_is_named(path: Path, kind: str) -> None:
    """Nobody holds it, nobody can, and the error says what is in the way and how to move it."""
    make: Callable[[Path], object] = OTHERS[kind]
    make(path)
    assert pidfile.holder(str(path)) is None
    with pytest.raises(EnvironmentFault) as refused:
        pidfile.hold(str(path))
    assert refused.value.message == (
        "queuectl.pid is not a file: no worker can start in the background"
    )
    assert refused.value.hint == "Move it away: mv queuectl.pid queuectl.pid.old"
    found = pidfile.in_the_way(str(path))
    assert found is not None
    assert found.message == refused.value.message
    while _readers:
        os.close(_readers.pop())


def test_a_file_is_in_nobodys_way(path: Path) -> None:
    """Neither is one that is not there; and one that is held says by whom."""
    assert pidfile.in_the_way(str(path)) is None
    held = pidfile.hold(str(path))
    assert pidfile.in_the_way(str(path)) is None
    assert pidfile.holder(str(path)) == os.getpid()
    held.release()
    assert not path.exists()
