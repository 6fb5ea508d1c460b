"""Workers with tags, and the jobs that require them."""

from __future__ import annotations

import json

from queuectl.processes import host_name
from tests.support import Sandbox

WAITS = "echo $QUEUECTL_JOB_ID >> marks; until [ -e go ]; do sleep 0.02; done"


def test_jobs_run_where_their_requirements_are_met(sandbox: Sandbox) -> None:
    """Of two workers side by side, the one with the tags runs what requires them, and anything else."""
    plain = sandbox.start_worker()
    gpu = sandbox.start_worker("--host-tag", "gpu", "--host-tag", "linux,x86", "--count", "2")
    jobs = [sandbox.enqueue("true", requires="linux,gpu", priority=9) for _ in range(10)]
    jobs += [sandbox.enqueue("true", requires=["x86"]) for _ in range(5)]
    anywhere = sandbox.enqueue("true")
    for job in [*jobs, anywhere]:
        sandbox.wait_state(job, "completed")
    assert {sandbox.job(job).worker for job in jobs} == {f"{host_name()}:{gpu.pid}"}
    assert [plain.stop(), gpu.stop()] == [0, 0]


def test_a_retry_needs_the_same_tags(sandbox: Sandbox) -> None:
    """A job that failed, and one that was given back, run again where their requirements are met."""
    plain = sandbox.start_worker()
    failing = sandbox.enqueue("test $QUEUECTL_ATTEMPT = 2", requires="gpu", backoff_base=0)
    stopped = sandbox.enqueue(WAITS, requires="gpu")
    first = sandbox.start_worker("--host-tag", "gpu")
    sandbox.wait_state(failing, "completed")
    sandbox.wait_marks(1)
    sandbox.configure(stop_timeout_seconds=0, kill_grace_seconds=0.2)
    assert sandbox.run("worker-stop", "--all", "--timeout", "0").returncode == 0
    assert [plain.wait(), first.wait()] == [0, 0]
    sandbox.touch("go")
    sandbox.drain()
    assert sandbox.state(stopped) == "pending"
    sandbox.drain("--host-tag", "gpu")
    assert sandbox.outcomes(stopped) == ["interrupted", "succeeded"]


def test_a_drain_leaves_what_it_cannot_run_and_says_so(sandbox: Sandbox) -> None:
    """It ends though there are ready jobs, and one that waits for its retry, for other workers; how
    many is said, and in JSON.
    """
    failed = sandbox.enqueue("false", requires="gpu", backoff_base=3600, max_retries=1)
    gpu = sandbox.start_worker("--host-tag", "gpu")
    sandbox.wait_state(failed, "failed")
    assert gpu.stop() == 0
    done = sandbox.enqueue("true")
    left = [sandbox.enqueue("true", requires="gpu", priority=9) for _ in range(3)]
    left += [sandbox.enqueue("true", requires="gpu,linux")]
    worker = sandbox.drain("--count", "2")
    assert sandbox.state(done) == "completed"
    assert {sandbox.state(job) for job in left} == {"pending"}
    assert "left 5 jobs that require tags this worker does not have (and 1 other set" in worker.said
    assert "--host-tag gpu\n" in worker.said
    ran = sandbox.run("worker-start", "--drain", "--json")
    assert json.loads(ran.stdout) == {"completed": 0, "failed": 0, "left": 5}


def test_a_drain_does_not_wait_for_what_others_run_for_their_tags(sandbox: Sandbox) -> None:
    """A job that runs elsewhere for its tags is nothing a drain without them could take over."""
    job = sandbox.enqueue(WAITS, requires="gpu")
    gpu = sandbox.start_worker("--host-tag", "gpu")
    sandbox.wait_marks(1)
    sandbox.drain()
    assert sandbox.state(job) == "processing"
    waiting = sandbox.start_worker("--drain", "--host-tag", "gpu")
    assert not waiting.has_ended
    sandbox.touch("go")
    assert waiting.wait() == 0
    assert sandbox.state(job) == "completed"
    assert gpu.stop() == 0


def test_an_idle_worker_is_woken_for_its_tags(sandbox: Sandbox) -> None:
    """A backlog that an idle worker cannot run does not keep it from what comes for it."""
    worker = sandbox.start_worker("--host-tag", "linux")
    for _ in range(20):
        sandbox.enqueue("true", requires="gpu", priority=9)
    sandbox.wait_state(sandbox.enqueue("true", requires="linux"), "completed")
    assert sandbox.count("pending") == 20
    assert worker.stop() == 0


def test_tags_come_from_the_settings_too(sandbox: Sandbox) -> None:
    """The setting host_tags, in the file or the environment, goes for every worker here; the option
    takes its place.
    """
    sandbox.configure(host_tags="linux, gpu")
    worker = sandbox.start_worker()
    other = sandbox.start_worker("--host-tag", "tpu", env={"QUEUECTL_HOST_TAGS": "x"})
    listed = json.loads(sandbox.run("worker-list", "--json").stdout)
    assert [found["tags"] for found in listed] == [["gpu", "linux"], ["tpu"]]
    assert [worker.stop(), other.stop()] == [0, 0]
