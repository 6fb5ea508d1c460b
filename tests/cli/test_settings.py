from __future__ import annotations

import json

import pytest

from queuectl.config.settings import SETTINGS
from tests.cli.support import Cli, hand_worker


def test_set_get_unset(cli: Cli) -> None:
    """A setting that was set is the one that is read, until it is unset."""
    cli.done("init")
    assert cli.done("config", "set", "max_retries", "5") == (0, "Set max_retries = 5\n", "")
    assert cli.done("config", "get", "max_retries").out == "5\n"
    assert json.loads((cli.folder / "queuectl_config.json").read_text()) == {"max_retries": 5}
    assert cli.done("config", "unset", "max_retries").out == "max_retries = 3 again\n"
    assert cli.done("config", "unset", "max_retries").out == "max_retries was not set\n"
    assert cli.done("config", "get", "max_retries").out == "3\n"


def test_whole_numbers_are_shown_whole(cli: Cli) -> None:
    """2.0 is shown as 2, and 0.5 as it is."""
    assert cli.done("config", "get", "backoff_base").out == "2\n"
    assert cli.done("config", "set", "backoff_base", "2.0").out == "Set backoff_base = 2\n"
    assert cli.done("config", "get", "poll_interval_seconds").out == "0.5\n"


def test_new_jobs_go_by_the_settings(cli: Cli) -> None:
    """max_retries of the configuration is what a new job takes; a flag goes before it."""
    cli.done("config", "set", "max_retries", "7")
    assert cli.job(cli.enqueue()).max_retries == 7
    assert cli.job(cli.enqueue("true", "--max-retries", "1")).max_retries == 1


def test_list(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """`config list` has every setting with its value, its default and where it comes from."""
    cli.done("config", "set", "max_retries", "5")
    monkeypatch.setenv("QUEUECTL_ON_LOST", "hold")
    ran = cli.done("config", "list")
    rows = {line.split()[0]: line.split()[1:4] for line in ran.lines[1:]}
    assert list(rows) == [setting.name for setting in SETTINGS]
    assert rows["max_retries"] == ["5", "3", "file"]
    assert rows["on_lost"] == ["hold", "retry", "environment"]
    assert rows["backoff_base"] == ["2", "2", "default"]


def test_json(cli: Cli) -> None:
    """With --json a setting is an object in the pinned shape, and the list an array of these."""
    expected = {
        "name": "max_retries",
        "value": 5,
        "default": 3,
        "source": "file",
        "accepts": "a whole number from 0 to 1000",
        "help": "how often a failed job is run again before it is dead",
    }
    assert cli.done("config", "set", "max_retries", "5", "--json").json == expected
    assert cli.done("config", "get", "max_retries", "--json").json == expected
    assert cli.done("config", "list", "--json").json[0] == expected
    expected = {**expected, "value": 3, "source": "default"}
    assert cli.done("config", "unset", "max_retries", "--json").json == expected


def test_environment_that_wins_is_pointed_out(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting what the environment overrules has no effect here, and the user is told."""
    cli.done("init")
    monkeypatch.setenv("QUEUECTL_MAX_RETRIES", "9")
    ran = cli.done("config", "set", "max_retries", "5")
    assert ran.err == "QUEUECTL_MAX_RETRIES in the environment wins over it: 9\n"
    assert cli.done("config", "get", "max_retries").out == "9\n"


def test_unset_says_where_the_value_comes_from(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the environment gives is not taken for the default."""
    cli.done("init")
    cli.done("config", "set", "max_retries", "5")
    monkeypatch.setenv("QUEUECTL_MAX_RETRIES", "7")
    source = "QUEUECTL_MAX_RETRIES in the environment makes it 7"
    unset = ["config", "unset", "max_retries"]
    assert cli.done(*unset) == (0, f"max_retries is no longer set in the file; {source}\n", "")
    assert cli.done(*unset) == (0, f"max_retries was not set in the file; {source}\n", "")


def test_file_is_beside_the_queue_or_where_the_environment_says(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings belong to the queue that --db names, unless QUEUECTL_CONFIG_PATH is set."""
    (cli.folder / "there").mkdir()
    database = str(cli.folder / "there" / "queuectl.db")
    cli.done("--db", database, "config", "set", "max_retries", "5")
    assert (cli.folder / "there" / "queuectl_config.json").exists()
    monkeypatch.setenv("QUEUECTL_CONFIG_PATH", str(cli.folder / "mine.json"))
    assert cli.done("--db", database, "config", "get", "max_retries").out == "3\n"
    cli.done("config", "set", "max_retries", "6")
    assert (cli.folder / "mine.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "max_retrys", "5"], "Did you mean max_retries?"),
        (["set", "max_retries", "-1"], "from 0 to 1000"),
        (["set", "max_retries", "many"], "not 'many'"),
        (["set", "backoff_base", "nan"], "backoff_base must be"),
        (["set", "on_lost", "x\x1b[2J"], "\\x1b"),
        (["set", "max_retries"], "VALUE"),
        (["get", "nope"], "there is no setting 'nope'"),
        (["unset", "nope"], "there is no setting 'nope'"),
    ],
)
def test_refused(cli: Cli, words: list[str], said: str) -> None:
    """An unknown name and a bad value are refused, and no file is written."""
    ran = cli("config", *words)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert list(cli.folder.iterdir()) == []


def test_broken_file_is_reported_by_every_command_that_needs_it(cli: Cli) -> None:
    """A file broken by hand is named with the place, and never replaced or passed over."""
    path = cli.folder / "queuectl_config.json"
    path.write_text('{"max_retries" 3}')
    for words in (
        ["enqueue", "--command", "true"],
        ["config", "list"],
        ["config", "set", "max_retries", "4"],
    ):
        ran = cli(*words)
        assert (ran.status, ran.out) == (2, "")
        assert f"{path}, line 1, column 16" in ran.err
    assert path.read_text() == '{"max_retries" 3}'
    assert cli.states() == {}


def test_settings_without_a_queue_say_so(cli: Cli) -> None:
    """Whoever sets something in the wrong folder is told that there is no queue, and which file it is."""
    ran = cli.done("config", "set", "max_retries", "5")
    assert "There is no queue at" in ran.err
    assert "queuectl_config.json" in ran.err
    assert cli.done("config", "get", "max_retries").out == "5\n"


def test_running_workers_are_known_not_to_have_read_a_setting(cli: Cli) -> None:
    """With a worker running, setting something says when that worker will take it over."""
    cli.done("init")
    with hand_worker(cli.database):
        ran = cli.done("config", "set", "max_retries", "5")
    assert ran.err == "1 worker running now will read it on SIGHUP, or when started again\n"


def test_an_empty_value_is_told_in_words(cli: Cli) -> None:
    """Nothing behind a sign of equality would look like an accident."""
    assert cli.done("config", "set", "host_tags", "").out == "host_tags is empty now\n"
    assert cli.done("config", "unset", "host_tags").out == "host_tags is empty again\n"
    assert cli.done("config", "unset", "database_url").out == "database_url was not set\n"
    ran = cli("config", "set", "database_url", "mysql://me:hunter2@h/d")
    assert (ran.status, ran.out) == (2, "")
    assert "database_url must be like postgresql://USER@HOST:5432/DATABASE\n" in ran.err
    assert "is not shown, for it may hold a password" in ran.err
