from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from queuectl.clock import Clock
from queuectl.storage import open_worker_storage
from tests.support import Sandbox, this_process_as_worker, wait_until

DRIVER = [sys.executable, str(Path(__file__).with_name("faulty_worker.py")), "worker-start"]

# The first run hangs, with a child in a session of its own that notes how long it lives; a later
# run checks that nothing of the first is left, and ends.
FIRST_HANGS = """
if [ $QUEUECTL_ATTEMPT = 1 ]; then
    setsid sh -c 'echo $$ >> pids; exec sleep 300' &
    echo $$ >> pids
    wait
fi
for pid in $(cat pids); do
    if grep -q '^State:.[RSDT]' /proc/$pid/status 2>/dev/null; then echo overlap >> marks; fi
done
echo run $QUEUECTL_ATTEMPT >> marks
"""


def hang(sandbox: Sandbox, **options: object) -> str:
    """A job whose first run hangs, and whose later ones look for what is left of it."""
    return sandbox.enqueue(sandbox.script("hang.sh", FIRST_HANGS), **options)


def lose(sandbox: Sandbox, count: int = 2) -> None:
    """Starts a worker, and kills it once its command has started its processes."""
    worker = sandbox.start_worker()
    sandbox.wait_marks(count, "pids")
    worker.kill()


def test_a_lost_worker_is_noticed_by_a_living_one(sandbox: Sandbox) -> None:
    """Its commands are ended, also what changed its session, before the job runs again; the loss
    counts as an attempt and is named for what it was.
    """
    job = hang(sandbox)
    first = sandbox.start_worker()
    sandbox.wait_marks(2, "pids")
    second = sandbox.start_worker()
    first.kill()
    sandbox.wait_state(job, "completed")
    assert sandbox.marks() == ["run 2"]
    lost, again = sandbox.attempts(job)
    assert (lost.outcome, lost.error, lost.exit_code, lost.signal) == (
        "lost",
        "worker lost",
        None,
        None,
    )
    assert again.outcome == "succeeded"
    assert (sandbox.job(job).attempts, sandbox.job(job).losses) == (2, 1)
    second.wait_for("was lost; took back 1 job and ended")


@pytest.mark.parametrize(
    "told", ["QUEUECTL_DB_PATH=/another/queuectl.db", "-u QUEUECTL_DB_PATH"], ids=["other", "none"]
)
@pytest.mark.parametrize("output", ["", "> /dev/null 2>&1"], ids=["log", "nowhere"])
def test_a_command_that_works_on_another_queue_is_ended_as_well(
    sandbox: Sandbox, told: str, output: str
) -> None:
    """What was told of another queue, or of none, is part of its run all the same: when its worker
    was lost it ends before the job runs again, and so it does with a timeout.
    """
    script = (
        f"env {told} setsid sh -c 'echo $$ >> pids; exec sleep 300' {output} &\n"
        "for pid in $(cat seen); do grep -q '^State:.[RSDT]' /proc/$pid/status && echo overlap >> marks\n"
        "done\n"
        "while [ $(wc -l < pids) -lt $QUEUECTL_ATTEMPT ]; do sleep 0.01; done\n"
        "cat pids > seen; echo run >> marks; wait\n"
    )
    sandbox.touch("seen")
    sandbox.touch("pids")
    sandbox.configure(kill_grace_seconds=1)
    job = sandbox.enqueue(sandbox.script("elsewhere.sh", script), max_retries=0, timeout=4)
    first = sandbox.start_worker()
    sandbox.wait_marks(1)
    first.kill()
    sandbox.drain()
    assert sandbox.marks() == ["run", "run"]
    assert sandbox.outcomes(job) == ["lost", "timeout"]
    assert sandbox.processes() == []


def test_a_slower_rescuer_leaves_the_next_run_alone(sandbox: Sandbox) -> None:
    """One that stood still between fencing a lost worker and ending its commands does not end the run
    that has begun meanwhile, though that has no marks; nor does it write into that run's log.
    """
    job = sandbox.enqueue(
        sandbox.script(
            "bare.sh",
            "if [ $QUEUECTL_ATTEMPT = 1 ]; then echo first >> marks; exec sleep 300; fi\n"
            'exec env -i PATH="$PATH" sh -c \'echo bare >> marks;'
            " while ! [ -e go ]; do sleep 0.01; done; echo end >> marks'",
        )
    )
    first = sandbox.start_worker()
    sandbox.wait_marks(1)
    first.kill()
    slow = sandbox.start_worker(program=DRIVER, env={"FAULT": "after fence: stop"}, ready=False)
    status = Path(f"/proc/{slow.pid}/status")
    wait_until(lambda: "State:\tT" in status.read_text(), "it stands still")
    quick = sandbox.start_worker()
    sandbox.wait_marks(2)
    slow.send(signal.SIGCONT)
    slow.wait_for(" started: ")
    sandbox.touch("go")
    sandbox.wait_state(job, "completed", "failed", "dead")
    assert sandbox.marks() == ["first", "bare", "end"]
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert sandbox.log(job).count(b" attempt 1 ended ") == 1
    assert [quick.stop(), slow.stop()] == [0, 0]


def test_a_lost_worker_is_noticed_by_the_next_one(sandbox: Sandbox) -> None:
    """With no worker alive, what a lost one left behind is ended when the next one starts."""
    job = hang(sandbox)
    lose(sandbox)
    assert len(sandbox.commands()) == 2, "its commands were to live on"
    sandbox.drain()
    assert sandbox.marks() == ["run 2"]
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert sandbox.processes() == []
    assert sandbox.queue.workers() == []


def test_doctor_takes_back_what_a_lost_worker_held(sandbox: Sandbox) -> None:
    """With no worker at all, `doctor` says what is wrong, and `doctor --fix` mends it."""
    job = hang(sandbox)
    lose(sandbox)
    found = sandbox.run("doctor")
    assert found.returncode != 0
    assert "1 lost" in found.stdout + found.stderr
    sandbox.run("doctor", "--fix")
    assert sandbox.commands() == []
    assert (sandbox.state(job), sandbox.outcomes(job)) == ("failed", ["lost"])
    assert sandbox.run("doctor").returncode == 0
    sandbox.drain()
    assert sandbox.marks() == ["run 2"]


def test_a_zombie_worker_is_gone(sandbox: Sandbox) -> None:
    """A dead worker whose parent does not reap it is taken for what it is: its job is rescued."""
    job = hang(sandbox)
    parent = (
        "import subprocess, sys, time\nprocess = subprocess.Popen(sys.argv[1:])\ntime.sleep(300)\n"
    )
    sandbox.start_worker(
        program=[sys.executable, "-c", parent, *sandbox.command_line("worker-start")]
    )
    sandbox.wait_marks(2, "pids")
    (worker,) = sandbox.queue.workers()
    os.kill(worker.pid, signal.SIGKILL)
    status = Path(f"/proc/{worker.pid}/status")
    wait_until(lambda: "State:\tZ" in status.read_text(), "it is a zombie")
    sandbox.drain()
    assert "State:\tZ" in status.read_text(), "it was reaped: this test proves nothing"
    assert sandbox.marks() == ["run 2"]
    assert sandbox.outcomes(job) == ["lost", "succeeded"]


def test_what_ignores_sigterm_is_ended_before_the_next_run(sandbox: Sandbox) -> None:
    """The rescuer waits out the grace time of a stubborn orphan, and only then lets the job run."""
    sandbox.configure(kill_grace_seconds=1)
    job = sandbox.enqueue(
        sandbox.script("stubborn.sh", "trap '' TERM\n" + FIRST_HANGS.replace("exec sleep", "sleep"))
    )
    lose(sandbox)
    sandbox.drain()
    assert sandbox.marks() == ["run 2"]
    assert sandbox.outcomes(job) == ["lost", "succeeded"]


@pytest.mark.parametrize(
    ("on_lost", "max_retries", "state", "attempts"),
    [
        ("retry", 0, "completed", 2),
        ("fail", 3, "failed", 1),
        ("fail", 0, "dead", 1),
        ("hold", 3, "dead", 1),
    ],
)
def test_the_job_says_what_follows_the_loss_of_its_worker(
    sandbox: Sandbox, on_lost: str, max_retries: int, state: str, attempts: int
) -> None:
    """`retry` runs it again at once, even with no retries left; `fail` is an ordinary failure with
    its backoff; `hold` puts it in the dead letter queue for a person to look at.
    """
    job = hang(sandbox, on_lost=on_lost, max_retries=max_retries, backoff_base=3600)
    lose(sandbox)
    sandbox.start_worker()
    found = sandbox.wait_state(job, state)
    assert (found.attempts, found.losses) == (attempts, 1)
    assert sandbox.outcomes(job)[0] == "lost"
    if state == "failed":
        assert found.next_run_at is not None
        assert found.next_run_at - found.updated_at == 3600 * 1_000_000
    if state == "dead":
        assert found.error == "worker lost"


@pytest.mark.parametrize("on_lost", ["fail", "hold"])
def test_a_command_that_had_not_begun_is_not_lost_with_its_worker(
    sandbox: Sandbox, on_lost: str
) -> None:
    """A job that was only claimed runs at once, whatever on_lost says: nothing of it was done. The
    loss is in its history, without a length that nobody measured, and counts.
    """
    job = sandbox.enqueue("echo run >> marks", on_lost=on_lost, max_retries=0)
    worker = sandbox.start_worker(
        program=DRIVER, env={"FAULT": "after claim commit: die"}, ready=False
    )
    assert worker.wait() == -9
    sandbox.drain()
    assert sandbox.marks() == ["run"]
    lost, again = sandbox.attempts(job)
    assert (lost.outcome, again.outcome) == ("lost", "succeeded")
    assert lost.error == "worker lost before the command was started"
    assert lost.finished_at == lost.started_at
    assert (sandbox.job(job).attempts, sandbox.job(job).losses) == (2, 1)


@pytest.mark.parametrize("on_lost", ["fail", "hold"])
def test_a_command_that_had_ended_is_lost_with_its_worker(sandbox: Sandbox, on_lost: str) -> None:
    """One that ran to its end, and whose worker died before that was recorded, is not run again
    unasked; its log says how it ended, and nothing else.
    """
    job = sandbox.enqueue("echo run >> marks", on_lost=on_lost, max_retries=0)
    worker = sandbox.start_worker(
        program=DRIVER, env={"FAULT": "before settle commit: die"}, ready=False
    )
    assert worker.wait() == -9
    sandbox.drain()
    assert sandbox.marks() == ["run"]
    assert sandbox.outcomes(job) == ["lost"]
    assert (sandbox.state(job), sandbox.job(job).error) == ("dead", "worker lost")
    assert sandbox.log(job).splitlines()[-1].endswith(b": succeeded (exit status 0)")


@pytest.mark.parametrize(
    "trick",
    ["rm $QUEUECTL_LOG", "echo '[queuectl] attempt 99 ended at last'"],
    ids=["no log", "a forged end"],
)
def test_a_job_that_hides_its_beginning_ends_all_the_same(sandbox: Sandbox, trick: str) -> None:
    """One that kills its workers and leaves no sign of having begun is dead after max_losses."""
    command = trick.replace("$QUEUECTL_LOG", str(sandbox.folder / "job_logs" / "poison.log"))
    sandbox.enqueue(f"{command}; kill -9 $PPID; sleep 300", id="poison", max_losses=2)
    for _ in range(2):
        worker = sandbox.start_worker(ready=False)
        assert worker.wait() == -9, worker.said
    sandbox.drain()
    found = sandbox.job("poison")
    assert (found.state, found.losses, found.attempts) == ("dead", 2, 2)
    assert found.error == "worker lost before the command was started"


@pytest.mark.parametrize(("own", "configured", "limit"), [(2, 5, 2), (None, 3, 3)])
def test_a_job_that_kills_its_workers_ends(
    sandbox: Sandbox, own: int | None, configured: int, limit: int
) -> None:
    """After max_losses lost workers it is dead, whatever its retries; other jobs go on."""
    sandbox.configure(max_losses=configured)
    options = {} if own is None else {"max_losses": own}
    poison = sandbox.enqueue("kill -9 $PPID; sleep 300", max_retries=100, **options)
    good = sandbox.enqueue("true")
    for _ in range(limit):
        worker = sandbox.start_worker(ready=False)
        assert worker.wait() == -9, worker.said
    sandbox.drain()
    found = sandbox.job(poison)
    assert (found.state, found.losses, found.attempts) == ("dead", limit, limit)
    assert sandbox.outcomes(poison) == ["lost"] * limit
    assert sandbox.state(good) == "completed"
    assert sandbox.processes() == []


def test_many_jobs_of_a_lost_worker_all_come_back(sandbox: Sandbox) -> None:
    """Those that ran run again; those that were only held are not forgotten either."""
    jobs = [sandbox.enqueue("sleep 0.002") for _ in range(60)]
    jobs += [
        sandbox.enqueue("echo $QUEUECTL_JOB_ID >> marks; test $QUEUECTL_ATTEMPT = 2 || sleep 300")
        for _ in range(6)
    ]
    worker = sandbox.start_worker("--count", "4")
    sandbox.wait_marks(4)
    worker.kill()
    sandbox.drain("--count", "8")
    assert {sandbox.state(job) for job in jobs} == {"completed"}
    assert sandbox.processes() == []


def test_only_the_lost_workers_commands_are_ended(sandbox: Sandbox) -> None:
    """Rescuing one worker disturbs neither another's commands, nor those of another queue."""
    spared = sandbox.enqueue("echo spared >> marks; while [ ! -e go ]; do sleep 0.05; done")
    survivor = sandbox.start_worker()
    sandbox.wait_marks(1)
    other = subprocess.Popen(
        ["sleep", "300"],
        env={
            **sandbox.environ,
            "QUEUECTL_JOB_ID": "twin",
            "QUEUECTL_ATTEMPT": "1",
            "QUEUECTL_DB_PATH": "/another/queuectl.db",
        },
    )
    sandbox.enqueue("echo doomed >> marks; test $QUEUECTL_ATTEMPT = 2 || sleep 300", id="twin")
    victim = sandbox.start_worker()
    sandbox.wait_marks(2)
    victim.kill()
    survivor.wait_for("was lost")
    assert other.poll() is None
    assert sandbox.state(spared) == "processing"
    sandbox.touch("go")
    sandbox.wait_state("twin", "completed")
    assert sandbox.outcomes(spared) == ["succeeded"]
    other.kill()
    other.wait()


@pytest.mark.sqlite_only("only a file has several paths")
def test_a_queue_that_is_reached_by_another_path_is_the_same_queue(sandbox: Sandbox) -> None:
    """A worker that opened the database through a link leaves orphans that a worker which did not
    finds and ends all the same.
    """
    link = sandbox.files.parent / f"link-to-{sandbox.files.name}"
    link.symlink_to(sandbox.folder)
    job = hang(sandbox)
    first = sandbox.start_worker("--db", str(link / "queuectl.db"))
    sandbox.wait_marks(2, "pids")
    first.kill()
    sandbox.drain()
    assert sandbox.marks() == ["run 2"]
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert sandbox.processes() == []


def test_a_job_that_is_cancelled_while_its_worker_is_gone_never_runs_again(
    sandbox: Sandbox,
) -> None:
    """A cancel that no living worker could heed is heeded by the rescue."""
    job = hang(sandbox)
    lose(sandbox)
    assert sandbox.queue.cancel([job]) == [job]
    sandbox.drain()
    assert sandbox.state(job) == "cancelled"
    assert sandbox.marks() == []
    assert sandbox.processes() == []


def _register(sandbox: Sandbox, facts: dict[str, Any]) -> str:
    """Registers this living process as a worker, but for some facts, and lets it hold a job."""
    worker = this_process_as_worker()._replace(**facts)
    job = sandbox.enqueue("echo run $QUEUECTL_ATTEMPT >> marks")
    storage = open_worker_storage(sandbox.location, Clock())
    storage.register(worker)
    assert len(storage.exchange("w", [], 1).claims) == 1
    storage.close()
    return job


@pytest.mark.parametrize(
    "facts",
    [
        {"boot_id": "before the reboot", "lease_seconds": 2},
        {"process_started": "1"},
        {"pid": 4_194_304},
    ],
    ids=["reboot", "pid of another", "no such pid"],
)
def test_a_pid_alone_makes_no_worker_alive(sandbox: Sandbox, facts: dict[str, Any]) -> None:
    """After a reboot, or when its number went to another process, a worker is gone, at once; on a
    server, where the machine before the reboot looks like another one, when its lease is over.
    """
    job = _register(sandbox, facts)
    sandbox.drain()
    assert sandbox.outcomes(job) == ["lost", "succeeded"]
    assert sandbox.marks() == ["run 2"]


@pytest.mark.parametrize(
    "facts",
    [{}, {"host": "elsewhere", "boot_id": "x"}, {"process_space": "a container", "pid": 4_194_304}],
    ids=["here", "another machine", "another container"],
)
def test_a_worker_that_may_live_keeps_its_job(sandbox: Sandbox, facts: dict[str, Any]) -> None:
    """One that lives, or whose process cannot be seen from here, has its lease to be heard of."""
    job = _register(sandbox, facts)
    worker = sandbox.start_worker()
    rounds = sandbox.queue.workers()[1].heartbeat_at
    sandbox.configure(lease_seconds=2)
    other = sandbox.start_worker()
    wait_until(
        lambda: max(w.heartbeat_at for w in sandbox.queue.workers()) > rounds + 3_000_000,
        "some rounds go by",
    )
    assert sandbox.state(job) == "processing"
    assert [worker.stop(), other.stop()] == [0, 0]
    assert sandbox.marks() == []
