from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.support import Prompt
from tests.support import ROOT


def test_requirements_bring_queuectl_itself() -> None:
    """`pip install -r requirements.txt` installs the checkout, and with it all that it and its tests need."""
    assert (ROOT / "requirements.txt").read_text() == "-e .[dev]\n"


@pytest.mark.sqlite_only("it is about the place of the file")
def test_init_makes_the_database_in_the_current_folder(prompt: Prompt) -> None:
    """`init` creates queuectl.db where it is run, in WAL mode."""
    prompt.types("python main.py init")
    header = (prompt.folder / "queuectl.db").read_bytes()[:20]
    assert header.startswith(b"SQLite format 3\0")
    assert header[18:20] == b"\x02\x02", "these two bytes say that the file is in WAL mode"


@pytest.mark.sqlite_only("it is about the place of the file")
def test_the_environment_chooses_the_database(prompt: Prompt, tmp_path: Path) -> None:
    """QUEUECTL_DB_PATH overrides the path of the database, for `init` and for what follows it."""
    elsewhere = tmp_path / "path" / "to" / "queuectl.db"
    elsewhere.parent.mkdir(parents=True)
    env = {"QUEUECTL_DB_PATH": str(elsewhere)}
    prompt.types("python main.py init", env=env)
    prompt.types("python main.py enqueue --id there --command true", env=env)
    assert elsewhere.exists()
    assert not (prompt.folder / "queuectl.db").exists()
    assert "there" in prompt.types("python main.py list", env=env).stdout


@pytest.mark.parametrize(
    ("name", "value"), [("max_retries", "3"), ("backoff_base", "2"), ("job_timeout", "0")]
)
def test_settings_have_the_defaults_that_were_promised(
    prompt: Prompt, name: str, value: str
) -> None:
    """Three retries, base 2, no timeout."""
    assert prompt.types(f"python main.py config get {name}").stdout == f"{value}\n"


def test_a_setting_that_was_set_is_got(prompt: Prompt) -> None:
    """`config set` writes queuectl_config.json, and `config get` reads it."""
    prompt.types("python main.py config set backoff_base 2")
    assert '"backoff_base": 2' in (prompt.folder / "queuectl_config.json").read_text()
    assert prompt.types("python main.py config get backoff_base").stdout == "2\n"
    prompt.types("python main.py config set backoff_base 3")
    assert prompt.types("python main.py config get backoff_base").stdout == "3\n"
