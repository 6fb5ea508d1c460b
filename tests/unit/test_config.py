from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from queuectl import config
from queuectl.config import Config
from queuectl.config.settings import SETTINGS
from queuectl.errors import EnvironmentFault, InvalidInput

BROKEN = [
    pytest.param(b'{"max_retries" 3}', "line 1, column 16: not valid JSON", id="colon"),
    pytest.param(b'{\n  "max_retries": 3\n', "line 3, column 1: not valid JSON", id="unclosed"),
    pytest.param(b"", "is empty", id="empty"),
    pytest.param(b"\n [1]", "line 2, column 2: not a JSON object", id="array"),
    pytest.param(b'{"on_lost":\n "\xff"}', "line 2, column 3: not UTF-8", id="not UTF-8"),
    pytest.param("{}".encode("utf-16"), "not UTF-8 but UTF-16", id="UTF-16"),
    pytest.param(
        b'{"max_retries": 1,\n "max_losses": 2,\n "max_retries": 3}',
        "line 3, column 2: 'max_retries' is there twice",
        id="twice",
    ),
    pytest.param(
        b'{\n "max_retires": 1}', "line 2, column 2: there is no setting 'max_retires'", id="key"
    ),
    pytest.param(
        b'{\n "max_retries": true}',
        "line 2, column 2: max_retries must be a whole number from 0 to 1000, not true",
        id="bool",
    ),
    pytest.param(b'{"max_retries": "3"}', 'from 0 to 1000, not "3"', id="text for a number"),
    pytest.param(b'{"max_retries": null}', "from 0 to 1000, not null", id="null"),
    pytest.param(b'{"max_retries": 3.0}', "whole number", id="float for an int"),
    pytest.param(
        b'{"max_losses": {"max_retries": 1}, "max_retries": -1}',
        "line 1, column 2: max_losses must be",
        id="nested",
    ),
    pytest.param(
        b'{"on_lost": "retry", "max_retries": 1001}', "line 1, column 22: max_retries", id="range"
    ),
    pytest.param(b'{"backoff_base": NaN}', "from 0 to 3600, not NaN", id="NaN"),
    pytest.param(b'{"backoff_base": 1e999}', "from 0 to 3600, not Infinity", id="infinite"),
    pytest.param(b'{"max_retries": ' + b"9" * 5000 + b"}", "cannot be read", id="digits"),
    pytest.param(b"[" * 100_000, "", id="nesting"),
    pytest.param(b" " * 2_000_000, "over 1 MiB", id="huge"),
]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the configuration file is, once there is one."""
    return str(tmp_path / "queuectl_config.json")


def test_defaults_are_values_their_settings_may_have() -> None:
    """Every default passes its own setting's check unchanged, and has a help line."""
    for setting in SETTINGS:
        assert setting.check(setting.default) == setting.default
        assert type(setting.check(setting.default)) is type(setting.default)
        assert setting.help


def test_attributes_are_the_settings() -> None:
    """The typed attributes of Config name the settings of the table, no more and no fewer."""
    assert list(Config.__annotations__) == [setting.name for setting in SETTINGS]
    assert {s.name: Config.__annotations__[s.name] for s in SETTINGS} == {
        s.name: {"choice": "str", "url": "str", "tags": "str"}.get(s.kind, s.kind) for s in SETTINGS
    }


def test_what_decides_for_a_job_is_taken_from_the_settings() -> None:
    """The policy has the configured values, each in its place."""
    policy = Config(file={"backoff_base": 7.5, "max_losses": 9}).policy()
    assert (policy.backoff_base, policy.max_losses) == (7.5, 9)


def test_without_a_file_nothing_heavy_is_imported(path: str) -> None:
    """Loading the configuration where there is no file loads neither json nor the file's reader."""
    code = (
        "import sys; from queuectl.config import Config; Config.load(sys.argv[1], {});"
        "heavy = {'json', 'typing', 'datetime', 'queuectl.config.file', 'queuectl.jobs.duration'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-S", "-c", code, path],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.dirname(config.__file__)))},
    )
    assert out.stdout == "[]\n"


def test_the_environment_goes_before_the_file_before_the_default(path: str) -> None:
    """Each value comes from the strongest source that has one, and origin says which."""
    Path(path).write_text('{"max_retries": 7, "job_timeout": "5m"}')
    loaded = Config.load(path, {"QUEUECTL_MAX_RETRIES": "9", "QUEUECTL_LOG_MAX_BYTES": "1MiB"})
    assert (loaded.max_retries, loaded.origin("max_retries")) == (9, "environment")
    assert (loaded.log_max_bytes, loaded.origin("log_max_bytes")) == (2**20, "environment")
    assert (loaded.job_timeout, loaded.origin("job_timeout")) == (300.0, "file")
    assert (loaded.get("backoff_base"), loaded.origin("backoff_base")) == (2.0, "default")


def test_whole_numbers_in_the_file_become_floats_where_the_setting_is_one(path: str) -> None:
    """The original's `"backoff_base": 2` is a float for the program, and shown as 2."""
    Path(path).write_text('{"backoff_base": 2}')
    value = Config.load(path, {}).backoff_base
    assert isinstance(value, float)
    assert config.show(value) == "2"


def test_a_byte_order_mark_is_no_error(path: str) -> None:
    """A file saved by a Windows editor, which begins with a byte order mark, is read."""
    Path(path).write_bytes(b'\xef\xbb\xbf{"max_retries": 7}')
    assert Config.load(path, {}).max_retries == 7


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_retries", "0", 0),
        ("max_retries", " +12 ", 12),
        ("backoff_base", "1.5", 1.5),
        ("backoff_base", ".5", 0.5),
        ("job_timeout", "1h30m", 5400.0),
        ("job_timeout", "2.5", 2.5),
        ("poll_interval_seconds", "250ms", 0.25),
        ("on_lost", "hold", "hold"),
        ("log_max_bytes", "0", 0),
        ("log_max_bytes", "64MiB", 67108864),
        ("log_max_bytes", "64 mb", 64_000_000),
        ("log_max_bytes", "1.5G", 1_610_612_736),
    ],
)
def test_parse_understands(name: str, text: str, value: object) -> None:
    """Numbers, lengths of time, sizes and choices are read as people write them."""
    parsed = config.parse(name, text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("max_retries", text) for text in ("-1", "1001", "3.0", "1_0", "٣", "", "true", "5m")),
        *(("backoff_base", text) for text in ("nan", "inf", "1e999", "-1", "5m", "0x10")),
        *(("lease_seconds", text) for text in ("1", "61m", "nan", "five", "-5m")),
        *(("log_max_bytes", text) for text in ("12", "4095", "2TiB", "5 parsecs", "1.5", "-0.1")),
        *(("on_lost", text) for text in ("", "Retry", "1")),
        ("max_retries", "9" * 5000),
        ("log_max_bytes", "9" * 5000 + "TiB"),
    ],
)
def test_parse_refuses(name: str, text: str) -> None:
    """A value that is not allowed is refused in one short line that says what is."""
    with pytest.raises(InvalidInput) as caught:
        config.parse(name, text)
    setting = config.find_setting(name)
    assert caught.value.message.startswith(f"{name} must be {setting.accepts}, not '")
    assert len(caught.value.message) < 200


def test_an_unknown_setting_names_the_nearest(path: str) -> None:
    """A mistyped name is refused everywhere a name is taken, with the one that was meant."""
    loaded = Config.load(path, {})
    uses: list[Callable[[], object]] = [
        lambda: config.parse("max_retires", "1"),
        lambda: config.set_value(path, "max_retires", "1"),
        lambda: config.unset_value(path, "max_retires"),
        lambda: loaded.get("max_retires"),
        lambda: loaded.origin("max_retires"),
    ]
    for use in uses:
        with pytest.raises(InvalidInput, match="no setting 'max_retires'") as caught:
            use()
        assert caught.value.hint == "Did you mean max_retries?"
    assert not os.path.exists(path)


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_a_broken_file_is_reported_and_left_alone(path: str, content: bytes, message: str) -> None:
    """Nothing in a broken file is guessed at, neither to read it nor to change a setting in it."""
    Path(path).write_bytes(content)
    for use in (
        lambda: Config.load(path, {}),
        lambda: config.set_value(path, "max_losses", "4"),
        lambda: config.unset_value(path, "max_losses"),
    ):
        with pytest.raises(InvalidInput) as caught:
            use()
        assert caught.value.message.startswith(path)
        assert message in caught.value.message
        assert "\n" not in caught.value.message
    assert Path(path).read_bytes() == content
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


@pytest.mark.timeout(10)
def test_what_is_no_file_is_reported(path: str) -> None:
    """A folder or a named pipe in the place of the file is an error, not a wait."""
    os.mkdir(path)
    with pytest.raises(EnvironmentFault, match="is not a file"):
        Config.load(path, {})
    os.rmdir(path)
    os.mkfifo(path)
    with pytest.raises(EnvironmentFault, match="is not a file"):
        Config.load(path, {})


def test_a_path_through_a_file_is_reported(tmp_path: Path) -> None:
    """A path that cannot exist is no missing file with defaults in its place."""
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="Not a directory"):
        Config.load(str(tmp_path / "file" / "config.json"), {})


def test_a_bad_variable_is_named(path: str) -> None:
    """A bad value in the environment is refused with the name of the variable."""
    with pytest.raises(InvalidInput, match="variable QUEUECTL_ON_LOST: on_lost must be retry"):
        Config.load(path, {"QUEUECTL_ON_LOST": "panic"})


def test_an_empty_variable_is_unset(path: str) -> None:
    """A variable that is set to nothing changes nothing."""
    loaded = Config.load(path, {"QUEUECTL_ON_LOST": ""})
    assert (loaded.on_lost, loaded.origin("on_lost")) == ("retry", "default")


def test_a_job_does_not_inherit_the_retries_of_the_job_that_enqueues_it(path: str) -> None:
    """Inside a job QUEUECTL_MAX_RETRIES tells about that job, and sets nothing."""
    environ = {"QUEUECTL_MAX_RETRIES": "0", "QUEUECTL_JOB_ID": "a", "QUEUECTL_ON_LOST": "fail"}
    loaded = Config.load(path, environ)
    assert (loaded.max_retries, loaded.on_lost) == (3, "fail")


def test_set_and_unset_change_one_setting(path: str) -> None:
    """The file holds what was set, as plain JSON, and is private to the user."""
    assert config.set_value(path, "job_timeout", "5m") == 300.0
    assert config.set_value(path, "on_lost", "hold") == "hold"
    assert json.loads(Path(path).read_text()) == {"job_timeout": 300, "on_lost": "hold"}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert config.unset_value(path, "job_timeout")
    assert not config.unset_value(path, "job_timeout")
    assert json.loads(Path(path).read_text()) == {"on_lost": "hold"}
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_unset_without_a_file_makes_none(path: str) -> None:
    """Taking a setting out of a file that is not there is no error and makes no file."""
    assert not config.unset_value(path, "job_timeout")
    assert not os.path.exists(path)


def test_a_linked_file_stays_linked(path: str, tmp_path: Path) -> None:
    """Where the file is a symbolic link, what it points to is changed."""
    target = tmp_path / "dotfiles" / "queue.json"
    target.parent.mkdir()
    os.symlink(target, path)
    config.set_value(path, "max_retries", "5")
    assert os.path.islink(path)
    assert json.loads(target.read_text()) == {"max_retries": 5}


def test_a_full_disk_leaves_the_old_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new file cannot be written, the old one stays and nothing is left beside it."""
    config.set_value(path, "max_retries", "5")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFault, match="cannot be written: No space left"):
        config.set_value(path, "max_retries", "6")
    assert json.loads(Path(path).read_text()) == {"max_retries": 5}
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    """Setting a value where there is no folder names the path."""
    with pytest.raises(EnvironmentFault, match=r"gone/config\.json cannot be written: No such"):
        config.set_value(str(tmp_path / "gone" / "config.json"), "max_retries", "1")


def test_two_processes_that_set_at_once_lose_nothing(path: str) -> None:
    """What one process has set is there afterwards, whatever another sets in between."""
    code = (
        "import sys; from queuectl import config\n"
        "path, name = sys.argv[1:]\n"
        "for n in range(1, 41):\n"
        "    config.set_value(path, name, str(n))\n"
        "    assert config.Config.load(path, {}).get(name) == n, (name, n)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(config.__file__)))
    processes = [
        subprocess.Popen([sys.executable, "-c", code, path, name], env={"PYTHONPATH": root})
        for name in ("max_retries", "max_losses", "backoff_base")
    ]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert json.loads(Path(path).read_text()) == dict.fromkeys(
        ("max_retries", "max_losses", "backoff_base"), 40
    )
