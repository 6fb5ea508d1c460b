from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import pooler, postgres
from tests.postgres import LEFT_OUT
from tests.support import Sandbox, clean_environment, new_sandbox


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    """A QUEUECTL_ variable of whoever runs the tests would change what they see."""
    for name in set(os.environ) - set(clean_environment()):
        del os.environ[name]


@pytest.fixture
def sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    """A queue of its own, and a way to start workers on it; nothing of it runs on afterwards."""
    url = ""
    kind = getattr(request, "param", "sqlite")
    if kind != "sqlite":
        monkeypatch.setenv("QUEUECTL_HOME", str(tmp_path / "home"))
        url = postgres.needed().new_schema() if kind == "postgres" else pooler.new_schema()
    with new_sandbox(tmp_path, url=url) as sandbox:
        yield sandbox


ON_BOTH = (
    "acceptance chaos crash_points drain hosts lost_server retries stop stuck_worker use_processes"
    " worker_loss"
).split()
"""The tests with real workers that `make test` runs on PostgreSQL as well: those of what is kept and
what is lost. `make soak` runs the others there, too, and these behind a pooler.
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is tried with real workers and commands is tried on every database, unless a test is about
    a file, or about what no database does (`sqlite_only`), or chooses for itself.
    """
    marks = list(metafunc.definition.iter_markers())
    chosen = any(mark.name == "parametrize" and mark.args[0] == "sandbox" for mark in marks)
    if chosen or "sandbox" not in metafunc.fixturenames:
        return
    path = metafunc.definition.path
    kinds: list[Any] = ["sqlite"]
    if path.parent.name in ("engine", "acceptance") and "sqlite_only" not in {
        m.name for m in marks
    }:
        at_once = path.parent.name in ON_BOTH or path.stem.removeprefix("test_") in ON_BOTH
        kinds.append("postgres" if at_once else pytest.param("postgres", marks=pytest.mark.soak))
        if at_once:
            kinds.append(pytest.param("pooled", marks=pytest.mark.soak))
    metafunc.parametrize("sandbox", kinds, indirect=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says at the very end how much was not tried on PostgreSQL: it is easily overlooked."""
    skipped = [
        report
        for report in terminalreporter.getreports("skipped")
        if LEFT_OUT in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} tests were left out for want of a PostgreSQL server; `pytest -rs` says why",
            yellow=True,
        )
