from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuectl.job_logs import JobLogs, OpenLog, cutting, files
from tests.support import wait_until
from tests.unit.job_logs.support import begin, end, refuse_to_punch, whole

CUT = re.compile(rb"\n\[queuectl\] (\d+) bytes were cut here \(log_max_bytes is \d+\)\n")
LIMIT = 200_000
IN_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="holes are punched in Linux only")


def wait_until_cut(log: OpenLog) -> None:
    """Wait until its cutter has nothing more to do, now that nobody writes."""
    cutter = log._cutter
    assert cutter is not None
    wait_until(lambda: cutter._kept_to < cutter._resumes_at == cutter._next_cut())


def disk_use(log: OpenLog) -> int:
    """The bytes that a log takes on the disk."""
    return os.fstat(log.fd).st_blocks * 512


class Numbers:
    """A process that writes numbered lines without end; `stop` lets it end between two writes."""

    def __init__(self, fd: int, stop_file: Path) -> None:
        self._stop_file = stop_file
        code = (
            "import os, sys\n"
            "n = 0\n"
            "while not os.path.exists(sys.argv[1]):\n"
            "    os.write(1, b''.join(b'%011d\\n' % i for i in range(n, n + 1000)))\n"
            "    n += 1000\n"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code, str(stop_file)], stdout=fd)

    def stop(self) -> None:
        """Let it end, having written whole lines."""
        self._stop_file.touch()
        assert self.process.wait(20) == 0


def let_write_much(log: OpenLog, writer: Numbers) -> None:
    """Lets it write many times the limit, and waits until that is cut."""

    def has_written_much() -> bool:
        log.limit()
        return os.fstat(log.fd).st_size > 100 * LIMIT

    wait_until(has_written_much)
    writer.stop()
    wait_until_cut(log)


@pytest.fixture
def numbers(tmp_path: Path) -> Iterator[Callable[[int], Numbers]]:
    """Starts a process that writes numbered lines of 12 bytes without end."""
    started: list[Numbers] = []

    def start(fd: int) -> Numbers:
        started.append(Numbers(fd, tmp_path / f"stop-{len(started)}"))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def check_cut_numbers(output: bytes) -> int:
    """Check that numbered lines were cut once, and as many bytes as said; return how many."""
    head, count, tail = CUT.split(output)
    kept = len(head) + len(tail)
    assert head == b"".join(b"%011d\n" % n for n in range(len(head) // 12 + 1))[: len(head)]
    last = int(tail[-12:-1])
    first = last + 1 - -(-len(tail) // 12)
    assert tail == b"".join(b"%011d\n" % n for n in range(first, last + 1))[-len(tail) :]
    assert kept + int(count) == (last + 1) * 12
    return int(count)


@IN_LINUX
def test_an_endless_writer_does_not_fill_the_disk(
    logs: JobLogs, numbers: Callable[[int], Numbers]
) -> None:
    """While it writes many times its limit it keeps running, and takes little room on the disk."""
    log = begin(logs, max_bytes=LIMIT)
    header = os.fstat(log.fd).st_size
    writer = numbers(log.fd)

    let_write_much(log, writer)
    assert disk_use(log) <= LIMIT + 4 * 4096

    while_it_ran = whole(logs)
    assert b"\0" not in while_it_ran
    cut = check_cut_numbers(while_it_ran[header:])
    assert cut > 99 * LIMIT

    after = end(log)
    finally_there = whole(logs)
    assert after == len(finally_there) == os.path.getsize(logs.path("a"))
    closing = finally_there.rindex(b"[queuectl] attempt 1 ended")
    assert check_cut_numbers(finally_there[header:closing]) >= cut
    assert closing <= LIMIT + 2 * 4096


@IN_LINUX
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_log_that_its_command_removed_does_not_fill_the_disk(
    logs: JobLogs, numbers: Callable[[int], Numbers], is_replaced: bool
) -> None:
    """The command's output still goes into the file that has no name any more, and that is cut; what
    stands in its place is left alone.
    """
    log = begin(logs, max_bytes=LIMIT)
    path = Path(logs.path("a"))
    path.unlink()
    if is_replaced:
        path.write_bytes(b"another" * LIMIT)
    writer = numbers(log.fd)

    let_write_much(log, writer)
    assert disk_use(log) <= LIMIT + 4 * 4096
    end(log)
    assert path.exists() == is_replaced
    if is_replaced:
        assert path.read_bytes() == b"another" * LIMIT


def test_where_no_thread_can_be_started_it_is_tried_again(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without room for another thread costs nothing but time: no error, no descriptor; the
    log is cut as soon as there is room.
    """
    log = begin(logs, max_bytes=LIMIT)
    os.write(log.fd, b"y\n" * LIMIT)
    before = os.listdir("/dev/fd")

    def cannot_start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot_start)
        for _ in range(3):
            log.limit()
            assert os.listdir("/dev/fd") == before
    log.limit()
    wait_until_cut(log)
    end(log)
    assert os.path.getsize(logs.path("a")) <= LIMIT + 2 * 4096


@pytest.mark.parametrize("can_punch", [True, False])
def test_a_part_that_was_never_looked_at_is_cut_at_the_end(
    logs: JobLogs,
    numbers: Callable[[int], Numbers],
    can_punch: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command that writes much in less than a second is cut all the same, and only its own part."""
    if not can_punch:
        monkeypatch.setattr(cutting, "punch_hole", refuse_to_punch)
    first = begin(logs)
    os.write(first.fd, b"y\n" * LIMIT)
    first_end = end(first)
    log = begin(logs, attempt=2, max_bytes=LIMIT)
    header = os.fstat(log.fd).st_size
    writer = numbers(log.fd)
    wait_until(lambda: os.fstat(log.fd).st_size > 5 * LIMIT)
    writer.stop()
    after = end(log)
    text = whole(logs)
    assert text[:first_end].count(b"y\n") == LIMIT
    assert log.start == first_end
    closing = text.rindex(b"[queuectl] attempt 2 ended")
    check_cut_numbers(text[header:closing])
    assert after == len(text)


def test_where_no_hole_can_be_punched_the_file_itself_stays_small(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cutting by moving the rest up keeps count of what it cut, time after time."""
    monkeypatch.setattr(cutting, "punch_hole", refuse_to_punch)
    log = begin(logs, max_bytes=LIMIT)
    header = os.fstat(log.fd).st_size
    for n in range(0, 100_000, 5000):
        os.write(log.fd, b"".join(b"%011d\n" % i for i in range(n, n + 5000)))
        log.limit()
        wait_until(lambda: os.fstat(log.fd).st_size <= LIMIT + 3 * 4096)
    end(log)
    text = whole(logs)
    closing = text.rindex(b"[queuectl] attempt 1 ended")
    assert check_cut_numbers(text[header:closing]) > 1_200_000 - LIMIT - 2 * 4096


@IN_LINUX
def test_a_full_disk_leaves_the_hole_and_the_outcome(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the hole cannot be closed up for want of room, the log stays readable with its hole."""
    log = begin(logs, max_bytes=LIMIT)
    header = os.fstat(log.fd).st_size
    os.write(log.fd, b"".join(b"%011d\n" % i for i in range(100_000)))
    log.limit()
    wait_until_cut(log)
    write_at = files.write_at

    def full(fd: int, data: bytes, offset: int) -> None:
        if len(data) > 4096:
            write_at(fd, data[:8192], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_at(fd, data, offset)

    monkeypatch.setattr(files, "write_at", full)
    after = end(log)
    text = whole(logs)
    closing = text.rindex(b"[queuectl] attempt 1 ended")
    assert check_cut_numbers(text[header:closing]) > 900_000
    assert after == os.path.getsize(logs.path("a"))
    assert os.stat(logs.path("a")).st_blocks * 512 <= LIMIT + 5 * 4096


@IN_LINUX
def test_a_reader_that_falls_behind_is_told_what_it_missed(logs: JobLogs) -> None:
    """Where the next bytes were cut before they were read, the reader writes a line that says so."""
    log = begin(logs, max_bytes=LIMIT)
    os.write(log.fd, b"".join(b"%011d\n" % i for i in range(100_000)))
    log.limit()
    wait_until_cut(log)
    out = io.BytesIO()
    logs.copy("a", out, 600_000)
    cut, text = out.getvalue().split(b"\n", 2)[1:]
    count = int(cut.split()[1])
    assert cut == b"[queuectl] %d bytes were cut here" % count
    assert 600_000 + count + len(text) == os.fstat(log.fd).st_size
    end(log)


@pytest.mark.parametrize("max_bytes", [0, LIMIT])
def test_what_is_within_the_limit_is_left_alone(logs: JobLogs, max_bytes: int) -> None:
    """Output up to the limit, or without one, is all there, and no thread was needed for it."""
    log = begin(logs, max_bytes=max_bytes)
    output = b"z" * (LIMIT - 1000 if max_bytes else 5 * LIMIT)
    os.write(log.fd, output)
    threads = threading.active_count()
    log.limit()
    assert threading.active_count() == threads
    end(log)
    assert output in whole(logs)


@IN_LINUX
def test_a_command_may_empty_a_log_that_was_cut(logs: JobLogs) -> None:
    """After `> /dev/stdout` nothing counts as cut, and nothing that is written next is lost."""
    log = begin(logs, max_bytes=LIMIT)
    os.write(log.fd, b"old\n" * LIMIT)
    log.limit()
    wait_until_cut(log)
    os.truncate(logs.path("a"), 0)
    os.write(log.fd, b"new\n" * 10)
    after = end(log)
    assert whole(logs).startswith(b"new\n" * 10 + b"[queuectl] attempt 1 ended")
    assert (log.start, after) == (0, len(whole(logs)))


class Leave:
    """Leave to cut, which may be taken away; counts how often it was asked for."""

    def __init__(self) -> None:
        self.given = True
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.given


def write_much(log: OpenLog) -> bytes:
    """Write five times the limit into a part; returns it."""
    output = b"".join(b"%011d\n" % n for n in range(5 * LIMIT // 12))
    os.write(log.fd, output)
    return output


@pytest.mark.parametrize("can_punch", [True, False])
def test_what_a_later_run_writes_is_not_cut_without_leave(
    logs: JobLogs, can_punch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it may not cut any more, neither the thread nor the end touches what another worker's run
    of the job writes into the same file; the closing line names its own attempt.
    """
    if not can_punch:
        monkeypatch.setattr(cutting, "punch_hole", refuse_to_punch)
    leave = Leave()
    log = begin(logs, max_bytes=LIMIT)
    write_much(log)
    log.limit(leave)
    wait_until(lambda: b" bytes were cut here " in whole(logs))
    leave.given = False
    later = begin(logs, attempt=2)
    output = write_much(later)
    asked = leave.asked
    wait_until(lambda: leave.asked > asked + 1)
    before = whole(logs)
    log.shorten(leave)
    log.close("succeeded", 0, 0.0)
    after = whole(logs)
    assert output in before
    assert after.startswith(before)
    assert re.fullmatch(rb"\[queuectl\] attempt 1 ended [^\n]*\n", after[len(before) :])
    later.abandon()


def test_a_part_without_leave_stays_as_long_as_it_is(logs: JobLogs) -> None:
    """One that may not be cut, and never was, keeps every byte, and needs no thread."""
    log = begin(logs, max_bytes=LIMIT)
    output = write_much(log)
    log.shorten(lambda: False)
    log.close("succeeded", 0, 0.0)
    assert output in whole(logs)


def test_an_abandoned_part_is_closed_as_it_is(logs: JobLogs) -> None:
    """After the job was taken away nothing is cut, moved or added, also when a cut had begun."""
    log = begin(logs, max_bytes=LIMIT)
    write_much(log)
    cutter = log._cutter = log._new_cutter(lambda: True)  # not started: it cuts when it is told to
    cutter._shorten()
    later = begin(logs, attempt=2)
    write_much(later)
    before, size = whole(logs), os.path.getsize(logs.path("a"))
    assert log.abandon() == size == os.path.getsize(logs.path("a"))
    assert whole(logs) == before
    later.abandon()


def test_an_abandoned_part_leaves_nothing_open(logs: JobLogs) -> None:
    """Its descriptors and its thread are given back."""
    threads, descriptors = threading.active_count(), os.listdir("/dev/fd")
    log = begin(logs, max_bytes=LIMIT)
    write_much(log)
    log.limit()
    assert threading.active_count() == threads + 1
    log.abandon()
    assert threading.active_count() == threads
    assert os.listdir("/dev/fd") == descriptors


@IN_LINUX
def test_a_move_that_has_begun_stops_when_leave_ends(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is taken away while the rest is being moved up, and a later run begins to write: the
    hole is opened again, the file is not shortened, and the later run's bytes are all there.
    """
    monkeypatch.setattr(cutting, "_CHUNK", 4096)
    log = begin(logs, max_bytes=LIMIT)
    header = os.fstat(log.fd).st_size
    write_much(log)
    log.limit()
    wait_until_cut(log)
    asked = 0
    cutter = log._cutter
    assert cutter is not None

    def taken_away() -> bool:
        nonlocal asked
        asked += 1
        if asked == 5:
            later = begin(logs, attempt=2)
            os.write(later.fd, b"of the later run\n")
            later.abandon()
        return asked < 5

    cutter._ended.set()
    cutter._thread.join()
    cutter._may_cut = taken_away
    end(log)
    text = whole(logs)
    of_later = text.index(b"[queuectl] attempt 2 of 4 started")
    check_cut_numbers(text[header:of_later])
    assert b"\nof the later run\n[queuectl] attempt 1 ended" in text
    assert asked == 5
