from __future__ import annotations

from pathlib import Path

import pytest

from queuectl.job_logs import JobLogs


@pytest.fixture
def logs(tmp_path: Path) -> JobLogs:
    """An empty folder of logs."""
    logs = JobLogs(str(tmp_path / "job_logs"))
    logs.ensure_folder()
    return logs
