from __future__ import annotations

import sys
from pathlib import Path

from tests.support import Sandbox

DRIVER = [sys.executable, str(Path(__file__).with_name("faulty_worker.py")), "worker-start"]


def test_no_connection_is_used_by_two_threads_at_once(sandbox: Sandbox) -> None:
    """A worker's threads keep to their own connections, also while it starts and rescues: else one
    could land in the middle of another's transaction.
    """
    for n in range(4):
        job = sandbox.enqueue("test $QUEUECTL_ATTEMPT = 2 || kill -9 $PPID; sleep 300")
        worker = sandbox.start_worker(ready=False)
        assert worker.wait() == -9
        sandbox.enqueue(f"exit {n}", max_retries=1, backoff_base=0)
        sandbox.queue.cancel([job])
        watched = sandbox.start_worker(
            "--drain", "--count", "2", program=DRIVER, env={"FAULT": "two threads"}, ready=False
        )
        assert watched.wait() == 0, watched.said
        assert "at once" not in watched.said
