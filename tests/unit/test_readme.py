from __future__ import annotations

import doctest
import inspect
import re

import pytest

from queuectl import errors
from queuectl.cli import COMMANDS, _load
from queuectl.cli.command import build_parser
from queuectl.cli.json_output import job_object
from queuectl.config import show
from queuectl.config.settings import SETTINGS
from queuectl.jobs.fields import CHECKS
from tests.support import ROOT, Sandbox
from tests.unit.documents import code_blocks, table

README = ROOT / "README.md"


def test_the_python_example_does_what_it_shows(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of the Python API runs as it stands, beside a worker, with the output it shows."""
    (example,) = code_blocks(README, "pycon")
    sandbox.start_worker()
    monkeypatch.chdir(sandbox.folder)
    test = doctest.DocTestParser().get_doctest(example, {}, "README", str(README), 0)
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert result.attempted > 5
    assert not result.failed, "".join(said)


def test_the_table_of_commands_is_complete() -> None:
    """Each command has a row, and each option in its row is one of its own."""
    rows = {row[0].strip("`"): row[1] for row in table(README, "Commands")}
    assert rows.keys() == COMMANDS.keys()
    for name, text in rows.items():
        known = build_parser(name, _load(name)).format_help().split("\n\n", 2)[2]
        for option in re.findall(r"--[a-z-]{2,}", text):
            assert re.search(rf"^  .*{option}\b", known, re.MULTILINE), (name, option)


def test_the_fields_of_a_job_are_all_described() -> None:
    """What a job may be given, and what it is read back with, is in the two tables."""
    section = re.split(r"^## ", README.read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith("What a job is")]
    rows = [row.strip("|").split("|") for row in text.splitlines() if row.startswith("| `")]
    given = {row[1].strip(" `") for row in rows if len(row) == 3}
    assert given == CHECKS.keys() - set("next_run_at state attempts created_at updated_at".split())
    read = {name for row in rows if len(row) == 2 for name in re.findall(r"`(\w+)`", row[0])}
    assert given | read == {*_keys_of_a_job(), "attempt_log", "delay", "run_at"}


def _keys_of_a_job() -> list[str]:
    return re.findall(r'^ +"(\w+)":', inspect.getsource(job_object), re.MULTILINE)


def test_the_table_of_settings_is_true() -> None:
    """Each setting has a row, with its default and its range."""
    rows = table(README, "Configuration")
    defaults = [
        show(setting.default)
        + (
            ""
            if setting.remote_default == setting.default
            else f"; {setting.remote_default:g} on a server"
        )
        for setting in SETTINGS
    ]
    assert [row[0] for row in rows] == [f"`{setting.name}`" for setting in SETTINGS]
    assert [row[1] for row in rows] == defaults
    for setting, (_, _, allowed, _) in zip(SETTINGS, rows, strict=True):
        if setting.choices:
            assert allowed == ", ".join(setting.choices)
        elif setting.kind == "tags":
            assert allowed == "tags such as `gpu,linux`"
        elif setting.kind == "url":
            assert allowed.startswith("`postgresql://")
        else:
            expected = f"{setting.minimum:g} to {setting.maximum}"
            assert allowed.startswith(expected)
            assert allowed.removeprefix(expected) in ("", " s", ", or 0" if setting.zero else "")
            assert (setting.unit == "seconds") == allowed.endswith(" s")


def test_the_exit_statuses_are_all_described() -> None:
    """Each status with which an error ends is in the table, and no other but those of any program."""
    classes = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    statuses = {c.exit_status for c in classes if issubclass(c, errors.QueuectlError)}
    assert {int(row[0]) for row in table(README, "Exit statuses")} == statuses | {0, 130}
