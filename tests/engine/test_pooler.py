"""Workers behind a pooler, which hands each of their transactions to another session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import pooler
from tests.support import Sandbox, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.parametrize("sandbox", ["pooled"], indirect=True)

_WAITS = "echo $QUEUECTL_JOB_ID >> marks; until [ -e go ]; do sleep 0.02; done"


def test_an_idle_worker_finds_what_comes(sandbox: Sandbox) -> None:
    """It asks by itself, every `poll_interval_seconds`: far sooner than a worker that was not told."""
    sandbox.configure(poll_interval_seconds=0.1)
    worker = sandbox.start_worker()
    for _ in range(3):
        sandbox.wait_state(sandbox.enqueue("true"), "completed", seconds=5)
    assert pooler.left_behind(sandbox.location) == []
    assert worker.stop() == 0


def test_workers_side_by_side_drain_what_fails_at_first(sandbox: Sandbox) -> None:
    """Each job runs once and once more, whoever has it, and leaves nothing in a session."""
    command = "echo $QUEUECTL_JOB_ID >> marks; test $QUEUECTL_ATTEMPT = 2 -o ${QUEUECTL_JOB_ID#even} = $QUEUECTL_JOB_ID"
    jobs = [f"{'even' if n % 2 == 0 else 'odd'}-{n}" for n in range(300)]
    sandbox.queue.enqueue_many(
        {"id": id, "command": command, "backoff_base": 0, "cwd": str(sandbox.files)} for id in jobs
    )
    drains = [sandbox.start_worker("--drain", "--count", "2", ready=False) for _ in range(2)]
    for drain in drains:
        assert drain.wait() == 0, drain.said
    assert sandbox.count("completed") == 300
    assert sorted(sandbox.marks()) == sorted(jobs + [id for id in jobs if id.startswith("even")])
    assert pooler.left_behind(sandbox.location) == []


def test_what_runs_is_cancelled(sandbox: Sandbox) -> None:
    """The worker finds that by itself, as it does jobs."""
    worker = sandbox.start_worker()
    job = sandbox.enqueue(_WAITS)
    sandbox.wait_marks(1)
    assert sandbox.run("cancel", job).returncode == 0
    sandbox.wait_state(job, "cancelled")
    wait_until(lambda: not sandbox.commands(), "the command was ended")
    assert worker.stop() == 0


def test_a_lost_worker_is_rescued(sandbox: Sandbox) -> None:
    """Its job runs again at another one."""
    job = sandbox.enqueue(_WAITS)
    lost = sandbox.start_worker()
    sandbox.wait_marks(1)
    worker = sandbox.start_worker()
    lost.kill()
    sandbox.wait_marks(2)
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert worker.stop() == 0


def restart() -> None:
    """Its clients lose their connections."""
    pooler.pooler().stop()
    pooler.pooler().start()


@pytest.mark.parametrize("lose", [restart, pooler.end_sessions])
def test_a_command_survives_what_is_lost(sandbox: Sandbox, lose: Callable[[], None]) -> None:
    """What runs goes on, and counts once."""
    job = sandbox.enqueue(_WAITS)
    worker = sandbox.start_worker()
    sandbox.wait_marks(1)
    sandbox.close_queue()
    lose()
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
    sandbox.wait_state(sandbox.enqueue("true"), "completed")
    assert sandbox.outcomes(job) == ["succeeded"]
    assert worker.stop() == 0, worker.said
