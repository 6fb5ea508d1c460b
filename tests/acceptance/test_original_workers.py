from __future__ import annotations

import signal

import pytest

from tests.acceptance.support import Prompt
from tests.support import Sandbox, wait_until


@pytest.mark.parametrize("options", ["", " --use-processes"])
def test_a_worker_in_the_foreground(prompt: Prompt, options: str) -> None:
    """A worker in the foreground, threaded or as processes, runs what is queued until Ctrl-C."""
    id = prompt.enqueues("python main.py enqueue --command true")
    worker = prompt.starts(f"python main.py worker-start --count 1{options}")
    prompt.sandbox.wait_state(id, "completed")
    later = prompt.enqueues("python main.py enqueue --command true")
    prompt.sandbox.wait_state(later, "completed")
    worker.send(signal.SIGINT)
    assert worker.wait() == 0


def test_a_worker_in_the_background(sandbox: Sandbox, prompt: Prompt) -> None:
    """A background worker writes its pidfile, works, and is gone when worker-stop returns."""
    prompt.types("python main.py worker-start --background --count 1")
    pidfile = prompt.folder / "queuectl.pid"
    assert int(pidfile.read_text()) in sandbox.processes()
    id = prompt.enqueues("python main.py enqueue --command true")
    sandbox.wait_state(id, "completed")
    prompt.types("python main.py worker-stop")
    assert not pidfile.exists()
    assert not sandbox.processes()


def test_a_second_background_worker_is_refused(sandbox: Sandbox, prompt: Prompt) -> None:
    """While one runs in the background, another is refused with the pid of the first."""
    prompt.types("python main.py worker-start --background --count 1")
    pid = (prompt.folder / "queuectl.pid").read_text().strip()
    second = prompt.types("python main.py worker-start --background --count 1", status=4)
    assert pid in second.stderr
    prompt.types("python main.py worker-stop")
    assert not sandbox.processes()


def test_stopping_lets_a_running_job_finish(sandbox: Sandbox, prompt: Prompt) -> None:
    """worker-stop waits for the job that runs, which ends well and has used one attempt."""
    command = sandbox.script("slow.sh", "echo on >> marks\nsleep 1\necho off >> marks\n")
    id = prompt.enqueues(f'python main.py enqueue --command "{command}"')
    prompt.types("python main.py worker-start --background --count 1")
    sandbox.wait_marks(1)
    prompt.types("python main.py worker-stop")
    assert sandbox.marks() == ["on", "off"]
    assert (sandbox.state(id), sandbox.job(id).attempts) == ("completed", 1)


def test_several_workers_run_each_job_once(sandbox: Sandbox, prompt: Prompt) -> None:
    """Three workers on one queue run sixty jobs, none of them twice."""
    lines = [f'{{"id": "job-{n}", "command": "echo {n} >> marks"}}' for n in range(60)]
    (prompt.folder / "jobs.jsonl").write_text("\n".join(lines))
    prompt.types("python main.py enqueue --jobs-file jobs.jsonl")
    workers = [sandbox.start_worker("--count", "2", "--drain", ready=False) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert sorted(map(int, sandbox.marks())) == list(range(60))
    assert all(job.attempts == 1 for job in sandbox.queue.list())


def test_output_goes_to_the_log_of_the_job(sandbox: Sandbox, prompt: Prompt) -> None:
    """Both stdout and stderr are in job_logs/<job_id>.log, in the order in which they were written."""
    command = sandbox.script("talk.sh", "echo one\necho two >&2\necho three\n")
    id = prompt.enqueues(f'python main.py enqueue --command "{command}"')
    sandbox.drain()
    assert sandbox.output(id) == b"one\ntwo\nthree\n"


def test_a_configured_timeout_ends_a_job(sandbox: Sandbox, prompt: Prompt) -> None:
    """job_timeout ends a command that runs for too long, and the attempt fails for that reason."""
    prompt.types("python main.py config set job_timeout 1")
    id = prompt.enqueues('python main.py enqueue --command "sleep 60" --max-retries 0')
    sandbox.drain()
    job = prompt.job(id)
    assert job["state"] == "dead"
    assert job["error"].startswith("timeout")
    wait_until(lambda: not sandbox.processes(), "the command is gone")
