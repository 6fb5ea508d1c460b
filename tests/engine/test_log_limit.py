from __future__ import annotations

import re

from tests.support import Sandbox, wait_until

LIMIT = 256 * 1024
CUT = re.compile(rb"\[queuectl\] (\d+) bytes were cut here \(log_max_bytes is %d\)\n" % LIMIT)


def test_an_endless_writer_does_not_fill_the_disk(sandbox: Sandbox) -> None:
    """While it runs its log stays bounded on the disk, and says itself what is missing."""
    sandbox.configure(log_max_bytes=LIMIT)
    job = sandbox.enqueue("yes some output")
    sandbox.start_worker()
    log = sandbox.folder / "job_logs" / f"{job}.log"
    wait_until(lambda: log.exists() and log.stat().st_size > 50 * LIMIT, "it has written a lot")
    sandbox.queue.cancel([job])
    sandbox.wait_state(job, "cancelled")
    assert log.stat().st_size <= LIMIT + 16 * 1024
    assert log.stat().st_blocks * 512 <= LIMIT + 32 * 1024
    text = log.read_bytes()
    assert int(CUT.findall(text)[0]) > 40 * LIMIT
    assert text.startswith(b"[queuectl] attempt 1 ")
    assert text.endswith(b": cancelled while it ran\n")


def test_the_beginning_and_the_end_of_much_output_are_kept(sandbox: Sandbox) -> None:
    """Of a command that writes more than the limit its first and last lines are there, its middle
    is counted, and nothing is cut from one that stays below.
    """
    sandbox.configure(log_max_bytes=LIMIT)
    lines = 200_000
    much = sandbox.enqueue(f"seq 1 {lines}")
    little = sandbox.enqueue("seq 1 20000")
    sandbox.drain()
    text = sandbox.log(much)
    (cut,) = CUT.findall(text)
    written = sum(len(str(n)) + 1 for n in range(1, lines + 1))
    own = sum(len(line) for line in text.splitlines(True) if line.startswith(b"[queuectl]"))
    # The line that tells of the cut begins with an end of line of its own.
    assert written == len(text) - own - 1 + int(cut)
    assert text.splitlines()[1:4] == [b"1", b"2", b"3"]
    assert text.splitlines()[-2] == b"%d" % lines
    assert sandbox.output(little).splitlines() == [b"%d" % n for n in range(1, 20001)]
    (attempt,) = sandbox.attempts(much)
    assert (attempt.log_start, attempt.log_end) == (0, len(text))


def test_each_attempt_has_a_limit_of_its_own(sandbox: Sandbox) -> None:
    """What one attempt wrote takes nothing from the next, and the ends of each stay exact."""
    sandbox.configure(log_max_bytes=LIMIT)
    job = sandbox.enqueue("seq 1 100000; test $QUEUECTL_ATTEMPT = 3", backoff_base=0)
    sandbox.drain()
    text = sandbox.log(job)
    parts = [text[a.log_start : a.log_end] for a in sandbox.attempts(job)]
    assert len(parts) == 3
    assert b"".join(parts) == text
    for number, part in enumerate(parts, 1):
        assert part.startswith(b"[queuectl] attempt %d " % number)
        assert len(CUT.findall(part)) == 1
        assert b"\n100000\n[queuectl] attempt %d ended" % number in part


def test_no_limit_is_no_limit(sandbox: Sandbox) -> None:
    """log_max_bytes 0 keeps every byte."""
    sandbox.configure(log_max_bytes=0)
    job = sandbox.enqueue("seq 1 300000")
    sandbox.drain()
    assert sandbox.output(job).splitlines()[-1] == b"300000"
    assert sandbox.output(job).count(b"\n") == 300_000
