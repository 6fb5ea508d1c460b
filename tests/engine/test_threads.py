from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.support import Sandbox, wait_until

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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_end_of_a_command_wakes_no_thread_but_its_slot(sandbox: Sandbox) -> None:
    """No slot blocks SIGCHLD: else the kernel would keep the signal, and wake the main thread for
    each command that ends, which costs a tenth of all that short commands take.
    """
    worker = sandbox.start_worker("--count", "3")
    for _ in range(3):
        sandbox.enqueue("echo >> marks; sleep 300")
    sandbox.wait_marks(3)
    bit = 1 << (signal.SIGCHLD - 1)

    def threads() -> list[str]:
        tasks = Path(f"/proc/{worker.pid}/task").iterdir()
        return [(task / "status").read_text() for task in tasks]

    def only_the_ledgers() -> bool:
        return sum(bool(int(_field(text, "SigBlk"), 16) & bit) for text in threads()) <= 1

    assert len(threads()) >= 5, "the main thread, the ledger's, and three slots"
    # A slot does while it starts a command, which may run before the slot has come out of that.
    wait_until(only_the_ledgers, "no slot blocks it")


def _field(status: str, name: str) -> str:
    [value] = [line.split(":")[1] for line in status.splitlines() if line.startswith(name + ":")]
    return value.strip()
