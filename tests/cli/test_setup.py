from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tests.cli.support import Cli


def test_init(cli: Cli) -> None:
    """`init` makes a queue in the current folder; a second time it leaves it as it is."""
    assert cli.done("init") == (0, f"Made a new queue: {cli.database}\n", "")
    cli.enqueue("true", "--id", "kept")
    assert cli.done("init") == (0, f"There is a queue already: {cli.database}\n", "")
    assert cli.states() == {"kept": "pending"}
    assert cli.done("init", "--json").json == {"database": str(cli.database), "created": False}


def test_init_below_another_queue(cli: Cli) -> None:
    """`init` makes a queue here even when there is one above, and says which one it hides."""
    cli.done("init")
    below = cli.folder / "below"
    below.mkdir()
    os.chdir(below)
    ran = cli.done("init")
    assert ran.out == f"Made a new queue: {below / 'queuectl.db'}\n"
    assert ran.err == f"Here it is used in place of {cli.database}.\n"


def test_init_elsewhere(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """QUEUECTL_DB_PATH says where, and --db says it with more weight."""
    monkeypatch.setenv("QUEUECTL_DB_PATH", str(cli.folder / "from_environment.db"))
    cli.done("init")
    cli.done("init", "--db", "from_option.db")
    assert sorted(path.name for path in cli.folder.iterdir()) == [
        "from_environment.db",
        "from_option.db",
    ]


def _folder(path: Path) -> None:
    path.mkdir()


def _text(path: Path) -> None:
    path.write_text("not a database, but long enough to be taken for the beginning of one" * 20)


def _foreign(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()


def _newer(path: Path) -> None:
    _foreign(path)
    other = sqlite3.connect(path)
    other.execute("PRAGMA application_id = 0x51435431")
    other.execute("PRAGMA user_version = 99")
    other.close()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_folder, "is a folder"),
        (_text, "is not a SQLite database"),
        (_foreign, "is a database of another program"),
        (_newer, "has schema 99"),
    ],
)
@pytest.mark.parametrize("words", [["enqueue", "--command", "true"], ["status"], ["init"]])
def test_file_that_is_no_queue(cli: Cli, make: object, said: str, words: list[str]) -> None:
    """A database that cannot be used is told for what it is, with status 5, and left alone."""
    make(cli.database)  # type: ignore[operator]
    before = None if cli.database.is_dir() else cli.database.read_bytes()
    ran = cli(*words)
    assert (ran.status, ran.out) == (5, "")
    assert str(cli.database) in ran.err
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert before is None or cli.database.read_bytes() == before


def test_folder_that_does_not_exist(cli: Cli) -> None:
    """A database in a folder that is not there is refused with the way to make it."""
    ran = cli("enqueue", "--command", "true", "--db", "no/such/queuectl.db")
    assert (ran.status, ran.out) == (5, "")
    assert f"mkdir -p {cli.folder / 'no' / 'such'}" in ran.err
