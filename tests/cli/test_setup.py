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


def _pipe(path: Path) -> None:
    os.mkfifo(path)


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
        (_pipe, "is a device or a pipe"),
        (_text, "is not a SQLite database"),
        (_foreign, "is a database of another program"),
        (_newer, "has schema 99"),
    ],
)
@pytest.mark.parametrize("words", [["enqueue", "--command", "true"], ["status"], ["init"]])
def test_file_that_is_no_queue(cli: Cli, make: object, said: str, words: list[str]) -> None:
    """A database that cannot be used is told for what it is, with status 5, and left alone."""
    make(cli.database)  # type: ignore[operator]
    before = None if not cli.database.is_file() else cli.database.read_bytes()
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


def test_folder_with_a_space_is_quoted_in_the_hint(cli: Cli) -> None:
    """A hint that is a command can be typed as it stands, whatever the path holds."""
    ran = cli("enqueue", "--command", "true", "--db", "a b/queuectl.db")
    assert f"mkdir -p '{cli.folder / 'a b'}'" in ran.err


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["init"], "out"),
        (["enqueue", "--command", "true"], "err"),
        (["worker-start", "--drain"], "err"),
    ],
)
def test_queue_is_made_in_an_empty_file(cli: Cli, words: list[str], made: str) -> None:
    """An empty file is no queue yet: what makes one in it says that it did."""
    cli.database.write_bytes(b"")
    ran = cli.done(*words)
    assert f"Made a new queue: {cli.database}" in getattr(ran, made)


@pytest.mark.parametrize("content", [None, b""])
def test_hint_to_make_a_queue_is_for_the_one_that_was_named(
    cli: Cli, content: bytes | None
) -> None:
    """Where --db named a queue that is not there, the command that makes it names it as well."""
    if content is not None:
        (cli.folder / "x y.db").write_bytes(content)
    ran = cli("--db", "x y.db", "status")
    assert ran.status == 3
    assert "Make one with `queuectl --db 'x y.db' init`" in ran.err
    assert "Make one with `queuectl init`" in cli("status").err


def test_the_help_knows_of_queues_on_a_server(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which variables name a queue, and where its worker log is."""
    monkeypatch.setenv("COLUMNS", "200")
    assert "QUEUECTL_DATABASE_URL or QUEUECTL_DB_PATH" in cli.done("init", "--help").out
    assert "or on a server" in cli.done("--help").out
    assert "folder for a queue on a server" in cli.done("worker-start", "--help").out
