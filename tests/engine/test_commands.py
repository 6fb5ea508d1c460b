from __future__ import annotations

import os
import re
import signal

import pytest

from queuectl.errors import InvalidInput
from tests.support import Sandbox, wait_until


def test_output_is_kept_byte_for_byte_in_its_true_order(sandbox: Sandbox) -> None:
    """What goes to stdout and to stderr is in the log as it was written, one after the other."""
    job = sandbox.enqueue("for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done")
    sandbox.drain()
    expected = "".join(f"out {i}\nerr {i}\n" for i in range(1, 6)).encode()
    assert sandbox.output(job) == expected


def test_each_attempt_is_a_part_of_the_log_with_exact_ends(sandbox: Sandbox) -> None:
    """Each attempt's offsets enclose its header, its output and its closing line, and no byte more."""
    job = sandbox.enqueue(
        "printf 'run %s without an end of line' $QUEUECTL_ATTEMPT; test $QUEUECTL_ATTEMPT = 3",
        backoff_base=0,
    )
    sandbox.drain()
    attempts, log = sandbox.attempts(job), sandbox.log(job)
    assert [attempt.outcome for attempt in attempts] == ["failed", "failed", "succeeded"]
    end = 0
    for number, attempt in enumerate(attempts, 1):
        assert attempt.log_start == end
        assert attempt.log_end is not None
        part, end = log[end : attempt.log_end], attempt.log_end
        header, text, closing = part.splitlines()
        assert header.startswith(b"[queuectl] attempt %d of 4 started " % number)
        assert text == b"run %d without an end of line" % number
        words = b"succeeded (exit status 0)" if number == 3 else b"exit status 1"
        pattern = rb"\[queuectl\] attempt %d ended \S+Z after \d+\.\d{3}s: %s"
        assert re.fullmatch(pattern % (number, re.escape(words)), closing)
    assert end == len(log)


def test_output_that_looks_like_a_closing_line_moves_no_offset(sandbox: Sandbox) -> None:
    """A command that writes what queuectl writes does not confuse where its attempt ends."""
    fake = "[queuectl] attempt 1 ended 2026-01-01T00:00:00Z after 0.000s: succeeded"
    job = sandbox.enqueue(f"echo '{fake}'; exit 4", max_retries=0)
    sandbox.drain()
    (attempt,) = sandbox.attempts(job)
    assert (attempt.log_start, attempt.log_end) == (0, len(sandbox.log(job)))
    assert attempt.exit_code == 4


def test_output_need_not_be_text(sandbox: Sandbox) -> None:
    """Bytes that are no UTF-8 fail no job, are kept, and can be looked at."""
    job = sandbox.enqueue(r"printf '\377\376\000\033[31mbad\200\n'; printf '\377' >&2")
    sandbox.drain()
    assert sandbox.state(job) == "completed"
    assert b"\xff\xfe\x00\x1b[31mbad\x80\n\xff" in sandbox.log(job)
    assert sandbox.run("show", job).returncode == 0
    assert sandbox.run("list", "--json").returncode == 0


def test_a_command_is_told_about_its_job(sandbox: Sandbox) -> None:
    """It sees its id, its attempt, its retries, its database, its own variables, and its folder."""
    folder = sandbox.folder / "some where"
    folder.mkdir()
    job = sandbox.enqueue(
        'echo "$QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT $QUEUECTL_MAX_RETRIES $QUEUECTL_DB_PATH";'
        ' echo "$OWN"; pwd; echo "$PWD"; test $QUEUECTL_ATTEMPT = 2',
        env={"OWN": "a b\nü"},
        cwd=str(folder),
        backoff_base=0,
        max_retries=7,
    )
    sandbox.drain()
    expected = "".join(
        f"{job} {attempt} 7 {sandbox.queue.workspace.database}\na b\nü\n{folder}\n{folder}\n"
        for attempt in (1, 2)
    )
    assert sandbox.output(job).decode() == expected


def test_a_command_has_nothing_to_read(sandbox: Sandbox) -> None:
    """Its standard input is empty: a command that asks gets an answer at once, and does not hang."""
    job = sandbox.enqueue("cat; read answer; echo status $?")
    sandbox.drain()
    assert sandbox.output(job) == b"status 1\n"


def test_a_folder_that_is_gone_is_told_from_a_failure_of_the_command(sandbox: Sandbox) -> None:
    """The attempt fails with that reason and without an exit code, and nothing was run."""
    folder = sandbox.folder / "gone"
    folder.mkdir()
    job = sandbox.enqueue("touch ../ran", cwd=str(folder), max_retries=1, backoff_base=0)
    folder.rmdir()
    sandbox.drain()
    assert sandbox.outcomes(job) == ["not_started", "not_started"]
    found = sandbox.job(job)
    assert (found.state, found.exit_code, found.signal) == ("dead", None, None)
    assert str(folder) in str(found.error)
    assert "No such file or directory" in str(found.error)
    assert not (sandbox.folder / "ran").exists()


def test_a_command_that_the_system_refuses_to_start_breaks_nothing(sandbox: Sandbox) -> None:
    """With more variables than fit it fails for that reason, in its turn, and the queue goes on."""
    env = {f"VARIABLE_{n}": "x" * 120_000 for n in range(20)}
    job = sandbox.enqueue("true", env=env, max_retries=1, backoff_base=0)
    after = sandbox.enqueue("true")
    sandbox.drain()
    assert sandbox.outcomes(job) == ["not_started", "not_started"]
    assert "Argument list too long" in str(sandbox.job(job).error)
    assert sandbox.state(after) == "completed"


@pytest.mark.parametrize("env", [{}, {"PATH": "/bin"}], ids=["directly", "by the shell"])
def test_the_longest_command_that_is_accepted_can_be_started(
    sandbox: Sandbox, env: dict[str, str]
) -> None:
    """What enqueue takes is not refused by the system later, however it is started."""
    command = "/bin/true ".ljust(131_071, "x")
    job = sandbox.enqueue(command, env=env, max_retries=0)
    sandbox.drain()
    assert sandbox.outcomes(job) == ["succeeded"]
    with pytest.raises(InvalidInput, match="more than"):
        sandbox.enqueue(command + "x")


def test_exit_statuses_are_recorded_for_what_they_are(sandbox: Sandbox) -> None:
    """Every status from 0 to 255 is kept; only 0 is success; the shell's own two are explained."""
    codes = [0, 1, 2, 126, 127, 128, 137, 255]
    jobs = {code: sandbox.enqueue(f"exit {code}", max_retries=0) for code in codes}
    sandbox.drain("--count", "4")
    for code, id in jobs.items():
        job = sandbox.job(id)
        assert (job.exit_code, job.signal) == (code, None)
        assert job.state == ("dead" if code else "completed")
    assert sandbox.job(jobs[126]).error == "exit status 126 (not executable)"
    assert sandbox.job(jobs[127]).error == "exit status 127 (command not found)"
    assert sandbox.job(jobs[137]).error == "exit status 137"
    assert sandbox.job(jobs[0]).error is None


def test_signals_are_recorded_for_what_they_are(sandbox: Sandbox) -> None:
    """A command that a signal ended has that signal and no exit code, also one without a name."""
    numbers = [signal.SIGHUP, signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, 40]
    jobs = {n: sandbox.enqueue(f"kill -{int(n)} $$", max_retries=0) for n in numbers}
    sandbox.drain("--count", "4")
    for number, id in jobs.items():
        job = sandbox.job(id)
        assert (job.state, job.exit_code, job.signal) == ("dead", None, number), number
    assert sandbox.job(jobs[signal.SIGKILL]).error == "killed by SIGKILL (signal 9)"


def test_a_broken_pipe_ends_a_command_quietly(sandbox: Sandbox) -> None:
    """A writer whose reader left is ended by SIGPIPE, as in a shell, and says nothing about it."""
    job = sandbox.enqueue("yes | head -n 1")
    sandbox.drain()
    assert sandbox.output(job) == b"y\n"


def test_commands_get_no_descriptor_of_the_worker(sandbox: Sandbox) -> None:
    """The database, the log of others and the wake-up pipes are not handed down."""
    job = sandbox.enqueue("ls -l /proc/self/fd | grep -v '/proc/'")
    sandbox.drain()
    opened = re.findall(rb" (\d+) -> (.*)\n", sandbox.output(job))
    log = str(sandbox.folder / "job_logs" / f"{job}.log").encode()
    assert [number for number, _ in opened if int(number) > 2] == []
    assert {target for number, target in opened if number != b"0"} <= {log} | {
        target for _, target in opened if target.startswith(b"pipe:")
    }


def test_a_command_that_leaves_a_daemon_has_ended(sandbox: Sandbox) -> None:
    """Its outcome is that of its first process; what it left on purpose, in a session of its own,
    keeps running and holds nothing up.
    """
    job = sandbox.enqueue("setsid sh -c 'echo $$ > daemon; exec sleep 300' & echo started")
    sandbox.drain()
    assert sandbox.state(job) == "completed"
    assert b"started\n" in sandbox.output(job)
    pid = int(wait_until(lambda: "".join(sandbox.marks("daemon")), "the daemon's pid"))
    os.kill(pid, 0)


def test_a_command_may_close_its_output(sandbox: Sandbox) -> None:
    """One that lets go of stdout and stderr is waited for, and its outcome is its own."""
    job = sandbox.enqueue(
        "echo before; exec >&- 2>&-; sleep 0.3; echo $$ > ran; exit 9", max_retries=0
    )
    sandbox.drain()
    assert sandbox.job(job).exit_code == 9
    assert sandbox.output(job) == b"before\n"
    assert len(sandbox.marks("ran")) == 1


def test_a_command_may_empty_its_log(sandbox: Sandbox) -> None:
    """After `> /dev/stdout` the attempt's part of the log is what is left of it."""
    job = sandbox.enqueue("echo lost; : > /dev/stdout; echo kept")
    sandbox.drain()
    (attempt,) = sandbox.attempts(job)
    log = sandbox.log(job)
    assert (attempt.log_start, attempt.log_end) == (0, len(log))
    assert b"kept\n" in log
    assert b"lost" not in log


def test_a_command_may_remove_its_log(sandbox: Sandbox) -> None:
    """Its outcome counts all the same, and its next attempt begins a new log."""
    job = sandbox.enqueue(
        "echo $QUEUECTL_ATTEMPT; test $QUEUECTL_ATTEMPT = 2 || rm job_logs/$QUEUECTL_JOB_ID.log"
        " && test $QUEUECTL_ATTEMPT = 2",
        backoff_base=0,
    )
    sandbox.drain()
    assert sandbox.outcomes(job) == ["failed", "succeeded"]
    assert sandbox.output(job) == b"2\n"
    assert sandbox.attempts(job)[1].log_start == 0


@pytest.mark.parametrize("count", [1, 16])
def test_outputs_of_commands_side_by_side_do_not_mix(sandbox: Sandbox, count: int) -> None:
    """Each log holds its own job's lines, all of them, however many run at the same time."""
    command = "for i in 1 2 3; do echo $QUEUECTL_JOB_ID $i; done"
    jobs = [sandbox.enqueue(command) for _ in range(3 * count)]
    sandbox.drain("--count", str(count))
    for job in jobs:
        assert sandbox.output(job).decode() == "".join(f"{job} {i}\n" for i in (1, 2, 3))
