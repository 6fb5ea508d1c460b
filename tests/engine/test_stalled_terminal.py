from __future__ import annotations

import os
import pty
import signal
import subprocess

import pytest

from tests.support import Sandbox, wait_until


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_terminal_that_takes_no_more_stops_no_work(
    sandbox: Sandbox, signals: list[signal.Signals]
) -> None:
    """Nobody reads what a worker says on its terminal: all jobs run, and the worker can be stopped."""
    jobs = sandbox.queue.enqueue_many([{"command": "true"}] * 600)
    master, terminal = pty.openpty()
    worker = subprocess.Popen(
        sandbox.command_line("worker-start", "--count", "2"),
        cwd=sandbox.folder,
        env=sandbox.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        wait_until(lambda: sandbox.count("completed") == len(jobs), "all jobs are done")
        for number in signals:
            worker.send_signal(number)
        assert worker.wait(timeout=30) == 0
    finally:
        worker.kill()
        worker.wait()
        os.close(master)
