from __future__ import annotations

import errno
import io
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuectl import job_logs
from queuectl.errors import EnvironmentFault
from queuectl.job_logs import JobLogs, LogNotFound, OpenLog, cutting, files, following, reading

STARTED = 1795492800123456  # 2026-11-24T04:00:00.123456Z
CUT = re.compile(rb"\n\[queuectl\] (\d+) bytes were cut here \(log_max_bytes is \d+\)\n")
LIMIT = 200_000
IN_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="holes are punched in Linux only")


@pytest.fixture
def logs(tmp_path: Path) -> JobLogs:
    """An empty folder of logs."""
    logs = JobLogs(str(tmp_path / "job_logs"))
    logs.ensure_folder()
    return logs


def begin(
    logs: JobLogs, id: str = "a", *, attempt: int = 1, command: str = "true", max_bytes: int = 0
) -> OpenLog:
    """Open an attempt of which only what matters is said."""
    return logs.open_attempt(
        id,
        attempt,
        max_retries=3,
        started_at=STARTED,
        worker="w1",
        command=command,
        cwd="/srv",
        max_bytes=max_bytes,
    )


def end(log: OpenLog) -> int:
    """Close an attempt that succeeded."""
    return log.close("succeeded, exit status 0", STARTED + 12_000, 0.012)


def whole(logs: JobLogs, id: str = "a") -> bytes:
    """The log as `copy` writes it."""
    out = io.BytesIO()
    logs.copy(id, out)
    return out.getvalue()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


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


def test_an_attempt_is_a_header_the_output_and_a_closing_line(logs: JobLogs) -> None:
    """The lines say what ran, where, when and how it ended, and the offsets enclose them."""
    log = begin(logs, command="echo hello")
    subprocess.run(["echo", "hello"], stdout=log.fd, check=True)
    after = end(log)
    assert whole(logs) == (
        b"[queuectl] attempt 1 of 4 started 2026-11-24T04:00:00.123456Z by worker w1 in /srv:"
        b" echo hello\n"
        b"hello\n"
        b"[queuectl] attempt 1 ended 2026-11-24T04:00:00.135456Z after 0.012s:"
        b" succeeded, exit status 0\n"
    )
    assert (log.start, after) == (0, len(whole(logs)))


def test_logs_are_private(logs: JobLogs) -> None:
    """The folder and the files are the user's alone."""
    end(begin(logs))
    assert stat.S_IMODE(os.stat(logs.folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(logs.path("a")).st_mode) == 0o600


def test_every_line_of_ours_is_on_a_line_of_its_own(logs: JobLogs) -> None:
    """Output that does not end its last line is kept apart from what follows it."""
    first = begin(logs)
    os.write(first.fd, b"no newline")
    first_end = end(first)
    with open(logs.path("a"), "ab") as log_file:
        log_file.write(b"left behind")
    second = begin(logs, attempt=2)
    second_end = end(second)
    text = whole(logs)
    assert text[first.start : first_end].splitlines()[1] == b"no newline"
    assert text[first_end : second.start] == b"left behind\n"
    assert text[second.start : second_end].startswith(b"[queuectl] attempt 2 of 4 started ")
    assert len(text.splitlines()) == 6


def test_control_characters_and_long_commands_stay_on_the_header_line(logs: JobLogs) -> None:
    """A command of many lines, escapes or megabytes is one short visible header line."""
    end(begin(logs, command="\x1b[2J\nrm \udcff" + "x" * 10_000_000))
    line = whole(logs).splitlines()[0]
    assert b"\\x1b[2J\\nrm \\udcff" in line
    assert len(line) < 400


def test_an_attempt_beyond_the_allowed_ones_says_no_total(logs: JobLogs) -> None:
    """A run that makes up for a lost worker is not "5 of 4"."""
    end(begin(logs, attempt=5))
    assert whole(logs).startswith(b"[queuectl] attempt 5 started ")


def test_the_descriptor_is_not_inherited_by_other_commands(logs: JobLogs) -> None:
    """A log is open in the command that writes it and in no other."""
    log = begin(logs)
    assert not os.get_inheritable(log.fd)
    end(log)


def test_a_missing_folder_is_an_error_to_the_caller(logs: JobLogs) -> None:
    """When the folder has gone, no attempt begins, and ensure_folder puts it right."""
    os.rmdir(logs.folder)
    with pytest.raises(FileNotFoundError):
        begin(logs)
    logs.ensure_folder()
    end(begin(logs))


def test_a_symbolic_link_is_not_written_through(logs: JobLogs, tmp_path: Path) -> None:
    """A link in the place of a log is refused, and what it points to stays as it is."""
    os.symlink(tmp_path / "victim", logs.path("a"))
    with pytest.raises(OSError, match="symbolic links"):
        begin(logs)
    assert not (tmp_path / "victim").exists()


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    """The folder cannot be made over a file; the error names it."""
    (tmp_path / "job_logs").touch()
    with pytest.raises(EnvironmentFault, match="job_logs, cannot be made"):
        JobLogs(str(tmp_path / "job_logs")).ensure_folder()


def full_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the disk full after `count` more bytes."""
    write = os.write

    def limited(fd: int, data: bytes) -> int:
        nonlocal count
        if data and not count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, data[:count])
        count -= written
        return written

    monkeypatch.setattr(os, "write", limited)


@pytest.mark.parametrize("room", [0, 10])
def test_an_attempt_does_not_begin_on_a_full_disk(
    logs: JobLogs, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for the header the caller is told, and no descriptor stays open."""
    before = os.listdir("/dev/fd")
    full_after(room, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        begin(logs)
    assert os.listdir("/dev/fd") == before


@pytest.mark.parametrize("room", [0, 10])
def test_a_full_disk_costs_the_closing_line_only(
    logs: JobLogs, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing on a full disk is no error, leaks nothing, and the next attempt is readable."""
    before = os.listdir("/dev/fd")
    log = begin(logs)
    with monkeypatch.context() as patch:
        full_after(room, patch)
        assert end(log) <= os.path.getsize(logs.path("a"))
    assert os.listdir("/dev/fd") == before
    end(begin(logs, attempt=2))
    assert re.search(rb"^\[queuectl\] attempt 2 of 4 started", whole(logs), re.MULTILINE)


def test_a_command_may_empty_its_log(logs: JobLogs) -> None:
    """`> /dev/stdout` empties the file; the attempt's part then begins at 0."""
    end(begin(logs))
    log = begin(logs, attempt=2, max_bytes=LIMIT)
    os.truncate(logs.path("a"), 0)
    os.write(log.fd, b"new\n")
    after = end(log)
    assert log.start == 0
    assert whole(logs)[:after].startswith(b"new\n[queuectl] attempt 2 ended")


def test_a_log_that_is_not_there_is_reported(logs: JobLogs) -> None:
    """Every way to read a log says clearly that there is none."""
    uses: list[Callable[[], object]] = [
        lambda: whole(logs),
        lambda: logs.read_tail("a", 10),
        lambda: logs.follow("a", io.BytesIO(), lambda: True),
    ]
    for use in uses:
        with pytest.raises(LogNotFound, match="job a has no log") as caught:
            use()
        assert "queuectl show" in caught.value.hint


def test_copy_gives_the_bytes_of_one_part(logs: JobLogs) -> None:
    """Any bytes, zeros too, come out as they went in, for the part that is asked for."""
    output = bytes(range(256)) * 10_000 + bytes(100_000)
    end(begin(logs))
    log = begin(logs, attempt=2)
    os.write(log.fd, output)
    after = end(log)
    end(begin(logs, attempt=3))
    out = io.BytesIO()
    logs.copy("a", out, log.start, after)
    lines = out.getvalue().split(b"\n", 1)
    assert lines[0].startswith(b"[queuectl] attempt 2 of 4")
    assert lines[1].startswith(output + b"\n[queuectl] attempt 2 ended")
    assert lines[1].count(b"[queuectl]") == 1


@pytest.mark.parametrize("ending", [b"", b"\n"])
@pytest.mark.parametrize("count", [0, 1, 3, 5, 2999, 3000, 3001, 9999])
def test_tail_gives_the_last_lines(logs: JobLogs, count: int, ending: bytes) -> None:
    """The last lines are those of the whole text, across blocks, and with or without a last newline."""
    lines = [b"%d %s" % (n, b"x" * (n % 60)) for n in range(3000)]
    Path(logs.path("a")).write_bytes(b"\n".join(lines) + ending)
    expected = b"\n".join(lines[len(lines) - min(count, 3000) :])
    assert logs.read_tail("a", count) == expected + (ending if count else b"")


def test_tail_of_one_part(logs: JobLogs) -> None:
    """The last lines of a part are looked for in that part alone."""
    Path(logs.path("a")).write_bytes(b"a\nb\nc\nd\ne\n")
    assert logs.tail_start("a", 2, start=2, end=8) == 4
    assert logs.tail_start("a", 9, start=2, end=8) == 2
    assert logs.tail_start("a", 9, start=2, end=999) == 2


@IN_LINUX
def test_tail_of_a_huge_file_reads_a_little_of_it(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten lines at the end of a terabyte, beyond a hole, cost a few small reads."""
    with open(logs.path("a"), "wb") as log_file:
        log_file.write(b"the beginning\n")
        log_file.seek(2**40)
        log_file.write(b"".join(b"line %d\n" % n for n in range(5)))
    read: list[int] = []
    read_at = files.read_at

    def counting(fd: int, count: int, offset: int) -> bytes:
        data = read_at(fd, count, offset)
        read.append(len(data))
        return data

    monkeypatch.setattr(files, "read_at", counting)
    assert logs.read_tail("a", 2) == b"line 3\nline 4\n"
    assert sum(read) < 200_000
    assert logs.read_tail("a", 6).endswith(b"\nline 0\nline 1\nline 2\nline 3\nline 4\n")
    assert sum(read) < 3_000_000


@IN_LINUX
def test_an_endless_writer_does_not_fill_the_disk(
    logs: JobLogs, numbers: Callable[[int], Numbers]
) -> None:
    """While it writes many times its limit it keeps running, and takes little room on the disk."""
    log = begin(logs, max_bytes=LIMIT)
    header = os.fstat(log.fd).st_size
    writer = numbers(log.fd)

    def has_written_much() -> bool:
        log.limit()
        return os.fstat(log.fd).st_size > 100 * LIMIT

    wait_until(has_written_much)
    writer.stop()
    wait_until_cut(log)
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


def refuse_to_punch(fd: int, start: int, end: int) -> None:
    """A file system that has no holes."""
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


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


class Reader:
    """A follower in a thread, and what it has written so far."""

    def __init__(self, logs: JobLogs, *, start: int = 0) -> None:
        self.out = io.BytesIO()
        self.finished = threading.Event()
        self.error: BaseException | None = None
        self._logs = logs
        self._start = start
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._logs.follow("a", self.out, self.finished.is_set, start=self._start)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def wait_for(self, text: bytes) -> None:
        """Wait until it has written this."""
        wait_until(lambda: text in self.out.getvalue())

    def end(self) -> bytes:
        """Say that the job has finished, and return all it wrote."""
        self.finished.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert self.error is None
        return self.out.getvalue()


def test_following_shows_output_as_it_comes(logs: JobLogs) -> None:
    """A reader that begins before the log does gets every byte, live, over two attempts."""
    reader = Reader(logs)
    log = begin(logs)
    os.write(log.fd, b"one\ntw")
    reader.wait_for(b"one\ntw")
    os.write(log.fd, b"o\n")
    reader.wait_for(b"\ntwo\n")
    end(log)
    log = begin(logs, attempt=2)
    reader.wait_for(b"attempt 2 of 4")
    end(log)
    assert reader.end() == whole(logs)


def test_following_begins_where_it_is_told(logs: JobLogs) -> None:
    """What comes before the start is not written again."""
    end(begin(logs))
    start = logs.tail_start("a", 1)
    assert Reader(logs, start=start).end() == whole(logs)[start:]


def test_following_goes_on_when_the_log_is_emptied(logs: JobLogs) -> None:
    """What a command writes after `> /dev/stdout` is written too."""
    log = begin(logs)
    reader = Reader(logs)
    os.write(log.fd, b"before\n" * 100)
    reader.wait_for(b"before\n" * 100)
    os.truncate(logs.path("a"), 0)
    os.write(log.fd, b"after\n")
    reader.wait_for(b"after\n")
    end(log)
    assert reader.end().endswith(whole(logs))


def test_following_goes_on_when_the_log_is_removed_and_begun_again(logs: JobLogs) -> None:
    """A reader of a job that was deleted and enqueued again gets the new log, from its beginning."""
    log = begin(logs)
    reader = Reader(logs)
    reader.wait_for(b"attempt 1 of 4")
    logs.remove(["a"])
    end(log)
    reader.wait_for(b"attempt 1 ended")
    end(begin(logs, attempt=2))
    assert reader.end().endswith(whole(logs))


@pytest.mark.parametrize("can_punch", [True, False])
def test_following_a_log_that_is_cut_repeats_and_drops_nothing(
    logs: JobLogs, can_punch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that keeps up gets the whole output, though its middle is cut out of the file."""
    if not can_punch:
        monkeypatch.setattr(cutting, "punch_hole", refuse_to_punch)
    noticed = []
    monkeypatch.setattr(
        following, "last_cut", lambda fd: noticed.append(fd) or reading.last_cut(fd)
    )
    log = begin(logs, max_bytes=LIMIT)
    cutter = log._cutter = log._new_cutter()  # not started: cuts when told
    reader = Reader(logs)
    shortened = 0
    for n in range(0, 40_000, 5000):
        os.write(log.fd, b"".join(b"%011d\n" % i for i in range(n, n + 5000)))
        reader.wait_for(b"%011d\n" % (n + 4999))
        size = os.fstat(log.fd).st_size
        cutter._shorten()
        shortened += os.fstat(log.fd).st_size < size
        wait_until(lambda: len(noticed) == shortened)
    assert shortened == 0 if can_punch else shortened > 1
    assert CUT.search(whole(logs))
    end(log)
    reader.wait_for(b"attempt 1 ended")
    log = begin(logs, attempt=2)
    os.write(log.fd, b"again\n")
    end(log)
    text = reader.end()
    assert b"".join(b"%011d\n" % i for i in range(40_000)) in text
    assert text.count(b"attempt 1 ended") == 1
    assert text.endswith(b"again\n" + whole(logs).splitlines(keepends=True)[-1])
    assert b"bytes were cut" not in text


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


def test_an_error_of_the_output_ends_following(logs: JobLogs) -> None:
    """A closed pipe is the caller's business, and no descriptor stays open."""

    class Closed(io.BytesIO):
        def write(self, data: object) -> int:
            raise BrokenPipeError

    end(begin(logs))
    before = os.listdir("/dev/fd")
    with pytest.raises(BrokenPipeError):
        logs.follow("a", Closed(), lambda: False)
    assert os.listdir("/dev/fd") == before


def test_remove_counts_what_was_there(logs: JobLogs) -> None:
    """Only the logs that are named are removed; one that is not there is no error."""
    for id in ("a", "b", "c"):
        end(begin(logs, id))
    assert logs.remove(["a", "b", "x"]) == 2
    assert os.listdir(logs.folder) == ["c.log"]


def test_orphans_are_the_logs_without_a_job(logs: JobLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is asked in batches, for logs only, whatever else is in the folder."""
    monkeypatch.setattr(job_logs, "_BATCH", 10)
    for n in range(25):
        Path(logs.path(f"job-{n}")).touch()
    Path(logs.folder, "notes.txt").touch()
    Path(logs.folder, "folder.log").mkdir()
    Path(os.fsdecode(os.fsencode(logs.folder) + b"/\xff.log")).touch()
    asked: list[list[str]] = []

    def known(ids: list[str]) -> set[str]:
        asked.append(ids)
        return set(ids) - {"job-3", "job-24"}

    assert sorted(logs.orphans(known)) == ["job-24", "job-3"]
    assert [len(ids) for ids in asked] == [10, 10, 5]


def test_a_missing_folder_has_no_orphans(tmp_path: Path) -> None:
    """A queue that never ran a job has no folder of logs, and nothing in it."""
    assert list(JobLogs(str(tmp_path / "none")).orphans(set)) == []
