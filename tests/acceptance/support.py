"""The examples of the original README, typed as they stand there."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

from tests.support import Sandbox, WorkerProcess

_CALL = ["python", "main.py"]


class Prompt:
    """Types lines that begin with `python main.py` in the folder of a sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.folder: Path = sandbox.folder

    def types(
        self, line: str, *, status: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs the line to its end, and checks its exit status."""
        ran = self.sandbox.run(*_words(line), env=env)
        assert ran.returncode == status, ran
        return ran

    def starts(self, line: str) -> WorkerProcess:
        """Starts a worker in the foreground, and waits until it works."""
        name, *options = _words(line)
        assert name == "worker-start"
        return self.sandbox.start_worker(*options)

    def enqueues(self, line: str) -> str:
        """Queues a job and returns its id, which is all that the line on stdout tells."""
        out = self.types(line).stdout
        assert out.startswith("Enqueued job: "), out
        assert out.count("\n") == 1, out
        return out.removeprefix("Enqueued job: ").strip()

    def job(self, id: str) -> dict[str, Any]:
        """The job as `show` gives it to a program."""
        found: dict[str, Any] = json.loads(self.types(f"python main.py show {id} --json").stdout)
        return found


def _words(line: str) -> list[str]:
    words = shlex.split(line)
    assert words[:2] == _CALL, line
    return words[2:]
